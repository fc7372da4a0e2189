//! The first stage: walks the source, reads what may have changed, and cuts it into chunks.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

use super::batch::{BATCH_LEN, Batch, Event, Named, name_chunks};
use crate::codec::{Piece, Splitter};
use crate::entry::{Entry, EntryPath, Hint, Kind};
use crate::event::{Counters, Observer, Warning};
use crate::ops::error::{Interrupt, OpsError};
use crate::repo::{Cutter, RepoError};
use crate::source::{Found, Order, ReadError, Run, Source, SourceError};

/// Less room than this in a buffer is not worth a read.
const ROOM_MIN: usize = 64 << 10;

/// Zeros of a hole are written out up to this length, for the splitter to see as content.
const HOLE_SEEN: u64 = 128 << 10;

/// Alignment of zero runs.
const BLOCK: u64 = 4096;

/// The snapshot before, asked in the order of paths.
pub(in crate::ops) trait Before {
    /// What it knows of an entry.
    type Entry: Send + 'static;

    /// What it had at `path`. Paths must ascend from call to call.
    fn at(&mut self, path: &EntryPath) -> Result<Option<Self::Entry>, OpsError>;

    /// Whether the content of a file can be taken over without reading it; `told` is what the
    /// source knows of that by itself.
    fn is_unchanged(
        &self,
        found: &Found,
        before: &Self::Entry,
        told: Option<bool>,
    ) -> Result<bool, OpsError>;
}

/// What reading needs besides the source.
pub(in crate::ops) struct ReadOptions<'a> {
    pub(in crate::ops) cutter: Arc<Cutter>,
    /// Threads for work on the processor.
    pub(in crate::ops) pool: &'a rayon::ThreadPool,
    pub(in crate::ops) observer: &'a Arc<dyn Observer>,
    pub(in crate::ops) interrupt: &'a Interrupt,
    /// Whether files are read even where hints say that they did not change.
    pub(in crate::ops) read_all: bool,
}

/// The state of the first stage.
pub(in crate::ops) struct Reading<'a, B: Before> {
    options: ReadOptions<'a>,
    splitter: Splitter,
    before: B,
    batches: Sender<Named<B::Entry>>,
    spent: Receiver<Vec<u8>>,
    batch: Batch<B::Entry>,
    buffer_len: usize,
    filled: usize,
    pieces: Vec<Piece>,
    bytes_read: u64,
}

/// The file that is being read.
#[derive(Default)]
struct Position {
    /// Where in the buffer its content starts that is not yet cut.
    start: usize,
    /// Where in the file that is.
    offset: u64,
    /// Whether the piece before was zeros.
    in_zeros: bool,
}

impl<'a, B: Before> Reading<'a, B> {
    pub(in crate::ops) fn new(
        options: ReadOptions<'a>,
        before: B,
        batches: Sender<Named<B::Entry>>,
        spent: Receiver<Vec<u8>>,
    ) -> Self {
        let rest_max = options.cutter.params().max as usize + (18 << 12);
        let buffer_len = BATCH_LEN + rest_max;
        Self {
            splitter: options.cutter.splitter(),
            options,
            before,
            batches,
            spent,
            batch: Batch::new(vec![0; buffer_len]),
            buffer_len,
            filled: 0,
            pieces: Vec::new(),
            bytes_read: 0,
        }
    }

    /// Reads the source to its end; returns how many bytes of content were read.
    pub(in crate::ops) fn run(mut self, source: &mut dyn Source) -> Result<u64, OpsError> {
        let sorted = source.order() == Order::Sorted;
        while let Some(found) = source.next()? {
            self.options.interrupt.check()?;
            let before = if sorted { self.before.at(&found.path)? } else { None };
            self.entry(source, found, before)?;
            if self.batch.is_full() {
                self.hand_on(&mut self.between_files())?;
            }
        }
        self.hand_on(&mut self.between_files())?;
        Ok(self.bytes_read)
    }

    /// A position in no file: nothing in the buffer is still to be cut.
    fn between_files(&self) -> Position {
        Position { start: self.filled, ..Position::default() }
    }

    fn entry(
        &mut self,
        source: &mut dyn Source,
        found: Found,
        before: Option<B::Entry>,
    ) -> Result<(), OpsError> {
        let counters = self.options.observer.counters();
        Counters::add(&counters.entries, 1);
        let has_content =
            matches!(found.entry.kind, Kind::File { .. }) && found.entry.link.is_none();
        let len = len_of(&found);
        if !has_content {
            let Found { path, entry, hint } = found;
            self.batch.push(Event::Plain { path, entry, hint, before }, len);
            return Ok(());
        }
        let is_new = before.is_none();
        if let Some(before) = before
            && !self.options.read_all
            && self.before.is_unchanged(&found, &before, source.is_as_before())?
        {
            Counters::add(&counters.bytes, found.entry.content_len());
            let Found { path, entry, hint } = found;
            self.batch.push(Event::Kept { path, entry, hint, before }, len);
            return Ok(());
        }
        let path = found.path;
        match self.content(source) {
            Ok((entry, hint)) => self.batch.push(Event::End { path, entry, hint, is_new }, len),
            Err(Failure::File(error)) => self.lost(path, &error),
            Err(Failure::Run(error)) => return Err(error),
        }
        Ok(())
    }

