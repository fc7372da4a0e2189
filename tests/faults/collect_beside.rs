//! Collections while backups, restores and other collections are under way, with nothing waited
//! for between condemning and deleting.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use volume_vault::event::{Observer, Recorder};
use volume_vault::format::{CondemnRecord, ObjectKind};
use volume_vault::ops::backup::BackupReport;
use volume_vault::ops::{Interrupt, OpsError};
use volume_vault::repo::{PackInfo, RepoError};
use volume_vault::store::{CallKind, FaultPlan, ObjectName, RecordStore, Store};

use crate::support::garden::{
    Garden, all_at_once, assert_tidy, at_once, collect, forget, in_a_day, meanwhile,
};
use crate::support::repo::{
    Bench, assert_restores, backup, listed, noise, open, put_signed, restore_as, scratch,
};
use crate::support::tree::describe;

/// Backs up `garden.dir` while `meanwhile` runs at one call.
fn backup_with(
    garden: &Garden,
    kind: CallKind,
    prefix: &str,
    number: u64,
    collector: impl Fn(&Bench) + Send + Sync + 'static,
) -> Result<BackupReport, OpsError> {
    let host = Mutex::new(garden.bench.other_host());
    let fault = meanwhile(move || collector(&host.lock().expect("nobody else")));
    let plan = FaultPlan::none().and(Some(kind), prefix, number..=number, fault);
    let store = garden.bench.disturbed(plan);
    let repo = open(store.clone(), garden.bench.home.path()).expect("opens");
    let result = backup(&repo, garden.dir.path());
    assert_eq!(store.hits().len(), 1, "the collector came between");
    result
}

/// A garden whose first live snapshot is forgotten under the backup that rests on it.
fn forget_parent(garden: &mut Garden) -> impl Fn(&Bench) + Send + Sync + use<> {
    let parent = garden.live.remove(0).0;
    move |bench: &Bench| {
        let repo = bench.open();
        if listed(&repo, &parent).is_some() {
            forget(&bench.store, &repo, &parent);
        }
    }
}

fn three_collections(bench: &Bench) {
    for _ in 0..3 {
        let _ = collect(&bench.open(), &at_once()).expect("it collects");
    }
}

fn acked(garden: &mut Garden, report: &BackupReport) {
    garden.live.push((report.snapshot, describe(garden.dir.path())));
    garden.assert_whole();
}

#[test]
fn f015_a_backup_stopped_between_its_record_and_its_commit_outlives_three_collections() {
    let mut garden = Garden::new();
    let forget = forget_parent(&mut garden);
    // B4 lists `gc` for the second time.
    let result = backup_with(&garden, CallKind::List, "gc", 2, move |bench| {
        forget(bench);
        three_collections(bench);
    });
    acked(&mut garden, &result.expect("its record protects what it needs"));
    garden.assert_collects();
}

#[test]
fn f015_a_backup_whose_packs_are_swept_before_its_record_is_not_acknowledged() {
    let mut garden = Garden::new();
    let forget = forget_parent(&mut garden);
    let result = backup_with(&garden, CallKind::Put, "snapshots/", 1, move |bench| {
        forget(bench);
        three_collections(bench);
    });
    let error = result.expect_err("what it needs is gone");
    assert!(matches!(error, OpsError::Repo(RepoError::NotCommitted { .. })), "{error:?}");
    // Its record is there and cannot be accounted for: nothing is deleted until it is given up.
    let names = garden.bench.store.names();
    let refused = collect(&garden.bench.open(), &at_once()).expect_err("refused");
    assert!(matches!(refused, OpsError::Repo(RepoError::NotCollected { .. })), "{refused:?}");
    assert_eq!(garden.bench.store.names(), names);
    garden.assert_collects();
}

#[test]
fn f015_a_backup_whose_packs_are_condemned_for_later_stores_their_chunks_anew() {
    let mut garden = Garden::new();
    let forget = forget_parent(&mut garden);
    let result = backup_with(&garden, CallKind::Put, "snapshots/", 1, move |bench| {
        forget(bench);
        let _ = collect(&bench.open(), &in_a_day()).expect("it collects");
    });
    let report = result.expect("acknowledged");
    assert!(report.bytes_stored > 1_000_000, "stored again: {}", report.bytes_stored);
    let swept = collect(&garden.bench.open(), &at_once()).expect("it collects");
    assert_eq!(swept.done.spared, 0);
    acked(&mut garden, &report);
    garden.assert_collects();
}

#[test]
fn f074_a_backup_whose_parent_is_forgotten_meanwhile_is_acknowledged() {
    for number in 1..=2 {
        let mut garden = Garden::new();
        let forget = forget_parent(&mut garden);
        let result = backup_with(&garden, CallKind::Put, "snapshots/", number, forget);
        acked(&mut garden, &result.expect("acknowledged"));
        garden.assert_collects();
    }
}

