//! The snapshots of a repository, checked against each other and against what this host remembers.

use std::collections::BTreeMap;

use super::error::RepoError;
use super::layout;
use super::repository::Repository;
use super::state::{Head, LockedState};
use crate::clock::Time;
use crate::crypto::digest;
use crate::format::{
    ForgetKind, ForgetRecord, FormatError, Item, ObjectKind, OkRecord, PendingRecord,
    RECORD_BYTES_MAX, SnapshotBody,
};
use crate::id::{RecordHash, SnapshotId, WriterId};
use crate::store::{ObjectName, StoreError};

/// A snapshot that was committed.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Its id.
    pub id: SnapshotId,
    /// Who wrote it.
    pub writer: WriterId,
    /// The how manieth record of its writer it is.
    pub sequence: u64,
    /// The record before it of the same writer.
    pub previous: Option<RecordHash>,
    /// The hash of its record: the head of its writer when it was written.
    pub head: RecordHash,
    /// What it holds.
    pub body: SnapshotBody,
}

impl Snapshot {
    /// When its backup started.
    #[must_use]
    pub fn time(&self) -> Time {
        Time::new(self.body.seconds, self.body.nanos)
    }

    /// Its items.
    #[must_use]
    pub fn items(&self) -> &[Item] {
        &self.body.items
    }
}

/// All snapshots of a repository.
#[derive(Debug, Default)]
pub struct SnapshotList {
    /// Committed and not forgotten, oldest first.
    pub snapshots: Vec<Snapshot>,
    /// Records that cannot be read, and why.
    pub damaged: Vec<(ObjectName, RepoError)>,
    /// Backups that did not come to an end, or are under way.
    pub unfinished: Vec<SnapshotId>,
}

impl SnapshotList {
    /// Lists and reads the snapshots, and remembers what was seen.
    ///
    /// Errors: [`RepoError::RolledBack`] if the store shows less than this host has seen before.
    /// Records that cannot be read are collected, not reported as an error.
    pub fn load(repo: &Repository) -> Result<Self, RepoError> {
        match Self::survey(repo)? {
            (list, None) => Ok(list),
            (_, Some(rolled_back)) => Err(rolled_back),
        }
    }

    /// As [`SnapshotList::load`], but where the store shows less than this host has seen before,
    /// that comes beside what it does show.
    ///
    /// Errors: of the store, or of this host's state.
    pub fn survey(repo: &Repository) -> Result<(Self, Option<RepoError>), RepoError> {
        let mut names: BTreeMap<SnapshotId, (bool, bool)> = BTreeMap::new();
        for object in repo.store().list(layout::SNAPSHOTS)? {
            if let Some(id) = layout::id_of(&object.name, ".pending") {
                names.entry(id).or_default().0 = true;
            } else if let Some(id) = layout::id_of(&object.name, ".ok") {
                names.entry(id).or_default().1 = true;
            }
        }
        let mut tombstones = load_tombstones(repo)?;
        // A backup that came to its end after all was not expired.
        tombstones.retain(|id, kind| {
            *kind == ForgetKind::Forget || !names.get(id).is_some_and(|(_, ok)| *ok)
        });
        let mut list = Self::default();
        let mut heads: BTreeMap<WriterId, Vec<Head>> = BTreeMap::new();
        for (id, (pending, ok)) in &names {
            if !pending {
                list.damaged.push((layout::ok(id), lost_record(id)));
                continue;
            }
            if tombstones.contains_key(id) {
                continue;
            }
            match read(repo, id, *ok) {
                Ok((record, hash, body)) => {
                    let (sequence, committed) = (record.sequence, *ok);
                    let head = Head { sequence, hash, snapshot: *id, committed };
                    heads.entry(record.writer).or_default().push(head);
                    list.add(record, hash, body);
                }
                Err(
                    error @ RepoError::Store(StoreError::NotFound(_) | StoreError::Size { .. }),
                ) => list.damaged.push((layout::pending(id), error)),
                Err(error @ RepoError::Store(_)) => return Err(error),
                Err(error) => list.damaged.push((layout::pending(id), error)),
            }
        }
        list.snapshots.sort_by_key(|snapshot| (snapshot.time(), snapshot.id));
        let judged = remember(repo, &names, &tombstones, &heads).and_then(|()| list.check_chains());
        match judged {
            Ok(()) => Ok((list, None)),
            Err(error @ RepoError::RolledBack(_)) => Ok((list, Some(error))),
            Err(error) => Err(error),
        }
    }

    fn add(&mut self, record: PendingRecord, head: RecordHash, body: Option<SnapshotBody>) {
        let PendingRecord { snapshot: id, writer, sequence, previous, .. } = record;
        match body {
            Some(body) => {
                self.snapshots.push(Snapshot { id, writer, sequence, previous, head, body });
            }
            None => self.unfinished.push(id),
        }
    }

    /// Checks that records which follow one another name each other. A writer's state that was
    /// cloned gives two records of one number: each may be followed.
    fn check_chains(&self) -> Result<(), RepoError> {
        let mut records: BTreeMap<(WriterId, u64), Vec<RecordHash>> = BTreeMap::new();
        for snapshot in &self.snapshots {
            let place = (snapshot.writer, snapshot.sequence);
            records.entry(place).or_default().push(snapshot.head);
        }
        for snapshot in &self.snapshots {
            let before = snapshot.sequence.checked_sub(1);
            let before = before.and_then(|sequence| records.get(&(snapshot.writer, sequence)));
            let follows = |head: &RecordHash| snapshot.previous == Some(*head);
            if before.is_some_and(|before| !before.iter().any(follows)) {
                return Err(RepoError::RolledBack(format!(
                    "snapshot {} does not follow the one its writer made before it",
                    snapshot.id.short()
                )));
            }
        }
        Ok(())
    }

