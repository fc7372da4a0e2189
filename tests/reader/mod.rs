//! A second reader of the repository format, written from `docs/format.md` alone.
//!
//! It shares no code with the library, only the primitives below it, so that neither can be wrong
//! in the way the other is, and so that the document is known to suffice. It opens a repository
//! directory, tells what is live in it, and restores items.

#[cfg(test)]
mod fixture;
mod index;
mod keys;
mod objects;
mod packs;
mod restore;
mod snapshots;
#[cfg(test)]
mod tests;
mod trees;
mod wire;

use std::path::Path;

use index::Index;
use keys::{Keys, Secret};
use objects::Store;
use snapshots::Snapshot;

/// Why something cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No slot opens with this secret.
    WrongSecret,
    /// Made by a newer program.
    Newer(String),
    /// Signed by somebody who is not the owner.
    Foreign,
    /// Not what the document says.
    Damaged(String),
    /// The system refused.
    Io(String),
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error.to_string())
    }
}

impl From<rustix::io::Errno> for Fault {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Io(error.to_string())
    }
}

type Result<T> = std::result::Result<T, Fault>;

fn damaged<T>(what: impl Into<String>) -> Result<T> {
    Err(Fault::Damaged(what.into()))
}

fn ensure(holds: bool, what: &str) -> Result<()> {
    if holds { Ok(()) } else { damaged(what) }
}

/// An open repository.
pub(crate) struct Repository {
    index: Index,
    snapshots: Vec<Snapshot>,
    /// What could not be read on the way, and was not needed to go on.
    reports: Vec<String>,
}

impl Repository {
    /// Opens the repository in a directory and reads everything but trees and content.
    pub(crate) fn open(dir: &Path, secret: &Secret<'_>) -> Result<Self> {
        let store = Store::new(dir);
        let repository = objects::repository_id(&store)?;
        let master = keys::master(&store, repository, secret)?;
        Self::read(dir, Keys::new(&master, repository), Index::read)
    }

    /// The same with the keys at hand, and one of two ways to an index.
    fn read(
        dir: &Path,
        keys: Keys,
        index: fn(Store, Keys, &mut Vec<String>) -> Result<Index>,
    ) -> Result<Self> {
        let (store, mut reports) = (Store::new(dir), Vec::new());
        objects::check_configurations(&store, &keys, &mut reports)?;
        // Before the index: what a snapshot seen now needs is in segments that are there by then.
        let mut snapshots = snapshots::live(&store, &keys, &mut reports)?;
        let index = index(store, keys, &mut reports)?;
        snapshots.retain(|snapshot| !snapshot.is_expired || snapshot.resolves(&index));
        Ok(Self { index, snapshots, reports })
    }
}
