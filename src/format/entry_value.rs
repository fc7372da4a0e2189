//! The value of a tree's leaf: an entry with where its content lies.

use super::content_node::ContentRef;
use super::{FormatError, within};
use crate::clock::Time;
use crate::codec::{WireReader, put_bytes, put_signed, put_varint};
use crate::entry::{Entry, EntryPath, Extent, Kind, PATH_LEN_MAX, Xattr};
use crate::id::ChunkId;

/// Most extents that stand in the entry itself; more go into content nodes.
pub const INLINE_EXTENTS_MAX: usize = 16;

const WHAT: &str = "tree entry";
const TARGET_LEN_MAX: usize = 4096;
const XATTRS_MAX: usize = 1024;
const XATTR_NAME_MAX: usize = 255;
const XATTR_VALUE_MAX: usize = 64 << 10;
/// What Linux lets all extended attributes of a file hold together, many times over.
const XATTRS_LEN_MAX: usize = 1 << 20;

const HAS_XATTRS: u8 = 1;
const IS_LINK: u8 = 2;
const IS_SPARSE: u8 = 4;
const HAS_NODES: u8 = 8;

/// Where the content of a file lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// In these extents.
    Inline(Vec<Extent>),
    /// In the extents below this content node.
    Nodes(ContentRef),
}

impl Content {
    /// No content: that of everything but regular files, and of empty ones.
    #[must_use]
    pub const fn empty() -> Self {
        Self::Inline(Vec::new())
    }
}

/// An entry as a tree keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The entry.
    pub entry: Entry,
    /// Its content.
    pub content: Content,
}

impl Stored {
    /// Whether readers will take the entry; only what no file system of today holds is refused.
    ///
    /// Errors: [`FormatError::Damaged`], saying what is too large.
    pub fn check_limits(&self) -> Result<(), FormatError> {
        let xattrs = &self.entry.xattrs;
        let len: usize = xattrs.iter().map(|x| x.name.len() + x.value.len()).sum();
        let large = |x: &Xattr| x.name.len() > XATTR_NAME_MAX || x.value.len() > XATTR_VALUE_MAX;
        let why = match &self.entry.kind {
            Kind::Symlink { target } if target.len() > TARGET_LEN_MAX => {
                "its target is longer than a link can be"
            }
            _ if xattrs.len() > XATTRS_MAX || len > XATTRS_LEN_MAX || xattrs.iter().any(large) => {
                "its attributes are larger than they can be"
            }
            _ if !xattrs.is_sorted_by(|a, b| a.name < b.name) => "its attributes are not sorted",
            _ => return Ok(()),
        };
        Err(FormatError::damaged(WHAT, why))
    }

    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let entry = &self.entry;
        let (kind, sparse) = match entry.kind {
            Kind::File { sparse, .. } => (1, sparse),
            Kind::Directory => (2, false),
            Kind::Symlink { .. } => (3, false),
            Kind::CharDevice { .. } => (4, false),
            Kind::BlockDevice { .. } => (5, false),
            Kind::Fifo => (6, false),
            Kind::Socket => (7, false),
        };
        let flag = |on: bool, flag: u8| if on { flag } else { 0 };
        out.push(kind);
        out.push(
            flag(!entry.xattrs.is_empty(), HAS_XATTRS)
                | flag(entry.link.is_some(), IS_LINK)
                | flag(sparse, IS_SPARSE)
                | flag(matches!(self.content, Content::Nodes(_)), HAS_NODES),
        );
        put_varint(out, u64::from(entry.mode));
        put_varint(out, u64::from(entry.uid));
        put_varint(out, u64::from(entry.gid));
        put_signed(out, entry.mtime.seconds);
        put_varint(out, u64::from(entry.mtime.nanos));
        if !entry.xattrs.is_empty() {
            put_varint(out, entry.xattrs.len() as u64);
            for xattr in &entry.xattrs {
                put_bytes(out, &xattr.name);
                put_bytes(out, &xattr.value);
            }
        }
        if let Some(first) = &entry.link {
            put_bytes(out, first.as_key());
        }
        match &entry.kind {
            Kind::Symlink { target } => put_bytes(out, target),
            Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
                put_varint(out, u64::from(*major));
                put_varint(out, u64::from(*minor));
            }
            Kind::File { size, .. } => {
                put_varint(out, *size);
                match &self.content {
                    _ if entry.link.is_some() => {}
                    Content::Inline(extents) => put_extents(out, extents),
                    Content::Nodes(root) => root.encode(out),
                }
            }
            Kind::Directory | Kind::Fifo | Kind::Socket => {}
        }
    }

    /// Reads a value that fills `bytes`.
    ///
    /// Errors: [`FormatError::Damaged`], also if extents do not add up to the size.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let wire = within(WHAT);
        let damaged = |why: &str| FormatError::damaged(WHAT, why);
        let mut reader = WireReader::new(bytes);
        let kind = reader.u8().map_err(&wire)?;
        let flags = reader.u8().map_err(&wire)?;
        let known = HAS_XATTRS | IS_LINK | if kind == 1 { IS_SPARSE | HAS_NODES } else { 0 };
        if flags & !known != 0 {
            return Err(damaged("it has unknown flags"));
        }
        let has = |flag: u8| flags & flag != 0;
        let mode = reader.varint_max(0o7777, "mode").map_err(&wire)?;
        let uid = reader.varint_u32("uid").map_err(&wire)?;
        let gid = reader.varint_u32("gid").map_err(&wire)?;
        let mtime = decode_time(&mut reader)?;
        let xattrs = if has(HAS_XATTRS) { decode_xattrs(&mut reader)? } else { Vec::new() };
        let link = match has(IS_LINK) {
            true => {
                let key = reader.sized(PATH_LEN_MAX, "length of a path").map_err(&wire)?;
                Some(EntryPath::from_key(key).map_err(|error| FormatError::damaged(WHAT, error))?)
            }
            false => None,
        };
        let mut content = Content::empty();
        let mut device = || -> Result<(u32, u32), FormatError> {
            let major = reader.varint_u32("device number").map_err(&wire)?;
            Ok((major, reader.varint_u32("device number").map_err(&wire)?))
        };
        let kind = match kind {
            1 => {
                let size = reader.varint().map_err(&wire)?;
                if link.is_none() {
                    content = decode_content(&mut reader, size, has(HAS_NODES))?;
                }
                Kind::File { size, sparse: has(IS_SPARSE) }
            }
            2 => Kind::Directory,
            3 => {
                let target = reader.sized(TARGET_LEN_MAX, "length of a target").map_err(&wire)?;
                Kind::Symlink { target: target.to_vec() }
            }
            4 => device().map(|(major, minor)| Kind::CharDevice { major, minor })?,
            5 => device().map(|(major, minor)| Kind::BlockDevice { major, minor })?,
            6 => Kind::Fifo,
            7 => Kind::Socket,
            _ => return Err(damaged("it is of unknown kind")),
        };
        reader.finish().map_err(&wire)?;
        if link.is_some() && kind == Kind::Directory {
            return Err(damaged("a directory cannot be a hard link"));
        }
        let mode = u32::try_from(mode).expect("because it is at most 0o7777");
        Ok(Self { entry: Entry { kind, mode, uid, gid, mtime, xattrs, link }, content })
    }
}

