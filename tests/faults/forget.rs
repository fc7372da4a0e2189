//! Snapshots that are forgotten and taken back while others work, and while calls fail.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::tz::TimeZone;
use volume_vault::event::{Observer, Recorder};
use volume_vault::format::{ForgetKind, ForgetRecord, ObjectKind};
use volume_vault::id::SnapshotId;
use volume_vault::ops::forget::{
    ForgetOptions, ForgetReport, Forgotten, Policy, Selection, SeriesFilter, UndoReport, forgotten,
    plan, run, undo,
};
use volume_vault::ops::{Interrupt, OpsError};
use volume_vault::repo::{RepoError, Repository, SnapshotList};
use volume_vault::store::{
    CallKind, Fault, FaultPlan, MemoryStore, ObjectName, RecordStore, Store,
};

use super::protocol::{condemn, delete, names};
use crate::support::repo::{
    Bench, Scene, assert_restores, backup, check, is_uncondemned, list, listed, noise, open,
    put_signed, scratch,
};

fn named(ids: &[SnapshotId]) -> ForgetOptions {
    let selection = Selection::Named(ids.iter().copied().collect());
    ForgetOptions { selection, drilled: BTreeSet::new(), zone: TimeZone::UTC }
}

fn keep_last(last: u32) -> ForgetOptions {
    let policy = Policy { last, ..Policy::default() };
    let selection = Selection::Series(SeriesFilter::default(), policy);
    ForgetOptions { selection, drilled: BTreeSet::new(), zone: TimeZone::UTC }
}

fn forget(repo: &Repository, options: &ForgetOptions) -> Result<ForgetReport, OpsError> {
    Ok(run(repo, &plan(repo, options)?, &Interrupt::default()))
}

/// Forgets one snapshot, which must work.
fn forget_one(repo: &Repository, id: SnapshotId) {
    let report = forget(repo, &named(&[id])).expect("planned");
    assert!(report.error.is_none(), "{:?}", report.error);
    assert_eq!(report.forgotten, [id]);
}

fn undoable(repo: &Repository) -> Vec<Forgotten> {
    forgotten(repo, &SnapshotList::load(repo).expect("lists")).expect("lists")
}

/// Takes one snapshot back.
fn take_back(repo: &Arc<Repository>, id: SnapshotId) -> Result<UndoReport, OpsError> {
    let list = SnapshotList::load(repo)?;
    let gone = forgotten(repo, &list)?;
    let gone = gone.iter().find(|gone| gone.snapshot.id == id).expect("it was forgotten");
    let observer: Arc<dyn Observer> = Arc::new(Recorder::default());
    undo(repo, &list, gone, false, &observer)
}

fn is_swept(error: &OpsError) -> bool {
    matches!(error, OpsError::Repo(RepoError::NoSnapshot(_)))
}

/// Saves five states of a directory.
fn five() -> (Bench, Vec<SnapshotId>) {
    let (bench, dir) = (Bench::new(), scratch());
    let save = |number| {
        std::fs::write(dir.path().join("file"), noise(number, 50_000)).expect("written");
        backup(&bench.open(), dir.path()).expect("acknowledged").snapshot
    };
    let ids = (0..5).map(save).collect();
    (bench, ids)
}

fn ids(repo: &Repository) -> Vec<SnapshotId> {
    list(repo).into_iter().map(|snapshot| snapshot.id).collect()
}

#[test]
fn a_forgotten_snapshot_is_not_listed_on_any_host_and_comes_back_whole() {
    let scene = Scene::new();
    let (bench, other) = (&scene.bench, scene.bench.other_host());
    assert_eq!(ids(&other.open()), [scene.old]);
    forget_one(&bench.open(), scene.old);
    for host in [bench, &other, &bench.other_host()] {
        let repo = host.open();
        assert_eq!(ids(&repo), []);
        assert_eq!(undoable(&repo).len(), 1);
    }
    let before = bench.store.names().len();
    let report = take_back(&bench.open(), scene.old).expect("nothing was swept");
    assert_eq!(report.stored_bytes, 0);
    assert_eq!(bench.store.names().len(), before + 1, "one tombstone more and nothing else");
    for host in [bench, &other, &bench.other_host()] {
        assert_restores(&host.open(), &scene.old, &scene.old_tree);
    }
}

