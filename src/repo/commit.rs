//! The two-list protocol: how a snapshot comes to count while others collect garbage.
//!
//! The writer stores its record, then looks for condemn records; the collector stores its condemn
//! record, then looks for snapshot records. At least one of them sees the other. No lock, no clock
//! and no conditional write is needed. Steps B1 to B6 are those of `docs/format.md`.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::chunk_reader::ChunkReader;
use super::chunk_writer::{ChunkWriter, WriterOptions, WriterReport};
use super::error::RepoError;
use super::index::Index;
use super::layout;
use super::packer::RunKeys;
use super::reach::reach;
use super::repository::Repository;
use super::side_by_side::both;
use super::snapshots::{SnapshotList, note_stored, record_hash};
use super::state::{Head, LockedState};
use super::tombstones::is_expired;
use crate::crypto::random_bytes;
use crate::event::Observer;
use crate::format::{
    CondemnRecord, ObjectKind, OkRecord, PendingRecord, RECORD_BYTES_MAX, SnapshotBody,
};
use crate::id::{PackId, RecordHash, SnapshotId, WriterId};
use crate::store::{ObjectName, StoreError};

/// So often is a snapshot rescued from packs condemned under it before the run gives up.
const RESCUE_ROUNDS: usize = 5;

/// Frames kept open while a snapshot is rescued, in bytes.
const RESCUE_CACHE: usize = 16 << 20;

/// A run that will end in one snapshot.
pub struct Session {
    repo: Arc<Repository>,
    index: Arc<Index>,
    snapshot: SnapshotId,
    run: RunKeys,
    condemns: BTreeSet<ObjectName>,
    /// The condemn records of these names.
    records: Vec<(ObjectName, CondemnRecord)>,
    observer: Arc<dyn Observer>,
}

/// A snapshot that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Its id.
    pub snapshot: SnapshotId,
    /// Its writer's head: who knows it can tell whether a store was rolled back.
    pub head: RecordHash,
    /// Bytes stored for the records and for chunks rescued from condemned packs.
    pub stored_bytes: u64,
}

impl Session {
    /// B1: lists what is condemned and what is stored. Only packs that are listed and that no
    /// condemn record names count as stored.
    ///
    /// Errors: [`RepoError::Object`] for an index segment or condemn record that cannot be read.
    pub fn begin(repo: &Arc<Repository>, observer: &Arc<dyn Observer>) -> Result<Self, RepoError> {
        repo.check_writable()?;
        let condemned = repo.condemn_records(&BTreeSet::new())?;
        let index = Arc::new(repo.load_index_without(&condemned)?);
        let (secret, seal) = repo.keyring().restore().public().seal(repo.id().as_bytes())?;
        Ok(Self {
            repo: repo.clone(),
            index,
            snapshot: SnapshotId::new(random_bytes()?),
            run: RunKeys { secret, seal },
            condemns: condemned.iter().map(|(name, _)| name.clone()).collect(),
            records: condemned,
            observer: observer.clone(),
        })
    }

    /// Lists the snapshots, and does B1; at once where the store is far, since neither needs what
    /// the other finds.
    ///
    /// Errors: of [`SnapshotList::load`], else of [`Session::begin`].
    pub fn begin_beside_list(
        repo: &Arc<Repository>,
        observer: &Arc<dyn Observer>,
    ) -> Result<(SnapshotList, Self), RepoError> {
        let is_far = repo.store().is_far();
        both(is_far, || SnapshotList::load(repo), || Self::begin(repo, observer))
    }

    /// The index as B1 found it, with what this run adds.
    #[must_use]
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// The snapshot's id.
    #[must_use]
    pub fn snapshot(&self) -> SnapshotId {
        self.snapshot
    }

