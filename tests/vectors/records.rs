//! The documents inside objects.

use std::collections::BTreeMap;

use volume_vault::codec::ChunkerParams;
use volume_vault::crypto::{Key, RunSeal};
use volume_vault::format::{
    BackupFacts, Bootstrap, CondemnRecord, Config, ForgetKind, ForgetRecord, FrameEntry, HostFacts,
    Item, ItemKind, Method, OkRecord, Origin, PackDirectory, PackKind, PendingRecord, SegmentPack,
    SegmentRecord, SnapshotBody, StoreFacts, VolumeFacts, WarningFact,
};
use volume_vault::id::{ChunkId, ChunkPrefix, PackId, RecordHash, SegmentId, SnapshotId, WriterId};

use super::{REPOSITORY, Section};

const SNAPSHOT: SnapshotId = SnapshotId::new([0x51; 32]);

fn run_seal() -> RunSeal {
    RunSeal::from_slice(&[0x5e; RunSeal::LEN]).expect("its length is right")
}

fn directory() -> PackDirectory {
    let chunk = |byte, len| (ChunkPrefix::new([byte; 16]), len);
    PackDirectory {
        frames: vec![
            FrameEntry { stored_len: 300, chunks: vec![chunk(1, 127), chunk(2, 131_072)] },
            FrameEntry { stored_len: 1_000_000, chunks: vec![chunk(3, 999_000)] },
        ],
    }
}

fn body() -> SnapshotBody {
    let volume = Item {
        kind: ItemKind::Volume,
        name: "data".to_owned(),
        root: ChunkId::new([0xaa; 32]),
        root_level: 1,
        hints: Some((ChunkId::new([0xbb; 32]), 300, 0)),
        method: Method::HostPath,
        degraded: false,
        volume: Some(VolumeFacts {
            driver: "local".to_owned(),
            options: BTreeMap::from([("type".to_owned(), "tmpfs".to_owned())]),
            labels: BTreeMap::from([("a".to_owned(), "1".to_owned())]),
            scope: "local".to_owned(),
        }),
        facts: BackupFacts {
            entries: 1,
            bytes: 2,
            entries_new: 3,
            entries_changed: 4,
            entries_unchanged: 5,
            entries_skipped: 6,
            bytes_read: 7,
            bytes_new: 8,
            bytes_stored: 9,
        },
        warnings: vec![WarningFact {
            object: b"a/\xff".to_vec(),
            message: "cannot be read".to_owned(),
            skipped: true,
        }],
        in_use_by: vec!["web".to_owned()],
    };
    let stream = Item {
        kind: ItemKind::Stream,
        name: "dump.sql".to_owned(),
        hints: None,
        method: Method::Stream,
        degraded: true,
        volume: None,
        warnings: Vec::new(),
        in_use_by: Vec::new(),
        ..volume.clone()
    };
    SnapshotBody {
        seconds: 1_700_000_000,
        nanos: 5,
        host: HostFacts {
            name: "host".to_owned(),
            engine_id: None,
            engine_version: Some("29.0.0".to_owned()),
        },
        tags: vec!["nightly".to_owned()],
        items: vec![volume, stream],
        program: "vault 0.1.0".to_owned(),
        salvaged: None,
        copied: None,
    }
}

#[test]
fn documents_are_written_as_before() {
    let mut section = Section::open("documents");
    let bootstrap = Bootstrap { repository: REPOSITORY, read_only_because: None }.encode();
    section.is("vault.json", String::from_utf8(bootstrap).expect("JSON is UTF-8"));
    let chunker = ChunkerParams::DEFAULT;
    let config = Config { sequence: 1, chunker, features: Vec::new(), store: None };
    section.bytes("config", &config.encode());
    let seen = StoreFacts {
        tried: 1_700_000_000,
        lists_written: true,
        lists_many: Some(true),
        creates_once: Some(false),
    };
    let next = Config::amended(&config.encode(), 2, &seen).expect("it reads");
    section.bytes("config, store tried", &next);
    let forget = ForgetRecord {
        snapshot: SNAPSHOT,
        kind: ForgetKind::Expire,
        writer: WriterId::new([6; 16]),
        sequence: 9,
        record: RecordHash::new([8; 32]),
        round: 0,
    };
    section.bytes("forget", &forget.encode());
    let back = ForgetRecord { kind: ForgetKind::Undo, round: 3, ..forget };
    section.bytes("forget, taken back", &back.encode());
    assert_eq!(ForgetRecord::decode(&back.encode()).expect("it reads"), back);
    let condemn = CondemnRecord {
        packs: vec![PackId::new([1; 32]), PackId::new([2; 32])],
        segments: vec![SegmentId::new([3; 32])],
    };
    section.bytes("condemn", &condemn.encode());
    let ok = OkRecord { snapshot: SNAPSHOT, pending: RecordHash::new([4; 32]) };
    section.bytes("ok", &ok.encode());
    for (name, previous) in [("first pending", None), ("pending", Some([5; 32]))] {
        let record = PendingRecord {
            snapshot: SNAPSHOT,
            writer: WriterId::new([6; 16]),
            sequence: 1 + u64::from(previous.is_some()),
            previous: previous.map(RecordHash::new),
            seal: run_seal(),
            body: vec![7; 3],
        };
        section.bytes(name, &record.encode());
        assert_eq!(PendingRecord::decode(&record.encode()).expect("it reads"), record);
    }
    section.bytes("body", &minicbor::to_vec(body()).expect("memory takes all"));
    let copied = Some(Origin {
        repository: REPOSITORY,
        snapshot: SNAPSHOT,
        seconds: 1_700_000_100,
        nanos: 6,
    });
    let copy = SnapshotBody { items: Vec::new(), copied, ..body() };
    let bytes = minicbor::to_vec(&copy).expect("memory takes all");
    section.bytes("body, of a copy", &bytes);
    assert_eq!(minicbor::decode::<SnapshotBody>(&bytes).expect("it reads"), copy);
    section.finish();
}

#[test]
fn bodies_open_for_ever() {
    let mut section = Section::open("sealed body");
    let secret = Key::new([0x33; 32]);
    let sealed = section.kept("run secret 33…, snapshot 51…", || {
        body().seal(&secret, &SNAPSHOT).expect("randomness")
    });
    assert_eq!(SnapshotBody::open(&secret, &SNAPSHOT, &sealed).expect("it opens"), body());
    section.finish();
}

#[test]
fn segments_are_written_as_before() {
    let mut section = Section::open("segment");
    section.bytes("directory", &directory().encode());
    let record = SegmentRecord {
        seals: vec![run_seal()],
        supersedes: vec![SegmentId::new([3; 32])],
        packs: vec![SegmentPack {
            id: PackId::new([8; 32]),
            kind: PackKind::Tree,
            size: 1_048_576,
            seal: 0,
            salt: [9; 32],
            directory: directory(),
        }],
    };
    section.bytes("message", &record.encode());
    assert_eq!(SegmentRecord::decode(&record.encode()).expect("it reads"), record);
    section.finish();
}
