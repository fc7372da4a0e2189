//! Panics on threads of a backup and a restore: in the store, in what watches, in the source. None
//! is swallowed, none leaves anybody waiting, and none costs more than the run it happened in.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use volume_vault::event::{Counters, Observer, Recorder, Warning};
use volume_vault::ops::backup::BackupReport;
use volume_vault::ops::{Interrupt, OpsError};
use volume_vault::repo::RepoError;
use volume_vault::source::{Found, Order, ReadError, Run, Source, SourceError};
use volume_vault::store::{Fault, FaultPlan};

use crate::support::machine::wait_until;
use crate::support::repo::{
    Bench, Scene, assert_restores, backup, backup_from, list, open, restore_as, scratch, walk,
};
use crate::support::tree::{describe, diff};

/// Runs on a thread of its own, as a panic may reach the caller; a hang fails.
fn aside<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, OpsError> + Send + 'static,
) -> Result<T, OpsError> {
    let thread = thread::Builder::new().name("caller".to_owned()).spawn(run).expect("a thread");
    wait_until("it ends", || thread.is_finished());
    // A panic that reached the caller ends the program with 101: nothing is acknowledged.
    thread.join().unwrap_or(Err(OpsError::Repo(RepoError::Worker)))
}

/// A panic that says on which thread it is.
fn panic_here(met: &Mutex<BTreeSet<String>>) {
    let name = thread::current().name().unwrap_or("unnamed").to_owned();
    let _ = met.lock().expect("no panic holds it").insert(name);
    panic!("injected");
}

fn fresh() -> Arc<Mutex<BTreeSet<String>>> {
    Arc::default()
}

/// Whether other threads than the caller's met the panic.
fn assert_workers_met(met: &Mutex<BTreeSet<String>>) {
    let met = met.lock().expect("no panic holds it");
    assert!(met.iter().any(|name| name != "caller"), "{met:?}");
}

#[test]
fn f010_a_panic_at_any_store_call_ends_the_backup_and_nothing_is_acknowledged() {
    let (scene, met) = (Scene::new(), fresh());
    for number in 1.. {
        let bench = scene.bench.fork();
        let note = met.clone();
        let hook = Arc::new(move |_: &_| panic_here(&note));
        let store = bench.disturbed(FaultPlan::at(number, Fault::Delay(hook)));
        let (home, dir) = (bench.home.path().to_owned(), scene.dir.path().to_owned());
        let used = store.clone();
        let result =
            aside(move || open(used, &home).map_err(OpsError::from).and_then(|r| backup(&r, &dir)));
        if store.hits().is_empty() {
            let _ = result.expect("undisturbed");
            assert!(number > 15, "{number} calls");
            break;
        }
        assert!(result.is_err(), "call {number}: {:?}", store.hits());
        scene.judge(&bench, &result);
    }
    assert_workers_met(&met);
}

/// Panics when its counters are asked for the so-manieth time.
struct Shaky {
    inner: Recorder,
    left: AtomicU64,
    met: Arc<Mutex<BTreeSet<String>>>,
}

impl Shaky {
    fn at(number: u64, met: &Arc<Mutex<BTreeSet<String>>>) -> Arc<Self> {
        let (inner, left) = (Recorder::default(), AtomicU64::new(number));
        Arc::new(Self { inner, left, met: met.clone() })
    }

    fn is_hit(&self) -> bool {
        // Below 0 it goes on at the top.
        matches!(self.left.load(Ordering::SeqCst), 0 | 0x8000_0000_0000_0000..)
    }
}

impl Observer for Shaky {
    fn counters(&self) -> &Counters {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            panic_here(&self.met);
        }
        self.inner.counters()
    }

    fn warn(&self, warning: Warning) {
        self.inner.warn(warning);
    }
}

#[test]
fn f010_a_panic_of_what_watches_ends_the_backup_and_nothing_is_acknowledged() {
    let (scene, met) = (Scene::new(), fresh());
    for number in (1..).step_by(3) {
        let (bench, shaky) = (scene.bench.fork(), Shaky::at(number, &met));
        let (repo, dir) = (bench.open(), scene.dir.path().to_owned());
        let observer: Arc<dyn Observer> = shaky.clone();
        let result: Result<BackupReport, _> = aside(move || {
            volume_vault::ops::backup::backup(
                &repo,
                &crate::support::repo::item(),
                |observer| walk(&dir, observer),
                || Ok(()),
                &crate::support::repo::options(),
                &observer,
                &Interrupt::default(),
            )
        });
        if !shaky.is_hit() {
            let _ = result.expect("undisturbed");
            break;
        }
        scene.judge(&bench, &result);
    }
    assert_workers_met(&met);
}

#[test]
fn f010_a_panic_in_a_restore_ends_it_and_the_same_restore_ends_well_afterwards() {
    let (scene, met) = (Scene::new(), fresh());
    let bench: &Bench = &scene.bench;
    for number in (1..).step_by(2) {
        let (shaky, target) = (Shaky::at(number, &met), scratch());
        let repo = bench.open();
        let snapshot = list(&repo).pop().expect("one");
        let (place, of, watch) = (target.path().to_owned(), snapshot.clone(), shaky.clone());
        let result = aside(move || {
            let observer: Arc<dyn Observer> = watch;
            restore_as(&repo, &of, &place, &observer, &Interrupt::default())
        });
        if !shaky.is_hit() {
            assert_eq!(result.expect("undisturbed").damaged, 0);
            break;
        }
        assert!(result.is_err(), "{number}");
        let observer: Arc<dyn Observer> = Arc::new(Recorder::default());
        let (repo, stop) = (bench.open(), Interrupt::default());
        let again = restore_as(&repo, &snapshot, target.path(), &observer, &stop);
        assert_eq!(again.expect("the same restore again").damaged, 0);
        assert_eq!(diff(&scene.old_tree, &describe(target.path())), [""; 0]);
    }
    assert_workers_met(&met);
}

/// A source whose so-manieth call panics.
struct Cracked {
    inner: Box<dyn Source>,
    left: u64,
    met: Arc<Mutex<BTreeSet<String>>>,
}

impl Cracked {
    fn step(&mut self) {
        self.left = self.left.wrapping_sub(1);
        if self.left == 0 {
            panic_here(&self.met);
        }
    }
}

impl Source for Cracked {
    fn order(&self) -> Order {
        self.inner.order()
    }

    fn next(&mut self) -> Result<Option<Found>, SourceError> {
        self.step();
        self.inner.next()
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<Run, ReadError> {
        self.step();
        self.inner.read(buffer)
    }

    fn finish(
        &mut self,
    ) -> Result<(volume_vault::entry::Entry, Option<volume_vault::entry::Hint>), ReadError> {
        self.step();
        self.inner.finish()
    }
}

#[test]
fn f010_a_panic_of_the_source_ends_the_backup_and_nothing_is_acknowledged() {
    let (scene, met) = (Scene::new(), fresh());
    let mut last = 0;
    for number in (1..).step_by(5) {
        let bench = scene.bench.fork();
        let (repo, dir, met) = (bench.open(), scene.dir.path().to_owned(), met.clone());
        let result = aside(move || {
            backup_from(&repo, |observer| {
                let inner = walk(&dir, observer)?;
                Ok(Box::new(Cracked { inner, left: number, met }))
            })
        });
        if result.is_ok() {
            last = number;
            break;
        }
        scene.judge(&bench, &result);
    }
    assert!(last > 30, "{last}");
    assert!(!met.lock().expect("no panic holds it").is_empty());
    let repo = scene.bench.open();
    assert_restores(&repo, &scene.old, &scene.old_tree);
}
