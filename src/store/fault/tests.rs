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

#[test]
fn a_late_put_or_deletion_fails_and_is_done_when_it_lands() {
    let plan = FaultPlan::none().and(None, "", 1..=2, Fault::Late);
    let (inner, faulty) = store(plan);
    let _ = faulty.put(&name("b"), &Payload::public(vec![1])).expect_err("fails");
    let _ = faulty.delete(&name("packs/a")).expect_err("fails");
    assert_eq!((inner.names(), faulty.late()), (vec![name("packs/a")], 2));
    assert_eq!(faulty.land(1), Some(name("packs/a")));
    assert_eq!(inner.names(), []);
    assert_eq!(faulty.land(0), Some(name("b")));
    assert_eq!((inner.names(), faulty.land(0)), (vec![name("b")], None));
    assert_eq!(faulty.hits().len(), 2);
}

#[test]
fn what_is_sent_twice_is_done_now_and_once_more_when_it_lands() {
    let (inner, faulty) = store(FaultPlan::at(1, Fault::Again));
    faulty.put(&name("b"), &Payload::public(vec![1])).expect("puts");
    inner.delete(&name("b")).expect("deletes");
    assert_eq!(faulty.land(0), Some(name("b")));
    assert_eq!(inner.get(&name("b"), 1).expect("it is back"), [1]);
    assert_eq!(faulty.hits().len(), 1);
}

#[test]
fn a_lie_acknowledges_and_does_nothing() {
    let plan = FaultPlan::none().and(None, "", 1..=2, Fault::Lie);
    let (inner, faulty) = store(plan);
    faulty.put(&name("b"), &Payload::public(vec![1])).expect("says that it puts");
    faulty.delete(&name("packs/a")).expect("says that it deletes");
    assert_eq!((inner.names(), faulty.late(), faulty.hits().len()), (vec![name("packs/a")], 0, 2));
}

#[test]
fn a_listing_shows_what_the_lens_makes_of_it() {
    let hide: Lens = Arc::new(|_| Vec::new());
    let (_, faulty) = store(FaultPlan::at(1, Fault::Show(hide)));
    assert_eq!(faulty.list("packs").expect("lists"), []);
    assert_eq!(faulty.list("packs").expect("lists").len(), 1);
    assert_eq!(faulty.hits().len(), 1);
}

#[test]
fn a_director_is_told_of_the_end_of_a_call_that_fails_by_itself_too() {
    #[derive(Debug, Default)]
    struct After(Mutex<(u32, u32)>);
    impl Director for After {
        fn before(&self, _: &Call) -> Option<Fault> {
            self.0.lock().expect("nobody else").0 += 1;
            Some(Fault::FailAfter)
        }

        fn after(&self, _: &Call) {
            self.0.lock().expect("nobody else").1 += 1;
        }
    }
    let director = Arc::new(After::default());
    let (_, faulty) = store(FaultPlan::directed(director.clone()));
    let _ = faulty.get(&name("none"), 1).expect_err("there is none");
    let _ = faulty.get(&name("packs/a"), 100).expect_err("fails after");
    assert_eq!(*director.0.lock().expect("nobody else"), (2, 2));
}

/// Lets every call but the third pass, which ends it all; keeps what it was asked and told.
#[derive(Debug, Default)]
struct Third(Mutex<Vec<(bool, CallKind)>>);

impl Director for Third {
    fn before(&self, call: &Call) -> Option<Fault> {
        let mut seen = self.0.lock().expect("nobody else");
        seen.push((false, call.kind));
        (seen.len() > 4).then_some(Fault::StopBefore)
    }

    fn after(&self, call: &Call) {
        self.0.lock().expect("nobody else").push((true, call.kind));
    }
}

#[test]
fn a_director_is_asked_before_each_call_and_told_after_it_until_the_store_stops() {
    let director = Arc::new(Third::default());
    let (inner, faulty) = store(FaultPlan::directed(director.clone()));
    let done: Vec<bool> = five_calls(&faulty).iter().map(Result::is_ok).collect();
    assert_eq!(done, [true, true, false, false, false]);
    assert_eq!(inner.names().len(), 2);
    let expected: Vec<_> = [CallKind::Put, CallKind::Get, CallKind::GetRange]
        .into_iter()
        .flat_map(|kind| [(false, kind), (true, kind)])
        .collect();
    assert_eq!(*director.0.lock().expect("nobody else"), expected);
}
