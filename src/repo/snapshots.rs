//! The snapshots of a repository, checked against each other and against what this host remembers.

use std::collections::{BTreeMap, BTreeSet};

use minicbor::{Decode, Encode};

use super::error::RepoError;
use super::layout;
use super::repository::Repository;
use super::side_by_side::{both, side_by_side};
use super::state::{Head, LockedState};
use super::tombstones::{Tombstone, Tombstones};
use crate::clock::Time;
use crate::crypto::digest;
use crate::format::{
    ForgetKind, ForgetRecord, FormatError, Item, ObjectKind, OkRecord, Origin, PendingRecord,
    RECORD_BYTES_MAX, SnapshotBody,
};
use crate::id::{RecordHash, RepositoryId, SnapshotId, WriterId};
use crate::store::{Listed, ObjectName};

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
    /// When its commit was stored, by the store's clock: what retention goes by.
    pub stored: Time,
    /// What it holds.
    pub body: SnapshotBody,
}

impl Snapshot {
    /// When its backup started.
    #[must_use]
    pub fn time(&self) -> Time {
        Time::new(self.body.seconds, self.body.nanos)
    }

    /// Where it was first made: here, unless it is a copy.
    #[must_use]
    pub fn origin(&self, here: RepositoryId) -> Origin {
        let Time { seconds, nanos } = self.stored;
        let own = Origin { repository: here, snapshot: self.id, seconds, nanos };
        self.body.copied.unwrap_or(own)
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
    /// Snapshots that were forgotten once and taken back.
    pub taken_back: BTreeSet<SnapshotId>,
    /// Tombstones that the owner did not sign, or not for where they stand: somebody put them
    /// there. They count for nothing.
    pub forged: Vec<ObjectName>,
    /// Committed and forgotten, with their records still there.
    forgotten: Vec<(SnapshotId, Parts)>,
    tombstones: Tombstones,
}

/// Which of a snapshot's objects a store lists.
#[derive(Debug, Clone, Default)]
struct Parts {
    pending: Option<Listed>,
    ok: Option<Listed>,
}

/// What a record says that was read and checked.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
struct Told {
    #[n(0)]
    writer: WriterId,
    #[n(1)]
    sequence: u64,
    #[n(2)]
    previous: Option<RecordHash>,
    #[n(3)]
    hash: RecordHash,
    /// If it is committed.
    #[n(4)]
    body: Option<SnapshotBody>,
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
        let names = list_parts(repo)?;
        let mut list = Self { tombstones: Tombstones::load(repo)?, ..Self::default() };
        list.forged = std::mem::take(&mut list.tombstones.forged);
        list.damaged = std::mem::take(&mut list.tombstones.damaged);
        let gone = list.judge_tombstones(&names);
        let mut wanted = Vec::new();
        for (id, parts) in &names {
            if gone.contains(id) {
                continue;
            }
            match &parts.pending {
                Some(_) => wanted.push((*id, parts)),
                None => list.damaged.push((layout::ok(id), lost_record(id))),
            }
        }
        let mut heads: BTreeMap<WriterId, Vec<Head>> = BTreeMap::new();
        let is_far = repo.store().is_far();
        let read = side_by_side(is_far, &wanted, |(id, parts)| read_or_blame(repo, id, parts))?;
        repo.save_run_secrets();
        for ((id, parts), read) in wanted.into_iter().zip(read) {
            match read {
                Ok(told) => {
                    let (sequence, committed) = (told.sequence, parts.ok.is_some());
                    let head = Head { sequence, hash: told.hash, snapshot: id, committed };
                    heads.entry(told.writer).or_default().push(head);
                    list.add(id, parts.stored().unwrap_or_default(), told);
                }
                Err(error) => list.damaged.push((layout::pending(&id), error)),
            }
        }
        // What was salvaged has the time of what it was made of, and comes after it.
        list.snapshots.sort_by_key(|snapshot| {
            (snapshot.time(), snapshot.body.salvaged.is_some(), snapshot.id)
        });
        let judged = remember(repo, &names, &gone, &heads).and_then(|()| list.check_chains(&heads));
        match judged {
            Ok(()) => Ok((list, None)),
            Err(error @ RepoError::RolledBack(_)) => Ok((list, Some(error))),
            Err(error) => Err(error),
        }
    }

