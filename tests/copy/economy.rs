//! What a copy asks of the two stores, counted.

use std::sync::Arc;

use volume_vault::event::{Observer, Recorder};
use volume_vault::format::PackKind;
use volume_vault::ops::Interrupt;
use volume_vault::ops::copy::{ForgottenThere, plan};
use volume_vault::repo::{Repository, Snapshot, SnapshotList, pack_name};
use volume_vault::store::{CallKind, MemoryStore, RecordStore, Store as _};

use super::{copy, copy_as, options};
use crate::support::damage::{pack_of_file, packs_of};
use crate::support::garden::forget;
use crate::support::repo::{Bench, Scene, assert_restores, backup, open};

/// A repository whose calls are counted.
struct Counted {
    store: Arc<RecordStore<MemoryStore>>,
    repo: Arc<Repository>,
}

impl Counted {
    fn of(bench: &Bench) -> Self {
        let store = Arc::new(RecordStore::new(bench.store.clone()));
        let repo = open(store.clone(), bench.home.path()).expect("opens");
        Self { store, repo }
    }

    /// Bytes that were read of these objects, or of all packs.
    fn read_of(&self, wanted: impl Fn(&str) -> bool) -> u64 {
        let reads = [CallKind::Get, CallKind::GetRange];
        let calls = self.store.calls();
        let ours = calls.iter().filter(|call| reads.contains(&call.kind) && wanted(&call.target));
        ours.map(|call| call.bytes).sum()
    }

    fn pack_bytes_read(&self) -> u64 {
        self.read_of(|name| name.starts_with("packs/"))
    }

    fn puts(&self) -> usize {
        self.store.count(CallKind::Put)
    }
}

#[test]
fn of_the_next_snapshot_only_changed_files_are_read() {
    let scene = Scene::new();
    let there = Bench::new();
    let (from, to) = (Counted::of(&scene.bench), Counted::of(&there));
    let first = copy(&from.repo, &to.repo).expect("copied");
    assert!(first.copied[0].bytes_read > 5 << 19, "{:?}", first.copied);
    let _ = backup(&scene.bench.open(), scene.dir.path()).expect("saved");
    let data = packs_of(&scene.bench, PackKind::Data);
    let is_data = |target: &str| data.iter().any(|name| name.as_str() == target);
    from.store.clear();
    let second = copy(&from.repo, &to.repo).expect("copied");
    // Of a mebibyte and a line that are new.
    assert_eq!(second.copied[0].bytes_read, (1 << 20) + 8);
    let read = from.read_of(is_data);
    assert!(read > 1 << 20 && read < 1_200_000, "{read} bytes of data packs");
    assert_restores(&to.repo, &second.copied[0].snapshot, &scene.tree);
}

#[test]
fn of_an_older_snapshot_only_what_a_younger_one_does_not_have_is_read() {
    let scene = Scene::new();
    let (from, to) = (scene.bench.open(), Bench::new().open());
    let second = backup(&from, scene.dir.path()).expect("saved").snapshot;
    let list = SnapshotList::load(&from).expect("lists");
    let wanted = |snapshot: &Snapshot| snapshot.id == second;
    let plan = plan(&from, &list, &to, &wanted, ForgottenThere::Skip).expect("planned");
    let observer: Arc<dyn Observer> = Arc::new(Recorder::default());
    let done = copy_as(&from, &to, plan, options(), &observer, &Interrupt::default());
    assert_eq!(done.expect("copied").copied[0].from, second);
    let done = copy(&from, &to).expect("copied");
    assert_eq!((done.copied[0].from, done.passed), (scene.old, 1));
    // Two lines: of the file that was changed and the one that was removed.
    assert_eq!(done.copied[0].bytes_read, 26);
    assert_restores(&to, &done.copied[0].snapshot, &scene.old_tree);
}

#[test]
fn what_was_copied_and_then_forgotten_here_still_tells_what_has_changed() {
    let scene = Scene::new();
    let (from, to) = (scene.bench.open(), Bench::new().open());
    let _ = copy(&from, &to).expect("copied");
    let _ = backup(&from, scene.dir.path()).expect("saved");
    forget(&scene.bench.store, &from, &scene.old);
    let done = copy(&from, &to).expect("copied");
    assert_eq!((done.copied.len(), done.passed), (1, 0));
    assert_eq!(done.copied[0].bytes_read, (1 << 20) + 8);
    assert_restores(&to, &done.copied[0].snapshot, &scene.tree);
}

#[test]
fn of_an_unchanged_snapshot_nothing_is_read_and_only_its_record_is_stored() {
    let scene = Scene::new();
    let there = Bench::new();
    let (from, to) = (Counted::of(&scene.bench), Counted::of(&there));
    let _ = backup(&from.repo, scene.dir.path()).expect("saved");
    let _ = copy(&from.repo, &to.repo).expect("copied");
    let _ = backup(&from.repo, scene.dir.path()).expect("saved");
    from.store.clear();
    to.store.clear();
    let done = copy(&from.repo, &to.repo).expect("copied");
    assert_eq!(from.pack_bytes_read(), 0);
    assert_eq!((done.copied[0].bytes_read, done.copied[0].bytes_new), (0, 0));
    // Its record and its commit.
    assert_eq!(to.puts(), 2);
    assert_restores(&to.repo, &done.copied[0].snapshot, &scene.tree);
}

#[test]
fn a_copy_of_what_is_there_already_reads_no_pack_and_stores_nothing() {
    let scene = Scene::new();
    let there = Bench::new();
    let (from, to) = (Counted::of(&scene.bench), Counted::of(&there));
    let _ = copy(&from.repo, &to.repo).expect("copied");
    from.store.clear();
    to.store.clear();
    let done = copy(&from.repo, &to.repo).expect("nothing to copy");
    assert_eq!((done.copied.len(), done.passed), (0, 1));
    assert_eq!((from.pack_bytes_read(), to.pack_bytes_read(), to.puts()), (0, 0, 0));
}

#[test]
fn what_the_other_repository_has_lost_since_is_copied_again() {
    let scene = Scene::new();
    let there = Bench::new();
    let (from, to) = (scene.bench.open(), there.open());
    let first = copy(&from, &to).expect("copied").copied[0].snapshot;
    let lost = pack_name(&pack_of_file(&to, &first, "big"));
    for _ in 0..2 {
        let _ = backup(&from, scene.dir.path()).expect("saved");
    }
    there.store.delete(&lost).expect("deleted");
    let to = there.open();
    let done = copy(&from, &to).expect("copied");
    // Of the second what is new and what was lost; the third is as the second.
    assert!(done.copied[0].bytes_read > (1 << 20) + 8, "{:?}", done.copied[0]);
    assert_eq!(done.copied[1].bytes_read, 0);
    for copied in &done.copied {
        assert_restores(&to, &copied.snapshot, &scene.tree);
    }
    // Nothing has changed since, and something is lost once more.
    let lost = pack_name(&pack_of_file(&to, &done.copied[1].snapshot, "big"));
    let _ = backup(&from, scene.dir.path()).expect("saved");
    there.store.delete(&lost).expect("deleted");
    let to = there.open();
    let done = copy(&from, &to).expect("copied");
    assert!(done.copied[0].bytes_read > 0);
    assert_restores(&to, &done.copied[0].snapshot, &scene.tree);
}
