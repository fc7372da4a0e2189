//! The marker in the root of a target under restore: a volume can be neither renamed nor
//! relabelled, so a file says that what lies here is not complete.
//!
//! Below `directory`. It is written before anything else and removed last. It is locked as long as
//! a restore runs, so that two never meet.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, FlockOperation, OFlags};
use rustix::io::Errno;

use super::SinkError;
use super::beneath::open_in;
use super::metadata::is_fatal;
use crate::entry::escape;

/// Name of the marker in the target's root; nothing else can have that name while a restore runs.
pub const MARKER_NAME: &str = ".vault-restore-in-progress";

/// Longest marker that is read, in bytes.
const MARKER_LEN_MAX: usize = 4096;

/// What a restore found in its target when it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Nothing: all that is there now was made by the restore and may be removed.
    New,
    /// Content which is not the restore's.
    Existing,
}

/// The marker of the restore that runs; locked until dropped.
#[derive(Debug)]
pub(super) struct Marker {
    locked: OwnedFd,
}

/// What was found under the marker's name.
#[derive(Debug)]
pub(super) enum Found {
    Nothing,
    /// An earlier run of the same restore has left it.
    Same(Marker),
    /// A run that ended before it could write it; it has done nothing yet.
    Unwritten(Marker),
}

impl Marker {
    /// Looks for a marker in `root` and decides whether the restore called `text` may go on.
    ///
    /// Errors: `Refused` if it is another's, or another process is at it.
    pub(super) fn find(
        root: BorrowedFd<'_>,
        target: &str,
        text: &str,
        mode: Mode,
    ) -> Result<Found, SinkError> {
        let refused = |why: String| Err(SinkError::Refused(format!("`{target}`: {why}")));
        let failed = |source: io::Error| SinkError::Target { target: target.to_owned(), source };
        // Looked at before it is opened: opening can do things to what is no regular file.
        let stat = match rustix::fs::statat(root, MARKER_NAME, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(Found::Nothing),
            Err(error) => return Err(failed(error.into())),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile
            || stat.st_uid != rustix::process::geteuid().as_raw()
        {
            return refused(format!("`{MARKER_NAME}` in it was made by somebody else"));
        }
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let fd = open_in(root, MARKER_NAME.as_bytes(), flags).map_err(failed)?;
        if !lock(&fd).map_err(failed)? {
            return refused("a restore into it is under way".to_owned());
        }
        if rustix::fs::fstat(&fd).map_err(|e| failed(e.into()))?.st_nlink == 0 {
            return refused("a restore into it has just ended".to_owned());
        }
        let found = read(&fd).map_err(failed)?;
        if found.iter().all(|b| *b == 0) {
            return Ok(Found::Unwritten(Self { locked: fd }));
        }
        if found == content(text, Mode::New) && mode == Mode::New
            || mode == Mode::Existing
                && (found == content(text, Mode::New) || found == content(text, Mode::Existing))
        {
            return Ok(Found::Same(Self { locked: fd }));
        }
        let end = found.iter().position(|b| *b == b'\n').unwrap_or(found.len());
        let name = escape(&found[..end.min(200)]);
        if found == content(text, Mode::Existing) {
            return refused(format!("the restore of {name} into what it held was interrupted"));
        }
        refused(format!("it holds an unfinished restore of {name}"))
    }

    /// Makes the marker in `root`, which has none; it is on disk afterwards.
    pub(super) fn create(root: BorrowedFd<'_>, text: &str, mode: Mode) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let fd = open_in(root, MARKER_NAME.as_bytes(), flags)?;
        if !lock(&fd)? {
            return Err(Errno::WOULDBLOCK.into());
        }
        let marker = Self { locked: fd };
        let written = marker.write(root, text, mode);
        if written.as_ref().is_err_and(is_fatal) {
            // Nothing was restored yet, so that nothing need tell of it.
            let _ = Self::remove(root);
        }
        written.map(|()| marker)
    }

    /// Writes the text; it is on disk afterwards.
    pub(super) fn write(&self, root: BorrowedFd<'_>, text: &str, mode: Mode) -> io::Result<()> {
        rustix::fs::ftruncate(&self.locked, 0)?;
        let content = content(text, mode);
        let mut at = 0;
        while at < content.len() {
            match rustix::io::pwrite(&self.locked, &content[at..], at as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => at += len,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        rustix::fs::fsync(&self.locked)?;
        Ok(rustix::fs::fsync(root)?)
    }

    /// Removes the marker from `root`.
    pub(super) fn remove(root: BorrowedFd<'_>) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(root, MARKER_NAME, AtFlags::empty())?)
    }
}

/// What the marker in the directory at `place` says, if there is one that a restore has made.
#[must_use]
pub fn read_marker(place: &Path) -> Option<Vec<u8>> {
    let path = place.join(MARKER_NAME);
    // Looked at before it is opened: opening can do things to what is no regular file.
    let stat = rustix::fs::lstat(&path).ok()?;
    let ours = stat.st_uid == rustix::process::geteuid().as_raw();
    if !ours || FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return None;
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = rustix::fs::open(&path, flags, rustix::fs::Mode::empty()).ok()?;
    read(&fd).ok()
}

fn content(text: &str, mode: Mode) -> Vec<u8> {
    let mode = match mode {
        Mode::New => "new",
        Mode::Existing => "existing",
    };
    let mut content = format!("{text}\n{mode}\n").into_bytes();
    // What is not read back is not to be compared either.
    content.truncate(MARKER_LEN_MAX);
    content
}

/// Gives whether the lock is ours. File systems that know no locks grant it.
fn lock(fd: &OwnedFd) -> io::Result<bool> {
    match rustix::fs::flock(fd, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Ok(false),
        Ok(()) | Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

fn read(fd: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut found = vec![0; MARKER_LEN_MAX];
    let mut len = 0;
    while len < found.len() {
        match rustix::io::pread(fd, &mut found[len..], len as u64) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    found.truncate(len);
    Ok(found)
}
