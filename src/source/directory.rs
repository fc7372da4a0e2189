//! A directory of this machine as a source: `dir:` sources, and volumes whose files can be reached.
//!
//! Floor 5. Yields entries in strict key order, crosses no mount point, opens nothing but
//! directories and regular files, and never follows a symbolic link. What changes while it is read
//! costs a warning, not the backup.

use std::collections::VecDeque;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FileType, readlinkat};
use rustix::io::Errno;

use super::content::{Content, lost};
use super::links::Links;
use super::select::{Selection, Verdict};
use super::stat::Stat;
use super::walk::{Lost, Walk};
use super::xattr::{Attributes, Support, XattrReader};
use super::{Found, Order, ReadError, Run, Source, SourceError};
use crate::clock::Clock;
use crate::entry::{Entry, EntryPath, Hint, Kind, Xattr};
use crate::event::{Observer, Warning};

/// How a directory is read.
#[derive(Debug, Clone)]
pub struct DirectoryOptions {
    /// Tells which files are too young for a hint.
    pub clock: Clock,
    /// Which entries are meant; the root always is.
    pub selection: Selection,
}

/// The entry yielded last, if it has content.
#[derive(Debug)]
struct Current {
    found: Found,
    stat: Stat,
    content: State,
}

#[derive(Debug)]
enum State {
    Unopened,
    Open(Content),
    Lost,
}

/// Walks a directory. Object paths in warnings are relative to it, with slashes; the root is `.`.
pub struct Directory {
    options: DirectoryOptions,
    observer: Arc<dyn Observer>,
    walk: Walk,
    /// Path of the directory the walk is in.
    path: EntryPath,
    /// Found and to be yielded before the walk goes on.
    queue: VecDeque<Found>,
    /// The directory last found, to be entered next, with itself if it is yet to be yielded.
    enter: Option<(Stat, EntryPath, Option<Found>)>,
    /// Of the regular file last in the queue.
    candidate: Option<Stat>,
    current: Option<Current>,
    links: Links,
    xattrs: XattrReader,
}

