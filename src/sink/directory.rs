//! Brings entries back into a directory.
//!
//! In `sink`. Nothing outside the directory is written, whatever the entries say: the kernel
//! resolves each path beneath the root (`beneath`), what exists is never opened for creation, and
//! no link is followed. Until `complete`, a marker in the root says that the content is not whole.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, FileType, Mode as Bits, OFlags};
use rustix::io::Errno;

use super::beneath::{DIRECTORY, open_in};
use super::file::{File, Holes, Zeros};
use super::handle::Handle;
use super::marker::{Found, MARKER_NAME, Marker, Mode};
use super::metadata::{Before, Special};
use super::node::{check_type, make_node, type_of};
use super::target::{LOST_FOUND, Target, has_lost_found, is_marker, not_open, own_root, wipe};
use super::{Sink, SinkError, SinkFile, removal};
use crate::entry::{Entry, EntryPath, Kind, escape};
use crate::event::Observer;

/// How entries are brought back into a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DirectoryOptions {
    /// What becomes of devices, set-id bits and the like.
    pub special: Special,
}

/// A directory that entries are brought back into, from any number of threads.
///
/// A parent must be made before what it holds, and finished after it. Dropped without
/// [`Directory::complete`], it leaves the marker: the same restore may then begin again.
#[derive(Debug)]
pub struct Directory {
    target: Arc<Target>,
    /// Locked as long as this lives.
    _marker: Marker,
}

impl Directory {
    /// Begins a restore into a directory that is new or empty, or holds the unfinished remains of
    /// the same restore, which are removed. `marker` names the restore, in less than 4 KiB.
    ///
    /// Directories on the way are made. Errors: `Refused` if it is no directory, holds anything
    /// else, or another process restores into it; `Target` if it cannot be written.
    pub fn create(
        path: &Path,
        options: DirectoryOptions,
        marker: &str,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, SinkError> {
        let name = escape(path.as_os_str().as_encoded_bytes());
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|error| not_open(&name, error))?;
        Self::create_in(Target::open(path, options.special, observer)?, marker)
    }

    /// As [`Directory::create`], in a directory that is open.
    pub(super) fn create_in(mut target: Target, marker: &str) -> Result<Self, SinkError> {
        let root = target.beneath.root();
        let found = Marker::find(root, &target.name, marker, Mode::New)?;
        let failed = |error| target.lost(error);
        let lost_found = has_lost_found(&target.beneath).map_err(failed)?;
        if let Found::Same(_) = found {
            wipe(&target.beneath, lost_found).map_err(failed)?;
        }
        // Two may be tolerated; a third cannot be.
        let names = removal::list(root, 3).map_err(failed)?;
        let tolerated =
            |name: &[u8]| name == MARKER_NAME.as_bytes() || lost_found && name == LOST_FOUND;
        if let Some(name) = names.iter().find(|name| !tolerated(name)) {
            let (target, name) = (&target.name, escape(name));
            return Err(SinkError::Refused(format!("`{target}` is not empty: it holds `{name}`")));
        }
        let marker = begin(&target, found, marker, Mode::New)?;
        target.owner = own_root(&target.beneath);
        target.fresh = true;
        target.lost_found = AtomicBool::new(lost_found);
        Ok(Self { target: Arc::new(target), _marker: marker })
    }

    /// Begins a restore into a directory that is there and may hold anything. `marker` names the
    /// restore, in less than 4 KiB.
    ///
    /// Errors: `Refused` if it is no directory, holds another restore's marker, or another process
    /// restores into it; `Target` if it cannot be written.
    pub fn existing(
        path: &Path,
        options: DirectoryOptions,
        marker: &str,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, SinkError> {
        let target = Target::open(path, options.special, observer)?;
        let found = Marker::find(target.beneath.root(), &target.name, marker, Mode::Existing)?;
        let marker = begin(&target, found, marker, Mode::Existing)?;
        Ok(Self { target: Arc::new(target), _marker: marker })
    }

    fn root(&self) -> Handle<'_> {
        Handle::Open(self.target.beneath.root())
    }
}

impl Sink for Directory {
    /// Makes a directory, for now with mode 0700.
    ///
    /// Errors: `Entry` if something is there already or the way leads over anything but
    /// directories; `Target` if nothing more can be written at all. So do all methods below.
    fn make_directory(&self, path: &EntryPath) -> Result<(), SinkError> {
        self.target.at(path, |parent, name| {
            match rustix::fs::mkdirat(parent, name, Bits::RWXU) {
                // The one that came with the file system stands for the one that was saved.
                Err(Errno::EXIST)
                    if path.as_key() == LOST_FOUND
                        && self.target.lost_found.swap(false, Ordering::AcqRel) =>
                {
                    Ok(())
                }
                made => Ok(made?),
            }
        })
    }

