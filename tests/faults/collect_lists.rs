//! Collections over stores whose lists lag or hide, and over damage.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use volume_vault::crypto::Payload;
use volume_vault::format::{CondemnRecord, ForgetKind, ObjectKind};
use volume_vault::ops::OpsError;
use volume_vault::repo::RepoError;
use volume_vault::store::{
    CallKind, Listed, MemoryStore, ObjectName, RecordStore, Store, StoreError,
};

use crate::support::garden::{Garden, assert_tidy, at_once, collect, forget, in_a_day, stored};
use crate::support::repo::{backup, open, put_signed, scratch};
use crate::support::tree::describe;

type Change = dyn Fn(&str, &mut Vec<Listed>) -> bool + Send + Sync;

/// A store whose lists are changed on the way; knows whether that came about.
struct LyingStore {
    inner: MemoryStore,
    change: Box<Change>,
    hit: AtomicBool,
}

impl LyingStore {
    fn new(
        inner: &MemoryStore,
        change: impl Fn(&str, &mut Vec<Listed>) -> bool + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { inner: inner.clone(), change: Box::new(change), hit: false.into() })
    }

    fn was_hit(&self) -> bool {
        self.hit.load(Ordering::SeqCst)
    }
}

impl fmt::Debug for LyingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LyingStore")
    }
}

impl Store for LyingStore {
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
        self.inner.get_range(name, at, buffer)
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        let mut listed = self.inner.list(folder)?;
        if (self.change)(folder, &mut listed) {
            self.hit.store(true, Ordering::SeqCst);
        }
        Ok(listed)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.inner.delete(name)
    }
}

/// Takes the listed objects out that `hidden` names; says whether there were any.
fn hide(listed: &mut Vec<Listed>, hidden: &[ObjectName]) -> bool {
    let before = listed.len();
    listed.retain(|object| !hidden.contains(&object.name));
    listed.len() < before
}

fn assert_refused(garden: &Garden, result: Result<volume_vault::ops::prune::Report, OpsError>) {
    let error = result.expect_err("it is refused");
    assert!(matches!(error, OpsError::Repo(RepoError::NotCollected { .. })), "{error:?}");
    let now = stored(&garden.bench.store);
    assert!(garden.before.iter().all(|name| now.contains(name)), "nothing was deleted");
}

#[test]
fn f047_lists_that_lag_less_than_half_of_what_is_waited_lose_nothing() {
    let mut garden = Garden::new();
    let parent = garden.live.remove(0).0;
    forget(&garden.bench.store, &garden.bench.open(), &parent);
    // The backup does not see the condemn record, the collector does not see the backup.
    let before = garden.bench.store.names();
    let new: Arc<Mutex<Vec<ObjectName>>> = Arc::default();
    let stale = before.clone();
    let collector = LyingStore::new(&garden.bench.store, move |folder, listed| {
        let all = listed.len();
        listed.retain(|object| folder != "snapshots" || stale.contains(&object.name));
        listed.len() < all
    });
    let report = {
        let lagging = LyingStore::new(&garden.bench.store, |folder, listed| {
            let any = folder == "gc" && !listed.is_empty();
            if any {
                listed.clear();
            }
            any
        });
        let _ = collect(&open(collector.clone(), scratch().path()).expect("opens"), &in_a_day())
            .expect("it condemns");
        let repo = open(lagging.clone(), garden.bench.home.path()).expect("opens");
        let report = backup(&repo, garden.dir.path()).expect("acknowledged");
        assert!(lagging.was_hit());
        let again =
            collect(&open(collector.clone(), scratch().path()).expect("opens"), &in_a_day());
        assert_eq!(again.expect("it waits").done.packs.objects, 0);
        report
    };
    assert!(collector.was_hit() && new.lock().expect("unused").is_empty());
    assert!(report.bytes_stored < 100_000, "it rests on condemned packs: {}", report.bytes_stored);
    garden.live.push((report.snapshot, describe(garden.dir.path())));
    garden.assert_whole();
    // By the time that anything is deleted, lists show all of it.
    let late = collect(&garden.bench.open(), &at_once()).expect("it collects");
    assert!(late.done.stored.objects > 0, "what only condemned packs hold is stored anew");
    garden.assert_whole();
    garden.assert_collects();
}

