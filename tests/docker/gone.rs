//! What goes away while it is read: the engine, or the volume. Numbers are those of the fault
//! matrix.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use volume_vault::docker::{Engine, VolumeSpec};

use super::private::{PrivateEngine, trip_wire};
use super::vault::{Ended, Machine, wait_until};
use super::{TestVolume, ask, engine, noise};

const NAME: &str = "on-a-daemon-that-dies";

fn make_volume(engine: &Engine, bytes: usize) {
    let info = engine.create_volume(&VolumeSpec::local(NAME)).expect("the name is free");
    fs::write(Path::new(&info.mountpoint).join("big"), noise(bytes)).expect("written");
}

fn helpers(engine: &Engine) -> usize {
    let filter = "%7B%22label%22%3A%5B%22volume-vault.helper%3D1%22%5D%7D";
    let list = ask(engine, "GET", &format!("/containers/json?all=1&filters={filter}"), "").json();
    list.as_array().expect("a list").len()
}

/// Ends a daemon by a signal while it sends an archive; how many helpers it is left with.
fn daemon_ended_by(signal: Signal) -> usize {
    let mut engine = PrivateEngine::start();
    make_volume(&engine.engine(), 24_000_000);
    let mut machine = Machine::beside(&engine.socket());
    let _ = machine.run(&["init"]).expect(0);

    let pid = engine.pid();
    let tripped = Arc::new(AtomicBool::new(false));
    let hit = tripped.clone();
    let (_folder, wire) = trip_wire(&engine.socket(), 3_000_000, move || {
        kill_process(pid, signal).expect("it runs");
        // A zombie until the test itself waits for it.
        wait_until("the daemon ended", || {
            let state = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
            state.is_ok_and(|text| text.rsplit(") ").next().is_some_and(|s| s.starts_with('Z')))
        });
        hit.store(true, Ordering::SeqCst);
    });
    machine.set_engine(&wire);
    let ended = machine.run(&["backup", NAME, "--archive-api"]);
    assert!(tripped.load(Ordering::SeqCst), "the daemon was not ended: {ended:?}");
    let _ = ended.expect_error(16, &[NAME, "broke off"]);
    assert_eq!(machine.acknowledged(), [""; 0]);

    engine.start_again();
    let left = helpers(&engine.engine());
    machine.set_engine(&engine.socket());
    let _ = machine.run(&["backup", NAME]).expect(0);
    assert_eq!(helpers(&engine.engine()), 0, "a helper is left after the next run");
    assert_eq!(machine.acknowledged().len(), 1);
    left
}

#[test]
fn f082_daemon_that_stops_in_mid_stream_is_an_error_and_nothing_is_acknowledged() {
    let _ = daemon_ended_by(Signal::TERM);
}

#[test]
fn f083_daemon_that_is_killed_in_mid_stream_leaves_a_helper_which_the_next_run_removes() {
    assert_eq!(daemon_ended_by(Signal::KILL), 1);
}

/// A backup that has stored its first pack and stands still.
fn stopped_midway(machine: &Machine, arguments: &[&str]) -> (Child, Pid) {
    let mut child = machine.command(arguments).spawn().expect("vault runs");
    let pid = Pid::from_child(&child);
    let packs = machine.repository().join("packs");
    wait_until("a pack was stored", || {
        assert!(child.try_wait().expect("it is ours").is_none(), "it ended too early");
        fs::read_dir(&packs).is_ok_and(|entries| entries.count() > 0)
    });
    kill_process(pid, Signal::STOP).expect("it is ours");
    (child, pid)
}

fn go_on(child: Child, pid: Pid) -> Ended {
    kill_process(pid, Signal::CONT).expect("it is ours");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.signal(), None);
    output.into()
}

/// Fills a volume with more than a backup with little memory can have read when it has stored its
/// first pack.
fn fill(volume: &TestVolume) {
    let place = volume.engine.host_path(&volume.info).expect("root on the same machine");
    let content = noise(1_000_000 + 300);
    for number in 0..300 {
        let bytes = &content[number..number + 1_000_000];
        // of each file the first part differs, and so all chunks but few
        let mixed: Vec<u8> =
            bytes.iter().map(|b| b ^ u8::try_from(number % 251).unwrap_or(0)).collect();
        fs::write(place.join(format!("{number:03}")), mixed).expect("written");
    }
}

/// A volume that takes a while to read, and a machine with a repository to save it in.
fn filled() -> (Engine, TestVolume, Machine) {
    let engine = engine();
    let volume = TestVolume::new(&engine);
    fill(&volume);
    let machine = Machine::new();
    let _ = machine.run(&["init"]).expect(0);
    (engine, volume, machine)
}

#[test]
fn f084_volume_removed_while_it_is_read_is_not_found_and_nothing_is_acknowledged() {
    let (engine, volume, machine) = filled();
    let (child, pid) = stopped_midway(&machine, &["backup", volume.name(), "--memory", "64MiB"]);
    assert_eq!(machine.acknowledged(), [""; 0]);
    let path = format!("/volumes/{}?force=1", volume.name());
    assert_eq!(ask(&engine, "DELETE", &path, "").status, 204);
    let _ = go_on(child, pid).expect_error(15, &[volume.name(), "was removed while"]);
    assert_eq!(machine.acknowledged(), [""; 0]);
    assert_eq!(ask(&engine, "GET", &path, "").status, 404, "it was made anew");
}

#[test]
fn f084_volume_replaced_by_another_of_its_name_while_it_is_read_is_not_taken_for_it() {
    let (engine, volume, machine) = filled();
    let (child, pid) = stopped_midway(&machine, &["backup", volume.name(), "--memory", "64MiB"]);
    engine.remove_volume(volume.name()).expect("nobody uses it");
    let _ = engine.create_volume(&VolumeSpec::local(volume.name())).expect("the name is free");
    let _ = go_on(child, pid).expect_error(15, &[volume.name(), "was removed while"]);
    assert_eq!(machine.acknowledged(), [""; 0]);
}

#[test]
fn volume_that_an_archive_is_read_from_cannot_be_removed() {
    let (engine, volume, machine) = filled();
    let arguments = ["backup", volume.name(), "--archive-api", "--memory", "64MiB"];
    let (child, pid) = stopped_midway(&machine, &arguments);
    let path = format!("/volumes/{}?force=1", volume.name());
    assert_eq!(ask(&engine, "DELETE", &path, "").status, 409);
    let _ = go_on(child, pid).expect(3);
    assert_eq!(machine.acknowledged().len(), 1);
}