fn decode_time(reader: &mut WireReader<'_>) -> Result<Time, FormatError> {
    let wire = within(WHAT);
    let seconds = reader.signed().map_err(&wire)?;
    let nanos = reader.varint_max(999_999_999, "nanoseconds").map_err(&wire)?;
    Ok(Time::new(seconds, u32::try_from(nanos).expect("because it is below a billion")))
}

fn decode_xattrs(reader: &mut WireReader<'_>) -> Result<Vec<Xattr>, FormatError> {
    let wire = within(WHAT);
    let count = reader.len_max(XATTRS_MAX, "number of attributes").map_err(&wire)?;
    let mut xattrs: Vec<Xattr> = Vec::with_capacity(count);
    let mut len = 0;
    for _ in 0..count {
        let name = reader.sized(XATTR_NAME_MAX, "length of an attribute's name").map_err(&wire)?;
        let value = reader.sized(XATTR_VALUE_MAX, "length of an attribute").map_err(&wire)?;
        len += name.len() + value.len();
        let ascending = xattrs.last().is_none_or(|last| last.name[..] < *name);
        if name.is_empty() || name.contains(&0) || !ascending || len > XATTRS_LEN_MAX {
            return Err(FormatError::damaged(WHAT, "its attributes make no sense"));
        }
        xattrs.push(Xattr { name: name.to_vec(), value: value.to_vec() });
    }
    Ok(xattrs)
}

fn decode_content(
    reader: &mut WireReader<'_>,
    size: u64,
    in_nodes: bool,
) -> Result<Content, FormatError> {
    let (content, len) = if in_nodes {
        let root = ContentRef::decode(reader)?;
        let len = root.len;
        (Content::Nodes(root), Some(len))
    } else {
        let extents = decode_extents(reader, INLINE_EXTENTS_MAX)?;
        let len = extents.iter().try_fold(0u64, |sum, extent| sum.checked_add(extent.len()));
        (Content::Inline(extents), len)
    };
    match len == Some(size) {
        true => Ok(content),
        false => Err(FormatError::damaged(WHAT, "its content is not as long as the file")),
    }
}

