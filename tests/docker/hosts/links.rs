//! Connections over ssh: few, noticed when they break, and gone with the program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use rustix::process::{Pid, Signal, kill_process};
use volume_vault::docker::Engine;

use super::super::vault::{Ended, Machine, wait_until};
use super::super::{TestVolume, noise};
use super::{FAR, Far, processes_with};

/// Bytes in a volume that takes a while to read.
const MUCH: usize = 128 << 20;

/// A machine, and an address of the host that nobody else uses: what it starts can be told from
/// what other tests start, here and there.
fn own_way(far: Far) -> (Machine, PathBuf, String) {
    let machine = far.known_machine();
    let socket = machine.path("far.sock");
    std::os::unix::fs::symlink(far.socket(), &socket).expect("made");
    let host = format!("{}{}", far.setting("SSH"), socket.display());
    (machine, socket, host)
}

/// A volume that takes a while to read.
fn large_volume(engine: &Engine) -> TestVolume {
    let volume = TestVolume::new(engine);
    let place = engine.host_path(volume.info()).expect("on this machine");
    fs::write(place.join("large"), noise(MUCH)).expect("written");
    volume
}

/// Starts to save a volume, and waits until it is on its way.
fn begin(machine: &Machine, host: &str, volume: &TestVolume) -> Child {
    let command = ["-H", host, "backup", volume.name()];
    let child = machine.command(&command).spawn().expect("vault runs");
    wait_until("it comes over", || {
        pids_with(&machine.path("home")).into_iter().any(|pid| written(pid) > MUCH as u64 / 20)
    });
    child
}

/// The processes of a machine's own `ssh`.
fn pids_with(part: &Path) -> Vec<Pid> {
    let mut find = Command::new("pgrep");
    let _ = find.args(["--full", "--", part.to_str().expect("text")]);
    let found = String::from_utf8(find.output().expect("pgrep runs").stdout).expect("text");
    found.lines().filter_map(|line| Pid::from_raw(line.trim().parse().ok()?)).collect()
}

/// How many bytes a process has written; none if it is gone.
fn written(pid: Pid) -> u64 {
    let path = format!("/proc/{}/io", pid.as_raw_nonzero());
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("wchar: "));
    line.map_or(0, |number| number.parse().expect("a number"))
}

#[test]
fn few_connections_are_made_and_none_is_left() {
    let (machine, socket, host) = own_way(FAR);
    let volume = super::filled_volume(&FAR.engine());
    // each ssh is counted on its way
    let ssh = machine.path("bin/ssh");
    let (text, count) = (fs::read_to_string(&ssh).expect("readable"), machine.path("count"));
    let counting = format!("echo >>{}\nexec", count.display());
    fs::write(&ssh, text.replacen("exec", &counting, 1)).expect("written");
    let _ = machine.run(&["-H", &host, "backup", volume.name()]).expect(0);
    let made = fs::read_to_string(&count).expect("counted").lines().count();
    // one for calls, one for the stream, one for calls beside it
    assert!((1..=3).contains(&made), "{made} connections");
    assert_eq!(processes_with(&machine.path("home")), 0);
    wait_until("nothing is left there", || processes_with(&socket) == 0);
}

#[test]
fn nothing_is_left_here_or_there_when_the_program_is_killed() {
    let (machine, socket, host) = own_way(FAR);
    let engine = FAR.engine();
    let volume = large_volume(&engine);
    let mut child = begin(&machine, &host, &volume);
    assert!(processes_with(&machine.path("home")) > 0 && processes_with(&socket) > 0);
    child.kill().expect("it runs");
    let _ = child.wait().expect("it ended");
    wait_until("no ssh is left here", || processes_with(&machine.path("home")) == 0);
    wait_until("no command is left there", || processes_with(&socket) == 0);
    // the next run clears the helper away
    let place = engine.host_path(volume.info()).expect("on this machine");
    fs::remove_file(place.join("large")).expect("removed");
    let _ = machine.run(&["-H", &host, "backup", volume.name()]).expect(0);
    assert_eq!(engine.users_of(volume.name()).expect("a list"), []);
}

#[test]
fn nothing_is_left_when_a_signal_ends_the_program() {
    let (machine, socket, host) = own_way(FAR);
    let engine = FAR.engine();
    let volume = large_volume(&engine);
    let child = begin(&machine, &host, &volume);
    kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
    let ended: Ended = child.wait_with_output().expect("it ends").into();
    let _ = ended.expect(130);
    assert_eq!(processes_with(&machine.path("home")), 0);
    wait_until("no command is left there", || processes_with(&socket) == 0);
    assert_eq!(engine.users_of(volume.name()).expect("a list"), []);
}

#[test]
fn f061_a_link_that_breaks_in_the_middle_is_an_error_and_nothing_is_acknowledged() {
    let (machine, socket, host) = own_way(FAR);
    let engine = FAR.engine();
    let volume = large_volume(&engine);
    let child = begin(&machine, &host, &volume);
    let ssh = pids_with(&machine.path("home"));
    assert!(!ssh.is_empty(), "no ssh was running");
    for pid in ssh {
        let _ = kill_process(pid, Signal::KILL);
    }
    let ended: Ended = child.wait_with_output().expect("it ends").into();
    let _ = ended.expect_error(16, &["hint: "]);
    assert_eq!(machine.acknowledged(), [""; 0]);
    wait_until("no command is left there", || processes_with(&socket) == 0);
}
