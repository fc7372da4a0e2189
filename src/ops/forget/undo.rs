//! Takes forgotten snapshots back, as long as they were not swept.

use std::sync::Arc;

use crate::clock::Time;
use crate::event::Observer;
use crate::id::SnapshotId;
use crate::ops::error::OpsError;
use crate::repo::{Repository, Snapshot, SnapshotList, WriterOptions, look_whole, take_back};

/// A snapshot that can perhaps be taken back.
#[derive(Debug, Clone)]
pub struct Forgotten {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// When it was forgotten, by the store's clock; none if it was taken back since, perhaps by a
    /// run that did not come to its end.
    pub at: Option<Time>,
}

/// What taking back a snapshot came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UndoReport {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Bytes stored because only condemned packs held what it needs.
    pub stored_bytes: u64,
}

/// The snapshots that were forgotten and whose records are still there, oldest first; then those
/// that were taken back before.
///
/// Errors: [`OpsError::Repo`].
pub fn forgotten(repo: &Repository, list: &SnapshotList) -> Result<Vec<Forgotten>, OpsError> {
    let gone = list.read_forgotten(repo)?;
    let gone =
        gone.into_iter().map(|(snapshot, said)| Forgotten { snapshot, at: Some(said.stored) });
    let back = list.snapshots.iter().filter(|snapshot| list.taken_back.contains(&snapshot.id));
    Ok(gone.chain(back.cloned().map(|snapshot| Forgotten { snapshot, at: None })).collect())
}

/// Takes one of them back. When it returns, nothing that a collector did or does loses it.
///
/// A dry run only looks whether everything is there.
/// Errors: [`OpsError::Repo`]; `NoSnapshot` in it if it was swept.
pub fn undo(
    repo: &Arc<Repository>,
    list: &SnapshotList,
    forgotten: &Forgotten,
    dry_run: bool,
    observer: &Arc<dyn Observer>,
) -> Result<UndoReport, OpsError> {
    let snapshot = &forgotten.snapshot;
    if dry_run {
        look_whole(repo, snapshot)?;
        return Ok(UndoReport { snapshot: snapshot.id, stored_bytes: 0 });
    }
    let (said, again) = (list.tombstone_of(snapshot), forgotten.at.is_none());
    let options = WriterOptions::default();
    let done = take_back(repo, snapshot, &said, again, options, observer)?;
    Ok(UndoReport { snapshot: snapshot.id, stored_bytes: done.stored_bytes })
}