    fn lost(&mut self, path: EntryPath, error: &ReadError) {
        let message = match error {
            ReadError::Entry(message, Some(source)) => format!("{message}: {source}"),
            other => other.to_string(),
        };
        self.options.observer.warn(Warning::skipped(path.to_slashed(), message));
        let len = path.as_key().len();
        self.batch.push(Event::Lost { path }, len);
    }

    /// Reads the content of one file; what is not cut yet never leaves the buffer.
    fn content(&mut self, source: &mut dyn Source) -> Result<(Entry, Option<Hint>), Failure> {
        let mut at = self.between_files();
        loop {
            if self.buffer_len - self.filled < ROOM_MIN || self.filled - at.start > BATCH_LEN {
                self.cut(&mut at, false);
                self.hand_on(&mut at)?;
            }
            match source.read(&mut self.batch.buffer[self.filled..])? {
                Run::Data(len) => {
                    self.filled += len;
                    self.read_bytes(len as u64);
                    if self.filled == self.buffer_len {
                        self.cut(&mut at, false);
                        self.hand_on(&mut at)?;
                    }
                }
                Run::Hole(len) => {
                    self.hole(&mut at, len)?;
                    Counters::add(&self.options.observer.counters().bytes, len);
                }
                Run::End => break,
            }
            self.options.interrupt.check()?;
        }
        self.cut(&mut at, true);
        Ok(source.finish()?)
    }

    fn read_bytes(&mut self, len: u64) {
        self.bytes_read += len;
        Counters::add(&self.options.observer.counters().bytes, len);
    }

    /// Takes in zeros that were not read. A short hole is written out; of a long one only the ends
    /// are, so that the splitter sees a zero run begin and end as if it had been read.
    fn hole(&mut self, at: &mut Position, len: u64) -> Result<(), OpsError> {
        let position = at.offset + (self.filled - at.start) as u64;
        if len < 2 * HOLE_SEEN {
            return self.write_zeros(at, len);
        }
        let head = HOLE_SEEN + (BLOCK - position % BLOCK) % BLOCK;
        self.write_zeros(at, head)?;
        self.cut(at, false);
        debug_assert!(at.in_zeros && at.start == self.filled, "so long a run ends a region");
        let tail = (position + len) % BLOCK;
        let middle = len - head - tail;
        self.batch.push(Event::Zeros(middle), 0);
        at.offset += middle;
        self.write_zeros(at, tail)
    }

    fn write_zeros(&mut self, at: &mut Position, mut len: u64) -> Result<(), OpsError> {
        while len > 0 {
            if self.buffer_len - self.filled < ROOM_MIN {
                self.cut(at, false);
                self.hand_on(at)?;
            }
            let room = self.buffer_len - self.filled;
            let step = usize::try_from(len).unwrap_or(room).min(room);
            self.batch.buffer[self.filled..self.filled + step].fill(0);
            self.filled += step;
            len -= step as u64;
        }
        Ok(())
    }

    /// Cuts what can be cut of the file that is being read.
    fn cut(&mut self, at: &mut Position, end: bool) {
        let content = &self.batch.buffer[at.start..self.filled];
        self.pieces.clear();
        let _ = self.splitter.split(content, at.offset, at.in_zeros, end, &mut self.pieces);
        for piece in &self.pieces {
            let len = piece.len();
            match piece {
                Piece::Chunk(_) => {
                    let range = at.start..at.start + len;
                    self.batch.push(Event::Chunk { range, id: None }, 0);
                    at.in_zeros = false;
                }
                Piece::Zeros(_) => {
                    self.batch.push(Event::Zeros(len as u64), 0);
                    at.in_zeros = true;
                }
            }
            at.start += len;
            at.offset += len as u64;
        }
    }

    /// Hands the batch on and starts another with what is not cut yet. Blocks while the stages
    /// behind are busy.
    fn hand_on(&mut self, at: &mut Position) -> Result<(), OpsError> {
        let mut buffer = self.spent.try_recv().unwrap_or_default();
        buffer.resize(self.buffer_len, 0);
        let rest = at.start..self.filled;
        let full = std::mem::replace(&mut self.batch, Batch::new(buffer));
        self.batch.buffer[..rest.len()].copy_from_slice(&full.buffer[rest.clone()]);
        self.filled = rest.len();
        at.start = 0;
        if full.events.is_empty() {
            return Ok(());
        }
        let named = name_chunks(self.options.pool, &self.options.cutter, full);
        self.batches.send(named).map_err(|_| RepoError::Worker.into())
    }
}

/// Why the content of a file could not be read.
enum Failure {
    /// Only this file is lost.
    File(ReadError),
    /// The run is.
    Run(OpsError),
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Source(error) => Self::Run(error.into()),
            entry @ ReadError::Entry(..) => Self::File(entry),
        }
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        Self::Run(error.into())
    }
}

impl From<OpsError> for Failure {
    fn from(error: OpsError) -> Self {
        Self::Run(error)
    }
}

/// What path and metadata take, in bytes.
fn len_of(found: &Found) -> usize {
    let entry = &found.entry;
    let target = match &entry.kind {
        Kind::Symlink { target } => target.len(),
        _ => 0,
    };
    let first = entry.link.as_ref().map_or(0, |first| first.as_key().len());
    let xattrs: usize = entry.xattrs.iter().map(|x| x.name.len() + x.value.len()).sum();
    found.path.as_key().len() + target + first + xattrs
}
