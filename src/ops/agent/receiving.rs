//! The host's half of a backup: tells the agent what was saved before, takes what it finds, and
//! asks for the chunks that the repository lacks.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::host::{LOOK_EACH, Link, receive, send};
use super::link::{AgentStreams, LinkError, LinkReader, LinkWriter};
use super::message::{FileHint, Found, ReadTask, ToAgent, ToHost};
use super::reading::{BATCHES_HELD, HINTS_AHEAD};
use crate::entry::{Entry, EntryPath, Hint, Kind};
use crate::event::{Counters, Observer, Warning};
use crate::format::{Item, Stored};
use crate::ops::backup::{Batch, Earlier, Event, Named, Previous};
use crate::ops::error::{Interrupt, OpsError};
use crate::repo::{ChunkReader, Index, NewData, Repository};
use crate::source::Selection;

/// Hints in one message, and about how many bytes their paths may take.
const HINTS_MAX: usize = 1024;
const HINTS_LEN: usize = 256 << 10;

/// What an agent reads.
pub struct RemoteSource {
    link: Link,
    selection: Selection,
}

/// What receiving needs besides the agent.
pub(in crate::ops) struct ReceiveOptions<'a> {
    pub(in crate::ops) repo: &'a Arc<Repository>,
    pub(in crate::ops) reader: &'a Arc<ChunkReader>,
    /// The item of the snapshot before.
    pub(in crate::ops) parent: Option<&'a Item>,
    pub(in crate::ops) observer: &'a Arc<dyn Observer>,
    pub(in crate::ops) interrupt: &'a Interrupt,
    pub(in crate::ops) read_all: bool,
    /// Whether new chunks are wanted.
    pub(in crate::ops) data: NewData,
}

impl RemoteSource {
    /// All that the agent behind `streams` reads, once it has answered.
    ///
    /// Errors: [`OpsError::Agent`] if it does not, or is of another build.
    pub fn greet(streams: AgentStreams) -> Result<Self, OpsError> {
        Ok(Self { link: Link::greet(streams)?, selection: Selection::all() })
    }

    /// Only what is selected of it.
    #[must_use]
    pub fn select(self, selection: Selection) -> Self {
        Self { selection, ..self }
    }

    /// Takes all the agent finds; returns how many bytes of content it read.
    ///
    /// Errors: [`OpsError::Agent`] if it gave up or its stream broke off.
    pub(in crate::ops) fn run(
        self,
        options: &ReceiveOptions<'_>,
        batches: &Sender<Named<Earlier>>,
    ) -> Result<u64, OpsError> {
        let Link { mut reader, writer, hang_up, is_far, name } = self.link;
        let of = |source| OpsError::Agent { name: name.clone(), source };
        let task = ToAgent::Read(Box::new(ReadTask {
            cutter: options.repo.cutter(),
            read_all: options.read_all,
            pack: is_far,
            include: self.selection.include().to_vec(),
            exclude: self.selection.exclude().to_vec(),
        }));
        let (more, asked) = bounded(HINTS_AHEAD);
        for _ in 0..HINTS_AHEAD {
            let _ = more.try_send(());
        }
        let (done, ended) = bounded::<()>(0);
        std::thread::scope(|scope| {
            let hang_up = &hang_up;
            let _watching = scope.spawn(move || {
                // Ends when the sender is dropped.
                while ended.recv_timeout(LOOK_EACH).is_err_and(|error| error.is_timeout()) {
                    if options.interrupt.check().is_err() {
                        hang_up();
                        break;
                    }
                }
            });
            let received = send(&writer, &task).map_err(of).and_then(|()| {
                let writer = &writer;
                let (told, told_in) = unbounded();
                let _telling = scope.spawn(move || {
                    if tell_hints(options, writer, &asked, &told).is_err() {
                        // The agent would wait for more.
                        hang_up();
                    }
                });
                Receiving {
                    options,
                    index: options.reader.index(),
                    previous: Previous::new(options.reader, options.parent, options.observer),
                    told: told_in,
                    len: 0,
                    writer,
                    more,
                    waiting: VecDeque::new(),
                    batches,
                }
                .run(&mut reader)
                .map_err(|error| match error {
                    Stop::Link(source) => of(source),
                    Stop::Ops(error) => error,
                })
            });
            drop(done);
            // Whoever still writes to it stops now.
            hang_up();
            options.interrupt.check()?;
            received
        })
    }
}

