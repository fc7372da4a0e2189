//! Content of files: extents in the entry itself or, when there are many, in content nodes.

use super::chunk_reader::ChunkReader;
use super::chunk_writer::ChunkWriter;
use super::error::RepoError;
use crate::entry::Extent;
use crate::format::{Content, ContentNode, ContentRef, INLINE_EXTENTS_MAX, PackKind};
use crate::id::ChunkId;

/// A node is cut behind an extent whose chunk id says so, between these sizes.
const NODE_ENTRIES_MIN: usize = 64;
const NODE_ENTRIES_MAX: usize = 1024;
/// One in so many ids says so.
const CUT_EVERY: u8 = 128;

/// Collects the extents of one file.
#[derive(Debug, Default)]
pub struct ContentBuilder {
    extents: Vec<Extent>,
    levels: Vec<Vec<ContentRef>>,
    len: u64,
}

impl ContentBuilder {
    /// Adds an extent; neighbouring zero runs become one.
    ///
    /// Errors: those of [`ChunkWriter::store`].
    pub fn push(&mut self, writer: &mut ChunkWriter, extent: Extent) -> Result<(), RepoError> {
        self.len += extent.len();
        if let (Extent::Zeros(more), Some(Extent::Zeros(len))) = (extent, self.extents.last_mut()) {
            *len += more;
            return Ok(());
        }
        // A node is cut only when the next extent comes: a zero run may still grow until then.
        let cut = match self.extents.last() {
            Some(Extent::Chunk(id, _)) => is_cut(self.extents.len(), id),
            Some(Extent::Zeros(_)) => self.extents.len() >= NODE_ENTRIES_MAX,
            None => false,
        };
        if cut {
            self.end_leaf(writer)?;
        }
        self.extents.push(extent);
        Ok(())
    }

    /// Length of the content so far, in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the content lies.
    ///
    /// Errors: those of [`ChunkWriter::store`].
    pub fn finish(mut self, writer: &mut ChunkWriter) -> Result<Content, RepoError> {
        if self.levels.is_empty() && self.extents.len() <= INLINE_EXTENTS_MAX {
            return Ok(Content::Inline(self.extents));
        }
        self.finish_nodes(writer).map(Content::Nodes)
    }

    /// As [`ContentBuilder::finish`], but always in nodes, of which there must be one.
    pub(super) fn finish_nodes(
        &mut self,
        writer: &mut ChunkWriter,
    ) -> Result<ContentRef, RepoError> {
        if !self.extents.is_empty() || self.levels.is_empty() {
            self.end_leaf(writer)?;
        }
        let mut at = 0;
        loop {
            let top = at + 1 == self.levels.len();
            if let ([root], true) = (&self.levels[at][..], top) {
                return Ok(*root);
            }
            if !self.levels[at].is_empty() {
                self.end_inner(writer, at)?;
            }
            at += 1;
        }
    }

    fn end_leaf(&mut self, writer: &mut ChunkWriter) -> Result<(), RepoError> {
        let extents = std::mem::take(&mut self.extents);
        let len = extents.iter().map(Extent::len).sum();
        let id = writer.store_node(&ContentNode::Leaf(extents).encode())?;
        self.add_node(writer, 0, ContentRef { id, len, level: 0 })
    }

    fn end_inner(&mut self, writer: &mut ChunkWriter, at: usize) -> Result<(), RepoError> {
        let children = std::mem::take(&mut self.levels[at]);
        let len = children.iter().map(|child| child.len).sum();
        let level = children.first().map_or(0, |child| child.level) + 1;
        let id = writer.store_node(&ContentNode::Inner(level, children).encode())?;
        self.add_node(writer, at + 1, ContentRef { id, len, level })
    }

    fn add_node(
        &mut self,
        writer: &mut ChunkWriter,
        at: usize,
        node: ContentRef,
    ) -> Result<(), RepoError> {
        if self.levels.len() == at {
            self.levels.push(Vec::new());
        }
        self.levels[at].push(node);
        if is_cut(self.levels[at].len(), &node.id) { self.end_inner(writer, at) } else { Ok(()) }
    }
}

fn is_cut(entries: usize, id: &ChunkId) -> bool {
    entries >= NODE_ENTRIES_MAX
        || entries >= NODE_ENTRIES_MIN && id.as_bytes()[31].is_multiple_of(CUT_EVERY)
}

/// Yields the extents of a file in order.
#[derive(Debug)]
pub struct ContentWalk<'r> {
    reader: &'r ChunkReader,
    stack: Vec<std::vec::IntoIter<ContentRef>>,
    leaf: std::vec::IntoIter<Extent>,
}

impl<'r> ContentWalk<'r> {
    /// Starts at the first extent.
    #[must_use]
    pub fn new(reader: &'r ChunkReader, content: &Content) -> Self {
        let (stack, leaf) = match content {
            Content::Inline(extents) => (Vec::new(), extents.clone().into_iter()),
            Content::Nodes(root) => (vec![vec![*root].into_iter()], Vec::new().into_iter()),
        };
        Self { reader, stack, leaf }
    }

    /// The next extent.
    ///
    /// Errors: those of [`ChunkReader::read`].
    pub fn next(&mut self) -> Result<Option<Extent>, RepoError> {
        loop {
            if let Some(extent) = self.leaf.next() {
                return Ok(Some(extent));
            }
            let Some(top) = self.stack.last_mut() else { return Ok(None) };
            let Some(node) = top.next() else {
                let _ = self.stack.pop();
                continue;
            };
            match read_content_node(self.reader, &node)? {
                ContentNode::Leaf(extents) => self.leaf = extents.into_iter(),
                ContentNode::Inner(_, children) => self.stack.push(children.into_iter()),
            }
        }
    }
}

/// Reads a content node.
///
/// Errors: those of [`ChunkReader::read`].
pub fn read_content_node(
    reader: &ChunkReader,
    node: &ContentRef,
) -> Result<ContentNode, RepoError> {
    let bytes = reader.read(PackKind::Tree, &node.id)?;
    Ok(ContentNode::decode(node, &bytes)?)
}