#[test]
fn f048_lists_that_still_show_what_was_deleted_are_harmless() {
    let mut garden = Garden::new();
    let listed = |folder: &str| garden.bench.store.list(folder).expect("lists");
    let (packs, segments) = (listed("packs"), listed("index"));
    let _ = collect(&garden.bench.open(), &at_once()).expect("it collects");
    let ghosts = LyingStore::new(&garden.bench.store, move |folder, listed| {
        let old = match folder {
            "packs" => &packs,
            "index" => &segments,
            _ => return false,
        };
        let before = listed.len();
        for object in old {
            if !listed.iter().any(|known| known.name == object.name) {
                listed.push(object.clone());
            }
        }
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        listed.len() > before
    });
    let repo = open(ghosts.clone(), scratch().path()).expect("opens");
    let _ = collect(&repo, &at_once()).expect("it collects");
    let repo = open(ghosts.clone(), scratch().path()).expect("opens");
    let report = backup(&repo, garden.dir.path()).expect("acknowledged");
    assert!(ghosts.was_hit());
    garden.live.push((report.snapshot, describe(garden.dir.path())));
    garden.assert_whole();
    garden.assert_collects();
}

#[test]
fn f077_a_collector_that_sees_half_an_index_condemns_and_deletes_nothing() {
    let garden = Garden::new();
    for segment in garden.bench.names("index") {
        let garden = garden.fork();
        let hidden = vec![segment];
        let store = LyingStore::new(&garden.bench.store, move |_, listed| hide(listed, &hidden));
        let repo = open(store.clone(), scratch().path()).expect("opens");
        let result = collect(&repo, &at_once());
        assert!(store.was_hit());
        // One of the segments holds nothing but what was forgotten.
        if result.is_err() {
            assert_refused(&garden, result);
            assert!(garden.bench.names("gc").is_empty(), "nothing was condemned");
        }
        garden.assert_whole();
        garden.assert_collects();
    }
}

#[test]
fn f077_a_list_that_hides_packs_or_a_segment_only_once_all_is_condemned_deletes_nothing() {
    let garden = Garden::new();
    for folder in ["index", "packs"] {
        let garden = garden.fork();
        let inner = garden.bench.store.clone();
        let store = LyingStore::new(&garden.bench.store, move |at, listed| {
            let condemned = !inner.list("gc").expect("lists").is_empty();
            let any = at == folder && condemned;
            if any {
                listed.clear();
            }
            any
        });
        let repo = open(store.clone(), scratch().path()).expect("opens");
        let result = collect(&repo, &at_once());
        assert!(store.was_hit());
        assert_refused(&garden, result);
        garden.assert_whole();
        garden.assert_collects();
    }
}

#[test]
fn f077_a_hidden_snapshot_that_this_host_has_seen_is_a_rollback_and_nothing_is_collected() {
    let garden = Garden::new();
    let id = garden.live[0].0;
    let hidden: Vec<_> = ["pending", "ok"]
        .map(|end| ObjectName::parse(&format!("snapshots/{id}.{end}")).expect("a name"))
        .into();
    let store = LyingStore::new(&garden.bench.store, move |_, listed| hide(listed, &hidden));
    let repo = open(store.clone(), garden.bench.home.path()).expect("opens");
    let error = collect(&repo, &at_once()).expect_err("refused");
    assert!(matches!(error, OpsError::Repo(RepoError::RolledBack(_))), "{error:?}");
    assert!(store.was_hit());
    assert_eq!(stored(&garden.bench.store), garden.before);
}

