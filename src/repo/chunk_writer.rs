//! Takes chunks in order, keeps what the repository lacks, and gathers it in frames.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};

use super::error::RepoError;
use super::index::Index;
use super::packer::{FrameJob, PackerOptions, RunKeys, Stored, pack_frames, store_packs};
use super::repository::Repository;
use crate::event::{Counters, Observer};
use crate::format::{FrameContent, FramePlaintext, PackKind};
use crate::id::ChunkId;

/// Content of a data frame is closed at this size, in bytes.
const DATA_FRAME_LEN: usize = 1 << 20;
/// Frames of tree nodes are smaller: a walk opens a frame for few nodes.
const TREE_FRAME_LEN: usize = 256 << 10;

/// A frame is closed at so many chunks, however small they are.
const FRAME_CHUNKS_MAX: usize = 1 << 14;

/// Frames on their way to a pack, at most: being compressed, or waiting for their turn.
const FRAMES_IN_FLIGHT: usize = 8;

/// How chunks are stored.
#[derive(Debug, Clone, Copy)]
pub struct WriterOptions {
    /// zstd level.
    pub level: i32,
    /// Whether every frame is opened and hashed before it is sent.
    pub verify: bool,
    /// Memory that packs under way may take together, in bytes.
    pub pack_memory: u64,
    /// What is done with content that is new.
    pub data: NewData,
}

/// What is done with content that the repository does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewData {
    /// It is stored.
    Store,
    /// It is named and dropped: only the tree is wanted, to compare another with.
    Drop,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self { level: 3, verify: true, pack_memory: 96 << 20, data: NewData::Store }
    }
}

/// What [`ChunkWriter::store`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// The repository has the chunk.
    Known,
    /// It is stored now.
    New,
}

/// What a writer stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriterReport {
    /// Bytes of new data chunks before compression.
    pub new_bytes: u64,
    /// Bytes of packs and segments stored.
    pub stored_bytes: u64,
    /// Number of packs stored.
    pub packs: u64,
}

type Thread<T> = JoinHandle<Result<T, RepoError>>;

/// Stores chunks of one run.
pub struct ChunkWriter {
    repo: Arc<Repository>,
    index: Arc<Index>,
    options: WriterOptions,
    frames: [Option<Frame>; 2],
    jobs: Option<Sender<FrameJob>>,
    threads: Option<(Thread<()>, Thread<Stored>)>,
    new_bytes: u64,
}

/// A frame that is being gathered.
struct Frame {
    content: FrameContent,
    chunks: Vec<(ChunkId, u32)>,
}

impl ChunkWriter {
    /// Starts a run: draws its secret and its threads.
    ///
    /// Errors: [`RepoError::RunSeal`].
    pub(super) fn start(
        repo: &Arc<Repository>,
        index: &Arc<Index>,
        run: RunKeys,
        options: WriterOptions,
        observer: &Arc<dyn Observer>,
    ) -> Self {
        // Three data packs can be under way at once: one filling, one waiting, one being stored.
        let data_target = (options.pack_memory / 3).clamp(1 << 20, 32 << 20);
        let packer = PackerOptions {
            data_target,
            tree_target: data_target.min(8 << 20),
            verify: options.verify,
        };
        let (jobs, jobs_in) = bounded(FRAMES_IN_FLIGHT);
        let (packs, packs_in) = bounded(1);
        let packing = std::thread::spawn({
            let (repo, run) = (repo.clone(), run.clone());
            move || pack_frames(&repo, &run, packer, &jobs_in, &packs)
        });
        let storing = std::thread::spawn({
            let (repo, index, observer) = (repo.clone(), index.clone(), observer.clone());
            move || {
                let written = |bytes| Counters::add(&observer.counters().written, bytes);
                store_packs(&repo, &index, &run, &packs_in, &written)
            }
        });
        Self {
            repo: repo.clone(),
            index: index.clone(),
            options,
            frames: Default::default(),
            jobs: Some(jobs),
            threads: Some((packing, storing)),
            new_bytes: 0,
        }
    }

    /// The repository that is written to.
    #[must_use]
    pub fn repository(&self) -> &Arc<Repository> {
        &self.repo
    }

