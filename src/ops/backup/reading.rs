//! The first stage: walks the source, reads what may have changed, and cuts it into chunks.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

use super::batch::{BATCH_EVENTS, BATCH_LEN, Batch, Change, Event, Named, name_chunks};
use super::previous::Previous;
use crate::codec::{Piece, Splitter};
use crate::entry::{Entry, EntryPath, Hint, Kind};
use crate::event::{Counters, Observer, Warning};
use crate::format::{Content, Stored};
use crate::ops::error::{Interrupt, OpsError};
use crate::repo::{RepoError, Repository};
use crate::source::{Found, Order, ReadError, Run, Source, SourceError};

/// Less room than this in a buffer is not worth a read.
const ROOM_MIN: usize = 64 << 10;

/// Zeros of a hole are written out up to this length, for the splitter to see as content.
const HOLE_SEEN: u64 = 128 << 10;

/// Alignment of zero runs.
const BLOCK: u64 = 4096;

/// The state of the first stage.
pub(super) struct Reading<'a> {
    repo: &'a Arc<Repository>,
    splitter: Splitter,
    previous: Previous<'a>,
    observer: &'a Arc<dyn Observer>,
    interrupt: &'a Interrupt,
    read_all: bool,
    batches: Sender<Named>,
    spent: Receiver<Vec<u8>>,
    batch: Batch,
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

impl<'a> Reading<'a> {
    pub(super) fn new(
        repo: &'a Arc<Repository>,
        previous: Previous<'a>,
        observer: &'a Arc<dyn Observer>,
        interrupt: &'a Interrupt,
        read_all: bool,
        batches: Sender<Named>,
        spent: Receiver<Vec<u8>>,
    ) -> Self {
        let rest_max = repo.config().chunker.max as usize + (18 << 12);
        let buffer_len = BATCH_LEN + rest_max;
        let batch = Batch { buffer: vec![0; buffer_len], events: Vec::new() };
        Self {
            repo,
            splitter: repo.splitter(),
            previous,
            observer,
            interrupt,
            read_all,
            batches,
            spent,
            batch,
            buffer_len,
            filled: 0,
            pieces: Vec::new(),
            bytes_read: 0,
        }
    }

    /// Reads the source to its end; returns how many bytes of content were read.
    pub(super) fn run(mut self, source: &mut dyn Source) -> Result<u64, OpsError> {
        let sorted = source.order() == Order::Sorted;
        while let Some(found) = source.next()? {
            self.interrupt.check()?;
            let before = if sorted { self.previous.at(&found.path) } else { None };
            self.entry(source, found, before)?;
            if self.batch.events.len() >= BATCH_EVENTS {
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
        before: Option<(Stored, Option<Hint>)>,
    ) -> Result<(), OpsError> {
        let counters = self.observer.counters();
        Counters::add(&counters.entries, 1);
        let has_content =
            matches!(found.entry.kind, Kind::File { .. }) && found.entry.link.is_none();
        if !has_content {
            let stored = Stored { entry: found.entry, content: Content::empty() };
            let change = compare(before.map(|(before, _)| before).as_ref(), &stored);
            self.whole(found.path, stored, found.hint, change);
            return Ok(());
        }
        if let Some((before, hint)) = &before
            && !self.read_all
            && self.previous.is_unchanged(&found, before, *hint)?
        {
            Counters::add(&counters.bytes, found.entry.content_len());
            let content = before.content.clone();
            let stored = Stored { entry: found.entry, content };
            let change = compare(Some(before), &stored);
            self.whole(found.path, stored, found.hint, change);
            return Ok(());
        }
        let change = if before.is_some() { Change::Changed } else { Change::New };
        match self.content(source) {
            Ok((entry, hint)) => {
                self.batch.events.push(Event::End { path: found.path, entry, hint, change });
                Ok(())
            }
            Err(Failure::File(path_error)) => self.lost(found.path, path_error),
            Err(Failure::Run(error)) => Err(error),
        }
    }

    fn whole(&mut self, path: EntryPath, stored: Stored, hint: Option<Hint>, change: Change) {
        self.batch.events.push(Event::Whole { path, stored, hint, change });
    }

    fn lost(&mut self, path: EntryPath, error: ReadError) -> Result<(), OpsError> {
        let message = match &error {
            ReadError::Entry(message, Some(source)) => format!("{message}: {source}"),
            other => other.to_string(),
        };
        self.observer.warn(Warning::skipped(path.to_slashed(), message));
        self.batch.events.push(Event::Lost { path });
        Ok(())
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
                    Counters::add(&self.observer.counters().bytes, len);
                }
                Run::End => break,
            }
            self.interrupt.check()?;
        }
        self.cut(&mut at, true);
        Ok(source.finish()?)
    }

    fn read_bytes(&mut self, len: u64) {
        self.bytes_read += len;
        Counters::add(&self.observer.counters().bytes, len);
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
        self.batch.events.push(Event::Zeros(middle));
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
                    self.batch.events.push(Event::Chunk { range, id: None });
                    at.in_zeros = false;
                }
                Piece::Zeros(_) => {
                    self.batch.events.push(Event::Zeros(len as u64));
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
        let fresh = Batch { buffer, events: Vec::new() };
        let full = std::mem::replace(&mut self.batch, fresh);
        self.batch.buffer[..rest.len()].copy_from_slice(&full.buffer[rest.clone()]);
        self.filled = rest.len();
        at.start = 0;
        if full.events.is_empty() {
            return Ok(());
        }
        let named = name_chunks(self.repo, full);
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

fn compare(before: Option<&Stored>, now: &Stored) -> Change {
    match before {
        None => Change::New,
        Some(before) if before == now => Change::Unchanged,
        Some(_) => Change::Changed,
    }
}