#[test]
fn what_a_policy_leaves_is_read_in_the_store_before_the_rest_is_forgotten() {
    let (bench, all) = five();
    let newest = all.last().expect("five");
    assert_eq!(ids(&bench.open()), all, "the cache knows them by now");
    for end in ["pending", "ok"] {
        let bad = bench.fork();
        let name = ObjectName::parse(&format!("snapshots/{newest}.{end}")).expect("a name");
        assert!(bad.store.corrupt(&name, |bytes| bytes[40] ^= 1));
        let recorded = Arc::new(RecordStore::new(bad.store.clone()));
        let repo = open(recorded.clone(), bad.home.path()).expect("opens");
        assert_eq!(ids(&repo), all, "the cache does not show it");
        let report = forget(&repo, &keep_last(1)).expect("planned");
        let why = report.error.expect("refused").to_string();
        assert!(why.contains(&newest.short()) && why.contains("cannot be read"), "{why}");
        assert_eq!((report.forgotten, recorded.count(CallKind::Put)), (Vec::new(), 0));
        // By name it is obeyed.
        let report = forget(&repo, &named(&all[..1])).expect("planned");
        assert!(report.error.is_none());
    }
    let recorded = Arc::new(RecordStore::new(bench.store.clone()));
    let repo = open(recorded.clone(), bench.home.path()).expect("opens");
    let planned = plan(&repo, &keep_last(2)).expect("planned");
    recorded.clear();
    let report = run(&repo, &planned, &Interrupt::default());
    assert!(report.error.is_none());
    assert_eq!(report.forgotten, all[..3]);
    let read = recorded.targets(CallKind::Get).into_iter().filter(|name| name.contains("snap"));
    let ends = ["ok", "pending"].map(|end| format!("snapshots/{newest}.{end}"));
    assert_eq!(read.collect::<BTreeSet<_>>(), BTreeSet::from(ends));
}

#[test]
fn it_can_be_forgotten_and_taken_back_again_and_again() {
    let scene = Scene::new();
    let repo = scene.bench.open();
    for _ in 0..3 {
        forget_one(&repo, scene.old);
        assert_eq!(ids(&repo), []);
        let _ = take_back(&repo, scene.old).expect("nothing was swept");
        assert_eq!(ids(&repo), [scene.old]);
    }
    let rounds = scene.bench.names("forget");
    assert_eq!(rounds.len(), 6, "each was said under a name of its own: {rounds:?}");
    // Taken back twice is taken back.
    let _ = take_back(&repo, scene.old).expect("it is there");
    assert_eq!(scene.bench.names("forget"), rounds);
    assert_restores(&repo, &scene.old, &scene.old_tree);
}

#[test]
fn f041_a_tombstone_that_arrives_again_after_the_undo_changes_nothing() {
    let scene = Scene::new();
    let repo = scene.bench.open();
    forget_one(&repo, scene.old);
    let name = scene.bench.names("forget").remove(0);
    let bytes = scene.bench.store.get(&name, 1 << 20).expect("reads");
    let _ = take_back(&repo, scene.old).expect("nothing was swept");
    scene.bench.store.insert_raw(name, bytes);
    assert_eq!(ids(&scene.bench.open()), [scene.old]);
}

#[test]
fn f040_a_tombstone_whose_answer_was_lost_is_found_and_one_that_failed_is_reported() {
    for (fault, expected) in [(Fault::FailAfter, 1), (Fault::FailBefore, 0)] {
        let (bench, all) = five();
        let plan = FaultPlan::none().and(Some(CallKind::Put), "forget/", 1..=1, fault);
        let store = bench.disturbed(plan);
        let repo = open(store.clone(), bench.home.path()).expect("opens");
        let report = forget(&repo, &named(&all[..1])).expect("planned");
        assert_eq!(store.hits().len(), 1);
        assert_eq!(report.forgotten.len(), expected);
        assert_eq!(report.error.is_none(), expected == 1, "{:?}", report.error);
        assert_eq!(list(&bench.open()).len(), 5 - expected);
    }
}

