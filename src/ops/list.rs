//! What a snapshot holds at a path: one entry, the names in a directory, or all below it.

use std::sync::Arc;

use super::error::OpsError;
use crate::entry::EntryPath;
use crate::format::{FormatError, Item, Stored};
use crate::repo::{ChunkReader, RepoError, TreeWalk};

/// Most names that [`Missing`] gives.
const NAMES_MAX: usize = 10_000;

/// How far down a listing goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// What the directory itself holds.
    Children,
    /// All below it.
    All,
}

/// Yields what lies below a directory of an item, in order of path.
#[derive(Debug)]
pub struct Listing {
    walk: TreeWalk,
    base: EntryPath,
    depth: Depth,
    last: Option<EntryPath>,
}

impl Listing {
    /// Starts at the first entry below `base`.
    #[must_use]
    pub fn new(reader: &Arc<ChunkReader>, item: &Item, base: &EntryPath, depth: Depth) -> Self {
        let walk = TreeWalk::start_at(reader, item.root, item.root_level, base.clone());
        Self { walk, base: base.clone(), depth, last: None }
    }

    /// The next entry. Subtrees that are not asked for are not read.
    ///
    /// Errors: those of [`TreeWalk::next`].
    pub fn next(&mut self) -> Result<Option<(EntryPath, Stored)>, OpsError> {
        if let (Some(last), Depth::Children) = (self.last.take(), self.depth) {
            self.walk.skip_below(&last);
        }
        let mut next = self.walk.next()?;
        if next.as_ref().is_some_and(|(path, _)| *path == self.base) {
            next = self.walk.next()?;
        }
        let next = next.filter(|(path, _)| self.base.contains(path));
        self.last = next.as_ref().map(|(path, _)| path.clone());
        Ok(next)
    }
}

/// What a look for a path found.
#[derive(Debug)]
pub enum Lookup {
    /// The entry.
    Found(Stored),
    /// Nothing of that path.
    Missing(Missing),
}

/// What there is instead of an entry that was looked for.
#[derive(Debug)]
pub struct Missing {
    /// The longest part of its path that is there.
    pub at: EntryPath,
    /// What is there.
    pub stored: Stored,
    /// The names in it, the first 10,000 of them; none if it is no directory.
    pub names: Vec<Vec<u8>>,
}

/// Looks for `path` in an item. No link on the way is followed.
///
/// Errors: those of reading the tree.
pub fn look_up(
    reader: &Arc<ChunkReader>,
    item: &Item,
    path: &EntryPath,
) -> Result<Lookup, OpsError> {
    let find = |path: &EntryPath| TreeWalk::find(reader, item.root, item.root_level, path);
    if let Some(stored) = find(path)? {
        return Ok(Lookup::Found(stored));
    }
    let mut at = path.clone();
    while let Some(parent) = at.parent() {
        at = parent;
        if let Some(stored) = find(&at)? {
            let names = match stored.entry.is_directory() {
                true => names(reader, item, &at)?,
                false => Vec::new(),
            };
            return Ok(Lookup::Missing(Missing { at, stored, names }));
        }
    }
    Err(RepoError::from(FormatError::damaged("tree", "it has no root")).into())
}

fn names(
    reader: &Arc<ChunkReader>,
    item: &Item,
    directory: &EntryPath,
) -> Result<Vec<Vec<u8>>, OpsError> {
    let mut listing = Listing::new(reader, item, directory, Depth::Children);
    let mut names = Vec::new();
    while names.len() < NAMES_MAX
        && let Some((path, _)) = listing.next()?
    {
        names.extend(path.name().map(<[u8]>::to_vec));
    }
    Ok(names)
}

/// What holds the content of a file: `stored` itself or, where it is a further name of another,
/// what stands under the first.
///
/// Errors: [`RepoError::Format`] if that is not there.
pub fn first_name(
    reader: &Arc<ChunkReader>,
    item: &Item,
    stored: Stored,
) -> Result<Stored, OpsError> {
    let Some(first) = &stored.entry.link else { return Ok(stored) };
    let found = TreeWalk::find(reader, item.root, item.root_level, first)?;
    found.filter(|found| found.entry.link.is_none()).ok_or_else(|| {
        let why = format!("the first name of a file, `{first}`, is not there");
        RepoError::from(FormatError::damaged("tree", why)).into()
    })
}
