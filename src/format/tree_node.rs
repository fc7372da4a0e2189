//! A node of an item's tree: an ordered map from path to entry.

use super::entry_value::Stored;
use super::{FormatError, within};
use crate::codec::{WireReader, put_bytes, put_varint};
use crate::entry::{EntryPath, PATH_LEN_MAX};
use crate::id::ChunkId;

/// Longest plaintext of a node, in bytes: one entry of the largest kind fits.
pub const NODE_BYTES_MAX: usize = 3 << 20;

/// Highest level of a node: enough for far more entries than there can be.
pub const NODE_LEVEL_MAX: u8 = 16;

const WHAT: &str = "tree node";
const ENTRIES_MAX: usize = 1 << 16;
/// Most bytes that all paths of a node have together.
const KEYS_LEN_MAX: usize = 4 << 20;

/// A node one level below, as an inner node refers to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// The first path below it.
    pub first: EntryPath,
    /// The node, a chunk of kind tree.
    pub id: ChunkId,
    /// Entries below it.
    pub entries: u64,
    /// Bytes of content of these.
    pub bytes: u64,
}

/// A node of a tree; paths ascend strictly within it and from node to node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeNode {
    /// Entries.
    Leaf(Vec<(EntryPath, Stored)>),
    /// Nodes of the level below, which is the given one less one.
    Inner(u8, Vec<Child>),
}

impl TreeNode {
    /// The plaintext of a node on `level` from records that are encoded already: a key each, and
    /// its value (a leaf's entry, an inner node's child).
    ///
    /// Shape: level u8 ‖ count ‖ for each: bytes shared with the key before ‖ rest of the key ‖
    /// value, all with varint lengths.
    #[must_use]
    pub fn encode<'a>(
        level: u8,
        records: impl ExactSizeIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Vec<u8> {
        let mut out = vec![level];
        put_varint(&mut out, records.len() as u64);
        let mut before: &[u8] = &[];
        for (key, value) in records {
            let shared = before.iter().zip(key).take_while(|(a, b)| a == b).count();
            put_varint(&mut out, shared as u64);
            put_bytes(&mut out, &key[shared..]);
            put_bytes(&mut out, value);
            before = key;
        }
        out
    }

    /// Reads a node that must be on `level`. Levels fall by one, so no cycle can be followed.
    ///
    /// Errors: [`FormatError::Damaged`].
    pub fn decode(level: u8, bytes: &[u8]) -> Result<Self, FormatError> {
        let wire = within(WHAT);
        let damaged = |why: &str| FormatError::damaged(WHAT, why);
        let mut reader = WireReader::new(bytes);
        if level > NODE_LEVEL_MAX || reader.u8().map_err(&wire)? != level {
            return Err(damaged("it is on another level than its parent says"));
        }
        let count = reader.len_max(ENTRIES_MAX, "number of entries").map_err(&wire)?;
        if count == 0 {
            return Err(damaged("it is empty"));
        }
        let capacity = count.min(bytes.len() / 3);
        let mut key: Vec<u8> = Vec::new();
        let mut keys_len = 0;
        let mut leaf = Vec::with_capacity(if level == 0 { capacity } else { 0 });
        let mut children = Vec::with_capacity(if level == 0 { 0 } else { capacity });
        for at in 0..count {
            let shared = reader.len_max(key.len(), "shared bytes").map_err(&wire)?;
            let rest = reader.sized(PATH_LEN_MAX, "length of a key").map_err(&wire)?;
            let ascends = at == 0 || rest > &key[shared..];
            key.truncate(shared);
            key.extend_from_slice(rest);
            // Shared bytes cost nothing where they are stored, but are spelt out here.
            keys_len += key.len();
            if keys_len > KEYS_LEN_MAX {
                return Err(damaged("its paths are longer than a node can hold"));
            }
            let path = EntryPath::from_key(&key).map_err(|e| FormatError::damaged(WHAT, e))?;
            if !ascends {
                return Err(damaged("its paths do not ascend"));
            }
            let value = reader.sized(NODE_BYTES_MAX, "length of a value").map_err(&wire)?;
            if level == 0 {
                leaf.push((path, Stored::decode(value)?));
            } else {
                children.push(Child::decode(path, value)?);
            }
        }
        reader.finish().map_err(&wire)?;
        Ok(if level == 0 { Self::Leaf(leaf) } else { Self::Inner(level, children) })
    }

