//! Frames that were moved, that lie about their length, and chunks under other names.

use std::sync::Arc;

use volume_vault::entry::Extent;
use volume_vault::format::{PackKind, SegmentPack, SegmentRecord};
use volume_vault::id::{ChunkId, PackId};
use volume_vault::repo::{ChunkReader, RepoError};

use super::{chain, reader, restore};
use crate::support::builder::{
    Builder, Pack, file_of, inner, len_of, name, noise, pack_name, raw, root,
};

/// Two chunks of equal length, each in a frame of its own, in a pack of this kind.
fn two_frames(builder: &mut Builder, kind: PackKind) -> ([ChunkId; 2], Pack) {
    let mut pack = builder.start_pack(kind);
    let ids = [1, 2].map(|seed| {
        let chunk = noise(seed, 500);
        let id = builder.chunk_id(kind, &chunk);
        pack.frame(vec![(id.prefix(), 500)], &raw(&chunk));
        id
    });
    (ids, pack)
}

/// Where a frame stands in its pack.
fn span(pack: &Pack, frame: usize) -> std::ops::Range<usize> {
    let (offset, entry) = pack.directory.placed().nth(frame).expect("it is there");
    let start = offset as usize;
    start..start + entry.stored_len as usize
}

fn error_of(reader: &Arc<ChunkReader>, kind: PackKind, id: &ChunkId) -> String {
    chain(&reader.read(kind, id).expect_err("it does not open"))
}

#[test]
fn f092_a_frame_at_another_place_of_its_pack_does_not_open() {
    let mut builder = Builder::new();
    let (ids, mut pack) = two_frames(&mut builder, PackKind::Data);
    let (one, two) = (span(&pack, 0), span(&pack, 1));
    let first = pack.bytes[one.clone()].to_vec();
    pack.bytes.copy_within(two.clone(), one.start);
    pack.bytes[two].copy_from_slice(&first);
    let _ = builder.finish_pack(pack);
    let _ = builder.publish();
    let reader = reader(&builder.open());
    for id in ids {
        let error = error_of(&reader, PackKind::Data, &id);
        assert!(error.contains("authentication failed"), "{error}");
    }
}

#[test]
fn f092_a_frame_of_another_pack_or_repository_does_not_open() {
    let mut stranger = Builder::new();
    let (_, foreign) = two_frames(&mut stranger, PackKind::Data);
    let mut builder = Builder::new();
    let (_, sibling) = two_frames(&mut builder, PackKind::Data);
    for other in [foreign, sibling] {
        let mut builder = Builder::new();
        let (ids, mut pack) = two_frames(&mut builder, PackKind::Data);
        let at = span(&pack, 0);
        let moved = other.bytes[span(&other, 0)].to_vec();
        pack.bytes[at].copy_from_slice(&moved);
        let _ = builder.finish_pack(pack);
        let _ = builder.publish();
        let reader = reader(&builder.open());
        let error = error_of(&reader, PackKind::Data, &ids[0]);
        assert!(error.contains("authentication failed"), "{error}");
        assert_eq!(reader.read(PackKind::Data, &ids[1]).expect("untouched"), noise(2, 500));
    }
}

#[test]
fn f092_a_pack_of_the_same_run_under_another_salt_does_not_open() {
    // The run's secret is the same, so only the salt tells one pack from the other.
    let mut builder = Builder::new();
    let (ids, one) = two_frames(&mut builder, PackKind::Data);
    let (_, two) = two_frames(&mut builder, PackKind::Data);
    let _ = builder.finish_pack(one);
    let mut named = builder.packs.pop().expect("it was stored");
    named.salt = two.salt;
    let seals = vec![builder.run.1.clone()];
    let _ = builder.segment(&SegmentRecord { seals, supersedes: Vec::new(), packs: vec![named] });
    let error = error_of(&reader(&builder.open()), PackKind::Data, &ids[0]);
    assert!(error.contains("authentication failed"), "{error}");
}

