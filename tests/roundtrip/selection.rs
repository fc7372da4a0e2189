//! A restore of a selection brings back just that, and the directories that lead to it.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use volume_vault::source::Selection;

use super::{Bench, assert_same, check, shown, write};
use crate::support::tree::plan::plans;
use crate::support::tree::{Tree, describe};

/// Of the tree, what is at or below one of `include` and not at or below one of `exclude`, with
/// what leads there; names that lose their fellows are no links any more.
fn selected(tree: &Tree, include: &[&[u8]], exclude: &[&[u8]]) -> Tree {
    let is_in = |path: &[u8], of: &[&[u8]]| {
        let below = |top: &[u8]| {
            path.strip_prefix(top).is_some_and(|r| matches!(r.first(), None | Some(b'/')))
        };
        of.iter().any(|top| below(top))
    };
    let taken = |path: &[u8]| (include.is_empty() || is_in(path, include)) && !is_in(path, exclude);
    let mut paths: BTreeSet<&[u8]> = [&b""[..]].into();
    for path in tree.keys().filter(|path| taken(path)) {
        paths.extend(
            path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| &path[..at]),
        );
        let _ = paths.insert(path);
    }
    let mut groups: BTreeMap<&[u8], Vec<&[u8]>> = BTreeMap::new();
    for path in &paths {
        if let Some(least) = &tree[*path].group {
            groups.entry(least).or_default().push(path);
        }
    }
    let record = |path: &[u8]| {
        let mut record = tree[path].clone();
        let group = record.group.as_ref().map(|least| &groups[&least[..]]);
        record.group = group.filter(|group| group.len() > 1).map(|group| group[0].to_vec());
        (path.to_vec(), record)
    };
    paths.iter().map(|path| record(path)).collect()
}

fn as_patterns(paths: &[&[u8]]) -> Vec<String> {
    paths.iter().map(|p| format!("/{}", String::from_utf8_lossy(p))).collect()
}

#[test]
fn a_selection_brings_back_just_what_is_selected() {
    let cases = (plans(50), vec(any::<Index>(), 0..4), vec(any::<Index>(), 0..4));
    check(24, &cases, |(plan, include, exclude)| {
        let bench = Bench::new();
        plan.make(&bench.tree());
        let tree = describe(&bench.tree());
        let saved = bench.save();
        let plain = |path: &&Vec<u8>| {
            !path.is_empty() && path.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'/')
        };
        let plain: Vec<&[u8]> = tree.keys().filter(plain).map(Vec::as_slice).collect();
        let pick = |of: &[Index]| -> Vec<&[u8]> {
            of.iter().filter(|_| !plain.is_empty()).map(|index| *index.get(&plain)).collect()
        };
        let (include, exclude) = (pick(&include), pick(&exclude));
        let selection = Selection::new(&as_patterns(&include), &as_patterns(&exclude));
        let target = bench.beside();
        let restored = bench.restore_selected(&saved, &target, selection.expect("good"));
        assert_eq!(shown(&restored.warnings), [""; 0]);
        assert_same(&selected(&tree, &include, &exclude), &target);
    });
}

#[test]
fn a_selected_further_name_comes_back_with_its_content() {
    let bench = Bench::new();
    for dir in ["a", "b", "c"] {
        std::fs::create_dir(bench.at(dir)).expect("made");
    }
    write(&bench.at("a/first"), vec![7; 300_000]);
    for name in ["b/second", "c/third", "c/fourth"] {
        std::fs::hard_link(bench.at("a/first"), bench.at(name)).expect("linked");
    }
    let tree = describe(&bench.tree());
    let saved = bench.save();
    for (include, exclude) in [
        (&[&b"c"[..]][..], &[][..]),
        (&[], &[&b"a"[..]]),
        (&[b"b/second"], &[]),
        (&[b"b", b"c/fourth"], &[b"a"]),
    ] {
        let selection = Selection::new(&as_patterns(include), &as_patterns(exclude));
        let target = bench.beside();
        let restored = bench.restore_selected(&saved, &target, selection.expect("good"));
        assert_eq!(shown(&restored.warnings), [""; 0]);
        assert_same(&selected(&tree, include, exclude), &target);
    }
}
