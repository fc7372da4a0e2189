//! Brings the entries of an unsorted source into tree order, in bounded memory.
//!
//! Stands between a tar stream and the tree builder. Entries are kept encoded; what does not fit
//! is spilled to sealed, nameless files and merged when read. What comes out is a sound tree:
//! paths ascend strictly, every parent is a directory that came before, and the first name of a
//! hard-linked file holds its content. What cannot be part of such a tree is left out and told.

mod links;
mod merge;
mod run;
mod spill;
#[cfg(test)]
mod tests;
mod walk;

use std::path::Path;

use self::links::{LinkMap, Links};
use self::merge::{Merge, Record};
use self::spill::Spill;
use self::walk::{Step, Thing, Walk, missing_parent};
use crate::clock::Time;
use crate::entry::{Entry, EntryPath, Kind};
use crate::event::{Observer, Warning};
use crate::format::{Content, Stored};
use crate::ops::OpsError;

/// What a record takes in memory beside its path and value, in bytes.
const RECORD_OVERHEAD: usize = 96;
/// Smallest and largest length of a block of a spill file, in bytes of plaintext.
const BLOCK_LEN: (usize, usize) = (256, 64 << 10);

/// Takes entries in any order.
///
/// When a path is pushed again, the last push counts. A hard link ([`Entry::link`]) means the entry
/// that stands at its target in the end, before or behind it in the stream or by way of further
/// links; what else the link's own entry says counts for nothing.
#[derive(Debug)]
pub(super) struct EntrySorter {
    memory_max: usize,
    memory: usize,
    pushed: u64,
    records: Vec<Record>,
    links: LinkMap,
    spill: Spill,
    value: Vec<u8>,
}

impl EntrySorter {
    /// Units: `memory_max` in bytes: so much is held of encoded entries, and so much of hard links;
    /// beside it stands a block of each spill file that is being read. `dir` is where these files
    /// are made, without a name, when entries do not fit.
    pub(super) fn new(memory_max: usize, dir: &Path) -> Self {
        Self::with_limits(memory_max, memory_max, dir)
    }

    fn with_limits(memory_max: usize, links_bytes_max: usize, dir: &Path) -> Self {
        // An eighth of the memory for the blocks of as many files as are usual.
        let block_len = (memory_max / 64).clamp(BLOCK_LEN.0, BLOCK_LEN.1);
        Self {
            memory_max,
            memory: 0,
            pushed: 0,
            records: Vec::new(),
            links: LinkMap::new(links_bytes_max),
            spill: Spill::new(dir, block_len),
            value: Vec::new(),
        }
    }

    /// Takes an entry, whose content must be final.
    ///
    /// Errors: [`OpsError::Io`] if spilling fails or there are more hard links than may be held.
    pub(super) fn push(&mut self, path: EntryPath, stored: Stored) -> Result<(), OpsError> {
        self.pushed += 1;
        if let Some(target) = stored.entry.link {
            return self.links.insert(path, target);
        }
        self.links.remove(&path);
        self.value.clear();
        stored.encode(&mut self.value);
        self.memory += path.as_key().len() + self.value.len() + RECORD_OVERHEAD;
        self.records.push(Record::new(path, self.pushed, self.value.clone()));
        if self.memory > self.memory_max {
            self.spill_records()?;
        }
        Ok(())
    }

    /// Ends the entries and looks through them once.
    ///
    /// All that is left out is told to `observer` here. Parents that never came are made up as
    /// directories of mode 0755 that belong to root, modified `now`; so is the root.
    ///
    /// Errors: as for [`EntrySorter::push`].
    pub(super) fn finish(
        mut self,
        observer: &dyn Observer,
        now: Time,
    ) -> Result<SortedEntries, OpsError> {
        if !self.spill.is_empty() {
            self.spill_records()?;
        }
        let records = merge::last_pushes(self.records);
        let merge = || Merge::new(&self.spill.runs(), &records);
        let mut links = self.links.resolve();
        let mut walk = Walk::new(merge()?);
        while let Some(step) = walk.next(&links)? {
            match step {
                Step::Kept(path, Thing::Entry { stored, len }) => {
                    links.meet_entry(&path, &stored, len)?;
                }
                Step::Kept(path, Thing::Link(link)) => links.meet_link(&path, link),
                Step::LeftOut(path, why) => {
                    observer.warn(Warning::skipped(path.to_slashed(), why));
                }
            }
        }
        for (path, why) in links.lost() {
            observer.warn(Warning::skipped(path.to_slashed(), why));
        }
        let walk = Walk::new(merge()?);
        Ok(SortedEntries { walk, links, now, waiting: None, last: None })
    }

    fn spill_records(&mut self) -> Result<(), OpsError> {
        let records = std::mem::take(&mut self.records);
        self.memory = 0;
        self.spill.add(records)
    }
}

/// Yields the entries in tree order.
#[derive(Debug)]
pub(super) struct SortedEntries {
    walk: Walk,
    links: Links,
    now: Time,
    /// What comes next once its parents did.
    waiting: Option<(EntryPath, Stored)>,
    last: Option<EntryPath>,
}

impl SortedEntries {
    /// The next entry, whose path is greater than that of the one before; none at the end.
    ///
    /// Errors: [`OpsError::Io`] if a spill file cannot be read or was altered; so does each later
    /// call then.
    pub(super) fn next(&mut self) -> Result<Option<(EntryPath, Stored)>, OpsError> {
        while self.waiting.is_none() {
            self.waiting = match self.walk.next(&self.links)? {
                Some(Step::Kept(path, thing)) => self.links.settle(path, thing),
                // Told by the first walk, which took the same steps.
                Some(Step::LeftOut(..)) => None,
                None if self.last.is_none() => Some((EntryPath::root(), self.made_up())),
                None => return Ok(None),
            };
        }
        let parent = self.waiting.as_ref().and_then(|(p, _)| missing_parent(p, self.last.as_ref()));
        let next = match parent {
            Some(parent) => Some((parent, self.made_up())),
            None => self.waiting.take(),
        };
        self.last = next.as_ref().map(|(path, _)| path.clone());
        Ok(next)
    }

    fn made_up(&self) -> Stored {
        let entry = Entry {
            kind: Kind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: self.now,
            xattrs: Vec::new(),
            link: None,
        };
        Stored { entry, content: Content::empty() }
    }
}
