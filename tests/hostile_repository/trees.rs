//! Trees that are none: cycles, wrong levels, no order, no end.

use volume_vault::codec::put_varint;
use volume_vault::entry::Kind;
use volume_vault::format::TreeNode;
use volume_vault::id::ChunkId;
use volume_vault::repo::TreeWalk;
use volume_vault::store::{CallKind, RecordStore, Store as _};

use super::{reader, restore};
use crate::support::builder::{
    Builder, RawRecord, child, directory, encode_node, item, other, pack_name, raw, root,
};

fn fifo(path: &str) -> RawRecord {
    other(path, Kind::Fifo)
}

/// A tree whose inner nodes all have one child, from a leaf of records up to `levels` above it.
fn tower(builder: &mut Builder, levels: u8, records: &[RawRecord]) -> ChunkId {
    let mut id = builder.node(0, records);
    for level in 1..=levels {
        id = builder.node(level, &[(records[0].0.clone(), child(id, 1))]);
    }
    id
}

#[test]
fn f101_a_node_that_holds_itself_ends_at_the_next_level() {
    // A name is the hash of its content, so a node cannot name itself; a forged pack can make it
    // look so: the content of X names X.
    let mut builder = Builder::new();
    let forged = ChunkId::new([7; 32]);
    let node = encode_node(16, &[(Vec::new(), child(forged, 1))]);
    let mut pack = builder.start_pack(volume_vault::format::PackKind::Tree);
    let len = crate::support::builder::len_of(&node);
    pack.frame(vec![(forged.prefix(), len)], &raw(&node));
    let _ = builder.finish_pack(pack);
    let restored = restore(&mut builder, &item(forged, 16));
    restored.refused("other content than its name says");
}

#[test]
fn f101_a_node_used_on_another_level_than_its_own_is_refused() {
    for (said, level) in [(0, 1), (1, 0), (15, 16), (17, 17), (255, 255)] {
        let mut builder = Builder::new();
        let records =
            if said == 0 { vec![root()] } else { vec![(vec![], child(ChunkId::new([1; 32]), 1))] };
        let id = builder.node(said, &records);
        let restored = restore(&mut builder, &item(id, level));
        restored.refused("it is on another level than its parent says");
    }
    let mut builder = Builder::new();
    let leaf = builder.node(0, &[root()]);
    let top = builder.node(2, &[(Vec::new(), child(leaf, 1))]);
    let restored = restore(&mut builder, &item(top, 2));
    restored.refused("it is on another level than its parent says");
}

#[test]
fn f101_a_tree_of_the_greatest_height_is_read_with_a_node_per_level() {
    let mut builder = Builder::new();
    let top = tower(&mut builder, 16, &[root(), fifo("a")]);
    let restored = restore(&mut builder, &item(top, 16));
    let _ = restored.left_out(&[]);
    assert_eq!(restored.paths(), ["a"]);
}

#[test]
fn f101_a_node_named_many_times_is_refused_before_it_is_read_many_times() {
    // Sixteen levels of 1,000 times the same child would be 10^48 nodes.
    let mut builder = Builder::new();
    let mut id = builder.node(0, &[root(), fifo("a")]);
    for level in 1..=16 {
        let names = |number: u32| {
            if number == 0 { Vec::new() } else { format!("b{number:04}").into_bytes() }
        };
        let same: Vec<_> = (0..1000).map(|number| (names(number), child(id, 1))).collect();
        id = builder.node(level, &same);
    }
    let _ = builder.publish();
    let store = std::sync::Arc::new(RecordStore::new(builder.store.clone()));
    let repo = builder.open_at(&builder.host("h"), store.clone()).expect("it opens");
    let reader = reader(&repo);
    store.clear();
    let mut walk = TreeWalk::new(&reader, id, 16);
    let mut entries = 0;
    let error = loop {
        match walk.next() {
            Ok(Some(_)) => entries += 1,
            Ok(None) => break None,
            Err(error) => break Some(error.to_string()),
        }
    };
    assert_eq!(entries, 2, "the first way down");
    assert!(error.expect("refused").contains("does not start as promised"));
    assert!(store.count(CallKind::GetRange) <= 17);
}

#[test]
fn f101_a_node_of_more_records_than_allowed_is_refused_before_it_is_read() {
    for count in [65_537, 1_000_000, 10_000_000, u64::MAX] {
        let mut bytes = vec![0];
        put_varint(&mut bytes, count);
        bytes.extend([0; 64]);
        let error = TreeNode::decode(0, &bytes).expect_err("too many").to_string();
        assert!(error.contains("number of entries"), "{error}");
    }
    let mut builder = Builder::new();
    let mut records = vec![root()];
    records.extend((0..65_536).map(|number| fifo(&format!("{number:05}"))));
    let id = builder.node(0, &records);
    let restored = restore(&mut builder, &item(id, 0));
    restored.refused("number of entries is 65537, beyond 65536");
}