/// Damages one object and demands that nothing is condemned or deleted, and that it is named.
fn refused_for(garden: &Garden, name: &ObjectName, at: usize) {
    let garden = garden.fork();
    assert!(garden.bench.store.corrupt(name, |bytes| bytes[at] ^= 0x10), "{name}");
    let names = garden.bench.store.names();
    let recorded = Arc::new(RecordStore::new(garden.bench.store.clone()));
    let repo = open(recorded.clone(), scratch().path()).expect("opens");
    let error = collect(&repo, &at_once()).expect_err("refused");
    let OpsError::Repo(RepoError::NotCollected { object, .. }) = &error else {
        panic!("{name}: {error:?}");
    };
    let of_tree = name.as_str().starts_with("packs/");
    assert!(of_tree || object.split('.').next() == name.as_str().split('.').next(), "{object}");
    assert_eq!(garden.bench.store.names(), names, "{name}");
    assert_eq!(recorded.count(CallKind::Delete), 0);
}

#[test]
fn f078_an_unreadable_record_commit_tree_segment_or_tombstone_stops_all_deletion() {
    let garden = Garden::new();
    let live = garden.live[0].0;
    for end in ["pending", "ok"] {
        let name = ObjectName::parse(&format!("snapshots/{live}.{end}")).expect("a name");
        refused_for(&garden, &name, 40);
    }
    for folder in ["index", "forget"] {
        let names = garden.bench.names(folder);
        assert!(!names.is_empty());
        names.iter().for_each(|name| refused_for(&garden, name, 40));
    }
    // The tree of a live snapshot: its only copy of the root lies in a pack of trees.
    let repo = garden.bench.open();
    let index = repo.load_index().expect("loads");
    let root = crate::support::repo::listed(&repo, &live).expect("listed").items()[0].root;
    let place = index.find(&root).expect("finds").expect("stored");
    let name = volume_vault::repo::pack_name(&index.pack(place.pack).id);
    refused_for(&garden, &name, place.frame_offset as usize + 30);
}

#[test]
fn f078_an_unreadable_condemn_record_stops_all_deletion() {
    let garden = Garden::new();
    let _ = collect(&garden.bench.open(), &in_a_day()).expect("it condemns");
    let names = garden.bench.names("gc");
    assert_eq!(names.len(), 1);
    refused_for(&garden, &names[0], 40);
    garden.assert_collects();
}

#[test]
fn f078_a_record_without_a_commit_that_cannot_be_read_stops_all_until_it_is_expired() {
    let garden = Garden::new();
    let id = "ab".repeat(32);
    let name = ObjectName::parse(&format!("snapshots/{id}.pending")).expect("a name");
    garden.bench.store.insert_raw(name, vec![0; 100]);
    assert_refused(&garden, collect(&garden.bench.open(), &at_once()));
    let store = &garden.bench.store;
    crate::support::repo::put_signed(
        store,
        &garden.bench.open(),
        volume_vault::format::ObjectKind::Forget,
        &format!("forget/{id}"),
        &volume_vault::format::ForgetRecord {
            snapshot: id.parse().expect("an id"),
            kind: ForgetKind::Expire,
            writer: volume_vault::id::WriterId::new([0; 16]),
            sequence: 0,
            record: volume_vault::id::RecordHash::new([0; 32]),
            round: 0,
        }
        .encode(),
    );
    let _ = collect(&garden.bench.open(), &at_once()).expect("it collects");
    garden.assert_whole();
    assert_tidy(&garden.bench.open());
}

#[test]
fn f047_packs_that_only_condemned_segments_name_are_emptied_and_go() {
    // As a collector leaves it to which a list that lagged showed a segment and none of its packs.
    for segment in 0..Garden::new().bench.names("index").len() {
        let garden = Garden::new();
        let id = garden.bench.names("index")[segment].base().parse().expect("a segment");
        let record = CondemnRecord { packs: Vec::new(), segments: vec![id] };
        let (kind, name) = (ObjectKind::Condemn, format!("gc/{:032x}.condemn", 1));
        let repo = garden.bench.open();
        put_signed(&garden.bench.store, &repo, kind, &name, &record.encode());
        garden.assert_collects();
    }
}
