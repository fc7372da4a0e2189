//! A collection whose store fails or ends at every call in turn, and what a collection leaves.

use std::sync::Arc;

use volume_vault::clock::{Clock, Time};
use volume_vault::ops::OpsError;
use volume_vault::ops::prune::{PruneOptions, Report};
use volume_vault::repo::RepoError;
use volume_vault::store::{CallKind, Fault, FaultPlan, FaultStore, MemoryStore, Store};

use crate::support::garden::{
    Garden, all_at_once, assert_tidy, at_once, collect, forget, in_a_day, stored,
};
use crate::support::repo::{Bench, backup, noise, open, scratch};
use crate::support::tree::describe;

type Disturbed = (Garden, Arc<FaultStore<MemoryStore>>, Result<Report, OpsError>);

fn run(garden: &Garden, plan: FaultPlan, options: &PruneOptions) -> Disturbed {
    let garden = garden.fork();
    let store = garden.bench.disturbed(plan);
    let repo = open(store.clone(), garden.bench.home.path()).map_err(OpsError::from);
    let result = repo.and_then(|repo| collect(&repo, options));
    (garden, store, result)
}

/// Runs with the fault at every call that `counts`; says at how many.
fn at_every_call(fault: &Fault, kind: Option<CallKind>, prefix: &str, step: usize) -> usize {
    let garden = Garden::new();
    let none = FaultPlan::none().and(kind, prefix, 1..=u64::MAX, Fault::Truncate(0));
    let (undisturbed, _, result) = run(&garden, none, &at_once());
    let report = result.expect("it collects");
    assert!(report.done.packs.objects > 2 && report.done.stored.objects > 0, "{report:?}");
    undisturbed.assert_collects();
    let mut hit = 0;
    for number in (1..).step_by(step) {
        let plan = FaultPlan::none().and(kind, prefix, number..=number, fault.clone());
        let (garden, store, result) = run(&garden, plan, &at_once());
        if store.hits().is_empty() {
            let _ = result.expect("undisturbed");
            break;
        }
        hit += 1;
        garden.assert_whole();
        garden.assert_collects();
    }
    hit
}

#[test]
fn f005_a_collection_killed_before_any_store_call_loses_nothing_and_is_finished_by_the_next() {
    assert!(at_every_call(&Fault::StopBefore, None, "", 1) > 40);
}

#[test]
fn f005_a_collection_killed_after_any_deletion_loses_nothing_and_is_finished_by_the_next() {
    assert!(at_every_call(&Fault::StopAfter, Some(CallKind::Delete), "", 1) > 5);
}

#[test]
fn f005_a_store_call_that_fails_or_whose_reply_is_lost_costs_no_more_than_the_collection() {
    assert!(at_every_call(&Fault::FailBefore, None, "", 7) > 5);
    assert!(at_every_call(&Fault::FailAfter, None, "", 7) > 5);
}

#[test]
fn f006_killed_while_it_repacks_it_leaves_both_copies_or_the_new_one() {
    for fault in [Fault::StopBefore, Fault::StopAfter] {
        assert!(at_every_call(&fault, Some(CallKind::Put), "", 1) >= 4);
    }
    // Before its condemn record is stored nothing is condemned or deleted at all.
    let garden = Garden::new();
    let plan = FaultPlan::none().and(Some(CallKind::Put), "gc/", 1..=1, Fault::StopBefore);
    let (garden, store, result) = run(&garden, plan, &at_once());
    assert_eq!((store.hits().len(), result.is_err()), (1, true));
    let now = stored(&garden.bench.store);
    assert!(garden.before.iter().all(|name| now.contains(name)), "the old copies");
    assert!(now.len() > garden.before.len(), "and the new ones");
}

