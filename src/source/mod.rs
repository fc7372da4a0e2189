//! Where entries come from: a directory, a tar stream, a single stream, a volume.
//!
//! Floor 5. A source yields entries with their metadata, and the content of the one yielded last
//! when it is asked for it. It never writes and never follows a symbolic link.

mod content;
mod directory;
mod links;
mod select;
mod stat;
mod stream;
mod tar;
mod walk;
mod xattr;

pub use self::directory::{Directory, DirectoryOptions};
pub use self::select::{Selection, SelectionError, Verdict};
pub use self::stream::{Owner, SingleFile};
pub use self::tar::{TarOptions, TarStream};

use crate::entry::{Entry, EntryPath, Hint};

/// In which order a source yields its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Strictly ascending by [`EntryPath`]; the root first.
    Sorted,
    /// Any order; parents may be missing and a path may come again, in which case the last counts.
    Unsorted,
}

/// An entry as a source finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it lies below the root of the item.
    pub path: EntryPath,
    /// Its metadata.
    pub entry: Entry,
    /// What tells later whether it changed; none where the source cannot know.
    pub hint: Option<Hint>,
}

/// One step through the content of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// So many bytes were written to the start of the buffer; never 0.
    Data(usize),
    /// So many zero bytes follow which need not be read; never 0.
    Hole(u64),
    /// The content is complete.
    End,
}

/// A failure that ends the whole source: nothing after it can be trusted.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The source's root could not be opened or read.
    #[error("read `{}`", crate::entry::escape(.path))]
    Root {
        /// The path on this machine.
        path: Vec<u8>,
        /// What the system said.
        source: std::io::Error,
    },
    /// A stream broke off, or is not in the format it should be in.
    #[error("{name}: {message}")]
    Stream {
        /// The stream's name.
        name: String,
        /// What is wrong with it.
        message: String,
        /// What the transport said, if it was that.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

/// A failure to read one file; the others can still be saved.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// This entry is lost, the source goes on.
    #[error("{0}")]
    Entry(String, #[source] Option<std::io::Error>),
    /// The whole source is lost.
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// Yields entries, and the content of the one yielded last.
pub trait Source: Send {
    /// The order in which [`Source::next`] yields.
    fn order(&self) -> Order;

    /// The next entry; none at the end, which is only reported if the source is complete.
    ///
    /// Content of the previous entry that was not read is skipped. What cannot be read is reported
    /// to the observer the source was made with, and left out.
    fn next(&mut self) -> Result<Option<Found>, SourceError>;

    /// Reads on in the content of the entry yielded last, which must be a regular file that is no
    /// further name of another. The file is only opened at the first call.
    fn read(&mut self, buffer: &mut [u8]) -> Result<Run, ReadError>;

    /// To be called after [`Run::End`]: the entry and hint as they were when the content was read,
    /// with the size that was in fact read. If the file changed meanwhile, the observer has been
    /// warned, and the hint is none.
    fn finish(&mut self) -> Result<(Entry, Option<Hint>), ReadError>;

    /// Whether the file yielded last has the content it had in the snapshot before, where the
    /// source knows that by itself; none where size, times and hints have to tell.
    fn is_as_before(&self) -> Option<bool> {
        None
    }
}