/// Appends extents: count, then for each `length << 1 | is zeros`, and the id of a chunk.
pub(super) fn put_extents(out: &mut Vec<u8>, extents: &[Extent]) {
    put_varint(out, extents.len() as u64);
    for extent in extents {
        match extent {
            Extent::Zeros(len) => put_varint(out, len << 1 | 1),
            Extent::Chunk(id, len) => {
                put_varint(out, u64::from(*len) << 1);
                out.extend(id.as_bytes());
            }
        }
    }
}

/// Reads at most `max` extents.
pub(super) fn decode_extents(
    reader: &mut WireReader<'_>,
    max: usize,
) -> Result<Vec<Extent>, FormatError> {
    let wire = within(WHAT);
    let count = reader.len_max(max, "number of extents").map_err(&wire)?;
    let mut extents = Vec::with_capacity(count);
    for _ in 0..count {
        let head = reader.varint().map_err(&wire)?;
        let len = head >> 1;
        if len == 0 {
            return Err(FormatError::damaged(WHAT, "it has an empty extent"));
        }
        extents.push(match head & 1 {
            1 => Extent::Zeros(len),
            _ => {
                let len = u32::try_from(len)
                    .map_err(|_| FormatError::damaged(WHAT, "it has a chunk of absurd length"))?;
                Extent::Chunk(ChunkId::new(reader.array().map_err(&wire)?), len)
            }
        });
    }
    Ok(extents)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn extent() -> impl Strategy<Value = Extent> {
        prop_oneof![
            (1u64..1 << 50).prop_map(Extent::Zeros),
            (any::<[u8; 32]>(), 1u32..1 << 20)
                .prop_map(|(id, l)| Extent::Chunk(ChunkId::new(id), l)),
        ]
    }

    fn kind_and_content() -> impl Strategy<Value = (Kind, Content)> {
        let file = (prop::collection::vec(extent(), 0..=INLINE_EXTENTS_MAX), any::<bool>());
        prop_oneof![
            file.prop_map(|(extents, sparse)| {
                let size = extents.iter().map(Extent::len).sum();
                (Kind::File { size, sparse }, Content::Inline(extents))
            }),
            (any::<[u8; 32]>(), 1u64..1 << 60, 0u8..4).prop_map(|(id, size, level)| {
                let root = ContentRef { id: ChunkId::new(id), len: size, level };
                (Kind::File { size, sparse: false }, Content::Nodes(root))
            }),
            Just((Kind::Directory, Content::empty())),
            any::<Vec<u8>>().prop_map(|target| (Kind::Symlink { target }, Content::empty())),
            any::<(u32, u32)>()
                .prop_map(|(major, minor)| (Kind::CharDevice { major, minor }, Content::empty())),
            any::<(u32, u32)>()
                .prop_map(|(major, minor)| (Kind::BlockDevice { major, minor }, Content::empty())),
            Just((Kind::Fifo, Content::empty())),
            Just((Kind::Socket, Content::empty())),
        ]
    }

    pub(crate) fn stored() -> impl Strategy<Value = Stored> {
        let xattrs = prop::collection::btree_map("user\\.[a-z]{1,9}", any::<Vec<u8>>(), 0..3);
        let numbers =
            (0u32..=0o7777, any::<u32>(), any::<u32>(), any::<i64>(), 0u32..1_000_000_000);
        (kind_and_content(), numbers, xattrs).prop_map(|((kind, content), numbers, xattrs)| {
            let (mode, uid, gid, seconds, nanos) = numbers;
            let xattrs = xattrs.into_iter();
            let entry = Entry {
                kind,
                mode,
                uid,
                gid,
                mtime: Time::new(seconds, nanos),
                xattrs: xattrs.map(|(n, value)| Xattr { name: n.into_bytes(), value }).collect(),
                link: None,
            };
            Stored { entry, content }
        })
    }

    proptest! {
        #[test]
        fn entries_read_back(stored in stored()) {
            let mut bytes = Vec::new();
            stored.encode(&mut bytes);
            prop_assert_eq!(Stored::decode(&bytes).expect("it reads"), stored);
        }

        #[test]
        fn hostile_entries_are_errors_at_most(bytes: Vec<u8>) {
            let _ = Stored::decode(&bytes);
        }
    }

    #[test]
    fn a_link_holds_its_first_member_and_no_content() {
        let entry = Entry {
            kind: Kind::File { size: 7, sparse: false },
            mode: 0o644,
            uid: 1,
            gid: 2,
            mtime: Time::new(-5, 6),
            xattrs: Vec::new(),
            link: Some(EntryPath::from_slashed(b"a/b").expect("a path")),
        };
        let stored = Stored { entry, content: Content::empty() };
        let mut bytes = Vec::new();
        stored.encode(&mut bytes);
        assert_eq!(Stored::decode(&bytes).expect("it reads"), stored);
        bytes[0] = 2;
        assert!(Stored::decode(&bytes[..bytes.len() - 1]).is_err(), "a directory as a link");
    }
}