    /// Its first path.
    #[must_use]
    pub fn first(&self) -> Option<&EntryPath> {
        match self {
            Self::Leaf(entries) => entries.first().map(|(path, _)| path),
            Self::Inner(_, children) => children.first().map(|child| &child.first),
        }
    }

    /// The level a node's plaintext says it is on; none if it cannot be a node.
    #[must_use]
    pub fn level_of(bytes: &[u8]) -> Option<u8> {
        bytes.first().copied().filter(|level| *level <= NODE_LEVEL_MAX)
    }
}

impl Child {
    /// The value of this child in its parent: id ‖ entries ‖ bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.id.as_bytes().to_vec();
        put_varint(&mut out, self.entries);
        put_varint(&mut out, self.bytes);
        out
    }

    /// Reads the value of the child whose first path is `first`.
    ///
    /// Errors: [`FormatError::Damaged`].
    pub fn decode(first: EntryPath, value: &[u8]) -> Result<Self, FormatError> {
        let wire = within(WHAT);
        let mut reader = WireReader::new(value);
        let id = ChunkId::new(reader.array().map_err(&wire)?);
        let entries = reader.varint().map_err(&wire)?;
        let bytes = reader.varint().map_err(&wire)?;
        reader.finish().map_err(&wire)?;
        Ok(Self { first, id, entries, bytes })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::entry_value::tests::stored;
    use super::*;

    fn encode_leaf(entries: &[(EntryPath, Stored)]) -> Vec<u8> {
        let values: Vec<_> = entries
            .iter()
            .map(|(_, stored)| {
                let mut value = Vec::new();
                stored.encode(&mut value);
                value
            })
            .collect();
        let keys = entries.iter().map(|(path, _)| path.as_key());
        let records: Vec<_> = keys.zip(values.iter().map(Vec::as_slice)).collect();
        TreeNode::encode(0, records.into_iter())
    }

    fn entries() -> impl Strategy<Value = BTreeMap<String, Stored>> {
        prop::collection::btree_map("[a-c]{1,4}(/[a-c]{1,3}){0,3}", stored(), 1..40)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn leaves_read_back(map in entries()) {
            let map: BTreeMap<_, _> = map
                .into_iter()
                .map(|(p, s)| (EntryPath::from_slashed(p.as_bytes()).expect("a path"), s))
                .collect();
            let entries: Vec<_> = map.into_iter().collect();
            let bytes = encode_leaf(&entries);
            prop_assert_eq!(TreeNode::decode(0, &bytes).expect("reads"), TreeNode::Leaf(entries));
        }

        #[test]
        fn hostile_nodes_are_errors_at_most(bytes: Vec<u8>, level in 0u8..18) {
            let _ = TreeNode::decode(level, &bytes);
        }
    }

    #[test]
    fn hostile_paths_orders_and_levels_are_refused() {
        let child =
            Child { first: EntryPath::root(), id: ChunkId::new([1; 32]), entries: 1, bytes: 2 };
        let value = child.encode();
        let node = |level, keys: &[&[u8]]| {
            let records: Vec<_> = keys.iter().map(|key| (*key, value.as_slice())).collect();
            TreeNode::decode(1, &TreeNode::encode(level, records.into_iter()))
        };
        assert!(node(1, &[b"", b"a", b"a\0b"]).is_ok());
        assert!(node(2, &[b"a"]).is_err(), "another level");
        assert!(node(1, &[]).is_err(), "nothing in it");
        assert!(node(1, &[b"b", b"a"]).is_err(), "descending");
        assert!(node(1, &[b"a", b"a"]).is_err(), "twice");
        for key in [&b"a\0.."[..], b"..", b"a/b", b"\0a", b"a\0", b"a\0\0b"] {
            assert!(node(1, &[key]).is_err(), "{key:?}");
        }
    }
}
