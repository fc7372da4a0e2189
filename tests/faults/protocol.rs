//! Collectors that condemn packs while a backup is under way, and writers that were cloned.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use volume_vault::format::{CondemnRecord, ForgetKind, ForgetRecord, ObjectKind};
use volume_vault::id::{RecordHash, SnapshotId, WriterId};
use volume_vault::ops::OpsError;
use volume_vault::ops::backup::BackupReport;
use volume_vault::repo::{RepoError, Repository};
use volume_vault::store::{CallKind, Fault, FaultPlan, FaultStore, MemoryStore, ObjectName, Store};

use crate::support::repo::{
    Bench, Scene, assert_restores, backup, change_tree, check, copy, is_uncondemned, list, listed,
    make_tree, noise, open, put_signed, scratch,
};
use crate::support::tree::describe;

/// Names of objects in a folder.
pub(super) fn names(store: &MemoryStore, folder: &str) -> Vec<ObjectName> {
    store.list(folder).expect("lists").into_iter().map(|object| object.name).collect()
}

/// Condemns packs and segments by their names, as a collector's G2.
pub(super) fn condemn(
    store: &MemoryStore,
    repo: &Repository,
    packs: &[ObjectName],
    segments: &[ObjectName],
) {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let record = CondemnRecord {
        packs: packs.iter().map(|name| name.base().parse().expect("a pack")).collect(),
        segments: segments.iter().map(|name| name.base().parse().expect("a segment")).collect(),
    };
    let name = format!("gc/{:032x}.condemn", LAST.fetch_add(1, Ordering::Relaxed));
    put_signed(store, repo, ObjectKind::Condemn, &name, &record.encode());
}

pub(super) fn delete(store: &MemoryStore, names: &[ObjectName]) {
    names.iter().for_each(|name| store.delete(name).expect("deleted"));
}

/// What a collector does: given the store, an open repository, and the packs and segments that
/// were there before the backup began.
type Collect = dyn Fn(&MemoryStore, &Repository, &[ObjectName], &[ObjectName]) + Send + Sync;

/// Backs up while `collect` runs at listings of `gc/` by number; B1 lists it first, B4 second.
fn collected(
    scene: &Scene,
    rounds: std::ops::RangeInclusive<u64>,
    collect: Arc<Collect>,
) -> (Arc<FaultStore<MemoryStore>>, Result<BackupReport, OpsError>) {
    let store = scene.bench.store.clone();
    let repo = scene.bench.open();
    let (packs, segments) = (names(&store, "packs"), names(&store, "index"));
    let hook = move |_: &_| collect(&store, &repo, &packs, &segments);
    let plan =
        FaultPlan::none().and(Some(CallKind::List), "gc", rounds, Fault::Delay(Arc::new(hook)));
    let store = scene.bench.disturbed(plan);
    let repo = open(store.clone(), scene.bench.home.path()).expect("opens");
    let result = backup(&repo, scene.dir.path());
    assert!(!store.hits().is_empty(), "the collector came between");
    (store, result)
}

/// The snapshot was rescued: it needs nothing that is condemned, and restores once that is gone.
fn assert_rescued(scene: &Scene, snapshot: &SnapshotId, packs: &[ObjectName], rest: &[ObjectName]) {
    let repo = scene.bench.open();
    let found = listed(&repo, snapshot).expect("an acknowledged snapshot is listed");
    assert!(is_uncondemned(&repo, &found), "all it needs lies in sound packs");
    delete(&scene.bench.store, packs);
    delete(&scene.bench.store, rest);
    for host in [scene.bench.open(), scene.bench.other_host().open()] {
        assert_restores(&host, snapshot, &scene.tree);
    }
}

#[test]
fn f015_a_backup_whose_reused_packs_are_condemned_stores_their_chunks_anew() {
    let scene = Scene::new();
    let packs = scene.bench.names("packs");
    let (store, result) = collected(
        &scene,
        2..=2,
        Arc::new(|store, repo, packs, _| condemn(store, repo, packs, &[])),
    );
    let report = result.expect("acknowledged");
    assert_eq!(store.hits().len(), 1);
    assert!(report.bytes_stored > 3 << 20, "reused chunks were stored again");
    assert_rescued(&scene, &report.snapshot, &packs, &[]);
}

