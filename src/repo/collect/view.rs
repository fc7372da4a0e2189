//! What lists show that were begun one after the other: tombstones, snapshots, condemn records,
//! segments, packs. In this order: whoever adds something works the other way round.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::super::error::RepoError;
use super::super::inventory::Inventory;
use super::super::layout;
use super::super::repository::Repository;
use super::super::tombstones::Tombstones;
use super::mark::{Claim, claim};
use super::not_collected;
use crate::clock::Time;
use crate::format::CondemnRecord;
use crate::id::{SegmentId, SnapshotId};
use crate::store::{ObjectName, StoreError};

/// Lists are taken again so often when somebody deletes what they showed.
const ROUNDS_MAX: usize = 3;

/// What is listed of a snapshot.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Listed {
    /// When its record was written, by the store's clock; none if there is only a commit.
    pub(super) pending: Option<Time>,
    /// Whether its commit is there.
    pub(super) ok: bool,
}

/// A condemn record that the owner signed.
#[derive(Debug, Clone)]
pub(super) struct Condemned {
    pub(super) name: ObjectName,
    /// When it was written, by the store's clock.
    pub(super) written: Time,
    /// Whether somebody says that it was swept.
    pub(super) done: bool,
    pub(super) record: CondemnRecord,
}

/// What lists showed that were begun one after the other.
#[derive(Debug)]
pub(super) struct View {
    pub(super) tombstones: Tombstones,
    pub(super) snapshots: BTreeMap<SnapshotId, Listed>,
    pub(super) condemned: Vec<Condemned>,
    pub(super) condemned_segments: HashSet<SegmentId>,
    pub(super) inventory: Inventory,
}

impl View {
    /// Lists and reads. Condemn records in `before` are not read again.
    ///
    /// Errors: [`RepoError::NotCollected`] for a tombstone, condemn record or segment that cannot
    /// be read, or segments that contradict each other: nothing may be deleted then.
    pub(super) fn take(repo: &Repository, before: &[Condemned]) -> Result<Self, RepoError> {
        let mut round = 1;
        loop {
            let view = Self::take_once(repo, before)?;
            let damage = view.inventory.damaged.iter();
            let Some((name, _)) = damage.clone().next() else { return Ok(view) };
            // Another collector may have swept a segment between list and read.
            let all_gone = damage
                .clone()
                .all(|(_, error)| matches!(error, RepoError::Store(StoreError::NotFound(_))));
            round += 1;
            if !all_gone || round > ROUNDS_MAX {
                let name = name.clone();
                let error = match view.inventory.damaged.into_iter().next() {
                    Some((_, error)) => error,
                    None => RepoError::Worker,
                };
                return Err(not_collected(&name)(error));
            }
        }
    }

    fn take_once(repo: &Repository, before: &[Condemned]) -> Result<Self, RepoError> {
        let mut tombstones = Tombstones::load(repo)?;
        // What was said of its snapshot is not known.
        if let Some((name, error)) = tombstones.damaged.pop() {
            return Err(not_collected(&name)(error));
        }
        let snapshots = list_snapshots(repo)?;
        let condemned = list_condemned(repo, before)?;
        let records = condemned.iter().map(|condemned| &condemned.record);
        let inventory = Inventory::take_after(repo, records.clone())?;
        let condemned_segments = records.flat_map(|record| &record.segments).copied().collect();
        Ok(Self { tombstones, snapshots, condemned, condemned_segments, inventory })
    }

    /// What a snapshot claims, by what the owner said last of it.
    pub(super) fn claim(
        &self,
        id: &SnapshotId,
        listed: Listed,
        settled: &dyn Fn(Time) -> bool,
    ) -> Claim {
        let said = self.tombstones.last.get(id);
        let settled = said.is_none_or(|tombstone| settled(tombstone.stored));
        claim(listed.ok, said.map(|tombstone| tombstone.record.kind), settled)
    }

    /// The newest time by the store's clock that it shows of condemn records, packs, tombstones and
    /// records of snapshots: so late it is at least, whatever this host's clock says.
    pub(super) fn newest(&self) -> Time {
        let records = self.condemned.iter().map(|condemned| condemned.written);
        let packs = self.inventory.written.values().copied();
        let tombstones = self.tombstones.last.values().map(|said| said.stored);
        let snapshots = self.snapshots.values().filter_map(|listed| listed.pending);
        records.chain(packs).chain(tombstones).chain(snapshots).max().unwrap_or_default()
    }
}

fn list_snapshots(repo: &Repository) -> Result<BTreeMap<SnapshotId, Listed>, RepoError> {
    let mut snapshots: BTreeMap<SnapshotId, Listed> = BTreeMap::new();
    for object in repo.store().list(layout::SNAPSHOTS)? {
        if let Some(id) = layout::id_of(&object.name, ".pending") {
            snapshots.entry(id).or_default().pending = Some(object.modified);
        } else if let Some(id) = layout::id_of(&object.name, ".ok") {
            snapshots.entry(id).or_default().ok = true;
        }
    }
    Ok(snapshots)
}

fn list_condemned(repo: &Repository, before: &[Condemned]) -> Result<Vec<Condemned>, RepoError> {
    let listed = repo.store().list(layout::GC)?;
    let done: BTreeSet<&str> =
        listed.iter().filter_map(|object| object.name.as_str().strip_suffix(".done")).collect();
    let known: BTreeMap<&ObjectName, &CondemnRecord> =
        before.iter().map(|condemned| (&condemned.name, &condemned.record)).collect();
    let mut condemned = Vec::new();
    for object in &listed {
        let Some(id) = object.name.as_str().strip_suffix(".condemn") else { continue };
        let record = match known.get(&object.name) {
            Some(record) => (*record).clone(),
            None => match repo.read_condemn(&object.name) {
                Ok(Some(record)) => record,
                Ok(None) => continue,
                Err(error) if error.is_damage() => {
                    return Err(not_collected(&object.name)(error));
                }
                Err(error) => return Err(error),
            },
        };
        let (name, written) = (object.name.clone(), object.modified);
        condemned.push(Condemned { name, written, done: done.contains(id), record });
    }
    Ok(condemned)
}
