//! Removes trees from a target.
//!
//! Below `directory`. Works on descriptors, follows no symbolic link, enters no mount, and holds
//! one directory open however deep the tree is.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, SeekFrom};
use rustix::io::Errno;

use super::beneath::{DIRECTORY, open_in};

/// Bytes of directory listing read at once.
const LISTING_LEN: usize = 16 << 10;

/// Removes `name` from the directory `parent`; with all it holds if it is a directory itself.
///
/// Gives whether it was a directory.
pub(super) fn remove(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<bool> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) => return Ok(false),
        // POSIX says `EPERM` for a directory, Linux `EISDIR`; both are settled by trying.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) => return Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        Err(Errno::NOTDIR) => return Err(Errno::PERM.into()),
        Err(error) => return Err(error.into()),
    }
    empty(open_in(parent, name, DIRECTORY)?, &|_| false)?;
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?;
    Ok(true)
}

/// Removes all that `top` holds, but the names in it that are to be kept.
pub(super) fn empty(top: OwnedFd, keep: &dyn Fn(&[u8]) -> bool) -> io::Result<()> {
    // Names from `top` down to the directory at hand, each with the identity of its parent.
    let mut way: Vec<(Vec<u8>, Identity)> = Vec::new();
    let mut dir = top;
    loop {
        // Directories may have been left unwritable for their owner, and are to go anyway.
        let _ = rustix::fs::fchmod(&dir, Mode::RWXU);
        let keep_here: &dyn Fn(&[u8]) -> bool = if way.is_empty() { keep } else { &|_| false };
        if let Some(name) = remove_all_but_full(dir.as_fd(), keep_here)? {
            let below = open_in(dir.as_fd(), &name, DIRECTORY)?;
            way.push((name, Identity::of(dir.as_fd())?));
            dir = below;
            continue;
        }
        let Some((name, expected)) = way.pop() else { return Ok(()) };
        // `..` is the directory we came from unless somebody moves ours meanwhile.
        let flags = DIRECTORY | OFlags::CLOEXEC;
        let upper = rustix::fs::openat(&dir, c"..", flags, Mode::empty())?;
        if Identity::of(upper.as_fd())? != expected {
            return Err(io::Error::other("a directory was moved while it was removed"));
        }
        rustix::fs::unlinkat(&upper, name.as_slice(), AtFlags::REMOVEDIR)?;
        dir = upper;
    }
}

/// The names that `dir` holds, sorted; at most `names_max` of them.
pub(super) fn list(dir: BorrowedFd<'_>, names_max: usize) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    let mut buffer = Vec::with_capacity(LISTING_LEN);
    let _ = rustix::fs::seek(dir, SeekFrom::Start(0))?;
    let mut listing = RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(entry) = listing.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            if names.len() == names_max {
                break;
            }
            names.push(name.to_vec());
        }
    }
    names.sort();
    Ok(names)
}

/// What makes a directory this one.
#[derive(PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(dir: BorrowedFd<'_>) -> io::Result<Self> {
        let stat = rustix::fs::fstat(dir)?;
        Ok(Self { device: stat.st_dev, inode: stat.st_ino })
    }
}

/// Removes what can be removed at once; gives the first directory that must be emptied before.
fn remove_all_but_full(
    dir: BorrowedFd<'_>,
    keep: &dyn Fn(&[u8]) -> bool,
) -> io::Result<Option<Vec<u8>>> {
    let mut buffer = Vec::with_capacity(LISTING_LEN);
    loop {
        let mut removed = false;
        let _ = rustix::fs::seek(dir, SeekFrom::Start(0))?;
        let mut listing = RawDir::new(dir, buffer.spare_capacity_mut());
        while let Some(entry) = listing.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." || keep(name) {
                continue;
            }
            if !remove_one(dir, name, entry.file_type())? {
                return Ok(Some(name.to_vec()));
            }
            removed = true;
        }
        // Some file systems leave entries out of a listing during which others are removed.
        if !removed {
            return Ok(None);
        }
    }
}

/// Removes `name` unless it is a directory that is not empty; gives whether it is gone.
fn remove_one(dir: BorrowedFd<'_>, name: &[u8], file_type: FileType) -> io::Result<bool> {
    if file_type != FileType::Directory {
        match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) => return Ok(true),
            // Some file systems do not tell the type in listings.
            Err(Errno::ISDIR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    fn open(path: &Path) -> OwnedFd {
        rustix::fs::open(path, DIRECTORY | OFlags::CLOEXEC, Mode::empty()).expect("open")
    }

    #[test]
    fn a_tree_is_removed_and_links_in_it_are_not_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        let outside = tempfile::tempdir().expect("a directory");
        std::fs::write(outside.path().join("sentinel"), "here").expect("written");
        for sub in 0..20 {
            let sub = dir.path().join(format!("tree/{sub}/full"));
            std::fs::create_dir_all(&sub).expect("made");
            std::fs::write(sub.join("file"), "x").expect("written");
            symlink(outside.path(), sub.join("link")).expect("made");
        }
        std::fs::write(dir.path().join("other"), "").expect("written");
        let root = open(dir.path());
        assert!(remove(root.as_fd(), b"tree").expect("removed"));
        assert_eq!(list(root.as_fd(), 10).expect("listed"), [b"other".to_vec()]);
        assert!(!remove(root.as_fd(), b"other").expect("removed"));
        assert!(outside.path().join("sentinel").exists());
    }

    #[test]
    fn a_tree_of_any_depth_is_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = open(dir.path());
        let mut at = open(dir.path());
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, c"deep", Mode::RWXU).expect("made");
            at = open_in(at.as_fd(), b"deep", DIRECTORY).expect("open");
        }
        assert!(remove(root.as_fd(), b"deep").expect("removed"));
        assert!(list(root.as_fd(), 1).expect("listed").is_empty());
    }

    #[test]
    fn what_is_to_be_kept_stays_at_the_top_only() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir_all(dir.path().join("a/keep")).expect("made");
        std::fs::write(dir.path().join("keep"), "").expect("written");
        empty(open(dir.path()), &|name| name == b"keep").expect("emptied");
        assert_eq!(list(open(dir.path()).as_fd(), 9).expect("listed"), [b"keep".to_vec()]);
    }
}