#[test]
fn f015_a_backup_whose_own_new_packs_are_condemned_as_orphans_stores_them_anew() {
    let scene = Scene::new();
    let before = scene.bench.names("packs");
    let own = move |store: &MemoryStore, old: &[ObjectName]| {
        let mut packs = names(store, "packs");
        packs.retain(|pack| !old.contains(pack));
        packs
    };
    let (_, result) = collected(
        &scene,
        2..=2,
        Arc::new(move |store, repo, old, _| condemn(store, repo, &own(store, old), &[])),
    );
    let report = result.expect("acknowledged");
    let gc = scene.bench.open();
    let index = gc.load_index().expect("loads");
    let found = listed(&gc, &report.snapshot).expect("listed");
    assert!(index.find(&found.items()[0].root).expect("finds").is_some());
    let own: Vec<_> =
        scene.bench.names("packs").into_iter().filter(|p| !before.contains(p)).collect();
    assert!(own.len() > 2, "its first packs and those that replaced them");
    assert!(is_uncondemned(&gc, &found));
    // What the collector condemned is what is not referred to by anything now: delete every pack
    // that no place of the snapshot lies in.
    let condemned: Vec<_> = own
        .into_iter()
        .filter(|name| {
            let packs = index.packs();
            let pack = packs.iter().find(|(pack, _)| pack.id.to_string() == name.base());
            pack.is_some_and(|(pack, _)| is_condemned(&scene, &gc, &pack.id.to_string()))
        })
        .collect();
    assert!(!condemned.is_empty());
    assert_rescued(&scene, &report.snapshot, &condemned, &[]);
    assert_restores(&scene.bench.open(), &scene.old, &scene.old_tree);
}

/// Whether a condemn record in the store names the pack.
fn is_condemned(scene: &Scene, repo: &Repository, pack: &str) -> bool {
    use volume_vault::crypto::Purpose;
    let shared = repo.master().derive(Purpose::SharedObject, b"");
    scene.bench.names("gc").iter().any(|name| {
        let bytes = scene.bench.store.get(name, 1 << 20).expect("reads");
        let kind = ObjectKind::Condemn;
        let signed = volume_vault::format::open_object(kind, &repo.id(), &shared, &bytes);
        let record = CondemnRecord::decode(&signed.expect("opens").message).expect("decodes");
        record.packs.iter().any(|id| id.to_string() == pack)
    })
}

#[test]
fn f015_a_backup_that_knows_packs_through_a_condemned_segment_stores_their_chunks_anew() {
    let scene = Scene::new();
    let (packs, segments) = (scene.bench.names("packs"), scene.bench.names("index"));
    let (_, result) = collected(
        &scene,
        2..=2,
        Arc::new(|store, repo, _, segments| condemn(store, repo, &[], segments)),
    );
    let report = result.expect("acknowledged");
    assert_rescued(&scene, &report.snapshot, &packs, &segments);
}

#[test]
fn f015_condemned_while_it_is_rescued_a_backup_is_rescued_again() {
    let scene = Scene::new();
    let everything =
        |store: &MemoryStore, repo: &Repository, _: &[ObjectName], _: &[ObjectName]| {
            condemn(store, repo, &names(store, "packs"), &names(store, "index"));
        };
    // Three rounds condemn all there is each time.
    let (store, result) = collected(&scene, 2..=4, Arc::new(everything));
    let report = result.expect("acknowledged");
    assert_eq!(store.hits().len(), 3);
    let repo = scene.bench.open();
    let found = listed(&repo, &report.snapshot).expect("listed");
    assert!(is_uncondemned(&repo, &found));
    assert_restores(&repo, &report.snapshot, &scene.tree);
}

#[test]
fn f015_condemned_faster_than_it_can_be_rescued_a_backup_is_not_acknowledged() {
    let scene = Scene::new();
    let everything =
        |store: &MemoryStore, repo: &Repository, _: &[ObjectName], _: &[ObjectName]| {
            condemn(store, repo, &names(store, "packs"), &names(store, "index"));
        };
    let (store, result) = collected(&scene, 2..=1000, Arc::new(everything));
    let error = result.expect_err("it gives up");
    assert!(matches!(error, OpsError::Repo(RepoError::NotCommitted { .. })), "{error:?}");
    assert!((3..100).contains(&store.hits().len()), "{} rounds", store.hits().len());
    assert_eq!(list(&scene.bench.open()).len(), 1);
    let next = backup(&scene.bench.open(), scene.dir.path()).expect("the next plain backup");
    assert_restores(&scene.bench.open(), &next.snapshot, &scene.tree);
}

