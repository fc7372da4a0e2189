//! Restores that meet a volume which is there already.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Child;

use super::container::TestContainer;
use super::vault::{Machine, snapshot_of, wait_until};
use super::{TestVolume, engine, fresh_name, noise};
use crate::support::tree::plan::random_tree;
use crate::support::tree::{self, Aspect};

const MARKER: &str = ".vault-restore-in-progress";

fn place(volume: &TestVolume) -> PathBuf {
    volume.engine.host_path(&volume.info).expect("root on the same machine")
}

/// Makes of a tree another one: something gone, new, changed in content or mode only.
fn disturb(place: &Path) {
    fs::remove_file(place.join("kept/gone")).expect("removed");
    fs::write(place.join("kept/changed"), "otherwise").expect("written");
    fs::create_dir_all(place.join("extra/deep")).expect("made");
    fs::write(place.join("extra/deep/file"), "of the time after").expect("written");
    fs::set_permissions(place.join("kept/mode"), fs::Permissions::from_mode(0o600)).expect("set");
    fs::set_permissions(place, fs::Permissions::from_mode(0o777)).expect("set");
    chown(place, Some(1), Some(1)).expect("root may");
}

fn fill(place: &Path) {
    random_tree(place, 5, 100);
    fs::create_dir(place.join("kept")).expect("made");
    for name in ["gone", "changed", "mode", "same"] {
        fs::write(place.join("kept").join(name), name).expect("written");
    }
    fs::set_permissions(place, fs::Permissions::from_mode(0o710)).expect("set");
}

#[test]
fn existing_volume_is_refused_without_the_flag_and_stays_untouched() {
    let engine = engine();
    let machine = Machine::new();
    let volume = TestVolume::new(&engine);
    fill(&place(&volume));
    let _ = machine.run(&["backup", volume.name()]).expect(0);
    disturb(&place(&volume));
    let before = tree::describe(&place(&volume));
    let said = [volume.name(), "--as", "--into-existing"];
    let _ = machine.run(&["restore", volume.name()]).expect_error(14, &said);
    assert_eq!(tree::diff(&before, &tree::describe(&place(&volume))), [""; 0]);
    assert_eq!(machine.acknowledged().len(), 1);
    let skipped = machine.json(&["restore", volume.name(), "--skip-existing"], 0);
    assert_eq!(skipped["restores"].as_array().map(Vec::len), Some(0));
    assert_eq!(tree::diff(&before, &tree::describe(&place(&volume))), [""; 0]);
}

#[test]
fn existing_volume_becomes_the_snapshot_and_what_it_held_comes_back_from_the_safety_snapshot() {
    let engine = engine();
    let machine = Machine::new();
    let volume = TestVolume::new(&engine);
    fill(&place(&volume));
    let saved = tree::describe(&place(&volume));
    let first = snapshot_of(&machine.json(&["backup", volume.name()], 0));
    disturb(&place(&volume));
    let disturbed = tree::describe(&place(&volume));

    let container = TestContainer::idle(&engine, volume.name());
    let restore = ["restore", first.as_str(), "--into-existing"];
    let _ = machine.run(&restore).expect_error(14, &[volume.name(), &container.name, "stop"]);
    assert_eq!(tree::diff(&disturbed, &tree::describe(&place(&volume))), [""; 0]);
    assert_eq!(machine.acknowledged().len(), 1, "a safety snapshot without a restore");
    container.stop();

    let inode = |name: &str| {
        use std::os::unix::fs::MetadataExt as _;
        fs::metadata(place(&volume).join(name)).expect("it is there").ino()
    };
    let same = inode("kept/same");
    let done = machine.json(&restore, 0);
    let now = tree::describe(&place(&volume));
    assert_eq!(tree::diff_except(&saved, &now, &[Aspect::MoreHoles]), [""; 0]);
    assert_eq!(same, inode("kept/same"), "a file that did not differ was written anew");
    assert!(!place(&volume).join(MARKER).exists());

    let safety = done["restores"][0]["safety_snapshot"].as_str().expect("an id");
    assert_eq!(machine.acknowledged().len(), 2);
    let copy = fresh_name("before");
    let _ = machine.run(&["restore", safety, "--as", &copy]).expect(0);
    let info = engine.volume(&copy).expect("it was made");
    let now = tree::describe(&engine.host_path(&info).expect("a path"));
    engine.remove_volume(&copy).expect("nobody uses it");
    assert_eq!(tree::diff_except(&disturbed, &now, &[Aspect::MoreHoles]), [""; 0]);
}

