//! Making a repository and changing its keys, ended at every store call.

use std::sync::Arc;

use volume_vault::clock::Clock;
use volume_vault::crypto::Key;
use volume_vault::repo::{
    Dirs, InitOptions, RepoError, Repository, Secret, add_slot, init, list_slots, remove_slot,
    unlock,
};
use volume_vault::store::{Fault, FaultPlan, FaultStore, MemoryStore, Store};

use crate::support::repo::{
    Bench, CHEAP_KDF, assert_restores, backup, make, make_tree, scratch, secret,
};
use crate::support::tree::describe;

const FAULTS: [Fault; 4] =
    [Fault::StopBefore, Fault::StopAfter, Fault::FailBefore, Fault::FailAfter];

fn try_init(store: &dyn Store) -> Result<(), RepoError> {
    init(store, &InitOptions::default(), |_| Ok(secret())).map(|_| ())
}

fn assert_works(store: &MemoryStore) {
    let (home, dir) = (scratch(), scratch());
    make_tree(dir.path());
    let repo = crate::support::repo::open(Arc::new(store.clone()), home.path()).expect("opens");
    let report = backup(&repo, dir.path()).expect("acknowledged");
    assert_restores(&repo, &report.snapshot, &describe(dir.path()));
}

#[test]
fn f008_after_init_was_ended_at_any_call_there_is_a_repository_with_its_key_or_none() {
    let counted = FaultStore::new(MemoryStore::new(Clock::System), FaultPlan::none());
    try_init(&counted).expect("made");
    assert!(counted.calls() > 8, "{} calls", counted.calls());
    let (mut made, mut refused) = (0, 0);
    for fault in FAULTS {
        for number in 1..=counted.calls() {
            let inner = MemoryStore::new(Clock::System);
            let store = FaultStore::new(inner.clone(), FaultPlan::at(number, fault.clone()));
            let result = try_init(&store);
            // A call that fails by itself, as there is no head yet, has no reply to be lost.
            let Some(hit) = store.hits().into_iter().next() else {
                assert!(matches!((number, &fault), (1, Fault::FailAfter)), "call {number}");
                continue;
            };
            assert!(hit.number == number || number == 1, "{hit:?}");
            assert!(result.is_err(), "call {number} {fault:?}");
            match Repository::probe(&inner) {
                Ok(bootstrap) => {
                    // The key opens what is there, and nobody makes another over it.
                    let _ = unlock(&inner, &bootstrap.repository, &secret()).expect("opens");
                    let again = try_init(&inner);
                    assert!(matches!(again, Err(RepoError::Refused(_))), "{again:?}");
                    refused += 1;
                }
                Err(RepoError::NoRepository(_)) => {
                    try_init(&inner).expect("made at the second attempt");
                    assert_eq!(list_slots(&inner).expect("lists").len(), 1, "no remains");
                    made += 1;
                }
                Err(error) => panic!("call {number} {fault:?}: {error}"),
            }
            assert_works(&inner);
        }
    }
    assert!(made > 20 && refused > 3, "{made} made again, {refused} refused");
}

/// Ends `change` at every call in turn; `judge` sees the store afterwards.
fn at_every_call(
    change: impl Fn(&dyn Store, &Bench) -> Result<(), RepoError>,
    judge: impl Fn(&Bench, &str),
) {
    let bench = Bench::new();
    let counted = bench.fork().disturbed(FaultPlan::none());
    change(&*counted, &bench).expect("undisturbed");
    assert!(counted.calls() >= 3, "{} calls", counted.calls());
    for fault in FAULTS {
        for number in 1..=counted.calls() {
            let fork = bench.fork();
            let store = fork.disturbed(FaultPlan::at(number, fault.clone()));
            let result = change(&*store, &fork);
            assert_eq!(store.hits()[0].number, number);
            assert!(result.is_err(), "call {number} {fault:?}");
            judge(&fork, &format!("call {number} {fault:?}"));
        }
    }
}

fn second() -> Secret {
    Secret::KeyFile(Key::new([8; 32]))
}

