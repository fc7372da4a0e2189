//! Walks the part of a tree that is asked for.
//!
//! Directories that lead to what is asked for come along, each right before the first thing below
//! it. Where the first name of a file is not asked for but a further one is, that one takes its
//! place and its content. Of a part of the tree, its own root is the root of what comes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::entry::{Entry, EntryPath, Kind};
use crate::format::{Content, FormatError, Item, Stored};
use crate::ops::error::OpsError;
use crate::repo::{ChunkReader, RepoError, TreeWalk};
use crate::source::{Selection, Verdict};

/// Yields the selected entries of an item in order.
pub struct SelectedWalk {
    walk: TreeWalk,
    /// What is walked, and where it comes out.
    base: EntryPath,
    place: EntryPath,
    selection: Selection,
    leading: Vec<(EntryPath, Stored)>,
    ready: VecDeque<(EntryPath, Stored)>,
    first_names: FirstNames,
}

impl SelectedWalk {
    /// Starts at the root.
    #[must_use]
    pub fn new(reader: &Arc<ChunkReader>, item: &Item, selection: Selection) -> Self {
        Self {
            walk: TreeWalk::new(reader, item.root, item.root_level),
            base: EntryPath::root(),
            place: EntryPath::root(),
            first_names: FirstNames::new(reader, item, selection.clone()),
            selection,
            leading: Vec::new(),
            ready: VecDeque::new(),
        }
    }

    /// Starts at the directory `base`, which becomes the root of what comes.
    #[must_use]
    pub fn below(reader: &Arc<ChunkReader>, item: &Item, base: EntryPath) -> Self {
        let walk = TreeWalk::start_at(reader, item.root, item.root_level, base.clone());
        Self { walk, base, ..Self::new(reader, item, Selection::all()) }
    }

    /// Yields `base`, which is no directory, alone under the name `place`, after a root that is
    /// made up for it: `around`.
    #[must_use]
    pub fn alone(
        reader: &Arc<ChunkReader>,
        item: &Item,
        base: EntryPath,
        place: EntryPath,
        around: Entry,
    ) -> Self {
        let root =
            Stored { entry: Entry { kind: Kind::Directory, ..around }, content: Content::empty() };
        let ready = VecDeque::from([(EntryPath::root(), root)]);
        Self { place, ready, ..Self::below(reader, item, base) }
    }

    /// The next entry.
    ///
    /// Errors: those of reading the tree.
    pub fn next(&mut self) -> Result<Option<(EntryPath, Stored)>, OpsError> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                return Ok(Some(entry));
            }
            let Some((path, stored)) = self.walk.next()? else { return Ok(None) };
            let Some(path) = self.rebase(&path)? else { return Ok(None) };
            let stored = self.with_rebased_link(&path, stored)?;
            // The root is what everything else lies in, even if that is nothing.
            if self.selection.is_all() || path.is_root() {
                return Ok(Some((path, stored)));
            }
            self.leading.retain(|(directory, _)| directory.contains(&path));
            let directory = stored.entry.is_directory();
            match self.selection.verdict(&path, directory) {
                Verdict::Take => {
                    let stored = self.first_names.settle(&path, stored)?;
                    self.ready.extend(self.leading.drain(..));
                    self.ready.push_back((path, stored));
                }
                Verdict::Descend => self.leading.push((path, stored)),
                Verdict::Leave => {}
            }
        }
    }

    /// Where a path of the tree comes out; none if it lies outside of what is walked.
    fn rebase(&self, path: &EntryPath) -> Result<Option<EntryPath>, OpsError> {
        let Some(rest) = path.below(&self.base) else { return Ok(None) };
        let placed = self.place.join(&rest);
        Ok(Some(placed.map_err(|error| RepoError::from(FormatError::damaged("tree", error)))?))
    }

    /// A first name outside of what is walked counts as not asked for.
    fn with_rebased_link(
        &mut self,
        path: &EntryPath,
        mut stored: Stored,
    ) -> Result<Stored, OpsError> {
        let Some(first) = &stored.entry.link else { return Ok(stored) };
        match self.rebase(first)? {
            Some(first) => stored.entry.link = Some(first),
            None => return self.first_names.stand_in(path, first.clone(), stored),
        }
        Ok(stored)
    }
}

/// Finds names that take the place of first names which are not selected.
pub(super) struct FirstNames {
    reader: Arc<ChunkReader>,
    item: Item,
    selection: Selection,
    found: HashMap<EntryPath, EntryPath>,
}

impl FirstNames {
    pub(super) fn new(reader: &Arc<ChunkReader>, item: &Item, selection: Selection) -> Self {
        let (reader, item) = (reader.clone(), item.clone());
        Self { reader, item, selection, found: HashMap::new() }
    }

    /// The selected entry at `path`, as it is to be brought back. Asked again, it says the same.
    ///
    /// Errors: those of reading the tree.
    pub(super) fn settle(&mut self, path: &EntryPath, stored: Stored) -> Result<Stored, OpsError> {
        match stored.entry.link.clone() {
            Some(first) if self.selection.verdict(&first, false) != Verdict::Take => {
                self.stand_in(path, first, stored)
            }
            _ => Ok(stored),
        }
    }

    /// The first name, a path of the tree, does not come: the next one takes its place.
    fn stand_in(
        &mut self,
        path: &EntryPath,
        first: EntryPath,
        mut stored: Stored,
    ) -> Result<Stored, OpsError> {
        if let Some(other) = self.found.get(&first).filter(|other| *other != path) {
            stored.entry.link = Some(other.clone());
            return Ok(stored);
        }
        let found = TreeWalk::find(&self.reader, self.item.root, self.item.root_level, &first)?;
        let whole = found.filter(|found| found.entry.link.is_none()).ok_or_else(|| {
            let why = format!("`{path}` is a further name of `{first}`, which is not there");
            RepoError::from(FormatError::damaged("tree", why))
        })?;
        let _ = self.found.insert(first, path.clone());
        Ok(whole)
    }
}
