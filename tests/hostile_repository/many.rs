//! Objects without number: every one is read once, and nothing is read that need not be.

use std::sync::Arc;

use volume_vault::event::{Observer, Recorder};
use volume_vault::format::{CondemnRecord, ObjectKind, PackKind};
use volume_vault::id::{PackId, WriterId};
use volume_vault::ops::Interrupt;
use volume_vault::ops::forget::{ForgetOptions, Policy, Selection, SeriesFilter, plan, run};
use volume_vault::repo::{Session, SnapshotList, WriterOptions};
use volume_vault::store::{CallKind, RecordStore};

use crate::support::builder::{Builder, root};

const CONDEMNS: usize = 20_000;
const SNAPSHOTS: usize = 600;

/// Names of the objects below `folder` that were read.
fn read(store: &RecordStore<volume_vault::store::MemoryStore>, folder: &str) -> usize {
    let ours = |name: &&String| name.starts_with(folder);
    store.targets(CallKind::Get).iter().filter(ours).count()
}

#[test]
fn f097_every_condemn_record_is_read_once_a_run() {
    let mut builder = Builder::new();
    let item = builder.tree(&[root()]);
    let _ = builder.publish();
    let message = CondemnRecord { packs: vec![PackId::new([7; 32])], segments: Vec::new() };
    let sealed = builder.sealed(ObjectKind::Condemn, &message.encode());
    for number in 0..CONDEMNS {
        let _ = builder.put(&format!("gc/{number}.condemn"), sealed.clone());
        let _ = builder.put(&format!("gc/{number}.done"), Vec::new());
    }
    let store = Arc::new(RecordStore::new(builder.store.clone()));
    let repo = builder.open_at(&builder.host("h"), store.clone()).expect("it opens");
    store.clear();
    let observer: Arc<dyn Observer> = Arc::new(Recorder::default());
    let session = Session::begin(&repo, &observer).expect("begins");
    assert_eq!(read(&store, "gc/"), CONDEMNS, "each once, and no `.done` at all");
    let committed = session.commit(&builder.body(vec![item]), WriterOptions::default());
    let _ = committed.expect("commits");
    assert_eq!(read(&store, "gc/"), CONDEMNS, "those known are not read again");
    assert!(store.count(CallKind::List) <= 8, "{:?}", store.targets(CallKind::List));
}

#[test]
fn f097_every_snapshot_is_read_once_a_listing() {
    let mut builder = Builder::new();
    let item = builder.tree(&[root()]);
    let _ = builder.publish();
    for _ in 0..SNAPSHOTS {
        let _ = builder.snapshot(vec![item.clone()]);
    }
    // As many commits of nothing, which are not read.
    for number in 0..SNAPSHOTS {
        let _ = builder.put(&format!("snapshots/{number:064x}.ok"), Vec::new());
    }
    let store = Arc::new(RecordStore::new(builder.store.clone()));
    let repo = builder.open_at(&builder.host("h"), store.clone()).expect("it opens");
    store.clear();
    let list = SnapshotList::load(&repo).expect("lists");
    assert_eq!((list.snapshots.len(), list.damaged.len()), (SNAPSHOTS, SNAPSHOTS));
    assert_eq!(read(&store, "snapshots/"), 2 * SNAPSHOTS);
    assert_eq!(store.count(CallKind::List), 2, "snapshots and tombstones");
}

#[test]
fn f097_names_without_number_that_are_no_objects_are_not_read() {
    let builder = Builder::new();
    for number in 0..4000 {
        for folder in ["keys", "config", "packs/aa", "index", "snapshots", "forget", "gc"] {
            let _ = builder.put(&format!("{folder}/stray-{number}"), Vec::new());
        }
    }
    let store = Arc::new(RecordStore::new(builder.store.clone()));
    let repo = builder.open_at(&builder.host("h"), store.clone()).expect("it opens");
    let list = SnapshotList::load(&repo).expect("lists");
    assert!(list.snapshots.is_empty() && list.damaged.is_empty());
    let index = repo.load_index().expect("loads");
    assert!(index.find(&builder.chunk_id(PackKind::Data, b"x")).expect("reads").is_none());
    // The head, the slot and the configuration.
    assert_eq!(store.count(CallKind::Get), 3, "{:?}", store.targets(CallKind::Get));
}

