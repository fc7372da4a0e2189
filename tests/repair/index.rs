//! Index segments are made anew from packs.

use std::sync::Arc;

use volume_vault::event::{Observer, Recorder};
use volume_vault::format::PackKind;
use volume_vault::ops::repair::{plan_index, run_index};
use volume_vault::ops::{Interrupt, OpsError};
use volume_vault::repo::RepoError;
use volume_vault::store::{CallKind, RecordStore, Store};

use crate::support::damage::{
    checked, delete_all, options, packs_of, repair_index, repair_packs, rot,
};
use crate::support::garden::{Garden, at_once, collect, stored};
use crate::support::repo::{assert_restores, backup, open, scratch};
use crate::support::tree::describe;

#[test]
fn an_index_that_is_lost_whole_is_made_anew_from_the_packs() {
    let garden = Garden::new();
    assert!(delete_all(&garden.bench.store, "index") >= 4);
    assert!(!checked(&garden.bench.open()).is_clean());
    let packs = garden.bench.names("packs").len() as u64;
    let report = repair_index(&garden.bench.open()).expect("it repairs");
    assert_eq!((report.packs, report.segments), (packs, 1));
    assert!(report.is_whole());
    garden.assert_whole();
    // Nothing is stored again that is there.
    let again = backup(&garden.bench.open(), garden.dir.path()).expect("acknowledged");
    assert!(again.bytes_stored < 50_000, "{}", again.bytes_stored);
    // And there is nothing more to do.
    let names = garden.bench.store.names();
    let report = repair_index(&garden.bench.open()).expect("it repairs");
    assert_eq!((report.packs, report.segments), (0, 0));
    assert_eq!(garden.bench.store.names(), names);
    garden.assert_collects();
}

#[test]
fn f078_a_damaged_segment_stops_others_until_a_new_one_stands_for_it() {
    let garden = Garden::new();
    for name in garden.bench.names("index") {
        let garden = garden.fork();
        assert!(garden.bench.store.corrupt(&name, |bytes| bytes[40] ^= 1));
        let error = collect(&garden.bench.open(), &at_once()).expect_err("it refuses");
        assert!(matches!(&error, OpsError::Repo(RepoError::NotCollected { object, .. })
            if object == name.as_str()));
        let fresh = garden.bench.other_host();
        assert!(fresh.open().load_index().is_err(), "the fault is hit");

        let report = repair_index(&garden.bench.open()).expect("it repairs");
        assert_eq!((report.superseded, report.segments), (1, 1));
        assert!(report.packs > 0);
        garden.assert_whole();
        // A host that knew the segment, one that reads all anew, and each of them once more.
        for repo in [garden.bench.open(), fresh.open(), fresh.open(), garden.bench.open()] {
            let next = backup(&repo, garden.dir.path()).expect("acknowledged");
            assert!(next.bytes_stored < 50_000, "{}", next.bytes_stored);
        }
        assert_eq!(repair_index(&garden.bench.open()).expect("it repairs").segments, 0);
        let _ = collect(&garden.bench.open(), &at_once()).expect("it collects");
        let _ = collect(&garden.bench.open(), &at_once()).expect("it collects");
        assert!(!garden.bench.store.names().contains(&name), "the damaged one is gone");
        garden.assert_whole();
        garden.assert_collects();
    }
}

#[test]
fn f077_after_a_repair_with_half_an_index_nothing_that_is_needed_is_collected() {
    let garden = Garden::new();
    for name in garden.bench.names("index") {
        let garden = garden.fork();
        garden.bench.store.delete(&name).expect("deleted");
        let report = repair_index(&garden.bench.open()).expect("it repairs");
        assert!(report.packs > 0 && report.superseded == 0);
        garden.assert_whole();
        garden.assert_collects();
    }
}

#[test]
fn a_damaged_pack_is_named_only_once_it_was_set_aside_and_then_what_is_whole_in_it_can_be_read() {
    let garden = Garden::new();
    let name = packs_of(&garden.bench, PackKind::Data).remove(0);
    rot(&garden.bench.store, &name);
    let _ = delete_all(&garden.bench.store, "index");
    let report = repair_index(&garden.bench.open()).expect("it repairs");
    assert_eq!(report.left.len(), 1);
    assert_eq!(report.left[0].0, name.as_str());
    assert!(!report.is_whole());
    let index = garden.bench.open().load_index().expect("loads");
    assert!(index.packs().iter().all(|(pack, _)| !name.as_str().ends_with(&pack.id.to_string())));

    assert_eq!(repair_packs(&garden.bench.open()).expect("it repairs").set_aside, 1);
    let report = repair_index(&garden.bench.open()).expect("it repairs");
    assert_eq!((report.left.len(), report.packs), (0, 1));
    let healing = backup(&garden.bench.open(), garden.dir.path()).expect("acknowledged");
    assert_restores(&garden.bench.open(), &healing.snapshot, &describe(garden.dir.path()));
}

#[test]
fn two_repairs_at_once_are_harmless() {
    let garden = Garden::new();
    let segment = garden.bench.names("index").remove(0);
    assert!(garden.bench.store.corrupt(&segment, |bytes| bytes[40] ^= 1));
    garden.bench.store.delete(&garden.bench.names("index")[1]).expect("deleted");
    let observer: Arc<dyn Observer> = Arc::new(Recorder::default());
    let (first, second) = (garden.bench.open(), garden.bench.other_host().open());
    let plans = [&first, &second].map(|repo| plan_index(repo, &observer).expect("it looks"));
    for (repo, plan) in [&first, &second].into_iter().zip(plans) {
        let report = run_index(repo, plan, &options(), &observer, &Interrupt::default());
        assert!(report.expect("it repairs").packs > 0);
    }
    garden.assert_whole();
    for _ in 0..3 {
        let _ = collect(&garden.bench.open(), &at_once()).expect("it collects");
    }
    garden.assert_whole();
    let next = backup(&garden.bench.open(), garden.dir.path()).expect("acknowledged");
    assert_restores(&garden.bench.open(), &next.snapshot, &describe(garden.dir.path()));
}

#[test]
fn a_plan_writes_nothing() {
    let garden = Garden::new();
    let _ = delete_all(&garden.bench.store, "index");
    let store = Arc::new(RecordStore::new(garden.bench.store.clone()));
    let repo = open(store.clone(), scratch().path()).expect("opens");
    let before = stored(&garden.bench.store);
    let observer: Arc<dyn Observer> = Arc::new(Recorder::default());
    let plan = plan_index(&repo, &observer).expect("it looks");
    assert_eq!(plan.packs.len(), garden.bench.names("packs").len());
    assert_eq!((store.count(CallKind::Put), store.count(CallKind::Delete)), (0, 0));
    assert_eq!(stored(&garden.bench.store), before);
}
