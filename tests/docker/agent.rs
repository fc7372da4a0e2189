//! Volumes that are read and written by an agent in a container beside them.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use serde_json::Value;
use volume_vault::docker::{Agent, Program, VolumeSpec};

use super::vault::{Machine, snapshot_of, wait_until};
use super::{Access, TestVolume, ask, engine, noise};
use crate::support::tree::plan::random_tree;
use crate::support::tree::{self, Aspect};

/// A volume that is a folder of this machine by way of driver options: its own path shows nothing
/// while no container uses it.
fn bound(folder: &Path) -> impl FnOnce(&mut VolumeSpec) {
    let device = folder.to_str().expect("text").to_owned();
    move |spec| {
        for (name, value) in [("type", "none"), ("o", "bind"), ("device", &device)] {
            let _ = spec.options.insert(name.to_owned(), value.to_owned());
        }
    }
}

/// What the engine lists of helpers that name a volume, running or not.
fn helpers_of(volume: &TestVolume) -> Vec<Value> {
    let filter = format!("{{\"volume\":[\"{}\"]}}", volume.name());
    let path = format!("/containers/json?all=1&filters={filter}");
    let answer = ask(&volume.engine, "GET", &path.replace('"', "%22"), "").json();
    answer.as_array().expect("a list").clone()
}

fn method(document: &Value) -> &str {
    document["backups"][0]["method"].as_str().expect("a method")
}

#[test]
fn a_volume_with_driver_options_is_saved_and_comes_back_to_the_last_attribute() {
    let engine = engine();
    let machine = Machine::new();
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    random_tree(folder.path(), 7, 150);
    fs::write(folder.path().join("large"), noise(3 << 20)).expect("written");
    let saved = tree::describe(folder.path());
    let volume = TestVolume::with(&engine, bound(folder.path()));
    let done = machine.json(&["backup", volume.name()], 0);
    assert_eq!(method(&done), "agent", "{done}");
    assert_eq!(helpers_of(&volume), [Value::Null; 0]);

    // Its definition names the same folder, which is empty when it is made anew.
    engine.remove_volume(volume.name()).expect("nobody uses it");
    fs::remove_dir_all(folder.path()).expect("removed");
    fs::create_dir(folder.path()).expect("made");
    let _ = machine.run(&["restore", volume.name()]).expect(0);
    assert_eq!(
        tree::diff_except(&saved, &tree::describe(folder.path()), &[Aspect::Holes]),
        [""; 0]
    );
    assert_eq!(helpers_of(&volume), [Value::Null; 0]);
}

#[test]
fn what_did_not_change_is_not_read_again() {
    let engine = engine();
    let machine = Machine::new();
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    random_tree(folder.path(), 3, 60);
    let volume = TestVolume::with(&engine, bound(folder.path()));
    let first = machine.json(&["backup", volume.name()], 0);
    // Files that are too young are read once more.
    let _ = machine.json(&["backup", volume.name()], 0);
    std::thread::sleep(std::time::Duration::from_secs(2));
    let _ = machine.json(&["backup", volume.name()], 0);
    let last = machine.json(&["backup", volume.name()], 0);
    assert_eq!(last["backups"][0]["bytes_read"], 0, "{last}");
    assert_eq!(last["backups"][0]["entries"], first["backups"][0]["entries"]);
}

#[test]
fn a_volume_becomes_what_was_saved_and_its_state_before_is_saved_first() {
    let engine = engine();
    let machine = Machine::new();
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    random_tree(folder.path(), 5, 80);
    fs::write(folder.path().join("database"), noise(4 << 20)).expect("written");
    let saved = tree::describe(folder.path());
    let volume = TestVolume::with(&engine, bound(folder.path()));
    let first = snapshot_of(&machine.json(&["backup", volume.name()], 0));
    let mut other = noise(4 << 20);
    other[1 << 20] ^= 1;
    fs::write(folder.path().join("database"), other).expect("written");
    fs::write(folder.path().join("extra"), "extra").expect("written");
    let before = tree::describe(folder.path());
    let arguments = ["restore", first.as_str(), "--into-existing"];
    let _ = machine.run(&arguments).expect(0);
    assert_eq!(
        tree::diff_except(&saved, &tree::describe(folder.path()), &[Aspect::Holes]),
        [""; 0]
    );

    let safety = machine.acknowledged().into_iter().find(|id| !first.starts_with(id.as_str()));
    let safety = safety.expect("a snapshot of the state before");
    let _ = machine.run(&["restore", &safety, "--into-existing"]).expect(0);
    let back = tree::describe(folder.path());
    assert_eq!(tree::diff_except(&before, &back, &[Aspect::Holes]), [""; 0]);
    assert_eq!(helpers_of(&volume), [Value::Null; 0]);
}

