//! Nodes, entries and content: section 16.

use super::index::Index;
use super::packs::{DATA, TREE};
use super::wire::Cursor;
use super::{Result, damaged, ensure};

const RECORDS_MOST: u64 = 65_536;
const VALUE_MOST: u64 = 3 << 20;
const KEYS_MOST: usize = 4 << 20;
const TREE_LEVEL_MOST: u8 = 16;
const CONTENT_LEVEL_MOST: u8 = 12;
const PATH_MOST: u64 = 1 << 20;
const XATTRS_MOST: usize = 1 << 20;
const NODE_EXTENTS_MOST: u64 = 16_384;
const ENTRY_EXTENTS_MOST: u64 = 16;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    File { size: u64, content: Content },
    Directory,
    Symlink(Vec<u8>),
    Char(u32, u32),
    Block(u32, u32),
    Fifo,
    Socket,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    Extents(Vec<Extent>),
    Nodes {
        level: u8,
        len: u64,
        root: [u8; 32],
    },
    /// At the first name.
    Elsewhere,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Extent {
    Zeros(u64),
    Chunk(u32, [u8; 32]),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) is_sparse: bool,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: (i64, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Key of the first name, if this is a further one.
    pub(crate) first: Option<Vec<u8>>,
}

/// Calls `visit` for each entry of a tree with its key, in order.
pub(crate) fn walk(
    index: &Index,
    root: &[u8; 32],
    level: u8,
    visit: &mut dyn FnMut(&[u8], Entry) -> Result<()>,
) -> Result<()> {
    ensure(level <= TREE_LEVEL_MOST, "a tree has too many levels")?;
    let mut walk = Walk { index, last: None, visit };
    walk.node(root, level, b"")
}

struct Walk<'a> {
    index: &'a Index,
    last: Option<Vec<u8>>,
    visit: &'a mut dyn FnMut(&[u8], Entry) -> Result<()>,
}

impl Walk<'_> {
    fn node(&mut self, id: &[u8; 32], level: u8, first_key: &[u8]) -> Result<()> {
        let bytes = self.index.chunk(TREE, id)?;
        let records = records(&bytes, level)?;
        ensure(records[0].0 == first_key, "a node begins with another key than its parent says")?;
        for (key, value) in records {
            if level > 0 {
                let mut cursor = Cursor::new(value);
                let child = cursor.array()?;
                let (_entries, _bytes) = (cursor.varint()?, cursor.varint()?);
                cursor.finish()?;
                self.node(&child, level - 1, &key)?;
                continue;
            }
            ensure(self.last.as_ref().is_none_or(|last| *last < key), "keys do not ascend")?;
            check_path(&key)?;
            (self.visit)(&key, entry(value)?)?;
            self.last = Some(key);
        }
        Ok(())
    }
}

/// Keys and values of a node.
fn records(bytes: &[u8], level: u8) -> Result<Vec<(Vec<u8>, &[u8])>> {
    let mut cursor = Cursor::new(bytes);
    ensure(cursor.u8()? == level, "a node is of another level")?;
    let count: u64 = cursor.at_most(RECORDS_MOST)?;
    ensure(count > 0, "a node is empty")?;
    let (mut all, mut last, mut keys_len): (Vec<(Vec<u8>, _)>, Vec<u8>, _) = (vec![], vec![], 0);
    for at in 0..count {
        let shared: usize = cursor.at_most(last.len() as u64)?;
        let rest = cursor.sized(PATH_MOST)?;
        let key = [&last[..shared], rest].concat();
        ensure(last.get(shared).is_none_or(|b| rest.first() != Some(b)), "keys share more bytes")?;
        ensure(at == 0 || last < key, "keys do not ascend")?;
        keys_len += key.len();
        ensure(key.len() as u64 <= PATH_MOST && keys_len <= KEYS_MOST, "keys are too long")?;
        all.push((key.clone(), cursor.sized(VALUE_MOST)?));
        last = key;
    }
    cursor.finish()?;
    Ok(all)
}

fn check_path(key: &[u8]) -> Result<()> {
    ensure(key.len() as u64 <= PATH_MOST, "a path is too long")?;
    let is_name = |name: &[u8]| {
        (1..=255).contains(&name.len()) && !name.contains(&b'/') && name != b"." && name != b".."
    };
    ensure(key.is_empty() || key.split(|b| *b == 0).all(is_name), "a path has an impossible name")
}

fn entry(value: &[u8]) -> Result<Entry> {
    let mut cursor = Cursor::new(value);
    let (kind, flags) = (cursor.u8()?, cursor.u8()?);
    ensure(flags & !(1 | 2 | 4 | 8) == 0, "an entry has unknown flags")?;
    ensure(flags & (4 | 8) == 0 || kind == 1, "an entry has flags of a file")?;
    ensure(flags & 2 == 0 || kind != 2, "a directory has two names")?;
    let mode = cursor.at_most(0o7777)?;
    let (uid, gid) = (cursor.at_most(u32::MAX.into())?, cursor.at_most(u32::MAX.into())?);
    let mtime = (cursor.signed()?, cursor.at_most(999_999_999)?);
    let xattrs = if flags & 1 != 0 { xattrs(&mut cursor)? } else { Vec::new() };
    let first = match flags & 2 {
        0 => None,
        _ => Some(cursor.sized(PATH_MOST)?.to_vec()),
    };
    first.as_ref().map_or(Ok(()), |first| check_path(first))?;
    let kind = match kind {
        1 => {
            let size = cursor.varint()?;
            let content = match flags & (2 | 8) {
                0 => Content::Extents(extents(&mut cursor, ENTRY_EXTENTS_MOST)?),
                8 => content_reference(&mut cursor)?,
                2 => Content::Elsewhere,
                _ => return damaged("a further name refers to content"),
            };
            Kind::File { size, content }
        }
        2 => Kind::Directory,
        3 => Kind::Symlink(cursor.sized(4096)?.to_vec()),
        4 => Kind::Char(cursor.at_most(u32::MAX.into())?, cursor.at_most(u32::MAX.into())?),
        5 => Kind::Block(cursor.at_most(u32::MAX.into())?, cursor.at_most(u32::MAX.into())?),
        6 => Kind::Fifo,
        7 => Kind::Socket,
        _ => return damaged("an entry is of no known kind"),
    };
    cursor.finish()?;
    Ok(Entry { kind, is_sparse: flags & 4 != 0, mode, uid, gid, mtime, xattrs, first })
}

