//! Restores that are ended at every step, and repositories whose packs cannot be read.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use volume_vault::crypto::Payload;
use volume_vault::event::{Counters, Observer, Recorder, Warning};
use volume_vault::ops::restore::RestoreReport;
use volume_vault::ops::{Interrupt, OpsError};
use volume_vault::repo::{RepoError, Repository, Snapshot};
use volume_vault::sink::{MARKER_NAME, SinkError};
use volume_vault::store::{
    CallKind, Fault, FaultPlan, Listed, MemoryStore, ObjectName, Store, StoreError,
};

use crate::support::repo::{
    Scene, assert_restores, backup, listed, open, reader, restore_as, scratch,
};
use crate::support::tree::{Tree, describe, diff};

/// Asks to stop once so many entries or bytes were brought back.
struct StopAt {
    inner: Recorder,
    entries: u64,
    bytes: u64,
    interrupt: Interrupt,
}

impl Observer for StopAt {
    fn counters(&self) -> &Counters {
        // Asked for before each step forward is counted.
        let counters = self.inner.counters();
        let (entries, bytes) = (Counters::get(&counters.entries), Counters::get(&counters.bytes));
        if entries >= self.entries && bytes >= self.bytes {
            self.interrupt.request();
        }
        counters
    }

    fn warn(&self, warning: Warning) {
        self.inner.warn(warning);
    }
}

fn plain(
    repo: &Arc<Repository>,
    snapshot: &Snapshot,
    to: &Path,
) -> Result<RestoreReport, OpsError> {
    let observer: Arc<dyn Observer> = Arc::new(Recorder::default());
    restore_as(repo, snapshot, to, &observer, &Interrupt::default())
}

/// A target that holds a part of `snapshot` says so; only the same restore goes on, and ends well.
fn assert_resumes(
    repo: &Arc<Repository>,
    snapshot: &Snapshot,
    other: &Snapshot,
    to: &Path,
    tree: &Tree,
) {
    let marker = std::fs::read_to_string(to.join(MARKER_NAME)).expect("the marker stays");
    assert!(marker.contains(&snapshot.id.to_string()), "{marker}");
    let before = describe(to);
    let refused = plain(repo, other, to).expect_err("another restore is refused");
    assert!(matches!(refused, OpsError::Sink(SinkError::Refused(_))), "{refused:?}");
    assert_eq!(diff(&before, &describe(to)), [""; 0], "and changes nothing");
    assert_eq!(plain(repo, snapshot, to).expect("the same one ends well").damaged, 0);
    assert_eq!(diff(tree, &describe(to)), [""; 0]);
}

#[test]
fn f004_a_restore_interrupted_after_any_entry_is_marked_and_ends_well_when_run_again() {
    let scene = Scene::new();
    let repo = scene.bench.open();
    let new = backup(&repo, scene.dir.path()).expect("acknowledged");
    let find = |id| listed(&repo, id).expect("listed");
    let (snapshot, other) = (find(&new.snapshot), find(&scene.old));
    let outside = scratch();
    std::fs::write(outside.path().join("sentinel"), "stays").expect("written");
    let sentinel = describe(outside.path());
    let total = new.item.facts.entries;
    assert!(total > 20, "{total} entries");
    let mut interrupted = 0;
    let steps = (0..total).map(|entries| (entries, 0));
    for (entries, bytes) in steps.chain((0..8).map(|step| (0, step << 19))) {
        let target = outside.path().join("target");
        std::fs::create_dir(&target).expect("made");
        let interrupt = Interrupt::default();
        let stop =
            StopAt { inner: Recorder::default(), entries, bytes, interrupt: interrupt.clone() };
        let observer: Arc<dyn Observer> = Arc::new(stop);
        match restore_as(&repo, &snapshot, &target, &observer, &interrupt) {
            Err(OpsError::Interrupted) => {
                interrupted += 1;
                assert_resumes(&repo, &snapshot, &other, &target, &scene.tree);
            }
            // Nothing looks at the request after the last window.
            Ok(_) => assert_eq!(diff(&scene.tree, &describe(&target)), [""; 0]),
            Err(error) => panic!("{entries} entries: {error}"),
        }
        std::fs::remove_dir_all(&target).expect("removed");
    }
    assert!(interrupted > 5, "{interrupted} interrupted");
    // O8, but for the directory that the target was made in.
    let mut after = describe(outside.path());
    let _ = after.insert(Vec::new(), sentinel[&Vec::new()].clone());
    assert_eq!(diff(&sentinel, &after), [""; 0]);
}

