//! What a backup costs when nothing has changed, counted in calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use volume_vault::entry::{Entry, Hint};
use volume_vault::source::{Found, Order, ReadError, Run, Source, SourceError};
use volume_vault::store::{CallKind, MemoryStore, RecordStore};

use crate::support::repo::{
    Bench, Scene, backup, backup_from, make_tree, noise, open, scratch, walk,
};

/// Counts how often content is asked for.
struct Counting {
    inner: Box<dyn Source>,
    reads: Arc<AtomicU64>,
}

impl Source for Counting {
    fn order(&self) -> Order {
        self.inner.order()
    }

    fn next(&mut self) -> Result<Option<Found>, SourceError> {
        self.inner.next()
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<Run, ReadError> {
        let _ = self.reads.fetch_add(1, Ordering::Relaxed);
        self.inner.read(buffer)
    }

    fn finish(&mut self) -> Result<(Entry, Option<Hint>), ReadError> {
        self.inner.finish()
    }
}

fn recorded(bench: &Bench) -> Arc<RecordStore<MemoryStore>> {
    Arc::new(RecordStore::new(bench.store.clone()))
}

#[test]
fn a_second_backup_of_an_unchanged_tree_reads_no_content_and_stores_two_records() {
    let (bench, dir) = (Bench::new(), scratch());
    make_tree(dir.path());
    let first = backup(&bench.open(), dir.path()).expect("acknowledged");
    assert!(first.item.facts.bytes_read > 2 << 20);
    let store = recorded(&bench);
    let repo = open(store.clone(), bench.home.path()).expect("opens");
    let reads = Arc::new(AtomicU64::new(0));
    let counted = reads.clone();
    let second = backup_from(&repo, |observer| {
        Ok(Box::new(Counting { inner: walk(dir.path(), observer)?, reads: counted }))
    });
    let second = second.expect("acknowledged");
    assert_eq!(reads.load(Ordering::Relaxed), 0);
    assert_eq!((second.item.facts.bytes_read, second.packs), (0, 0));
    assert_eq!((second.item.root, second.parent), (first.item.root, Some(first.snapshot)));
    assert_eq!(second.item.facts.entries_unchanged, first.item.facts.entries);
    let records = ["pending", "ok"].map(|end| format!("snapshots/{}.{end}", second.snapshot));
    assert_eq!(store.targets(CallKind::Put), records);
    assert_eq!(store.count(CallKind::Delete), 0);
}

#[test]
fn the_calls_of_an_unchanged_backup_do_not_grow_with_the_data() {
    let calls = |len: usize| {
        let (bench, dir) = (Bench::new(), scratch());
        std::fs::write(dir.path().join("big"), noise(1, len)).expect("written");
        let _ = backup(&bench.open(), dir.path()).expect("acknowledged");
        let store = recorded(&bench);
        let repo = open(store.clone(), bench.home.path()).expect("opens");
        let report = backup(&repo, dir.path()).expect("acknowledged");
        assert_eq!(report.item.facts.bytes_read, 0);
        let kinds = [CallKind::Get, CallKind::List, CallKind::Put, CallKind::GetRange];
        kinds.map(|kind| store.count(kind))
    };
    let (small, large) = (calls(64 << 10), calls(8 << 20));
    // The head and the slot. This host has the configuration, and the snapshot before.
    assert_eq!(small[0], 2);
    // Slots, configurations, snapshots and tombstones; condemned, segments, packs; B4; B6.
    assert_eq!(small[1], 9);
    assert_eq!(small[2], 2);
    assert_eq!(large[..3], small[..3]);
    assert!(large[3] <= small[3] + 2, "frames read: {} and {}", small[3], large[3]);
}

#[test]
fn a_small_change_stores_little_more_than_itself() {
    let scene = Scene::new();
    let store = recorded(&scene.bench);
    let repo = open(store.clone(), scene.bench.home.path()).expect("opens");
    let report = backup(&repo, scene.dir.path()).expect("acknowledged");
    // One file of 1 MiB is new, one of a few bytes changed.
    let facts = &report.item.facts;
    assert_eq!(facts.bytes_read, (1 << 20) + 8);
    assert_eq!(facts.bytes_new, facts.bytes_read);
    let put = store.bytes(CallKind::Put);
    assert!((1 << 20..5 << 18).contains(&put), "{put} bytes put");
    assert_eq!(put, report.bytes_stored);
}
