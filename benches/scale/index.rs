//! The index of a repository of so many chunks: taken in from its segments, opened, asked.
//!
//! Segments are made as a run makes them: one for 64 packs of 32 MiB. The packs themselves would be
//! terabytes; the store only lists them, which is all that an index asks of it.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use volume_vault::crypto::{Purpose, RestoreKey, Signer, digest};
use volume_vault::format::{
    FrameEntry, ObjectKind, PackDirectory, PackKind, SegmentPack, SegmentRecord, seal_object,
};
use volume_vault::id::{ChunkId, ChunkPrefix, PackId};
use volume_vault::repo::{Index, Repository};
use volume_vault::store::{Listed, LocalStore, ObjectName, Store, StoreError};

use crate::world::{Phases, World, scramble};

/// Chunks of 32 KiB in a pack of 32 MiB, in a frame of 1 MiB, and packs in a segment.
const PACK_CHUNKS: u64 = 1024;
const FRAME_CHUNKS: u64 = 32;
const SEGMENT_PACKS: u64 = 64;
const PACK_LEN: u64 = 32 << 20;

const LOOKUPS: u64 = 1_000_000;

/// So many segments of one pack come after the index was opened.
const NEW_SEGMENTS: u64 = 9;

pub(crate) fn measure(dir: &Path, size: u64) -> Value {
    let world = World::new(dir);
    let mut phases = Phases::default();
    let packs = size.div_ceil(PACK_CHUNKS);
    let shown = |packs| Arc::new(Shown { store: world.store.clone(), packs });
    let plain = world.open(world.store.clone());
    phases.run("segments", || {
        for first in (0..packs).step_by(as_usize(SEGMENT_PACKS)) {
            let last = packs.min(first + SEGMENT_PACKS);
            put_segment(&plain, &world.store, first..last, size);
        }
    });
    let repo = world.open(shown(packs));
    let index = phases.run("take_in", || repo.load_index().expect("it loads"));
    drop(index);
    let index = phases.run("open", || repo.load_index().expect("it loads"));
    let found = phases.run("find", || count_found(&index, |n| scramble(n) % size));
    assert_eq!(found, LOOKUPS, "every chunk is found");
    let found = phases.run("miss", || count_found(&index, |n| size + (1 << 40) + n));
    assert_eq!(found, 0, "nothing else is");
    for name in ["find", "miss"] {
        phases.note(name, "lookups", LOOKUPS);
    }
    let mut scanned = 0;
    phases.run("merged_scan", || {
        let scan = index.scan_sorted(|_, _| {
            scanned += 1;
            Ok(())
        });
        scan.expect("it reads");
    });
    assert_eq!(scanned, size);
    drop(index);
    let more = packs + NEW_SEGMENTS;
    for number in packs..more {
        put_segment(&plain, &world.store, number..number + 1, more * PACK_CHUNKS);
    }
    let repo = world.open(shown(more));
    let index = phases.run("take_in_more", || repo.load_index().expect("it loads"));
    phases.note("take_in_more", "segments", NEW_SEGMENTS);
    assert!(index.find(&chunk_id((more - 1) * PACK_CHUNKS)).expect("reads").is_some());
    phases.finish()
}

fn count_found(index: &Index, number: impl Fn(u64) -> u64) -> u64 {
    let found = |n: &u64| index.find(&chunk_id(number(*n))).expect("it reads").is_some();
    (0..LOOKUPS).filter(found).count() as u64
}

fn chunk_id(number: u64) -> ChunkId {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&scramble(2 * number).to_le_bytes());
    id[8..16].copy_from_slice(&scramble(2 * number + 1).to_le_bytes());
    ChunkId::new(id)
}

fn pack_id(number: u64) -> PackId {
    PackId::new(digest(&number.to_le_bytes()))
}

/// Stores the segment of some packs, as a run that stored them would have.
fn put_segment(repo: &Repository, store: &LocalStore, packs: std::ops::Range<u64>, chunks: u64) {
    let master = repo.master();
    let derive = |purpose| master.derive(purpose, b"");
    let psk = derive(Purpose::RunSealPsk);
    let restore = RestoreKey::from_seed(&derive(Purpose::RestoreKeySeed), psk);
    let (_, seal) = restore.public().seal(repo.id().as_bytes()).expect("randomness");
    let packs = packs.map(|number| pack(number, chunks)).collect();
    let record = SegmentRecord { seals: vec![seal], supersedes: Vec::new(), packs };
    let signer = Signer::from_seed(&derive(Purpose::OwnerSigningSeed));
    let shared = derive(Purpose::SharedObject);
    let kind = ObjectKind::Segment;
    let sealed = seal_object(kind, &repo.id(), &shared, &signer, &record.encode());
    let payload = sealed.expect("randomness");
    let id = volume_vault::id::SegmentId::new(digest(&payload.to_vec()));
    store.put(&name(&format!("index/{id}")), &payload).expect("it is stored");
}

fn pack(number: u64, chunks: u64) -> SegmentPack {
    let first = number * PACK_CHUNKS;
    let numbers: Vec<u64> = (first..chunks.min(first + PACK_CHUNKS)).collect();
    let chunk = |n: &u64| (prefix(*n), 32 << 10);
    let frame = |numbers: &[u64]| FrameEntry {
        stored_len: 500 << 10,
        chunks: numbers.iter().map(chunk).collect(),
    };
    let frames = numbers.chunks(as_usize(FRAME_CHUNKS)).map(frame).collect();
    SegmentPack {
        id: pack_id(number),
        kind: PackKind::Data,
        size: PACK_LEN,
        seal: 0,
        salt: digest(&number.to_be_bytes()),
        directory: PackDirectory { frames },
    }
}

fn prefix(number: u64) -> ChunkPrefix {
    chunk_id(number).prefix()
}

fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).expect("a name")
}

fn as_usize(number: u64) -> usize {
    usize::try_from(number).expect("it fits")
}

/// A store that also lists packs which nobody will read.
#[derive(Debug)]
struct Shown {
    store: Arc<LocalStore>,
    packs: u64,
}

impl Store for Shown {
    fn location(&self) -> String {
        self.store.location()
    }

    fn put(
        &self,
        name: &ObjectName,
        payload: &volume_vault::crypto::Payload,
    ) -> Result<(), StoreError> {
        self.store.put(name, payload)
    }

    fn get(&self, name: &ObjectName, size_max: u64) -> Result<Vec<u8>, StoreError> {
        self.store.get(name, size_max)
    }

    fn get_range(
        &self,
        name: &ObjectName,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StoreError> {
        self.store.get_range(name, offset, buffer)
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        if folder != "packs" {
            return self.store.list(folder);
        }
        let mut listed: Vec<_> = (0..self.packs)
            .map(|number| {
                let id = pack_id(number).to_string();
                let name = name(&format!("packs/{}/{id}", &id[..2]));
                Listed { name, size: PACK_LEN, modified: Default::default() }
            })
            .collect();
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.store.delete(name)
    }
}
