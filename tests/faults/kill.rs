//! The program itself, killed for good at many moments.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;

use rustix::process::Signal;
use volume_vault::sink::MARKER_NAME;

use crate::support::machine::{
    Machine, arg, assert_success, child_of, fed, feed, signal, wait_until,
};
use crate::support::repo::{check, list, make_tree, noise, scratch};
use crate::support::tree::{describe, diff};

/// Length of the stream that is saved, in bytes: four packs.
const LEN: usize = 26 << 20;

#[test]
fn f001_killed_at_any_moment_the_program_leaves_no_damage_and_its_packs_are_used_again() {
    let machine = Machine::new();
    let args = ["--memory", "64MiB", "--no-progress", "backup", "stdin:stream"];
    let mut kills = 0;
    // After so many bytes, drawn once; between them, right when another pack shows.
    for (round, len) in [0u64, 1, 77_777, 5_000_000, 9_999_999, 14_680_064].iter().enumerate() {
        for by_pack in [false, true] {
            let before = machine.packs();
            let mut child = machine.vault(&args).stdin(Stdio::piped()).spawn().expect("vault runs");
            let len = if by_pack { u64::MAX } else { *len };
            let feeder = feed(&mut child, len, true);
            if by_pack {
                wait_until("packs are stored", || machine.packs() > before + round % 3);
                signal(child.id(), Signal::KILL);
                let _ = feeder.join().expect("fed");
            } else {
                let pipe = feeder.join().expect("fed");
                signal(child.id(), Signal::KILL);
                drop(pipe);
            }
            let status = child.wait().expect("ended");
            assert_eq!(status.signal(), Some(9), "it was killed at work");
            kills += 1;
            assert_eq!(list(&machine.open()).len(), 0);
        }
    }
    assert_eq!(kills, 12);
    let mut child = machine.vault(&args).stdin(Stdio::piped()).spawn().expect("vault runs");
    let _ = feed(&mut child, LEN as u64, false).join().expect("fed");
    assert_success(&child.wait_with_output().expect("ended"));
    let repo = machine.open();
    assert_eq!(list(&repo).len(), 1);
    assert!(check(&repo) > 100);
    let dump = machine.vault(&["restore", "latest", "--tar", "-"]).output().expect("vault runs");
    assert_success(&dump);
    let mut archive = tar::Archive::new(&dump.stdout[..]);
    let mut found = false;
    for entry in archive.entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        if entry.size() == LEN as u64 {
            let mut content = Vec::new();
            let _ = std::io::Read::read_to_end(&mut entry, &mut content).expect("content");
            found = content == fed(LEN);
        }
    }
    assert!(found, "the stream came back");
    machine.assert_tidy();
}

#[test]
fn f004_killed_in_a_restore_the_target_says_so_and_the_restore_ends_well_when_run_again() {
    let machine = Machine::new();
    let dir = scratch();
    make_tree(dir.path());
    std::fs::set_permissions(
        dir.path().join("none"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .expect("set");
    for number in 0..40 {
        let file = dir.path().join(format!("file-{number:03}"));
        std::fs::write(file, noise(number, 200_000)).expect("written");
    }
    assert_success(&machine.vault(&["backup", arg(dir.path())]).output().expect("vault runs"));
    let target = machine.path("target");
    let args = ["--no-progress", "restore", "latest", "--target", arg(&target)];
    for files in [1, 2, 5, 20, 40] {
        // Slowed down, so that there is a moment to kill it.
        let inject = "inject=pwrite64:delay_exit=2000";
        let runner =
            ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=pwrite64", "-e", inject];
        let mut child = machine.under(&runner, &args).spawn().expect("strace runs");
        let count = || std::fs::read_dir(&target).map_or(0, Iterator::count);
        wait_until("files are restored", || count() > files);
        signal(child_of(child.id()).expect("vault"), Signal::KILL);
        let _ = child.wait().expect("ended");
        let marker = std::fs::read_to_string(target.join(MARKER_NAME)).expect("the marker stays");
        assert!(marker.starts_with("snapshot "), "{marker}");
        assert_success(&machine.vault(&args).output().expect("vault runs"));
        assert_eq!(diff(&describe(dir.path()), &describe(&target)), [""; 0]);
        std::fs::remove_dir_all(&target).expect("removed");
    }
}