#[test]
fn f005_killed_between_calls_forget_leaves_the_rest_and_ends_well_when_run_again() {
    let (bench, all) = five();
    let calls = {
        let fork = bench.fork();
        let store = fork.disturbed(FaultPlan::none());
        let repo = open(store.clone(), fork.home.path()).expect("opens");
        let _ = forget(&repo, &keep_last(1)).expect("planned");
        assert_eq!(ids(&fork.open()), all[4..]);
        store.calls()
    };
    assert!(calls > 12, "{calls} calls");
    for number in 1..=calls {
        for fault in [Fault::StopBefore, Fault::StopAfter] {
            let fork = bench.fork();
            let store = fork.disturbed(FaultPlan::at(number, fault));
            if let Ok(repo) = open(store.clone(), fork.home.path()) {
                let _ = forget(&repo, &keep_last(1));
            }
            assert!(!store.hits().is_empty(), "call {number} was disturbed");
            let repo = fork.open();
            let left = ids(&repo);
            assert!(all.ends_with(&left) && !left.is_empty(), "{left:?} of {all:?}");
            assert!(check(&repo) > 0);
            let again = forget(&repo, &keep_last(1)).expect("planned");
            assert!(again.error.is_none(), "{:?}", again.error);
            assert_eq!(ids(&fork.other_host().open()), all[4..]);
        }
    }
}

#[test]
fn f074_a_backup_whose_parent_is_forgotten_at_any_moment_is_acknowledged_and_restores() {
    let scene = Scene::new();
    let calls = {
        let fork = scene.bench.fork();
        let store = fork.disturbed(FaultPlan::none());
        let repo = open(store.clone(), fork.home.path()).expect("opens");
        let _ = backup(&repo, scene.dir.path()).expect("acknowledged");
        store.calls()
    };
    for number in 1..=calls {
        let fork = scene.bench.fork();
        let (owner, old) = (fork.other_host(), scene.old);
        let hook = move |_: &_| forget_one(&owner.open(), old);
        let store = fork.disturbed(FaultPlan::at(number, Fault::Delay(Arc::new(hook))));
        let repo = open(store.clone(), fork.home.path()).expect("opens");
        let report = backup(&repo, scene.dir.path()).expect("acknowledged");
        assert_eq!(store.hits().len(), 1);
        for host in [&fork, &fork.other_host()] {
            assert_eq!(ids(&host.open()), [report.snapshot], "at call {number}");
            assert_restores(&host.open(), &report.snapshot, &scene.tree);
        }
    }
}

#[test]
fn f094_forgetting_the_newest_of_a_writer_looks_like_no_rollback() {
    let (bench, all) = five();
    let other = bench.other_host();
    assert_eq!(list(&other.open()).len(), 5, "it remembers the head");
    forget_one(&bench.open(), all[4]);
    for host in [&bench, &other, &bench.other_host()] {
        assert_eq!(ids(&host.open()), all[..4]);
    }
    // The next one follows the one that was forgotten.
    let dir = scratch();
    let next = backup(&bench.open(), dir.path()).expect("acknowledged").snapshot;
    for host in [&bench, &other, &bench.other_host()] {
        let found = listed(&host.open(), &next).expect("listed");
        assert_eq!(found.sequence, 6);
    }
    // And the whole repository set back to before is one.
    let writer_saw = bench.fork();
    for end in ["pending", "ok"] {
        let name = ObjectName::parse(&format!("snapshots/{next}.{end}")).expect("a name");
        delete(&writer_saw.store, &[name]);
    }
    let error = SnapshotList::load(&writer_saw.open()).expect_err("one is missing");
    assert!(matches!(error, RepoError::RolledBack(_)), "{error:?}");
}

