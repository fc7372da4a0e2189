//! Sets owner, mode, attributes and times of one inode.
//!
//! Below `directory`. Works on a descriptor only, in an order in which no step undoes another: a
//! change of owner drops set-id bits and capabilities, a change of attributes moves the times.

use std::io;

use rustix::io::Errno;

use super::handle::Handle;
use crate::entry::{Entry, Kind, escape};

const SET_ID_BITS: u32 = 0o6000;

/// Whether what gives power beyond the target comes back: devices, set-id bits of files, file
/// capabilities and other `security.` and `trusted.` attributes. Only root can bring them back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Special {
    /// They come back: for volumes, and where it was asked for.
    Restore,
    /// They are left out, with a warning.
    #[default]
    LeaveOut,
}

/// An owner and a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// What is known of an inode before its metadata is set.
#[derive(Debug, Clone, Copy)]
pub(super) enum Before {
    /// Made by this run with this owner and no attributes: what is equal need not be set.
    Made(Owner),
    /// Anything may be set, and attributes it should not have are to go.
    Unknown,
}

/// Sets all metadata of `entry`; gives what could not be set, in words.
///
/// Errors: only those after which nothing more can be written to the target.
pub(super) fn apply(
    at: Handle<'_>,
    before: Before,
    entry: &Entry,
    special: Special,
) -> io::Result<Vec<String>> {
    let mut failures = Failures(Vec::new());
    let owned = set_owner(at, before, entry, &mut failures)?;
    set_mode(at, entry, special, owned, &mut failures)?;
    set_xattrs(at, before, entry, special, &mut failures)?;
    let _ = failures.note(at.set_times(entry), || "time".to_owned())?;
    Ok(failures.0)
}

/// Whether nothing more can be written after this error, to whatever entry.
pub(super) fn is_fatal(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::NOSPC
                | Errno::DQUOT
                | Errno::ROFS
                | Errno::IO
                | Errno::UCLEAN
                | Errno::STALE
                | Errno::NOTCONN
                | Errno::MFILE
                | Errno::NFILE
                | Errno::NOMEM
        )
    )
}

/// What could not be set, in words.
struct Failures(Vec<String>);

impl Failures {
    /// Takes note of a failure that concerns this inode only; passes on any other.
    fn note(&mut self, done: io::Result<()>, what: impl FnOnce() -> String) -> io::Result<bool> {
        let Err(error) = done else { return Ok(true) };
        if is_fatal(&error) {
            return Err(error);
        }
        self.0.push(format!("{} ({error})", what()));
        Ok(false)
    }
}

/// Gives whether the owner is now the entry's.
fn set_owner(
    at: Handle<'_>,
    before: Before,
    entry: &Entry,
    failures: &mut Failures,
) -> io::Result<bool> {
    // What this run made belongs to this process: no parent hands on its group, since those are
    // fresh and without set-id bit as well. A call saved for each of many small files.
    if matches!(before, Before::Made(owner) if owner.uid == entry.uid && owner.gid == entry.gid) {
        return Ok(true);
    }
    let done = at.set_owner(entry.uid, entry.gid);
    failures.note(done, || format!("owner {}:{}", entry.uid, entry.gid))
}

fn set_mode(
    at: Handle<'_>,
    entry: &Entry,
    special: Special,
    owned: bool,
    failures: &mut Failures,
) -> io::Result<()> {
    // Symbolic links have no mode of their own on Linux.
    if matches!(entry.kind, Kind::Symlink { .. }) {
        return Ok(());
    }
    let mut mode = entry.mode & 0o7777;
    // On a directory the group bit only says which group new files get.
    if !entry.is_directory() && mode & SET_ID_BITS != 0 {
        if special == Special::LeaveOut {
            failures.0.push("set-id bits (not asked for, or not root)".to_owned());
            mode &= !SET_ID_BITS;
        } else if !owned {
            // A program that runs as the wrong user is worse than one that does not switch users.
            failures.0.push("set-id bits (the owner is another)".to_owned());
            mode &= !SET_ID_BITS;
        }
    }
    let _ = failures.note(at.set_mode(mode), || format!("mode {mode:o}"))?;
    Ok(())
}

