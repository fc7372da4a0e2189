//! G1 and G3: what snapshots need. Every record that is live or pending is read, and every node of
//! their trees, once each. What was needed once stays needed: a later list only adds.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::super::chunk_reader::ChunkReader;
use super::super::error::RepoError;
use super::super::inventory::Folder;
use super::super::layout;
use super::super::reach::reach;
use super::super::repository::Repository;
use super::super::snapshots::{check_commit, open_body, read_pending};
use super::needed::Needed;
use super::view::{Listed, View};
use super::{Stop, not_collected};
use crate::clock::Time;
use crate::crypto::{RunSeal, digest};
use crate::event::{Counters, Observer};
use crate::format::{ForgetKind, FormatError, SnapshotBody};
use crate::id::{ChunkId, SnapshotId, WriterId};

/// Opened frames of trees that are kept, in bytes.
const TREE_CACHE: usize = 32 << 20;

/// What is known to be needed, and what was read to know it.
#[derive(Debug)]
pub(super) struct Marks {
    pub(super) needed: Needed,
    /// Nodes that were read.
    seen: HashSet<ChunkId>,
    /// Snapshots that were walked.
    walked: HashSet<SnapshotId>,
    /// The runs that stored a record, and so had stored their packs, by the hash of their seal.
    runs: HashSet<[u8; 32]>,
    /// Who wrote these records.
    pub(super) writers: BTreeSet<WriterId>,
    _folder: Folder,
}

/// Whether a snapshot's chunks are protected, by what lists show of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// They are.
    Needs,
    /// They are, as long as all of them are there: it was expired and came to its end after all.
    NeedsIfWhole,
    /// They are not.
    Nothing,
}

/// What it matters for when something was stored, by the store's clock.
#[derive(Clone, Copy)]
pub(super) struct Ages<'a> {
    /// Records from before tell nothing of what may be under way; none if no record does.
    pub(super) recent: Option<Time>,
    /// Whether what was stored then shows in every list by now.
    pub(super) settled: &'a dyn Fn(Time) -> bool,
}

/// What a snapshot claims. A tombstone that expires a snapshot is void if its commit is listed
/// after it (invariant 5), and counts only once it is `settled`: where lists lag, the writer may
/// not have seen it yet, nor the collector the commit (decision 0013). Time alone never ends a
/// claim.
pub(super) fn claim(ok: bool, tombstone: Option<ForgetKind>, settled: bool) -> Claim {
    match (tombstone, ok) {
        (Some(ForgetKind::Expire), false) if !settled => Claim::Needs,
        (Some(ForgetKind::Forget), _) | (Some(ForgetKind::Expire), false) => Claim::Nothing,
        (Some(ForgetKind::Expire), true) => Claim::NeedsIfWhole,
        (Some(ForgetKind::Undo) | None, _) => Claim::Needs,
    }
}

impl Marks {
    pub(super) fn new(repo: &Repository) -> Result<Self, RepoError> {
        let folder = Folder::make(&repo.dirs().cache)?;
        Ok(Self {
            needed: Needed::new(&folder.path),
            seen: HashSet::new(),
            walked: HashSet::new(),
            runs: HashSet::new(),
            writers: BTreeSet::new(),
            _folder: folder,
        })
    }

    /// Walks the trees of every snapshot in `view` that has a claim and was not walked before, but
    /// not of those in `without`. Of snapshots without a claim only the runs are noted, if their
    /// record is recent.
    ///
    /// Errors: [`RepoError::NotCollected`] for a record or tree that cannot be read.
    pub(super) fn add(
        &mut self,
        repo: &Arc<Repository>,
        view: &View,
        without: &BTreeSet<SnapshotId>,
        ages: Ages<'_>,
        observer: &Arc<dyn Observer>,
        stop: Stop<'_>,
    ) -> Result<(), RepoError> {
        let reader = ChunkReader::new(repo, &view.inventory.index, TREE_CACHE);
        for (id, listed) in &view.snapshots {
            stop()?;
            let claim = match without.contains(id) {
                true => Claim::Nothing,
                false => view.claim(id, *listed, ages.settled),
            };
            if claim == Claim::Nothing {
                if ages.recent.is_some_and(|recent| listed.pending.is_some_and(|at| at >= recent)) {
                    self.pass(repo, id)?;
                }
                continue;
            }
            if self.walked.contains(id) {
                continue;
            }
            if self.walk(repo, &reader, id, *listed, claim, stop)? {
                let _ = self.walked.insert(*id);
            }
            Counters::add(&observer.counters().entries, 1);
        }
        Ok(())
    }