    /// Makes a file that will have `size` bytes, for now with mode 0600.
    fn create_file(
        &self,
        path: &EntryPath,
        size: u64,
        holes: Holes,
    ) -> Result<Box<dyn SinkFile>, SinkError> {
        let fd = self.target.at(path, |parent, name| {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
            open_in(parent.as_fd(), name, flags)
        })?;
        let zeros = match holes {
            Holes::Fill => Zeros::Write,
            Holes::Make => Zeros::Skip,
        };
        let file = File::new(fd, path.clone(), Arc::clone(&self.target), zeros, (0, 1));
        if let Err(error) = file.reserve(size) {
            // A file of that size cannot be: better none than one that looks whole.
            let _ = self.remove(path);
            return Err(error);
        }
        Ok(Box::new(file))
    }

    /// Opens a regular file again that this run made, or one to patch that was there before.
    ///
    /// One that was there before has mode 0600 from then on, until it is finished.
    fn open_file(&self, path: &EntryPath, holes: Holes) -> Result<Box<dyn SinkFile>, SinkError> {
        let target = &self.target;
        let (fd, stat) = target.at(path, |parent, name| {
            // Looked at before it is opened: opening a pipe waits, opening a device acts.
            let seen = open_in(parent.as_fd(), name, OFlags::PATH | OFlags::NOFOLLOW)?;
            let stat = rustix::fs::fstat(&seen)?;
            check_type(stat.st_mode, FileType::RegularFile)?;
            if !target.fresh {
                // New content may be secret where the old was not, and must not run as anybody.
                Handle::Path(seen.as_fd()).set_mode(0o600)?;
            }
            let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
            let fd = open_in(parent.as_fd(), name, flags)?;
            let opened = rustix::fs::fstat(&fd)?;
            if (opened.st_dev, opened.st_ino) != (stat.st_dev, stat.st_ino) {
                return Err(io::Error::other("it was replaced meanwhile"));
            }
            Ok((fd, stat))
        })?;
        let zeros = match holes {
            Holes::Fill => Zeros::Write,
            Holes::Make if target.fresh => Zeros::Skip,
            Holes::Make => Zeros::Punch,
        };
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let links = links_of(&stat);
        Ok(Box::new(File::new(fd, path.clone(), Arc::clone(target), zeros, (size, links))))
    }

    /// How many names there are for what is at `path`. In a directory that was there before, some
    /// of them may lie outside.
    fn links(&self, path: &EntryPath) -> Result<u64, SinkError> {
        self.target.at(path, |parent, name| {
            let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
            Ok(links_of(&stat))
        })
    }

    /// Makes a symbolic link, pipe, socket or device, with its metadata.
    ///
    /// Devices are left out, with a warning, unless the options and the process' rights allow them.
    fn make_other(&self, path: &EntryPath, entry: &Entry) -> Result<(), SinkError> {
        if let Kind::CharDevice { .. } | Kind::BlockDevice { .. } = entry.kind
            && self.target.special == Special::LeaveOut
        {
            self.target.warn(path, "device left out (not asked for, or not root)".to_owned());
            return Ok(());
        }
        let fd = self.target.at(path, |parent, name| {
            make_node(parent, name, &entry.kind)?;
            open_in(parent.as_fd(), name, OFlags::PATH | OFlags::NOFOLLOW)
        })?;
        self.target.apply(Handle::Path(fd.as_fd()), self.target.before(), entry, path)
    }

    /// Makes a further name for what `first` names, which must be of the given kind and must not be
    /// a directory.
    ///
    /// `first` is found beneath the root and over no link, so it was made by this run in a fresh
    /// target, where nothing else is. In one that was there before, it may have been there too.
    fn link(&self, path: &EntryPath, first: &EntryPath, kind: &Kind) -> Result<(), SinkError> {
        let file_type = type_of(kind);
        if is_marker(first) || file_type == FileType::Directory {
            return Err(self.target.failed(path, Errno::PERM.into()));
        }
        let held = self.target.beneath.parent(first);
        let (first_parent, first_name) = held.map_err(|e| self.target.failed(path, e))?;
        self.target.at(path, |parent, name| {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            check_type(rustix::fs::statat(&first_parent, first_name, flags)?.st_mode, file_type)?;
            // Without a flag that says otherwise, a link is linked and not followed.
            let flags = AtFlags::empty();
            Ok(rustix::fs::linkat(&first_parent, first_name, parent, name, flags)?)
        })
    }

