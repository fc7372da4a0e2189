//! Contents that are not as long as they say, and packs that lost a part.

use volume_vault::entry::{Extent, Kind};
use volume_vault::event::{Observer, Recorder};
use volume_vault::format::{Content, ContentNode, ContentRef, Item, PackKind, SegmentPack};
use volume_vault::id::ChunkId;
use volume_vault::ops::restore::{RestoreRun, restore_tar};
use volume_vault::ops::{Interrupt, OpsError};
use volume_vault::sink::TarWriterOptions;
use volume_vault::source::Selection;

use super::{chain, reader, restore, text};
use crate::support::builder::{
    Builder, RawRecord, entry, file_of, name, noise, pack_name, raw, root, value,
};

/// A file of any size with any extents.
fn file_with(path: &str, size: u64, content: Content) -> RawRecord {
    (path.as_bytes().to_vec(), value(entry(Kind::File { size, sparse: false }), content))
}

fn tar_of(builder: &Builder, item: &Item) -> Result<Vec<u8>, OpsError> {
    let recorder: std::sync::Arc<dyn Observer> = std::sync::Arc::new(Recorder::default());
    let reader = reader(&builder.open());
    let interrupt = Interrupt::default();
    let selection = Selection::all();
    let run = RestoreRun { reader: &reader, selection, observer: &recorder, interrupt: &interrupt };
    let options = TarWriterOptions::new("tar".to_owned());
    restore_tar(&run, item, Vec::new(), options).map(|(_, bytes)| bytes)
}

#[test]
fn extents_that_do_not_add_up_to_the_size_of_their_file_are_refused() {
    for (size, extents) in [
        (3, vec![Extent::Zeros(4)]),
        (5, vec![Extent::Zeros(4)]),
        (0, vec![Extent::Zeros(1)]),
        (1, vec![]),
        (u64::MAX, vec![Extent::Zeros((1 << 63) - 1)]),
        // Modulo 2^64 these would add up.
        (2, vec![Extent::Zeros((1 << 63) - 1), Extent::Zeros((1 << 63) - 1), Extent::Zeros(4)]),
    ] {
        let mut builder = Builder::new();
        let item = builder.tree(&[root(), file_with("a", size, Content::Inline(extents))]);
        restore(&mut builder, &item).refused("its content is not as long as the file");
    }
}

#[test]
fn a_content_node_of_another_length_than_its_parent_says_loses_its_file_alone() {
    let mut builder = Builder::new();
    let node = ContentNode::Leaf(vec![Extent::Zeros(1000)]).encode();
    let id = builder.tree_chunk(&node);
    let of = |len, level| Content::Nodes(ContentRef { id, len, level });
    let records = [
        root(),
        file_with("a", 999, of(999, 0)),
        file_with("b", 1000, of(1000, 0)),
        file_with("c", 1001, of(1001, 0)),
        file_with("d", 1000, of(1000, 1)),
        file_with("e", u64::MAX, of(u64::MAX, 12)),
    ];
    let item = builder.tree(&records);
    let restored = restore(&mut builder, &item);
    assert_eq!(restored.left_out(&["a", "c", "d", "e"]).damaged, 4);
    assert_eq!(restored.paths(), ["b"]);
}

#[test]
fn content_nodes_that_repeat_without_end_are_bounded_by_the_length_they_claim() {
    // Twelve levels of 16,384 children each cover at least so many bytes: more than 64 bits hold.
    let mut builder = Builder::new();
    let mut below = ContentRef {
        id: builder.tree_chunk(&ContentNode::Leaf(vec![Extent::Zeros(1)]).encode()),
        len: 1,
        level: 0,
    };
    for level in 1..=4 {
        let node = ContentNode::Inner(level, vec![below; 16_384]);
        let id = builder.tree_chunk(&node.encode());
        below = ContentRef { id, len: below.len * 16_384, level };
    }
    let over = ContentNode::Inner(5, vec![below; 16_384]).encode();
    let id = builder.tree_chunk(&over);
    let lie = ContentRef { id, len: 1 << 20, level: 5 };
    let item = builder.tree(&[root(), file_with("a", lie.len, Content::Nodes(lie))]);
    let restored = restore(&mut builder, &item);
    assert_eq!(restored.left_out(&["a"]).damaged, 1);
}

#[test]
fn a_chunk_of_another_length_than_its_file_says_loses_its_file_alone() {
    let mut builder = Builder::new();
    let id = builder.data(b"ten bytes.");
    let records = [
        root(),
        file_of("a", vec![Extent::Chunk(id, 9)]),
        file_of("b", vec![Extent::Chunk(id, 10)]),
        file_of("c", vec![Extent::Chunk(id, 11)]),
        file_of("d", vec![Extent::Chunk(id, u32::MAX)]),
        file_of("e", vec![Extent::Chunk(id, 9), Extent::Chunk(id, 10)]),
    ];
    let item = builder.tree(&records);
    let restored = restore(&mut builder, &item);
    assert_eq!(restored.left_out(&["a", "c", "d", "e"]).damaged, 4);
    assert_eq!(restored.paths(), ["b"]);
}

#[test]
fn a_chunk_of_another_length_than_its_file_says_ends_a_tar_stream_as_damage() {
    for len in [9, 11] {
        let mut builder = Builder::new();
        let id = builder.data(b"ten bytes.");
        let item = builder.tree(&[root(), file_of("a", vec![Extent::Chunk(id, len)])]);
        let _ = builder.publish();
        let error = tar_of(&builder, &item).expect_err("it cannot be whole");
        assert!(matches!(error, OpsError::Repo(_)), "{}", chain(&error));
    }
}