#[test]
fn f092_a_pack_passed_off_as_one_of_another_kind_does_not_open() {
    let mut builder = Builder::new();
    let (ids, pack) = two_frames(&mut builder, PackKind::Data);
    let _ = builder.finish_pack(pack);
    builder.packs[0].kind = PackKind::Tree;
    let _ = builder.publish();
    let reader = reader(&builder.open());
    for kind in [PackKind::Data, PackKind::Tree] {
        let error = error_of(&reader, kind, &ids[0]);
        assert!(error.contains("authentication failed"), "{error}");
    }
}

#[test]
fn f093_a_tree_cannot_be_read_as_data_nor_data_as_a_tree() {
    let mut builder = Builder::new();
    let node = crate::support::builder::encode_node(0, &[root()]);
    let as_tree = builder.tree_chunk(&node);
    let as_data = builder.data(&node);
    assert_ne!(as_tree, as_data, "the same bytes have another name as the other kind");
    let _ = builder.publish();
    let reader = reader(&builder.open());
    for (kind, id) in [(PackKind::Data, as_tree), (PackKind::Tree, as_data)] {
        let error = error_of(&reader, kind, &id);
        assert!(error.contains("has other content than its name says"), "{error}");
    }
}

#[test]
fn f093_a_file_made_of_a_tree_node_is_left_out_and_named() {
    let mut builder = Builder::new();
    let node = crate::support::builder::encode_node(0, &[root()]);
    let id = builder.tree_chunk(&node);
    let records =
        [root(), file_of("file", vec![Extent::Chunk(id, len_of(&node))]), builder.file("z", b"z")];
    let item = builder.tree(&records);
    let restored = restore(&mut builder, &item);
    let report = restored.left_out(&["file"]);
    assert_eq!((report.damaged, restored.paths()), (1, vec!["z".to_owned()]));
}

/// A repository with one file whose frame has this inside; what a restore says of the file.
fn restore_of_frame(len: u32, content: &[u8], inside: &[u8]) -> super::Restored {
    let mut builder = Builder::new();
    let id = builder.chunk_id(PackKind::Data, content);
    let mut pack = builder.start_pack(PackKind::Data);
    pack.frame(vec![(id.prefix(), len)], inside);
    let _ = builder.finish_pack(pack);
    let records = [root(), file_of("file", vec![Extent::Chunk(id, len)])];
    let item = builder.tree(&records);
    restore(&mut builder, &item)
}

#[test]
fn f099_a_zstd_bomb_expands_to_what_it_says_and_no_further() {
    // A thousand bytes of zstd that expand to a hundred megabytes of zeros.
    let bomb = zstd::bulk::compress(&vec![0; 100 << 20], 19).expect("compresses");
    assert!(bomb.len() < 20_000);
    let content = [0; 1000];
    for stated in [1000, 4 << 20] {
        let restored = restore_of_frame(1000, &content, &inner(1, stated, &bomb));
        assert_eq!(restored.left_out(&["file"]).damaged, 1);
        assert!(restored.warnings[0].message.contains("frame"), "{:?}", restored.warnings);
    }
    let restored = restore_of_frame(1000, &content, &inner(1, 100 << 20, &bomb));
    let _ = restored.left_out(&["file"]);
    let message = &restored.warnings[0].message;
    assert!(message.contains("claims 104857600 bytes"), "{message}");
}

#[test]
fn f099_a_zstd_window_of_2_gib_costs_nothing() {
    // No single segment, no stated size, a window of 2^31; one last RLE block of 1,000 zeros.
    let head = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3];
    let block = ((1000u32 << 3) | (1 << 1) | 1).to_le_bytes();
    let frame = [&head[..], &block[..3], &[0]].concat();
    let restored = restore_of_frame(1000, &[0; 1000], &inner(1, 1000, &frame));
    // Memory follows from the stated length, so there is nothing to refuse.
    let _ = restored.left_out(&[]);
    let found = std::fs::read(restored.beside.target().join("file")).expect("it reads");
    assert_eq!(found, [0; 1000]);
}