#[test]
fn an_agent_may_read_its_volume_and_nothing_else() {
    let engine = engine();
    let volume = TestVolume::new(&engine);
    let program = Program::read(Path::new(env!("CARGO_BIN_EXE_vault"))).expect("an executable");
    let agent = Agent::start(&engine, volume.name(), Access::Read, &program, &["agent", "/v"]);
    let agent = agent.expect("it starts");
    let helper = helpers_of(&volume);
    let id = helper[0]["Id"].as_str().expect("an id");
    let found = ask(&engine, "GET", &format!("/containers/{id}/json"), "").json();
    let host = &found["HostConfig"];
    assert_eq!(found["State"]["Running"], true);
    assert_eq!(host["NetworkMode"], "none");
    assert_eq!(host["ReadonlyRootfs"], true);
    assert_eq!(host["LogConfig"]["Type"], "none");
    assert_eq!(host["CapDrop"], serde_json::json!(["ALL"]));
    assert_eq!(host["CapAdd"], serde_json::json!(["DAC_READ_SEARCH", "SYS_ADMIN"]));
    assert_eq!(found["Mounts"].as_array().map(Vec::len), Some(1));
    assert_eq!(found["Mounts"][0]["RW"], false);
    let Agent { mut output, input, .. } = agent;
    let mut greeting = [0; 18];
    output.read_exact(&mut greeting).expect("it greets");
    drop((input, output));
    wait_until("the helper is gone", || helpers_of(&volume).is_empty());
}

#[test]
fn an_agent_whose_run_was_killed_ends_and_is_removed_by_the_next_run() {
    let engine = engine();
    let machine = Machine::new();
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    fs::write(folder.path().join("file"), noise(64 << 20)).expect("written");
    let volume = TestVolume::with(&engine, bound(folder.path()));
    let mut child = machine.command(&["backup", volume.name()]).spawn().expect("vault runs");
    let is_running =
        |helper: &Value| helper["State"].as_str().is_some_and(|state| state == "running");
    wait_until("the agent runs", || {
        assert!(child.try_wait().expect("it is ours").is_none(), "it ended too early");
        helpers_of(&volume).iter().any(is_running)
    });
    child.kill().expect("it is ours");
    let _ = child.wait().expect("it ended");
    wait_until("the agent has ended", || !helpers_of(&volume).iter().any(is_running));
    let done = machine.json(&["backup", volume.name()], 0);
    assert_eq!(method(&done), "agent");
    assert_eq!(helpers_of(&volume), [Value::Null; 0]);
}

#[test]
fn one_build_of_the_program_leaves_one_image() {
    let engine = engine();
    let machine = Machine::new();
    let volume = TestVolume::new(&engine);
    fs::write(engine.host_path(volume.info()).expect("root here").join("f"), "f").expect("written");
    for _ in 0..2 {
        let done = machine.json(&["backup", volume.name(), "--agent"], 0);
        assert_eq!(method(&done), "agent");
    }
    let list = ask(&engine, "GET", "/images/json", "").json();
    let tags =
        list.as_array().expect("a list").iter().filter_map(|image| image["RepoTags"].as_array());
    let ours = tags
        .flatten()
        .filter(|tag| tag.as_str().is_some_and(|t| t.starts_with("volume-vault-agent:")));
    assert_eq!(ours.count(), 1, "{list}");
}
