//! What goes from reading through naming to assembling: a buffer of content, and in order what the
//! source yielded.

use std::ops::Range;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::codec::ChunkerParams;
use crate::entry::{Entry, EntryPath, Hint};
use crate::format::{PackKind, Stored};
use crate::id::ChunkId;
use crate::repo::Repository;

/// Batches under way at once.
pub(super) const BATCHES_IN_FLIGHT: usize = 6;

/// A batch is handed on when it holds so many bytes of content or events.
pub(super) const BATCH_LEN: usize = 1 << 20;
pub(super) const BATCH_EVENTS: usize = 2048;

/// The buffers of all batches under way, one that is being filled and one that is being emptied.
const _: () =
    assert!((BATCHES_IN_FLIGHT + 2) * (BATCH_LEN + ChunkerParams::MAX as usize) < 24 << 20);

/// How an entry compares with the snapshot before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It was not there.
    New,
    /// It was, and differed.
    Changed,
    /// It was, and nothing differs.
    Unchanged,
}

/// What the source yielded.
#[derive(Debug)]
pub(super) enum Event {
    /// An entry whose content is known, or that has none.
    Whole { path: EntryPath, stored: Stored, hint: Option<Hint>, change: Change },
    /// A chunk of the file that is being read.
    Chunk { range: Range<usize>, id: Option<ChunkId> },
    /// Zeros of the file that is being read.
    Zeros(u64),
    /// The file that was being read is complete.
    End { path: EntryPath, entry: Entry, hint: Option<Hint>, change: Change },
    /// The file that was being read is lost; whoever watches has been told.
    Lost { path: EntryPath },
}

/// A batch.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) buffer: Vec<u8>,
    pub(super) events: Vec<Event>,
}

/// A batch whose chunks are being named; it comes out when they are.
pub(super) type Named = Receiver<Batch>;

/// Has the chunks of a batch named on the processor threads.
pub(super) fn name_chunks(repo: &Arc<Repository>, mut batch: Batch) -> Named {
    let (send, named): (Sender<Batch>, Named) = bounded(1);
    let pool = repo.clone();
    let repo = repo.clone();
    pool.pool().spawn_fifo(move || {
        for event in &mut batch.events {
            if let Event::Chunk { range, id } = event {
                *id = Some(repo.chunk_id(PackKind::Data, &batch.buffer[range.clone()]));
            }
        }
        // Assembling may have given up; then nobody needs the batch.
        let _ = send.send(batch);
    });
    named
}
