//! A fresh directory beside the place where its content will go.
//!
//! Beside `directory`, which fills it. What is not complete never shows under the name it will
//! have, and what is there already is never replaced: the last step is one rename.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode as Bits, OFlags, RenameFlags};
use rustix::io::Errno;

use super::beneath::{Beneath, DIRECTORY, open_in};
use super::target::Target;
use super::{Directory, DirectoryOptions, SinkError, removal};
use crate::entry::{EntryPath, escape};
use crate::event::Observer;

const PLACE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A place at which there is nothing yet: a free name in a directory that is held open.
#[derive(Debug)]
pub struct Spot {
    parent: Arc<OwnedFd>,
    name: Vec<u8>,
    shown: String,
}

impl Spot {
    /// The place `path` or, if a directory is there, that of `name` in it.
    ///
    /// Errors: `Refused` if something is there already; `Target` with `NotFound` if the directory
    /// it would lie in is missing.
    pub fn of(path: &Path, name: &[u8]) -> Result<Self, SinkError> {
        let shown = escape(path.as_os_str().as_encoded_bytes());
        let open = |path: &Path| rustix::fs::open(path, PLACE, Bits::empty());
        match open(path) {
            Ok(parent) => return Self::free(parent.into(), name, &shown),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(error) => return Err(failed(&shown, error.into())),
        }
        let Some(name) = path.file_name() else {
            return Err(failed(&shown, io::ErrorKind::NotFound.into()));
        };
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let shown = escape(parent.as_os_str().as_encoded_bytes());
        let parent = open(parent).map_err(|error| failed(&shown, error.into()))?;
        Self::free(parent.into(), name.as_encoded_bytes(), &shown)
    }

    /// As [`Spot::of`], for a path beneath `root`, on which no link is followed.
    ///
    /// Errors: as [`Spot::of`].
    pub fn beneath(root: &Path, path: &EntryPath, name: &[u8]) -> Result<Self, SinkError> {
        let shown = |path: &EntryPath| format!("{}/{path}", root.display());
        let open = || -> io::Result<(Arc<OwnedFd>, Vec<u8>, String)> {
            let beneath = Beneath::open_root(root)?;
            if path.is_root() {
                let root_fd = rustix::fs::openat(beneath.root(), c".", PLACE, Bits::empty())?;
                return Ok((root_fd.into(), name.to_vec(), root.display().to_string()));
            }
            let (parent, last) = beneath.parent(path)?;
            match open_in(parent.as_fd(), last, PLACE | OFlags::NOFOLLOW) {
                Ok(inside) => Ok((inside.into(), name.to_vec(), shown(path))),
                // Whatever is there, it is no directory; the caller finds out.
                Err(_) => {
                    let upper = path.parent().unwrap_or_default();
                    Ok((parent, last.to_vec(), shown(&upper)))
                }
            }
        };
        let (parent, name, folder) = open().map_err(|error| failed(&shown(path), error))?;
        Self::free(parent, &name, &folder)
    }

    fn free(parent: Arc<OwnedFd>, name: &[u8], folder: &str) -> Result<Self, SinkError> {
        let shown = format!("{}/{}", folder.trim_end_matches('/'), escape(name));
        match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Err(taken(&shown)),
            Err(Errno::NOENT) => Ok(Self { parent, name: name.to_vec(), shown }),
            Err(error) => Err(failed(&shown, error.into())),
        }
    }

    /// The place as people are shown it.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.shown
    }
}

/// A directory that becomes what its [`Spot`] is meant for, or holds it. It is removed with all it
/// holds when it is dropped before.
#[derive(Debug)]
pub struct Staging {
    spot: Spot,
    name: String,
    published: bool,
}

impl Staging {
    /// Makes the directory beside the spot, under a name that nothing else must have.
    ///
    /// Errors: `Target`.
    pub fn create(spot: Spot, name: &str) -> Result<Self, SinkError> {
        rustix::fs::mkdirat(&spot.parent, name, Bits::RWXU)
            .map_err(|error| failed(&spot.shown, error.into()))?;
        Ok(Self { spot, name: name.to_owned(), published: false })
    }

    /// Begins to fill it.
    ///
    /// Errors: those of [`Directory::create`].
    pub fn directory(
        &self,
        options: DirectoryOptions,
        observer: Arc<dyn Observer>,
    ) -> Result<Directory, SinkError> {
        let shown = self.spot.shown.clone();
        let root = open_in(self.spot.parent.as_fd(), self.name.as_bytes(), DIRECTORY)
            .map_err(|error| failed(&shown, error))?;
        let target = Target::of(Beneath::of_root(root), shown, options.special, observer);
        Directory::create_in(target, &format!("copy {}", self.name))
    }

    /// Gives the directory itself its final name.
    ///
    /// Errors: `Refused` if something has taken the name meanwhile; `Target`.
    pub fn publish(mut self) -> Result<(), SinkError> {
        let Spot { parent, name, shown } = &self.spot;
        rename_new(parent, self.name.as_bytes(), parent, name).map_err(|e| not_new(shown, e))?;
        self.published = true;
        self.sync()
    }

    /// Gives what it holds under `inner` its final name; the rest goes.
    ///
    /// Errors: as [`Staging::publish`].
    pub fn publish_only(self, inner: &[u8]) -> Result<(), SinkError> {
        let Spot { parent, name, shown } = &self.spot;
        let own = open_in(parent.as_fd(), self.name.as_bytes(), PLACE | OFlags::NOFOLLOW)
            .map_err(|error| failed(shown, error))?;
        rename_new(&own, inner, parent, name).map_err(|error| not_new(shown, error))?;
        self.sync()
    }