/// Tells of every file of the snapshot before whose content can be relied on, as it is asked for.
///
/// What is told is given to whoever receives, too: of these files content is kept.
///
/// Errors: if nothing more can be said.
fn tell_hints(
    options: &ReceiveOptions<'_>,
    writer: &LinkWriter,
    asked: &Receiver<()>,
    told: &Sender<(EntryPath, Earlier)>,
) -> Result<(), OpsError> {
    let parent = options.parent.filter(|_| !options.read_all);
    let mut previous = Previous::new(options.reader, parent, options.observer);
    let mut last = false;
    while !last && asked.recv().is_ok() {
        let (mut hints, mut len) = (Vec::new(), 0);
        while hints.len() < HINTS_MAX && len < HINTS_LEN && !last {
            options.interrupt.check()?;
            match previous.advance() {
                Some((path, stored, hint)) => {
                    len += path.as_key().len();
                    if let Some(hint) = file_hint(&previous, path, &stored, hint)? {
                        let earlier = Earlier { stored, hint: Some(hint.hint) };
                        // Whoever receives may have given up.
                        let _ = told.send((hint.path.clone(), earlier));
                        hints.push(hint);
                    }
                }
                None => last = true,
            }
        }
        let sent = send(writer, &ToAgent::Hints { hints, last });
        sent.map_err(|_| OpsError::Interrupted)?;
    }
    Ok(())
}

fn file_hint(
    previous: &Previous<'_>,
    path: EntryPath,
    stored: &Stored,
    hint: Option<Hint>,
) -> Result<Option<FileHint>, OpsError> {
    let (Kind::File { size, .. }, None, Some(hint)) =
        (&stored.entry.kind, &stored.entry.link, hint)
    else {
        return Ok(None);
    };
    let is_known = previous.has_content(&stored.content)?;
    let (size, mtime) = (*size, stored.entry.mtime);
    Ok(is_known.then_some(FileHint { path, size, mtime, hint }))
}

/// Why receiving ended early.
enum Stop {
    Link(LinkError),
    Ops(OpsError),
}

impl From<LinkError> for Stop {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

impl From<OpsError> for Stop {
    fn from(error: OpsError) -> Self {
        Self::Ops(error)
    }
}

/// A batch that is complete but for the chunks that were asked for.
struct Waiting {
    number: u64,
    batch: Batch<Earlier>,
    /// Bytes of the chunks that were asked for.
    wanted_len: usize,
}

/// The loop that always reads on.
struct Receiving<'a, 'o> {
    options: &'a ReceiveOptions<'o>,
    index: &'a Arc<Index>,
    previous: Previous<'a>,
    /// Files that the agent was told of, in order; their content can be relied on.
    told: Receiver<(EntryPath, Earlier)>,
    /// Bytes of the file under way.
    len: u64,
    writer: &'a LinkWriter,
    more: Sender<()>,
    waiting: VecDeque<Waiting>,
    batches: &'a Sender<Named<Earlier>>,
}

impl Receiving<'_, '_> {
    fn run(mut self, reader: &mut LinkReader) -> Result<u64, Stop> {
        loop {
            match receive(reader)? {
                ToHost::Batch { number, found } => self.take(number, found)?,
                ToHost::Data { batch, bytes } => self.fill(batch, bytes)?,
                // If nobody tells any more, the agent knows that there is no more.
                ToHost::More => drop(self.more.try_send(())),
                ToHost::Warning { object, message, skipped } => {
                    self.options.observer.warn(Warning { object, message, skipped });
                }
                ToHost::End { bytes_read } if self.waiting.is_empty() => return Ok(bytes_read),
                ToHost::End { .. } => return Err(damaged("it ended before all was sent")),
                ToHost::Failed { message, .. } => return Err(LinkError::Failed(message).into()),
                ToHost::Hello { .. } | ToHost::Marker(_) | ToHost::Answer(_) | ToHost::Alive => {
                    return Err(damaged("it says what was not asked"));
                }
            }
        }
    }

    /// Takes what was found and asks for the chunks that are new.
    fn take(&mut self, number: u64, found: Vec<Found>) -> Result<(), Stop> {
        if self.waiting.len() >= BATCHES_HELD {
            return Err(damaged("it does not wait for what is wanted"));
        }
        let mut batch = Batch::new(Vec::new());
        let (mut wanted, mut wanted_len) = (Vec::new(), 0);
        for found in found {
            let event = self.event(found, &mut wanted, &mut wanted_len)?;
            batch.push(event, 0);
        }
        send(self.writer, &ToAgent::Want { batch: number, wanted })?;
        self.waiting.push_back(Waiting { number, batch, wanted_len });
        self.hand_on()
    }