#[test]
fn f004_a_restore_whose_store_ends_at_any_call_is_marked_and_ends_well_when_run_again() {
    let scene = Scene::new();
    let repo = scene.bench.open();
    let new = backup(&repo, scene.dir.path()).expect("acknowledged");
    let find = |id| listed(&repo, id).expect("listed");
    let (snapshot, other) = (find(&new.snapshot), find(&scene.old));
    let mut marked = 0;
    for number in 1.. {
        let plan = FaultPlan::none().and(
            Some(CallKind::GetRange),
            "packs/",
            number..=number,
            Fault::StopBefore,
        );
        let store = scene.bench.disturbed(plan);
        let disturbed = open(store.clone(), scene.bench.home.path()).expect("opens");
        let target = scratch();
        let result = plain(&disturbed, &snapshot, target.path());
        if store.hits().is_empty() {
            let _ = result.expect("undisturbed");
            break;
        }
        assert!(result.is_err(), "range {number}");
        assert_resumes(&repo, &snapshot, &other, target.path(), &scene.tree);
        marked += 1;
    }
    assert!(marked >= 5, "{marked} ranges");
}

#[test]
fn f022_a_range_that_fails_to_read_once_is_read_again_or_named() {
    let scene = Scene::new();
    let repo = scene.bench.open();
    let snapshot = listed(&repo, &scene.old).expect("listed");
    let (mut restored, mut named) = (0, 0);
    for number in 1.. {
        let plan = FaultPlan::at_kind(CallKind::GetRange, number, Fault::FailBefore);
        let store = scene.bench.disturbed(plan);
        let disturbed = open(store.clone(), scene.bench.home.path()).expect("opens");
        let target = scratch();
        let result = plain(&disturbed, &snapshot, target.path());
        let Some(hit) = store.hits().pop() else { break };
        match result {
            Ok(report) => {
                assert_eq!(report.damaged, 0);
                assert_eq!(diff(&scene.old_tree, &describe(target.path())), [""; 0]);
                restored += 1;
            }
            Err(OpsError::Repo(RepoError::Store(StoreError::Io { action, .. }))) => {
                assert!(action.contains(&hit.call.target), "{action}");
                named += 1;
            }
            Err(error) => panic!("range {number}: {error:?}"),
        }
    }
    assert!(restored >= 2, "{restored} read again, {named} named");
    assert_restores(&repo, &scene.old, &scene.old_tree);
}

#[test]
fn f022_a_store_that_fails_for_good_ends_the_restore_and_is_named() {
    let scene = Scene::new();
    let repo = scene.bench.open();
    let new = backup(&repo, scene.dir.path()).expect("acknowledged");
    let snapshot = listed(&repo, &new.snapshot).expect("listed");
    // The pack that holds what only the file `new` needs: none of the first backup.
    let pack = pack_of_file(&repo, &snapshot, b"new");
    let plan =
        FaultPlan::none().and(Some(CallKind::GetRange), &pack, 1..=u64::MAX, Fault::FailBefore);
    let store = scene.bench.disturbed(plan);
    let disturbed = open(store.clone(), scene.bench.home.path()).expect("opens");
    let target = scratch();
    let recorder = Arc::new(Recorder::default());
    let observer: Arc<dyn Observer> = recorder.clone();
    let result = restore_as(&disturbed, &snapshot, target.path(), &observer, &Interrupt::default());
    assert!(store.hits().len() > 1, "it was tried again");
    // The store may be gone for good or for a moment: the restore ends, named, and its target says
    // so. Nothing of it counts as restored.
    let error = result.expect_err("the store failed");
    let OpsError::Repo(RepoError::Store(StoreError::Io { action, .. })) = &error else {
        panic!("{error:?}")
    };
    assert!(action.contains(&pack), "{action}");
    assert!(target.path().join(MARKER_NAME).exists());
    assert_restores(&repo, &new.snapshot, &scene.tree);
}

/// Fails to read one pack, as a disk with a bad sector does or a store that lost it.
#[derive(Debug)]
struct Sick {
    inner: MemoryStore,
    pack: String,
    lost: bool,
    hits: AtomicU64,
}

impl Store for Sick {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn put(&self, name: &ObjectName, payload: &Payload) -> Result<(), StoreError> {
        self.inner.put(name, payload)
    }

    fn get(&self, name: &ObjectName, size_max: u64) -> Result<Vec<u8>, StoreError> {
        self.inner.get(name, size_max)
    }