#[test]
fn an_unreadable_tombstone_is_reported_and_hides_nothing_until_the_owner_speaks_again() {
    let scene = Scene::new();
    forget_one(&scene.bench.open(), scene.old);
    let name = scene.bench.names("forget").remove(0);
    assert!(scene.bench.store.corrupt(&name, |bytes| bytes[100] ^= 1));
    // Who said it knows what was said.
    assert_eq!(list(&scene.bench.open()).len(), 0);
    let host = scene.bench.other_host();
    let repo = host.open();
    let found = SnapshotList::load(&repo).expect("the rest is sound");
    assert_eq!(found.damaged.len(), 1);
    assert_eq!(found.damaged[0].0, name);
    assert_eq!(found.snapshots.len(), 1, "who cannot know whether it is wanted keeps it");
    let _ = backup(&repo, scene.dir.path()).expect("a backup is not kept from being made");
    let report = forget(&repo, &named(&[scene.old])).expect("planned");
    assert!(report.error.is_none(), "{:?}", report.error);
    let found = SnapshotList::load(&repo).expect("sound");
    assert_eq!((found.snapshots.len(), found.damaged.len()), (1, 0));
    // The same holds for what took a snapshot back.
    let _ = take_back(&repo, scene.old).expect("nothing was swept");
    let name = scene.bench.names("forget").pop().expect("several");
    assert!(scene.bench.store.corrupt(&name, |bytes| bytes[100] ^= 1));
    let host = scene.bench.other_host();
    let found = SnapshotList::load(&host.open()).expect("the rest is sound");
    assert_eq!((found.snapshots.len(), found.damaged.len()), (2, 1));
}

#[test]
fn a_snapshot_whose_record_is_lost_can_be_forgotten_by_its_id() {
    for end in ["pending", "ok"] {
        let (bench, all) = five();
        let name = ObjectName::parse(&format!("snapshots/{}.{end}", all[1])).expect("a name");
        assert!(bench.store.corrupt(&name, |bytes| bytes.truncate(90)));
        let host = bench.other_host();
        let found = SnapshotList::load(&host.open()).expect("the rest is sound");
        assert_eq!((found.snapshots.len(), found.damaged.len()), (4, 1));
        let plan = plan(&host.open(), &keep_last(1)).expect("planned");
        assert_eq!(plan.unreadable.len(), 1, "a policy says that it does not see all");
        assert!(plan.going().all(|id| id != all[1]), "and lets it be");
        let by_id = named(&all[1..2]);
        let plan = volume_vault::ops::forget::plan(&host.open(), &by_id).expect("planned");
        assert_eq!((&plan.blind[..], plan.unreadable.len()), (&all[1..2], 0));
        let report = run(&host.open(), &plan, &Interrupt::default());
        assert_eq!(report.forgotten, all[1..2]);
        let found = SnapshotList::load(&host.open()).expect("sound");
        assert_eq!((found.snapshots.len(), found.damaged.len()), (4, 0));
    }
}

#[test]
fn what_is_not_there_and_a_policy_that_keeps_nothing_are_refused() {
    let (bench, all) = five();
    let repo = bench.open();
    let error = plan(&repo, &named(&[SnapshotId::new([1; 32])])).expect_err("no such snapshot");
    assert!(matches!(error, OpsError::NotFound(_)), "{error:?}");
    let error = plan(&repo, &keep_last(0)).expect_err("it keeps nothing");
    assert!(matches!(error, OpsError::Refused(_)), "{error:?}");
    assert_eq!(ids(&repo), all);
}

#[test]
fn retention_goes_by_the_stores_time_and_not_by_the_writers() {
    let (bench, all) = five();
    // By the store, the first was stored last.
    let name = ObjectName::parse(&format!("snapshots/{}.ok", all[0])).expect("a name");
    let far = volume_vault::clock::Time::new(1 << 40, 0);
    assert!(bench.store.set_modified(&name, far));
    let report = forget(&bench.open(), &keep_last(1)).expect("planned");
    assert!(report.error.is_none());
    assert_eq!(ids(&bench.open()), [all[0]]);
}

#[test]
fn forgetting_costs_a_put_and_a_get_for_each_that_goes() {
    let (bench, _) = five();
    let store = Arc::new(RecordStore::new(bench.store.clone()));
    let repo = open(store.clone(), bench.home.path()).expect("opens");
    store.clear();
    let made = plan(&repo, &keep_last(2)).expect("planned");
    assert_eq!(store.targets(CallKind::List), ["snapshots", "forget"]);
    // Who wrote the records knows them.
    assert_eq!((store.count(CallKind::Get), store.count(CallKind::Put)), (0, 0));
    store.clear();
    let report = run(&repo, &made, &Interrupt::default());
    assert_eq!(report.forgotten.len(), 3);
    let calls = [CallKind::List, CallKind::Put, CallKind::Get, CallKind::Delete];
    // Two more gets: what stays is read, its record and its commit.
    assert_eq!(calls.map(|kind| store.count(kind)), [0, 3, 5, 0]);
    store.clear();
    assert_eq!(ids(&repo).len(), 2);
    assert_eq!(store.count(CallKind::Get), 0);
    let other = bench.other_host();
    let repo = open(store.clone(), other.home.path()).expect("opens");
    store.clear();
    assert_eq!(ids(&repo).len(), 2);
    assert_eq!(store.count(CallKind::Get), 2 * 2 + 3, "what was forgotten is not read");
}