#[test]
fn f074_a_backup_begun_after_its_parent_was_condemned_does_not_rest_on_it() {
    let mut garden = Garden::new();
    forget_parent(&mut garden)(&garden.bench);
    let _ = collect(&garden.bench.open(), &in_a_day()).expect("it collects");
    let report = backup(&garden.bench.open(), garden.dir.path()).expect("acknowledged");
    let swept = collect(&garden.bench.open(), &at_once()).expect("it collects");
    assert_eq!(swept.done.spared, 0, "nothing new refers to a condemned pack");
    assert!(swept.done.packs.objects > 0);
    acked(&mut garden, &report);
    garden.assert_collects();
}

/// Does `run` with every so manieth store call of a collection; gives how often it was hit.
fn at_every_call_of_a_collection(step: usize, run: &dyn Fn(&mut Garden, u64) -> bool) -> u64 {
    let garden = Garden::new();
    let mut hits = 0;
    for number in (1..).step_by(step) {
        let mut garden = garden.fork();
        if !run(&mut garden, number) {
            break;
        }
        hits += 1;
        garden.assert_whole();
        garden.assert_collects();
    }
    hits
}

#[test]
fn f076_two_collections_of_the_same_garbage_lose_nothing_wherever_they_meet() {
    let hits = at_every_call_of_a_collection(2, &|garden, number| {
        let other = Mutex::new(garden.bench.other_host());
        let hook = move || {
            let _ = collect(&other.lock().expect("nobody else").open(), &at_once());
        };
        let store = garden.bench.disturbed(FaultPlan::at(number, meanwhile(hook)));
        let repo = open(store.clone(), garden.bench.home.path()).expect("opens");
        // The one that was overtaken may find that something is gone, and deletes nothing then.
        match collect(&repo, &at_once()) {
            Ok(_)
            | Err(OpsError::Repo(RepoError::NotCollected { .. } | RepoError::Gone { .. })) => {}
            Err(other) => panic!("call {number}: {other:?}"),
        }
        !store.hits().is_empty()
    });
    assert!(hits > 20, "{hits}");
}

#[test]
fn f079_a_backup_at_any_moment_of_a_collection_is_acknowledged_or_not_and_never_lost() {
    let acks = AtomicU64::new(0);
    let hits = at_every_call_of_a_collection(2, &|garden, number| {
        let source = scratch();
        crate::support::repo::copy(garden.dir.path(), source.path());
        // It shares chunks with what is repacked, and what was forgotten comes back.
        std::fs::write(source.path().join("file-0"), noise(0, 300_000)).expect("written");
        let path = source.path().to_owned();
        let (host, result) = (Mutex::new(garden.bench.other_host()), Arc::new(Mutex::new(None)));
        let told = result.clone();
        let hook = move || {
            let repo = host.lock().expect("nobody else").open();
            *told.lock().expect("nobody else") = Some(backup(&repo, &path));
        };
        let store = garden.bench.disturbed(FaultPlan::at(number, meanwhile(hook)));
        let repo = open(store.clone(), garden.bench.home.path()).expect("opens");
        let _ = collect(&repo, &at_once()).expect("it collects");
        let result = result.lock().expect("nobody else").take();
        if let Some(Ok(report)) = result {
            garden.live.push((report.snapshot, describe(source.path())));
            let _ = acks.fetch_add(1, Ordering::Relaxed);
        }
        !store.hits().is_empty()
    });
    assert!(hits > 20, "{hits}");
    assert_eq!(acks.into_inner(), hits, "a backup within a moment always comes to its end");
}

#[test]
fn f079_a_backup_that_began_before_a_repack_and_ends_after_it_stores_anew_or_is_refused() {
    for (kind, prefix, number) in [
        (CallKind::List, "index", 1),
        (CallKind::List, "packs", 1),
        (CallKind::Put, "packs/", 1),
        (CallKind::Put, "index/", 1),
        (CallKind::Put, "snapshots/", 1),
        (CallKind::List, "gc", 2),
        (CallKind::Put, "snapshots/", 2),
        (CallKind::List, "forget", 2),
    ] {
        let mut garden = Garden::new();
        std::fs::write(garden.dir.path().join("more"), noise(60, 400_000)).expect("written");
        let result = backup_with(&garden, kind, prefix, number, |bench| {
            let _ = collect(&bench.open(), &at_once()).expect("it collects");
        });
        match result {
            Ok(report) => acked(&mut garden, &report),
            Err(OpsError::Repo(RepoError::NotCommitted { .. } | RepoError::Gone { .. })) => {}
            Err(other) => panic!("{kind:?} {prefix} {number}: {other:?}"),
        }
        garden.assert_whole();
        garden.assert_collects();
    }
}

