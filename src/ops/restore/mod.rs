//! Restore: from a snapshot's tree to a directory, a volume or a tar stream.

mod delta;
mod directory;
mod extents;
mod read_ahead;
mod selected;
mod tar;
mod verify;
mod volume;
mod window;

use std::path::Path;
use std::sync::Arc;

pub use self::delta::{Extra, restore_over};
pub(crate) use self::directory::restore_tree;
pub use self::selected::SelectedWalk;
pub use self::tar::restore_tar;
pub(crate) use self::tar::{Piece, write_content};
pub use self::verify::{verify_directory, verify_volume};
pub use self::volume::{Existing, VolumeRestore, VolumeState, plan_volume_restore, restore_volume};
use super::error::{Interrupt, OpsError};
use crate::entry::EntryPath;
use crate::event::{Observer, Warning};
use crate::format::Item;
use crate::id::SnapshotId;
use crate::repo::ChunkReader;
use crate::sink::{Directory, DirectoryOptions, Sink, SinkError};
use crate::source::Selection;

/// What is brought back, and who watches.
pub struct RestoreRun<'a> {
    /// Reads the repository.
    pub reader: &'a Arc<ChunkReader>,
    /// What of the item is brought back.
    pub selection: Selection,
    /// Who watches.
    pub observer: &'a Arc<dyn Observer>,
    /// Who may stop it.
    pub interrupt: &'a Interrupt,
}

impl RestoreRun<'_> {
    /// One entry that cannot be written is named and left out; a target that fails ends the run.
    fn settle(&self, path: &EntryPath, result: Result<(), SinkError>) -> Result<bool, OpsError> {
        match result {
            Ok(()) => Ok(true),
            Err(SinkError::Entry { source, .. }) => {
                let message = format!("could not be written: {source}");
                self.observer.warn(Warning::skipped(path.to_slashed(), message));
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// What a restore did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RestoreReport {
    /// Entries brought back.
    pub entries: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// Files left out because what the repository has of them is damaged; whoever watches was told
    /// each.
    pub damaged: u64,
}

/// Brings an item back into a directory that is new or empty.
///
/// A restore that was interrupted is known by its marker, and done again from the start.
/// Errors: [`OpsError::Sink`] with a refusal if the directory holds anything else.
pub fn restore_directory(
    run: &RestoreRun<'_>,
    snapshot: &SnapshotId,
    item: &Item,
    target: &Path,
    options: DirectoryOptions,
) -> Result<RestoreReport, OpsError> {
    let marker = marker(snapshot, item);
    let sink = Directory::create(target, options, &marker, run.observer.clone())?;
    restore_to(run, item, Box::new(sink))
}

/// As [`restore_directory`], into a sink where a restore has begun.
pub fn restore_to(
    run: &RestoreRun<'_>,
    item: &Item,
    sink: Box<dyn Sink>,
) -> Result<RestoreReport, OpsError> {
    restore_tree(run, SelectedWalk::new(run.reader, item, run.selection.clone()), sink)
}

/// Makes a directory that is there, and whose state is `present`, what `wanted` says; writes only
/// what differs. `snapshot` is that of `wanted`.
///
/// Both items must be whole trees that were read without leaving anything out; nothing may write to
/// the directory since `present` was read. What is neither selected nor in the way stays as it is.
/// Errors: [`OpsError`]; the directory's marker then stays, and says that it is not whole.
pub fn restore_into_existing(
    run: &RestoreRun<'_>,
    present: &Item,
    wanted: &Item,
    snapshot: &SnapshotId,
    target: &Path,
    options: DirectoryOptions,
    extra: Extra,
) -> Result<RestoreReport, OpsError> {
    let marker = marker(snapshot, wanted);
    let sink = Directory::existing(target, options, &marker, run.observer.clone())?;
    restore_over(run, present, wanted, extra, Box::new(sink))
}

/// What a target's marker says while a restore is under way.
fn marker(snapshot: &SnapshotId, item: &Item) -> String {
    format!("snapshot {snapshot} {}", crate::entry::escape(item.name.as_bytes()))
}
