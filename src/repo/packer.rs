//! From frames to stored packs.
//!
//! One thread takes compressed frames in order and gives each its place in an open pack; sealing
//! and checking go to the processor threads; a second thread waits for a full pack's frames, stores
//! the pack, and publishes an index segment now and then, so that an interrupted run has not
//! worked in vain. Nothing is checked from a copy: a frame is opened, expanded and hashed from the
//! very bytes that are sent.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::error::RepoError;
use super::index::{Index, segment_id};
use super::index_table::TablePack;
use super::layout;
use super::repository::Repository;
use crate::clock::Stopwatch;
use crate::codec::padding_at;
use crate::crypto::{Hasher, Key, Payload, RunSeal, Sealed};
use crate::format::{
    FrameEntry, FramePlaintext, ObjectKind, OpenedFrame, PACK_CHUNKS_MAX, PACK_FRAMES_MAX,
    PackDirectory, PackHeader, PackKind, SegmentPack, SegmentRecord, seal_frame, seal_trailer,
};
use crate::id::{ChunkId, PackId};

/// A segment is published after so many packs, chunks or seconds, whichever comes first.
const SEGMENT_PACKS: usize = 64;
const SEGMENT_CHUNKS: usize = 1 << 18;
const SEGMENT_SECONDS: u64 = 30;

/// A pack is full from this part of its target on, as soon as padding would cost little there.
const FULL_FROM: u64 = 3;

/// A frame on its way: its chunks, and its content when it is compressed.
pub(super) struct FrameJob {
    pub(super) kind: PackKind,
    pub(super) chunks: Vec<(ChunkId, u32)>,
    pub(super) content: Receiver<Result<FramePlaintext, RepoError>>,
}

/// What the packs of a run have in common.
#[derive(Clone)]
pub(super) struct RunKeys {
    pub(super) secret: Key,
    pub(super) seal: RunSeal,
}

/// How packs are made.
#[derive(Debug, Clone, Copy)]
pub(super) struct PackerOptions {
    /// The size data packs are filled to, in bytes.
    pub(super) data_target: u64,
    /// The size tree packs are filled to, in bytes.
    pub(super) tree_target: u64,
    /// Whether every frame is opened and hashed before it is sent.
    pub(super) verify: bool,
}

/// A pack that is being filled.
struct OpenPack {
    header: Arc<PackHeader>,
    key: Key,
    frames: Vec<FrameEntry>,
    sealed: Vec<Receiver<Result<Sealed, RepoError>>>,
    offset: u32,
    directory_len: u64,
    chunks: usize,
}

/// What was stored by a run.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stored {
    /// Bytes of packs and segments.
    pub(super) bytes: u64,
    /// Number of packs.
    pub(super) packs: u64,
}

/// Gives frames their places until the channel closes, and hands full packs on.
pub(super) fn pack_frames(
    repo: &Arc<Repository>,
    run: &RunKeys,
    options: PackerOptions,
    frames: &Receiver<FrameJob>,
    packs: &Sender<FullPack>,
) -> Result<(), RepoError> {
    let mut open: [Option<OpenPack>; 2] = [None, None];
    for job in frames {
        let content = job.content.recv().map_err(|_| RepoError::Worker)??;
        let slot = &mut open[usize::from(job.kind == PackKind::Tree)];
        let target = match job.kind {
            PackKind::Data => options.data_target,
            PackKind::Tree => options.tree_target,
        };
        let entry = FrameEntry {
            stored_len: content.sealed_len(),
            chunks: job.chunks.iter().map(|(id, len)| (id.prefix(), *len)).collect(),
        };
        if let Some(pack) = slot.take_if(|pack| !pack.takes(&entry, target)) {
            packs.send(pack.close()).map_err(|_| RepoError::Worker)?;
        }
        let pack = match slot {
            Some(pack) => pack,
            None => slot.insert(OpenPack::start(job.kind, repo, run)?),
        };
        pack.push(repo, entry, job.chunks, content, options.verify);
        if let Some(pack) = slot.take_if(|pack| pack.is_full(target)) {
            packs.send(pack.close()).map_err(|_| RepoError::Worker)?;
        }
    }
    for pack in open.into_iter().flatten() {
        packs.send(pack.close()).map_err(|_| RepoError::Worker)?;
    }
    Ok(())
}

impl OpenPack {
    fn start(kind: PackKind, repo: &Repository, run: &RunKeys) -> Result<Self, RepoError> {
        let (header, key) = PackHeader::start(kind, repo.id(), &run.secret, run.seal.clone())?;
        Ok(Self {
            header: Arc::new(header),
            key,
            frames: Vec::new(),
            sealed: Vec::new(),
            offset: u32::try_from(PackHeader::LEN).expect("because it is a small constant"),
            directory_len: 0,
            chunks: 0,
        })
    }

    fn len(&self) -> u64 {
        u64::from(self.offset) + self.directory_len
    }

    fn takes(&self, frame: &FrameEntry, target: u64) -> bool {
        self.len() + u64::from(frame.stored_len) + entry_len(frame) <= target
            && self.frames.len() < PACK_FRAMES_MAX
            && self.chunks + frame.chunks.len() <= PACK_CHUNKS_MAX
    }

    fn is_full(&self, target: u64) -> bool {
        let len = self.len();
        len >= target || len >= target / 4 * FULL_FROM && padding_at(len) <= len / 200
    }

