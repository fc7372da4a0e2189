//! Writes a file so that its name shows all of its bytes or does not exist.
//!
//! The bytes are on the disk before the name is. A file whose sync failed is thrown away: the
//! kernel marks pages clean that it could not write, so a second sync of it would lie.

use std::io::IoSlice;

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::{Errno, retry_on_intr, writev};

use crate::clock::{Clock, Time};
use crate::crypto::Payload;
use crate::id::hex;

/// How names of files begin that are no objects yet, where a file cannot be without a name.
pub(super) const TEMPORARY: &str = ".tmp-";
/// Age in seconds from which such a file belongs to nobody any more.
pub(super) const STALE: i64 = 24 * 60 * 60;
/// How many slices the kernel takes at once.
const SLICES_MAX: usize = 1024;

/// Why nothing durable was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// Writing or naming failed; the name was not made.
    System(Errno),
    /// The file's bytes could not be synced; the name was not made.
    Sync(Errno),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

/// What the name of a new file did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    /// It was free and now names the new file.
    New,
    /// It was taken; the new file is gone again.
    Taken,
}

/// Writes a file that has no name until it is whole; none where the file system has no such files.
pub(super) fn unnamed(
    folder: &OwnedFd,
    base: &str,
    payload: &Payload,
) -> Result<Option<Named>, Failure> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = match retry_on_intr(|| rustix::fs::openat(folder, ".", flags, PRIVATE)) {
        Ok(file) => file,
        // EISDIR: how kernels and file systems answer that do not know the flag.
        Err(Errno::OPNOTSUPP | Errno::ISDIR) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    fill(&file, payload)?;
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    let linked = match rustix::fs::linkat(CWD, &own, folder, base, AtFlags::SYMLINK_FOLLOW) {
        // No /proc here: newer kernels link a file of our own by its descriptor.
        Err(Errno::NOENT) => rustix::fs::linkat(&file, "", folder, base, AtFlags::EMPTY_PATH),
        other => other,
    };
    match linked {
        Ok(()) => Ok(Some(Named::New)),
        Err(Errno::EXIST) => Ok(Some(Named::Taken)),
        Err(Errno::NOENT | Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Writes a file under a temporary name and renames it, never over another file.
pub(super) fn renamed(folder: &OwnedFd, base: &str, payload: &Payload) -> Result<Named, Failure> {
    temporary(folder, payload, |temporary| take(folder, temporary, base))
}

/// Writes a file under a temporary name and renames it over the one of that name.
pub(super) fn replaced(folder: &OwnedFd, base: &str, payload: &Payload) -> Result<(), Failure> {
    temporary(folder, payload, |temporary| rustix::fs::renameat(folder, temporary, folder, base))
}

/// Removes temporary files that a crash left in a folder a day ago or longer.
pub(super) fn sweep(folder: &OwnedFd) -> Result<(), Errno> {
    let now = Clock::System.now();
    let mut listing = rustix::fs::Dir::read_from(folder)?;
    while let Some(entry) = listing.read() {
        let entry = entry?;
        if !entry.file_name().to_bytes().starts_with(TEMPORARY.as_bytes()) {
            continue;
        }
        let stat = rustix::fs::statat(folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW);
        if stat.is_ok_and(|stat| now.seconds.saturating_sub(modified(&stat).seconds) > STALE) {
            // Best effort: the next process meets it again.
            let _ = rustix::fs::unlinkat(folder, entry.file_name(), AtFlags::empty());
        }
    }
    Ok(())
}

/// When a file was last written.
pub(super) fn modified(stat: &rustix::fs::Stat) -> Time {
    Time::new(stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0))
}

const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

fn temporary<T>(
    folder: &OwnedFd,
    payload: &Payload,
    name: impl FnOnce(&str) -> Result<T, Errno>,
) -> Result<T, Failure> {
    let mut random = [0_u8; 8];
    let _ = rustix::rand::getrandom(&mut random[..], rustix::rand::GetRandomFlags::empty())?;
    let temporary = format!("{TEMPORARY}{}", hex(&random));
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = retry_on_intr(|| rustix::fs::openat(folder, &temporary, flags, PRIVATE))?;
    let named = fill(&file, payload).and_then(|()| Ok(name(&temporary)?));
    // Gone already where it was renamed; a leftover of anything else is swept later.
    let _ = rustix::fs::unlinkat(folder, &temporary, AtFlags::empty());
    named
}

/// Renames without replacing, by whatever means the file system has.
fn take(folder: &OwnedFd, temporary: &str, base: &str) -> Result<Named, Errno> {
    let by_rename =
        rustix::fs::renameat_with(folder, temporary, folder, base, RenameFlags::NOREPLACE);
    let named = match by_rename {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            match rustix::fs::linkat(folder, temporary, folder, base, AtFlags::empty()) {
                // Neither: nobody else writes this name, so looking first is enough.
                Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => {
                    match rustix::fs::statat(folder, base, AtFlags::SYMLINK_NOFOLLOW) {
                        Err(Errno::NOENT) => rustix::fs::renameat(folder, temporary, folder, base),
                        other => other.and(Err(Errno::EXIST)),
                    }
                }
                other => other,
            }
        }
        other => other,
    };
    match named {
        Ok(()) => Ok(Named::New),
        Err(Errno::EXIST) => Ok(Named::Taken),
        Err(error) => Err(error),
    }
}

/// Writes all bytes and makes them durable.
fn fill(file: &OwnedFd, payload: &Payload) -> Result<(), Failure> {
    let parts = payload.parts().iter().filter(|part| !part.is_empty());
    let mut slices: Vec<_> = parts.map(|part| IoSlice::new(part)).collect();
    let mut rest = &mut slices[..];
    while !rest.is_empty() {
        let batch = rest.len().min(SLICES_MAX);
        match retry_on_intr(|| writev(file, &rest[..batch]))? {
            0 => return Err(Errno::IO.into()),
            written => IoSlice::advance_slices(&mut rest, written),
        }
    }
    rustix::fs::fdatasync(file).map_err(Failure::Sync)
}
