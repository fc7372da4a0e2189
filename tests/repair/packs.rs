//! Damaged packs are set aside, and the next backup heals what its source still has.

use volume_vault::format::PackKind;
use volume_vault::id::SnapshotId;
use volume_vault::ops::OpsError;
use volume_vault::repo::{RepoError, set_aside};
use volume_vault::store::{CallKind, RecordStore, Store};

use crate::support::damage::{checked, packs_of, repair_packs, rot};
use crate::support::garden::{assert_tidy, at_once, collect};
use crate::support::repo::{Bench, assert_restores, backup, make_tree, open, scratch};
use crate::support::tree::{Tree, describe};

/// A snapshot of a tree that lies there as it was.
struct Saved {
    bench: Bench,
    dir: tempfile::TempDir,
    tree: Tree,
    snapshot: SnapshotId,
}

fn saved() -> Saved {
    let (bench, dir) = (Bench::new(), scratch());
    make_tree(dir.path());
    let snapshot = backup(&bench.open(), dir.path()).expect("acknowledged").snapshot;
    let tree = describe(dir.path());
    Saved { bench, dir, tree, snapshot }
}

/// Damages every pack of a kind in turn: repair, backup, check, restore, prune.
fn heals(kind: PackKind) {
    let saved = saved();
    let packs = packs_of(&saved.bench, kind);
    assert!(!packs.is_empty());
    for name in packs {
        let bench = saved.bench.fork();
        rot(&bench.store, &name);
        let damage = checked(&bench.open()).damage;
        assert_eq!(damage.iter().map(|d| d.object.as_str()).collect::<Vec<_>>(), [name.as_str()]);
        let report = repair_packs(&bench.open()).expect("it repairs");
        assert_eq!((report.set_aside, report.found.damaged[0].object.as_str()), (1, name.as_str()));
        assert!(!checked(&bench.open()).is_clean(), "nothing is healed by a record alone");
        // A second repair finds nothing to do.
        assert_eq!(repair_packs(&bench.open()).expect("it repairs").set_aside, 0);

        let healing = backup(&bench.open(), saved.dir.path()).expect("acknowledged");
        assert!(!healing.is_partial());
        for repo in [bench.open(), bench.other_host().open()] {
            let report = checked(&repo);
            assert!(report.is_clean(), "{name}: {report:?}");
            assert!(report.notices.iter().any(|(object, _)| object == name.as_str()));
            assert_restores(&repo, &saved.snapshot, &saved.tree);
            assert_restores(&repo, &healing.snapshot, &saved.tree);
        }
        let _ = collect(&bench.open(), &at_once()).expect("it collects");
        assert!(!bench.store.names().contains(&name), "what was set aside is gone");
        assert!(checked(&bench.open()).is_clean());
        assert_restores(&bench.open(), &saved.snapshot, &saved.tree);
        assert_tidy(&bench.open());
    }
}

#[test]
fn f028_the_next_backup_of_an_unchanged_source_heals_a_damaged_data_pack_that_was_set_aside() {
    heals(PackKind::Data);
}

#[test]
fn f028_the_next_backup_of_an_unchanged_source_heals_a_damaged_tree_pack_that_was_set_aside() {
    heals(PackKind::Tree);
}

#[test]
fn a_collector_takes_what_a_damaged_pack_held_from_any_other_that_is_condemned_too() {
    let saved = saved();
    let bench = &saved.bench;
    let old = packs_of(bench, PackKind::Data);
    let condemn = || {
        let packs = bench.open().load_index().expect("the index loads").packs();
        let data = packs.iter().filter(|(pack, _)| pack.kind == PackKind::Data);
        let all: Vec<_> = data.map(|(pack, _)| pack.id).collect();
        set_aside(&bench.open(), &all).expect("condemned");
    };
    condemn();
    let _ = backup(&bench.open(), saved.dir.path()).expect("everything is stored once more");
    condemn();
    let new: Vec<_> =
        packs_of(bench, PackKind::Data).into_iter().filter(|name| !old.contains(name)).collect();
    for rotten in [old, new] {
        let bench = bench.fork();
        rotten.iter().for_each(|name| rot(&bench.store, name));
        assert!(!checked(&bench.open()).notices.is_empty(), "the fault is hit");
        let _ = collect(&bench.open(), &at_once()).expect("it collects");
        assert!(checked(&bench.open()).is_clean());
        assert_restores(&bench.open(), &saved.snapshot, &saved.tree);
    }
}

