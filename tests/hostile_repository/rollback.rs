//! Older copies of a repository, and another one in its place.

use std::path::Path;
use std::sync::Arc;

use volume_vault::crypto::{Key, Signer};
use volume_vault::format::{Config, ForgetKind, ForgetRecord, ObjectKind, PendingRecord};
use volume_vault::id::{RecordHash, SnapshotId, WriterId};
use volume_vault::repo::{RepoError, SnapshotList};
use volume_vault::store::{MemoryStore, ObjectName, Store as _};

use crate::support::builder::{Builder, name, root};

/// A repository with this many snapshots.
fn builder_of(snapshots: usize) -> (Builder, Vec<SnapshotId>) {
    let mut builder = Builder::new();
    let item = builder.tree(&[root()]);
    let _ = builder.publish();
    let ids = (0..snapshots).map(|_| builder.snapshot(vec![item.clone()])).collect();
    (builder, ids)
}

/// What the host with these folders finds in a store.
fn load(builder: &Builder, host: &Path, store: &MemoryStore) -> Result<SnapshotList, RepoError> {
    SnapshotList::load(&*builder.open_at(host, Arc::new(store.clone()))?)
}

/// The host has seen all of the repository; then it is shown `store`.
fn shown_after(builder: &Builder, store: &MemoryStore) -> Result<SnapshotList, RepoError> {
    let host = builder.host("seen");
    let _ = load(builder, &host, &builder.store).expect("it is sound");
    load(builder, &host, store)
}

fn assert_rolled_back(found: Result<SnapshotList, RepoError>, why: &str) {
    match found {
        Err(RepoError::RolledBack(said)) => assert!(said.contains(why), "`{said}`: no `{why}`"),
        other => panic!("{other:?} is no rollback"),
    }
}

fn hide(store: &MemoryStore, at: &str) {
    store.delete(&name(at)).expect("deleted");
}

#[test]
fn f094_an_older_copy_of_the_repository_is_noticed() {
    let (mut builder, _) = builder_of(2);
    let older = builder.store.copied();
    let item = builder.tree(&[root()]);
    let newest = builder.snapshot(vec![item]);
    let found = shown_after(&builder, &older);
    assert_rolled_back(found, &format!("snapshot {}", newest.short()));
}

#[test]
fn f094_a_repository_without_all_its_snapshots_is_noticed() {
    let (builder, ids) = builder_of(2);
    let emptied = builder.store.copied();
    for id in ids {
        hide(&emptied, &format!("snapshots/{id}.pending"));
        hide(&emptied, &format!("snapshots/{id}.ok"));
    }
    assert_rolled_back(shown_after(&builder, &emptied), "is gone");
}

#[test]
fn f094_an_older_configuration_is_noticed() {
    let (builder, _) = builder_of(1);
    let config = builder.open().config().clone();
    let newer = Config { sequence: 2, ..config };
    let _ =
        builder.put("config/0000000000000002", builder.sealed(ObjectKind::Config, &newer.encode()));
    let older = builder.store.copied();
    hide(&older, "config/0000000000000002");
    assert_rolled_back(shown_after(&builder, &older), "configuration 2 was there before");
}

#[test]
fn f094_the_hidden_tail_of_one_of_two_writers_is_noticed() {
    let (mut builder, _) = builder_of(2);
    let item = builder.tree(&[root()]);
    builder.start_writer(WriterId::new([7; 16]));
    let tail = builder.snapshot(vec![item]);
    let hidden = builder.store.copied();
    hide(&hidden, &format!("snapshots/{tail}.pending"));
    hide(&hidden, &format!("snapshots/{tail}.ok"));
    let found = shown_after(&builder, &hidden);
    assert_rolled_back(found, &format!("record 1 of writer {}", builder.writer.short()));
}

