//! A directory becomes what a snapshot holds, and what is equal already is not touched.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use volume_vault::ops::restore::Extra;
use volume_vault::sink::{Directory, DirectoryOptions, MARKER_NAME};
use volume_vault::source::Selection;

use super::mutation::{mutations, set_mtime};
use super::{Bench, check, noise, shown, write};
use crate::support::tree::plan::plans;
use crate::support::tree::{Aspect, Kind, Tree, describe, diff_except};

/// Inode number and ctime of everything in a directory.
type Inodes = BTreeMap<Vec<u8>, (u64, i64, i64)>;

fn inodes(dir: &Path, tree: &Tree) -> Inodes {
    use std::os::unix::ffi::OsStrExt as _;
    let inode = |path: &[u8]| {
        let path = dir.join(std::ffi::OsStr::from_bytes(path));
        let metadata = path.symlink_metadata().expect("it is there");
        (metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
    };
    tree.keys().map(|path| (path.clone(), inode(path))).collect()
}

/// Names by the least name of their hard-link group.
fn groups(tree: &Tree) -> BTreeMap<&[u8], BTreeSet<&[u8]>> {
    let mut groups: BTreeMap<&[u8], BTreeSet<&[u8]>> = BTreeMap::new();
    for (path, record) in tree {
        let least = record.group.as_deref().unwrap_or(path);
        let _ = groups.entry(least).or_default().insert(path);
    }
    groups
}

/// What is the same in both, with the same names, and so must not be written.
fn untouched<'t>(left: &'t Tree, right: &'t Tree) -> impl Iterator<Item = &'t Vec<u8>> {
    let (left_groups, right_groups) = (groups(left), groups(right));
    let same = move |path: &Vec<u8>| {
        let (Some(l), Some(r)) = (left.get(path), right.get(path)) else { return false };
        let least = l.group.as_deref().unwrap_or(path);
        l == r && l.kind != Kind::Directory && left_groups.get(least) == right_groups.get(least)
    };
    left.keys().filter(move |path| same(path))
}

/// What a restore that keeps extra things must make of `present`: all that is in no way stays.
fn with_extra(wanted: &Tree, present: &Tree) -> Tree {
    let stays = |path: &&Vec<u8>| {
        let above = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| &path[..at]);
        let mut in_the_way = above.filter_map(|above| wanted.get(above));
        in_the_way.all(|record| record.kind == Kind::Directory)
    };
    let kept = present.keys().filter(stays).map(|path| (path.clone(), present[path].clone()));
    let mut tree: Tree = kept.collect();
    tree.extend(wanted.iter().map(|(path, record)| (path.clone(), record.clone())));
    tree
}

/// Saves what `first` makes, changes it by `then`, and brings it back.
fn assert_brought_back(first: impl FnOnce(&Path), then: impl FnOnce(&Path), extra: Extra) {
    let bench = Bench::on_tmpfs();
    first(&bench.tree());
    let wanted = describe(&bench.tree());
    let saved = bench.save();
    then(&bench.tree());
    let present = describe(&bench.tree());
    let before = inodes(&bench.tree(), &present);
    let restored = bench.restore_into_tree(&saved, extra, Selection::all());
    assert_eq!(shown(&restored.warnings), [""; 0]);
    let after = describe(&bench.tree());
    let (expected, ignored) = match extra {
        Extra::Remove => (wanted, vec![Aspect::Holes]),
        Extra::Keep => (with_extra(&wanted, &present), vec![Aspect::Holes, Aspect::Links]),
    };
    assert_eq!(diff_except(&expected, &after, &ignored), [""; 0]);
    let inodes = inodes(&bench.tree(), &after);
    for path in untouched(&present, &expected) {
        // What is extra and what was saved can be links of one another in both, but not of the
        // same.
        if extra == Extra::Keep && present[path].group.is_some() {
            continue;
        }
        assert_eq!(inodes.get(path), before.get(path), "{}", path.escape_ascii());
    }
    // With holes where it had any, and without where not.
    for (path, record) in &expected {
        if let (Kind::File { holes: wanted, .. }, Some(Kind::File { holes: found, .. })) =
            (&record.kind, after.get(path).map(|record| &record.kind))
        {
            assert_eq!(wanted.is_empty(), found.is_empty(), "{}", path.escape_ascii());
        }
    }
}