#[test]
fn f015_packs_condemned_and_deleted_under_a_backup_leave_it_not_acknowledged() {
    let scene = Scene::new();
    let swept = |store: &MemoryStore, repo: &Repository, old: &[ObjectName], _: &[ObjectName]| {
        let mut own = names(store, "packs");
        own.retain(|pack| !old.contains(pack));
        condemn(store, repo, &own, &[]);
        delete(store, &own);
    };
    let (_, result) = collected(&scene, 2..=2, Arc::new(swept));
    let error = result.expect_err("nothing is left to rescue it from");
    assert!(matches!(error, OpsError::Repo(RepoError::NotCommitted { .. })), "{error:?}");
    scene.judge(&scene.bench, &Err(error));
}

#[test]
fn f015_a_segment_condemned_and_deleted_that_the_backup_does_not_need_is_harmless() {
    let scene = Scene::new();
    let (bench, dir) = (&scene.bench, scratch());
    // Another host's snapshot was forgotten: its segment and packs are garbage that goes at once.
    std::fs::write(dir.path().join("other"), noise(9, 100_000)).expect("written");
    let before = (bench.names("packs"), bench.names("index"));
    let other = backup(&bench.other_host().open(), dir.path()).expect("acknowledged").snapshot;
    let fresh = |folder: &str, old: &[ObjectName]| {
        let mut all = bench.names(folder);
        all.retain(|name| !old.contains(name));
        all
    };
    let garbage = (fresh("packs", &before.0), fresh("index", &before.1));
    assert!(!garbage.0.is_empty() && garbage.1.len() == 1);
    let found = listed(&bench.open(), &other).expect("listed");
    forget(&bench.store, &bench.open(), &found.id, ForgetKind::Forget, found.head);
    let swept =
        move |store: &MemoryStore, repo: &Repository, _: &[ObjectName], _: &[ObjectName]| {
            condemn(store, repo, &garbage.0, &garbage.1);
            delete(store, &garbage.0);
            delete(store, &garbage.1);
        };
    let (_, result) = collected(&scene, 2..=2, Arc::new(swept));
    let report = result.expect("acknowledged");
    assert_restores(&bench.open(), &report.snapshot, &scene.tree);
    assert!(check(&bench.open()) > 0);
}

#[test]
fn f015_a_segment_deleted_between_being_listed_and_being_read_is_as_if_never_listed() {
    let scene = Scene::new();
    let (bench, dir) = (&scene.bench, scratch());
    let known = bench.names("index");
    std::fs::write(dir.path().join("other"), noise(9, 100_000)).expect("written");
    let other = backup(&bench.other_host().open(), dir.path()).expect("acknowledged").snapshot;
    let found = listed(&bench.open(), &other).expect("listed");
    forget(&bench.store, &bench.open(), &other, ForgetKind::Forget, found.head);
    let mut fresh = bench.names("index");
    fresh.retain(|segment| !known.contains(segment));
    let (inner, segment) = (bench.store.clone(), fresh[0].clone());
    let gone = move |_: &_| inner.delete(&segment).expect("deleted");
    let plan = FaultPlan::none().and(
        Some(CallKind::Get),
        fresh[0].as_str(),
        1..=1,
        Fault::Delay(Arc::new(gone)),
    );
    let store = bench.disturbed(plan);
    let repo = open(store.clone(), scratch().path()).expect("opens");
    let report = backup(&repo, scene.dir.path()).expect("acknowledged");
    assert_eq!(store.hits().len(), 1);
    assert_restores(&bench.open(), &report.snapshot, &scene.tree);
}

fn forget(
    store: &MemoryStore,
    repo: &Repository,
    id: &SnapshotId,
    kind: ForgetKind,
    record: RecordHash,
) {
    let tombstone = ForgetRecord {
        snapshot: *id,
        kind,
        writer: WriterId::new([1; 16]),
        sequence: 1,
        record,
        round: 0,
    };
    put_signed(store, repo, ObjectKind::Forget, &format!("forget/{id}"), &tombstone.encode());
}

