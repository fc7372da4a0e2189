//! Trees of which some nodes are lost: what can be had of them is a tree that restores.

use std::sync::Arc;

use volume_vault::entry::{Extent, Kind};
use volume_vault::format::{Item, PackKind};
use volume_vault::id::SnapshotId;
use volume_vault::ops::repair::{OldOnes, SnapshotsReport};
use volume_vault::repo::{Repository, TreeWalk};
use volume_vault::store::Store;

use crate::support::builder::{
    Builder, RawRecord, child, directory, empty_file, file_of, item, link, name, noise, pack_name,
    raw, root,
};
use crate::support::damage::{checked, repair_snapshots};
use crate::support::repo::{listed, reader};

/// A tree of these leaves, each in a pack of its own; loses those of these numbers.
fn damaged(leaves: &[Vec<RawRecord>], lost: &[usize]) -> (Builder, SnapshotId) {
    let mut builder = Builder::new();
    let (mut packs, mut children) = (Vec::new(), Vec::new());
    for leaf in leaves {
        let before = builder.store.names();
        let id = builder.node(0, leaf);
        let _ = builder.publish();
        let new = builder.store.names().into_iter();
        packs.extend(new.filter(|n| !before.contains(n) && n.as_str().starts_with("packs/")));
        children.push((leaf[0].0.clone(), child(id, leaf.len() as u64)));
    }
    let top = builder.node(1, &children);
    let _ = builder.publish();
    let item = Item { facts: Default::default(), ..item(top, 1) };
    let snapshot = builder.snapshot(vec![item]);
    assert_eq!(packs.len(), leaves.len());
    for number in lost {
        builder.store.delete(&packs[*number]).expect("deleted");
    }
    (builder, snapshot)
}

fn repaired(builder: &Builder) -> (Arc<Repository>, SnapshotsReport) {
    let repo = builder.open();
    assert!(!checked(&repo).is_clean(), "the fault is hit");
    let report = repair_snapshots(&repo, OldOnes::Forget).expect("it repairs");
    let after = checked(&builder.open());
    assert!(after.touched.is_empty(), "{after:?}");
    (repo, report)
}

/// Paths and kinds of a snapshot's entries.
fn entries(repo: &Arc<Repository>, id: &SnapshotId) -> Vec<(String, bool)> {
    let snapshot = listed(repo, id).expect("listed");
    let item = &snapshot.items()[0];
    let mut walk = TreeWalk::new(&reader(repo), item.root, item.root_level);
    let mut entries = Vec::new();
    while let Some((path, stored)) = walk.next().expect("it reads") {
        entries.push((path.to_string(), stored.entry.kind == Kind::Directory));
    }
    assert_eq!(entries.len() as u64, item.facts.entries);
    entries
}

fn warnings(repo: &Arc<Repository>, id: &SnapshotId) -> Vec<(String, String)> {
    let snapshot = listed(repo, id).expect("listed");
    let warnings = snapshot.items()[0].warnings.clone().into_iter();
    warnings.map(|w| (String::from_utf8_lossy(&w.object).into_owned(), w.message)).collect()
}

fn file(path: &str) -> RawRecord {
    crate::support::builder::other(path, empty_file())
}

#[test]
fn f029_directories_whose_own_entries_are_lost_are_made_up_for_what_lies_in_them() {
    let leaves = [
        vec![root(), file("a")],
        vec![directory("b"), directory("b/c"), file("b/c/d")],
        vec![file("b/c/e"), file("b/f"), directory("g")],
    ];
    let (builder, snapshot) = damaged(&leaves, &[1]);
    let (repo, report) = repaired(&builder);
    assert_eq!(report.forgotten, [snapshot]);
    let new = report.salvaged[0].snapshot;
    let expected = [
        ("", true),
        ("a", false),
        ("b", true),
        ("b/c", true),
        ("b/c/e", false),
        ("b/f", false),
        ("g", true),
    ];
    let expected = expected.map(|(path, directory)| (path.to_owned(), directory));
    assert_eq!(entries(&repo, &new), expected);
    let told = warnings(&repo, &new);
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].0 == "b" && told[0].1.contains("3 entries"), "{told:?}");
    assert!(told[1].1.contains("made up") && told[2].0 == "b/c", "{told:?}");
}

#[test]
fn f029_a_lost_start_of_a_tree_leaves_a_root_that_was_made_up() {
    let leaves = [vec![root(), directory("a")], vec![file("a/b"), file("c")]];
    let (builder, _) = damaged(&leaves, &[0]);
    let (repo, report) = repaired(&builder);
    let found = entries(&repo, &report.salvaged[0].snapshot);
    let paths: Vec<_> = found.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["", "a", "a/b", "c"]);
}

#[test]
fn f029_all_leaves_lost_leave_an_empty_root_and_a_word_for_each() {
    let leaves = [vec![root(), file("a")], vec![file("b"), file("c")]];
    let (builder, _) = damaged(&leaves, &[0, 1]);
    let (repo, report) = repaired(&builder);
    let new = report.salvaged[0].snapshot;
    assert_eq!(entries(&repo, &new), [(String::new(), true)]);
    assert_eq!(warnings(&repo, &new).len(), 3);
}

#[test]
fn f029_further_names_of_what_was_lost_are_left_out_and_those_of_what_is_there_are_kept() {
    let leaves = [
        vec![root(), file("a")],
        vec![file("b"), file("c")],
        vec![link("x", "a", empty_file()), link("y", "b", empty_file())],
    ];
    let (builder, _) = damaged(&leaves, &[1]);
    let (repo, report) = repaired(&builder);
    let new = report.salvaged[0].snapshot;
    let paths: Vec<_> = entries(&repo, &new).into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["", "a", "x"]);
    assert!(warnings(&repo, &new).iter().any(|(path, why)| path == "y" && why.contains("lost")));
}

#[test]
fn entries_below_what_is_no_directory_are_left_out() {
    // A tree that lies, and is damaged besides.
    let leaves = [vec![root(), file("a"), file("a/b")], vec![file("c")], vec![file("d")]];
    let (builder, _) = damaged(&leaves, &[1]);
    let (repo, report) = repaired(&builder);
    let new = report.salvaged[0].snapshot;
    let paths: Vec<_> = entries(&repo, &new).into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["", "a", "d"]);
}

#[test]
fn f028_what_was_salvaged_rests_on_no_damaged_pack_even_where_that_is_sound() {
    let mut builder = Builder::new();
    let mut records = vec![root()];
    let mut pack = builder.start_pack(PackKind::Data);
    for (seed, path) in [(1, "a"), (2, "b")] {
        let content = noise(seed, 3000);
        let id = builder.chunk_id(PackKind::Data, &content);
        pack.frame(vec![(id.prefix(), 3000)], &raw(&content));
        records.push(file_of(path, vec![Extent::Chunk(id, 3000)]));
    }
    let pack = name(&pack_name(&builder.finish_pack(pack)));
    let tree = builder.tree(&records);
    let _ = builder.publish();
    let _ = builder.snapshot(vec![tree]);
    // The first frame of two.
    assert!(builder.store.corrupt(&pack, |bytes| bytes[1300] ^= 1));
    let (repo, report) = repaired(&builder);
    let new = report.salvaged[0].snapshot;
    let paths: Vec<_> = entries(&repo, &new).into_iter().map(|(path, _)| path).collect();
    assert_eq!((paths, report.salvaged[0].left_out), (vec![String::new(), "b".to_owned()], 1));
    builder.store.delete(&pack).expect("deleted");
    assert!(checked(&builder.open()).touched.is_empty(), "it is stored elsewhere, too");
}
