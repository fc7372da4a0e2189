//! Everything a snapshot needs: the nodes of its trees and the chunks of its files.

use std::collections::HashSet;

use super::chunk_reader::ChunkReader;
use super::content::read_content_node;
use super::error::RepoError;
use crate::entry::Extent;
use crate::format::{Content, ContentNode, ContentRef, FormatError, Item, PackKind, TreeNode};
use crate::id::ChunkId;

/// Calls `visit` with every chunk that an item needs: nodes as they are reached, once each, and
/// the chunks of files in the order of the tree, as often as they occur.
///
/// `seen` holds the nodes visited before; what lies below them is passed over.
/// Errors: those of reading a node, and those of `visit`.
pub fn reach(
    reader: &ChunkReader,
    item: &Item,
    seen: &mut HashSet<ChunkId>,
    visit: &mut dyn FnMut(PackKind, &ChunkId) -> Result<(), RepoError>,
) -> Result<(), RepoError> {
    let mut nodes = vec![(item.root_level, item.root)];
    while let Some((level, id)) = nodes.pop() {
        if !seen.insert(id) {
            continue;
        }
        visit(PackKind::Tree, &id)?;
        match TreeNode::decode(level, &reader.read(PackKind::Tree, &id)?)? {
            TreeNode::Inner(level, children) => {
                let below = level.checked_sub(1).ok_or_else(|| {
                    RepoError::from(FormatError::damaged("tree node", "it lies too low"))
                })?;
                nodes.extend(children.iter().rev().map(|child| (below, child.id)));
            }
            TreeNode::Leaf(entries) => {
                for (_, stored) in entries {
                    reach_content(reader, &stored.content, PackKind::Data, seen, visit)?;
                }
            }
        }
    }
    match item.hints_root() {
        Some(root) => reach_content(reader, &Content::Nodes(root), PackKind::Tree, seen, visit),
        None => Ok(()),
    }
}

/// As [`reach`], for the content of one file.
///
/// Errors: as [`reach`].
pub fn reach_content(
    reader: &ChunkReader,
    content: &Content,
    kind: PackKind,
    seen: &mut HashSet<ChunkId>,
    visit: &mut dyn FnMut(PackKind, &ChunkId) -> Result<(), RepoError>,
) -> Result<(), RepoError> {
    let leaf = |extents: &[Extent], visit: &mut dyn FnMut(PackKind, &ChunkId) -> _| {
        extents.iter().try_for_each(|extent| match extent {
            Extent::Chunk(id, _) => visit(kind, id),
            Extent::Zeros(_) => Ok(()),
        })
    };
    let root = match content {
        Content::Inline(extents) => return leaf(extents, visit),
        Content::Nodes(root) => *root,
    };
    let mut nodes: Vec<ContentRef> = vec![root];
    while let Some(node) = nodes.pop() {
        if !seen.insert(node.id) {
            continue;
        }
        visit(PackKind::Tree, &node.id)?;
        match read_content_node(reader, &node)? {
            ContentNode::Leaf(extents) => leaf(&extents, visit)?,
            ContentNode::Inner(_, children) => nodes.extend(children.iter().rev()),
        }
    }
    Ok(())
}