    fn get_range(&self, name: &ObjectName, at: u64, buffer: &mut [u8]) -> Result<(), StoreError> {
        if name.as_str() != self.pack {
            return self.inner.get_range(name, at, buffer);
        }
        let _ = self.hits.fetch_add(1, Ordering::Relaxed);
        Err(match self.lost {
            true => StoreError::NotFound(name.clone()),
            false => StoreError::Io {
                action: format!("read `{name}`"),
                location: self.location(),
                source: std::io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()),
            },
        })
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        self.inner.list(folder)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.inner.delete(name)
    }
}

#[test]
fn f022_a_pack_that_cannot_be_read_costs_the_files_in_it_and_they_are_named() {
    let scene = Scene::new();
    let repo = scene.bench.open();
    let new = backup(&repo, scene.dir.path()).expect("acknowledged");
    let snapshot = listed(&repo, &new.snapshot).expect("listed");
    let pack = pack_of_file(&repo, &snapshot, b"new");
    for lost in [false, true] {
        let inner = scene.bench.store.clone();
        let store = Arc::new(Sick { inner, pack: pack.clone(), lost, hits: AtomicU64::new(0) });
        let sick = open(store.clone(), scene.bench.home.path()).expect("opens");
        let target = scratch();
        let recorder = Arc::new(Recorder::default());
        let observer: Arc<dyn Observer> = recorder.clone();
        let done = restore_as(&sick, &snapshot, target.path(), &observer, &Interrupt::default());
        assert!(done.expect("the others are restored").damaged > 0);
        assert!(store.hits.load(Ordering::Relaxed) > 1, "it was tried again");
        assert_others_restored(&scene, target.path(), &recorder);
        assert!(recorder.warnings()[0].message.contains(&pack), "{:?}", recorder.warnings());
    }
    assert_restores(&repo, &new.snapshot, &scene.tree);
}

/// All is there but what the warnings name, and that is not.
fn assert_others_restored(scene: &Scene, target: &Path, recorder: &Recorder) {
    let warned: Vec<_> = recorder.warnings().into_iter().map(|w| w.object).collect();
    assert!(warned.contains(&b"new".to_vec()), "{warned:?}");
    let lines = diff(&scene.tree, &describe(target));
    let missing: Vec<_> = lines.iter().filter(|line| line.ends_with(": missing")).collect();
    assert_eq!(lines.len(), missing.len(), "{lines:?}");
    assert_eq!(missing.len(), warned.len(), "{lines:?}");
}

#[test]
fn f022_a_pack_that_is_damaged_costs_the_files_in_it_and_they_are_named() {
    let scene = Scene::new();
    let repo = scene.bench.open();
    let new = backup(&repo, scene.dir.path()).expect("acknowledged");
    let snapshot = listed(&repo, &new.snapshot).expect("listed");
    let pack = pack_of_file(&repo, &snapshot, b"new");
    let name = volume_vault::store::ObjectName::parse(&pack).expect("a name");
    assert!(scene.bench.store.corrupt(&name, |bytes| {
        // The header stays; all frames differ.
        let middle = bytes.len() / 8..bytes.len() / 8 * 7;
        bytes[middle].iter_mut().for_each(|b| *b ^= 1);
    }));
    let target = scratch();
    let recorder = Arc::new(Recorder::default());
    let observer: Arc<dyn Observer> = recorder.clone();
    let report =
        restore_as(&scene.bench.open(), &snapshot, target.path(), &observer, &Interrupt::default());
    assert!(report.expect("the others are restored").damaged > 0);
    assert_others_restored(&scene, target.path(), &recorder);
    assert_restores(&scene.bench.open(), &scene.old, &scene.old_tree);
}

/// Name of the pack that a file's first chunk lies in.
fn pack_of_file(repo: &Arc<Repository>, snapshot: &Snapshot, path: &[u8]) -> String {
    use volume_vault::entry::{EntryPath, Extent};
    use volume_vault::repo::{ContentWalk, TreeWalk};
    let reader = reader(repo);
    let item = &snapshot.items()[0];
    let path = EntryPath::from_slashed(path).expect("a path");
    let found = TreeWalk::find(&reader, item.root, item.root_level, &path).expect("reads");
    let stored = found.expect("the file is there");
    let mut extents = ContentWalk::new(&reader, &stored.content);
    let id = loop {
        match extents.next().expect("reads").expect("the file has a chunk") {
            Extent::Chunk(id, _) => break id,
            Extent::Zeros(_) => {}
        }
    };
    let place = reader.index().find(&id).expect("finds").expect("a place");
    let pack = reader.index().pack(place.pack).id.to_string();
    format!("packs/{}/{pack}", &pack[..2])
}
