//! Where objects lie: a local directory, memory, stores elsewhere, and wrappers around any store.
//!
//! Floor 3. A store keeps opaque payloads under names. Every name is written once; a store needs
//! read-after-write and list-after-write, and nothing else.

mod access;
mod attempts;
mod call;
#[doc(hidden)]
pub mod contract;
mod fault;
mod local;
mod memory;
mod name;
mod object;
mod open;
mod probe;
mod rate;
mod record;
mod sftp;

use std::fmt;
use std::sync::Arc;

pub use self::access::{Access, Patience};
pub use self::call::{Call, CallKind};
pub use self::fault::{Director, Fault, FaultPlan, FaultStore, Hit, Hook, Lens};
pub use self::local::LocalStore;
pub use self::memory::MemoryStore;
pub use self::name::ObjectName;
pub use self::object::{Place, RemoteStore};
pub use self::open::{Location, create, create_with, open, open_with};
pub use self::probe::{MANY, Probe, probe, probe_many};
pub use self::record::RecordStore;
pub use self::sftp::{SftpPlace, SftpStore};

use crate::clock::Time;
use crate::crypto::Payload;

/// What can go wrong with a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No object has that name.
    #[error("no object `{0}`")]
    NotFound(ObjectName),
    /// The object is larger than whoever asked for it allows, or shorter than the range asked for.
    #[error("object `{name}` has {actual} bytes where {expected}")]
    Size {
        /// The object.
        name: ObjectName,
        /// Its size in bytes.
        actual: u64,
        /// What was expected of it, as a phrase: "at most 4096 are allowed".
        expected: String,
    },
    /// No room is left.
    #[error("no space left in {location} for `{name}`")]
    NoSpace {
        /// The object that did not fit.
        name: ObjectName,
        /// The store.
        location: String,
    },
    /// The store refuses: permissions, read-only.
    #[error("{location} refuses to {action}")]
    Denied {
        /// What was tried, such as "write `packs/ab/…`".
        action: String,
        /// The store.
        location: String,
        /// What it said.
        source: std::io::Error,
    },
    /// The object may not be deleted yet: a lock, a retention or a legal hold protects it.
    #[error("{location} has a lock on `{name}`")]
    Locked {
        /// The object.
        name: ObjectName,
        /// The store.
        location: String,
        /// What it said.
        source: std::io::Error,
    },
    /// The object is in an archive from which the store must first be asked to bring it back.
    #[error("`{name}` is in archived storage of {location}")]
    Archived {
        /// The object.
        name: ObjectName,
        /// The store.
        location: String,
    },
    /// Anything else; worth a retry by hand.
    #[error("{action} in {location}")]
    Io {
        /// What was tried.
        action: String,
        /// The store.
        location: String,
        /// What it said.
        source: std::io::Error,
    },
    /// Nothing is at the location.
    #[error("no directory `{0}`")]
    Absent(String),
    /// The location is none that a store can be opened at.
    #[error("{0}")]
    Location(String),
}

impl StoreError {
    /// Whether one object is lost or damaged while the store itself works: asking again later is
    /// no use, asking for another object is.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::NotFound(_) | Self::Size { .. } => true,
            // What a disk says of a sector that it cannot read.
            Self::Io { source, .. } => {
                source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
            }
            _ => false,
        }
    }

    fn too_large(name: &ObjectName, actual: u64, size_max: u64) -> Self {
        let expected = format!("at most {size_max} are allowed");
        Self::Size { name: name.clone(), actual, expected }
    }

    fn too_short(name: &ObjectName, actual: u64, offset: u64, len: usize) -> Self {
        let expected = format!("{len} are wanted from {offset} on");
        Self::Size { name: name.clone(), actual, expected }
    }
}

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: ObjectName,
    /// Its size in bytes.
    pub size: u64,
    /// When it was written, by the store's clock; for display and liveness only.
    pub modified: Time,
}

/// What became of a put that was to happen only where nothing has the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// It was put.
    Made,
    /// Something has the name.
    Taken,
    /// The store knows no such condition; nothing was done.
    Unknown,
}

/// Keeps payloads under names. Calls block; any number of threads may call at once.
pub trait Store: Send + Sync + fmt::Debug {
    /// Where the store is, for people: a path or URL without secrets.
    fn location(&self) -> String;

    /// Stores a payload durably under a name that was never used before.
    ///
    /// When it returns, the object survives a crash of the machine and every listing shows it. If
    /// it fails, the object may or may not be there, whole. Putting the same bytes under the same
    /// name again is harmless.
    fn put(&self, name: &ObjectName, payload: &Payload) -> Result<(), StoreError>;

    /// Reads a whole object of at most `size_max` bytes.
    fn get(&self, name: &ObjectName, size_max: u64) -> Result<Vec<u8>, StoreError>;

    /// Fills `buffer` from the object's bytes at `offset`.
    fn get_range(
        &self,
        name: &ObjectName,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StoreError>;

    /// All objects whose name starts with the folder `folder` and a slash, sorted by name; all
    /// there are for the empty folder. Stray files that are no objects are left out.
    fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError>;

    /// Removes an object; one that is not there counts as removed.
    fn delete(&self, name: &ObjectName) -> Result<(), StoreError>;

    /// Puts an object if the store says that nothing has its name. Only the probe asks for it: no
    /// promise rests on what a store makes of the condition, and many make nothing of it.
    fn create(&self, _: &ObjectName, _: &Payload) -> Result<Created, StoreError> {
        Ok(Created::Unknown)
    }

    /// Whether each call is a round trip to another machine: then calls that need not follow one
    /// another are worth making at once, and what was read is worth keeping here.
    fn is_far(&self) -> bool {
        false
    }
}

impl<S: Store + ?Sized> Store for Arc<S> {
    fn location(&self) -> String {
        (**self).location()
    }

    fn put(&self, name: &ObjectName, payload: &Payload) -> Result<(), StoreError> {
        (**self).put(name, payload)
    }

    fn get(&self, name: &ObjectName, size_max: u64) -> Result<Vec<u8>, StoreError> {
        (**self).get(name, size_max)
    }

    fn get_range(
        &self,
        name: &ObjectName,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StoreError> {
        (**self).get_range(name, offset, buffer)
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        (**self).list(folder)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        (**self).delete(name)
    }

    fn create(&self, name: &ObjectName, payload: &Payload) -> Result<Created, StoreError> {
        (**self).create(name, payload)
    }

    fn is_far(&self) -> bool {
        (**self).is_far()
    }
}