fn set_xattrs(
    at: Handle<'_>,
    before: Before,
    entry: &Entry,
    special: Special,
    failures: &mut Failures,
) -> io::Result<()> {
    if matches!(before, Before::Unknown) {
        remove_other_xattrs(at, entry, special, failures)?;
    }
    for xattr in &entry.xattrs {
        let shown = || format!("attribute `{}`", escape(&xattr.name));
        match Class::of(&xattr.name) {
            Class::Label => {}
            Class::Special if special == Special::LeaveOut => {
                failures.0.push(format!("{} (not asked for, or not root)", shown()));
            }
            Class::Special | Class::Plain => {
                let done = at.set_xattr(xattr);
                match done {
                    // Some file systems say so of one attribute that is too large for an inode.
                    Err(error) if is_no_space(&error) && at.has_space() => {
                        failures.0.push(format!("{} (no room for it)", shown()));
                    }
                    done => _ = failures.note(done, shown)?,
                }
            }
        }
    }
    Ok(())
}

fn remove_other_xattrs(
    at: Handle<'_>,
    entry: &Entry,
    special: Special,
    failures: &mut Failures,
) -> io::Result<()> {
    let names = match at.list_xattrs() {
        Ok(names) => names,
        // A file system without attributes has none to remove.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::OPNOTSUPP) => return Ok(()),
        Err(error) => return failures.note(Err(error), || "attributes".to_owned()).map(drop),
    };
    for name in names.split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let wanted = entry.xattrs.iter().any(|xattr| xattr.name == name);
        let ours = match Class::of(name) {
            Class::Plain => true,
            // Never keep a capability that belonged to other content.
            Class::Special => special == Special::Restore || name == CAPABILITY,
            Class::Label => false,
        };
        let kept = wanted && (Class::of(name) == Class::Plain || special == Special::Restore);
        if ours && !kept {
            let done = at.remove_xattr(name);
            let _ = failures.note(done, || format!("removal of attribute `{}`", escape(name)))?;
        }
    }
    Ok(())
}

const CAPABILITY: &[u8] = b"security.capability";

/// Set by the machine's own policy, and so never saved either. All else in their namespace is data
/// that programs rely on, such as the access lists of Samba.
const LABELS: [&[u8]; 3] = [b"security.selinux", b"security.ima", b"security.evm"];

/// How attributes are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Given and taken like any other metadata.
    Plain,
    /// See [`Special`].
    Special,
    /// Labels and signatures that belong to the machine, not to the data.
    Label,
}

impl Class {
    fn of(name: &[u8]) -> Self {
        if LABELS.contains(&name) {
            Self::Label
        } else if name.starts_with(b"security.") || name.starts_with(b"trusted.") {
            Self::Special
        } else {
            Self::Plain
        }
    }
}