    fn event(
        &mut self,
        found: Found,
        wanted: &mut Vec<bool>,
        wanted_len: &mut usize,
    ) -> Result<Event<Earlier>, Stop> {
        let counters = self.options.observer.counters();
        Ok(match found {
            Found::Chunk { id, len } => {
                if len == 0 || len > self.options.repo.config().chunker.max {
                    return Err(damaged("a chunk has a length that none can have"));
                }
                self.grow(u64::from(len))?;
                let is_known = self.index.claim(&id).map_err(OpsError::from)?;
                let place = self.index.find(&id).map_err(OpsError::from)?;
                if place.is_some_and(|place| place.len != len) {
                    return Err(damaged("a chunk has another length than the one of its name"));
                }
                let is_wanted = !is_known && self.options.data == NewData::Store;
                wanted.push(is_wanted);
                Counters::add(&counters.bytes, u64::from(len));
                let end = *wanted_len + if is_wanted { len as usize } else { 0 };
                let new = is_wanted.then_some(*wanted_len..end);
                *wanted_len = end;
                Event::Claimed { id, len, new }
            }
            Found::Zeros(len) => {
                self.grow(len)?;
                Counters::add(&counters.bytes, len);
                Event::Zeros(len)
            }
            Found::Plain { path, entry, hint } => {
                if has_content(&entry) {
                    return Err(damaged("a file comes without its content"));
                }
                Counters::add(&counters.entries, 1);
                let before = self.previous.find(&path);
                Event::Plain { path, entry, hint, before }
            }
            Found::End { path, entry, hint } => {
                if !has_content(&entry) {
                    return Err(damaged("what is no file comes with content"));
                }
                self.len = 0;
                Counters::add(&counters.entries, 1);
                let is_new = self.previous.find(&path).is_none();
                Event::End { path, entry, hint, is_new }
            }
            Found::Kept { path, entry, hint } => {
                Counters::add(&counters.entries, 1);
                Counters::add(&counters.bytes, entry.content_len());
                let before = self.told_of(&path, &entry, hint);
                let before = before.ok_or_else(|| damaged("it keeps what it was not told of"))?;
                Event::Kept { path, entry, hint, before }
            }
            Found::Lost { path } => {
                self.len = 0;
                Counters::add(&counters.entries, 1);
                Event::Lost { path }
            }
        })
    }

    /// What the agent was told of the file at `path`, if what it says now is the same.
    fn told_of(&self, path: &EntryPath, entry: &Entry, hint: Option<Hint>) -> Option<Earlier> {
        // It was told before it could answer.
        let mut told = self.told.try_iter().skip_while(|(told, _)| told < path);
        told.next().filter(|(told, _)| told == path).map(|(_, earlier)| earlier).filter(|earlier| {
            let before = &earlier.stored.entry;
            hint.is_some()
                && hint == earlier.hint
                && has_content(entry)
                && (before.content_len(), before.mtime) == (entry.content_len(), entry.mtime)
        })
    }

    /// A file under way has so many bytes more.
    fn grow(&mut self, len: u64) -> Result<(), Stop> {
        let sum = self.len.checked_add(len).filter(|sum| len > 0 && i64::try_from(*sum).is_ok());
        self.len = sum.ok_or_else(|| damaged("a file has a length that none can have"))?;
        Ok(())
    }

    /// Takes the chunks that were asked for.
    fn fill(&mut self, number: u64, bytes: Vec<u8>) -> Result<(), Stop> {
        let first = self.waiting.iter_mut().find(|waiting| waiting.wanted_len > 0);
        match first {
            Some(waiting) if waiting.number == number && waiting.wanted_len == bytes.len() => {
                waiting.wanted_len = 0;
                waiting.batch.buffer = bytes;
            }
            _ => return Err(damaged("it sends what was not asked for")),
        }
        self.hand_on()
    }

    /// Hands on what is complete, in order. Blocks while the stages behind are busy.
    fn hand_on(&mut self) -> Result<(), Stop> {
        while self.waiting.front().is_some_and(|waiting| waiting.wanted_len == 0) {
            let Some(Waiting { batch, .. }) = self.waiting.pop_front() else { break };
            let (send, named) = bounded(1);
            let _ = send.send(batch);
            let handed = self.batches.send(named);
            handed.map_err(|_| OpsError::from(crate::repo::RepoError::Worker))?;
        }
        Ok(())
    }
}

fn damaged(why: &str) -> Stop {
    Stop::Link(LinkError::Damaged(why.to_owned()))
}

impl std::fmt::Debug for RemoteSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RemoteSource({})", self.link.name)
    }
}

/// Whether it is a file whose content stands under this name.
fn has_content(entry: &Entry) -> bool {
    matches!(entry.kind, Kind::File { .. }) && entry.link.is_none()
}
