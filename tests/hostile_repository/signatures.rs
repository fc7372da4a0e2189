//! Objects that open, but that somebody else than the owner signed.

use std::sync::Arc;

use volume_vault::crypto::{Key, Signer, digest};
use volume_vault::event::{Observer, Recorder};
use volume_vault::format::{
    CondemnRecord, Config, ForgetKind, ForgetRecord, FormatError, ObjectKind, OkRecord, PackKind,
    SegmentRecord,
};
use volume_vault::id::{PackId, RecordHash, SegmentId, SnapshotId};
use volume_vault::repo::{RepoError, Session, SnapshotList};
use volume_vault::store::Store as _;

use super::{chain, reader};
use crate::support::builder::{Builder, name, root};

/// Somebody who holds all keys that writers need, and is not the owner.
fn stranger() -> Signer {
    Signer::from_seed(&Key::new([9; 32]))
}

/// A repository with one snapshot of a file.
fn one_snapshot() -> (Builder, SnapshotId) {
    let mut builder = Builder::new();
    let records = [root(), builder.file("file", b"content")];
    let item = builder.tree(&records);
    let _ = builder.publish();
    let id = builder.snapshot(vec![item]);
    (builder, id)
}

fn tombstone(builder: &Builder, snapshot: SnapshotId) -> Vec<u8> {
    let (writer, record) = (builder.writer, RecordHash::new([0; 32]));
    let kind = ForgetKind::Forget;
    ForgetRecord { snapshot, kind, writer, sequence: 1, record, round: 0 }.encode()
}

fn pack_ids(builder: &Builder) -> Vec<PackId> {
    let packs = builder.store.list("packs").expect("lists");
    packs.iter().map(|pack| pack.name.base().parse().expect("an id")).collect()
}

fn condemn_all(builder: &Builder) -> Vec<u8> {
    let segments = builder.store.list("index").expect("lists");
    let segments = segments.iter().map(|s| s.name.base().parse().expect("an id")).collect();
    CondemnRecord { packs: pack_ids(builder), segments }.encode()
}

fn listed(builder: &Builder) -> usize {
    SnapshotList::load(&builder.open()).expect("it is sound").snapshots.len()
}

#[test]
fn f095_a_tombstone_by_somebody_else_is_ignored() {
    let (builder, id) = one_snapshot();
    let message = tombstone(&builder, id);
    let at = format!("forget/{id}");
    let _ = builder.put(&at, builder.sealed_by(&stranger(), ObjectKind::Forget, &message));
    assert_eq!(listed(&builder), 1);
    let _ = builder.put(&at, builder.sealed(ObjectKind::Forget, &message));
    assert_eq!(listed(&builder), 0, "the owner's is obeyed");
}

#[test]
fn f095_a_tombstone_of_another_snapshot_is_ignored() {
    let (builder, id) = one_snapshot();
    let message = tombstone(&builder, SnapshotId::new([5; 32]));
    let _ = builder.put(&format!("forget/{id}"), builder.sealed(ObjectKind::Forget, &message));
    assert_eq!(listed(&builder), 1);
}

#[test]
fn f095_what_counts_for_nothing_is_named() {
    let (builder, id) = one_snapshot();
    let message = tombstone(&builder, id);
    let at = format!("forget/{id}");
    let forged = builder.put(&at, builder.sealed_by(&stranger(), ObjectKind::Forget, &message));
    let list = SnapshotList::load(&builder.open()).expect("it is sound");
    assert_eq!((list.snapshots.len(), &list.forged[..]), (1, &[forged][..]));
    // The owner's own words go under the next name and are not kept from counting.
    let repo = builder.open();
    repo.put_tombstone(&list.tombstone_of(&list.snapshots[0])).expect("put");
    assert_eq!(listed(&builder), 0);
}

