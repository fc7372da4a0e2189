//! An inode whose metadata can be set, by descriptor.
//!
//! Below `metadata`. No call resolves a path of the target.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;

use crate::entry::{Entry, Xattr};

/// Bytes of attribute names an inode can have on Linux.
const NAMES_LEN_MAX: usize = 64 << 10;

/// An inode whose metadata can be set.
#[derive(Debug, Clone, Copy)]
pub(super) enum Handle<'a> {
    /// A file or directory that is open.
    Open(BorrowedFd<'a>),
    /// Anything, opened `O_PATH`: nothing but its metadata can be reached.
    Path(BorrowedFd<'a>),
}

impl Handle<'_> {
    pub(super) fn set_owner(self, uid: u32, gid: u32) -> io::Result<()> {
        if uid == u32::MAX || gid == u32::MAX {
            // The kernel takes this number for "leave it as it is".
            return Err(Errno::INVAL.into());
        }
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        match self {
            Self::Open(fd) => rustix::fs::fchown(fd, Some(uid), Some(gid))?,
            Self::Path(fd) => {
                rustix::fs::chownat(fd, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
            }
        }
        Ok(())
    }

    pub(super) fn set_mode(self, mode: u32) -> io::Result<()> {
        let mode = Mode::from_raw_mode(mode);
        match self {
            Self::Open(fd) => rustix::fs::fchmod(fd, mode)?,
            Self::Path(fd) => rustix::fs::chmod(proc_path(fd), mode)?,
        }
        Ok(())
    }

    /// Sets the time of last modification; that of last access stays.
    pub(super) fn set_times(self, entry: &Entry) -> io::Result<()> {
        // Larger numbers of nanoseconds have meanings of their own.
        let nanos = entry.mtime.nanos.min(999_999_999);
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: entry.mtime.seconds, tv_nsec: nanos.into() },
        };
        match self {
            Self::Open(fd) => rustix::fs::futimens(fd, &times)?,
            Self::Path(fd) => rustix::fs::utimensat(fd, c"", &times, AtFlags::EMPTY_PATH)?,
        }
        Ok(())
    }

    pub(super) fn set_xattr(self, xattr: &Xattr) -> io::Result<()> {
        let (name, value, flags) = (xattr.name.as_slice(), &xattr.value, XattrFlags::empty());
        match self {
            Self::Open(fd) => rustix::fs::fsetxattr(fd, name, value, flags)?,
            Self::Path(fd) => rustix::fs::setxattr(proc_path(fd), name, value, flags)?,
        }
        Ok(())
    }

    pub(super) fn remove_xattr(self, name: &[u8]) -> io::Result<()> {
        match self {
            Self::Open(fd) => rustix::fs::fremovexattr(fd, name)?,
            Self::Path(fd) => rustix::fs::removexattr(proc_path(fd), name)?,
        }
        Ok(())
    }

    /// The names of all attributes, each closed by NUL.
    pub(super) fn list_xattrs(self) -> io::Result<Vec<u8>> {
        // Most inodes have few: a small buffer first spares asking for the length.
        let mut names = vec![0; 1 << 10];
        loop {
            let listed = match self {
                Self::Open(fd) => rustix::fs::flistxattr(fd, names.as_mut_slice()),
                Self::Path(fd) => rustix::fs::listxattr(proc_path(fd), names.as_mut_slice()),
            };
            match listed {
                Ok(len) => {
                    names.truncate(len);
                    return Ok(names);
                }
                Err(Errno::RANGE) if names.len() < NAMES_LEN_MAX => names.resize(NAMES_LEN_MAX, 0),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether the file system still has room for data.
    pub(super) fn has_space(self) -> bool {
        let (Self::Open(fd) | Self::Path(fd)) = self;
        rustix::fs::fstatvfs(fd).is_ok_and(|stat| stat.f_bavail > 0)
    }
}

/// A path that leads to the very inode of `fd`, even if that is a symbolic link: the last step of
/// such a path is never resolved any further.
fn proc_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}