fn extras() -> impl Strategy<Value = Extra> {
    prop_oneof![Just(Extra::Remove), Just(Extra::Keep)]
}

#[test]
fn any_change_is_undone_and_nothing_else_is_written() {
    let cases = (plans(30), vec(mutations(), 1..14), extras());
    check(24, &cases, |(plan, changes, extra)| {
        let change = |dir: &Path| changes.iter().for_each(|change| change.apply(dir));
        assert_brought_back(|dir| plan.make(dir), change, extra);
    });
}

#[test]
fn any_directory_becomes_any_other() {
    check(24, &(plans(40), plans(40), extras()), |(old, new, extra)| {
        let replace = |dir: &Path| {
            fs::remove_dir_all(dir).expect("removed");
            fs::create_dir(dir).expect("made");
            new.make(dir);
        };
        assert_brought_back(|dir| old.make(dir), replace, extra);
    });
}

#[test]
fn a_hole_that_ends_within_a_block_is_made_again() {
    let sparse = |dir: &Path| {
        let file = fs::File::create(dir.join("f")).expect("made");
        file.set_len(711).expect("extended");
    };
    // Still with a hole, so that it is changed in its place, but not where it was.
    let change = |dir: &Path| {
        fs::write(dir.join("f"), [7; 711]).expect("written");
        let file = fs::File::options().write(true).open(dir.join("f")).expect("it is there");
        file.set_len(20_000).expect("extended");
    };
    assert_brought_back(sparse, change, Extra::Remove);
}

#[test]
fn hard_links_come_back_in_all_constellations() {
    // Each state says which of four names share a file: equal numbers do, 0 is no name.
    let states: Vec<[u8; 4]> = (0..4u32.pow(4))
        .map(|n| [n % 4, n / 4 % 4, n / 16 % 4, n / 64].map(|n| u8::try_from(n).expect("small")))
        .filter(|s| s.iter().max().is_some_and(|max| (1..*max).all(|n| s.contains(&n))))
        .collect();
    let make = |dir: &Path, state: &[u8; 4]| {
        let mut first: BTreeMap<u8, &str> = BTreeMap::new();
        for (number, name) in state.iter().zip(["a", "b/b", "c", "d"]) {
            let path = dir.join(name);
            match (number, first.get(number)) {
                (0, _) => {}
                (_, Some(first)) => fs::hard_link(dir.join(first), path).expect("linked"),
                (number, None) => {
                    write(&path, noise(*number, 100));
                    set_mtime(&path, 1_000_000, i64::from(*number)).expect("set");
                    let _ = first.insert(*number, name);
                }
            }
        }
    };
    let bench = Bench::on_tmpfs();
    let mut seed = 7usize;
    let mut pick = || {
        seed = (seed * 1_103_515_245 + 12_345) % (1 << 31);
        &states[(seed >> 8) % states.len()]
    };
    for _ in 0..150 {
        let (old, new) = (pick(), pick());
        let reset = |state: &[u8; 4]| {
            fs::remove_dir_all(bench.tree()).expect("removed");
            fs::create_dir_all(bench.at("b")).expect("made");
            // Inodes are used again; what is made now must not look like what was there.
            bench.let_the_clock_tick();
            make(&bench.tree(), state);
        };
        reset(old);
        let saved = bench.save();
        let wanted = describe(&bench.tree());
        reset(new);
        let restored = bench.restore_into_tree(&saved, Extra::Remove, Selection::all());
        assert_eq!(shown(&restored.warnings), [""; 0], "{new:?} to {old:?}");
        let lines = diff_except(&wanted, &describe(&bench.tree()), &[]);
        assert_eq!(lines, [""; 0], "{new:?} to {old:?}");
    }
}

