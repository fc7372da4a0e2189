//! Makes a directory that is in use what a snapshot holds, writing only what differs.
//!
//! Two trees are compared: that of the present state, which was saved just before, and that of the
//! snapshot. What is to go goes first, then what is to come is made or patched, extent by extent;
//! metadata comes last, from the deepest directory up.

use std::collections::BTreeSet;

use super::extents::Extents;
use super::selected::FirstNames;
use super::window::Window;
use super::{RestoreReport, RestoreRun};
use crate::entry::{Entry, EntryPath, Extent, Kind};
use crate::event::{Counters, Warning};
use crate::format::{Content, FormatError, Item, Stored};
use crate::ops::error::OpsError;
use crate::repo::{ContentWalk, Difference, RepoError, TreeDiff, TreeWalk};
use crate::sink::{Holes, MARKER_NAME, Sink, SinkError};
use crate::source::Verdict;

/// What becomes of things that the snapshot does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    /// They go.
    Remove,
    /// They stay.
    Keep,
}

/// As [`super::restore_into_existing`], in a sink where a restore has begun.
///
/// Errors: [`OpsError`]; the sink's marker then stays, and says so.
pub fn restore_over(
    run: &RestoreRun<'_>,
    present: &Item,
    wanted: &Item,
    extra: Extra,
    sink: Box<dyn Sink>,
) -> Result<RestoreReport, OpsError> {
    let root = TreeWalk::find(run.reader, wanted.root, wanted.root_level, &EntryPath::root())?;
    let root =
        root.ok_or_else(|| RepoError::from(FormatError::damaged("tree", "it has no root")))?;
    let mut delta = Delta {
        run,
        present,
        wanted,
        window: Window::new(run.reader, &*sink, run.observer, run.interrupt),
        first_names: FirstNames::new(run.reader, wanted, run.selection.clone()),
        touched: BTreeSet::new(),
        made_anew: BTreeSet::new(),
        late: Vec::new(),
        report: RestoreReport::default(),
    };
    delta.remove(extra)?;
    delta.make()?;
    delta.link_anew()?;
    delta.finish_directories()?;
    let report = delta.report;
    run.observer.stage("syncing");
    sink.complete(&root.entry)?;
    Ok(report)
}

struct Delta<'a> {
    run: &'a RestoreRun<'a>,
    present: &'a Item,
    wanted: &'a Item,
    window: Window<'a>,
    first_names: FirstNames,
    /// Directories whose content or metadata changed: their times are to be set again.
    touched: BTreeSet<EntryPath>,
    /// What had further names and was made anew: those are to be made anew, too.
    made_anew: BTreeSet<EntryPath>,
    late: Vec<(EntryPath, Entry)>,
    report: RestoreReport,
}

