//! How tables are kept few, while a run adds to them and while segments are taken in.

use super::*;
use crate::format::{PackDirectory, SegmentPack};

/// Enough for tables to be merged more than once while they are added.
const SEGMENTS: u8 = 200;

fn id(number: u8) -> ChunkId {
    ChunkId::new(digest(&[number]))
}

fn segment(number: u8) -> (SegmentId, SegmentRecord) {
    let chunks = vec![(id(number).prefix(), 9)];
    let pack = SegmentPack {
        id: PackId::new([number; 32]),
        kind: PackKind::Data,
        size: 99,
        seal: 0,
        salt: [number; 32],
        directory: PackDirectory { frames: vec![FrameEntry { stored_len: 50, chunks }] },
    };
    let seal = RunSeal::from_slice(&[number; RunSeal::LEN]).expect("a seal");
    let record = SegmentRecord { seals: vec![seal], supersedes: Vec::new(), packs: vec![pack] };
    (SegmentId::new([number; 32]), record)
}

fn listing() -> Listing {
    Listing {
        segments: (0..SEGMENTS).map(|n| segment(n).0).collect(),
        packs: (0..SEGMENTS).map(|n| (PackId::new([n; 32]), 99)).collect(),
        ..Listing::default()
    }
}

fn assert_finds_all(index: &Index) {
    for number in 0..SEGMENTS {
        let place = index.find(&id(number)).expect("it reads").expect("it is there");
        assert_eq!(index.pack(place.pack).id, PackId::new([number; 32]));
    }
}

#[test]
fn a_run_of_many_segments_has_few_tables_and_the_next_one_needs_no_segment() {
    let dir = tempfile::tempdir().expect("a directory");
    let index = Index::load(dir.path(), &Listing::default(), |_| Err(RepoError::Worker));
    let index = index.expect("it is empty");
    for number in 0..SEGMENTS {
        let (id, record) = segment(number);
        index.add_segment(id, &record).expect("it is added");
        assert!(index.read().tables.len() <= TABLES_OPEN_MAX);
    }
    assert_finds_all(&index);
    let tables = std::fs::read_dir(dir.path()).expect("lists").count();
    assert_eq!(tables, index.read().tables.len(), "merged tables leave no file behind");
    let next = Index::load(dir.path(), &listing(), |_| Err(RepoError::Worker));
    assert_finds_all(&next.expect("everything is in the tables"));
}

#[test]
fn many_segments_taken_in_at_once_are_never_all_open() {
    let dir = tempfile::tempdir().expect("a directory");
    let most = std::cell::Cell::new(0);
    let index = Index::load(dir.path(), &listing(), |wanted| {
        let tables = std::fs::read_dir(dir.path()).expect("lists").count();
        most.set(most.get().max(tables));
        Ok((0..SEGMENTS).map(segment).find(|(id, _)| id == wanted).expect("listed").1)
    });
    let index = index.expect("it loads");
    assert!(most.get() <= TABLES_OPEN_MAX, "{} tables", most.get());
    assert!(index.read().tables.len() <= TABLES_MAX);
    assert_finds_all(&index);
}