    /// Sorts out what tombstones mean; gives the snapshots that are gone by one.
    fn judge_tombstones(&mut self, names: &BTreeMap<SnapshotId, Parts>) -> BTreeSet<SnapshotId> {
        let mut gone = BTreeSet::new();
        for (id, tombstone) in &self.tombstones.last {
            let parts = names.get(id).cloned().unwrap_or_default();
            match tombstone.record.kind {
                ForgetKind::Undo => {
                    let _ = self.taken_back.insert(*id);
                    continue;
                }
                // A backup that came to its end after all was not expired.
                ForgetKind::Expire if parts.ok.is_some() => continue,
                ForgetKind::Forget if parts.pending.is_some() && parts.ok.is_some() => {
                    self.forgotten.push((*id, parts));
                }
                ForgetKind::Forget | ForgetKind::Expire => {}
            }
            let _ = gone.insert(*id);
        }
        gone
    }

    /// What is to be stored to forget a snapshot of this list.
    #[must_use]
    pub fn tombstone_of(&self, snapshot: &Snapshot) -> ForgetRecord {
        ForgetRecord {
            snapshot: snapshot.id,
            kind: ForgetKind::Forget,
            writer: snapshot.writer,
            sequence: snapshot.sequence,
            record: snapshot.head,
            round: self.tombstones.next_round(&snapshot.id),
        }
    }

    /// What is to be stored to forget a snapshot whose record cannot be read. Its place in the
    /// chain of its writer is not known: it is sequence 0 of no writer.
    #[must_use]
    pub fn tombstone_of_unreadable(&self, id: &SnapshotId) -> ForgetRecord {
        ForgetRecord {
            snapshot: *id,
            kind: ForgetKind::Forget,
            writer: WriterId::new([0; 16]),
            sequence: 0,
            record: RecordHash::new([0; 32]),
            round: self.tombstones.next_round(id),
        }
    }

    /// Reads the snapshots that were forgotten and whose records are still there, oldest first.
    /// Those that cannot be read are left out.
    ///
    /// Errors: of the store.
    pub fn read_forgotten(
        &self,
        repo: &Repository,
    ) -> Result<Vec<(Snapshot, Tombstone)>, RepoError> {
        let is_far = repo.store().is_far();
        let read =
            side_by_side(is_far, &self.forgotten, |(id, parts)| read_or_blame(repo, id, parts))?;
        let mut found = Self::default();
        for ((id, parts), read) in self.forgotten.iter().zip(read) {
            if let Ok(told) = read {
                found.add(*id, parts.stored().unwrap_or_default(), told);
            }
        }
        found.snapshots.sort_by_key(|snapshot| (snapshot.time(), snapshot.id));
        let said = |snapshot: Snapshot| {
            let tombstone = self.tombstones.last.get(&snapshot.id)?.clone();
            Some((snapshot, tombstone))
        };
        Ok(found.snapshots.into_iter().filter_map(said).collect())
    }

    fn add(&mut self, id: SnapshotId, stored: Time, told: Told) {
        let Told { writer, sequence, previous, hash: head, body } = told;
        match body {
            Some(body) => {
                let snapshot = Snapshot { id, writer, sequence, previous, head, stored, body };
                self.snapshots.push(snapshot);
            }
            None => self.unfinished.push(id),
        }
    }