fn xattrs(cursor: &mut Cursor<'_>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let count: u64 = cursor.at_most(1024)?;
    ensure(count > 0, "an entry has no attributes after all")?;
    let (mut all, mut sum): (Vec<(Vec<u8>, Vec<u8>)>, _) = (Vec::new(), 0);
    for _ in 0..count {
        let name = cursor.sized(255)?;
        ensure(!name.is_empty() && !name.contains(&0), "an attribute has an impossible name")?;
        ensure(all.last().is_none_or(|last| *last.0 < *name), "attributes are not in order")?;
        let value = cursor.sized(64 << 10)?;
        sum += name.len() + value.len();
        ensure(sum <= XATTRS_MOST, "attributes are too long")?;
        all.push((name.to_vec(), value.to_vec()));
    }
    Ok(all)
}

fn extents(cursor: &mut Cursor<'_>, most: u64) -> Result<Vec<Extent>> {
    let mut all = Vec::new();
    for _ in 0..cursor.at_most::<u64>(most)? {
        let v = cursor.varint()?;
        ensure(v > 1, "an extent is empty")?;
        if v & 1 == 1 {
            ensure(!matches!(all.last(), Some(Extent::Zeros(_))), "zeros follow zeros")?;
            all.push(Extent::Zeros(v >> 1));
        } else {
            let len = u32::try_from(v >> 1).or_else(|_| damaged("a chunk is too long"))?;
            all.push(Extent::Chunk(len, cursor.array()?));
        }
    }
    Ok(all)
}

fn content_reference(cursor: &mut Cursor<'_>) -> Result<Content> {
    let level = cursor.u8()?;
    ensure(level <= CONTENT_LEVEL_MOST, "content has too many levels")?;
    Ok(Content::Nodes { level, len: cursor.varint()?, root: cursor.array()? })
}

/// Calls `visit` for each extent of a file in order, and checks that they have `size` bytes.
pub(crate) fn content(
    index: &Index,
    content: &Content,
    size: u64,
    visit: &mut dyn FnMut(&Extent) -> Result<()>,
) -> Result<()> {
    let len = match content {
        Content::Extents(extents) => visit_extents(extents, visit)?,
        Content::Nodes { level, len, root } => {
            content_node(index, root, *level, *len, visit)?;
            *len
        }
        Content::Elsewhere => return damaged("content is elsewhere"),
    };
    ensure(len == size, "content has another length than its file")
}

fn visit_extents(extents: &[Extent], visit: &mut dyn FnMut(&Extent) -> Result<()>) -> Result<u64> {
    let mut sum = 0u64;
    for extent in extents {
        let Some(next) = sum.checked_add(len(extent)) else { return damaged("lengths overflow") };
        sum = next;
        visit(extent)?;
    }
    Ok(sum)
}

fn len(extent: &Extent) -> u64 {
    match extent {
        Extent::Zeros(len) => *len,
        Extent::Chunk(len, _) => u64::from(*len),
    }
}

fn content_node(
    index: &Index,
    id: &[u8; 32],
    level: u8,
    len: u64,
    visit: &mut dyn FnMut(&Extent) -> Result<()>,
) -> Result<()> {
    let bytes = index.chunk(TREE, id)?;
    let mut cursor = Cursor::new(&bytes);
    ensure(cursor.u8()? == 0x80 + level, "a content node is of another level")?;
    let sum = if level == 0 {
        let extents = extents(&mut cursor, NODE_EXTENTS_MOST)?;
        ensure(!extents.is_empty(), "a content node is empty")?;
        cursor.finish()?;
        visit_extents(&extents, visit)?
    } else {
        let count: u64 = cursor.at_most(NODE_EXTENTS_MOST)?;
        let mut sum = 0u64;
        for _ in 0..count {
            let (child_len, child) = (cursor.varint()?, cursor.array()?);
            ensure(child_len > 0, "a content node is empty")?;
            content_node(index, &child, level - 1, child_len, visit)?;
            let Some(next) = sum.checked_add(child_len) else { return damaged("lengths overflow") };
            sum = next;
        }
        cursor.finish()?;
        sum
    };
    ensure(sum == len, "a content node has another length than its parent says")
}

/// The bytes of a chunk of data.
pub(crate) fn chunk(index: &Index, len: u32, id: &[u8; 32]) -> Result<Vec<u8>> {
    let bytes = index.chunk(DATA, id)?;
    ensure(bytes.len() == len as usize, "a chunk has another length than its tree says")?;
    Ok(bytes)
}
