//! The last stage before the chunk writer: stores chunks and builds the tree, in order.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

use super::Saved;
use super::batch::{Batch, Change, Event, Named};
use super::sorter::EntrySorter;
use crate::clock::Time;
use crate::entry::{Entry, EntryPath, Extent, Hint, Kind};
use crate::event::{Observer, Warning};
use crate::format::{BackupFacts, PackKind, Stored};
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
        batches: &Receiver<Named>,
        spent: &Sender<Vec<u8>>,
    ) -> Result<Saved, OpsError> {
        for named in batches {
            let Batch { buffer, events } = named.recv().map_err(|_| RepoError::Worker)?;
            for event in events {
                self.take(event, &buffer)?;
            }
            // Reading may have ended already.
            let _ = spent.try_send(buffer);
        }
        self.finish()
    }

    fn take(&mut self, event: Event, buffer: &[u8]) -> Result<(), OpsError> {
        match event {
            Event::Chunk { range, id } => {
                let id = id.ok_or(RepoError::Worker)?;
                let len = u32::try_from(range.len()).map_err(|_| RepoError::Worker)?;
                let _ = self.writer.store(PackKind::Data, id, &buffer[range])?;
                self.content.push(&mut self.writer, Extent::Chunk(id, len))?;
            }
            Event::Zeros(len) => self.content.push(&mut self.writer, Extent::Zeros(len))?,
            Event::Lost { path } => {
                self.content = ContentBuilder::default();
                let _ = self.lost.insert(path);
            }
            Event::End { path, mut entry, hint, change } => {
                let content = std::mem::take(&mut self.content);
                set_size(&mut entry, content.len());
                let content = content.finish(&mut self.writer)?;
                self.add(path, Stored { entry, content }, hint, change)?;
            }
            Event::Whole { path, stored, hint, change } => {
                if let Some(first) = &stored.entry.link
                    && self.lost.contains(first)
                {
                    let message = "its content could not be read under its other name";
                    self.observer.warn(Warning::skipped(path.to_slashed(), message));
                    return Ok(());
                }
                self.add(path, stored, hint, change)?;
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        path: EntryPath,
        stored: Stored,
        hint: Option<Hint>,
        change: Change,
    ) -> Result<(), OpsError> {
        match change {
            Change::New => self.facts.entries_new += 1,
            Change::Changed => self.facts.entries_changed += 1,
            Change::Unchanged => self.facts.entries_unchanged += 1,
        }
        match &mut self.tree {
            Target::Tree(tree) => {
                let mut stored = stored;
                if let Err(error) = stored.check_limits() {
                    self.observer.warn(Warning::skipped(path.to_slashed(), error.to_string()));
                    stored.entry.xattrs.clear();
                    if stored.check_limits().is_err() {
                        return Ok(());
                    }
                }
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

/// The size of a file is what was read of it.
fn set_size(entry: &mut Entry, len: u64) {
    if let Kind::File { size, .. } = &mut entry.kind {
        *size = len;
    }
}
