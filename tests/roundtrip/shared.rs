//! A file in the target that has names outside of it, or that stay as extra, keeps its state under
//! those.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};
use std::path::Path;

use volume_vault::ops::restore::Extra;
use volume_vault::source::Selection;

use super::mutation::set_mtime;
use super::{Bench, assert_same, noise, shown, write};
use crate::support::tree::{Aspect, describe, diff_except};

/// Saves a file, changes it, links it to a name outside, brings it back under its own name.
fn assert_outside_stays(make: impl FnOnce(&Path), change: impl FnOnce(&Path)) {
    let bench = Bench::new();
    make(&bench.at("f"));
    set_mtime(&bench.at("f"), 1_000_000, 1).expect("set");
    set_mtime(&bench.tree(), 1_000_000, 1).expect("set");
    let saved = bench.save();
    let wanted = describe(&bench.tree());
    change(&bench.at("f"));
    let outside = bench.dir.path().join("outside");
    fs::create_dir(&outside).expect("made");
    fs::hard_link(bench.at("f"), outside.join("f")).expect("linked");
    let before = describe(&outside);
    let restored = bench.restore_into_tree(&saved, Extra::Remove, Selection::all());
    assert_eq!(shown(&restored.warnings), [""; 0]);
    assert_same(&wanted, &bench.tree());
    assert_eq!(diff_except(&before, &describe(&outside), &[]), [""; 0]);
}

fn with_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
}

#[test]
fn content_is_not_changed_through_a_name_outside() {
    let make = |path: &Path| write(path, noise(1, 100_000));
    assert_outside_stays(make, |path| write(path, noise(2, 50_000)));
}

#[test]
fn metadata_is_not_changed_through_a_name_outside() {
    let make = |path: &Path| write(path, b"same");
    assert_outside_stays(make, |path| with_mode(path, 0o755));
}

#[test]
fn a_symbolic_link_is_not_changed_through_a_name_outside() {
    let make = |path: &Path| symlink("target", path).expect("made");
    assert_outside_stays(make, |path| lchown(path, Some(7), Some(8)).expect("set"));
}

#[test]
fn a_file_of_another_type_does_not_take_its_outside_name_along() {
    let make = |path: &Path| fs::create_dir(path).expect("made");
    assert_outside_stays(make, |path| {
        fs::remove_dir(path).expect("removed");
        write(path, b"now a file");
    });
}

#[test]
fn an_extra_name_that_is_kept_keeps_its_file() {
    let bench = Bench::new();
    write(&bench.at("f"), b"saved");
    let saved = bench.save();
    write(&bench.at("f"), b"changed");
    with_mode(&bench.at("f"), 0o751);
    // It comes behind: `f` is the first name in both trees.
    fs::hard_link(bench.at("f"), bench.at("g")).expect("linked");
    let extra = describe(&bench.tree())[&b"g"[..]].clone();
    let restored = bench.restore_into_tree(&saved, Extra::Keep, Selection::all());
    assert_eq!(shown(&restored.warnings), [""; 0]);
    assert_eq!(fs::read(bench.at("f")).expect("there"), b"saved");
    let after = describe(&bench.tree());
    let only = |record| [(Vec::new(), record)].into();
    let lines = diff_except(&only(extra), &only(after[&b"g"[..]].clone()), &[Aspect::Links]);
    assert_eq!(lines, [""; 0]);
}

#[test]
fn all_names_of_a_changed_file_in_the_tree_change_together() {
    let bench = Bench::new();
    fs::create_dir(bench.at("d")).expect("made");
    write(&bench.at("d/a"), noise(1, 10_000));
    for name in ["b", "d/c"] {
        fs::hard_link(bench.at("d/a"), bench.at(name)).expect("linked");
    }
    let wanted = describe(&bench.tree());
    let saved = bench.save();
    write(&bench.at("b"), noise(2, 20_000));
    with_mode(&bench.at("b"), 0o400);
    let restored = bench.restore_into_tree(&saved, Extra::Remove, Selection::all());
    assert_eq!(shown(&restored.warnings), [""; 0]);
    assert_same(&wanted, &bench.tree());
}