#[test]
fn f095_a_tombstone_put_again_in_a_later_round_is_ignored() {
    let (builder, id) = one_snapshot();
    let repo = builder.open();
    let said = |kind| {
        let list = SnapshotList::load(&repo).expect("it is sound");
        let record = list.tombstone_of_unreadable(&id);
        repo.put_tombstone(&ForgetRecord { kind, ..record }).expect("put");
    };
    said(ForgetKind::Forget);
    said(ForgetKind::Undo);
    assert_eq!(listed(&builder), 1);
    let old = builder.bytes(&name(&format!("forget/{id}")));
    let replayed = builder.put(&format!("forget/{id}.2"), old);
    let list = SnapshotList::load(&builder.open()).expect("it is sound");
    assert_eq!((list.snapshots.len(), &list.forged[..]), (1, &[replayed][..]));
    // Nor does a name that is none make it fail.
    for end in ["01", "0", "10000", "-1", "x", "4294967296", "2.2"] {
        let _ = builder.put(&format!("forget/{id}.{end}"), vec![0; 200]);
    }
    assert_eq!(SnapshotList::load(&builder.open()).expect("it is sound").forged.len(), 1);
}

#[test]
fn f095_a_condemn_record_by_somebody_else_condemns_nothing() {
    let (builder, _) = one_snapshot();
    let message = condemn_all(&builder);
    let observer: Arc<dyn Observer> = Arc::new(Recorder::default());
    let id = builder.chunk_id(PackKind::Data, b"content");
    let known = |builder: &Builder| {
        let session = Session::begin(&builder.open(), &observer).expect("begins");
        session.index().rely(&id).expect("it reads")
    };
    let by_stranger = builder.sealed_by(&stranger(), ObjectKind::Condemn, &message);
    let _ = builder.put("gc/1.condemn", by_stranger);
    assert!(known(&builder), "it still counts as stored");
    let _ = builder.put("gc/2.condemn", builder.sealed(ObjectKind::Condemn, &message));
    assert!(!known(&builder), "the owner's is obeyed");
    let read = reader(&builder.open()).read(PackKind::Data, &id);
    assert_eq!(read.expect("what is condemned can be read while it is there"), b"content");
}

#[test]
fn f095_a_configuration_by_somebody_else_is_ignored() {
    let (builder, _) = one_snapshot();
    let config = builder.open().config().clone();
    let newer = Config { sequence: 2, ..config };
    let at = "config/0000000000000002";
    let _ = builder.put(at, builder.sealed_by(&stranger(), ObjectKind::Config, &newer.encode()));
    assert_eq!(builder.open().config().sequence, 1);
    let _ = builder.put(at, builder.sealed(ObjectKind::Config, &newer.encode()));
    assert_eq!(builder.open().config().sequence, 2, "the owner's is obeyed");
}

#[test]
fn f095_a_configuration_under_another_name_is_refused() {
    let (builder, _) = one_snapshot();
    let old = builder.bytes(&name("config/0000000000000001"));
    let at = builder.put("config/0000000000000009", old);
    let error = builder.open_at(&builder.host("h"), Arc::new(builder.store.clone()));
    let said = chain(&error.expect_err("a replay"));
    assert!(said.contains(at.as_str()) && said.contains("another configuration's name"), "{said}");
}

#[test]
fn f095_a_segment_by_somebody_else_is_reported() {
    let (builder, _) = one_snapshot();
    let message = SegmentRecord::default().encode();
    let bytes = builder.sealed_by(&stranger(), ObjectKind::Segment, &message);
    let id = builder.raw_segment(&bytes);
    match builder.open().load_index() {
        Err(RepoError::Object { name, source: FormatError::Signature { .. } }) => {
            assert_eq!(name.base(), id.to_string());
        }
        other => panic!("{other:?} does not report it"),
    }
}

#[test]
fn f095_a_segment_under_another_name_is_reported() {
    let (builder, _) = one_snapshot();
    let bytes = builder.sealed(ObjectKind::Segment, &SegmentRecord::default().encode());
    let other = SegmentId::new([4; 32]);
    let _ = builder.put(&format!("index/{other}"), bytes);
    let said = chain(&builder.open().load_index().expect_err("a replay"));
    assert!(said.contains("its bytes do not have its name"), "{said}");
}