#[test]
fn what_was_forgotten_is_gone_after_one_collection_and_a_second_finds_nothing() {
    let garden = Garden::new();
    let bytes = |garden: &Garden| -> u64 {
        garden.bench.store.list("").expect("lists").iter().map(|object| object.size).sum()
    };
    let before = bytes(&garden);
    let report = collect(&garden.bench.open(), &at_once()).expect("it collects");
    garden.assert_whole();
    assert_tidy(&garden.bench.open());
    let freed = before - bytes(&garden);
    assert!(freed > 1_300_000, "{freed} bytes of 900,000 and 500,000 that are noise");
    // The condemn record and its end are all that came.
    assert!(report.freed().abs_diff(freed) < 20_000, "{} told, {freed} freed", report.freed());
    assert!(report.planned.freed_now.abs_diff(freed) < freed / 10, "{:?}", report.planned);
    let names = garden.bench.store.names();
    let again = collect(&garden.bench.open(), &at_once()).expect("it collects");
    assert_eq!((again.freed(), again.done.stored.objects), (0, 0));
    assert_eq!(garden.bench.store.names(), names, "nothing is written for nothing");
    garden.assert_collects();
}

#[test]
fn what_is_condemned_waits_for_its_time_and_then_goes() {
    let garden = Garden::new();
    let report = collect(&garden.bench.open(), &in_a_day()).expect("it collects");
    assert!(report.done.condemned.objects > 2, "{report:?}");
    assert_eq!(report.done.packs.objects, 0);
    assert!(report.freed_later() > 1_000_000 && report.planned.later.is_some());
    let now = stored(&garden.bench.store);
    assert!(garden.before.iter().all(|name| now.contains(name)));
    garden.assert_whole();
    let early = collect(&garden.bench.open(), &in_a_day()).expect("it collects");
    assert_eq!((early.done.packs.objects, early.done.condemned.objects), (0, 0));
    assert_eq!(stored(&garden.bench.store), now);
    // A day passes for the store.
    let store = &garden.bench.store;
    for object in store.list("gc").expect("lists") {
        let mut written = object.modified;
        written.seconds -= 25 * 3600;
        assert!(store.set_modified(&object.name, written));
    }
    let late = collect(&garden.bench.open(), &in_a_day()).expect("it collects");
    assert_eq!(late.done.packs, report.done.condemned);
    garden.assert_whole();
    assert_tidy(&garden.bench.open());
}

#[test]
fn the_budget_bounds_what_is_moved() {
    let garden = Garden::new();
    let none = PruneOptions { max_repack: Some(0), ..at_once() };
    let report = collect(&garden.bench.open(), &none).expect("it collects");
    assert_eq!(report.done.stored.objects, 0);
    assert!(report.done.packs.objects > 0, "what needs no moving goes");
    assert!(report.planned.unused > 500_000, "{:?}", report.planned);
    garden.assert_whole();
    garden.assert_collects();
}

#[test]
fn packs_of_a_run_without_a_record_stay_for_a_week_and_go_then() {
    let garden = Garden::new();
    let orphans = scratch();
    std::fs::write(orphans.path().join("new"), noise(50, 2_000_000)).expect("written");
    // Killed as it stores its record.
    let plan = FaultPlan::none().and(Some(CallKind::Put), "snapshots/", 1..=1, Fault::StopBefore);
    let store = garden.bench.disturbed(plan);
    let repo = open(store.clone(), garden.bench.home.path()).expect("opens");
    let _ = backup(&repo, orphans.path()).expect_err("killed");
    assert_eq!(store.hits().len(), 1);
    let own: Vec<_> = stored(&garden.bench.store)
        .into_iter()
        .filter(|name| !garden.before.contains(name))
        .collect();
    assert!(own.len() > 2);
    let usual = PruneOptions { orphan_age: PruneOptions::default().orphan_age, ..at_once() };
    let report = collect(&garden.bench.open(), &usual).expect("it collects");
    assert!(report.planned.young.bytes > 1_900_000, "{:?}", report.planned);
    let now = stored(&garden.bench.store);
    assert!(own.iter().all(|name| now.contains(name)), "a backup may be under way");
    for name in &own {
        let written = garden.bench.store.list("").expect("lists");
        let written = written.iter().find(|object| object.name == *name).expect("there").modified;
        let mut long_ago = written;
        long_ago.seconds -= 8 * 86_400;
        assert!(garden.bench.store.set_modified(name, long_ago));
    }
    let _ = collect(&garden.bench.open(), &usual).expect("it collects");
    let now = stored(&garden.bench.store);
    assert!(own.iter().all(|name| !now.contains(name)), "no backup takes a week");
    garden.assert_collects();
}

