//! What the file system says about one inode, without its name and content.
//!
//! Floor 5, used by the directory source only. No call here follows a symbolic link or triggers an
//! automount.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType, Statx, StatxAttributes, StatxFlags, StatxTimestamp, statx};
use rustix::io::Errno;

use crate::clock::Time;
use crate::entry::{Entry, Hint, Kind, Xattr};

/// A change within this span of a reading may leave the ctime as it was: file systems stamp by
/// ticks, and some keep only every second second.
const HINT_AGE_MIN_NANOS: i128 = 2_000_000_000;

/// Unit of `stx_blocks` in bytes, whatever the file system's own block size.
const BLOCK_LEN: u64 = 512;

/// What one statx call tells.
#[derive(Debug, Clone)]
pub(super) struct Stat {
    pub(super) dev: (u32, u32),
    pub(super) ino: u64,
    /// Id of the mount it lies in; none before Linux 5.8.
    pub(super) mount: Option<u64>,
    pub(super) nlink: u32,
    pub(super) size: u64,
    pub(super) mtime: Time,
    pub(super) ctime: Time,
    /// Time of birth, where kept: tells an inode from a later one with the same number.
    pub(super) born: Option<Time>,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) blocks: u64,
    pub(super) rdev: (u32, u32),
    pub(super) attributes: StatxAttributes,
}

impl Stat {
    /// Of `name` in `dir`, itself even if it is a symbolic link.
    pub(super) fn at(dir: BorrowedFd<'_>, name: &CStr) -> Result<Self, Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID;
        Ok(Self::new(&statx(dir, name, flags, mask)?))
    }

    /// Of an open file.
    pub(super) fn of(fd: BorrowedFd<'_>) -> Result<Self, Errno> {
        let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID;
        Ok(Self::new(&statx(fd, c"", AtFlags::EMPTY_PATH, mask)?))
    }

    fn new(raw: &Statx) -> Self {
        let has = |flag: StatxFlags| StatxFlags::from_bits_retain(raw.stx_mask).contains(flag);
        Self {
            dev: (raw.stx_dev_major, raw.stx_dev_minor),
            ino: raw.stx_ino,
            mount: has(StatxFlags::MNT_ID).then_some(raw.stx_mnt_id),
            nlink: raw.stx_nlink,
            size: raw.stx_size,
            mtime: time(raw.stx_mtime),
            ctime: time(raw.stx_ctime),
            born: has(StatxFlags::BTIME).then_some(time(raw.stx_btime)),
            mode: u32::from(raw.stx_mode),
            uid: raw.stx_uid,
            gid: raw.stx_gid,
            blocks: raw.stx_blocks,
            rdev: (raw.stx_rdev_major, raw.stx_rdev_minor),
            attributes: raw.stx_attributes & raw.stx_attributes_mask,
        }
    }

    pub(super) fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    pub(super) fn is_directory(&self) -> bool {
        self.file_type() == FileType::Directory
    }

    pub(super) fn is_file(&self) -> bool {
        self.file_type() == FileType::RegularFile
    }

    /// Whether fewer blocks are in use than the size asks for.
    pub(super) fn is_sparse(&self) -> bool {
        self.blocks.saturating_mul(BLOCK_LEN) < self.size
    }

    /// Names of flags that keep it from being changed: they are not saved.
    pub(super) fn guards(&self) -> impl Iterator<Item = &'static str> {
        let known =
            [(StatxAttributes::IMMUTABLE, "immutable"), (StatxAttributes::APPEND, "append-only")];
        let attributes = self.attributes;
        known.into_iter().filter(move |(flag, _)| attributes.contains(*flag)).map(|(_, name)| name)
    }

    /// Whether both are the same inode.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.dev == other.dev && self.ino == other.ino
    }

    /// Whether nothing was written or changed between the two.
    pub(super) fn is_unchanged(&self, later: &Self) -> bool {
        self.size == later.size && self.mtime == later.mtime && self.ctime == later.ctime
    }

    /// Whether another file system is mounted here, given the root of the walk.
    ///
    /// The device counts for directories only: on overlayfs files may show that of a lower layer.
    pub(super) fn is_mounted_over(&self, root: &Self) -> bool {
        self.mount != root.mount || self.is_directory() && self.dev != root.dev
    }

    /// The hint to keep if the inode was read at `now`; none if a change right after the reading
    /// could go unseen.
    pub(super) fn hint(&self, now: Time) -> Option<Hint> {
        let nanos = |t: Time| i128::from(t.seconds) * 1_000_000_000 + i128::from(t.nanos);
        let is_old = nanos(now) - nanos(self.ctime) > HINT_AGE_MIN_NANOS;
        is_old.then_some(Hint { inode: self.ino, ctime: self.ctime })
    }

    /// The entry; `target` is that of a symbolic link. None for a type Linux does not know.
    pub(super) fn entry(&self, target: Vec<u8>, xattrs: Vec<Xattr>) -> Option<Entry> {
        let (major, minor) = self.rdev;
        let kind = match self.file_type() {
            FileType::RegularFile => Kind::File { size: self.size, sparse: self.is_sparse() },
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink { target },
            FileType::CharacterDevice => Kind::CharDevice { major, minor },
            FileType::BlockDevice => Kind::BlockDevice { major, minor },
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            FileType::Unknown => return None,
        };
        let mode = self.mode & 0o7777;
        let (uid, gid) = (self.uid, self.gid);
        Some(Entry { kind, mode, uid, gid, mtime: self.mtime, xattrs, link: None })
    }
}

fn time(raw: StatxTimestamp) -> Time {
    Time::new(raw.tv_sec, raw.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_hint_needs_a_ctime_more_than_two_seconds_before_the_reading() {
        let file = tempfile::tempfile().expect("a file");
        let stat = Stat::of(file.as_fd()).expect("its stat");
        let at = |seconds: i64, nanos: u32| Time::new(stat.ctime.seconds + seconds, nanos);
        let nanos = stat.ctime.nanos;
        assert_eq!(stat.hint(at(-1, nanos)), None, "ctime in the future");
        assert_eq!(stat.hint(at(0, nanos)), None);
        assert_eq!(stat.hint(at(2, nanos)), None, "exactly two seconds");
        let hint = Hint { inode: stat.ino, ctime: stat.ctime };
        assert_eq!(stat.hint(at(3, nanos)), Some(hint));
    }
}