#[test]
fn an_interrupted_restore_is_done_again_without_a_word() {
    let bench = Bench::on_tmpfs();
    write(&bench.at("f"), b"wanted");
    let saved = bench.save();
    let wanted = describe(&bench.tree());
    write(&bench.at("f"), b"other");
    // What a killed run leaves.
    let snapshot = &saved.report.snapshot;
    let marker = format!("snapshot {snapshot} tree");
    let observer = std::sync::Arc::new(volume_vault::event::Recorder::default());
    let options = DirectoryOptions::default();
    drop(Directory::existing(&bench.tree(), options, &marker, observer).expect("begun"));
    assert!(bench.at(MARKER_NAME).exists());
    let restored = bench.restore_into_tree(&saved, Extra::Remove, Selection::all());
    assert_eq!(shown(&restored.warnings), [""; 0]);
    assert_eq!(diff_except(&wanted, &describe(&bench.tree()), &[]), [""; 0]);
}

#[test]
fn only_what_is_selected_is_changed() {
    let bench = Bench::on_tmpfs();
    for dir in ["d", "e"] {
        fs::create_dir(bench.at(dir)).expect("made");
    }
    for name in ["a", "d/f", "d/g", "e/f"] {
        write(&bench.at(name), format!("{name} before"));
    }
    let saved = bench.save();
    for name in ["a", "d/f", "d/g", "e/f"] {
        write(&bench.at(name), format!("{name} after"));
    }
    write(&bench.at("d/extra"), b"extra");
    write(&bench.at("extra"), b"extra");
    let selection = Selection::new(&["d".to_owned()], &["g".to_owned()]).expect("good");
    let restored = bench.restore_into_tree(&saved, Extra::Remove, selection);
    assert_eq!(shown(&restored.warnings), [""; 0]);
    let text = |name: &str| fs::read_to_string(bench.at(name)).unwrap_or_default();
    let found = ["a", "d/f", "d/g", "e/f", "d/extra", "extra"].map(text);
    assert_eq!(found, ["a after", "d/f before", "d/g after", "e/f after", "", "extra"]);
}

#[test]
fn a_selected_directory_that_is_extra_goes_as_a_whole() {
    let bench = Bench::on_tmpfs();
    write(&bench.at("a"), b"a");
    let saved = bench.save();
    fs::create_dir_all(bench.at("x/y")).expect("made");
    write(&bench.at("x/y/f"), b"f");
    let selection = Selection::new(&["x".to_owned()], &[]).expect("good");
    let restored = bench.restore_into_tree(&saved, Extra::Remove, selection);
    assert_eq!(shown(&restored.warnings), [""; 0]);
    assert!(!bench.at("x").exists());
}

#[test]
fn a_selected_further_name_brings_its_content() {
    let bench = Bench::on_tmpfs();
    write(&bench.at("a"), b"saved");
    for name in ["b", "c"] {
        fs::hard_link(bench.at("a"), bench.at(name)).expect("linked");
    }
    let saved = bench.save();
    write(&bench.at("a"), b"present state");
    let selection = Selection::new(&["b".to_owned(), "c".to_owned()], &[]).expect("good");
    let restored = bench.restore_into_tree(&saved, Extra::Remove, selection);
    assert_eq!(shown(&restored.warnings), [""; 0]);
    let text = |name: &str| fs::read_to_string(bench.at(name)).expect("there");
    assert_eq!(["a", "b", "c"].map(text), ["present state", "saved", "saved"]);
    let inode = |name: &str| bench.at(name).metadata().expect("there").ino();
    assert_eq!(inode("b"), inode("c"));
    assert_ne!(inode("a"), inode("b"));
}