    /// Whether a run has stored a record: then it had stored its packs before.
    pub(super) fn has_record(&self, seal: &RunSeal) -> bool {
        self.runs.contains(&digest(seal.as_bytes()))
    }

    /// How many snapshots are protected.
    pub(super) fn snapshots(&self) -> u64 {
        self.walked.len() as u64
    }

    /// A snapshot without a claim still tells that its run came as far as its record.
    fn pass(&mut self, repo: &Repository, id: &SnapshotId) -> Result<(), RepoError> {
        match read_pending(repo, id) {
            Ok((record, _)) => {
                let _ = self.runs.insert(digest(record.seal.as_bytes()));
                let _ = self.writers.insert(record.writer);
                Ok(())
            }
            // Nobody needs it. What its run stored is taken for that of a run under way.
            Err(error) if error.is_damage() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Says whether the snapshot is whole.
    fn walk(
        &mut self,
        repo: &Arc<Repository>,
        reader: &ChunkReader,
        id: &SnapshotId,
        listed: Listed,
        claim: Claim,
        stop: Stop<'_>,
    ) -> Result<bool, RepoError> {
        let name = layout::pending(id);
        let failed = |error: RepoError| match error.is_damage() {
            true => not_collected(&name)(error),
            false => error,
        };
        if listed.pending.is_none() {
            let lost = FormatError::damaged("snapshot record", "it is lost, its commit is there");
            return Err(failed(RepoError::object(&name)(lost)));
        }
        let (record, hash) = read_pending(repo, id).map_err(failed)?;
        if listed.ok {
            check_commit(repo, id, hash).map_err(failed)?;
        }
        let body = open_body(repo, &record).map_err(failed)?;
        let _ = self.runs.insert(digest(record.seal.as_bytes()));
        let _ = self.writers.insert(record.writer);
        match self.walk_items(reader, &body, claim, stop) {
            Err(RepoError::Chunk { .. } | RepoError::Gone { .. })
                if claim == Claim::NeedsIfWhole =>
            {
                Ok(false)
            }
            walked => walked.map(|()| true).map_err(failed),
        }
    }

    fn walk_items(
        &mut self,
        reader: &ChunkReader,
        body: &SnapshotBody,
        claim: Claim,
        stop: Stop<'_>,
    ) -> Result<(), RepoError> {
        let Self { needed, seen, .. } = self;
        // A walk that ends early must not leave nodes behind that pass for walked.
        let mut own = HashSet::new();
        let seen = if claim == Claim::NeedsIfWhole { &mut own } else { seen };
        for item in &body.items {
            reach(reader, item, seen, &mut |_, id| {
                stop()?;
                if claim == Claim::NeedsIfWhole && reader.index().find_all(id)?.is_empty() {
                    let why = "is gone, and with it a snapshot that was expired".to_owned();
                    return Err(RepoError::Chunk { id: *id, why });
                }
                needed.add(id)
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owners_tombstone_ends_a_claim_and_an_expired_one_not_once_it_is_committed() {
        use ForgetKind::{Expire, Forget, Undo};
        for (ok, tombstone, expected) in [
            (false, None, Claim::Needs),
            (true, None, Claim::Needs),
            (false, Some(Forget), Claim::Nothing),
            (true, Some(Forget), Claim::Nothing),
            (false, Some(Expire), Claim::Nothing),
            (true, Some(Expire), Claim::NeedsIfWhole),
            (false, Some(Undo), Claim::Needs),
            (true, Some(Undo), Claim::Needs),
        ] {
            assert_eq!(claim(ok, tombstone, true), expected, "ok {ok}, {tombstone:?}");
        }
        assert_eq!(claim(false, Some(Expire), false), Claim::Needs, "it may not be seen yet");
        assert_eq!(claim(false, Some(Forget), false), Claim::Nothing);
    }
}