    /// Sets the metadata of a directory, once all it holds is complete. That of the root comes with
    /// [`Directory::complete`] anyway.
    fn finish_directory(&self, path: &EntryPath, entry: &Entry) -> Result<(), SinkError> {
        let known = !path.is_root() && path.as_key() != LOST_FOUND;
        let before = if known { self.target.before() } else { Before::Unknown };
        if path.is_root() {
            return self.target.apply(self.root(), before, entry, path);
        }
        let fd = self.target.at(path, |parent, name| open_in(parent.as_fd(), name, DIRECTORY))?;
        self.target.apply(Handle::Open(fd.as_fd()), before, entry, path)
    }

    /// Sets the metadata of anything that is there and of the entry's kind.
    fn set_metadata(&self, path: &EntryPath, entry: &Entry) -> Result<(), SinkError> {
        if path.is_root() {
            return self.finish_directory(path, entry);
        }
        let fd = self.target.at(path, |parent, name| {
            let fd = open_in(parent.as_fd(), name, OFlags::PATH | OFlags::NOFOLLOW)?;
            check_type(rustix::fs::fstat(&fd)?.st_mode, type_of(&entry.kind))?;
            Ok(fd)
        })?;
        self.target.apply(Handle::Path(fd.as_fd()), Before::Unknown, entry, path)
    }

    /// Removes what is there; a directory with all it holds.
    fn remove(&self, path: &EntryPath) -> Result<(), SinkError> {
        let removed = self.target.at(path, |parent, name| removal::remove(parent.as_fd(), name));
        // Directories on the way may be gone even if not all could be removed.
        if !matches!(removed, Ok(false)) {
            self.target.beneath.forget();
        }
        removed.map(drop)
    }

    /// Ends the restore: all is on disk, the marker is removed, and the root has its own metadata.
    ///
    /// Errors: `Target` if anything since the beginning could not be written; the marker then
    /// stays.
    fn complete(self: Box<Self>, root: &Entry) -> Result<(), SinkError> {
        let target = &self.target;
        let failed = |error| target.lost(error);
        if target.broken.load(Ordering::Acquire) {
            return Err(failed(io::Error::other("an earlier write has failed")));
        }
        // All but the times before the marker goes: who finds none must find the rest right. The
        // times are set again, as removing it moves them.
        target.apply(self.root(), Before::Unknown, root, &EntryPath::root())?;
        let dir = target.beneath.root();
        // Reports write errors of any file since the root was opened.
        rustix::fs::syncfs(dir).map_err(|e| failed(e.into()))?;
        let mut removed = Marker::remove(dir);
        if removed.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::PermissionDenied) {
            // The root may be read-only for its owner, as it was saved.
            self.root().set_mode(0o700).map_err(failed)?;
            removed = Marker::remove(dir);
            self.root().set_mode(root.mode & 0o7777).map_err(failed)?;
        }
        removed.map_err(failed)?;
        // Whether the times can be set has been reported above.
        let _ = self.root().set_times(root);
        rustix::fs::fsync(dir).map_err(|e| failed(e.into()))
    }
}

#[cfg_attr(
    target_arch = "x86_64",
    expect(clippy::useless_conversion, reason = "narrower on other processors")
)]
fn links_of(stat: &rustix::fs::Stat) -> u64 {
    u64::from(stat.st_nlink)
}

/// Writes the marker, unless an earlier run has.
fn begin(target: &Target, found: Found, text: &str, mode: Mode) -> Result<Marker, SinkError> {
    let root = target.beneath.root();
    let begun = match found {
        Found::Same(marker) => Ok(marker),
        Found::Unwritten(marker) => marker.write(root, text, mode).map(|()| marker),
        Found::Nothing => Marker::create(root, text, mode),
    };
    begun.map_err(|error| {
        let rival =
            [io::ErrorKind::AlreadyExists, io::ErrorKind::WouldBlock].contains(&error.kind());
        if rival {
            SinkError::Refused(format!("`{}`: a restore into it is under way", target.name))
        } else {
            target.lost(error)
        }
    })
}

#[cfg(test)]
mod tests;
