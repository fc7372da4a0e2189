//! The directory that is restored into: its root, what is known of it, and what errors mean.
//!
//! Below `directory` and `file`, which share it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, Mode as Bits, OFlags};
use rustix::io::Errno;

use super::beneath::{Beneath, DIRECTORY, open_in};
use super::handle::Handle;
use super::marker::MARKER_NAME;
use super::metadata::{self, Before, Owner, Special};
use super::{SinkError, removal};
use crate::entry::{Entry, EntryPath, escape};
use crate::event::{Observer, Warning};

/// What `mkfs` leaves in the root of ext file systems.
pub(super) const LOST_FOUND: &[u8] = b"lost+found";

/// Source: statfs(2).
const TMPFS_MAGIC: rustix::fs::FsWord = 0x0102_1994;

/// What a directory and its open files share.
pub(super) struct Target {
    pub(super) beneath: Beneath,
    pub(super) name: String,
    pub(super) special: Special,
    /// Who owns what this run makes; none where a parent that was there before may hand on its
    /// group or its access list.
    pub(super) owner: Option<Owner>,
    /// Whether all beneath the root was made by this run.
    pub(super) fresh: bool,
    /// Whether `lost+found` was there before and has not been asked for yet.
    pub(super) lost_found: AtomicBool,
    /// Whether the target lies in memory, where blocks are made one by one, whoever asks for them.
    pub(super) in_memory: bool,
    /// Set once nothing more could be written: the content is not whole.
    pub(super) broken: AtomicBool,
    observer: Arc<dyn Observer>,
}

impl Target {
    pub(super) fn open(
        path: &Path,
        special: Special,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, SinkError> {
        let name = escape(path.as_os_str().as_encoded_bytes());
        let beneath = Beneath::open_root(path).map_err(|error| not_open(&name, error))?;
        Ok(Self::of(beneath, name, special, observer))
    }

    /// Takes a root that is open, called `name`.
    pub(super) fn of(
        beneath: Beneath,
        name: String,
        special: Special,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let special =
            if rustix::process::geteuid().is_root() { special } else { Special::LeaveOut };
        let in_memory =
            rustix::fs::fstatfs(beneath.root()).is_ok_and(|statfs| statfs.f_type == TMPFS_MAGIC);
        Self {
            beneath,
            in_memory,
            name,
            special,
            owner: None,
            fresh: false,
            lost_found: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            observer,
        }
    }

    /// Looks whether the file system has room for `len` bytes.
    ///
    /// Errors: `StorageFull` if not.
    pub(super) fn has_room(&self, len: u64) -> io::Result<()> {
        let statvfs = rustix::fs::fstatvfs(self.beneath.root())?;
        // One without a limit has no blocks at all.
        let room = statvfs.f_bavail.saturating_mul(statvfs.f_frsize);
        match statvfs.f_blocks == 0 || room >= len {
            true => Ok(()),
            false => Err(Errno::NOSPC.into()),
        }
    }

    /// What is known of something this run has just made.
    pub(super) fn before(&self) -> Before {
        self.owner.map_or(Before::Unknown, Before::Made)
    }

    /// Sets metadata, and reports what could not be set.
    pub(super) fn apply(
        &self,
        at: Handle<'_>,
        before: Before,
        entry: &Entry,
        path: &EntryPath,
    ) -> Result<(), SinkError> {
        let failures = metadata::apply(at, before, entry, self.special);
        let failures = failures.map_err(|error| self.failed(path, error))?;
        if !failures.is_empty() {
            self.warn(path, format!("not brought back: {}", failures.join(", ")));
        }
        Ok(())
    }

    /// What an error at `path` means for the restore.
    pub(super) fn failed(&self, path: &EntryPath, source: io::Error) -> SinkError {
        if metadata::is_fatal(&source) {
            return self.lost(source);
        }
        SinkError::Entry { path: path.to_slashed(), source }
    }

    /// An error after which the target cannot become whole.
    pub(super) fn lost(&self, source: io::Error) -> SinkError {
        self.broken.store(true, Ordering::Release);
        SinkError::Target { target: format!("`{}`", self.name), source }
    }

    pub(super) fn warn(&self, path: &EntryPath, message: String) {
        self.observer.warn(Warning::skipped(path.to_slashed(), message));
    }

    /// Does something in the directory that holds `path`; never to the marker.
    pub(super) fn at<'a, T>(
        &self,
        path: &'a EntryPath,
        act: impl FnOnce(&OwnedFd, &'a [u8]) -> io::Result<T>,
    ) -> Result<T, SinkError> {
        if is_marker(path) {
            let error = io::Error::other("the name belongs to the restore under way");
            return Err(self.failed(path, error));
        }
        let held = self.beneath.parent(path);
        let done = held.and_then(|(parent, name)| act(&parent, name));
        done.map_err(|error| self.failed(path, error))
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("name", &self.name).finish_non_exhaustive()
    }
}

pub(super) fn not_open(name: &str, source: io::Error) -> SinkError {
    if matches!(source.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory) {
        return SinkError::Refused(format!("`{name}` is not a directory"));
    }
    SinkError::Target { target: format!("`{name}`"), source }
}

/// Whether the root holds the empty `lost+found` of a fresh ext file system, whose volumes are not
/// quite empty when new.
pub(super) fn has_lost_found(beneath: &Beneath) -> io::Result<bool> {
    match open_in(beneath.root(), LOST_FOUND, DIRECTORY) {
        Ok(fd) => Ok(removal::list(fd.as_fd(), 1)?.is_empty()),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => Ok(false),
            // Nobody but root may look into it, so nobody else has put anything there.
            Some(Errno::ACCESS) => {
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                Ok(rustix::fs::statat(beneath.root(), LOST_FOUND, flags)?.st_uid == 0)
            }
            _ => Err(error),
        },
    }
}

/// Removes all that an earlier run of the same restore has made.
pub(super) fn wipe(beneath: &Beneath, lost_found: bool) -> io::Result<()> {
    let root =
        rustix::fs::openat(beneath.root(), c".", DIRECTORY | OFlags::CLOEXEC, Bits::empty())?;
    removal::empty(root, &|name| name == MARKER_NAME.as_bytes() || lost_found && name == LOST_FOUND)
}

/// Makes the root this process' alone until the restore is complete, without anything that what is
/// made in it would inherit. Gives who then owns what is made; none if that did not succeed.
pub(super) fn own_root(beneath: &Beneath) -> Option<Owner> {
    let root = beneath.root();
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    let stat = rustix::fs::fstat(root).ok()?;
    if (stat.st_uid, stat.st_gid) != (uid.as_raw(), gid.as_raw()) {
        rustix::fs::fchown(root, Some(uid), Some(gid)).ok()?;
    }
    rustix::fs::fchmod(root, Bits::RWXU).ok()?;
    match Handle::Open(root).remove_xattr(b"system.posix_acl_default") {
        Ok(()) => {}
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::NODATA | Errno::OPNOTSUPP) => {}
            _ => return None,
        },
    }
    Some(Owner { uid: uid.as_raw(), gid: gid.as_raw() })
}

pub(super) fn is_marker(path: &EntryPath) -> bool {
    path.as_key() == MARKER_NAME.as_bytes()
}
