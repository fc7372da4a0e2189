//! What this host remembers of a repository: who it is as a writer, and the newest record it has
//! seen of every writer. A store that shows less than that was rolled back.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use minicbor::{Decode, Encode};
use rustix::fs::FlockOperation;

use super::error::RepoError;
use super::repository::Repository;
use crate::crypto::random_bytes;
use crate::format::{FormatError, ObjectKind};
use crate::id::{RecordHash, SnapshotId, WriterId};
use crate::store::ObjectName;

/// A writer's newest record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Head {
    #[n(0)]
    pub(super) sequence: u64,
    #[n(1)]
    pub(super) hash: RecordHash,
    #[n(2)]
    pub(super) snapshot: SnapshotId,
    /// Whether it was seen committed.
    #[n(3)]
    pub(super) committed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct HostState {
    /// Who this host is.
    #[n(0)]
    pub(super) writer: WriterId,
    /// The record this host wrote last.
    #[n(1)]
    pub(super) last: Option<Head>,
    /// A record this host was about to write; whether it did, the store shows.
    #[n(2)]
    pub(super) tentative: Option<Head>,
    /// The newest record seen of each writer.
    #[n(3)]
    pub(super) heads: BTreeMap<WriterId, Head>,
    /// The newest configuration seen.
    #[n(4)]
    pub(super) config: u64,
}

/// The state, held against other processes of this host.
pub(super) struct LockedState<'r> {
    repo: &'r Repository,
    path: PathBuf,
    _lock: File,
    pub(super) state: HostState,
}

impl<'r> LockedState<'r> {
    /// Waits for other processes and reads the state; a host without one becomes a new writer.
    pub(super) fn open(repo: &'r Repository) -> Result<Self, RepoError> {
        let dir = &repo.dirs().state;
        std::fs::create_dir_all(dir).map_err(RepoError::local("create", dir))?;
        let lock_path = dir.join("lock");
        let lock = OpenOptions::new().create(true).append(true).open(&lock_path);
        let lock = lock.map_err(RepoError::local("open", &lock_path))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)
            .map_err(|error| RepoError::local("lock", &lock_path)(error.into()))?;
        let path = dir.join("heads");
        let state = match std::fs::read(&path) {
            Ok(bytes) => decode(repo, &bytes).map_err(|error| {
                let why = format!("{error}; if it is lost for good, remove it");
                RepoError::local("read", &path)(std::io::Error::other(why))
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => HostState {
                writer: WriterId::new(random_bytes()?),
                last: None,
                tentative: None,
                heads: BTreeMap::new(),
                config: 0,
            },
            Err(error) => return Err(RepoError::local("read", &path)(error)),
        };
        Ok(Self { repo, path, _lock: lock, state })
    }

    /// Writes the state durably.
    pub(super) fn save(&self) -> Result<(), RepoError> {
        let message = minicbor::to_vec(&self.state).expect("because writing to memory cannot fail");
        let sealed = self.repo.seal_signed(ObjectKind::State, &message)?.to_vec();
        let temporary = self.path.with_extension("new");
        let written = (|| {
            let mut file = File::create(&temporary)?;
            file.write_all(&sealed)?;
            file.sync_all()?;
            std::fs::rename(&temporary, &self.path)?;
            File::open(self.path.parent().unwrap_or(&self.path))?.sync_all()
        })();
        written.map_err(RepoError::local("write", &self.path))
    }
}

fn decode(repo: &Repository, bytes: &[u8]) -> Result<HostState, RepoError> {
    let name = ObjectName::parse("heads").expect("because it is a valid name");
    let message = repo.open_signed(ObjectKind::State, &name, bytes)?;
    minicbor::decode(&message).map_err(|error| FormatError::damaged("state file", error).into())
}