impl Directory {
    /// Opens the directory at `path`, which may itself be a symbolic link to one.
    ///
    /// Errors: [`SourceError::Root`] if it is no directory or cannot be read.
    pub fn open(
        path: &Path,
        options: DirectoryOptions,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, SourceError> {
        let failed = |error: Errno| SourceError::Root {
            path: path.as_os_str().as_bytes().to_vec(),
            source: error.into(),
        };
        let walk = Walk::open(path).map_err(failed)?;
        let mut source = Self {
            options,
            observer,
            walk,
            path: EntryPath::root(),
            queue: VecDeque::new(),
            enter: None,
            candidate: None,
            current: None,
            links: Links::default(),
            xattrs: XattrReader::new(),
        };
        source.find_root().map_err(failed)?;
        Ok(source)
    }

    fn find_root(&mut self) -> Result<(), Errno> {
        let fd = self.walk.root_fd().ok_or(Errno::BADF)?;
        let found = if Path::new("/proc/self/fd").is_dir() {
            self.xattrs.of(fd, Support::OfAll)?
        } else {
            self.xattrs.give_up("extended attributes are left out, as /proc is not mounted")
        };
        let path = EntryPath::root();
        let stat = self.walk.root().clone();
        self.report_guards(&path, &stat);
        let xattrs = self.report(&path, found);
        let entry = stat.entry(Vec::new(), xattrs).ok_or(Errno::NOTDIR)?;
        let hint = stat.hint(self.options.clock.now());
        self.queue.push_back(Found { path, entry, hint });
        Ok(())
    }

    /// Enters the directory found last. If that fails, it stays without contents.
    fn enter(&mut self, stat: &Stat, path: EntryPath, pending: Option<Found>) {
        match self.walk.enter(stat, pending) {
            Ok(outcome) => {
                self.path = path;
                if let Err(error) = outcome {
                    self.lose_contents(error.into());
                }
            }
            Err(error) => {
                let directory = std::mem::replace(&mut self.path, path);
                self.lose_contents(error);
                self.path = directory;
            }
        }
    }

    fn lose_contents(&self, why: Lost) {
        let message = match why {
            Lost::Replaced => "the directory vanished or was replaced while it was read".to_owned(),
            Lost::System(error) => format!("the directory cannot be read: {error}"),
        };
        self.warn_skipped(&self.path, message);
    }

    /// Looks at the name the walk is at, and queues it if it is meant.
    fn visit(&mut self) {
        if let Err(error) = self.walk.reopen() {
            // The other names in it will fail the same way.
            self.lose_contents(error);
            let _ = self.go_up();
            return;
        }
        let Ok((dir, name)) = self.walk.place() else { return };
        let path = match self.path.child(name.to_bytes()) {
            Ok(path) => path,
            Err(error) => return self.warn_skipped(&self.path, error.to_string()),
        };
        let stat = match Stat::at(dir, name) {
            Ok(stat) => stat,
            Err(error) => return self.lose(&path, error),
        };
        let verdict = self.options.selection.verdict(&path, stat.is_directory());
        if verdict == Verdict::Leave {
            return;
        }
        let is_mount = stat.is_mounted_over(self.walk.root());
        if is_mount && !stat.is_directory() {
            return self.warn_skipped(&path, "is a mount point and was not read");
        }
        let found = match self.describe(&path, &stat, is_mount) {
            Ok(Some(entry)) => {
                let hint = stat.hint(self.options.clock.now());
                Found { path, entry, hint }
            }
            Ok(None) => return self.warn_skipped(&path, "is of an unknown type"),
            Err(error) => return self.lose(&path, error),
        };
        self.queue_up(found, stat, verdict, is_mount);
    }

    fn queue_up(&mut self, mut found: Found, stat: Stat, verdict: Verdict, is_mount: bool) {
        if is_mount {
            let message = "is a mount point and was not entered";
            self.observer.warn(Warning::notice(found.path.to_slashed(), message));
        }
        if verdict == Verdict::Descend {
            if !is_mount {
                self.enter = Some((stat, found.path.clone(), Some(found)));
            }
            return;
        }
        self.report_guards(&found.path, &stat);
        found.entry.link = self.links.claim(&stat, &found.path);
        if stat.is_directory() && !is_mount {
            self.enter = Some((stat, found.path.clone(), None));
        } else if stat.is_file() && found.entry.link.is_none() {
            self.candidate = Some(stat);
        }
        self.queue.extend(self.walk.take_pending());
        self.queue.push_back(found);
    }

    fn describe(
        &mut self,
        path: &EntryPath,
        stat: &Stat,
        is_mount: bool,
    ) -> Result<Option<Entry>, Errno> {
        let (dir, name) = self.walk.place().map_err(|_| Errno::NOENT)?;
        let target = match stat.file_type() {
            FileType::Symlink => readlinkat(dir, name, Vec::new())?.into_bytes(),
            _ => Vec::new(),
        };
        let support = match stat.file_type() {
            FileType::RegularFile | FileType::Directory if !is_mount => Support::OfAll,
            _ => Support::Unknown,
        };
        let attributes = self.xattrs.at(dir, name, support)?;
        let xattrs = self.report(path, attributes);
        Ok(stat.entry(target, xattrs))
    }

    /// Warns of what could not be read of the attributes, and gives the rest.
    fn report(&self, path: &EntryPath, found: Attributes) -> Vec<Xattr> {
        for message in found.lost {
            self.warn_skipped(path, message);
        }
        if let Some(name) = found.foreign {
            let message = format!("extended attributes such as `{name}` are never saved");
            self.observer.warn(Warning::notice(shown(path), message));
        }
        found.xattrs
    }

    fn report_guards(&self, path: &EntryPath, stat: &Stat) {
        for flag in stat.guards() {
            let message = format!("its {flag} flag is not kept");
            self.observer.warn(Warning::notice(shown(path), message));
        }
    }

    fn go_up(&mut self) -> bool {
        let has_parent = self.walk.leave();
        if let Some(parent) = self.path.parent() {
            self.path = parent;
        }
        has_parent
    }

    fn lose(&self, path: &EntryPath, error: Errno) {
        match error {
            Errno::NOENT => self.warn_skipped(path, "vanished while it was read"),
            error => self.warn_skipped(path, format!("cannot be read: {error}")),
        }
    }

    fn warn_skipped(&self, path: &EntryPath, message: impl Into<String>) {
        self.observer.warn(Warning::skipped(shown(path), message));
    }

    fn read_current(&mut self, buffer: &mut [u8]) -> Result<Run, ReadError> {
        let current = self.current.as_mut().ok_or_else(no_content)?;
        if current.stat.size == 0 {
            return Ok(Run::End);
        }
        if matches!(current.content, State::Unopened) {
            let (dir, name) = self.walk.place().map_err(|_| no_content())?;
            let now = self.options.clock.now();
            current.content = State::Open(Content::open(dir, name, &current.stat, now)?);
        }
        match &mut current.content {
            State::Open(content) => content.read(buffer),
            _ => Err(lost("could not be read before", None)),
        }
    }

    fn finish_current(&mut self) -> Result<(Entry, Option<Hint>), ReadError> {
        let current = self.current.as_ref().ok_or_else(no_content)?;
        let path = &current.found.path;
        let content = match &current.content {
            State::Open(content) => content,
            State::Unopened if current.stat.size == 0 => {
                return Ok((current.found.entry.clone(), current.found.hint));
            }
            _ => return Err(lost("was not read", None)),
        };
        let failed = |error| lost("cannot be examined", Some(error));
        let mut entry = if current.stat.is_unchanged(&content.opened) {
            current.found.entry.clone()
        } else {
            // It changed between being found and being opened: say what was read.
            let attributes = self.xattrs.of(content.fd(), Support::OfAll).map_err(failed)?;
            let xattrs = self.report(path, attributes);
            content.opened.entry(Vec::new(), xattrs).ok_or_else(no_content)?
        };
        if let Kind::File { size, .. } = &mut entry.kind {
            *size = content.position();
        }
        let after = Stat::of(content.fd()).map_err(failed)?;
        if !content.opened.is_unchanged(&after) || content.position() != content.opened.size {
            self.warn_skipped(path, "changed while it was read");
            return Ok((entry, None));
        }
        Ok((entry, content.opened.hint(content.opened_at)))
    }

    /// After a failure the file counts as not saved, so no further name may link to it.
    fn settle<T>(&mut self, outcome: Result<T, ReadError>) -> Result<T, ReadError> {
        if let (Err(_), Some(current)) = (&outcome, &mut self.current) {
            current.content = State::Lost;
            self.links.lose(&current.stat);
        }
        outcome
    }
}

impl Source for Directory {
    fn order(&self) -> Order {
        Order::Sorted
    }

    fn next(&mut self) -> Result<Option<Found>, SourceError> {
        self.current = None;
        while self.queue.is_empty() {
            if let Some((stat, path, pending)) = self.enter.take() {
                self.enter(&stat, path, pending);
            }
            if self.walk.advance() {
                self.visit();
            } else if !self.go_up() {
                return Ok(None);
            }
        }
        let found = self.queue.pop_front();
        if let (Some(found), true) = (&found, self.queue.is_empty()) {
            self.current = self.candidate.take().map(|stat| Current {
                found: found.clone(),
                stat,
                content: State::Unopened,
            });
        }
        Ok(found)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<Run, ReadError> {
        let outcome = self.read_current(buffer);
        self.settle(outcome)
    }

    fn finish(&mut self) -> Result<(Entry, Option<Hint>), ReadError> {
        let outcome = self.finish_current();
        self.settle(outcome)
    }
}

fn no_content() -> ReadError {
    lost("has no content of its own", None)
}

fn shown(path: &EntryPath) -> Vec<u8> {
    if path.is_root() { b".".to_vec() } else { path.to_slashed() }
}

#[cfg(test)]
mod tests;