    /// Lets nothing of this run rest on these packs: something in them is known to be damaged.
    pub fn distrust<'p>(&self, packs: impl IntoIterator<Item = &'p PackId>) {
        for pack in packs {
            if let Some(pack) = self.index.pack_ref(pack) {
                self.index.distrust(pack);
            }
        }
    }

    /// B2: stores chunks; [`ChunkWriter::finish`] waits for all acknowledgements.
    #[must_use]
    pub fn writer(&self, options: WriterOptions) -> ChunkWriter {
        ChunkWriter::start(&self.repo, &self.index, self.run.clone(), options, &self.observer)
    }

    /// B3 to B6: stores the record, looks for condemn records, commits, looks for a tombstone.
    ///
    /// Errors: [`RepoError::NotCommitted`] if garbage was collected under the snapshot faster than
    /// it could be rescued, or if it was expired meanwhile. Then it is not acknowledged.
    pub fn commit(
        mut self,
        body: &SnapshotBody,
        options: WriterOptions,
    ) -> Result<Committed, RepoError> {
        let (record, head, mut stored_bytes) = self.put_pending(body)?;
        let record_len = stored_bytes;
        // What a damaged pack holds is stored again like what a condemned one holds.
        let doubtful = self.is_condemned()? || self.index.relies_on_distrusted();
        stored_bytes += self.hold(body, options, doubtful).map_err(|error| self.swept(error))?;
        let commit = OkRecord { snapshot: self.snapshot, pending: head };
        let payload = self.repo.seal_signed(ObjectKind::Ok, &commit.encode())?;
        self.repo.store().put(&layout::ok(&self.snapshot), &payload)?;
        stored_bytes += payload.len();
        self.check_not_expired()?;
        note_stored(&self.repo, &record, head, body, (record_len, payload.len()));
        Ok(Committed { snapshot: self.snapshot, head, stored_bytes })
    }

    /// While it is doubtful whether nothing condemned is relied on, stores anew what has no sound
    /// holder and asks again. Gives the bytes stored.
    ///
    /// Errors: [`RepoError::NotCommitted`] after some rounds; what reading a chunk says that is
    /// gone.
    pub(super) fn hold(
        &mut self,
        body: &SnapshotBody,
        options: WriterOptions,
        mut doubtful: bool,
    ) -> Result<u64, RepoError> {
        let (mut round, mut stored_bytes) = (0, 0);
        while doubtful {
            round += 1;
            if round > RESCUE_ROUNDS {
                let why = "packs it needs were condemned again and again; run it again";
                return Err(self.not_committed(why));
            }
            stored_bytes += self.rescue(body, options)?.stored_bytes;
            doubtful = self.is_condemned()?;
        }
        Ok(stored_bytes)
    }

    /// B3. The state names the record before it is stored, so that a crash between the two leaves
    /// no doubt which record the next one follows.
    fn put_pending(
        &self,
        body: &SnapshotBody,
    ) -> Result<(PendingRecord, RecordHash, u64), RepoError> {
        let mut locked = LockedState::open(&self.repo)?;
        let mut last = locked.state.last;
        if let Some(tentative) = locked.state.tentative.take() {
            let name = layout::pending(&tentative.snapshot);
            if self.repo.store().list(layout::SNAPSHOTS)?.iter().any(|o| o.name == name) {
                last = Some(tentative);
            }
        }
        // A record of ours that we did not write: this state is a copy of another host's, which
        // goes on as that writer. The copy begins a chain of its own.
        let seen = locked.state.heads.get(&locked.state.writer);
        let newest = |head: &Head| last.is_none_or(|last| head.sequence >= last.sequence);
        if seen.is_some_and(|seen| newest(seen) && last.map(|last| last.hash) != Some(seen.hash)) {
            locked.state.writer = WriterId::new(random_bytes()?);
            last = None;
        }
        let record = PendingRecord {
            snapshot: self.snapshot,
            writer: locked.state.writer,
            sequence: last.map_or(1, |head| head.sequence + 1),
            previous: last.map(|head| head.hash),
            seal: self.run.seal.clone(),
            body: body.seal(&self.run.secret, &self.snapshot)?,
        };
        let payload = self.repo.seal_signed(ObjectKind::Pending, &record.encode())?;
        if payload.len() > RECORD_BYTES_MAX {
            return Err(self.not_committed("its record would be too large to be read again"));
        }
        let hash = record_hash(&payload.to_vec());
        let (sequence, snapshot) = (record.sequence, self.snapshot);
        let head = Head { sequence, hash, snapshot, committed: false };
        locked.state.last = last;
        locked.state.tentative = Some(head);
        locked.save()?;
        self.repo.store().put(&layout::pending(&self.snapshot), &payload)?;
        locked.state.last = Some(head);
        locked.state.tentative = None;
        let writer = locked.state.writer;
        let _ = locked.state.heads.insert(writer, head);
        locked.save()?;
        Ok((record, hash, payload.len()))
    }

    /// B4: whether a condemn record that appeared since names a pack this run relies on.
    fn is_condemned(&mut self) -> Result<bool, RepoError> {
        let mut packs: HashSet<PackId> = HashSet::new();
        for (name, record) in self.repo.condemn_records(&self.condemns)? {
            packs.extend(&record.packs);
            for id in &record.segments {
                // What is known through a condemned segment only is not known.
                match self.repo.read_segment(id) {
                    Ok(segment) => packs.extend(segment.packs.iter().map(|pack| pack.id)),
                    // Swept already, or damaged. Condemning too much costs another look and
                    // loses nothing.
                    Err(error) if error.is_damage() => {
                        packs.extend(self.index.packs_beside(id));
                    }
                    Err(error) => return Err(error),
                }
            }
            let _ = self.condemns.insert(name.clone());
            self.records.push((name, record));
        }
        let relied = self.index.condemn(&packs);
        if relied {
            self.resolve_anew()?;
        }
        Ok(relied)
    }

    /// Loads the index again: a collector that repacked, or merged segments, has stored elsewhere
    /// what it condemned.
    ///
    /// What is relied on is forgotten with the old index, and noted again by the rescue.
    fn resolve_anew(&mut self) -> Result<(), RepoError> {
        let index = self.repo.load_index_without(&self.records)?;
        for pack in self.index.distrusted() {
            if let Some(pack) = index.pack_ref(&pack) {
                index.distrust(pack);
            }
        }
        self.index = Arc::new(index);
        Ok(())
    }

    /// Stores again what the snapshot has in condemned packs only, while those are still there.
    fn rescue(
        &self,
        body: &SnapshotBody,
        options: WriterOptions,
    ) -> Result<WriterReport, RepoError> {
        let reader = ChunkReader::new(&self.repo, &self.index, RESCUE_CACHE);
        let mut writer = self.writer(options);
        let mut seen = HashSet::new();
        for item in &body.items {
            reach(&reader, item, &mut seen, &mut |kind, id| {
                if !self.index.rely(id)? {
                    let _ = writer.store(kind, *id, &reader.read(kind, id)?)?;
                }
                Ok(())
            })?;
        }
        writer.finish()
    }

    /// Says what it means that something in a condemned pack cannot be read: the pack was deleted.
    fn swept(&self, error: RepoError) -> RepoError {
        match error {
            RepoError::Store(StoreError::NotFound(_))
            | RepoError::Frame { .. }
            | RepoError::Gone { .. }
            | RepoError::Chunk { .. } => self.not_committed(&format!(
                "what it needs is damaged or was deleted under it ({error}); run the backup again"
            )),
            other => other,
        }
    }

    /// B6.
    fn check_not_expired(&self) -> Result<(), RepoError> {
        match is_expired(&self.repo, &self.snapshot)? {
            true => Err(self.not_committed("it was expired while it was being made")),
            false => Ok(()),
        }
    }

    fn not_committed(&self, why: &str) -> RepoError {
        RepoError::NotCommitted { snapshot: self.snapshot, why: why.to_owned() }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({})", self.snapshot.short())
    }
}