impl Delta<'_> {
    fn differences(&self) -> TreeDiff {
        let reader = self.run.reader;
        TreeDiff::new(
            TreeWalk::new(reader, self.present.root, self.present.root_level),
            TreeWalk::new(reader, self.wanted.root, self.wanted.root_level),
        )
    }

    /// The marker of a restore that was cut short is none of what is compared.
    fn is_selected(&self, path: &EntryPath, directory: bool) -> bool {
        self.run.selection.verdict(path, directory) == Verdict::Take
            && path.as_key() != MARKER_NAME.as_bytes()
    }

    /// Whether a directory of the present state is selected with all that is below it.
    fn is_selected_whole(&self, directory: &EntryPath) -> Result<bool, OpsError> {
        if self.run.selection.is_all() {
            return Ok(true);
        }
        let (root, level) = (self.present.root, self.present.root_level);
        let mut walk = TreeWalk::start_at(self.run.reader, root, level, directory.clone());
        while let Some((path, stored)) = walk.next()? {
            if !directory.contains(&path) {
                break;
            }
            if !self.is_selected(&path, stored.entry.is_directory()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes what the snapshot does not have, and what it has as something else.
    fn remove(&mut self, extra: Extra) -> Result<(), OpsError> {
        let mut differences = self.differences();
        let mut gone: Option<EntryPath> = None;
        while let Some(difference) = differences.next()? {
            self.run.interrupt.check()?;
            let (path, old, new) = match difference {
                Difference::Removed(path, old) => (path, old, None),
                Difference::Changed(path, old, new) => (path, old, Some(new)),
                Difference::Added(..) => continue,
            };
            let directory = old.entry.is_directory();
            if gone.as_ref().is_some_and(|gone| gone.contains(&path))
                || !self.is_selected(&path, directory)
            {
                continue;
            }
            let goes = match new {
                Some(new) => !is_patched(&old, &self.first_names.settle(&path, new)?),
                None if extra == Extra::Keep => false,
                // Below a directory that goes, a selection may keep something.
                None => !directory || self.is_selected_whole(&path)?,
            };
            if !goes {
                continue;
            }
            let removed = self.window.sink.remove(&path);
            if self.run.settle(&path, removed)? {
                self.touch_parent(&path);
                gone = Some(path);
            }
        }
        Ok(())
    }

    /// Makes what is missing and patches what differs.
    fn make(&mut self) -> Result<(), OpsError> {
        let mut differences = self.differences();
        while let Some(difference) = differences.next()? {
            self.run.interrupt.check()?;
            let (path, old, new) = match difference {
                Difference::Removed(..) => continue,
                Difference::Added(path, new) => (path, None, new),
                Difference::Changed(path, old, new) => (path, Some(old), new),
            };
            if !self.is_selected(&path, new.entry.is_directory()) {
                continue;
            }
            let new = self.first_names.settle(&path, new)?;
            self.report.entries += 1;
            match old.filter(|old| is_patched(old, &new)) {
                Some(old) => self.change(path, &old, new)?,
                None => self.add(path, new)?,
            }
            if self.window.is_full() || self.late.len() >= 1 << 14 {
                self.flush()?;
            }
        }
        self.flush()
    }

    fn add(&mut self, path: EntryPath, new: Stored) -> Result<(), OpsError> {
        self.make_leading(&path)?;
        self.touch_parent(&path);
        match &new.entry.kind {
            Kind::Directory => {
                let made = self.window.sink.make_directory(&path);
                if self.run.settle(&path, made)? {
                    let _ = self.touched.insert(path);
                }
                Ok(())
            }
            Kind::File { .. } if new.entry.link.is_none() => {
                self.report.bytes += new.entry.content_len();
                self.fill(path, None, new)
            }
            _ => {
                self.late.push((path, new.entry));
                Ok(())
            }
        }
    }

    /// A selection may name something whose directories are gone: they come back with it.
    fn make_leading(&mut self, path: &EntryPath) -> Result<(), OpsError> {
        if self.run.selection.is_all() {
            return Ok(());
        }
        let mut missing = Vec::new();
        let mut above = path.parent();
        while let Some(directory) = above.filter(|directory| !directory.is_root()) {
            let (item, reader) = (self.present, self.run.reader);
            let there = TreeWalk::find(reader, item.root, item.root_level, &directory)?;
            if there.is_some() || self.touched.contains(&directory) {
                break;
            }
            above = directory.parent();
            missing.push(directory);
        }
        for directory in missing.into_iter().rev() {
            let made = self.window.sink.make_directory(&directory);
            if self.run.settle(&directory, made)? {
                let _ = self.touched.insert(directory);
            }
        }
        Ok(())
    }

    fn change(&mut self, path: EntryPath, old: &Stored, new: Stored) -> Result<(), OpsError> {
        if new.entry.is_directory() {
            let _ = self.touched.insert(path);
            return Ok(());
        }
        if new.entry.link.is_some() {
            // What differs is set under its first name; if that is made anew, this one is, too.
            return Ok(());
        }
        let links = match self.window.sink.links(&path) {
            Ok(links) => links,
            Err(error) => return self.run.settle(&path, Err(error)).map(drop),
        };
        // Nothing is taken away before it is known that there is something to put in its place.
        if let Err(error) = self.run.resolves(&new.content) {
            return self.lose(&path, error);
        }
        // A name outside the target, or one that stays as extra, may share it: that must not
        // change.
        if links > 1 || sparse(old) != sparse(&new) {
            return self.replace(path, new);
        }
        if !matches!(new.entry.kind, Kind::File { .. }) || old.content == new.content {
            let set = self.window.sink.set_metadata(&path, &new.entry);
            return self.run.settle(&path, set).map(drop);
        }
        let open = match self.window.sink.open_file(&path, Holes::of(sparse(&new))) {
            Ok(open) => open,
            Err(error) => return self.run.settle(&path, Err(error)).map(drop),
        };
        if open.links() > 1 || !self.run.settle(&path, open.truncate(new.entry.content_len()))? {
            return self.replace(path, new);
        }
        self.report.bytes += new.entry.content_len();
        let content = old.content.clone();
        self.fill(path, Some(&content), new)
    }

    /// A file whose content is damaged in the repository stays as it is.
    fn lose(&mut self, path: &EntryPath, error: OpsError) -> Result<(), OpsError> {
        match error {
            OpsError::Repo(error) if error.is_damage() => {
                let message = format!("stays as it is, for its content is damaged: {error}");
                self.run.observer.warn(Warning::skipped(path.to_slashed(), message));
                self.window.damaged += 1;
                Ok(())
            }
            error => Err(error),
        }
    }

    /// Removes what is there and makes it anew.
    fn replace(&mut self, path: EntryPath, new: Stored) -> Result<(), OpsError> {
        let removed = self.window.sink.remove(&path);
        if !self.run.settle(&path, removed)? {
            return Ok(());
        }
        let _ = self.made_anew.insert(path.clone());
        self.add(path, new)
    }

    /// Writes a file: all of it, or what differs from the content it has.
    fn fill(
        &mut self,
        path: EntryPath,
        before: Option<&Content>,
        new: Stored,
    ) -> Result<(), OpsError> {
        let holes = Holes::of(sparse(&new));
        self.window.add_file(path, new.entry, before.is_some());
        let mut there = Extents::new(self.run, before);
        let mut extents = ContentWalk::new(self.run.reader, &new.content);
        let mut offset = 0;
        let mut step = || -> Result<bool, OpsError> {
            let Some(extent) = extents.next()? else { return Ok(false) };
            if !there.has(offset, &extent)? {
                match extent {
                    Extent::Chunk(id, len) => {
                        let place = self.run.place_of(&id, len)?;
                        self.window.add_chunk(id, place, offset)?;
                    }
                    Extent::Zeros(len) => {
                        self.window.write_zeros(offset, len, holes, before.is_some())?;
                    }
                }
            }
            Counters::add(&self.run.observer.counters().bytes, extent.len());
            offset += extent.len();
            Ok(true)
        };
        loop {
            match step() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    self.window.lose_last_file(error)?;
                    break;
                }
            }
        }
        self.window.end_file()
    }

    fn flush(&mut self) -> Result<(), OpsError> {
        self.window.flush()?;
        self.report.damaged = self.window.damaged;
        for (path, entry) in std::mem::take(&mut self.late) {
            let made = match &entry.link {
                Some(first) => self.window.sink.link(&path, first, &entry.kind),
                None => self.window.sink.make_other(&path, &entry),
            };
            let _ = self.run.settle(&path, made)?;
            Counters::add(&self.run.observer.counters().entries, 1);
        }
        Ok(())
    }

    /// Gives files that were made anew their further names back.
    fn link_anew(&mut self) -> Result<(), OpsError> {
        if self.made_anew.is_empty() {
            return Ok(());
        }
        let mut walk = TreeWalk::new(self.run.reader, self.wanted.root, self.wanted.root_level);
        while let Some((path, stored)) = walk.next()? {
            let Some(first) = stored.entry.link.filter(|first| self.made_anew.contains(first))
            else {
                continue;
            };
            if !self.is_selected(&path, false) {
                continue;
            }
            let removed = self.window.sink.remove(&path);
            let linked = match removed {
                Err(SinkError::Entry { source, .. })
                    if source.kind() != std::io::ErrorKind::NotFound =>
                {
                    Err(SinkError::Entry { path: path.to_slashed(), source })
                }
                Err(error @ SinkError::Target { .. }) => Err(error),
                _ => self.window.sink.link(&path, &first, &stored.entry.kind),
            };
            let _ = self.run.settle(&path, linked)?;
            self.touch_parent(&path);
        }
        Ok(())
    }

    /// Sets the metadata of directories that changed, the deepest first.
    fn finish_directories(&mut self) -> Result<(), OpsError> {
        for path in std::mem::take(&mut self.touched).into_iter().rev() {
            let (item, reader) = (self.wanted, self.run.reader);
            let Some(stored) = TreeWalk::find(reader, item.root, item.root_level, &path)? else {
                continue;
            };
            if !path.is_root() && stored.entry.is_directory() {
                let set = self.window.sink.set_metadata(&path, &stored.entry);
                let _ = self.run.settle(&path, set)?;
            }
        }
        Ok(())
    }

    fn touch_parent(&mut self, path: &EntryPath) {
        self.touched.extend(path.parent());
    }
}

fn sparse(stored: &Stored) -> bool {
    matches!(stored.entry.kind, Kind::File { sparse: true, .. })
}

/// Whether one can become the other in its place: a directory, or a file with the same names.
fn is_patched(old: &Stored, new: &Stored) -> bool {
    match (&old.entry.kind, &new.entry.kind) {
        (Kind::Directory, Kind::Directory) => true,
        (Kind::File { .. }, Kind::File { .. }) => old.entry.link == new.entry.link,
        (old_kind, new_kind) => old_kind == new_kind && old.entry.link == new.entry.link,
    }
}