    fn sync(&self) -> Result<(), SinkError> {
        let flags = DIRECTORY | OFlags::CLOEXEC;
        let synced = match rustix::fs::openat(&self.spot.parent, c".", flags, Bits::empty()) {
            Ok(parent) => rustix::fs::fsync(&parent),
            // It may be written but not read: then there is nothing to be done.
            Err(Errno::ACCESS) => Ok(()),
            Err(error) => Err(error),
        };
        synced.map_err(|error| failed(&self.spot.shown, error.into()))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.published {
            // What cannot be removed has a name that says what it is.
            let _ = removal::remove(self.spot.parent.as_fd(), self.name.as_bytes());
        }
    }
}

fn rename_new(from: &OwnedFd, old: &[u8], to: &OwnedFd, new: &[u8]) -> Result<(), Errno> {
    match rustix::fs::renameat_with(from, old, to, new, RenameFlags::NOREPLACE) {
        // This file system cannot promise it in one step.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            match rustix::fs::statat(to, new, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => Err(Errno::EXIST),
                Err(Errno::NOENT) => rustix::fs::renameat(from, old, to, new),
                Err(error) => Err(error),
            }
        }
        done => done,
    }
}

fn not_new(shown: &str, error: Errno) -> SinkError {
    if error == Errno::EXIST { taken(shown) } else { failed(shown, error.into()) }
}

fn taken(shown: &str) -> SinkError {
    SinkError::Refused(format!("`{shown}` exists already"))
}

fn failed(shown: &str, source: io::Error) -> SinkError {
    SinkError::Target { target: format!("`{shown}`"), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::event::Recorder;
    use crate::sink::Sink;

    fn stage(spot: Spot) -> Staging {
        Staging::create(spot, ".staging").expect("made")
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).expect("listed");
        let mut names: Vec<_> =
            entries.map(|e| e.expect("listed").file_name().into_string().expect("text")).collect();
        names.sort();
        names
    }

    #[test]
    fn a_directory_that_is_there_holds_the_new_thing() {
        let dir = tempfile::tempdir().expect("a directory");
        let inside = Spot::of(dir.path(), b"new").expect("free");
        assert_eq!(inside.shown(), dir.path().join("new").display().to_string());
        let named = Spot::of(&dir.path().join("other"), b"new").expect("free");
        assert_eq!(named.shown(), dir.path().join("other").display().to_string());
    }

    #[test]
    fn what_is_there_is_refused_and_a_missing_parent_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("file"), "").expect("written");
        symlink("nowhere", dir.path().join("link")).expect("made");
        for name in ["file", "link"] {
            let error = Spot::of(&dir.path().join(name), b"new").expect_err("taken");
            assert!(matches!(error, SinkError::Refused(_)), "{error}");
            let path = EntryPath::root().child(name.as_bytes()).expect("a name");
            let error = Spot::beneath(dir.path(), &path, b"new").expect_err("taken");
            assert!(matches!(error, SinkError::Refused(_)), "{error}");
        }
        let error = Spot::of(&dir.path().join("no/such"), b"new").expect_err("missing");
        let kind = |e: &SinkError| match e {
            SinkError::Target { source, .. } => Some(source.kind()),
            _ => None,
        };
        assert_eq!(kind(&error), Some(io::ErrorKind::NotFound), "{error}");
    }

    #[test]
    fn no_link_leads_out_of_the_root() {
        let dir = tempfile::tempdir().expect("a directory");
        let outside = tempfile::tempdir().expect("a directory");
        symlink(outside.path(), dir.path().join("link")).expect("made");
        let path = EntryPath::from_slashed(b"link/new").expect("a path");
        assert!(Spot::beneath(dir.path(), &path, b"x").is_err());
        let path = EntryPath::from_slashed(b"link").expect("a path");
        let error = Spot::beneath(dir.path(), &path, b"x").expect_err("taken");
        assert!(matches!(error, SinkError::Refused(_)), "{error}");
    }

    #[test]
    fn dropped_it_leaves_nothing_and_published_it_replaces_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let target = dir.path().join("new");
        let fill = |staging: &Staging| {
            let observer = Arc::new(Recorder::default());
            let sink = staging.directory(DirectoryOptions::default(), observer).expect("begun");
            let path = EntryPath::from_slashed(b"inner").expect("a path");
            sink.make_directory(&path).expect("made");
        };
        let staging = stage(Spot::of(&target, b"").expect("free"));
        fill(&staging);
        drop(staging);
        assert_eq!(names(dir.path()), [""; 0]);
        let staging = stage(Spot::of(&target, b"").expect("free"));
        fill(&staging);
        std::fs::write(&target, "in the way").expect("written");
        assert!(matches!(staging.publish(), Err(SinkError::Refused(_))));
        assert_eq!(names(dir.path()), ["new"]);
        std::fs::remove_file(&target).expect("removed");
        let staging = stage(Spot::of(&target, b"").expect("free"));
        fill(&staging);
        staging.publish_only(b"inner").expect("published");
        assert_eq!(names(dir.path()), ["new"]);
        assert_eq!(names(&target), [""; 0]);
    }
}
