//! What can go wrong with a repository.

use crate::crypto::{RandomError, RunSealError};
use crate::entry::escape;
use crate::format::{FormatError, SlotError};
use crate::id::{ChunkId, PackId, SnapshotId};
use crate::store::{ObjectName, StoreError};

/// What can go wrong with a repository.
#[derive(Debug, thiserror::Error)]
pub enum RepoError {
    /// Nothing at the location is a repository.
    #[error("there is no repository in {0}")]
    NoRepository(String),
    /// Something is there already.
    #[error("{0}")]
    Refused(String),
    /// No key slot opens with the secret.
    #[error("no key slot of the repository in {location} opens with the {secret}")]
    WrongKey {
        /// The store.
        location: String,
        /// What was tried: "passphrase", "key file", "recovery code".
        secret: &'static str,
    },
    /// An object is not what it must be.
    #[error("read `{name}`")]
    Object {
        /// The object.
        name: ObjectName,
        /// What is wrong with it.
        source: FormatError,
    },
    /// A chunk cannot be had.
    #[error("chunk {} {why}", .id.short())]
    Chunk {
        /// The chunk.
        id: ChunkId,
        /// "is in no index", "in pack … is damaged".
        why: String,
    },
    /// A frame of a pack cannot be had.
    #[error("pack {} is damaged at {offset}", .pack.short())]
    Frame {
        /// The pack.
        pack: PackId,
        /// Where in it, in bytes.
        offset: u32,
        /// What is wrong.
        source: FormatError,
    },
    /// A pack was deleted after it was listed.
    #[error("`{}` is gone: it was deleted after the index was read", super::layout::pack(.pack))]
    Gone {
        /// The pack.
        pack: PackId,
    },
    /// Something is not accounted for: a collector deletes nothing while that is so.
    #[error("nothing is deleted while `{object}` cannot be accounted for")]
    NotCollected {
        /// The object, or `chunk` and its id.
        object: String,
        /// What is wrong with it.
        source: Box<RepoError>,
    },
    /// The repository shows an older state than this host remembers.
    #[error("the repository was rolled back: {0}")]
    RolledBack(String),
    /// A snapshot was not acknowledged.
    #[error("snapshot {} was not committed: {why}", .snapshot.short())]
    NotCommitted {
        /// The snapshot.
        snapshot: SnapshotId,
        /// Why.
        why: String,
    },
    /// No snapshot is meant by a name, or several are.
    #[error("{0}")]
    NoSnapshot(String),
    /// A name fits several things.
    #[error("{0}")]
    Ambiguous(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Bytes are not in the format.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A key slot failed.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// A run seal failed.
    #[error(transparent)]
    RunSeal(#[from] RunSealError),
    /// No random bytes.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// A file in the cache or state directory failed.
    #[error("{action} `{}`", escape(.path.as_os_str().as_encoded_bytes()))]
    Local {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Whoever watches asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// A worker of this program ended before its time; its own error was reported elsewhere.
    #[error("a worker stopped before its work was done")]
    Worker,
}

impl RepoError {
    /// Whether it says that what the store holds is not what was written, rather than that the
    /// store or this machine failed.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Object { .. }
            | Self::Chunk { .. }
            | Self::Frame { .. }
            | Self::Gone { .. }
            | Self::Format(_)
            | Self::Slot(_)
            | Self::RunSeal(_) => true,
            Self::Store(error) => error.is_damage(),
            _ => false,
        }
    }

    /// Names the object a format error was found in.
    pub(crate) fn object(name: &ObjectName) -> impl FnOnce(FormatError) -> Self {
        let name = name.clone();
        move |source| Self::Object { name, source }
    }

    /// Names the file a local failure happened at.
    pub(crate) fn local(
        action: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Local { action, path, source }
    }
}
