//! Extended attributes, among them POSIX ACLs and file capabilities.
//!
//! Floor 5, used by the directory source only. A name is reached through its directory's descriptor
//! below `/proc/self/fd`: one call each for the many files without attributes, no path longer than
//! the system takes, and no symbolic link followed.

use std::ffi::CStr;
use std::io::Write as _;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{fgetxattr, flistxattr, lgetxattr, llistxattr};
use rustix::io::Errno;

use crate::entry::{Xattr, escape};

/// `XATTR_LIST_MAX` and `XATTR_SIZE_MAX` of Linux: no list and no value is longer, in bytes.
const XATTR_LEN_MAX: usize = 65536;

/// What an inode has, and what of it could not be read.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    /// Sorted by name.
    pub(super) xattrs: Vec<Xattr>,
    /// One message each.
    pub(super) lost: Vec<String>,
    /// A name of a namespace that is not saved; told once per reader.
    pub(super) foreign: Option<String>,
}

/// Reads attributes, and learns whether the file system has any.
#[derive(Debug)]
pub(super) struct XattrReader {
    supported: bool,
    told_foreign: bool,
    path: Vec<u8>,
    list: Vec<u8>,
    value: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Target<'a> {
    Path(&'a CStr),
    Open(BorrowedFd<'a>),
}

impl XattrReader {
    pub(super) fn new() -> Self {
        Self {
            supported: true,
            told_foreign: false,
            path: Vec::new(),
            list: vec![0; XATTR_LEN_MAX],
            value: vec![0; XATTR_LEN_MAX],
        }
    }

    /// Those of `name` in `dir`.
    pub(super) fn at(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        kind: Support,
    ) -> Result<Attributes, Errno> {
        let mut path = std::mem::take(&mut self.path);
        path.clear();
        let written = write!(path, "/proc/self/fd/{}/", dir.as_raw_fd());
        debug_assert!(written.is_ok(), "a Vec takes all");
        path.extend_from_slice(name.to_bytes_with_nul());
        let found = match CStr::from_bytes_with_nul(&path) {
            Ok(path) => self.read(Target::Path(path), kind),
            Err(_) => Err(Errno::INVAL),
        };
        self.path = path;
        found
    }

    /// Those of an open file.
    pub(super) fn of(&mut self, fd: BorrowedFd<'_>, kind: Support) -> Result<Attributes, Errno> {
        self.read(Target::Open(fd), kind)
    }

    /// Asks for none any more; gives what says so.
    pub(super) fn give_up(&mut self, why: &str) -> Attributes {
        self.supported = false;
        Attributes { lost: vec![why.to_owned()], ..Attributes::default() }
    }

    fn read(&mut self, target: Target<'_>, kind: Support) -> Result<Attributes, Errno> {
        let mut found = Attributes::default();
        if !self.supported {
            return Ok(found);
        }
        let len = match target {
            Target::Path(path) => llistxattr(path, &mut self.list[..]),
            Target::Open(fd) => flistxattr(fd, &mut self.list[..]),
        };
        let len = self.listed(len, kind, &mut found)?;
        for name in self.list[..len].split_inclusive(|b| *b == 0) {
            let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
            match fate(name.to_bytes()) {
                Fate::Save => {}
                Fate::Leave => continue,
                Fate::Foreign => {
                    if !self.told_foreign {
                        self.told_foreign = true;
                        found.foreign = Some(escape(name.to_bytes()));
                    }
                    continue;
                }
            }
            let len = match target {
                Target::Path(path) => lgetxattr(path, name, &mut self.value[..]),
                Target::Open(fd) => fgetxattr(fd, name, &mut self.value[..]),
            };
            match len {
                Ok(len) => found.xattrs.push(Xattr {
                    name: name.to_bytes().to_vec(),
                    value: self.value[..len].to_vec(),
                }),
                // Removed since the list was read.
                Err(Errno::NODATA) => {}
                Err(error) => found.lost.push(format!(
                    "extended attribute `{}` cannot be read: {error}",
                    escape(name.to_bytes())
                )),
            }
        }
        found.xattrs.sort();
        Ok(found)
    }

    /// Length of the list; empty where there is none, and never asked for again if there is none
    /// anywhere.
    fn listed(
        &mut self,
        len: Result<usize, Errno>,
        kind: Support,
        found: &mut Attributes,
    ) -> Result<usize, Errno> {
        match len {
            Err(Errno::NOTSUP) => {
                self.supported = kind == Support::Unknown;
                Ok(0)
            }
            Err(Errno::TOOBIG | Errno::RANGE) => {
                found.lost.push("its list of extended attributes is too long".to_owned());
                Ok(0)
            }
            len => len,
        }
    }
}

/// What "not supported" says about the file system as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Support {
    /// A file or directory in the file system of the root: none has attributes if it has not.
    OfAll,
    /// Something else, which may lack attributes where files have them.
    Unknown,
}

enum Fate {
    Save,
    /// Of no use on another machine: labels and signatures that its own policy sets anew.
    Leave,
    Foreign,
}

fn fate(name: &[u8]) -> Fate {
    if [&b"security.selinux"[..], b"security.ima", b"security.evm"].contains(&name) {
        return Fate::Leave;
    }
    let saved = [&b"user."[..], b"trusted.", b"security.", b"system.posix_acl_"];
    match saved.iter().any(|space| name.starts_with(space)) {
        true => Fate::Save,
        false => Fate::Foreign,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    use rustix::fs::{XattrFlags, fsetxattr};

    #[test]
    fn both_ways_read_the_same_and_binary_values_stay() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = std::fs::File::create(dir.path().join("f")).expect("a file");
        for (name, value) in [("user.b", &b"\0\xff\n"[..]), ("trusted.a", b"x"), ("user.a", b"")] {
            fsetxattr(&file, name, value, XattrFlags::empty()).expect("set");
        }
        let dir = std::fs::File::open(dir.path()).expect("opened");
        let mut reader = XattrReader::new();
        let by_name = reader.at(dir.as_fd(), c"f", Support::OfAll).expect("read").xattrs;
        let by_fd = reader.of(file.as_fd(), Support::OfAll).expect("read").xattrs;
        assert_eq!(by_name, by_fd);
        let names: Vec<_> = by_name.iter().map(|x| escape(&x.name)).collect();
        assert_eq!(names, ["trusted.a", "user.a", "user.b"]);
        assert_eq!(by_name[2].value, b"\0\xff\n");
    }

    #[test]
    fn labels_of_the_machine_are_left_out_and_unknown_namespaces_told() {
        assert!(matches!(fate(b"security.selinux"), Fate::Leave));
        assert!(matches!(fate(b"security.capability"), Fate::Save));
        assert!(matches!(fate(b"system.posix_acl_default"), Fate::Save));
        assert!(matches!(fate(b"btrfs.compression"), Fate::Foreign));
    }

    #[test]
    fn a_file_system_without_attributes_is_asked_once() {
        let mut reader = XattrReader::new();
        let mut found = Attributes::default();
        let refused = Err(Errno::NOTSUP);
        assert_eq!(reader.listed(refused, Support::Unknown, &mut found), Ok(0));
        assert!(reader.supported, "a special file says nothing about the others");
        assert_eq!(reader.listed(refused, Support::OfAll, &mut found), Ok(0));
        assert!(!reader.supported);
        let file = tempfile::tempfile().expect("a file");
        fsetxattr(&file, "user.a", b"1", XattrFlags::empty()).expect("set");
        let asked = reader.of(file.as_fd(), Support::OfAll).expect("no error");
        assert_eq!((asked.xattrs, asked.lost.len()), (Vec::new(), 0));
    }
}
