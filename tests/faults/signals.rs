//! Signals that ask the program to stop, and readers that go away.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Stdio};

use rustix::process::Signal;
use volume_vault::sink::MARKER_NAME;

use crate::support::machine::{
    Machine, arg, assert_success, child_of, feed, said, signal, wait_until,
};
use crate::support::repo::{check, list, noise, scratch};
use crate::support::tree::{describe, diff};

const BACKUP: [&str; 5] = ["--memory", "64MiB", "--no-progress", "backup", "stdin:stream"];

/// A directory of one file that cannot be compressed.
fn big(len: usize) -> tempfile::TempDir {
    let dir = scratch();
    std::fs::write(dir.path().join("big"), noise(1, len)).expect("written");
    dir
}

/// Waits until a child says on standard error that it stops.
fn wait_for_notice(child: &mut Child) {
    let mut line = String::new();
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe"));
    while !line.contains("stopping") {
        line.clear();
        assert!(lines.read_line(&mut line).expect("reads") > 0, "it ended without a word");
    }
}

#[test]
fn f009_a_signal_ends_a_backup_with_130_and_nothing_of_it_shows() {
    let machine = Machine::new();
    for ask in [Signal::INT, Signal::TERM, Signal::HUP] {
        let before = machine.packs();
        let mut child = machine.vault(&BACKUP).stdin(Stdio::piped()).spawn().expect("vault runs");
        let feeder = feed(&mut child, u64::MAX, false);
        wait_until("a pack is stored", || machine.packs() > before);
        signal(child.id(), ask);
        let output = child.wait_with_output().expect("ended");
        let _ = feeder.join().expect("fed");
        assert_eq!(output.status.code(), Some(130), "{ask:?}: {}", said(&output));
        assert!(said(&output).contains("interrupted"), "{}", said(&output));
        assert_eq!(list(&machine.open()).len(), 0);
        machine.assert_tidy();
    }
    let mut child = machine.vault(&BACKUP).stdin(Stdio::piped()).spawn().expect("vault runs");
    let _ = feed(&mut child, 9 << 20, false).join().expect("fed");
    assert_success(&child.wait_with_output().expect("ended"));
    assert_eq!(list(&machine.open()).len(), 1);
    assert!(check(&machine.open()) > 0);
}

#[test]
fn f009_a_signal_ends_a_backup_of_a_directory_and_no_temporary_cache_stays() {
    let machine = Machine::new();
    let dir = big(160 << 20);
    let args = ["--memory", "64MiB", "--no-cache", "--no-progress", "backup", arg(dir.path())];
    let child = machine.vault(&args).spawn().expect("vault runs");
    wait_until("a pack is stored", || machine.packs() > 0);
    signal(child.id(), Signal::INT);
    let output = child.wait_with_output().expect("ended");
    assert_eq!(output.status.code(), Some(130), "{}", said(&output));
    assert_eq!(list(&machine.open()).len(), 0);
    machine.assert_tidy();
}

#[test]
fn f009_a_second_signal_ends_a_backup_that_waits_for_its_source() {
    let machine = Machine::new();
    let mut child = machine.vault(&BACKUP).stdin(Stdio::piped()).spawn().expect("vault runs");
    // The pipe stays open and brings no more.
    let pipe = feed(&mut child, 9 << 20, true).join().expect("fed");
    signal(child.id(), Signal::INT);
    wait_for_notice(&mut child);
    assert!(child.try_wait().expect("asked").is_none(), "it waits for its source");
    signal(child.id(), Signal::INT);
    assert_eq!(child.wait().expect("ended").code(), Some(130));
    drop(pipe);
    assert_eq!(list(&machine.open()).len(), 0);
    assert_success(&machine.vault(&BACKUP).output().expect("vault runs"));
}

#[test]
fn f009_a_signal_ends_a_restore_with_130_and_the_same_restore_ends_well() {
    let machine = Machine::new();
    let dir = big(24 << 20);
    assert_success(&machine.vault(&["backup", arg(dir.path())]).output().expect("vault runs"));
    for ask in [Signal::INT, Signal::TERM, Signal::HUP] {
        let target = machine.path("target");
        let args = ["--no-progress", "restore", "latest", "--target", arg(&target)];
        let inject = "inject=pwrite64:delay_exit=5000";
        let runner =
            ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=pwrite64", "-e", inject];
        let child = machine.under(&runner, &args).spawn().expect("strace runs");
        wait_until("the file is begun", || target.join("big").exists());
        signal(child_of(child.id()).expect("vault"), ask);
        let output = child.wait_with_output().expect("ended");
        assert_eq!(output.status.code(), Some(130), "{}", said(&output));
        assert!(target.join(MARKER_NAME).exists());
        assert_success(&machine.vault(&args).output().expect("vault runs"));
        assert_eq!(diff(&describe(dir.path()), &describe(&target)), [""; 0]);
        std::fs::remove_dir_all(&target).expect("removed");
    }
    machine.assert_tidy();
}

#[test]
fn f009_a_signal_ends_a_restore_to_a_pipe_that_is_read_slowly() {
    let machine = Machine::new();
    let dir = big(24 << 20);
    assert_success(&machine.vault(&["backup", arg(dir.path())]).output().expect("vault runs"));
    let args = ["--no-progress", "restore", "latest", "--tar", "-"];
    let mut child = machine.vault(&args).spawn().expect("vault runs");
    let mut pipe = child.stdout.take().expect("a pipe");
    pipe.read_exact(&mut vec![0; 1 << 20]).expect("reads");
    signal(child.id(), Signal::INT);
    wait_for_notice(&mut child);
    let mut rest = Vec::new();
    let _ = pipe.read_to_end(&mut rest).expect("reads");
    assert_eq!(child.wait().expect("ended").code(), Some(130));
    assert!(rest.len() < 20 << 20, "it stopped early: {} more bytes", rest.len());
}

#[test]
fn f009_a_reader_that_goes_away_ends_a_restore_without_a_word() {
    let machine = Machine::new();
    for len in [100, 8 << 20] {
        let dir = big(len);
        assert_success(&machine.vault(&["backup", arg(dir.path())]).output().expect("vault runs"));
        let args = ["--no-progress", "restore", "latest", "--tar", "-"];
        let mut child = machine.vault(&args).spawn().expect("vault runs");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("ended");
        assert_eq!((output.status.code(), said(&output)), (Some(1), String::new()), "{len} bytes");
    }
}