#[test]
fn a_copy_of_another_length_never_takes_the_place_of_the_one_that_was_planned() {
    // An index with two places for one chunk: one of the length that the file claims, which is a
    // lie, and one where the chunk really lies. Neither may be written as those nine bytes.
    for claimed in [9, 11] {
        let mut builder = Builder::new();
        let id = builder.data(b"ten bytes.");
        let _ = builder.publish();
        let mut pack = builder.start_pack(PackKind::Data);
        pack.frame(vec![(id.prefix(), claimed)], &raw(&noise(1, 11)));
        let _ = builder.finish_pack(pack);
        let after = builder.data(b"after");
        let extents = vec![Extent::Chunk(id, claimed), Extent::Chunk(after, 5)];
        let item = builder.tree(&[root(), file_of("a", extents), builder_file("b")]);
        let restored = restore(&mut builder, &item);
        assert_eq!(restored.left_out(&["a"]).damaged, 1, "claimed {claimed}");
    }
}

fn builder_file(path: &str) -> RawRecord {
    file_of(path, Vec::new())
}

#[test]
fn a_place_of_the_wrong_length_is_passed_over_for_one_of_the_right_length() {
    let mut builder = Builder::new();
    let id = builder.data(b"ten bytes.");
    let _ = builder.publish();
    for claimed in [9, 11] {
        let mut pack = builder.start_pack(PackKind::Data);
        pack.frame(vec![(id.prefix(), claimed)], &raw(&noise(1, 11)));
        let _ = builder.finish_pack(pack);
        let _ = builder.publish();
    }
    let item = builder.tree(&[root(), file_of("a", vec![Extent::Chunk(id, 10)])]);
    let restored = restore(&mut builder, &item);
    let _ = restored.left_out(&[]);
    assert_eq!(text(&restored.beside.target().join("a")), "ten bytes.");
}

/// Three files in a pack each, `a`, `b` and `c`, and `ab` of chunks of two packs.
fn three_packs(builder: &mut Builder) -> (Vec<SegmentPack>, Item) {
    let mut packs = Vec::new();
    let mut records = vec![root()];
    let mut extents = Vec::new();
    for (seed, path) in [(1, "a"), (2, "b"), (3, "c")] {
        let content = noise(seed, 3000);
        let id: ChunkId = builder.chunk_id(PackKind::Data, &content);
        let mut pack = builder.start_pack(PackKind::Data);
        pack.frame(vec![(id.prefix(), 3000)], &raw(&content));
        let _ = builder.finish_pack(pack);
        packs.push(builder.packs.last().expect("just stored").clone());
        extents.push(Extent::Chunk(id, 3000));
        records.push(file_of(path, vec![Extent::Chunk(id, 3000)]));
    }
    records.insert(2, file_of("ab", extents[..2].to_vec()));
    let item = builder.tree(&records);
    (packs, item)
}

#[test]
fn a_damaged_pack_loses_its_files_by_name_and_no_other() {
    let flips: [fn(&mut Vec<u8>); 5] = [
        |bytes| bytes[1256] ^= 1,
        |bytes| bytes[1256 + 2000] ^= 0x80,
        |bytes| bytes[1256..].fill(0),
        |bytes| bytes.truncate(2000),
        Vec::clear,
    ];
    for (number, flip) in flips.into_iter().enumerate() {
        let mut builder = Builder::new();
        let (packs, item) = three_packs(&mut builder);
        assert!(builder.store.corrupt(&name(&pack_name(&packs[1].id)), flip));
        let restored = restore(&mut builder, &item);
        let report = restored.left_out(&["ab", "b"]);
        assert_eq!((report.damaged, restored.paths()), (2, vec!["a".to_owned(), "c".to_owned()]));
        for (seed, path) in [(1, "a"), (3, "c")] {
            let found = std::fs::read(restored.beside.target().join(path)).expect("it reads");
            assert_eq!(found, noise(seed, 3000), "case {number}");
        }
    }
}

#[test]
fn a_lost_pack_loses_its_files_by_name_and_no_other() {
    let mut builder = Builder::new();
    let (packs, item) = three_packs(&mut builder);
    let at = name(&pack_name(&packs[0].id));
    volume_vault::store::Store::delete(&builder.store, &at).expect("deleted");
    let restored = restore(&mut builder, &item);
    assert_eq!(restored.left_out(&["a", "ab"]).damaged, 2);
    assert_eq!(restored.paths(), ["b", "c"]);
}

#[test]
fn a_pack_in_the_place_of_another_loses_its_files_by_name_and_no_other() {
    let mut builder = Builder::new();
    let (packs, item) = three_packs(&mut builder);
    let other = builder.bytes(&name(&pack_name(&packs[2].id)));
    assert!(builder.store.corrupt(&name(&pack_name(&packs[1].id)), |bytes| *bytes = other));
    let restored = restore(&mut builder, &item);
    assert_eq!(restored.left_out(&["ab", "b"]).damaged, 2);
    assert_eq!(restored.paths(), ["a", "c"]);
}

#[test]
fn damage_ends_a_tar_stream_without_its_end_mark() {
    let mut builder = Builder::new();
    let (packs, item) = three_packs(&mut builder);
    let _ = builder.publish();
    assert!(tar_of(&builder, &item).is_ok());
    assert!(builder.store.corrupt(&name(&pack_name(&packs[1].id)), |bytes| bytes[1300] ^= 1));
    let error = tar_of(&builder, &item).expect_err("it is damaged");
    assert!(matches!(error, OpsError::Repo(_)), "{}", chain(&error));
}