/// Two packs that hold the same chunk of noise, stored by two hosts that did not see each other.
fn twins() -> (Garden, Vec<Arc<PackInfo>>) {
    let (bench, dir) = (Bench::new(), scratch());
    std::fs::write(dir.path().join("same"), noise(70, 200_000)).expect("written");
    let (other, path) = (Mutex::new(bench.other_host()), dir.path().to_owned());
    let first = Arc::new(Mutex::new(None));
    let told = first.clone();
    let hook = move || {
        let repo = other.lock().expect("nobody else").open();
        let report = backup(&repo, &path).expect("acknowledged");
        *told.lock().expect("nobody else") = Some(report.snapshot);
    };
    let fault = meanwhile(hook);
    let plan = FaultPlan::none().and(Some(CallKind::Put), "packs/", 1..=1, fault);
    let store = bench.disturbed(plan);
    let repo = open(store.clone(), bench.home.path()).expect("opens");
    let second = backup(&repo, dir.path()).expect("acknowledged").snapshot;
    assert_eq!(store.hits().len(), 1);
    let first = first.lock().expect("nobody else").take().expect("it ran");
    let tree = describe(dir.path());
    let live = vec![(first, tree.clone()), (second, tree)];
    let packs = bench.open().load_index().expect("loads").packs();
    let packs: Vec<_> =
        packs.into_iter().map(|(pack, _)| pack).filter(|p| p.size > 150_000).collect();
    assert_eq!(packs.len(), 2, "each stored it");
    (Garden { bench, dir, live, before: Vec::new() }, packs)
}

#[test]
fn of_two_copies_one_goes_and_the_other_was_hashed_before() {
    let (garden, packs) = twins();
    let recorded = Arc::new(RecordStore::new(garden.bench.store.clone()));
    let repo = open(recorded.clone(), garden.bench.home.path()).expect("opens");
    let report = collect(&repo, &at_once()).expect("it collects");
    assert!(report.done.packs.objects >= 1, "{report:?}");
    let left = garden.bench.names("packs");
    let (kept, gone): (Vec<_>, Vec<_>) =
        packs.iter().partition(|pack| left.iter().any(|name| name.base() == pack.id.to_string()));
    assert_eq!((kept.len(), gone.len()), (1, 1));
    let (kept, gone) = (kept[0].id.to_string(), gone[0].id.to_string());
    let calls = recorded.calls();
    let at = |kind, id: &str| {
        calls.iter().position(|call| call.kind == kind && call.target.ends_with(id))
    };
    let read = at(CallKind::GetRange, &kept).expect("the copy that stays was read");
    let deleted = at(CallKind::Delete, &gone).expect("the other was deleted");
    assert!(read < deleted);
    garden.assert_collects();
}

#[test]
fn of_two_copies_none_goes_while_the_one_to_be_kept_is_damaged() {
    for which in 0..2 {
        let (garden, packs) = twins();
        let garden = garden.fork();
        let id = packs[which].id.to_string();
        let name = ObjectName::parse(&format!("packs/{}/{id}", &id[..2])).expect("a name");
        assert!(garden.bench.store.corrupt(&name, |bytes| bytes[5000] ^= 1));
        let other = packs[1 - which].id.to_string();
        let result = collect(&garden.bench.open(), &at_once());
        // Whichever it meant to keep: the sound copy is there.
        assert!(garden.bench.names("packs").iter().any(|name| name.base() == other));
        if let Err(error) = result {
            let damage = matches!(error, OpsError::Repo(RepoError::NotCollected { .. }));
            assert!(damage, "{error:?}");
        }
        for (id, tree) in &garden.live {
            assert_restores(&garden.bench.open(), id, tree);
        }
    }
}

#[test]
fn f076_two_collections_that_condemn_one_copy_each_leave_both_and_then_one() {
    let (garden, packs) = twins();
    // Which one would a collection give up?
    let trial = garden.fork();
    let _ = collect(&trial.bench.open(), &at_once()).expect("it collects");
    let left = trial.bench.names("packs");
    let kept = packs.iter().find(|p| left.iter().any(|name| name.base() == p.id.to_string()));
    let kept = kept.expect("one").id;
    // Another collector condemns that very copy after this one has condemned its twin.
    let (store, repo) = (garden.bench.store.clone(), garden.bench.open());
    let hook = move || {
        let record = CondemnRecord { packs: vec![kept], segments: Vec::new() };
        put_signed(&store, &repo, ObjectKind::Condemn, "gc/00ff.condemn", &record.encode());
    };
    let fault = meanwhile(hook);
    let plan = FaultPlan::none().and(Some(CallKind::Put), "gc/", 1..=1, fault);
    let store = garden.bench.disturbed(plan);
    let repo = open(store.clone(), garden.bench.home.path()).expect("opens");
    let report = collect(&repo, &at_once()).expect("it collects");
    assert_eq!(store.hits().len(), 1);
    assert!(report.done.spared >= 2, "{report:?}");
    garden.assert_whole();
    let report = collect(&garden.bench.open(), &at_once()).expect("it collects");
    assert!(report.done.stored.objects > 0, "what only condemned packs hold is stored anew");
    garden.assert_whole();
    assert_tidy(&garden.bench.open());
}

