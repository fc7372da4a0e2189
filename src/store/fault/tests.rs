//! Every kind of fault does what it says, where it says, and is listed as hit.

use super::*;
use crate::clock::Clock;
use crate::store::{MemoryStore, contract};

fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).expect("a good name")
}

fn store(plan: FaultPlan) -> (MemoryStore, FaultStore<MemoryStore>) {
    let inner = MemoryStore::new(Clock::Fixed(crate::clock::Time::default()));
    inner.insert_raw(name("packs/a"), vec![7; 100]);
    (inner.clone(), FaultStore::new(inner, plan))
}

/// Puts, reads in both ways, lists and deletes; the results in order.
fn five_calls(store: &dyn Store) -> Vec<Result<(), StoreError>> {
    vec![
        store.put(&name("keys/b"), &Payload::public(vec![1; 10])),
        store.get(&name("packs/a"), 100).map(drop),
        store.get_range(&name("packs/a"), 0, &mut [0; 4]),
        store.list("packs").map(drop),
        store.delete(&name("packs/a")),
    ]
}

#[test]
fn without_faults_it_keeps_the_contract_of_stores() {
    let store = FaultStore::new(MemoryStore::new(Clock::System), FaultPlan::none());
    contract::check(&store).expect("keeps the contract");
    assert!(store.hits().is_empty());
}

#[test]
fn each_call_of_a_clean_run_can_be_made_to_fail_alone() {
    let (_, clean) = store(FaultPlan::none());
    assert!(five_calls(&clean).iter().all(Result::is_ok));
    let total = clean.calls();
    assert_eq!(total, 5);
    for number in 1..=total {
        for fault in [Fault::FailBefore, Fault::FailAfter] {
            let (_, faulty) = store(FaultPlan::at(number, fault));
            let failed: Vec<_> = five_calls(&faulty).iter().map(Result::is_err).collect();
            let expected: Vec<_> = (1..=total).map(|n| n == number).collect();
            assert_eq!(failed, expected);
            let hits = faulty.hits();
            assert_eq!(hits.len(), 1);
            assert_eq!(hits[0].number, number);
        }
    }
}

#[test]
fn a_failure_before_does_nothing_and_one_after_does_it() {
    for (fault, done) in [(Fault::FailBefore, false), (Fault::FailAfter, true)] {
        let (inner, faulty) = store(FaultPlan::at(1, fault.clone()));
        let error = faulty.put(&name("a"), &Payload::public(vec![1])).expect_err("fails");
        assert_eq!(error.to_string(), "put `a` in memory");
        assert_eq!(inner.get(&name("a"), 1).is_ok(), done);
        let (inner, faulty) = store(FaultPlan::at(1, fault));
        let _ = faulty.delete(&name("packs/a")).expect_err("fails");
        assert_eq!(inner.names().is_empty(), done);
    }
}

#[test]
fn after_a_stop_every_call_fails_and_changes_nothing() {
    for (fault, done) in [(Fault::StopBefore, false), (Fault::StopAfter, true)] {
        let (inner, faulty) = store(FaultPlan::at_kind(CallKind::Put, 1, fault));
        let _ = faulty.list("packs").expect("is before the stop");
        assert!(five_calls(&faulty).iter().all(Result::is_err));
        assert_eq!(inner.get(&name("keys/b"), 10).is_ok(), done);
        assert!(inner.get(&name("packs/a"), 100).is_ok(), "nothing after the stop is done");
        assert_eq!(faulty.hits().len(), 5);
    }
}

#[test]
fn a_rule_counts_only_calls_of_its_kind_and_prefix() {
    let plan = FaultPlan::at_prefix("packs/", 2, Fault::FailBefore);
    let plan = plan.and(Some(CallKind::Get), "keys/", 1..=2, Fault::FailBefore);
    let (_, faulty) = store(plan);
    let failed: Vec<_> = five_calls(&faulty).iter().map(Result::is_err).collect();
    assert_eq!(failed, [false, false, true, false, false]);
    for expected in [false, false, true] {
        assert_eq!(faulty.get(&name("keys/b"), 10).is_ok(), expected);
    }
}

#[test]
fn truncated_calls_succeed_with_fewer_bytes() {
    let (inner, faulty) = store(FaultPlan::none().and(None, "", 1..=9, Fault::Truncate(2)));
    faulty.put(&name("a"), &Payload::public(vec![1; 10])).expect("puts");
    assert_eq!(inner.get(&name("a"), 10).expect("gets").len(), 8);
    assert_eq!(faulty.get(&name("packs/a"), 100).expect("gets").len(), 98);
    let mut buffer = [9; 4];
    faulty.get_range(&name("packs/a"), 0, &mut buffer).expect("gets");
    assert_eq!(buffer, [7, 7, 0, 0]);
    assert!(faulty.list("packs").expect("lists").is_empty());
    assert_eq!(faulty.hits().len(), 4);
    faulty.put(&name("empty"), &Payload::default()).expect("puts");
    assert_eq!(faulty.hits().len(), 4, "nothing can be cut off an empty object");
}

#[test]
fn a_delay_runs_its_closure_before_the_call_is_done() {
    let (inner, _) = store(FaultPlan::none());
    let late = inner.clone();
    let hook: Hook = Arc::new(move |call| {
        assert_eq!(call.kind, CallKind::List);
        late.insert_raw(name("gc/late"), vec![1]);
    });
    let faulty = FaultStore::new(inner, FaultPlan::at(1, Fault::Delay(hook)));
    assert_eq!(faulty.list("gc").expect("lists").len(), 1);
    assert_eq!(faulty.hits().len(), 1);
}

#[test]
fn the_hook_sees_every_call_before_it_is_done() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (inner, faulty) = store(FaultPlan::at(2, Fault::StopBefore));
    let (log, kept) = (Arc::clone(&seen), inner.clone());
    let faulty = faulty.with_hook(Arc::new(move |call: &Call| {
        let there = kept.names().len();
        log.lock().expect("no test panics here").push((call.kind, there));
    }));
    let _ = five_calls(&faulty);
    let expected = [
        (CallKind::Put, 1),
        (CallKind::Get, 2),
        (CallKind::GetRange, 2),
        (CallKind::List, 2),
        (CallKind::Delete, 2),
    ];
    assert_eq!(*seen.lock().expect("no test panics here"), expected);
}

#[test]
fn a_seed_brings_the_same_faults_again_and_about_as_many_as_asked_for() {
    let run = |seed, probability| {
        let (_, faulty) = store(FaultPlan::seeded(seed, probability));
        for _ in 0..1000 {
            let _ = faulty.get(&name("packs/a"), 100);
        }
        faulty.hits().iter().map(|hit| format!("{} {:?}", hit.number, hit.fault)).collect()
    };
    let first: Vec<String> = run(1, 0.3);
    assert_eq!(first, run(1, 0.3));
    assert_ne!(first, run(2, 0.3));
    assert!((200..400).contains(&first.len()), "{}", first.len());
    for kind in ["FailBefore", "FailAfter", "Truncate"] {
        assert!(first.iter().any(|hit| hit.contains(kind)), "{kind}");
    }
    assert!(run(1, 0.0).is_empty());
    assert_eq!(run(1, 1.0).len(), 1000);
}
