//! What a place on a disk is like.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Access, access, statfs, statvfs};

/// The disk below a path that need not be there yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Disk {
    /// The device's number.
    pub(crate) device: u64,
    /// What kind of file system it is, by the name the kernel uses, or its number.
    pub(crate) file_system: String,
    /// Bytes that we may still write.
    pub(crate) free: u64,
    /// Bytes in all.
    pub(crate) total: u64,
    /// Whether we may write there.
    pub(crate) writable: bool,
}

/// Kinds of file systems by the kernel's numbers.
///
/// Source: Linux, `include/uapi/linux/magic.h` and the file systems' own headers.
const KINDS: [(i64, &str); 18] = [
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0x2fc1_2fc1, "zfs"),
    (0xf2f5_2010, "f2fs"),
    (0xca45_1a4e, "bcachefs"),
    (0x0102_1994, "tmpfs"),
    (0x8584_58f6, "ramfs"),
    (0x794c_7630, "overlay"),
    (0x6969, "nfs"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x00c3_6400, "ceph"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "fuse"),
    (0x4d44, "vfat"),
    (0x2011_bab0, "exfat"),
    (0x5346_544e, "ntfs"),
];

impl Disk {
    /// Looks at `path`, or where it is not there yet, at the nearest folder above it.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let mut at = path;
        let metadata = loop {
            match at.metadata() {
                Ok(metadata) => break metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    at = at.parent().ok_or(error)?;
                }
                Err(error) => return Err(error),
            }
        };
        let space = statvfs(at)?;
        let kind = statfs(at)?.f_type & 0xffff_ffff;
        let known = KINDS.iter().find(|(number, _)| *number == kind);
        Ok(Self {
            device: metadata.dev(),
            file_system: known.map_or_else(|| format!("{kind:#x}"), |(_, name)| (*name).to_owned()),
            free: space.f_bavail.saturating_mul(space.f_frsize),
            total: space.f_blocks.saturating_mul(space.f_frsize),
            writable: access(at, Access::WRITE_OK | Access::EXEC_OK).is_ok(),
        })
    }

    /// What speaks against keeping backups there.
    pub(crate) fn problem(&self) -> Option<&'static str> {
        match self.file_system.as_str() {
            "tmpfs" | "ramfs" => Some("it is in memory: backups are gone after a restart"),
            "overlay" => Some("it is a container's own layer: backups go with the container"),
            "nfs" | "cifs" | "smb2" | "9p" | "fuse" => {
                Some("it is reached over a network or a program: a crash there can lose backups")
            }
            "vfat" | "exfat" | "ntfs" => Some("it keeps no owners: anybody here can read it"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_not_there_is_judged_by_what_is_above_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let here = Disk::of(dir.path()).expect("looked at");
        let below = Disk::of(&dir.path().join("a/b/c")).expect("looked at");
        assert_eq!((here.device, here.writable), (below.device, below.writable));
        assert!(here.writable && here.total > 0);
        let file = dir.path().join("file");
        std::fs::write(&file, "").expect("written");
        assert!(Disk::of(&file.join("below")).is_err());
    }

    #[test]
    fn proc_is_no_known_disk_and_memory_is_a_bad_one() {
        let proc = Disk::of(Path::new("/proc")).expect("looked at");
        assert_eq!(proc.file_system, "0x9fa0");
        let memory = Disk { file_system: "tmpfs".to_owned(), ..proc };
        assert!(memory.problem().is_some());
    }
}