fn is_no_space(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::NOSPC)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::clock::Time;
    use crate::entry::Xattr;

    fn entry() -> Entry {
        let kind = Kind::File { size: 0, sparse: false };
        let mtime = Time::new(-5, 7);
        Entry { kind, mode: 0o4755, uid: 7, gid: 8, mtime, xattrs: Vec::new(), link: None }
    }

    fn xattr(name: &str, value: &[u8]) -> Xattr {
        Xattr { name: name.as_bytes().to_vec(), value: value.to_vec() }
    }

    /// A capability set of version 2 with `CAP_NET_RAW`.
    fn capability() -> Xattr {
        let value = [&[1, 0, 0, 2, 0, 0x20, 0, 0][..], &[0; 12]].concat();
        xattr("security.capability", &value)
    }

    fn names(file: &File) -> Vec<String> {
        let names = Handle::Open(file.as_fd()).list_xattrs().expect("listed");
        let mut names: Vec<_> =
            names.split(|b| *b == 0).filter(|n| !n.is_empty()).map(escape).collect();
        names.retain(|name| Class::of(name.as_bytes()) != Class::Label);
        names.sort();
        names
    }

    #[test]
    fn set_id_and_capability_survive_the_change_of_owner() {
        let file = tempfile::tempfile().expect("a file");
        let entry = Entry { xattrs: vec![capability()], ..entry() };
        let failures = apply(Handle::Open(file.as_fd()), Before::Unknown, &entry, Special::Restore);
        assert_eq!(failures.expect("set"), Vec::<String>::new());
        let found = file.metadata().expect("known");
        assert_eq!((found.mode() & 0o7777, found.uid(), found.gid()), (0o4755, 7, 8));
        assert_eq!((found.mtime(), found.mtime_nsec()), (-5, 7));
        assert_eq!(names(&file), ["security.capability"]);
    }

    #[test]
    fn special_things_are_left_out_and_named() {
        let file = tempfile::tempfile().expect("a file");
        let xattrs = vec![
            capability(),
            xattr("security.selinux", b"label"),
            xattr("trusted.a", b"1"),
            xattr("user.a", b"1"),
        ];
        let entry = Entry { xattrs, ..entry() };
        let failures =
            apply(Handle::Open(file.as_fd()), Before::Unknown, &entry, Special::LeaveOut)
                .expect("set");
        assert_eq!(failures.len(), 3, "{failures:?}");
        assert_eq!(file.metadata().expect("known").mode() & 0o7777, 0o755);
        assert_eq!(names(&file), ["user.a"]);
    }

    #[test]
    fn attributes_that_do_not_belong_are_removed() {
        let file = tempfile::tempfile().expect("a file");
        let at = Handle::Open(file.as_fd());
        for old in [capability(), xattr("trusted.old", b"1"), xattr("user.old", b"1")] {
            at.set_xattr(&old).expect("set");
        }
        let plain = Entry { mode: 0o644, xattrs: vec![xattr("user.new", b"")], ..entry() };
        assert!(apply(at, Before::Unknown, &plain, Special::LeaveOut).expect("set").is_empty());
        assert_eq!(names(&file), ["trusted.old", "user.new"]);
        assert!(apply(at, Before::Unknown, &plain, Special::Restore).expect("set").is_empty());
        assert_eq!(names(&file), ["user.new"]);
    }

    #[test]
    fn impossible_metadata_is_named_and_the_rest_is_set() {
        let file = tempfile::tempfile().expect("a file");
        let xattrs = vec![
            xattr("", b"no name"),
            xattr("nowhere.a", b"no namespace"),
            xattr("user.\x1b", &vec![b'x'; 100_000]),
        ];
        let mtime = Time::new(3, u32::MAX);
        let entry = Entry { uid: u32::MAX, mtime, xattrs, ..entry() };
        let failures = apply(Handle::Open(file.as_fd()), Before::Unknown, &entry, Special::Restore)
            .expect("set");
        // The owner, the set-id bits that must not stand with another owner, three attributes.
        assert_eq!(failures.len(), 5, "{failures:?}");
        assert!(failures.iter().all(|f| !f.contains('\x1b')), "{failures:?}");
        let found = file.metadata().expect("known");
        assert_eq!((found.mode() & 0o7777, found.mtime()), (0o755, 3));
    }

    #[test]
    fn an_attribute_too_large_for_an_inode_is_no_full_disk() {
        let file = tempfile::tempfile_in("/var/tmp").expect("a file");
        let entry = Entry { xattrs: vec![xattr("user.large", &vec![b'x'; 60_000])], ..entry() };
        let at = Handle::Open(file.as_fd());
        let failures = apply(at, Before::Unknown, &entry, Special::Restore).expect("set");
        // Where the file system takes it, nothing is amiss at all.
        assert_eq!(failures.len(), usize::from(names(&file).is_empty()));
    }
}
