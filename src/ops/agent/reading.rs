//! The agent's half of a backup: reads, cuts and names, and keeps chunks until it is known whether
//! they are wanted.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded, never, select};

use super::link::{LinkError, LinkReader, LinkWriter};
use super::message::{FileHint, Found, ReadTask, ToAgent, ToHost};
use super::serve::{Teller, chain, send};
use crate::clock::Clock;
use crate::entry::{EntryPath, Kind};
use crate::event::Observer;
use crate::format::{Content, Stored};
use crate::ops::backup::{
    BATCHES_IN_FLIGHT, Batch, Before, Event, Named, ReadOptions, Reading, within_limits,
};
use crate::ops::error::{Interrupt, OpsError};
use crate::source::{self, Directory, DirectoryOptions, Selection};

/// Batches whose chunks are kept until it is known which are wanted: what may be under way on a
/// link of 16 MiB for each round trip.
pub(super) const BATCHES_HELD: usize = 16;

/// Messages with hints that may be under way.
pub(super) const HINTS_AHEAD: usize = 4;

/// Reads `place` as `task` says.
pub(super) fn serve_reading(
    place: &Path,
    task: ReadTask,
    clock: Clock,
    reader: LinkReader,
    writer: &Arc<LinkWriter>,
) -> Result<(), LinkError> {
    writer.set_pack(task.pack);
    let failed = |error: &dyn std::error::Error| LinkError::Failed(chain(error));
    let observer: Arc<dyn Observer> = Arc::new(Teller::new(writer));
    let selection = Selection::new(&task.include, &task.exclude).map_err(|error| failed(&error))?;
    let pool = rayon::ThreadPoolBuilder::new().build().map_err(|error| failed(&error))?;
    let walk = DirectoryOptions { clock, selection };
    let mut source =
        Directory::open(place, walk, observer.clone()).map_err(|error| failed(&error))?;

    let interrupt = Interrupt::default();
    let (hints, hints_in) = bounded(HINTS_AHEAD);
    let (wants, wants_in) = bounded(BATCHES_HELD);
    // Not waited for: it ends with the stream it listens to, and that is for the other side to end.
    let listener = Listener { reader, hints, wants, interrupt: interrupt.clone() };
    drop(std::thread::spawn(move || listener.run()));

    let (batches, batches_in) = bounded(BATCHES_IN_FLIGHT);
    let (spent, spent_in) = bounded(BATCHES_IN_FLIGHT);
    let before =
        Hinted { hints: hints_in, queue: VecDeque::new(), more: true, writer: writer.clone() };
    let options = ReadOptions {
        cutter: Arc::new(task.cutter),
        pool: &pool,
        observer: &observer,
        interrupt: &interrupt,
        read_all: task.read_all,
    };
    let (read, shipped) = std::thread::scope(|scope| {
        let shipper = Shipper {
            writer,
            observer: &observer,
            wants: wants_in,
            spent,
            held: VecDeque::new(),
            next: 0,
        };
        let shipping = scope.spawn(move || shipper.run(batches_in));
        let read = Reading::new(options, before, batches, spent_in).run(&mut source);
        let gone = || LinkError::Failed("a thread of the agent ended unexpectedly".to_owned());
        (read, shipping.join().unwrap_or_else(|_| Err(gone())))
    });
    // If shipping failed, reading only failed to hand on.
    shipped?;
    let bytes_read = read.map_err(|error| failed(&error))?;
    send(writer, &ToHost::End { bytes_read })
}

/// Files what the other side says; never waits for anything but the next message.
struct Listener {
    reader: LinkReader,
    hints: Sender<(Vec<FileHint>, bool)>,
    wants: Sender<(u64, Vec<bool>)>,
    interrupt: Interrupt,
}

impl Listener {
    /// Listens until the stream ends or nobody wants to hear more; then nothing goes on.
    fn run(mut self) {
        while let Ok(Some((kind, payload))) = self.reader.receive() {
            let filed = match ToAgent::decode(kind, &payload) {
                Ok(ToAgent::Hints { hints, last }) => self.hints.try_send((hints, last)).is_ok(),
                Ok(ToAgent::Want { batch, wanted }) => self.wants.try_send((batch, wanted)).is_ok(),
                _ => false,
            };
            if !filed {
                break;
            }
        }
        self.interrupt.request();
    }
}

/// The snapshot before, as far as the other side tells of it.
struct Hinted {
    hints: Receiver<(Vec<FileHint>, bool)>,
    queue: VecDeque<FileHint>,
    more: bool,
    writer: Arc<LinkWriter>,
}

impl Hinted {
    fn refill(&mut self) -> Result<(), OpsError> {
        let Ok((hints, last)) = self.hints.recv() else { return Err(OpsError::Interrupted) };
        self.queue.extend(hints);
        self.more = !last;
        if self.more && send(&self.writer, &ToHost::More).is_err() {
            return Err(OpsError::Interrupted);
        }
        Ok(())
    }
}

