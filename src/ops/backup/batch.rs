//! What goes from reading through naming to assembling: a buffer of content, and in order what the
//! source yielded.

use std::ops::Range;
use std::sync::Arc;

use crossbeam_channel::{Receiver, bounded};

use crate::codec::ChunkerParams;
use crate::entry::{Entry, EntryPath, Hint};
use crate::id::ChunkId;
use crate::repo::Cutter;

/// Batches under way at once.
pub(in crate::ops) const BATCHES_IN_FLIGHT: usize = 6;

/// A batch is handed on when it holds so many bytes of content or events.
pub(super) const BATCH_LEN: usize = 1 << 20;
const BATCH_EVENTS: usize = 2048;

/// The buffers of all batches under way, one that is being filled and one that is being emptied.
const _: () =
    assert!((BATCHES_IN_FLIGHT + 2) * (BATCH_LEN + ChunkerParams::MAX as usize) < 24 << 20);

/// So many bytes of paths and metadata, too.
const BATCH_METADATA_LEN: usize = 1 << 20;

/// What the source yielded. `B` is what is known of an entry of the snapshot before.
#[derive(Debug)]
pub(in crate::ops) enum Event<B> {
    /// An entry that has no content of its own, and what was at its path before.
    Plain { path: EntryPath, entry: Entry, hint: Option<Hint>, before: Option<B> },
    /// A file that is as it was before.
    Kept { path: EntryPath, entry: Entry, hint: Option<Hint>, before: B },
    /// A chunk of the file that is being read.
    Chunk { range: Range<usize>, id: Option<ChunkId> },
    /// A chunk of it that was named and claimed elsewhere; its bytes are there if it is new.
    Claimed { id: ChunkId, len: u32, new: Option<Range<usize>> },
    /// Zeros of the file that is being read.
    Zeros(u64),
    /// The file that was being read is complete.
    End { path: EntryPath, entry: Entry, hint: Option<Hint>, is_new: bool },
    /// The file that was being read is lost; whoever watches has been told.
    Lost { path: EntryPath },
}

/// A batch.
#[derive(Debug)]
pub(in crate::ops) struct Batch<B> {
    pub(in crate::ops) buffer: Vec<u8>,
    pub(in crate::ops) events: Vec<Event<B>>,
    /// Bytes of paths and metadata in the events, about.
    metadata_len: usize,
}

impl<B> Batch<B> {
    /// A batch without events.
    pub(in crate::ops) fn new(buffer: Vec<u8>) -> Self {
        Self { buffer, events: Vec::new(), metadata_len: 0 }
    }

    /// Adds an event; `metadata_len` is what path and metadata in it take, in bytes.
    pub(in crate::ops) fn push(&mut self, event: Event<B>, metadata_len: usize) {
        self.metadata_len += metadata_len;
        self.events.push(event);
    }

    /// Whether it is to be handed on, however little content it holds.
    pub(super) fn is_full(&self) -> bool {
        self.events.len() >= BATCH_EVENTS || self.metadata_len >= BATCH_METADATA_LEN
    }
}

/// A batch whose chunks are being named; it comes out when they are.
pub(in crate::ops) type Named<B> = Receiver<Batch<B>>;

/// Has the chunks of a batch named on the processor threads.
pub(super) fn name_chunks<B: Send + 'static>(
    pool: &rayon::ThreadPool,
    cutter: &Arc<Cutter>,
    mut batch: Batch<B>,
) -> Named<B> {
    let (send, named) = bounded(1);
    let cutter = cutter.clone();
    pool.spawn_fifo(move || {
        for event in &mut batch.events {
            if let Event::Chunk { range, id } = event {
                *id = Some(cutter.chunk_id(&batch.buffer[range.clone()]));
            }
        }
        // Assembling may have given up; then nobody needs the batch.
        let _ = send.send(batch);
    });
    named
}