#[test]
fn extra_things_are_kept_and_no_safety_snapshot_is_made_where_that_is_asked_for() {
    let engine = engine();
    let machine = Machine::new();
    let volume = TestVolume::new(&engine);
    fill(&place(&volume));
    let saved = tree::describe(&place(&volume));
    let _ = machine.run(&["backup", volume.name()]).expect(0);
    disturb(&place(&volume));
    let flags = ["--into-existing", "--keep-extra", "--no-safety-backup"];
    let restore = [&["restore", volume.name()], &flags[..]].concat();
    assert!(machine.json(&restore, 0)["restores"][0]["safety_snapshot"].is_null());
    assert_eq!(machine.acknowledged().len(), 1);
    let difference = tree::diff(&saved, &tree::describe(&place(&volume)));
    let extra = ["extra: unexpected", "extra/deep: unexpected", "extra/deep/file: unexpected"];
    assert_eq!(difference, extra);
    let file = fs::read(place(&volume).join("extra/deep/file")).expect("it is there");
    assert_eq!(file, b"of the time after");
}

/// Ends a restore for good once it has written some files, but not all.
fn kill_midway(child: &mut Child, place: impl Fn() -> Option<PathBuf>) -> PathBuf {
    let mut at = PathBuf::new();
    wait_until("some files were restored", || {
        assert!(child.try_wait().expect("it is ours").is_none(), "it ended too early");
        let Some(place) = place() else { return false };
        at = place;
        fs::read_dir(&at).is_ok_and(|entries| entries.count() > 20)
    });
    child.kill().expect("it is ours");
    let _ = child.wait().expect("it ended");
    assert!(at.join(MARKER).exists(), "the restore had ended");
    at
}

#[test]
fn restore_that_was_killed_leaves_a_marker_goes_on_when_run_again_and_admits_no_other_snapshot() {
    const FILES: usize = 1_500;
    let engine = engine();
    let machine = Machine::new();
    let volume = TestVolume::new(&engine);
    let content = noise(65_536 + FILES);
    for number in 0..FILES {
        let file = place(&volume).join(format!("{number:04}"));
        fs::write(file, &content[number..number + 65_536]).expect("written");
    }
    chown(place(&volume), Some(70), Some(71)).expect("root may");
    let saved = tree::describe(&place(&volume));
    let first = snapshot_of(&machine.json(&["backup", volume.name()], 0));
    fs::write(place(&volume).join("later"), "later").expect("written");
    let second = snapshot_of(&machine.json(&["backup", volume.name()], 0));

    let copy = fresh_name("copy");
    let arguments = ["restore", first.as_str(), "--as", copy.as_str()];
    let mut child = machine.command(&arguments).spawn().expect("vault runs");
    let found = || engine.host_path(&engine.volume(&copy).ok()?).ok();
    let at = kill_midway(&mut child, found);
    assert!(fs::read_dir(&at).expect("it lists").count() < FILES, "all was restored");

    let other = ["restore", second.as_str(), "--as", copy.as_str()];
    let _ = machine.run(&other).expect_error(14, &[&copy]);
    let _ = machine.run(&[&other[..], &["--into-existing"]].concat()).expect_error(14, &[&copy]);
    assert!(at.join(MARKER).exists());

    let _ = machine.run(&arguments).expect(0);
    assert_eq!(tree::diff(&saved, &tree::describe(&at)), [""; 0]);
    assert!(!at.join(MARKER).exists());
    engine.remove_volume(&copy).expect("nobody uses it");
}
