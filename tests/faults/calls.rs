//! A backup whose store fails or ends at every call in turn.

use std::sync::Arc;

use volume_vault::ops::OpsError;
use volume_vault::ops::backup::BackupReport;
use volume_vault::store::{CallKind, Fault, FaultPlan, FaultStore, MemoryStore};

use crate::support::repo::{Bench, CANARY, Scene, backup, files_below, open};

type Disturbed = (Bench, Arc<FaultStore<MemoryStore>>, Result<BackupReport, OpsError>);

fn run(scene: &Scene, plan: FaultPlan) -> Disturbed {
    let bench = scene.bench.fork();
    let store = bench.disturbed(plan);
    let repo = open(store.clone(), bench.home.path()).map_err(OpsError::from);
    let result = repo.and_then(|repo| backup(&repo, scene.dir.path()));
    (bench, store, result)
}

/// Runs with the fault at every call; gives how many runs were acknowledged all the same.
fn at_every_call(fault: &Fault) -> usize {
    let scene = Scene::new();
    let (bench, store, result) = run(&scene, FaultPlan::none());
    scene.judge(&bench, &result);
    let mut acked = 0;
    assert!(store.calls() > 15, "{} calls", store.calls());
    for number in 1..=store.calls() {
        let (bench, store, result) = run(&scene, FaultPlan::at(number, fault.clone()));
        assert!(!store.hits().is_empty(), "call {number} was hit");
        scene.judge(&bench, &result);
        acked += usize::from(result.is_ok());
    }
    acked
}

#[test]
fn f001_killed_before_any_store_call_a_backup_leaves_no_damage() {
    assert_eq!(at_every_call(&Fault::StopBefore), 0);
}

#[test]
fn f002_killed_after_any_store_call_a_backup_leaves_no_damage() {
    assert_eq!(at_every_call(&Fault::StopAfter), 0);
}

#[test]
fn f001_any_store_call_that_fails_costs_no_more_than_the_backup() {
    let _ = at_every_call(&Fault::FailBefore);
}

#[test]
fn f002_any_store_call_whose_reply_is_lost_costs_no_more_than_the_backup() {
    let _ = at_every_call(&Fault::FailAfter);
}

#[test]
fn f002_a_backup_that_was_not_acknowledged_is_listed_only_if_its_commit_was_stored() {
    let scene = Scene::new();
    // Records are put as pending, then as ok.
    let last = FaultPlan::none().and(Some(CallKind::Put), "snapshots/", 2..=2, Fault::StopAfter);
    let before = FaultPlan::none().and(Some(CallKind::Put), "snapshots/", 2..=2, Fault::StopBefore);
    for (plan, listed) in [(before, 1), (last, 2)] {
        let (bench, store, result) = run(&scene, plan);
        assert!(store.hits()[0].call.target.ends_with(".ok"), "{:?}", store.hits());
        assert!(result.is_err());
        assert_eq!(crate::support::repo::list(&bench.open()).len(), listed);
        scene.judge(&bench, &result);
    }
}

#[test]
fn f091_neither_the_store_nor_this_host_ever_holds_a_name_or_content_in_the_clear() {
    let scene = Scene::new();
    let bench = &scene.bench;
    let canary = CANARY.as_bytes();
    let shows = |bytes: &[u8]| bytes.windows(canary.len()).any(|window| window == canary);
    for name in bench.store.names() {
        let bytes = volume_vault::store::Store::get(&bench.store, &name, 1 << 30).expect("reads");
        assert!(!shows(&bytes), "{name}");
    }
    let files = files_below(bench.home.path());
    assert!(files.len() > 2, "{files:?}");
    for file in files {
        assert!(!shows(&std::fs::read(bench.home.path().join(&file)).expect("reads")), "{file:?}");
    }
    assert!(shows(&std::fs::read(scene.dir.path().join(CANARY)).expect("reads")), "O7 can fail");
}
