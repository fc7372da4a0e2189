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

pub use self::directory::{Directory, DirectoryOptions};
pub use self::file::{File, Holes};
pub use self::marker::MARKER_NAME;
pub use self::metadata::Special;
pub use self::staging::{Spot, Staging};
pub use self::tar::{TarWriter, TarWriterOptions};

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
