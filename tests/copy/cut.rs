//! A copy that is cut short leaves whole snapshots and nothing else, and the next one goes on.

use std::sync::Arc;

use volume_vault::event::{Counters, Observer, Warning};
use volume_vault::id::SnapshotId;
use volume_vault::ops::copy::ForgottenThere;
use volume_vault::ops::{Interrupt, OpsError};
use volume_vault::repo::{SnapshotList, pack_name};
use volume_vault::store::{CallKind, Fault, FaultPlan};

use super::{copy, copy_as, options, planned};
use crate::support::damage::pack_of_file;
use crate::support::garden::{at_once, collect, forget, meanwhile};
use crate::support::repo::{Bench, Scene, assert_restores, backup, check, list, open};
use crate::support::tree::{Tree, describe};

/// What must hold in the other repository, however a copy ended; then the next one completes it.
fn judge(scene: &Scene, there: &Bench, originals: &[(SnapshotId, Tree)]) {
    let (from, to) = (scene.bench.open(), there.open());
    let tree_of = |id: &SnapshotId| {
        let found = originals.iter().find(|(original, _)| original == id);
        &found.expect("it is one of the originals").1
    };
    let holds = |expected: Option<usize>| {
        let listed = list(&to);
        assert!(expected.is_none_or(|expected| listed.len() == expected), "{}", listed.len());
        for snapshot in &listed {
            assert!(there.has_ok(&snapshot.id), "without its commit none is listed");
            let origin = snapshot.body.copied.expect("a copy").snapshot;
            assert_restores(&to, &snapshot.id, tree_of(&origin));
        }
    };
    holds(None);
    let _ = copy(&from, &to).expect("the next copy");
    holds(Some(originals.len()));
    assert!(check(&to) > 0);
}

#[test]
fn a_copy_cut_short_at_any_call_leaves_whole_snapshots_and_is_completed_by_the_next() {
    let scene = Scene::new();
    let from = scene.bench.open();
    let second = backup(&from, scene.dir.path()).expect("saved").snapshot;
    let originals = [(scene.old, scene.old_tree.clone()), (second, scene.tree.clone())];
    let empty = Bench::new();
    let (mut cuts, mut kept) = (0, 0);
    for number in 1.. {
        let there = empty.fork();
        let store = there.disturbed(FaultPlan::at(number, Fault::StopBefore));
        let done = open(store.clone(), there.home.path())
            .map_err(OpsError::from)
            .and_then(|to| copy(&from, &to));
        kept += usize::from(list(&there.open()).len() == 1);
        judge(&scene, &there, &originals);
        if store.hits().is_empty() {
            let _ = done.expect("undisturbed");
            break;
        }
        assert!(done.is_err(), "a dead store is no success");
        cuts += 1;
    }
    assert!(cuts > 20 && kept > 0, "{cuts} cuts, {kept} of them between the snapshots");
}

/// Asks to stop when the first snapshot is about to be committed.
struct Stopper {
    counters: Counters,
    interrupt: Interrupt,
}

impl Observer for Stopper {
    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn warn(&self, _: Warning) {}

    fn stage(&self, name: &str) {
        if name == "committing" {
            self.interrupt.request();
        }
    }
}

#[test]
fn an_interrupted_copy_keeps_what_was_copied_and_goes_on_the_next_time() {
    let scene = Scene::new();
    let from = scene.bench.open();
    let second = backup(&from, scene.dir.path()).expect("saved").snapshot;
    let originals = [(scene.old, scene.old_tree.clone()), (second, scene.tree.clone())];
    let there = Bench::new();
    let interrupt = Interrupt::default();
    let stopper = Stopper { counters: Counters::default(), interrupt: interrupt.clone() };
    let observer: Arc<dyn Observer> = Arc::new(stopper);
    let to = there.open();
    let plan = planned(&from, &to, ForgottenThere::Skip).expect("planned");
    let done = copy_as(&from, &to, plan, options(), &observer, &interrupt);
    assert!(matches!(done, Err(OpsError::Interrupted)));
    assert_eq!(SnapshotList::load(&to).expect("lists").snapshots.len(), 1);
    judge(&scene, &there, &originals);
}

#[test]
fn what_a_collection_moves_while_it_is_copied_is_found_where_it_is_now() {
    let scene = Scene::new();
    std::fs::remove_file(scene.dir.path().join("big")).expect("removed");
    std::fs::remove_file(scene.dir.path().join("twin")).expect("removed");
    let tree = describe(scene.dir.path());
    let saved = backup(&scene.bench.open(), scene.dir.path()).expect("saved").snapshot;
    forget(&scene.bench.store, &scene.bench.open(), &scene.old);
    // Right at the first read of a pack, and when the content of files is read.
    for number in 1..=3 {
        let bench = scene.bench.fork();
        let old = pack_name(&pack_of_file(&bench.open(), &saved, "many/file-00"));
        let other = bench.other_host();
        let sweep = meanwhile(move || {
            let _ = collect(&other.open(), &at_once()).expect("collected");
        });
        let plan =
            FaultPlan::none().and(Some(CallKind::GetRange), "packs/", number..=number, sweep);
        let store = bench.disturbed(plan);
        let from = open(store.clone(), bench.home.path()).expect("opens");
        let to = Bench::new().open();
        let done = copy(&from, &to).expect("copied");
        assert_eq!(store.hits().len(), 1, "read {number}");
        assert!(!bench.names("packs").contains(&old), "what is needed lies elsewhere now");
        assert_eq!((done.copied.len(), done.refused.len()), (1, 0));
        assert_restores(&to, &done.copied[0].snapshot, &tree);
    }
}
