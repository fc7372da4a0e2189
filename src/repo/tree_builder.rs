//! Builds an item's tree from entries in order, in memory that does not grow with their number.
//!
//! Where a node ends depends on its keys and on nothing before it: equal entries give equal nodes,
//! whichever way they came about, and a change touches the nodes around it only.

use super::chunk_writer::ChunkWriter;
use super::content::ContentBuilder;
use super::error::RepoError;
use crate::entry::{EntryPath, Extent, Hint};
use crate::format::{
    Child, ContentRef, FormatError, HintsWriter, NODE_LEVEL_MAX, Stored, TreeNode,
};
use crate::id::ChunkId;

/// No node but the last of its level is smaller than this, in bytes.
const NODE_LEN_MIN: usize = 2 << 10;
/// Nodes are about this much longer than the minimum.
const NODE_LEN_MORE: u64 = 6 << 10;
/// A node ends at this size whatever its keys say.
const NODE_LEN_MAX: usize = 64 << 10;

/// Room for the value of a file of one chunk, in bytes; longer ones grow.
const VALUE_LEN: usize = 96;

/// A finished tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeRoot {
    /// The root node.
    pub id: ChunkId,
    /// Its level.
    pub level: u8,
    /// Entries in the tree.
    pub entries: u64,
    /// Bytes of content in the tree.
    pub bytes: u64,
    /// The hints beside it.
    pub hints: ContentRef,
}

/// Builds a tree.
#[derive(Debug, Default)]
pub struct TreeBuilder {
    levels: Vec<Level>,
    last: Option<EntryPath>,
    hints: HintsWriter,
    hint_blocks: ContentBuilder,
}

/// The node of one level that is being filled.
#[derive(Debug, Default)]
struct Level {
    records: Vec<(EntryPath, Vec<u8>)>,
    len: usize,
    entries: u64,
    bytes: u64,
}

impl TreeBuilder {
    /// Adds an entry, whose path must be greater than that of the one before.
    ///
    /// Errors: [`RepoError::Format`] if it is not; those of [`ChunkWriter::store`].
    pub fn push(
        &mut self,
        writer: &mut ChunkWriter,
        path: EntryPath,
        stored: &Stored,
        hint: Option<Hint>,
    ) -> Result<(), RepoError> {
        if self.last.as_ref().is_some_and(|last| *last >= path) {
            let why = format!("`{path}` does not come behind the entry before it");
            return Err(FormatError::damaged("tree", why).into());
        }
        stored.check_limits()?;
        let mut value = Vec::with_capacity(VALUE_LEN);
        stored.encode(&mut value);
        self.hints.push(hint);
        self.last = Some(path.clone());
        if self.add(writer, 0, path, value, 1, stored.entry.content_len())? {
            self.end_hints(writer)?;
        }
        Ok(())
    }

    /// Ends the tree.
    ///
    /// Errors: [`RepoError::Format`] if it is empty; those of [`ChunkWriter::store`].
    pub fn finish(mut self, writer: &mut ChunkWriter) -> Result<TreeRoot, RepoError> {
        self.end_hints(writer)?;
        let mut at = 0;
        while at < self.levels.len() {
            let top = at + 1 == self.levels.len();
            if top && at > 0 && self.levels[at].records.len() == 1 {
                break;
            }
            if !self.levels[at].records.is_empty() {
                let child = self.end_node(writer, at)?;
                if top {
                    return self.root(writer, child, at);
                }
                let _ = self.add_child(writer, at + 1, child)?;
            }
            at += 1;
        }
        // The topmost node would have one child: that child is the root.
        let Some((first, value)) = self.levels.pop().and_then(|mut level| level.records.pop())
        else {
            return Err(FormatError::damaged("tree", "it has no entry").into());
        };
        let child = Child::decode(first, &value)?;
        self.root(writer, child, at - 1)
    }

    fn root(
        &mut self,
        writer: &mut ChunkWriter,
        child: Child,
        level: usize,
    ) -> Result<TreeRoot, RepoError> {
        Ok(TreeRoot {
            id: child.id,
            level: u8::try_from(level).unwrap_or(NODE_LEVEL_MAX),
            entries: child.entries,
            bytes: child.bytes,
            hints: self.hint_blocks.finish_nodes(writer)?,
        })
    }

    fn end_hints(&mut self, writer: &mut ChunkWriter) -> Result<(), RepoError> {
        let block = self.hints.take_block();
        if block.is_empty() {
            return Ok(());
        }
        let id = writer.store_node(&block)?;
        let len = u32::try_from(block.len()).map_err(|_| RepoError::Worker)?;
        self.hint_blocks.push(writer, Extent::Chunk(id, len))
    }

    /// Adds a record to the node of a level; says whether that ended the node.
    fn add(
        &mut self,
        writer: &mut ChunkWriter,
        at: usize,
        path: EntryPath,
        value: Vec<u8>,
        entries: u64,
        bytes: u64,
    ) -> Result<bool, RepoError> {
        if at > usize::from(NODE_LEVEL_MAX) {
            return Err(FormatError::damaged("tree", "it grows too high").into());
        }
        if self.levels.len() == at {
            self.levels.push(Level::default());
        }
        let number = writer.repository().keyring().cut_number(path.as_key());
        let level = &mut self.levels[at];
        // What the record takes when its key shares nothing: the same wherever it stands.
        let record_len = path.as_key().len() + value.len() + 4;
        level.records.push((path, value));
        level.len += record_len;
        level.entries += entries;
        level.bytes = level.bytes.saturating_add(bytes);
        let chance = (u64::MAX / NODE_LEN_MORE).saturating_mul(record_len as u64);
        // Inner nodes must shrink the tree by half at least, however long their keys are.
        let enough = at == 0 || level.records.len() >= 2;
        let cut =
            enough && (level.len >= NODE_LEN_MAX || level.len >= NODE_LEN_MIN && number <= chance);
        if cut {
            let child = self.end_node(writer, at)?;
            let _ = self.add_child(writer, at + 1, child)?;
        }
        Ok(cut)
    }

    fn add_child(
        &mut self,
        writer: &mut ChunkWriter,
        at: usize,
        child: Child,
    ) -> Result<bool, RepoError> {
        let value = child.encode();
        self.add(writer, at, child.first, value, child.entries, child.bytes)
    }

    fn end_node(&mut self, writer: &mut ChunkWriter, at: usize) -> Result<Child, RepoError> {
        let level = std::mem::take(&mut self.levels[at]);
        let number = u8::try_from(at).unwrap_or(NODE_LEVEL_MAX);
        let records = level.records.iter().map(|(path, value)| (path.as_key(), &value[..]));
        let id = writer.store_node(&TreeNode::encode(number, records))?;
        let first = level.records.into_iter().next().map(|(path, _)| path).unwrap_or_default();
        Ok(Child { first, id, entries: level.entries, bytes: level.bytes })
    }
}
