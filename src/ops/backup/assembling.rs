//! The last stage before the chunk writer: stores chunks and builds the tree, in order.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

use super::Saved;
use super::batch::{Batch, Event, Named};
use super::previous::Earlier;
use super::sorter::EntrySorter;
use crate::clock::Time;
use crate::entry::{Entry, EntryPath, Extent, Hint, Kind};
use crate::event::{Observer, Warning};
use crate::format::{BackupFacts, Content, PackKind, Stored};
use crate::ops::error::OpsError;
use crate::repo::{ChunkWriter, ContentBuilder, RepoError, TreeBuilder};
use crate::source::Order;

/// Entries of an unsorted source that are kept in memory while they are sorted, in bytes.
const SORT_MEMORY: usize = 32 << 20;

/// Builds the tree of one item.
pub(super) struct Assembler {
    writer: ChunkWriter,
    tree: Target,
    content: ContentBuilder,
    lost: HashSet<EntryPath>,
    facts: BackupFacts,
    observer: Arc<dyn Observer>,
    now: Time,
}

/// Where entries go: straight into the tree, or into its order first.
enum Target {
    Tree(TreeBuilder),
    Sorter(EntrySorter),
}

impl Assembler {
    pub(super) fn new(
        writer: ChunkWriter,
        order: Order,
        observer: Arc<dyn Observer>,
        spill: &Path,
        now: Time,
    ) -> Self {
        let tree = match order {
            Order::Sorted => Target::Tree(TreeBuilder::default()),
            Order::Unsorted => Target::Sorter(EntrySorter::new(SORT_MEMORY, spill)),
        };
        Self {
            writer,
            tree,
            content: ContentBuilder::default(),
            lost: HashSet::new(),
            facts: BackupFacts::default(),
            observer,
            now,
        }
    }

    /// Takes batches until reading ends, then finishes the tree and waits for the store.
    pub(super) fn run(
        mut self,
        batches: &Receiver<Named<Earlier>>,
        spent: &Sender<Vec<u8>>,
    ) -> Result<Saved, OpsError> {
        for named in batches {
            let Batch { buffer, events, .. } = named.recv().map_err(|_| RepoError::Worker)?;
            for event in events {
                self.take(event, &buffer)?;
            }
            // Reading may have ended already.
            let _ = spent.try_send(buffer);
        }
        self.finish()
    }

    fn take(&mut self, event: Event<Earlier>, buffer: &[u8]) -> Result<(), OpsError> {
        match event {
            Event::Chunk { range, id } => {
                let id = id.ok_or(RepoError::Worker)?;
                let len = u32::try_from(range.len()).map_err(|_| RepoError::Worker)?;
                let _ = self.writer.store(PackKind::Data, id, &buffer[range])?;
                self.content.push(&mut self.writer, Extent::Chunk(id, len))?;
            }
            Event::Claimed { id, len, new } => {
                if let Some(range) = new {
                    self.writer.store_claimed(PackKind::Data, id, &buffer[range])?;
                }
                self.content.push(&mut self.writer, Extent::Chunk(id, len))?;
            }
            Event::Zeros(len) => self.content.push(&mut self.writer, Extent::Zeros(len))?,
            Event::Lost { path } => {
                self.content = ContentBuilder::default();
                let _ = self.lost.insert(path);
            }
            Event::End { path, mut entry, hint, is_new } => {
                let content = std::mem::take(&mut self.content);
                set_size(&mut entry, content.len());
                let content = content.finish(&mut self.writer)?;
                match is_new {
                    true => self.facts.entries_new += 1,
                    false => self.facts.entries_changed += 1,
                }
                self.add(path, Stored { entry, content }, hint)?;
            }
            Event::Kept { path, entry, hint, before } => {
                let stored = Stored { entry, content: before.stored.content.clone() };
                self.compare(Some(&before), &stored);
                self.add(path, stored, hint)?;
            }
            Event::Plain { path, entry, hint, before } => {
                if let Some(first) = &entry.link
                    && self.lost.contains(first)
                {
                    let message = "its content could not be read under its other name";
                    self.observer.warn(Warning::skipped(path.to_slashed(), message));
                    return Ok(());
                }
                let stored = Stored { entry, content: Content::empty() };
                self.compare(before.as_ref(), &stored);
                self.add(path, stored, hint)?;
            }
        }
        Ok(())
    }

    fn compare(&mut self, before: Option<&Earlier>, now: &Stored) {
        match before {
            None => self.facts.entries_new += 1,
            Some(before) if before.stored == *now => self.facts.entries_unchanged += 1,
            Some(_) => self.facts.entries_changed += 1,
        }
    }

    fn add(&mut self, path: EntryPath, stored: Stored, hint: Option<Hint>) -> Result<(), OpsError> {
        match &mut self.tree {
            Target::Tree(tree) => {
                let Some(stored) = within_limits(&path, stored, &*self.observer) else {
                    return Ok(());
                };
                Ok(tree.push(&mut self.writer, path, &stored, hint)?)
            }
            Target::Sorter(sorter) => sorter.push(path, stored),
        }
    }

    fn finish(mut self) -> Result<Saved, OpsError> {
        let tree = match self.tree {
            Target::Tree(tree) => tree,
            Target::Sorter(sorter) => {
                let mut tree = TreeBuilder::default();
                let mut sorted = sorter.finish(&*self.observer, self.now)?;
                while let Some((path, stored)) = sorted.next()? {
                    tree.push(&mut self.writer, path, &stored, None)?;
                }
                tree
            }
        };
        let root = tree.finish(&mut self.writer)?;
        let report = self.writer.finish()?;
        self.facts.entries = root.entries;
        self.facts.bytes = root.bytes;
        self.facts.bytes_new = report.new_bytes;
        self.facts.bytes_stored = report.stored_bytes;
        let (stored, packs) = (report.stored_bytes, report.packs);
        Ok(Saved { root, facts: self.facts, stored, packs })
    }
}

/// The entry as readers will take it, without its attributes if they are too large; none if it is
/// too large even then.
pub(in crate::ops) fn within_limits(
    path: &EntryPath,
    mut stored: Stored,
    observer: &dyn Observer,
) -> Option<Stored> {
    let Err(error) = stored.check_limits() else { return Some(stored) };
    observer.warn(Warning::skipped(path.to_slashed(), error.to_string()));
    stored.entry.xattrs.clear();
    stored.check_limits().is_ok().then_some(stored)
}

/// The size of a file is what was read of it.
fn set_size(entry: &mut Entry, len: u64) {
    if let Kind::File { size, .. } = &mut entry.kind {
        *size = len;
    }
}