#[test]
fn f029_the_next_backup_heals_what_was_truncated_or_is_missing() {
    let saved = saved();
    for name in
        [packs_of(&saved.bench, PackKind::Data), packs_of(&saved.bench, PackKind::Tree)].concat()
    {
        let cut = saved.bench.fork();
        assert!(cut.store.corrupt(&name, |bytes| bytes.truncate(2000)));
        let report = repair_packs(&cut.open()).expect("it repairs");
        assert_eq!(report.set_aside, 1);
        let gone = saved.bench.fork();
        gone.store.delete(&name).expect("deleted");
        let report = repair_packs(&gone.open()).expect("it repairs");
        assert_eq!((report.set_aside, report.found.missing.len()), (1, 1));
        for bench in [cut, gone] {
            assert!(!checked(&bench.open()).is_clean());
            let _ = backup(&bench.open(), saved.dir.path()).expect("acknowledged");
            let report = checked(&bench.open());
            assert!(report.is_clean(), "{report:?}");
            assert_eq!(repair_packs(&bench.open()).expect("it repairs").set_aside, 0);
            assert_restores(&bench.open(), &saved.snapshot, &saved.tree);
        }
    }
}

#[test]
fn f043_packs_that_were_acknowledged_and_never_kept_are_named_and_healed_by_the_next_backup() {
    let saved = saved();
    let bench = saved.bench.fork();
    let all = packs_of(&bench, PackKind::Data);
    all.iter().for_each(|name| bench.store.delete(name).expect("deleted"));
    let report = checked(&bench.open());
    let named: Vec<_> = report.damage.iter().map(|damage| damage.object.clone()).collect();
    assert!(all.iter().all(|name| named.contains(&name.to_string())), "{named:?}");
    let _ = backup(&bench.open(), saved.dir.path()).expect("acknowledged");
    assert_restores(&bench.open(), &saved.snapshot, &saved.tree);
}

#[test]
fn f044_half_a_pack_under_its_name_that_no_segment_names_is_set_aside() {
    let saved = saved();
    let bench = saved.bench.fork();
    let name = packs_of(&bench, PackKind::Data).remove(0);
    assert!(crate::support::damage::delete_all(&bench.store, "index") > 0);
    assert!(bench.store.corrupt(&name, |bytes| bytes.truncate(bytes.len() / 2)));
    let report = repair_packs(&bench.open()).expect("it repairs");
    assert_eq!(report.found.damaged.len(), 1);
    assert_eq!(report.found.damaged[0].object, name.as_str());
}

#[test]
fn a_plan_writes_nothing_and_a_sound_repository_needs_no_repair() {
    let saved = saved();
    let store = std::sync::Arc::new(RecordStore::new(saved.bench.store.clone()));
    let repo = open(store.clone(), saved.bench.home.path()).expect("opens");
    let report = repair_packs(&repo).expect("it repairs");
    assert_eq!((report.set_aside, report.found.missing.len()), (0, 0));
    assert_eq!(report.found.packs, saved.bench.names("packs").len() as u64);
    assert_eq!((store.count(CallKind::Put), store.count(CallKind::Delete)), (0, 0));
}

#[test]
fn a_backup_beside_the_repair_that_rests_on_the_damaged_pack_is_not_acknowledged() {
    // It decided to rest on the pack before that was condemned, and finds it damaged when it
    // looks again.
    let saved = saved();
    let bench = saved.bench.fork();
    let names = packs_of(&bench, PackKind::Data);
    names.iter().for_each(|name| rot(&bench.store, name));
    let other = bench.other_host();
    let repairing = crate::support::garden::meanwhile(move || {
        let report = repair_packs(&other.open()).expect("it repairs");
        assert!(report.set_aside > 0);
    });
    let plan = volume_vault::store::FaultPlan::none().and(
        Some(CallKind::Put),
        "snapshots/",
        1..=1,
        repairing,
    );
    let store = bench.disturbed(plan);
    let repo = open(store.clone(), bench.home.path()).expect("opens");
    let error = backup(&repo, saved.dir.path()).expect_err("it is not acknowledged");
    assert_eq!(store.hits().len(), 1);
    assert!(matches!(error, OpsError::Repo(RepoError::NotCommitted { .. })), "{error:?}");
    let healing = backup(&bench.open(), saved.dir.path()).expect("the next one is");
    assert_restores(&bench.open(), &healing.snapshot, &saved.tree);
    assert_restores(&bench.open(), &saved.snapshot, &saved.tree);
}