fn add(store: &dyn Store, bench: &Bench, secret: &Secret) -> Result<(), RepoError> {
    let repo = bench.open();
    add_slot(store, &repo.id(), repo.master(), secret, CHEAP_KDF, "second", 0).map(|_| ())
}

fn opens(bench: &Bench, secret: &Secret) -> bool {
    let store: Arc<dyn Store> = Arc::new(bench.store.clone());
    let dirs = Dirs { cache: bench.home.path().join("c"), state: bench.home.path().join("s") };
    Repository::open(store, secret, &dirs).is_ok()
}

#[test]
fn f007_key_add_ended_at_any_call_leaves_the_old_key_and_can_be_done_again() {
    let judge = |bench: &Bench, at: &str| {
        assert!(opens(bench, &secret()), "{at}");
        let slots = list_slots(&bench.store).expect("lists");
        assert!(slots.iter().all(|slot| slot.sound), "{at}: no half slot");
        assert_eq!(opens(bench, &second()), slots.len() == 2, "{at}: what is listed opens");
        add(&bench.store, bench, &second()).expect("added");
        assert!(opens(bench, &second()), "{at}");
    };
    at_every_call(|store, bench| add(store, bench, &second()), judge);
    // A passphrase is read back by deriving its key again; one call is enough to see it.
    let bench = Bench::new();
    let secret = Secret::Passphrase(b"new".to_vec().into());
    add(&bench.store, &bench, &secret).expect("added");
    assert!(opens(&bench, &secret));
}

#[test]
fn f007_key_passwd_ended_at_any_call_leaves_the_old_key_or_the_new() {
    let passwd = |store: &dyn Store, bench: &Bench| {
        let (_, old) = unlock(store, &bench.open().id(), &secret())?;
        add(store, bench, &second())?;
        remove_slot(store, &old)
    };
    at_every_call(passwd, |bench, at| {
        assert!(opens(bench, &secret()) || opens(bench, &second()), "{at}");
    });
}

#[test]
fn f007_key_remove_ended_at_any_call_leaves_the_other_key_and_can_be_done_again() {
    let remove = |store: &dyn Store, bench: &Bench| {
        // Set up past the faults: only the removal is disturbed.
        if list_slots(&bench.store)?.len() == 1 && opens(bench, &secret()) {
            add(&bench.store, bench, &second())?;
        }
        let (_, slot) = unlock(&bench.store, &bench.open_second(), &second())?;
        remove_slot(store, &slot)
    };
    let count = at_every_removal(&remove);
    assert!(count >= 12, "{count} runs");
}

fn at_every_removal(remove: &dyn Fn(&dyn Store, &Bench) -> Result<(), RepoError>) -> usize {
    let counted_bench = Bench::new();
    let counted = counted_bench.disturbed(FaultPlan::none());
    remove(&*counted, &counted_bench).expect("undisturbed");
    let mut runs = 0;
    for fault in FAULTS {
        for number in 1..=counted.calls() {
            let bench = Bench::new();
            let store = bench.disturbed(FaultPlan::at(number, fault.clone()));
            assert!(remove(&*store, &bench).is_err(), "call {number} {fault:?}");
            assert_eq!(store.hits()[0].number, number);
            assert!(opens(&bench, &secret()), "call {number} {fault:?}");
            if opens(&bench, &second()) {
                remove(&bench.store, &bench).expect("removed");
            }
            assert!(!opens(&bench, &second()) && opens(&bench, &secret()));
            runs += 1;
        }
    }
    runs
}

impl Bench {
    /// The repository's id, however it is opened.
    fn open_second(&self) -> volume_vault::id::RepositoryId {
        Repository::probe(&self.store).expect("a repository").repository
    }
}

#[test]
fn f007_the_last_key_that_opens_is_never_removed() {
    let store = MemoryStore::new(Clock::System);
    make(&store);
    let slots = list_slots(&store).expect("lists");
    assert!(matches!(remove_slot(&store, &slots[0].id), Err(RepoError::Refused(_))));
    assert_works(&store);
}