#[test]
fn f016_a_backup_expired_before_it_ends_is_not_acknowledged() {
    let scene = Scene::new();
    let (store, repo) = (scene.bench.store.clone(), scene.bench.open());
    let expire = move |call: &volume_vault::store::Call| {
        let name = ObjectName::parse(&call.target).expect("a name");
        let id = name.base().strip_suffix(".ok").expect("a commit").parse().expect("an id");
        forget(&store, &repo, &id, ForgetKind::Expire, RecordHash::new([0; 32]));
    };
    // Records are put as pending, then as ok: before that one, and so before B6.
    let plan = FaultPlan::none().and(
        Some(CallKind::Put),
        "snapshots/",
        2..=2,
        Fault::Delay(Arc::new(expire)),
    );
    let store = scene.bench.disturbed(plan);
    let repo = open(store.clone(), scene.bench.home.path()).expect("opens");
    let result = backup(&repo, scene.dir.path());
    assert_eq!(store.hits().len(), 1);
    let error = result.expect_err("not acknowledged");
    assert!(matches!(error, OpsError::Repo(RepoError::NotCommitted { .. })), "{error:?}");
    scene.judge(&scene.bench, &Err(error));
}

#[test]
fn f073_two_hosts_that_write_as_one_keep_and_list_both_their_snapshots() {
    let (bench, dir) = (Bench::new(), scratch());
    make_tree(dir.path());
    let _ = backup(&bench.open(), dir.path()).expect("acknowledged");
    let clone = bench.other_host();
    copy(bench.home.path(), clone.home.path());
    // The clone has listed the snapshots, and so seen its own head, before the original goes on.
    let mut snapshots = Vec::new();
    for round in 0..3 {
        for host in [&bench, &clone] {
            change(dir.path(), round);
            let report = backup(&host.open(), dir.path()).expect("acknowledged");
            snapshots.push((report.snapshot, describe(dir.path())));
        }
    }
    for host in [&bench, &clone, &bench.other_host()] {
        let repo = host.open();
        assert_eq!(list(&repo).len(), 7);
        for (snapshot, tree) in &snapshots {
            assert_restores(&repo, snapshot, tree);
        }
    }
    let writers: std::collections::BTreeSet<_> =
        list(&bench.open()).iter().map(|snapshot| snapshot.writer).collect();
    assert!(writers.len() > 1, "the fork was seen");
}

#[test]
fn f073_two_hosts_that_write_as_one_at_the_same_time_lose_nothing() {
    let (bench, dir) = (Bench::new(), scratch());
    make_tree(dir.path());
    let first = backup(&bench.open(), dir.path()).expect("acknowledged").snapshot;
    let old_tree = describe(dir.path());
    let clone = bench.other_host();
    copy(bench.home.path(), clone.home.path());
    change_tree(dir.path());
    let tree = describe(dir.path());
    // The clone commits after the original has looked at the list and before it writes its record.
    let (home, path) = (clone.home.path().to_owned(), dir.path().to_owned());
    let inner = bench.store.clone();
    let twin = move |_: &_| {
        let repo = open(Arc::new(inner.clone()), &home).expect("opens");
        let _ = backup(&repo, &path).expect("acknowledged");
    };
    let plan = FaultPlan::none().and(
        Some(CallKind::Put),
        "snapshots/",
        1..=1,
        Fault::Delay(Arc::new(twin)),
    );
    let store = bench.disturbed(plan);
    let repo = open(store.clone(), bench.home.path()).expect("opens");
    let _ = backup(&repo, dir.path()).expect("acknowledged");
    assert_eq!(store.hits().len(), 1);
    for host in [&bench, &clone, &bench.other_host(), &bench] {
        let repo = host.open();
        let snapshots = list(&repo);
        assert!(snapshots.len() >= 3);
        let twins: Vec<_> = snapshots.iter().filter(|s| s.sequence == 2).collect();
        assert_eq!((twins.len(), twins[0].writer), (2, twins[1].writer), "a fork");
        assert_restores(&repo, &first, &old_tree);
        for snapshot in snapshots.iter().filter(|s| s.id != first) {
            assert_restores(&repo, &snapshot.id, &tree);
        }
        let _ = backup(&repo, dir.path()).expect("both go on");
    }
}

fn change(dir: &std::path::Path, round: u8) {
    use std::io::Write as _;
    let file = dir.join("many/file-00");
    let mut file = std::fs::OpenOptions::new().append(true).open(file).expect("opened");
    file.write_all(&[b'0' + round]).expect("written");
}
