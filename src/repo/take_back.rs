//! A forgotten snapshot is taken back: steps U1 to U3 of `docs/format.md`.
//!
//! As in a commit, whoever comes second sees the other: first the owner says that the snapshot is
//! wanted, then looks for condemn records. A collector that did not see it wanted has its condemn
//! record seen here, and what only condemned packs hold is stored anew while they are there.

use std::collections::HashSet;
use std::sync::Arc;

use super::chunk_reader::ChunkReader;
use super::chunk_writer::WriterOptions;
use super::commit::Session;
use super::error::RepoError;
use super::reach::reach;
use super::repository::Repository;
use super::snapshots::Snapshot;
use crate::event::Observer;
use crate::format::{ForgetKind, ForgetRecord};
use crate::store::StoreError;

/// Opened frames that are kept, in bytes.
const FRAME_CACHE: usize = 16 << 20;

/// A snapshot that was taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TakenBack {
    /// Bytes stored because only condemned packs held what it needs.
    pub stored_bytes: u64,
}

/// Takes a snapshot back.
///
/// `said` is what would be said of it next; its kind counts for nothing. Of one that was taken
/// back before by a run that did not end (`again`), only what follows is done. If something it
/// needs turns out to be gone, it stays taken back: another run may have stored it anew meanwhile,
/// and its promise must not be broken by this one (decision 0013).
/// Errors: [`RepoError::NoSnapshot`] if it was swept.
pub fn take_back(
    repo: &Arc<Repository>,
    snapshot: &Snapshot,
    said: &ForgetRecord,
    again: bool,
    options: WriterOptions,
    observer: &Arc<dyn Observer>,
) -> Result<TakenBack, RepoError> {
    if !again {
        look_whole(repo, snapshot)?;
        repo.put_tombstone(&ForgetRecord { kind: ForgetKind::Undo, ..said.clone() })?;
    }
    // Begun after the tombstone is durable: so is its listing of what is condemned.
    let mut session = Session::begin(repo, observer)?;
    // What it relied on when it was made may have been condemned since: nothing is taken for
    // sound without a look.
    match session.hold(&snapshot.body, options, true) {
        Ok(stored_bytes) => Ok(TakenBack { stored_bytes }),
        Err(error) if is_gone(&error) => Err(RepoError::NoSnapshot(format!(
            "snapshot {} was taken back, but not all of it is there: {error}; forget it again \
             unless another run is taking it back too",
            snapshot.id.short()
        ))),
        Err(RepoError::NotCommitted { .. }) => Err(RepoError::Refused(format!(
            "packs that snapshot {} needs were condemned again and again; run it again",
            snapshot.id.short()
        ))),
        Err(error) => Err(error),
    }
}

/// U1: looks whether everything that a snapshot needs is there.
///
/// Errors: [`RepoError::NoSnapshot`] if not.
pub fn look_whole(repo: &Arc<Repository>, snapshot: &Snapshot) -> Result<(), RepoError> {
    let index = Arc::new(repo.load_index()?);
    let reader = ChunkReader::new(repo, &index, FRAME_CACHE);
    let mut seen = HashSet::new();
    for item in snapshot.items() {
        let walked =
            reach(&reader, item, &mut seen, &mut |_, id| match index.find_all(id)?.is_empty() {
                true => Err(RepoError::Chunk { id: *id, why: "is gone".to_owned() }),
                false => Ok(()),
            });
        match walked {
            Err(error) if is_gone(&error) => return Err(swept(snapshot, &error)),
            walked => walked?,
        }
    }
    Ok(())
}

/// Whether it says that no copy of a chunk can be had, rather than that a record is damaged.
fn is_gone(error: &RepoError) -> bool {
    let record = matches!(
        error,
        RepoError::Object { .. }
            | RepoError::Format(_)
            | RepoError::Slot(_)
            | RepoError::RunSeal(_)
    );
    // What a disk cannot read is there.
    let unread = matches!(error, RepoError::Store(StoreError::Io { .. }));
    error.is_damage() && !record && !unread
}

fn swept(snapshot: &Snapshot, error: &RepoError) -> RepoError {
    let id = snapshot.id.short();
    RepoError::NoSnapshot(format!("snapshot {id} cannot be taken back any more: {error}"))
}
