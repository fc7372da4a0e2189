//! Puts an item into a new directory. Owners and devices need root.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{self as sys, AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::fs::{XattrFlags, makedev};

use super::snapshots::Item;
use super::trees::{self, Content, Entry, Extent, Kind};
use super::{Repository, Result, damaged, ensure};

static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

/// A directory that may still get entries.
struct Open {
    key: Vec<u8>,
    fd: OwnedFd,
    entry: Entry,
}

struct Restore<'a> {
    repository: &'a Repository,
    /// From the root to where entries go now.
    open: Vec<Open>,
    target: PathBuf,
    /// What may get further names: key → size, where it is a file.
    firsts: BTreeMap<Vec<u8>, Option<u64>>,
}

/// Restores into `target`, which must not exist.
pub(crate) fn restore(repository: &Repository, item: &Item, target: &Path) -> Result<()> {
    let (target, firsts) = (target.to_owned(), BTreeMap::new());
    let mut restore = Restore { repository, open: Vec::new(), target, firsts };
    let mut count = 0;
    trees::walk(&repository.index, &item.root, item.level, &mut |key, entry| {
        count += 1;
        restore.put(key, entry)
    })?;
    restore.close_to(0)?;
    ensure(count == item.figures.0, "an item has another count of entries")
}

impl Restore<'_> {
    fn put(&mut self, key: &[u8], entry: Entry) -> Result<()> {
        if self.open.is_empty() {
            ensure(key.is_empty() && entry.kind == Kind::Directory, "the root is no directory")?;
            sys::mkdir(&self.target, Mode::RWXU)?;
            let fd = sys::open(&self.target, directory_flags(), Mode::empty())?;
            self.open.push(Open { key: Vec::new(), fd, entry });
            return Ok(());
        }
        let (parent, name) = match key.iter().rposition(|b| *b == 0) {
            Some(at) => (&key[..at], &key[at + 1..]),
            None => (&b""[..], key),
        };
        let Some(depth) = self.open.iter().rposition(|open| open.key == parent) else {
            return damaged("an entry comes without its directory");
        };
        self.close_to(depth + 1)?;
        if let Some(first) = &entry.first {
            return self.link(first, name, &entry);
        }
        let at = self.open[depth].fd.as_fd();
        let name = OsStr::from_bytes(name);
        let node = |kind, device| sys::mknodat(at, name, kind, Mode::RUSR, device);
        match &entry.kind {
            Kind::Directory => {
                sys::mkdirat(at, name, Mode::RWXU)?;
                let fd = sys::openat(at, name, directory_flags(), Mode::empty())?;
                self.open.push(Open { key: key.to_vec(), fd, entry });
                return Ok(());
            }
            Kind::File { size, content } => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW;
                let file = File::from(sys::openat(at, name, flags | OFlags::CLOEXEC, Mode::RUSR)?);
                self.fill(&file, *size, content, entry.is_sparse)?;
            }
            Kind::Symlink(target) => sys::symlinkat(OsStr::from_bytes(target), at, name)?,
            Kind::Char(major, minor) => node(FileType::CharacterDevice, makedev(*major, *minor))?,
            Kind::Block(major, minor) => node(FileType::BlockDevice, makedev(*major, *minor))?,
            Kind::Fifo => node(FileType::Fifo, 0)?,
            Kind::Socket => node(FileType::Socket, 0)?,
        }
        dress(at, name, &entry)?;
        let _ = self.firsts.insert(key.to_vec(), size(&entry));
        Ok(())
    }

    fn fill(&self, file: &File, size: u64, content: &Content, is_sparse: bool) -> Result<()> {
        let mut offset = 0;
        let index = &self.repository.index;
        trees::content(index, content, size, &mut |extent| {
            match extent {
                Extent::Zeros(len) if is_sparse => offset += len,
                Extent::Zeros(len) => {
                    for start in (0..*len).step_by(ZEROS.len()) {
                        let part = ZEROS.len().min(usize::try_from(len - start).unwrap_or(!0));
                        file.write_all_at(&ZEROS[..part], offset + start)?;
                    }
                    offset += len;
                }
                Extent::Chunk(len, id) => {
                    file.write_all_at(&trees::chunk(index, *len, id)?, offset)?;
                    offset += u64::from(*len);
                }
            }
            Ok(())
        })?;
        Ok(file.set_len(size)?)
    }

    fn link(&self, first: &[u8], name: &[u8], entry: &Entry) -> Result<()> {
        let is_like_first = self.firsts.get(first) == Some(&size(entry));
        ensure(is_like_first, "a further name is not like its first")?;
        let mut names: Vec<_> = first.split(|b| *b == 0).map(OsStr::from_bytes).collect();
        let last = names.pop().expect("a split has one part at least");
        let mut from = sys::openat(&self.open[0].fd, c".", directory_flags(), Mode::empty())?;
        for name in names {
            from = sys::openat(&from, name, directory_flags(), Mode::empty())?;
        }
        let to = &self.open.last().expect("the root is open").fd;
        Ok(sys::linkat(from, last, to, OsStr::from_bytes(name), AtFlags::empty())?)
    }

    /// Finishes all directories but the first `depth`.
    fn close_to(&mut self, depth: usize) -> Result<()> {
        while self.open.len() > depth {
            let Some(Open { fd, entry, .. }) = self.open.pop() else { break };
            // Now, since what is put into it changes its time, and a default ACL what is put.
            dress(fd.as_fd(), OsStr::new("."), &entry)?;
        }
        Ok(())
    }
}

fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

fn size(entry: &Entry) -> Option<u64> {
    match entry.kind {
        Kind::File { size, .. } => Some(size),
        _ => None,
    }
}

/// Gives what is called `name` its owner, mode, attributes and time.
fn dress(at: BorrowedFd<'_>, name: &OsStr, entry: &Entry) -> Result<()> {
    // Owners first: setting them clears bits of the mode, and capabilities.
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    sys::chownat(at, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if !matches!(entry.kind, Kind::Symlink(_)) {
        sys::chmodat(at, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
    }
    let path = Path::new("/proc/self/fd").join(at.as_raw_fd().to_string()).join(name);
    for (attribute, value) in &entry.xattrs {
        sys::lsetxattr(&path, OsStr::from_bytes(attribute), value, XattrFlags::empty())?;
    }
    let time = Timespec { tv_sec: entry.mtime.0, tv_nsec: entry.mtime.1.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(sys::utimensat(at, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}