/// The old snapshot forgotten, and all that is stored condemned by a collector.
fn condemned() -> (Scene, Vec<ObjectName>) {
    let scene = Scene::new();
    forget_one(&scene.bench.open(), scene.old);
    let packs = scene.bench.names("packs");
    condemn(&scene.bench.store, &scene.bench.open(), &packs, &[]);
    (scene, packs)
}

#[test]
fn what_was_condemned_before_the_undo_is_stored_anew() {
    let (scene, packs) = condemned();
    let report = take_back(&scene.bench.open(), scene.old).expect("all is still there");
    assert!(report.stored_bytes > 2 << 20, "{} bytes", report.stored_bytes);
    let repo = scene.bench.open();
    let found = listed(&repo, &scene.old).expect("listed");
    assert!(is_uncondemned(&repo, &found), "all it needs lies in sound packs");
    delete(&scene.bench.store, &packs);
    for host in [scene.bench.open(), scene.bench.other_host().open()] {
        assert_restores(&host, &scene.old, &scene.old_tree);
    }
}

#[test]
fn what_is_condemned_while_it_is_taken_back_is_stored_anew() {
    let scene = Scene::new();
    let bench = &scene.bench;
    forget_one(&bench.open(), scene.old);
    let all = |store: &MemoryStore| (names(store, "packs"), names(store, "index"));
    // `gc/` is listed to look whether all is there, then after the tombstone, then at the end.
    for listing in [2, 3] {
        let fork = bench.fork();
        let (inner, gc) = (fork.store.clone(), fork.other_host().open());
        let hook = move |_: &_| {
            let (packs, segments) = all(&inner);
            condemn(&inner, &gc, &packs, &segments);
        };
        let plan = FaultPlan::none().and(
            Some(CallKind::List),
            "gc",
            listing..=listing,
            Fault::Delay(Arc::new(hook)),
        );
        let store = fork.disturbed(plan);
        let (old_packs, old_segments) = all(&fork.store);
        let repo = open(store.clone(), fork.home.path()).expect("opens");
        let report = take_back(&repo, scene.old).expect("all is still there");
        assert_eq!(store.hits().len(), 1);
        assert!(report.stored_bytes > 2 << 20, "{} bytes", report.stored_bytes);
        delete(&fork.store, &old_packs);
        delete(&fork.store, &old_segments);
        for host in [fork.open(), fork.other_host().open()] {
            assert_restores(&host, &scene.old, &scene.old_tree);
        }
    }
}

#[test]
fn what_was_swept_is_not_taken_back_and_nothing_is_said_of_it() {
    let (scene, packs) = condemned();
    delete(&scene.bench.store, &packs[..1]);
    let before = scene.bench.store.names();
    let error = take_back(&scene.bench.open(), scene.old).expect_err("a pack is gone");
    assert!(is_swept(&error), "{error:?}");
    assert_eq!(scene.bench.store.names(), before);
    assert_eq!(ids(&scene.bench.open()), []);
}

#[test]
fn what_is_swept_while_it_is_taken_back_fails_and_is_left_to_the_owner() {
    let (scene, packs) = condemned();
    let inner = scene.bench.store.clone();
    // A collector that had looked for the last time before it was wanted again.
    let hook = move |_: &_| delete(&inner, &packs);
    let plan =
        FaultPlan::none().and(Some(CallKind::List), "gc", 2..=2, Fault::Delay(Arc::new(hook)));
    let store = scene.bench.disturbed(plan);
    let repo = open(store.clone(), scene.bench.home.path()).expect("opens");
    let error = take_back(&repo, scene.old).expect_err("its packs are gone");
    assert_eq!(store.hits().len(), 1);
    assert!(is_swept(&error), "{error:?}");
    // Another undo may have stored anew what this one did not find, and promised it.
    assert_eq!(ids(&scene.bench.open()), [scene.old], "nothing is said of it again");
    assert_eq!(scene.bench.names("forget").len(), 2);
}

