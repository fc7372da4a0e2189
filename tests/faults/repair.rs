//! Repairs cut short at every store call: what is left works, and the next repair goes on.

use std::sync::Arc;

use volume_vault::format::PackKind;
use volume_vault::id::SnapshotId;
use volume_vault::ops::OpsError;
use volume_vault::ops::repair::OldOnes;
use volume_vault::repo::Repository;
use volume_vault::store::{CallKind, Fault, FaultPlan, Store};

use crate::support::damage::{
    checked, pack_of_file, packs_of, repair_index, repair_packs, repair_snapshots, rot,
};
use crate::support::garden::{Garden, at_once, collect};
use crate::support::repo::{assert_restores, backup, list, open};
use crate::support::tree::describe;

/// Runs a repair with the fault at every call of a kind; says how many there were. After each
/// `judge` is asked about what is left.
fn at_every_call(
    garden: &Garden,
    fault: &Fault,
    kind: Option<CallKind>,
    step: usize,
    repair: impl Fn(&Arc<Repository>) -> Result<(), OpsError>,
    judge: impl Fn(&Garden),
) -> usize {
    let mut hit = 0;
    for number in (1..).step_by(step) {
        let garden = garden.fork();
        let plan = FaultPlan::none().and(kind, "", number..=number, fault.clone());
        let store = garden.bench.disturbed(plan);
        let repo = open(store.clone(), garden.bench.home.path()).map_err(OpsError::from);
        let result = repo.and_then(|repo| repair(&repo));
        if store.hits().is_empty() {
            result.expect("undisturbed");
            judge(&garden);
            break;
        }
        hit += 1;
        judge(&garden);
    }
    hit
}

/// Every fault that may cut a repair short, at calls that are far enough apart to come to an end.
fn all_faults(
    garden: &Garden,
    repair: impl Fn(&Arc<Repository>) -> Result<(), OpsError>,
    judge: impl Fn(&Garden),
) {
    let every = |fault, kind, step| at_every_call(garden, &fault, kind, step, &repair, &judge);
    assert!(every(Fault::StopBefore, None, 1) > 8);
    assert!(every(Fault::StopAfter, Some(CallKind::Put), 1) >= 1);
    assert!(every(Fault::FailBefore, None, 3) > 2);
    assert!(every(Fault::FailAfter, Some(CallKind::Put), 1) >= 1);
}

#[test]
fn f028_a_repair_of_packs_cut_short_anywhere_leaves_what_the_next_one_finishes() {
    let garden = Garden::new();
    let name = packs_of(&garden.bench, PackKind::Data).remove(0);
    rot(&garden.bench.store, &name);
    all_faults(
        &garden,
        |repo| repair_packs(repo).map(|_| ()),
        |garden| {
            // Whatever it came to, the next plain backup works.
            let next = backup(&garden.bench.open(), garden.dir.path()).expect("acknowledged");
            let _ = repair_packs(&garden.bench.open()).expect("it repairs");
            let healing = backup(&garden.bench.open(), garden.dir.path()).expect("acknowledged");
            for id in [next.snapshot, healing.snapshot] {
                assert_restores(&garden.bench.open(), &id, &describe(garden.dir.path()));
            }
        },
    );
}

#[test]
fn f078_a_repair_of_the_index_cut_short_anywhere_leaves_what_the_next_one_finishes() {
    let garden = Garden::new();
    let segments = garden.bench.names("index");
    assert!(garden.bench.store.corrupt(&segments[0], |bytes| bytes[40] ^= 1));
    garden.bench.store.delete(&segments[1]).expect("deleted");
    all_faults(
        &garden,
        |repo| repair_index(repo).map(|_| ()),
        |garden| {
            let report = repair_index(&garden.bench.open()).expect("it repairs");
            assert!(report.is_whole());
            garden.assert_whole();
            let _ = collect(&garden.bench.open(), &at_once()).expect("it collects");
            garden.assert_whole();
            assert!(!garden.bench.names("index").contains(&segments[0]));
        },
    );
}

#[test]
fn f028_a_repair_of_snapshots_cut_short_anywhere_forgets_nothing_that_is_not_salvaged() {
    let mut garden = Garden::new();
    let (hurt, _) = garden.live.remove(0);
    let pack = pack_of_file(&garden.bench.open(), &hurt, "file-5");
    rot(&garden.bench.store, &volume_vault::repo::pack_name(&pack));
    assert!(checked(&garden.bench.open()).touched.iter().any(|touched| touched.snapshot == hurt));
    all_faults(
        &garden,
        |repo| repair_snapshots(repo, OldOnes::Forget).map(|_| ()),
        |garden| {
            let of = |repo: &Repository, id: SnapshotId| {
                let all = list(repo);
                let there = all.iter().any(|snapshot| snapshot.id == id);
                let salvaged = all.iter().any(|snapshot| snapshot.body.salvaged == Some(id));
                (there, salvaged)
            };
            let (there, salvaged) = of(&garden.bench.open(), hurt);
            assert!(there || salvaged, "it went without a trace");
            let _ = repair_snapshots(&garden.bench.open(), OldOnes::Forget).expect("it repairs");
            assert_eq!(of(&garden.bench.open(), hurt), (false, true));
            let report = checked(&garden.bench.open());
            assert!(report.touched.is_empty(), "{report:?}");
            for (id, tree) in &garden.live {
                assert_restores(&garden.bench.open(), id, tree);
            }
            // What nobody set aside, others would rest on.
            let _ = repair_packs(&garden.bench.open()).expect("it repairs");
            let next = backup(&garden.bench.open(), garden.dir.path()).expect("acknowledged");
            assert_restores(&garden.bench.open(), &next.snapshot, &describe(garden.dir.path()));
            let _ = collect(&garden.bench.open(), &at_once()).expect("it collects");
        },
    );
}