#[test]
fn f094_a_hidden_commit_of_the_newest_snapshot_is_noticed() {
    let (builder, ids) = builder_of(2);
    let hidden = builder.store.copied();
    hide(&hidden, &format!("snapshots/{}.ok", ids[1]));
    assert_rolled_back(shown_after(&builder, &hidden), "no longer committed");
}

#[test]
fn f094_another_record_of_the_newest_snapshot_is_noticed() {
    let (mut builder, ids) = builder_of(1);
    let host = builder.host("seen");
    let _ = load(&builder, &host, &builder.store).expect("it is sound");
    // The owner's own key, on a machine that was cloned: the same id, another content.
    let body = builder.body(Vec::new());
    let mut record = builder.pending(&body);
    record.snapshot = ids[0];
    record.body = body.seal(&builder.run.0, &ids[0]).expect("randomness");
    let bytes = builder.sealed(ObjectKind::Pending, &record.encode());
    builder.commit(ids[0], bytes);
    assert_rolled_back(load(&builder, &host, &builder.store), "another now");
}

#[test]
fn f094_a_lost_snapshot_is_excused_by_the_owners_tombstone_and_by_no_other() {
    let (builder, ids) = builder_of(2);
    let host = builder.host("seen");
    let _ = load(&builder, &host, &builder.store).expect("it is sound");
    hide(&builder.store, &format!("snapshots/{}.pending", ids[1]));
    hide(&builder.store, &format!("snapshots/{}.ok", ids[1]));
    let tombstone = ForgetRecord {
        snapshot: ids[1],
        kind: ForgetKind::Forget,
        writer: builder.writer,
        sequence: 2,
        record: RecordHash::new([0; 32]),
        round: 0,
    };
    let stranger = Signer::from_seed(&Key::new([9; 32]));
    let forged = builder.sealed_by(&stranger, ObjectKind::Forget, &tombstone.encode());
    let at = format!("forget/{}", ids[1]);
    let _ = builder.put(&at, forged);
    assert_rolled_back(load(&builder, &host, &builder.store), "is gone");
    let _ = builder.put(&at, builder.sealed(ObjectKind::Forget, &tombstone.encode()));
    let list = load(&builder, &host, &builder.store).expect("it was forgotten");
    assert_eq!(list.snapshots.len(), 1);
}

#[test]
fn f094_a_record_that_names_another_before_it_is_noticed_by_a_fresh_host() {
    let (mut builder, _) = builder_of(1);
    let body = builder.body(Vec::new());
    let mut record = builder.pending(&body);
    record.previous = Some(RecordHash::new([3; 32]));
    let bytes = builder.sealed(ObjectKind::Pending, &record.encode());
    builder.commit(record.snapshot, bytes);
    let found = load(&builder, &builder.host("fresh"), &builder.store);
    assert_rolled_back(found, "does not follow");
}

#[test]
fn f073_of_two_records_of_one_number_the_one_that_is_followed_can_be_forgotten() {
    let (mut builder, ids) = builder_of(1);
    let body = builder.body(Vec::new());
    // A twin of the second record, which nothing follows, and a third that follows the second.
    let mut twin = builder.pending(&body);
    twin.body = body.seal(&builder.run.0, &twin.snapshot).expect("randomness");
    let twin_bytes = builder.sealed(ObjectKind::Pending, &twin.encode());
    let second = {
        let record = PendingRecord {
            snapshot: SnapshotId::new([2; 32]),
            body: body.seal(&builder.run.0, &SnapshotId::new([2; 32])).expect("randomness"),
            ..twin.clone()
        };
        let bytes = builder.sealed(ObjectKind::Pending, &record.encode());
        builder.commit(twin.snapshot, twin_bytes);
        builder.commit(record.snapshot, bytes);
        record.snapshot
    };
    let third = builder.snapshot(Vec::new());
    let host = builder.host("seen");
    let list = load(&builder, &host, &builder.store).expect("it is sound");
    assert_eq!(list.snapshots.len(), 4);
    let followed = list.snapshots.iter().find(|snapshot| snapshot.id == second).expect("listed");
    let repo = builder.open_at(&host, Arc::new(builder.store.clone())).expect("it opens");
    repo.put_tombstone(&list.tombstone_of(followed)).expect("put");
    for host in [host, builder.host("fresh")] {
        let list = load(&builder, &host, &builder.store).expect("that is no rollback");
        let left: Vec<_> = list.snapshots.iter().map(|snapshot| snapshot.id).collect();
        assert_eq!(left.len(), 3);
        assert!([ids[0], twin.snapshot, third].iter().all(|id| left.contains(id)));
    }
}