impl Before for Hinted {
    type Entry = FileHint;

    fn at(&mut self, path: &EntryPath) -> Result<Option<FileHint>, OpsError> {
        loop {
            match self.queue.front().map(|hint| hint.path.cmp(path)) {
                Some(Ordering::Less) => drop(self.queue.pop_front()),
                Some(Ordering::Equal) => return Ok(self.queue.pop_front()),
                Some(Ordering::Greater) => return Ok(None),
                None if self.more => self.refill()?,
                None => return Ok(None),
            }
        }
    }

    fn is_unchanged(
        &self,
        found: &source::Found,
        before: &FileHint,
        _told: Option<bool>,
    ) -> Result<bool, OpsError> {
        let Kind::File { size, .. } = found.entry.kind else { return Ok(false) };
        Ok(size == before.size
            && found.entry.mtime == before.mtime
            && found.hint == Some(before.hint))
    }
}

/// A batch whose chunks may be wanted.
struct Held {
    number: u64,
    buffer: Vec<u8>,
    chunks: Vec<Range<usize>>,
}

/// Tells what was read, and sends the chunks that are wanted.
struct Shipper<'a> {
    writer: &'a LinkWriter,
    observer: &'a Arc<dyn Observer>,
    wants: Receiver<(u64, Vec<bool>)>,
    spent: Sender<Vec<u8>>,
    held: VecDeque<Held>,
    next: u64,
}

impl Shipper<'_> {
    /// Goes on until all batches are told and every one was asked about.
    fn run(mut self, batches: Receiver<Named<FileHint>>) -> Result<(), LinkError> {
        let nothing = never();
        let mut open = true;
        while open || !self.held.is_empty() {
            let batches = match open && self.held.len() < BATCHES_HELD {
                true => &batches,
                false => &nothing,
            };
            select! {
                recv(batches) -> named => match named {
                    Ok(named) => self.tell(named)?,
                    Err(_) => open = false,
                },
                recv(self.wants) -> want => {
                    let (number, wanted) = want.map_err(|_| gone())?;
                    self.ship(number, &wanted)?;
                }
            }
        }
        Ok(())
    }

    fn tell(&mut self, named: Named<FileHint>) -> Result<(), LinkError> {
        let Ok(Batch { buffer, events, .. }) = named.recv() else { return Err(gone()) };
        let mut chunks = Vec::new();
        let mut found = Vec::with_capacity(events.len());
        for event in events {
            found.extend(self.found(event, &mut chunks));
        }
        let number = self.next;
        self.next += 1;
        self.held.push_back(Held { number, buffer, chunks });
        send(self.writer, &ToHost::Batch { number, found })
    }

    fn found(&self, event: Event<FileHint>, chunks: &mut Vec<Range<usize>>) -> Option<Found> {
        let fits = |path: &EntryPath, entry| {
            let stored = Stored { entry, content: Content::empty() };
            within_limits(path, stored, &**self.observer).map(|stored| stored.entry)
        };
        Some(match event {
            Event::Plain { path, entry, hint, .. } => {
                let entry = fits(&path, entry)?;
                Found::Plain { path, entry, hint }
            }
            Event::Kept { path, entry, hint, .. } => {
                let entry = fits(&path, entry)?;
                Found::Kept { path, entry, hint }
            }
            Event::End { path, entry, hint, .. } => match fits(&path, entry) {
                Some(entry) => Found::End { path, entry, hint },
                None => Found::Lost { path },
            },
            Event::Chunk { range, id } => {
                let len = u32::try_from(range.len()).ok()?;
                chunks.push(range);
                Found::Chunk { id: id?, len }
            }
            Event::Zeros(len) => Found::Zeros(len),
            Event::Lost { path } => Found::Lost { path },
            // Only the other side claims.
            Event::Claimed { .. } => return None,
        })
    }

    fn ship(&mut self, number: u64, wanted: &[bool]) -> Result<(), LinkError> {
        let held = self
            .held
            .pop_front()
            .filter(|held| held.number == number && held.chunks.len() == wanted.len());
        let Some(Held { buffer, chunks, .. }) = held else {
            return Err(LinkError::Damaged(format!("batch {number} is not waited for")));
        };
        let wanted = || chunks.iter().zip(wanted).filter(|(_, wanted)| **wanted);
        if wanted().next().is_some() {
            let mut bytes = Vec::with_capacity(wanted().map(|(range, _)| range.len()).sum());
            wanted().for_each(|(range, _)| bytes.extend_from_slice(&buffer[range.clone()]));
            send(self.writer, &ToHost::Data { batch: number, bytes })?;
        }
        // Reading may have ended already.
        let _ = self.spent.try_send(buffer);
        Ok(())
    }
}

fn gone() -> LinkError {
    LinkError::Failed("whoever asked is gone".to_owned())
}