#[test]
fn f042_deletions_that_arrive_after_everything_else_are_harmless() {
    let mut garden = Garden::new();
    let recorded = Arc::new(RecordStore::new(garden.bench.store.clone()));
    let repo = open(recorded.clone(), garden.bench.home.path()).expect("opens");
    let _ = collect(&repo, &at_once()).expect("it collects");
    let late = recorded.targets(CallKind::Delete);
    assert!(late.len() > 3);
    // What was deleted is saved anew, byte for byte.
    [0, 2, 4].into_iter().for_each(|number| {
        let path = garden.dir.path().join(format!("file-{number}"));
        std::fs::write(path, noise(number, 300_000)).expect("written");
    });
    let report = backup(&garden.bench.open(), garden.dir.path()).expect("acknowledged");
    for name in late {
        garden.bench.store.delete(&ObjectName::parse(&name).expect("a name")).expect("deleted");
    }
    acked(&mut garden, &report);
    garden.assert_collects();
}

/// Restores the snapshot while it is forgotten and collected at the first read of a pack.
fn restore_while(garden: &Garden, options: volume_vault::ops::prune::PruneOptions) -> Vec<String> {
    let (id, tree) = garden.live[0].clone();
    let host = Mutex::new(garden.bench.other_host());
    let hook = move || {
        let host = host.lock().expect("nobody else");
        forget(&host.store, &host.open(), &id);
        let _ = collect(&host.open(), &options).expect("it collects");
    };
    let fault = meanwhile(hook);
    let plan = FaultPlan::none().and(Some(CallKind::GetRange), "packs/", 3..=3, fault);
    let store = garden.bench.disturbed(plan);
    let repo = open(store.clone(), garden.bench.home.path()).expect("opens");
    let snapshot = listed(&repo, &id).expect("it is listed");
    let recorder = Arc::new(Recorder::default());
    let observer: Arc<dyn Observer> = recorder.clone();
    let target = scratch();
    let done = restore_as(&repo, &snapshot, target.path(), &observer, &Interrupt::default());
    assert_eq!(store.hits().len(), 1);
    let mut told: Vec<_> = recorder.warnings().into_iter().map(|w| w.message).collect();
    match done {
        Ok(report) if report.damaged == 0 => {
            let found = crate::support::tree::diff(&tree, &describe(target.path()));
            assert_eq!(found, [""; 0]);
        }
        Ok(_) => assert!(!told.is_empty()),
        Err(error) => told.push(error.to_string()),
    }
    told
}

#[test]
fn f075_a_restore_outlives_the_collection_of_what_it_restores_for_as_long_as_is_waited() {
    assert_eq!(restore_while(&Garden::new(), in_a_day()), [""; 0]);
}

#[test]
fn f075_a_restore_under_which_all_is_deleted_says_that_it_is_gone() {
    let mut garden = Garden::new();
    let told = restore_while(&garden, at_once());
    assert!(!told.is_empty());
    assert!(told.iter().all(|why| why.contains("is gone: it was deleted")), "{told:?}");
    let _ = garden.live.remove(0);
    let _ = collect(&garden.bench.open(), &all_at_once()).expect("it collects");
    garden.assert_whole();
}

#[test]
fn a_backup_under_which_segments_are_merged_stores_nothing_anew() {
    let (bench, dir) = (Bench::new(), scratch());
    let mut last = None;
    for number in 0..26 {
        let path = dir.path().join(format!("{number}"));
        std::fs::write(path, noise(number, 20_000)).expect("written");
        last = Some(backup(&bench.open(), dir.path()).expect("acknowledged").snapshot);
    }
    let live = vec![(last.expect("made"), describe(dir.path()))];
    let mut garden = Garden { bench, dir, live, before: Vec::new() };
    let result = backup_with(&garden, CallKind::List, "gc", 2, |bench| {
        let options = volume_vault::ops::prune::PruneOptions {
            max_repack: Some(0),
            max_unused: volume_vault::ops::prune::MaxUnused::Unlimited,
            ..at_once()
        };
        let report = collect(&bench.open(), &options).expect("it collects");
        assert!(report.done.segments.objects > 20, "{report:?}");
        assert_eq!(report.done.packs.objects, 0);
    });
    let report = result.expect("acknowledged");
    assert!(report.bytes_stored < 20_000, "only its record: {}", report.bytes_stored);
    acked(&mut garden, &report);
    garden.assert_collects();
}