    /// Stores a chunk, unless the repository has it. Blocks while too much is under way.
    ///
    /// Errors: those of the threads behind, as [`ChunkWriter::finish`] reports them.
    pub fn store(
        &mut self,
        kind: PackKind,
        id: ChunkId,
        plaintext: &[u8],
    ) -> Result<Claim, RepoError> {
        if self.index.claim(&id)? {
            return Ok(Claim::Known);
        }
        self.store_claimed(kind, id, plaintext)?;
        Ok(Claim::New)
    }

    /// Stores a chunk that [`Index::claim`] told the caller to store.
    ///
    /// Errors: as [`ChunkWriter::store`].
    pub fn store_claimed(
        &mut self,
        kind: PackKind,
        id: ChunkId,
        plaintext: &[u8],
    ) -> Result<(), RepoError> {
        let limit = match kind {
            PackKind::Data => {
                self.new_bytes += plaintext.len() as u64;
                if self.options.data == NewData::Drop {
                    return Ok(());
                }
                DATA_FRAME_LEN
            }
            PackKind::Tree => TREE_FRAME_LEN,
        };
        let slot = usize::from(kind == PackKind::Tree);
        let full = self.frames[slot].as_ref().is_some_and(|frame| {
            frame.content.bytes().len() + plaintext.len() > limit
                || frame.chunks.len() >= FRAME_CHUNKS_MAX
        });
        if full {
            self.send(kind)?;
        }
        let frame = self.frames[slot].get_or_insert_with(|| Frame {
            content: FrameContent::with_capacity(limit.max(plaintext.len())),
            chunks: Vec::new(),
        });
        let len = u32::try_from(plaintext.len()).map_err(|_| RepoError::Worker)?;
        frame.content.push(plaintext);
        frame.chunks.push((id, len));
        Ok(())
    }

    /// Stores a tree node, or what else belongs to a tree; returns its name.
    ///
    /// Errors: as [`ChunkWriter::store`].
    pub fn store_node(&mut self, bytes: &[u8]) -> Result<ChunkId, RepoError> {
        let id = self.repo.chunk_id(PackKind::Tree, bytes);
        let _ = self.store(PackKind::Tree, id, bytes)?;
        Ok(id)
    }

    /// Stores what is left and waits until the store has acknowledged all of it.
    ///
    /// Errors: the first failure of any thread; then some chunks may not be stored.
    pub fn finish(mut self) -> Result<WriterReport, RepoError> {
        let sent = self.send(PackKind::Data).and_then(|()| self.send(PackKind::Tree));
        let stored = self.join()?;
        sent?;
        Ok(WriterReport {
            new_bytes: self.new_bytes,
            stored_bytes: stored.bytes,
            packs: stored.packs,
        })
    }

    /// Hands the frame of this kind to the processor threads and, in order, to the packer.
    fn send(&mut self, kind: PackKind) -> Result<(), RepoError> {
        let Some(frame) = self.frames[usize::from(kind == PackKind::Tree)].take() else {
            return Ok(());
        };
        let (result, content) = bounded(1);
        let job = FrameJob { kind, chunks: frame.chunks, content };
        let delivered = self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        if !delivered {
            // The packer is gone, and knows why.
            return Err(self.join().err().unwrap_or(RepoError::Worker));
        }
        let level = self.options.level;
        self.repo.pool().spawn_fifo(move || {
            let compressed = FramePlaintext::compress(level, frame.content);
            // Whoever waited may have given up; then nobody needs the frame.
            let _ = result.send(compressed.map_err(RepoError::from));
        });
        Ok(())
    }

    /// Ends both threads; the store's failure explains the packer's.
    fn join(&mut self) -> Result<Stored, RepoError> {
        drop(self.jobs.take());
        let Some((packing, storing)) = self.threads.take() else {
            return Err(RepoError::Worker);
        };
        let packed = packing.join().unwrap_or(Err(RepoError::Worker));
        let stored = storing.join().unwrap_or(Err(RepoError::Worker));
        match (packed, stored) {
            (Ok(()), stored) => stored,
            (Err(RepoError::Worker), Err(error)) => Err(error),
            (Err(error), _) => Err(error),
        }
    }
}

impl Drop for ChunkWriter {
    /// An abandoned writer leaves packs without a snapshot, which is garbage and no damage; its
    /// threads are not left behind.
    fn drop(&mut self) {
        let _ = self.join();
    }
}

impl std::fmt::Debug for ChunkWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ChunkWriter({} new bytes)", self.new_bytes)
    }
}
