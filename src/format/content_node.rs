//! Content that is too long to stand in its entry: a tree of extents.
//!
//! A leaf lists extents, an inner node lists nodes one level below, each with the bytes under it.
//! Hints are kept in the same way, as content of chunks of kind tree.

use super::entry_value::{decode_extents, put_extents};
use super::{FormatError, within};
use crate::codec::{WireReader, put_varint};
use crate::entry::Extent;
use crate::id::ChunkId;

const WHAT: &str = "content node";

/// First byte of a leaf; inner nodes add their level.
const TAG: u8 = 0x80;
const LEVEL_MAX: u8 = 12;
const ENTRIES_MAX: usize = 1 << 14;

/// A content node as others refer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentRef {
    /// The node, a chunk of kind tree.
    pub id: ChunkId,
    /// Bytes of content below it.
    pub len: u64,
    /// 0 for a leaf.
    pub level: u8,
}

impl ContentRef {
    /// Appends the stored form: level ‖ length ‖ id.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.level);
        put_varint(out, self.len);
        out.extend(self.id.as_bytes());
    }

    /// Reads the stored form.
    ///
    /// Errors: [`FormatError::Damaged`].
    pub fn decode(reader: &mut WireReader<'_>) -> Result<Self, FormatError> {
        let wire = within(WHAT);
        let level = reader.u8().map_err(&wire)?;
        if level > LEVEL_MAX {
            return Err(FormatError::damaged(WHAT, "it lies too high"));
        }
        let len = reader.varint().map_err(&wire)?;
        if len == 0 {
            return Err(FormatError::damaged(WHAT, "it covers nothing"));
        }
        Ok(Self { id: ChunkId::new(reader.array().map_err(&wire)?), len, level })
    }
}

/// A node of a content tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContentNode {
    /// Extents in order.
    Leaf(Vec<Extent>),
    /// Nodes of the level below in order.
    Inner(u8, Vec<ContentRef>),
}

impl ContentNode {
    /// The node's plaintext.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Leaf(extents) => {
                out.push(TAG);
                put_extents(&mut out, extents);
            }
            Self::Inner(level, children) => {
                out.push(TAG + level);
                put_varint(&mut out, children.len() as u64);
                for child in children {
                    put_varint(&mut out, child.len);
                    out.extend(child.id.as_bytes());
                }
            }
        }
        out
    }

    /// Reads the node that `node` refers to. Levels fall by one, so no cycle can be followed.
    ///
    /// Errors: [`FormatError::Damaged`], also if level or length are not as referred to.
    pub fn decode(node: &ContentRef, bytes: &[u8]) -> Result<Self, FormatError> {
        let wire = within(WHAT);
        let damaged = |why: &str| FormatError::damaged(WHAT, why);
        let mut reader = WireReader::new(bytes);
        if node.level > LEVEL_MAX || reader.u8().map_err(&wire)? != TAG + node.level {
            return Err(damaged("it is on another level than its parent says"));
        }
        let (decoded, len) = if node.level == 0 {
            let extents = decode_extents(&mut reader, ENTRIES_MAX)?;
            let len = extents.iter().try_fold(0u64, |sum, extent| sum.checked_add(extent.len()));
            (Self::Leaf(extents), len)
        } else {
            let count = reader.len_max(ENTRIES_MAX, "number of nodes").map_err(&wire)?;
            let mut children = Vec::with_capacity(count);
            for _ in 0..count {
                let len = reader.varint().map_err(&wire)?;
                if len == 0 {
                    return Err(damaged("it has a node that covers nothing"));
                }
                let id = ChunkId::new(reader.array().map_err(&wire)?);
                children.push(ContentRef { id, len, level: node.level - 1 });
            }
            let len = children.iter().try_fold(0u64, |sum, child| sum.checked_add(child.len));
            (Self::Inner(node.level, children), len)
        };
        reader.finish().map_err(&wire)?;
        match len == Some(node.len) {
            true => Ok(decoded),
            false => Err(damaged("it covers another length than its parent says")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::entry_value::tests::extent;
    use super::*;

    proptest! {
        #[test]
        fn leaves_read_back(extents in prop::collection::vec(extent(), 1..50)) {
            let len = extents.iter().map(Extent::len).sum();
            let node = ContentRef { id: ChunkId::new([0; 32]), len, level: 0 };
            let leaf = ContentNode::Leaf(extents);
            prop_assert_eq!(ContentNode::decode(&node, &leaf.encode()).expect("reads"), leaf);
        }

        #[test]
        fn hostile_nodes_are_errors_at_most(bytes: Vec<u8>, level in 0u8..14, len: u64) {
            let node = ContentRef { id: ChunkId::new([0; 32]), len, level };
            let _ = ContentNode::decode(&node, &bytes);
        }
    }

    #[test]
    fn a_node_must_be_what_its_parent_says() {
        let child = ContentRef { id: ChunkId::new([1; 32]), len: 10, level: 0 };
        let inner = ContentNode::Inner(1, vec![child]);
        let at = |len, level| ContentRef { id: ChunkId::new([0; 32]), len, level };
        assert_eq!(ContentNode::decode(&at(10, 1), &inner.encode()).expect("it reads"), inner);
        assert!(ContentNode::decode(&at(11, 1), &inner.encode()).is_err());
        assert!(ContentNode::decode(&at(10, 2), &inner.encode()).is_err());
    }
}