/// The one damaged record of a repository with one sound snapshot, and what is said of it.
fn damaged(builder: &Builder, id: &SnapshotId) -> String {
    let list = SnapshotList::load(&builder.open()).expect("the rest is sound");
    assert_eq!((list.snapshots.len(), list.damaged.len()), (1, 1), "{:?}", list.damaged);
    assert_ne!(list.snapshots[0].id, *id);
    let (at, error) = &list.damaged[0];
    assert!(at.as_str().contains(&id.to_string()), "{at}");
    chain(error)
}

#[test]
fn f095_a_snapshot_by_somebody_else_is_reported_and_not_shown() {
    let (mut builder, _) = one_snapshot();
    let body = builder.body(Vec::new());
    let record = builder.pending(&body);
    let bytes = builder.sealed_by(&stranger(), ObjectKind::Pending, &record.encode());
    builder.commit(record.snapshot, bytes);
    let said = damaged(&builder, &record.snapshot);
    assert!(said.contains("is not signed by this repository's owner"), "{said}");
}

#[test]
fn f095_a_commit_by_somebody_else_is_reported_and_commits_nothing() {
    let (mut builder, _) = one_snapshot();
    let id = builder.snapshot(Vec::new());
    let record = builder.bytes(&name(&format!("snapshots/{id}.pending")));
    let ok = OkRecord { snapshot: id, pending: RecordHash::new(digest(&record)) };
    let forged = builder.sealed_by(&stranger(), ObjectKind::Ok, &ok.encode());
    let _ = builder.put(&format!("snapshots/{id}.ok"), forged);
    let said = damaged(&builder, &id);
    assert!(said.contains("is not signed by this repository's owner"), "{said}");
}

#[test]
fn f095_a_commit_of_another_record_or_snapshot_commits_nothing() {
    let (mut builder, first) = one_snapshot();
    let id = builder.snapshot(Vec::new());
    let at = format!("snapshots/{id}.ok");
    let of_first = builder.bytes(&name(&format!("snapshots/{first}.ok")));
    let other = OkRecord { snapshot: id, pending: RecordHash::new([0; 32]) };
    for commit in [of_first, builder.sealed(ObjectKind::Ok, &other.encode())] {
        let _ = builder.put(&at, commit);
        let said = damaged(&builder, &id);
        assert!(said.contains("it commits another record"), "{said}");
    }
}

#[test]
fn f095_a_record_under_another_name_or_with_a_foreign_body_is_reported() {
    let (mut builder, first) = one_snapshot();
    let id = SnapshotId::new([3; 32]);
    let replayed = builder.bytes(&name(&format!("snapshots/{first}.pending")));
    builder.commit(id, replayed);
    assert!(damaged(&builder, &id).contains("under another snapshot's name"));
    let _ = builder.store.delete(&name(&format!("snapshots/{id}.pending")));
    let _ = builder.store.delete(&name(&format!("snapshots/{id}.ok")));
    // The body of one snapshot in the record of another: sealed for that one only.
    let body = builder.body(Vec::new());
    let other = builder.pending(&body);
    let mut record = builder.pending(&body);
    record.body = other.body;
    let bytes = builder.sealed(ObjectKind::Pending, &record.encode());
    builder.commit(record.snapshot, bytes);
    let said = damaged(&builder, &record.snapshot);
    assert!(said.contains("authentication failed"), "{said}");
}

#[test]
fn f095_an_object_of_one_kind_cannot_stand_for_another() {
    let (builder, id) = one_snapshot();
    // A tombstone that the owner signed, in the place of a commit, and the reverse.
    let message = tombstone(&builder, id);
    let _ =
        builder.put(&format!("snapshots/{id}.ok"), builder.sealed(ObjectKind::Forget, &message));
    let list = SnapshotList::load(&builder.open()).expect("the rest is sound");
    assert_eq!((list.snapshots.len(), list.damaged.len()), (0, 1));
    let said = chain(&list.damaged[0].1);
    assert!(said.contains("it is an object of another kind"), "{said}");
}