    /// Checks that records which follow one another name each other. A writer's state that was
    /// cloned gives two records of one number: each may be followed, also one that a tombstone
    /// stands for.
    fn check_chains(&self, heads: &BTreeMap<WriterId, Vec<Head>>) -> Result<(), RepoError> {
        let mut records: BTreeMap<(WriterId, u64), Vec<RecordHash>> = BTreeMap::new();
        for (writer, heads) in heads {
            for head in heads {
                records.entry((*writer, head.sequence)).or_default().push(head.hash);
            }
        }
        for ForgetRecord { writer, sequence, record, .. } in
            self.tombstones.last.values().map(|tombstone| &tombstone.record)
        {
            if let Some(records) = records.get_mut(&(*writer, *sequence)) {
                records.push(*record);
            }
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

    /// Whether the record of this head is there, or a tombstone of it that counts. Who was told a
    /// head and does not find it looks at an older copy, even if this host has seen nothing before.
    #[must_use]
    pub fn knows_head(&self, head: &RecordHash) -> bool {
        let live = self.snapshots.iter().map(|snapshot| &snapshot.head);
        let forgotten = self.tombstones.last.values().map(|last| &last.record.record);
        live.chain(forgotten).any(|known| known == head)
    }
}

/// The hash of a record as it is stored.
pub(super) fn record_hash(bytes: &[u8]) -> RecordHash {
    RecordHash::new(digest(bytes))
}

impl Parts {
    /// When its commit was stored.
    fn stored(&self) -> Option<Time> {
        self.ok.as_ref().map(|ok| ok.modified)
    }
}

/// As [`read`]; inside, that of which the one snapshot is to blame.
fn read_or_blame(
    repo: &Repository,
    id: &SnapshotId,
    parts: &Parts,
) -> Result<Result<Told, RepoError>, RepoError> {
    if let Some(told) = noted(repo, parts) {
        return Ok(Ok(told));
    }
    match read(repo, id, parts.ok.is_some()) {
        Ok(told) => {
            note(repo, parts, &told);
            Ok(Ok(told))
        }
        Err(RepoError::Store(error)) if !error.is_damage() => Err(error.into()),
        Err(error) => Ok(Err(error)),
    }
}

/// What was noted of a snapshot whose objects are as they were then.
fn noted(repo: &Repository, parts: &Parts) -> Option<Told> {
    let value = repo.records().get(parts.pending.as_ref()?)?;
    let mut told: Told = minicbor::decode(&value).ok()?;
    match &parts.ok {
        Some(ok) => {
            let commit = repo.records().get(ok)?;
            (told.body.is_some() && *commit == told.hash.as_bytes()[..]).then_some(told)
        }
        None => {
            told.body = None;
            Some(told)
        }
    }
}

fn note(repo: &Repository, parts: &Parts, told: &Told) {
    if let Some(pending) = &parts.pending {
        repo.records().note(pending, encode(told));
    }
    if let Some(ok) = &parts.ok {
        repo.records().note(ok, told.hash.as_bytes().to_vec());
    }
}

fn encode(told: &Told) -> Vec<u8> {
    minicbor::to_vec(told).expect("because writing to memory cannot fail")
}

/// Notes a snapshot that this process has stored; `sizes` of its record and its commit, in bytes.
pub(super) fn note_stored(
    repo: &Repository,
    record: &PendingRecord,
    hash: RecordHash,
    body: &SnapshotBody,
    sizes: (u64, u64),
) {
    let (writer, sequence, previous) = (record.writer, record.sequence, record.previous);
    let told = Told { writer, sequence, previous, hash, body: Some(body.clone()) };
    let id = &record.snapshot;
    repo.records().note_stored(&layout::pending(id), sizes.0, encode(&told));
    repo.records().note_stored(&layout::ok(id), sizes.1, hash.as_bytes().to_vec());
}

/// Reads a snapshot's record, and its body if it is committed.
fn read(repo: &Repository, id: &SnapshotId, ok: bool) -> Result<Told, RepoError> {
    let (record, hash) = match ok {
        // Where the store is far, the record and its commit are asked for at once.
        true => {
            let is_far = repo.store().is_far();
            let (read, commit) = both(is_far, || read_pending(repo, id), || read_commit(repo, id))?;
            check_commits(id, &commit, read.1)?;
            read
        }
        false => read_pending(repo, id)?,
    };
    let body = if ok { Some(open_body(repo, &record)?) } else { None };
    let PendingRecord { writer, sequence, previous, .. } = record;
    Ok(Told { writer, sequence, previous, hash, body })
}

/// Reads the records of committed snapshots in the store itself, whatever the cache says of them;
/// gives the first that cannot be read, if there is one.
///
/// Errors: the store as a whole fails.
pub fn first_unreadable(
    repo: &Repository,
    ids: &[SnapshotId],
) -> Result<Option<(SnapshotId, RepoError)>, RepoError> {
    let looked = side_by_side(repo.store().is_far(), ids, |id| match read(repo, id, true) {
        Err(RepoError::Store(error)) if !error.is_damage() => Err(RepoError::Store(error)),
        read => Ok(read.err().map(|error| (*id, error))),
    })?;
    Ok(looked.into_iter().flatten().next())
}

/// Reads a snapshot by its record alone, where its commit is damaged.
///
/// Errors: as for any record.
pub fn read_without_commit(repo: &Repository, id: &SnapshotId) -> Result<Snapshot, RepoError> {
    let (record, head) = read_pending(repo, id)?;
    let name = layout::ok(id);
    let commit = match repo.store().get(&name, RECORD_BYTES_MAX) {
        Ok(bytes) => repo.open_signed(ObjectKind::Ok, &name, &bytes).is_ok(),
        Err(error) if error.is_damage() => false,
        Err(error) => return Err(error.into()),
    };
    if commit {
        // It says that this is not what was committed.
        check_commit(repo, id, head)?;
    }
    let body = open_body(repo, &record)?;
    let PendingRecord { snapshot: id, writer, sequence, previous, .. } = record;
    Ok(Snapshot { id, writer, sequence, previous, head, stored: Time::default(), body })
}

/// Reads the record of a snapshot, whether that was committed or not; its body stays sealed.
pub(super) fn read_pending(
    repo: &Repository,
    id: &SnapshotId,
) -> Result<(PendingRecord, RecordHash), RepoError> {
    let name = layout::pending(id);
    let bytes = repo.store().get(&name, RECORD_BYTES_MAX)?;
    let message = repo.open_signed(ObjectKind::Pending, &name, &bytes)?;
    let record = PendingRecord::decode(&message).map_err(RepoError::object(&name))?;
    if record.snapshot != *id {
        let why = "it stands under another snapshot's name";
        let error = FormatError::damaged("snapshot record", why);
        return Err(RepoError::object(&name)(error));
    }
    Ok((record, record_hash(&bytes)))
}

/// Reads the commit of a snapshot and checks that it is that of the record with this hash.
pub(super) fn check_commit(
    repo: &Repository,
    id: &SnapshotId,
    hash: RecordHash,
) -> Result<(), RepoError> {
    check_commits(id, &read_commit(repo, id)?, hash)
}

fn read_commit(repo: &Repository, id: &SnapshotId) -> Result<OkRecord, RepoError> {
    let name = layout::ok(id);
    let bytes = repo.store().get(&name, RECORD_BYTES_MAX)?;
    let message = repo.open_signed(ObjectKind::Ok, &name, &bytes)?;
    OkRecord::decode(&message).map_err(RepoError::object(&name))
}

fn check_commits(id: &SnapshotId, commit: &OkRecord, hash: RecordHash) -> Result<(), RepoError> {
    if commit.snapshot != *id || commit.pending != hash {
        let error = FormatError::damaged("snapshot record", "it commits another record");
        return Err(RepoError::object(&layout::ok(id))(error));
    }
    Ok(())
}

/// Opens the sealed part of a record.
pub(super) fn open_body(
    repo: &Repository,
    record: &PendingRecord,
) -> Result<SnapshotBody, RepoError> {
    let name = layout::pending(&record.snapshot);
    let secret = repo.run_secret(&record.seal)?;
    SnapshotBody::open(&secret, &record.snapshot, &record.body).map_err(RepoError::object(&name))
}

fn lost_record(id: &SnapshotId) -> RepoError {
    let error = FormatError::damaged("snapshot record", "it is lost, its commit is there");
    RepoError::object(&layout::pending(id))(error)
}

/// The objects of snapshots that the store lists.
fn list_parts(repo: &Repository) -> Result<BTreeMap<SnapshotId, Parts>, RepoError> {
    let mut names: BTreeMap<SnapshotId, Parts> = BTreeMap::new();
    for object in repo.store().list(layout::SNAPSHOTS)? {
        if let Some(id) = layout::id_of(&object.name, ".pending") {
            names.entry(id).or_default().pending = Some(object);
        } else if let Some(id) = layout::id_of(&object.name, ".ok") {
            names.entry(id).or_default().ok = Some(object);
        }
    }
    Ok(names)
}

/// Compares what the store shows with what this host has seen, and remembers what is new.
fn remember(
    repo: &Repository,
    listed: &BTreeMap<SnapshotId, Parts>,
    gone: &BTreeSet<SnapshotId>,
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
        if gone.contains(&known.snapshot) {
            continue;
        }
        let now = heads
            .get(writer)
            .and_then(|records| records.iter().find(|head| head.snapshot == known.snapshot));
        let problem = match (listed.get(&known.snapshot), now) {
            (None | Some(Parts { pending: None, .. }), _) => "gone",
            (Some(Parts { ok: None, .. }), _) if known.committed => "no longer committed",
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
