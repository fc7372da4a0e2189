//! Inodes that are neither files nor directories, and the types of all.
//!
//! Below `directory`.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Mode};
use rustix::io::Errno;

use crate::entry::Kind;

pub(super) fn make_node(parent: &OwnedFd, name: &[u8], kind: &Kind) -> io::Result<()> {
    let (file_type, device) = match kind {
        Kind::Symlink { target } => {
            return Ok(rustix::fs::symlinkat(target.as_slice(), parent, name)?);
        }
        Kind::Fifo | Kind::Socket => (type_of(kind), 0),
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
            // The kernel takes 32 bits and would make another device of larger numbers.
            if *major >= 1 << 12 || *minor >= 1 << 20 {
                return Err(Errno::INVAL.into());
            }
            (type_of(kind), rustix::fs::makedev(*major, *minor))
        }
        Kind::File { .. } | Kind::Directory => return Err(Errno::INVAL.into()),
    };
    let mode = Mode::RUSR | Mode::WUSR;
    Ok(rustix::fs::mknodat(parent, name, file_type, mode, device)?)
}

pub(super) fn type_of(kind: &Kind) -> FileType {
    match kind {
        Kind::File { .. } => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink { .. } => FileType::Symlink,
        Kind::CharDevice { .. } => FileType::CharacterDevice,
        Kind::BlockDevice { .. } => FileType::BlockDevice,
        Kind::Fifo => FileType::Fifo,
        Kind::Socket => FileType::Socket,
    }
}

pub(super) fn check_type(mode: u32, expected: FileType) -> io::Result<()> {
    let found = FileType::from_raw_mode(mode);
    if found == expected {
        return Ok(());
    }
    Err(io::Error::other(format!("it is a {found:?} where a {expected:?} should be")))
}
