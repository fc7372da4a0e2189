//! Numbers at the end of their range in everything that is parsed.
//!
//! Arithmetic that overflows panics in this build, so coming back at all is most of the proof.

use std::collections::BTreeMap;

use volume_vault::codec::WireReader;
use volume_vault::crypto::{Key, RunSeal};
use volume_vault::entry::{EntryPath, Extent, Hint, Kind};
use volume_vault::format::{
    BackupFacts, CondemnRecord, Config, Content, ContentNode, ContentRef, ForgetKind, ForgetRecord,
    FrameEntry, HintsReader, HintsWriter, OkRecord, PackDirectory, PackHeader, PackKind,
    PendingRecord, SegmentPack, SegmentRecord, SnapshotBody, Stored, TreeNode, VolumeFacts,
    split_trailer,
};
use volume_vault::id::{ChunkId, ChunkPrefix, PackId, RecordHash, SegmentId, SnapshotId, WriterId};

use super::{chain, restore};
use crate::support::builder::{
    Builder, TIME, child, encode_node, entry, file_of, item, noise, raw, root, value,
};

/// Varints at the ends of ranges, and one that is too long.
fn varints() -> Vec<Vec<u8>> {
    let mut forms: Vec<Vec<u8>> = [0, 1, 0x7f, 0x80, 1 << 16, 1 << 20, 1 << 22, 1 << 26]
        .into_iter()
        .chain([(1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 62, u64::MAX - 1, u64::MAX])
        .map(|number| {
            let mut bytes = Vec::new();
            volume_vault::codec::put_varint(&mut bytes, number);
            bytes
        })
        .collect();
    forms.push(vec![0xff; 11]);
    forms.push(vec![0x80, 0]);
    forms
}

/// CBOR heads that announce far more than is there, and the greatest numbers.
fn cbor_heads() -> Vec<Vec<u8>> {
    [0x1b, 0x3b, 0x5b, 0x7b, 0x9b, 0xbb, 0xdb]
        .into_iter()
        .flat_map(|head| {
            let with = |argument: u64| {
                let mut bytes = vec![head];
                // CBOR is written big end first.
                bytes.extend(argument.swap_bytes().to_le_bytes());
                bytes
            };
            [with(u64::MAX), with(1 << 40), with((1 << 32) - 1)]
        })
        .chain([vec![0x9f], vec![0xbf], vec![0x5f], vec![0xff]])
        .collect()
}

/// Puts each form in the place of every byte, and before it; `parse` must come back each time.
fn splice(good: &[u8], forms: &[Vec<u8>], parse: &dyn Fn(&[u8])) {
    for at in 0..=good.len() {
        for form in forms {
            parse(&[&good[..at], form, &good[at..]].concat());
            if at < good.len() {
                parse(&[&good[..at], form, &good[at + 1..]].concat());
            }
        }
    }
}

fn directory() -> PackDirectory {
    let chunk = |number| (ChunkPrefix::new([number; 16]), u32::from(number));
    let frame = |stored_len, chunks| FrameEntry { stored_len, chunks };
    PackDirectory { frames: vec![frame(99, vec![chunk(1), chunk(2)]), frame(700, vec![chunk(3)])] }
}

fn segment(directory: PackDirectory) -> SegmentRecord {
    let (id, salt, kind) = (PackId::new([2; 32]), [3; 32], PackKind::Data);
    SegmentRecord {
        seals: vec![RunSeal::from_slice(&[4; RunSeal::LEN]).expect("a seal")],
        supersedes: vec![SegmentId::new([1; 32])],
        packs: vec![SegmentPack { id, kind, size: 9000, seal: 0, salt, directory }],
    }
}

fn parse_hints(bytes: &[u8]) {
    let mut hints = HintsReader::new(bytes.to_vec());
    while !hints.is_done() && hints.next().is_ok() {}
}

#[test]
fn f100_no_number_in_a_directory_or_segment_overflows() {
    splice(&directory().encode(), &varints(), &|bytes| {
        if let Ok(directory) = PackDirectory::decode(&mut WireReader::new(bytes)) {
            let ends = directory.placed().map(|(at, f)| u64::from(at) + u64::from(f.stored_len));
            assert!(ends.max().is_none_or(|end| end <= 64 << 20), "frames beyond any pack");
            for frame in &directory.frames {
                let len: u64 = frame.chunks.iter().map(|(_, len)| u64::from(*len)).sum();
                assert!(len <= 4 << 20, "chunks beyond any frame");
            }
        }
    });
    let good = segment(directory()).encode();
    // The seal and the ids are opaque: all else is spliced.
    let opaque = 1 + RunSeal::LEN;
    splice(&good[opaque..], &varints(), &|rest| {
        let bytes = [&good[..opaque], rest].concat();
        if let Ok(record) = SegmentRecord::decode(&bytes) {
            assert!(record.packs.iter().all(|pack| pack.seal < record.seals.len()));
        }
    });
    for counts in varints() {
        let _ = SegmentRecord::decode(&counts);
    }
}

#[test]
fn f100_no_number_in_a_node_or_entry_overflows() {
    let chunk = Extent::Chunk(ChunkId::new([5; 32]), 70_000);
    let extents = vec![chunk, Extent::Zeros(70_000), chunk];
    let (_, file) = file_of("", extents.clone());
    let nodes = ContentRef { id: ChunkId::new([6; 32]), len: 200_000, level: 3 };
    let sparse = Kind::File { size: 200_000, sparse: true };
    let large = value(entry(sparse), Content::Nodes(nodes));
    let device = value(entry(Kind::CharDevice { major: 1, minor: 300 }), Content::empty());
    let link = crate::support::builder::link("", "a/b", Kind::Fifo).1;
    let mut with_xattrs = entry(Kind::Directory);
    with_xattrs.xattrs =
        vec![volume_vault::entry::Xattr { name: b"user.a".to_vec(), value: b"value".to_vec() }];
    let with_xattrs = value(with_xattrs, Content::empty());
    for good in [&file, &large, &device, &link, &with_xattrs] {
        assert!(Stored::decode(good).is_ok());
        splice(good, &varints(), &|bytes| {
            if let Ok(Stored { entry, content: Content::Inline(extents) }) = Stored::decode(bytes) {
                let len = extents.iter().try_fold(0u64, |sum, e| sum.checked_add(e.len()));
                assert_eq!(len, Some(entry.content_len()), "content is as long as the file");
            }
        });
    }
    let leaf = encode_node(0, &[root(), (b"a".to_vec(), file), (b"a\0b".to_vec(), device)]);
    let inner = encode_node(1, &[(Vec::new(), child(ChunkId::new([1; 32]), 2))]);
    for (level, good) in [(0, leaf), (1, inner)] {
        assert!(TreeNode::decode(level, &good).is_ok());
        splice(&good, &varints(), &|bytes| _ = TreeNode::decode(level, bytes));
    }
    let below = |len| ContentRef { id: ChunkId::new([8; 32]), len, level: 0 };
    for (level, len, good) in [
        (0, 210_000, ContentNode::Leaf(extents)),
        (1, 9, ContentNode::Inner(1, vec![below(4), below(5)])),
    ] {
        for len in [len, 0, u64::MAX] {
            let node = ContentRef { len, level, ..below(0) };
            splice(&good.encode(), &varints(), &|bytes| _ = ContentNode::decode(&node, bytes));
        }
    }
}

#[test]
fn f100_no_number_in_hints_overflows() {
    let mut writer = HintsWriter::default();
    for inode in [1, u64::MAX, 0] {
        writer.push(Some(Hint { inode, ctime: TIME }));
        writer.push(None);
    }
    splice(&writer.take_block(), &varints(), &parse_hints);
}

#[test]
fn f100_no_number_in_a_record_overflows() {
    let heads = cbor_heads();
    let (snapshot, writer) = (SnapshotId::new([1; 32]), WriterId::new([2; 16]));
    let record = RecordHash::new([3; 32]);
    let forget =
        ForgetRecord { snapshot, kind: ForgetKind::Expire, writer, sequence: 9, record, round: 0 };
    splice(&forget.encode(), &heads, &|bytes| _ = ForgetRecord::decode(bytes));
    let ok = OkRecord { snapshot, pending: record };
    splice(&ok.encode(), &heads, &|bytes| _ = OkRecord::decode(bytes));
    let condemn = CondemnRecord {
        packs: vec![PackId::new([1; 32])],
        segments: vec![SegmentId::new([2; 32])],
    };
    splice(&condemn.encode(), &heads, &|bytes| _ = CondemnRecord::decode(bytes));
    let builder = Builder::new();
    let config: Config = builder.open().config().clone();
    splice(&config.encode(), &heads, &|bytes| _ = Config::decode(bytes));
    let pending = PendingRecord {
        snapshot,
        writer,
        sequence: 3,
        previous: Some(record),
        seal: builder.run.1.clone(),
        body: vec![1, 2, 3],
    };
    let good = pending.encode();
    // The run seal makes it long: its inside is opaque, so what stands around it is spliced.
    let (front, back) = (good.len() - RunSeal::LEN - 8, good.len() - 6);
    splice(&good[..front], &heads, &|bytes| {
        _ = PendingRecord::decode(&[bytes, &good[front..]].concat());
    });
    splice(&good[back..], &heads, &|bytes| {
        _ = PendingRecord::decode(&[&good[..back], bytes].concat());
    });
}

#[test]
fn f100_no_number_in_the_body_of_a_snapshot_overflows() {
    let builder = Builder::new();
    let mut whole = item(ChunkId::new([1; 32]), 3);
    whole.hints = Some((ChunkId::new([2; 32]), 77, 1));
    whole.volume = Some(VolumeFacts {
        driver: "local".to_owned(),
        options: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
        labels: BTreeMap::new(),
        scope: "local".to_owned(),
    });
    let body = builder.body(vec![whole]);
    let id = SnapshotId::new([9; 32]);
    let run = Key::new([7; 32]);
    let sealed = body.seal(&run, &id).expect("randomness");
    assert_eq!(SnapshotBody::open(&run, &id, &sealed).expect("it opens"), body);
    let key = run.derive(volume_vault::crypto::Purpose::RecordBody, b"");
    let good = volume_vault::crypto::open(&key, &sealed, id.as_bytes()).expect("it opens");
    splice(&good, &cbor_heads(), &|bytes| {
        let mut plaintext = volume_vault::crypto::Plaintext::with_capacity(bytes.len());
        plaintext.extend(bytes);
        let sealed = volume_vault::crypto::seal(&key, plaintext, id.as_bytes());
        let sealed = sealed.expect("randomness");
        let _ = SnapshotBody::open(&run, &id, sealed.as_bytes());
    });
}

#[test]
fn f100_the_footer_of_a_pack_cannot_point_beyond_it() {
    let builder = Builder::new();
    let mut pack = builder.start_pack(PackKind::Data);
    pack.frame(vec![(ChunkPrefix::new([1; 16]), 4)], &raw(b"data"));
    let trailer = volume_vault::format::seal_trailer(
        &pack.key,
        &pack.header,
        u32::try_from(pack.bytes.len()).expect("short"),
        &pack.directory.encode(),
    );
    let trailer = trailer.expect("randomness").to_vec();
    let good = [pack.bytes.clone(), trailer].concat();
    let split = |len: u64, tail: &[u8]| split_trailer(&pack.key, &pack.header, len, tail);
    let opened = split(good.len() as u64, &good[PackHeader::LEN..]).expect("it opens");
    assert_eq!(opened.expect("the tail is whole"), pack.directory);
    for claimed in [0, 1, u32::MAX, u32::MAX - 8, 1 << 31, 64 << 20] {
        let mut lying = good.clone();
        let at = lying.len() - 8;
        lying[at..at + 4].copy_from_slice(&u32::to_le_bytes(claimed));
        for len in [0, 7, lying.len() as u64, 64 << 20, (64 << 20) + 1, 1 << 32, u64::MAX] {
            match split(len, &lying) {
                Ok(Ok(_)) => panic!("a directory of {claimed} bytes in a pack of {len}"),
                Ok(Err(needed)) => assert!(needed as u64 <= len && needed <= 64 << 20, "{needed}"),
                Err(_) => {}
            }
        }
    }
}

#[test]
fn f100_a_directory_that_disagrees_with_its_pack_is_refused() {
    let builder = Builder::new();
    let open = |frames: Vec<FrameEntry>| {
        let mut pack = builder.start_pack(PackKind::Data);
        pack.frame(vec![(ChunkPrefix::new([1; 16]), 4)], &raw(b"data"));
        let at = u32::try_from(pack.bytes.len()).expect("short");
        let message = PackDirectory { frames }.encode();
        let trailer = volume_vault::format::seal_trailer(&pack.key, &pack.header, at, &message);
        pack.bytes.extend(trailer.expect("randomness").to_vec());
        split_trailer(&pack.key, &pack.header, pack.bytes.len() as u64, &pack.bytes)
    };
    let frame = |stored_len| FrameEntry { stored_len, chunks: Vec::new() };
    assert!(matches!(open(vec![frame(49)]), Ok(Ok(_))), "a frame of 4 bytes takes 49");
    for lie in [vec![], vec![frame(48)], vec![frame(50)], vec![frame(49), frame(1)]] {
        assert!(open(lie.clone()).is_err(), "{lie:?}");
    }
}

#[test]
fn f100_a_segment_that_overflows_is_named_by_the_index() {
    let builder = Builder::new();
    let frame =
        |stored_len, len| FrameEntry { stored_len, chunks: vec![(ChunkPrefix::new([1; 16]), len)] };
    for frames in [
        vec![frame(u32::MAX, 1)],
        vec![frame(1, u32::MAX)],
        vec![frame(60 << 20, 1), frame(60 << 20, 1)],
        vec![
            frame(1, 4 << 20),
            FrameEntry {
                stored_len: 1,
                chunks: vec![
                    (ChunkPrefix::new([1; 16]), 3 << 20),
                    (ChunkPrefix::new([2; 16]), 3 << 20),
                ],
            },
        ],
    ] {
        let id = builder.segment(&segment(PackDirectory { frames }));
        let said = chain(&builder.open().load_index().expect_err("it is refused"));
        assert!(said.contains(&id.to_string()) && said.contains("is damaged"), "{said}");
        let at = crate::support::builder::name(&format!("index/{id}"));
        volume_vault::store::Store::delete(&builder.store, &at).expect("deleted");
    }
}

#[test]
fn f100_sizes_that_add_up_beyond_64_bits_are_no_panic() {
    let mut builder = Builder::new();
    let most = (1 << 63) - 1;
    let zeros = |path: &str| {
        let kind = Kind::File { size: most, sparse: false };
        let path = EntryPath::from_slashed(path.as_bytes()).expect("a path");
        let content = Content::Inline(vec![Extent::Zeros(most)]);
        (path.as_key().to_vec(), value(entry(kind), content))
    };
    let records = [root(), zeros("a"), zeros("b"), zeros("c"), builder.file("d", b"d")];
    let item = builder.tree(&records);
    let restored = restore(&mut builder, &item);
    // No file system has such files: they are named and left out, and nothing is damaged.
    let report = restored.left_out(&["a", "b", "c"]);
    assert_eq!((report.damaged, restored.paths()), (0, vec!["d".to_owned()]));
}

#[test]
fn f100_figures_at_the_end_of_their_range_are_only_shown() {
    let mut builder = Builder::new();
    let records = [root(), builder.file("d", &noise(1, 100))];
    let mut item = builder.tree(&records);
    let most = u64::MAX;
    item.facts = BackupFacts {
        entries: most,
        bytes: most,
        entries_new: most,
        entries_changed: most,
        entries_unchanged: most,
        entries_skipped: most,
        bytes_read: most,
        bytes_new: most,
        bytes_stored: most,
    };
    item.hints = Some((ChunkId::new([1; 32]), most, 255));
    let restored = restore(&mut builder, &item);
    let _ = restored.left_out(&[]);
}