#[test]
fn killed_between_calls_an_undo_ends_well_when_run_again() {
    let (scene, packs) = condemned();
    let calls = {
        let fork = scene.bench.fork();
        let store = fork.disturbed(FaultPlan::none());
        let repo = open(store.clone(), fork.home.path()).expect("opens");
        let _ = take_back(&repo, scene.old).expect("all is still there");
        store.calls()
    };
    for number in 1..=calls {
        for fault in [Fault::StopBefore, Fault::StopAfter] {
            let fork = scene.bench.fork();
            let store = fork.disturbed(FaultPlan::at(number, fault));
            let mut done = false;
            if let Ok(repo) = open(store.clone(), fork.home.path()) {
                let list = SnapshotList::load(&repo);
                done = list.is_ok() && matches!(undo_listed(&repo, scene.old), Ok(Some(_)));
            }
            assert!(!store.hits().is_empty(), "call {number} was disturbed");
            if !done {
                let again = take_back(&fork.open(), scene.old);
                let _ = again.expect("what a collector does not sweep meanwhile is there");
            }
            delete(&fork.store, &packs);
            assert_restores(&fork.open(), &scene.old, &scene.old_tree);
        }
    }
}

/// As [`take_back`], where even listing may fail.
fn undo_listed(repo: &Arc<Repository>, id: SnapshotId) -> Result<Option<UndoReport>, OpsError> {
    let list = SnapshotList::load(repo)?;
    let gone = forgotten(repo, &list)?;
    let Some(gone) = gone.iter().find(|gone| gone.snapshot.id == id) else { return Ok(None) };
    let observer: Arc<dyn Observer> = Arc::new(Recorder::default());
    undo(repo, &list, gone, false, &observer).map(Some)
}

#[test]
fn a_backup_that_expired_stays_so_whatever_is_said_of_it_later() {
    let scene = Scene::new();
    let (store, repo) = (scene.bench.store.clone(), scene.bench.open());
    // Before the commit is stored, the owner lets it expire and then says that it is wanted.
    let speak = move |call: &volume_vault::store::Call| {
        let base = call.target.trim_start_matches("snapshots/");
        let id: SnapshotId = base.strip_suffix(".ok").expect("a commit").parse().expect("an id");
        for (round, kind) in [ForgetKind::Expire, ForgetKind::Undo].into_iter().enumerate() {
            let round = u32::try_from(round).expect("few");
            let list = SnapshotList::load(&repo).expect("lists");
            let said = ForgetRecord { kind, round, ..list.tombstone_of_unreadable(&id) };
            let name = match round {
                0 => format!("forget/{id}"),
                _ => format!("forget/{id}.{round}"),
            };
            put_signed(&store, &repo, ObjectKind::Forget, &name, &said.encode());
        }
    };
    let plan = FaultPlan::none().and(
        Some(CallKind::Put),
        "snapshots/",
        2..=2,
        Fault::Delay(Arc::new(speak)),
    );
    let store = scene.bench.disturbed(plan);
    let repo = open(store.clone(), scene.bench.home.path()).expect("opens");
    let error = backup(&repo, scene.dir.path()).expect_err("not acknowledged");
    assert_eq!(store.hits().len(), 1);
    assert!(matches!(error, OpsError::Repo(RepoError::NotCommitted { .. })), "{error:?}");
}

#[test]
fn a_dry_undo_looks_and_writes_nothing() {
    let (scene, packs) = condemned();
    let repo = scene.bench.open();
    let gone = undoable(&repo).remove(0);
    let list = SnapshotList::load(&repo).expect("lists");
    let observer: Arc<dyn Observer> = Arc::new(Recorder::default());
    let before = scene.bench.store.names();
    let _ = undo(&repo, &list, &gone, true, &observer).expect("it could be");
    assert_eq!(scene.bench.store.names(), before);
    delete(&scene.bench.store, &packs);
    let error = undo(&repo, &list, &gone, true, &observer).expect_err("it could not be");
    assert!(is_swept(&error), "{error:?}");
}
