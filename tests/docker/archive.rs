//! Volumes saved through the engine's archive interface.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::PathBuf;

use super::container::users;
use super::vault::{Machine, snapshot_of};
use super::{TestVolume, engine, fresh_name, noise};
use crate::support::tree::plan::random_tree;
use crate::support::tree::{self, Aspect};

/// What the interface does not keep. Times lose what is below a second.
const LOST: [Aspect; 4] = [Aspect::Xattrs, Aspect::Sockets, Aspect::Holes, Aspect::Mtime];

fn place(volume: &TestVolume) -> PathBuf {
    volume.engine.host_path(&volume.info).expect("root on the same machine")
}

/// Saves a volume through the interface and restores it under another name; what differs.
fn round_trip(machine: &Machine, volume: &TestVolume) -> Vec<String> {
    let before = tree::describe(&place(volume));
    let document = machine.json(&["backup", volume.name(), "--archive-api"], 3);
    let backup = &document["backups"][0];
    assert_eq!(backup["degraded"], true);
    let lost = backup["warnings"][0]["message"].as_str().expect("it says what is not kept");
    for what in ["extended attributes", "ACLs", "sockets", "holes", "below a second"] {
        assert!(lost.contains(what), "{what} in {lost}");
    }
    assert_eq!(backup["method"], "archive interface (degraded)");
    assert_eq!(users(&volume.engine, volume.name()), [""; 0], "a helper was left behind");
    assert_eq!(tree::diff(&before, &tree::describe(&place(volume))), [""; 0], "it was changed");

    let copy = fresh_name("copy");
    let id = snapshot_of(&document);
    let _ = machine.run(&["restore", &id, "--as", &copy]).expect(0);
    let restored = volume.engine.volume(&copy).expect("it was made");
    let after = tree::describe(&volume.engine.host_path(&restored).expect("a path"));
    volume.engine.remove_volume(&copy).expect("nobody uses it");
    let seconds = |tree: &tree::Tree| {
        let times = tree.iter().map(|(path, record)| (path.clone(), record.mtime.0));
        times.collect::<Vec<_>>()
    };
    if !before.values().any(|record| record.kind == tree::Kind::Socket) {
        assert_eq!(seconds(&before), seconds(&after));
    }
    tree::diff_except(&before, &after, &LOST)
}

#[test]
fn volume_read_as_an_archive_keeps_content_modes_owners_and_links_and_says_what_it_lost() {
    let engine = engine();
    let volume = TestVolume::new(&engine);
    let at = place(&volume);
    fs::create_dir_all(at.join("a/b")).expect("made");
    fs::write(at.join("a/file"), noise(300_000)).expect("written");
    fs::hard_link(at.join("a/file"), at.join("a/b/same")).expect("linked");
    symlink("../nowhere", at.join("a/link")).expect("made");
    fs::write(at.join("new\nline \u{1b}[31m"), "odd").expect("written");
    fs::write(at.join("n".repeat(255)), "long").expect("written");
    chown(at.join("a/file"), Some(4_000_000), Some(5)).expect("root may");
    let mode = |path: &str, mode| {
        fs::set_permissions(at.join(path), fs::Permissions::from_mode(mode)).expect("set");
    };
    mode("a/file", 0o4711);
    mode("a/b", 0o3770);
    chown(&at, Some(70), Some(71)).expect("root may");
    mode(".", 0o750);
    assert_eq!(round_trip(&Machine::new(), &volume), [""; 0]);
}

#[test]
fn random_volume_read_as_an_archive_keeps_what_an_archive_keeps() {
    let engine = engine();
    let volume = TestVolume::new(&engine);
    random_tree(&place(&volume), 23, 200);
    assert_eq!(round_trip(&Machine::new(), &volume), [""; 0]);
}

#[test]
fn empty_volume_and_its_root_go_through_an_archive() {
    let engine = engine();
    let volume = TestVolume::new(&engine);
    chown(place(&volume), Some(70), Some(71)).expect("root may");
    fs::set_permissions(place(&volume), fs::Permissions::from_mode(0o2705)).expect("set");
    assert_eq!(round_trip(&Machine::new(), &volume), [""; 0]);
}

#[test]
fn volume_of_ten_thousand_files_goes_through_an_archive() {
    let engine = engine();
    let volume = TestVolume::new(&engine);
    for number in 0..10_000 {
        let folder = place(&volume).join(format!("{:02}", number % 50));
        fs::create_dir_all(&folder).expect("made");
        fs::write(folder.join(number.to_string()), number.to_string()).expect("written");
    }
    assert_eq!(round_trip(&Machine::new(), &volume), [""; 0]);
}

#[test]
fn volume_with_driver_options_is_read_as_an_archive_if_that_is_asked_for() {
    let engine = engine();
    let machine = Machine::new();
    let volume = TestVolume::with(&engine, |spec| {
        for (key, value) in [("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=3m,mode=1751")] {
            let _ = spec.options.insert(key.into(), value.into());
        }
    });
    let refused = machine.run(&["backup", volume.name(), "--host-path"]);
    let _ = refused.expect_error(14, &[volume.name(), "driver options"]);
    assert!(!machine.repository().exists(), "a repository for a backup that cannot be");

    let backup = machine.json(&["backup", volume.name(), "--archive-api"], 3);
    assert_eq!(backup["backups"][0]["method"], "archive interface (degraded)");
    let copy = fresh_name("copy");
    let _ = machine.run(&["restore", volume.name(), "--as", &copy]).expect(0);
    let made = engine.volume(&copy).expect("it was made");
    assert_eq!(made.options, volume.info.options);
    assert_eq!((users(&engine, volume.name()), users(&engine, &copy)), (vec![], vec![]));
    engine.remove_volume(&copy).expect("nobody uses it");
}