#[test]
fn f097_every_segment_is_read_once_a_host() {
    let mut builder = Builder::new();
    let ids: Vec<_> = (0..200u32)
        .map(|number| {
            let id = builder.data(&number.to_le_bytes());
            let _ = builder.publish();
            id
        })
        .collect();
    let store = Arc::new(RecordStore::new(builder.store.clone()));
    let repo = builder.open_at(&builder.host("h"), store.clone()).expect("it opens");
    store.clear();
    for _ in 0..3 {
        let index = repo.load_index().expect("loads");
        assert!(ids.iter().all(|id| index.find(id).expect("reads").is_some()));
    }
    assert_eq!(read(&store, "index/"), 200);
}

#[test]
fn f122_many_tombstones_cost_a_put_and_a_get_each_and_are_read_once_a_listing() {
    const MANY: usize = 1_000;
    let mut builder = Builder::new();
    let item = builder.tree(&[root()]);
    let _ = builder.publish();
    for number in 0..MANY {
        if number % (MANY / 10) == 0 {
            builder
                .start_writer(WriterId::new([u8::try_from(number * 10 / MANY).expect("ten"); 16]));
        }
        let _ = builder.snapshot(vec![item.clone()]);
    }
    let store = Arc::new(RecordStore::new(builder.store.clone()));
    let repo = builder.open_at(&builder.host("h"), store.clone()).expect("it opens");
    let policy = Policy { last: 7, ..Policy::default() };
    let options = ForgetOptions {
        selection: Selection::Series(SeriesFilter::default(), policy),
        drilled: Default::default(),
        zone: jiff::tz::TimeZone::UTC,
    };
    let plan = plan(&repo, &options).expect("planned");
    store.clear();
    let report = run(&repo, &plan, &Interrupt::default());
    assert!(report.error.is_none(), "{:?}", report.error);
    assert_eq!(report.forgotten.len(), MANY - 7);
    let calls = [CallKind::List, CallKind::Put, CallKind::Get, CallKind::Delete];
    // Two more gets: the newest that stays is read, its record and its commit.
    assert_eq!(calls.map(|kind| store.count(kind)), [0, MANY - 7, MANY - 5, 0]);
    store.clear();
    assert_eq!(SnapshotList::load(&repo).expect("lists").snapshots.len(), 7);
    assert_eq!((store.count(CallKind::List), store.count(CallKind::Get)), (2, 0));
    let other = builder.open_at(&builder.host("other"), store.clone()).expect("it opens");
    for gets in [MANY - 7 + 2 * 7, 0] {
        store.clear();
        assert_eq!(SnapshotList::load(&other).expect("lists").snapshots.len(), 7);
        assert_eq!((store.count(CallKind::List), store.count(CallKind::Get)), (2, gets));
    }
}

#[test]
#[ignore = "writes 10,000 snapshots of 100 writers below $F122_DIR, to be measured by hand"]
#[expect(clippy::disallowed_methods, reason = "whoever measures says where there is room")]
fn f122_ten_thousand_snapshots_to_be_measured() {
    let dir = std::path::PathBuf::from(std::env::var_os("F122_DIR").expect("a folder"));
    let mut builder = Builder::new();
    let item = builder.tree(&[root()]);
    let _ = builder.publish();
    for number in 0..10_000u32 {
        if number % 100 == 0 {
            let writer = u8::try_from(number / 100).expect("a hundred writers");
            builder.start_writer(WriterId::new([writer; 16]));
        }
        builder.renew_run();
        let _ = builder.snapshot(vec![item.clone()]);
    }
    builder.write_to(&dir.join("repository"), &dir.join("key"));
}
