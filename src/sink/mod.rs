//! Where entries go: a directory or a tar stream.
//!
//! Floor 5. A sink writes what it is given and nothing outside its target.

mod beneath;
mod directory;
mod file;
mod handle;
mod marker;
mod metadata;
mod node;
mod removal;
mod staging;
mod tar;
mod target;

use std::io;

use crate::entry::{Entry, EntryPath, Kind};

pub use self::directory::{Directory, DirectoryOptions};
pub use self::file::{File, Holes};
pub use self::marker::{MARKER_NAME, read_marker};
pub use self::metadata::Special;
pub use self::staging::{Spot, Staging};
pub use self::tar::{TarWriter, TarWriterOptions};

/// A directory that entries are brought back into, from any number of threads.
///
/// A parent must be made before what it holds, and finished after it. Where the directory is on
/// another host, a call may return before it is done: what then fails with one entry is told to
/// whoever watches, and what fails altogether, the next call reports.
///
/// Errors of all calls: `Entry` if this one thing cannot be written; `Target` if nothing more can.
pub trait Sink: Send + Sync {
    /// Makes a directory, for now with mode 0700.
    fn make_directory(&self, path: &EntryPath) -> Result<(), SinkError>;

    /// Makes a file that will have `size` bytes, for now with mode 0600.
    fn create_file(
        &self,
        path: &EntryPath,
        size: u64,
        holes: Holes,
    ) -> Result<Box<dyn SinkFile>, SinkError>;

    /// Opens a regular file again that this run made, or one to patch that was there before.
    fn open_file(&self, path: &EntryPath, holes: Holes) -> Result<Box<dyn SinkFile>, SinkError>;

    /// How many names there are for what is at `path`.
    fn links(&self, path: &EntryPath) -> Result<u64, SinkError>;

    /// Makes a symbolic link, pipe, socket or device, with its metadata.
    fn make_other(&self, path: &EntryPath, entry: &Entry) -> Result<(), SinkError>;

    /// Makes a further name for what `first` names, which must be of the given kind.
    fn link(&self, path: &EntryPath, first: &EntryPath, kind: &Kind) -> Result<(), SinkError>;

    /// Sets the metadata of a directory, once all it holds is complete.
    fn finish_directory(&self, path: &EntryPath, entry: &Entry) -> Result<(), SinkError>;

    /// Sets the metadata of anything that is there and of the entry's kind.
    fn set_metadata(&self, path: &EntryPath, entry: &Entry) -> Result<(), SinkError>;

    /// Removes what is there; a directory with all it holds.
    fn remove(&self, path: &EntryPath) -> Result<(), SinkError>;

    /// Ends the restore: all is on disk, and the root has its own metadata.
    fn complete(self: Box<Self>, root: &Entry) -> Result<(), SinkError>;
}

/// A file of a [`Sink`] while its content is brought back; dropping it only closes it.
///
/// Errors: as those of the sink.
pub trait SinkFile: Send + Sync {
    /// How many names the file had when it was opened.
    fn links(&self) -> u64;

    /// Writes `data` at `offset` bytes.
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), SinkError>;

    /// Makes `len` bytes from `offset` a hole; the range lies within the file's size.
    fn punch(&self, offset: u64, len: u64) -> Result<(), SinkError>;

    /// Cuts the file off, or extends it by a hole, at `len` bytes.
    fn truncate(&self, len: u64) -> Result<(), SinkError>;

    /// Sets the metadata and closes the file.
    fn finish(self: Box<Self>, entry: &Entry) -> Result<(), SinkError>;
}

/// A failure to bring something back.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The target is not as it must be: it exists already, is not empty, is in use.
    #[error("{0}")]
    Refused(String),
    /// An entry could not be written.
    #[error("write `{}`", crate::entry::escape(.path))]
    Entry {
        /// Path below the target, with slashes.
        path: Vec<u8>,
        /// What the system said.
        source: io::Error,
    },
    /// The target as a whole failed: no space, read-only, stream closed.
    #[error("write to {target}")]
    Target {
        /// The target's name.
        target: String,
        /// What the system said.
        source: io::Error,
    },
}