    /// Gives the frame its place and has it sealed and checked there.
    fn push(
        &mut self,
        repo: &Arc<Repository>,
        entry: FrameEntry,
        chunks: Vec<(ChunkId, u32)>,
        content: FramePlaintext,
        verify: bool,
    ) {
        let (header, key, offset) = (self.header.clone(), self.key.clone(), self.offset);
        let (send, sealed) = bounded(1);
        let repo = repo.clone();
        let pool = repo.clone();
        self.offset += entry.stored_len;
        self.directory_len += entry_len(&entry);
        self.chunks += entry.chunks.len();
        self.frames.push(entry);
        self.sealed.push(sealed);
        pool.pool().spawn_fifo(move || {
            let ids = chunks.iter().map(|(id, _)| id);
            let sealed = seal_frame(&key, &header, offset, content, ids);
            let checked = sealed.map_err(RepoError::from).and_then(|sealed| {
                if verify {
                    check_frame(&repo, &header, &key, offset, &sealed, &chunks)?;
                }
                Ok(sealed)
            });
            // Whoever waited may have given up; then nobody needs the frame.
            let _ = send.send(checked);
        });
    }

    fn close(self) -> FullPack {
        FullPack { pack: self }
    }
}

fn entry_len(frame: &FrameEntry) -> u64 {
    8 + 19 * frame.chunks.len() as u64
}

/// Opens, expands and hashes a frame from the bytes that will be stored.
fn check_frame(
    repo: &Repository,
    header: &PackHeader,
    key: &Key,
    offset: u32,
    sealed: &Sealed,
    chunks: &[(ChunkId, u32)],
) -> Result<(), RepoError> {
    thread_local! {
        static FRAME: std::cell::RefCell<OpenedFrame> = std::cell::RefCell::default();
    }
    FRAME.with_borrow_mut(|frame| {
        frame.open(key, header, offset, sealed.as_bytes())?;
        let mut rest = frame.content();
        for (id, len) in chunks {
            let whole = rest.split_at_checked(*len as usize);
            let (chunk, behind) = whole.ok_or_else(|| unlike(id))?;
            if repo.chunk_id(header.kind(), chunk) != *id {
                return Err(unlike(id));
            }
            rest = behind;
        }
        Ok(())
    })
}

fn unlike(id: &ChunkId) -> RepoError {
    let why =
        "came out changed when it was checked before sending; is this machine's memory sound?";
    RepoError::Chunk { id: *id, why: why.to_owned() }
}

/// A pack that takes no more frames.
pub(super) struct FullPack {
    pack: OpenPack,
}

/// Stores packs until the channel closes, then publishes the last segment.
pub(super) fn store_packs(
    repo: &Repository,
    index: &Index,
    run: &RunKeys,
    packs: &Receiver<FullPack>,
    written: &(dyn Fn(u64) + Sync),
) -> Result<Stored, RepoError> {
    let mut stored = Stored::default();
    let seal = Arc::new(run.seal.clone());
    let mut segment = Vec::new();
    let mut since = Stopwatch::start();
    for full in packs {
        let pack = store_pack(repo, full)?;
        written(pack.size);
        stored.bytes += pack.size;
        stored.packs += 1;
        let table_pack = TablePack {
            id: pack.id,
            kind: pack.kind,
            size: pack.size,
            salt: pack.salt,
            seal: seal.clone(),
        };
        index.add_pack(table_pack, &pack.directory.frames);
        segment.push(pack);
        if segment.len() >= SEGMENT_PACKS
            || index.recent_len() >= SEGMENT_CHUNKS
            || since.elapsed().as_secs() >= SEGMENT_SECONDS
        {
            stored.bytes += publish(repo, index, run, std::mem::take(&mut segment))?;
            since = Stopwatch::start();
        }
    }
    if !segment.is_empty() {
        stored.bytes += publish(repo, index, run, segment)?;
    }
    Ok(stored)
}

/// Joins a pack's parts, names it by its bytes and stores it.
fn store_pack(repo: &Repository, full: FullPack) -> Result<SegmentPack, RepoError> {
    let OpenPack { header, key, frames, sealed, offset, .. } = full.pack;
    let mut payload = Payload::public(header.encode());
    for frame in sealed {
        payload.append(frame.recv().map_err(|_| RepoError::Worker)??.into_payload());
    }
    let directory = PackDirectory { frames };
    payload.append(seal_trailer(&key, &header, offset, &directory.encode())?);
    let mut hasher = Hasher::new();
    payload.parts().iter().for_each(|part| hasher.update(part));
    let id = PackId::new(hasher.finish());
    repo.store().put(&layout::pack(&id), &payload)?;
    let (kind, size, salt) = (header.kind(), payload.len(), *header.salt());
    if kind == PackKind::Tree {
        repo.trees().keep_whole(&id, &payload);
    }
    Ok(SegmentPack { id, kind, size, seal: 0, salt, directory })
}

/// Stores a segment that names packs which are stored already; returns its size.
fn publish(
    repo: &Repository,
    index: &Index,
    run: &RunKeys,
    packs: Vec<SegmentPack>,
) -> Result<u64, RepoError> {
    let record = SegmentRecord { seals: vec![run.seal.clone()], supersedes: Vec::new(), packs };
    let payload = repo.seal_signed(ObjectKind::Segment, &record.encode())?;
    let bytes = payload.to_vec();
    let id = segment_id(&bytes);
    repo.store().put(&layout::segment(&id), &payload)?;
    index.add_segment(id, &record)?;
    Ok(payload.len())
}