    /// The snapshot whose id starts with these hex digits.
    ///
    /// Errors: [`RepoError::Ambiguous`] if there are several.
    pub fn by_prefix(&self, prefix: &str) -> Result<Option<&Snapshot>, RepoError> {
        let mut fitting = self.snapshots.iter().filter(|s| s.id.to_string().starts_with(prefix));
        let first = fitting.next();
        match fitting.next() {
            None => Ok(first),
            Some(_) => Err(RepoError::Ambiguous(format!("several snapshots start with {prefix}"))),
        }
    }
}

/// The hash of a record as it is stored.
pub(super) fn record_hash(bytes: &[u8]) -> RecordHash {
    RecordHash::new(digest(bytes))
}

/// Reads a snapshot's record, and its body if it is committed.
fn read(
    repo: &Repository,
    id: &SnapshotId,
    ok: bool,
) -> Result<(PendingRecord, RecordHash, Option<SnapshotBody>), RepoError> {
    let name = layout::pending(id);
    let bytes = repo.store().get(&name, RECORD_BYTES_MAX)?;
    let message = repo.open_signed(ObjectKind::Pending, &name, &bytes)?;
    let record = PendingRecord::decode(&message).map_err(RepoError::object(&name))?;
    let damaged = |name: &ObjectName, why: &str| {
        RepoError::object(name)(FormatError::damaged("snapshot record", why))
    };
    if record.snapshot != *id {
        return Err(damaged(&name, "it stands under another snapshot's name"));
    }
    let hash = record_hash(&bytes);
    if !ok {
        return Ok((record, hash, None));
    }
    let ok_name = layout::ok(id);
    let bytes = repo.store().get(&ok_name, RECORD_BYTES_MAX)?;
    let message = repo.open_signed(ObjectKind::Ok, &ok_name, &bytes)?;
    let commit = OkRecord::decode(&message).map_err(RepoError::object(&ok_name))?;
    if commit.snapshot != *id || commit.pending != hash {
        return Err(damaged(&ok_name, "it commits another record"));
    }
    let secret = repo.keyring().restore().open(&record.seal, repo.id().as_bytes())?;
    let body = SnapshotBody::open(&secret, id, &record.body).map_err(RepoError::object(&name))?;
    Ok((record, hash, Some(body)))
}

fn lost_record(id: &SnapshotId) -> RepoError {
    let error = FormatError::damaged("snapshot record", "it is lost, its commit is there");
    RepoError::object(&layout::pending(id))(error)
}

/// Snapshots with a tombstone of the owner. One by anybody else counts for nothing.
fn load_tombstones(repo: &Repository) -> Result<BTreeMap<SnapshotId, ForgetKind>, RepoError> {
    let mut tombstones = BTreeMap::new();
    for object in repo.store().list(layout::FORGET)? {
        let Some(id) = layout::id_of::<SnapshotId>(&object.name, "") else { continue };
        if let Some(record) = read_tombstone(repo, &id)? {
            let _ = tombstones.insert(id, record.kind);
        }
    }
    Ok(tombstones)
}

/// The tombstone of a snapshot, if the owner set one.
pub(super) fn read_tombstone(
    repo: &Repository,
    id: &SnapshotId,
) -> Result<Option<ForgetRecord>, RepoError> {
    let name = layout::forget(id);
    let bytes = match repo.store().get(&name, RECORD_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(StoreError::NotFound(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let message = match repo.open_signed(ObjectKind::Forget, &name, &bytes) {
        Ok(message) => message,
        Err(RepoError::Object { source: FormatError::Signature { .. }, .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let record = ForgetRecord::decode(&message).map_err(RepoError::object(&name))?;
    Ok(Some(record).filter(|record| record.snapshot == *id))
}

/// Compares what the store shows with what this host has seen, and remembers what is new.
fn remember(
    repo: &Repository,
    listed: &BTreeMap<SnapshotId, (bool, bool)>,
    tombstones: &BTreeMap<SnapshotId, ForgetKind>,
    heads: &BTreeMap<WriterId, Vec<Head>>,
) -> Result<(), RepoError> {
    let mut locked = LockedState::open(repo)?;
    let before = locked.state.clone();
    if repo.config().sequence < locked.state.config {
        return Err(RepoError::RolledBack(format!(
            "configuration {} was there before, the newest now is {}",
            locked.state.config,
            repo.config().sequence
        )));
    }
    locked.state.config = repo.config().sequence;
    for (writer, known) in &locked.state.heads {
        if tombstones.contains_key(&known.snapshot) {
            continue;
        }
        let now = heads
            .get(writer)
            .and_then(|records| records.iter().find(|head| head.snapshot == known.snapshot));
        let problem = match (listed.get(&known.snapshot), now) {
            (None | Some((false, _)), _) => "gone",
            (Some((true, false)), _) if known.committed => "no longer committed",
            (Some(_), Some(now)) if now.hash != known.hash => "another now",
            _ => continue,
        };
        return Err(RepoError::RolledBack(format!(
            "snapshot {}, record {} of writer {}, was there before and is {problem}",
            known.snapshot.short(),
            known.sequence,
            writer.short(),
        )));
    }
    for (writer, records) in heads {
        let Some(newest) = records.iter().max_by_key(|head| (head.sequence, head.committed)) else {
            continue;
        };
        let known = locked.state.heads.entry(*writer).or_insert(*newest);
        if (newest.sequence, newest.committed) > (known.sequence, known.committed) {
            *known = *newest;
        }
    }
    if locked.state != before { locked.save() } else { Ok(()) }
}