/// All files below a folder.
fn files(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for file in std::fs::read_dir(folder).expect("lists") {
            let path = file.expect("lists").path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push((path.clone(), std::fs::read(&path).expect("it reads"))),
            }
        }
    }
    found.sort();
    found
}

#[test]
fn f107_another_repository_in_its_place_shares_neither_cache_nor_state() {
    let (ours, _) = builder_of(2);
    let (theirs, _) = builder_of(1);
    let host = ours.host("host");
    let repo = ours.open_at(&host, Arc::new(ours.store.clone())).expect("it opens");
    assert_eq!(SnapshotList::load(&repo).expect("it is sound").snapshots.len(), 2);
    let _ = repo.load_index().expect("it loads");
    let before = files(&host);
    assert!(before.iter().all(|(path, _)| path.to_string_lossy().contains(&ours.id.to_string())));
    let swapped = theirs.open_at(&host, Arc::new(theirs.store.clone())).expect("it opens");
    let list = SnapshotList::load(&swapped).expect("another repository is no rollback");
    assert_eq!(list.snapshots.len(), 1);
    let _ = swapped.load_index().expect("it loads");
    let after = files(&host);
    let kept: Vec<_> = after.iter().filter(|file| before.contains(file)).cloned().collect();
    assert_eq!(kept, before, "what belongs to the first repository stays as it is");
    let added = after.iter().filter(|file| !before.contains(file));
    for (path, _) in added {
        assert!(path.to_string_lossy().contains(&theirs.id.to_string()), "{path:?}");
    }
}

#[test]
fn f107_the_key_of_the_first_repository_does_not_open_the_second() {
    let (ours, _) = builder_of(1);
    let (theirs, _) = builder_of(1);
    let error = ours.open_at(&ours.host("host"), Arc::new(theirs.store.clone()));
    let error = error.expect_err("another repository");
    assert!(matches!(error, RepoError::WrongKey { .. }), "{error}");
    // Nor if the first one's slots are put beside the second one's objects.
    let mixed = theirs.store.copied();
    for slot in ours.store.list("keys").expect("lists") {
        mixed.insert_raw(slot.name.clone(), ours.bytes(&slot.name));
    }
    let error = ours.open_at(&ours.host("host"), Arc::new(mixed)).expect_err("another repository");
    assert!(matches!(error, RepoError::WrongKey { .. }), "{error}");
}

#[test]
fn f107_objects_of_another_repository_are_reported_as_such() {
    let (ours, _) = builder_of(1);
    let (theirs, ids) = builder_of(1);
    for end in ["pending", "ok"] {
        let at: ObjectName = name(&format!("snapshots/{}.{end}", ids[0]));
        ours.store.insert_raw(at.clone(), theirs.bytes(&at));
    }
    let list = load(&ours, &ours.host("host"), &ours.store).expect("the rest is sound");
    assert_eq!((list.snapshots.len(), list.damaged.len()), (1, 1));
    let said = super::chain(&list.damaged[0].1);
    assert!(said.contains("it belongs to another repository"), "{said}");
    // The head of the other repository over ours: everything else no longer fits.
    let _ = ours.put("vault.json", theirs.bytes(&name("vault.json")));
    let error = load(&ours, &ours.host("host"), &ours.store).expect_err("it does not open");
    assert!(matches!(error, RepoError::WrongKey { .. }), "{error}");
}