#[test]
fn o3_a_backup_that_was_not_acknowledged_is_garbage_once_it_is_expired() {
    let garden = Garden::new();
    let other = scratch();
    std::fs::write(other.path().join("new"), noise(51, 700_000)).expect("written");
    // Killed between its record and its commit.
    let plan = FaultPlan::none().and(Some(CallKind::Put), "snapshots/", 2..=2, Fault::StopBefore);
    let store = garden.bench.disturbed(plan);
    let repo = open(store.clone(), garden.bench.home.path()).expect("opens");
    let _ = backup(&repo, other.path()).expect_err("killed");
    assert_eq!(store.hits().len(), 1);
    let before = stored(&garden.bench.store);
    let report = collect(&garden.bench.open(), &at_once()).expect("it collects");
    assert_eq!(report.done.expired, 0);
    let kept = stored(&garden.bench.store).len();
    let report = collect(&garden.bench.open(), &all_at_once()).expect("it collects");
    assert_eq!(report.done.expired, 1);
    assert!(report.done.packs.bytes > 600_000, "{report:?}");
    assert!(stored(&garden.bench.store).len() < kept && kept < before.len());
    garden.assert_whole();
    assert_tidy(&garden.bench.open());
}

#[test]
fn f080_a_collector_whose_clock_is_far_behind_gives_up_what_the_store_says_is_old() {
    let garden = Garden::new();
    let other = scratch();
    std::fs::write(other.path().join("new"), noise(52, 700_000)).expect("written");
    let plan = FaultPlan::none().and(Some(CallKind::Put), "snapshots/", 2..=2, Fault::StopBefore);
    let store = garden.bench.disturbed(plan);
    let before = garden.bench.names("packs");
    let repo = open(store.clone(), garden.bench.home.path()).expect("opens");
    let _ = backup(&repo, other.path()).expect_err("killed");
    // Its packs were never there: no tree of it can be walked, and its record is the newest object.
    for name in garden.bench.store.names() {
        let is_pack = name.as_str().starts_with("packs/") && !before.contains(&name);
        if is_pack {
            garden.bench.store.delete(&name).expect("deleted");
        }
    }
    let error = collect(&garden.bench.open(), &at_once()).expect_err("the fault is hit");
    assert!(matches!(error, OpsError::Repo(RepoError::NotCollected { .. })), "{error:?}");
    let clock = Clock::Fixed(Time::new(0, 0));
    let behind = PruneOptions { clock, ..all_at_once() };
    let report = collect(&garden.bench.open(), &behind).expect("it collects");
    assert_eq!(report.done.expired, 1);
    garden.assert_whole();
}

#[test]
fn many_small_packs_and_segments_become_few() {
    let (bench, dir) = (Bench::new(), scratch());
    let mut last = None;
    for number in 0..30 {
        std::fs::write(dir.path().join(format!("{number}")), noise(number, 20_000))
            .expect("written");
        last = Some(backup(&bench.open(), dir.path()).expect("acknowledged").snapshot);
    }
    let live = vec![(last.expect("thirty"), describe(dir.path()))];
    assert!(bench.names("packs").len() >= 60 && bench.names("index").len() == 30);
    let before = stored(&bench.store);
    let garden = Garden { bench, dir, live, before };
    let report = collect(&garden.bench.open(), &at_once()).expect("it collects");
    assert!(report.done.stored.objects > 0, "{report:?}");
    garden.assert_whole();
    assert!(garden.bench.names("packs").len() <= 4);
    assert!(garden.bench.names("index").len() <= 2);
    assert_tidy(&garden.bench.open());
    // The thirty snapshots share what is left; now only the last stays.
    let repo = garden.bench.open();
    for snapshot in crate::support::repo::list(&repo) {
        if snapshot.id != garden.live[0].0 {
            forget(&garden.bench.store, &repo, &snapshot.id);
        }
    }
    garden.assert_collects();
}
