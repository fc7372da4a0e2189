//! Entries, nodes of trees and of content, hints.

use volume_vault::clock::Time;
use volume_vault::entry::{Entry, EntryPath, Extent, Hint, Kind, Xattr};
use volume_vault::format::{
    Child, Content, ContentNode, ContentRef, HintsReader, HintsWriter, Stored, TreeNode,
};
use volume_vault::id::ChunkId;

use super::Section;

const A: ChunkId = ChunkId::new([0xaa; 32]);
const B: ChunkId = ChunkId::new([0xbb; 32]);

fn path(text: &str) -> EntryPath {
    EntryPath::from_slashed(text.as_bytes()).expect("a path")
}

fn stored(kind: Kind, mode: u32, content: Content) -> Stored {
    let mtime = Time::new(1_700_000_000, 123_456_789);
    let entry = Entry { kind, mode, uid: 1000, gid: 100, mtime, xattrs: Vec::new(), link: None };
    Stored { entry, content }
}

fn entries() -> Vec<(&'static str, Stored)> {
    let file = |size, sparse| Kind::File { size, sparse };
    let extents = vec![Extent::Chunk(A, 5), Extent::Zeros(65_536), Extent::Chunk(B, 300)];
    let root = ContentRef { id: A, len: 1 << 40, level: 2 };
    let mut with_xattrs = stored(file(0, false), 0o600, Content::empty());
    with_xattrs.entry.mtime = Time::new(-1, 999_999_999);
    with_xattrs.entry.xattrs = vec![
        Xattr { name: b"user.a".to_vec(), value: b"\0\xff".to_vec() },
        Xattr { name: b"user.b".to_vec(), value: Vec::new() },
    ];
    let mut link = stored(file(5, false), 0o644, Content::empty());
    link.entry.link = Some(path("etc/first"));
    vec![
        ("directory", stored(Kind::Directory, 0o1777, Content::empty())),
        ("sparse file of extents", stored(file(65_841, true), 0o644, Content::Inline(extents))),
        ("file of nodes", stored(file(1 << 40, false), 0o644, Content::Nodes(root))),
        ("empty file with attributes", with_xattrs),
        ("further name of a file", link),
        (
            "symbolic link",
            stored(Kind::Symlink { target: b"../x".to_vec() }, 0o777, Content::empty()),
        ),
        (
            "character device",
            stored(Kind::CharDevice { major: 1, minor: 3 }, 0o666, Content::empty()),
        ),
        (
            "block device",
            stored(Kind::BlockDevice { major: 8, minor: 300 }, 0o660, Content::empty()),
        ),
        ("pipe", stored(Kind::Fifo, 0o600, Content::empty())),
        ("socket", stored(Kind::Socket, 0o4755, Content::empty())),
    ]
}

fn value(stored: &Stored) -> Vec<u8> {
    let mut value = Vec::new();
    stored.encode(&mut value);
    value
}

#[test]
fn entries_are_written_as_before() {
    let mut section = Section::open("entries");
    for (name, stored) in entries() {
        section.bytes(name, &value(&stored));
        assert_eq!(Stored::decode(&value(&stored)).expect("it reads"), stored);
    }
    section.finish();
}

#[test]
fn tree_nodes_are_written_as_before() {
    let mut section = Section::open("tree nodes");
    let entries = entries();
    let records: Vec<_> = ["", "etc", "etc/first", "etc-old"].map(path).into_iter().collect();
    let records: Vec<_> = records.into_iter().zip(entries.into_iter().map(|(_, s)| s)).collect();
    let values: Vec<_> = records.iter().map(|(_, stored)| value(stored)).collect();
    let pairs: Vec<_> = records.iter().map(|(path, _)| path.as_key()).zip(values.iter()).collect();
    let leaf = TreeNode::encode(0, pairs.into_iter().map(|(key, value)| (key, &value[..])));
    section.bytes("leaf", &leaf);
    assert_eq!(TreeNode::decode(0, &leaf).expect("it reads"), TreeNode::Leaf(records));

    let children = vec![
        Child { first: path(""), id: A, entries: 4, bytes: 1 << 40 },
        Child { first: path("srv/x"), id: B, entries: 130, bytes: 0 },
    ];
    let values: Vec<_> = children.iter().map(Child::encode).collect();
    let pairs: Vec<_> = children.iter().map(|c| c.first.as_key()).zip(values.iter()).collect();
    let inner = TreeNode::encode(1, pairs.into_iter().map(|(key, value)| (key, &value[..])));
    section.bytes("inner", &inner);
    assert_eq!(TreeNode::decode(1, &inner).expect("it reads"), TreeNode::Inner(1, children));
    section.finish();
}

#[test]
fn content_nodes_are_written_as_before() {
    let mut section = Section::open("content nodes");
    let leaf = ContentNode::Leaf(vec![Extent::Chunk(A, 32_768), Extent::Zeros(1 << 30)]);
    let inner = ContentNode::Inner(
        2,
        vec![ContentRef { id: A, len: 7, level: 1 }, ContentRef { id: B, len: 1 << 33, level: 1 }],
    );
    for (name, node, len, level) in
        [("leaf", leaf, (1 << 30) + 32_768, 0), ("inner", inner, (1 << 33) + 7, 2)]
    {
        let bytes = node.encode();
        section.bytes(name, &bytes);
        let place = ContentRef { id: A, len, level };
        assert_eq!(ContentNode::decode(&place, &bytes).expect("it reads"), node);
    }
    section.finish();
}

#[test]
fn hints_are_written_as_before() {
    let mut section = Section::open("hints");
    let hint = |inode, seconds, nanos| Some(Hint { inode, ctime: Time::new(seconds, nanos) });
    let hints = [hint(1 << 40, 1_700_000_000, 5), None, hint(1 << 40 | 1, 1_699_999_999, 0)];
    let mut writer = HintsWriter::default();
    hints.iter().for_each(|hint| writer.push(*hint));
    let block = writer.take_block();
    section.bytes("block", &block);
    let mut reader = HintsReader::new(block);
    for hint in hints {
        assert_eq!(reader.next().expect("it reads"), hint);
    }
    assert!(reader.is_done());
    section.finish();
}
