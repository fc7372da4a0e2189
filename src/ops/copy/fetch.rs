//! Fetches chunks in the order in which they will be wanted, some of them at once.
//!
//! Neighbouring chunks of one frame are a part, which one thread fetches while earlier parts are
//! handed on. Memory is bounded by the parts ahead.

use std::sync::Arc;
use std::thread::Scope;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::codec::ChunkerParams;
use crate::format::PackKind;
use crate::id::ChunkId;
use crate::repo::{ChunkReader, PackRef, RepoError};

/// Parts that are fetched before they are wanted.
const PARTS_AHEAD: usize = 12;

/// A part ends at this size in bytes, if its frame does not end before.
const PART_LEN_MAX: u64 = 1 << 20;

/// All parts ahead, and one that is being handed on.
const _: () =
    assert!((PARTS_AHEAD as u64 + 1) * (PART_LEN_MAX + ChunkerParams::MAX as u64) < 32 << 20);

/// Threads that wait for a store elsewhere, or for a processor.
const THREADS_FAR: usize = 8;
const THREADS_NEAR: usize = 2;

/// A chunk's plaintext, or why it cannot be had.
pub(super) type Fetched = Result<Vec<u8>, RepoError>;

/// The chunks of a part, once they are there.
pub(super) type Part = Receiver<Vec<Fetched>>;

struct Job {
    chunks: Vec<ChunkId>,
    done: Sender<Vec<Fetched>>,
}

/// The part that is being gathered.
struct Open {
    frame: Option<(PackRef, u32)>,
    len: u64,
    job: Job,
}

/// Fetches parts on threads, which end when it is dropped.
pub(super) struct Fetcher {
    reader: Arc<ChunkReader>,
    jobs: Sender<Job>,
    open: Option<Open>,
    /// Parts that were asked for and not yet received.
    asked: usize,
}

impl Fetcher {
    /// Starts the threads.
    pub(super) fn start<'s>(scope: &'s Scope<'s, '_>, reader: &Arc<ChunkReader>) -> Self {
        let (jobs, jobs_in) = bounded::<Job>(PARTS_AHEAD);
        let is_far = reader.repository().store().is_far();
        for _ in 0..if is_far { THREADS_FAR } else { THREADS_NEAR } {
            let (reader, jobs_in) = (reader.clone(), jobs_in.clone());
            let _ = scope.spawn(move || {
                for Job { chunks, done } in jobs_in {
                    let fetch = |id: &ChunkId| reader.read(PackKind::Data, id);
                    // Whoever waited may have given up.
                    let _ = done.send(chunks.iter().map(fetch).collect());
                }
            });
        }
        Self { reader: reader.clone(), jobs, open: None, asked: 0 }
    }

    /// Whether enough is under way.
    pub(super) fn is_full(&self) -> bool {
        self.asked >= PARTS_AHEAD
    }

    /// Adds the chunk that is wanted next; gives the part that begins with it, if one does.
    ///
    /// Errors: those of the index.
    pub(super) fn add(&mut self, id: ChunkId, len: u32) -> Result<Option<Part>, RepoError> {
        let places = self.reader.index().find_all(&id)?;
        let frame = places.first().map(|place| (place.pack, place.frame_offset));
        if let Some(open) = &mut self.open
            && frame.is_some()
            && open.frame == frame
            && open.len + u64::from(len) <= PART_LEN_MAX
        {
            open.len += u64::from(len);
            open.job.chunks.push(id);
            return Ok(None);
        }
        self.end_part()?;
        let (done, part) = bounded(1);
        let job = Job { chunks: vec![id], done };
        self.open = Some(Open { frame, len: u64::from(len), job });
        Ok(Some(part))
    }

    /// Waits for a part. Parts must be received in the order in which they began, each once.
    pub(super) fn receive(&mut self, part: &Part) -> Result<Vec<Fetched>, RepoError> {
        if self.asked == 0 {
            // It is the one that is being gathered.
            self.end_part()?;
        }
        let fetched = part.recv().map_err(|_| RepoError::Worker)?;
        self.asked = self.asked.saturating_sub(1);
        Ok(fetched)
    }

    fn end_part(&mut self) -> Result<(), RepoError> {
        let Some(Open { job, .. }) = self.open.take() else { return Ok(()) };
        self.asked += 1;
        self.jobs.send(job).map_err(|_| RepoError::Worker)
    }
}