#[test]
fn f101_a_node_whose_keys_unfold_without_end_is_refused() {
    // Each key shares a megabyte with the one before it: a few bytes stored, a megabyte in memory.
    let long: Vec<u8> = [&[b'x'; 200][..]; 5000].join(&0);
    let mut records = vec![root()];
    for number in 0..100u8 {
        let key = [&long[..], &[0, b'a' + number / 10, b'a' + number % 10]].concat();
        records.push((key, fifo("").1));
    }
    let bytes = encode_node(0, &records);
    assert!(bytes.len() < 1_100_000);
    let error = TreeNode::decode(0, &bytes).expect_err("too much").to_string();
    assert!(error.contains("longer than a node can hold"), "{error}");
}

#[test]
fn f101_names_twice_or_out_of_order_within_a_node_are_refused() {
    for records in [
        [root(), fifo("a"), fifo("a")],
        [root(), fifo("b"), fifo("a")],
        [fifo("a"), root(), fifo("b")],
        [root(), directory("a"), root()],
    ] {
        let mut builder = Builder::new();
        let item = builder.tree(&records);
        let restored = restore(&mut builder, &item);
        restored.refused("its paths do not ascend");
    }
}

#[test]
fn f101_names_twice_or_out_of_order_across_nodes_are_refused() {
    for (first, second) in [
        (vec![root(), fifo("a")], vec![fifo("a"), fifo("b")]),
        (vec![root(), fifo("b")], vec![fifo("a"), fifo("c")]),
        (vec![root(), fifo("z")], vec![fifo("b")]),
    ] {
        let mut builder = Builder::new();
        let ids = [builder.node(0, &first), builder.node(0, &second)];
        let key = second[0].0.clone();
        let level = [(Vec::new(), child(ids[0], 2)), (key, child(ids[1], 2))];
        let records: Vec<RawRecord> = level.to_vec();
        let id = builder.node(1, &records);
        let restored = restore(&mut builder, &item(id, 1));
        restored.refused("do not ascend");
    }
}

#[test]
fn f101_a_child_that_does_not_start_as_its_parent_says_is_refused() {
    let mut builder = Builder::new();
    let first = builder.node(0, &[root(), fifo("a")]);
    let second = builder.node(0, &[fifo("c")]);
    let id = builder.node(1, &[(Vec::new(), child(first, 2)), (b"b".to_vec(), child(second, 1))]);
    let restored = restore(&mut builder, &item(id, 1));
    restored.refused("does not start as promised");
}

#[test]
fn f101_trees_without_a_root_or_with_a_root_that_is_no_directory_are_refused() {
    let mut builder = Builder::new();
    let item = builder.tree(&[fifo("a"), fifo("b")]);
    let restored = restore(&mut builder, &item);
    assert!(restored.outcome.is_err());
    let mut builder = Builder::new();
    let item = builder.tree(&[fifo(""), fifo("a")]);
    let restored = restore(&mut builder, &item);
    restored.refused("root");
    let mut builder = Builder::new();
    let id = builder.node(0, &[]);
    let restored = restore(&mut builder, &crate::support::builder::item(id, 0));
    restored.refused("it is empty");
}

#[test]
fn f101_bytes_behind_or_missing_from_a_node_are_refused() {
    let good = encode_node(0, &[root(), fifo("a")]);
    for bytes in [[&good[..], &[0]].concat(), good[..good.len() - 1].to_vec(), Vec::new()] {
        let mut builder = Builder::new();
        let id = builder.tree_chunk(&bytes);
        let restored = restore(&mut builder, &item(id, 0));
        assert!(restored.outcome.is_err(), "{bytes:?}");
    }
}

#[test]
fn f101_entries_below_what_is_no_directory_are_left_out_and_named() {
    let mut builder = Builder::new();
    let records = [
        root(),
        builder.file("file", b"x"),
        builder.file("file/below", b"y"),
        directory("file/below2"),
        directory("missing/parent"),
        builder.file("missing/parent/file", b"z"),
        builder.file("other", b"o"),
    ];
    let item = builder.tree(&records);
    let restored = restore(&mut builder, &item);
    let _ =
        restored.left_out(&["file/below", "file/below2", "missing/parent", "missing/parent/file"]);
    assert_eq!(restored.paths(), ["file", "other"]);
}

#[test]
fn f101_a_tree_that_lost_a_node_is_refused_with_its_marker_left() {
    let mut builder = Builder::new();
    let first = builder.node(0, &[root(), fifo("a")]);
    let mut pack = builder.start_pack(volume_vault::format::PackKind::Tree);
    let node = encode_node(0, &[fifo("b")]);
    let second = builder.chunk_id(volume_vault::format::PackKind::Tree, &node);
    let len = crate::support::builder::len_of(&node);
    pack.frame(vec![(second.prefix(), len)], &raw(&node));
    let lost = builder.finish_pack(pack);
    let id = builder.node(1, &[(Vec::new(), child(first, 2)), (b"b".to_vec(), child(second, 1))]);
    let _ = builder.publish();
    let at = crate::support::builder::name(&pack_name(&lost));
    builder.store.delete(&at).expect("deleted");
    let restored = restore(&mut builder, &item(id, 1));
    restored.refused("is in no pack that the index knows and the store lists");
}