#[test]
fn f099_frames_of_another_length_than_stated_are_refused() {
    let content = noise(3, 1000);
    let good = zstd::bulk::compress(&content, 3).expect("compresses");
    // A frame header that states 2^62 bytes of content.
    let mut lying = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe0];
    lying.extend((1u64 << 62).to_le_bytes());
    lying.extend([1, 0, 0]);
    let cases = [
        inner(0, 999, &content),
        inner(0, 1001, &content),
        inner(0, u32::MAX, &content),
        inner(1, 999, &good),
        inner(1, 1001, &good),
        inner(1, u32::MAX, &good),
        inner(1, 1000, &good[..good.len() - 1]),
        inner(1, 1000, b""),
        inner(1, 1000, &lying),
        inner(2, 1000, &content),
        inner(255, 1000, &content),
        vec![0],
        Vec::new(),
    ];
    for (number, inside) in cases.iter().enumerate() {
        let restored = restore_of_frame(1000, &content, inside);
        assert_eq!(restored.left_out(&["file"]).damaged, 1, "case {number}");
        assert_eq!(restored.paths(), [""; 0], "case {number}");
    }
}

#[test]
fn f106_a_chunk_with_other_content_than_its_name_is_detected_and_its_pack_named() {
    let mut builder = Builder::new();
    let id = builder.chunk_id(PackKind::Data, b"what was saved");
    let mut pack = builder.start_pack(PackKind::Data);
    pack.frame(vec![(id.prefix(), 14)], &raw(b"what was forged"[..14].as_ref()));
    let pack = builder.finish_pack(pack);
    let records = [root(), file_of("file", vec![Extent::Chunk(id, 14)]), builder.file("z", b"z")];
    let item = builder.tree(&records);
    let restored = restore(&mut builder, &item);
    assert_eq!(restored.left_out(&["file"]).damaged, 1);
    assert_eq!(restored.paths(), ["z"]);
    let message = &restored.warnings[0].message;
    assert!(message.contains("other content than its name says"), "{message}");
    assert!(message.contains(&pack.short()), "{message} does not name pack {}", pack.short());
}

#[test]
fn f106_a_forged_chunk_is_passed_over_for_a_true_copy() {
    let mut builder = Builder::new();
    let id = builder.data(b"what was saved");
    let _ = builder.publish();
    let mut pack = builder.start_pack(PackKind::Data);
    pack.frame(vec![(id.prefix(), 14)], &raw(b"what was forge"));
    let _ = builder.finish_pack(pack);
    let item = builder.tree(&[root(), file_of("file", vec![Extent::Chunk(id, 14)])]);
    let restored = restore(&mut builder, &item);
    let _ = restored.left_out(&[]);
    assert_eq!(super::text(&restored.beside.target().join("file")), "what was saved");
}

#[test]
fn f106_a_frame_that_its_index_places_beyond_its_pack_is_damage_of_that_pack() {
    let mut builder = Builder::new();
    let (ids, pack) = two_frames(&mut builder, PackKind::Data);
    let id = builder.finish_pack(pack);
    let named: &mut SegmentPack = &mut builder.packs[0];
    named.directory.frames[1].stored_len += 1 << 20;
    let _ = builder.publish();
    let reader = reader(&builder.open());
    assert!(reader.read(PackKind::Data, &ids[0]).is_ok(), "the first frame is where it was");
    match reader.read(PackKind::Data, &ids[1]) {
        Err(RepoError::Frame { pack, .. }) => assert_eq!(pack, id),
        other => panic!("{other:?} does not name the pack"),
    }
}

#[test]
fn f106_a_pack_that_goes_while_it_is_read_is_damage_of_that_pack() {
    let mut builder = Builder::new();
    let (ids, pack) = two_frames(&mut builder, PackKind::Data);
    let id: PackId = builder.finish_pack(pack);
    let _ = builder.publish();
    let reader = reader(&builder.open());
    volume_vault::store::Store::delete(&builder.store, &name(&pack_name(&id))).expect("deleted");
    let error = reader.read(PackKind::Data, &ids[0]).expect_err("it is gone");
    assert!(matches!(&error, RepoError::Gone { pack } if *pack == id), "{}", chain(&error));
}
