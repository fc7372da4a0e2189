//! Walks an item's tree in order, a node at a time.

use std::sync::Arc;

use super::chunk_reader::ChunkReader;
use super::content::ContentWalk;
use super::error::RepoError;
use crate::entry::{EntryPath, Extent, Hint};
use crate::format::{
    Child, Content, ContentRef, FormatError, HintsReader, PackKind, Stored, TreeNode,
};
use crate::id::ChunkId;

/// Yields the entries of a tree in order.
#[derive(Debug)]
pub struct TreeWalk {
    reader: Arc<ChunkReader>,
    /// Children still to be visited, the deepest last, each with the level they are on.
    stack: Vec<(u8, std::vec::IntoIter<Child>)>,
    leaf: std::vec::IntoIter<(EntryPath, Stored)>,
    /// Keys before this one are passed over; not always a path itself.
    start: Vec<u8>,
    last: Option<EntryPath>,
}

impl TreeWalk {
    /// Starts at the first entry.
    #[must_use]
    pub fn new(reader: &Arc<ChunkReader>, root: ChunkId, level: u8) -> Self {
        Self::start_at(reader, root, level, EntryPath::root())
    }

    /// Starts at the first entry that is not before `start`, reading only the nodes on the way.
    #[must_use]
    pub fn start_at(reader: &Arc<ChunkReader>, root: ChunkId, level: u8, start: EntryPath) -> Self {
        let root = Child { first: EntryPath::root(), id: root, entries: 0, bytes: 0 };
        Self {
            reader: reader.clone(),
            stack: vec![(level, vec![root].into_iter())],
            leaf: Vec::new().into_iter(),
            start: start.as_key().to_vec(),
            last: None,
        }
    }

    /// Passes over everything below `path` that is still to come, reading only the nodes on the
    /// way to what follows.
    pub fn skip_below(&mut self, path: &EntryPath) {
        if path.is_root() {
            self.stack.clear();
            self.leaf = Vec::new().into_iter();
            return;
        }
        // Keys below `path` go on with NUL; names hold none, so what follows is at least this.
        let start = [path.as_key(), &[1]].concat();
        let mut at = 0;
        while let Some((_, children)) = self.stack.get_mut(at) {
            at += 1;
            let upto = children.as_slice().partition_point(|c| c.first.as_key() <= &start[..]);
            if let Some(before) = upto.checked_sub(1) {
                children.by_ref().take(before).for_each(drop);
                // Whatever was open comes before this child.
                self.stack.truncate(at);
                self.leaf = Vec::new().into_iter();
            }
        }
        let before = self.leaf.as_slice().partition_point(|(p, _)| p.as_key() < &start[..]);
        self.leaf.by_ref().take(before).for_each(drop);
        self.start = start;
    }

    /// The next entry.
    ///
    /// Errors: those of [`ChunkReader::read`]; [`RepoError::Format`] if the tree is malformed.
    pub fn next(&mut self) -> Result<Option<(EntryPath, Stored)>, RepoError> {
        loop {
            if let Some((path, stored)) = self.leaf.next() {
                if self.last.as_ref().is_some_and(|last| *last >= path) {
                    return Err(FormatError::damaged("tree", "its paths do not ascend").into());
                }
                self.last = Some(path.clone());
                return Ok(Some((path, stored)));
            }
            if self.peek_node().is_none() {
                return Ok(None);
            }
            self.enter_node()?;
        }
    }

    /// At the border of a node, the level and id of the next one; none within a leaf or at the end.
    pub(super) fn peek_node(&mut self) -> Option<(u8, ChunkId)> {
        if !self.leaf.as_slice().is_empty() {
            return None;
        }
        loop {
            let (level, children) = self.stack.last()?;
            if let Some(child) = children.as_slice().first() {
                return Some((*level, child.id));
            }
            let _ = self.stack.pop();
        }
    }

    /// Passes over the node that [`TreeWalk::peek_node`] shows.
    pub(super) fn skip_node(&mut self) {
        if let Some((_, children)) = self.stack.last_mut() {
            let _ = children.next();
        }
    }

    /// Opens the node that [`TreeWalk::peek_node`] shows.
    pub(super) fn enter_node(&mut self) -> Result<(), RepoError> {
        let Some((level, id)) = self.peek_node() else { return Ok(()) };
        let promised = self.stack.last_mut().and_then(|(_, children)| children.next());
        let bytes = self.reader.read(PackKind::Tree, &id)?;
        let node = TreeNode::decode(level, &bytes)?;
        // Look-ups trust what a parent says of its children.
        if node.first().is_none() || node.first() != promised.as_ref().map(|child| &child.first) {
            return Err(FormatError::damaged("tree", "a node does not start as promised").into());
        }
        match node {
            TreeNode::Leaf(mut entries) => {
                let _ = entries
                    .drain(..entries.partition_point(|(path, _)| path.as_key() < &self.start[..]));
                self.leaf = entries.into_iter();
            }
            TreeNode::Inner(_, mut children) => {
                // All but the last child that starts at or before the start lie before it.
                let upto =
                    children.partition_point(|child| child.first.as_key() <= &self.start[..]);
                let _ = children.drain(..upto.saturating_sub(1));
                self.stack.push((level.saturating_sub(1), children.into_iter()));
            }
        }
        Ok(())
    }

    /// The entry at `path` of a tree, if there is one.
    ///
    /// Errors: as [`TreeWalk::next`].
    pub fn find(
        reader: &Arc<ChunkReader>,
        root: ChunkId,
        level: u8,
        path: &EntryPath,
    ) -> Result<Option<Stored>, RepoError> {
        let mut walk = Self::start_at(reader, root, level, path.clone());
        Ok(walk.next()?.filter(|(at, _)| at == path).map(|(_, stored)| stored))
    }
}

/// Yields the hints beside a tree, one for each of its entries.
#[derive(Debug)]
pub struct HintsWalk<'r> {
    reader: &'r ChunkReader,
    blocks: ContentWalk<'r>,
    block: HintsReader,
}

impl<'r> HintsWalk<'r> {
    /// Starts at the hint of the first entry.
    #[must_use]
    pub fn new(reader: &'r ChunkReader, root: ContentRef) -> Self {
        let blocks = ContentWalk::new(reader, &Content::Nodes(root));
        Self { reader, blocks, block: HintsReader::new(Vec::new()) }
    }

    /// The hint of the next entry; none also if there are fewer hints than entries.
    ///
    /// Errors: those of [`ChunkReader::read`].
    pub fn next(&mut self) -> Result<Option<Hint>, RepoError> {
        while self.block.is_done() {
            match self.blocks.next()? {
                Some(Extent::Chunk(id, _)) => {
                    self.block = HintsReader::new(self.reader.read(PackKind::Tree, &id)?);
                }
                Some(Extent::Zeros(_)) => {}
                None => return Ok(None),
            }
        }
        Ok(self.block.next()?)
    }
}
