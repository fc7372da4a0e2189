//! The host's half of a restore: a sink whose directory is where an agent is.
//!
//! Steps are gathered and sent in order; only what must be known before the next step is waited
//! for. What fails with one entry comes back as a warning, what fails altogether fails the next
//! call.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::host::{LOOK_EACH, Link, receive, send};
use super::link::{AgentStreams, LinkError, LinkReader, LinkWriter};
use super::message::{ToAgent, ToHost, WriteTask};
use super::step::Step;
use crate::clock::Time;
use crate::entry::{Entry, EntryPath, Kind};
use crate::event::{Observer, Warning};
use crate::ops::error::{Interrupt, OpsError};
use crate::sink::{Holes, Sink, SinkError, SinkFile};

/// Steps are sent when they hold so many bytes.
const STEPS_LEN: usize = 256 << 10;

/// Content is sent in pieces of this length.
const DATA_LEN: usize = 1 << 20;

/// A directory beside an agent.
pub struct RemoteSink {
    shared: Arc<Shared>,
    next_file: AtomicU32,
    /// Dropped, it ends who watches for an interrupt.
    _watched: Sender<()>,
}

/// What files and sink have in common.
struct Shared {
    name: String,
    writer: LinkWriter,
    hang_up: Arc<dyn Fn() + Send + Sync>,
    /// Steps that were not sent yet, and about how many bytes they hold.
    steps: Mutex<(Vec<Step>, usize)>,
    /// One question at a time.
    answers: Mutex<Receiver<Result<u64, String>>>,
    /// Why nothing more can be written.
    broken: Mutex<Option<String>>,
}

struct RemoteFile {
    shared: Arc<Shared>,
    number: u32,
    path: EntryPath,
    links: u64,
    finished: bool,
}

impl RemoteSink {
    /// Begins a restore where the agent behind `streams` is: into a directory that is new or empty,
    /// or into one that may hold anything. `marker` names the restore, in less than 4 KiB.
    ///
    /// Errors: [`OpsError::Agent`]; [`OpsError::Refused`] for what the directory holds.
    pub fn begin(
        streams: AgentStreams,
        existing: bool,
        marker: &str,
        observer: Arc<dyn Observer>,
        interrupt: &Interrupt,
    ) -> Result<Self, OpsError> {
        Self::over(Link::greet(streams)?, existing, marker, observer, interrupt)
    }

    /// As [`RemoteSink::begin`], with an agent that has answered.
    pub(in crate::ops) fn over(
        link: Link,
        existing: bool,
        marker: &str,
        observer: Arc<dyn Observer>,
        interrupt: &Interrupt,
    ) -> Result<Self, OpsError> {
        let Link { mut reader, writer, hang_up, name, .. } = link;
        let hang_up: Arc<dyn Fn() + Send + Sync> = hang_up.into();
        let (done, ended) = bounded::<()>(0);
        // Not waited for: it ends with the sink.
        drop(std::thread::spawn({
            let (hang_up, interrupt) = (hang_up.clone(), interrupt.clone());
            move || {
                while ended.recv_timeout(LOOK_EACH).is_err_and(|error| error.is_timeout()) {
                    if interrupt.check().is_err() {
                        hang_up();
                        break;
                    }
                }
            }
        }));
        let task = WriteTask { existing, marker: marker.to_owned() };
        let begun =
            send(&writer, &ToAgent::Write(task)).and_then(|()| match receive(&mut reader)? {
                ToHost::Answer(Ok(_)) => Ok(()),
                ToHost::Failed { message, refused: true } => Err(LinkError::Refused(message)),
                ToHost::Failed { message, .. } => Err(LinkError::Failed(message)),
                _ => Err(LinkError::Damaged("it says what was not asked".to_owned())),
            });
        if let Err(source) = begun {
            hang_up();
            interrupt.check()?;
            return Err(match source {
                LinkError::Refused(why) => OpsError::Refused(format!("{name}: {why}")),
                source => OpsError::Agent { name, source },
            });
        }
        let (answers, answers_in) = bounded(1);
        let shared = Arc::new(Shared {
            name,
            writer,
            hang_up,
            steps: Mutex::default(),
            answers: Mutex::new(answers_in),
            broken: Mutex::default(),
        });
        let heard = Arc::downgrade(&shared);
        // Not waited for: it ends with the stream, and that ends with the sink.
        drop(std::thread::spawn(move || {
            let error = listen(&mut reader, &answers, &*observer);
            if let Some(shared) = heard.upgrade() {
                let _ = lock(&shared.broken).get_or_insert_with(|| super::chain(&error));
            }
            // Whoever waits for an answer finds out only now.
            drop(answers);
        }));
        Ok(Self { shared, next_file: AtomicU32::new(0), _watched: done })
    }

    fn file(&self, path: &EntryPath, number: u32, links: u64) -> Box<dyn SinkFile> {
        let (shared, path) = (self.shared.clone(), path.clone());
        Box::new(RemoteFile { shared, number, path, links, finished: false })
    }

    fn number(&self) -> u32 {
        self.next_file.fetch_add(1, Ordering::Relaxed)
    }
}

impl Drop for RemoteSink {
    fn drop(&mut self) {
        (self.shared.hang_up)();
    }
}

/// Hears the agent until it ends; says why.
fn listen(
    reader: &mut LinkReader,
    answers: &Sender<Result<u64, String>>,
    observer: &dyn Observer,
) -> LinkError {
    loop {
        match receive(reader) {
            Ok(ToHost::Warning { object, message, skipped }) => {
                observer.warn(Warning { object, message, skipped });
            }
            Ok(ToHost::Answer(answer)) => {
                if answers.try_send(answer).is_err() {
                    return LinkError::Damaged("an answer that nobody waits for".to_owned());
                }
            }
            Ok(ToHost::Failed { message, .. }) => return LinkError::Failed(message),
            Ok(_) => return LinkError::Damaged("it says what was not asked".to_owned()),
            Err(error) => return error,
        }
    }
}

impl Shared {
    /// Takes a step; sends what was gathered when it is enough.
    fn take(&self, step: Step) -> Result<(), SinkError> {
        self.check()?;
        let mut steps = lock(&self.steps);
        steps.1 += step.weight();
        steps.0.push(step);
        if steps.1 >= STEPS_LEN { self.send(steps) } else { Ok(()) }
    }

    /// Takes a step and waits for its answer, which comes after all steps before it.
    fn ask(&self, step: Step) -> Result<Result<u64, String>, SinkError> {
        let answers = lock(&self.answers);
        self.take(step)?;
        self.send(lock(&self.steps))?;
        answers.recv().map_err(|_| self.failed("the agent is gone".to_owned()))
    }

    /// Sends what was gathered. The lock is held: steps keep their order.
    fn send(&self, mut steps: MutexGuard<'_, (Vec<Step>, usize)>) -> Result<(), SinkError> {
        if steps.0.is_empty() {
            return Ok(());
        }
        let (steps_now, _) = std::mem::take(&mut *steps);
        let sent = send(&self.writer, &ToAgent::Steps(steps_now));
        sent.map_err(|error| self.failed(super::chain(&error)))
    }

    fn check(&self) -> Result<(), SinkError> {
        let why = lock(&self.broken).clone();
        why.map_or(Ok(()), |why| Err(self.target(why)))
    }

    /// What the agent said last tells more than how the stream then failed.
    fn failed(&self, why: String) -> SinkError {
        let why = lock(&self.broken).get_or_insert(why).clone();
        self.target(why)
    }

    fn target(&self, why: String) -> SinkError {
        SinkError::Target { target: self.name.clone(), source: io::Error::other(why) }
    }
}

fn entry_error(path: &EntryPath, message: String) -> SinkError {
    SinkError::Entry { path: path.to_slashed(), source: io::Error::other(message) }
}

impl Sink for RemoteSink {
    fn make_directory(&self, path: &EntryPath) -> Result<(), SinkError> {
        self.shared.take(Step::MakeDirectory(path.clone()))
    }

    fn create_file(
        &self,
        path: &EntryPath,
        size: u64,
        holes: Holes,
    ) -> Result<Box<dyn SinkFile>, SinkError> {
        let file = self.number();
        self.shared.take(Step::CreateFile { file, path: path.clone(), size, holes })?;
        Ok(self.file(path, file, 1))
    }

    fn open_file(&self, path: &EntryPath, holes: Holes) -> Result<Box<dyn SinkFile>, SinkError> {
        let file = self.number();
        let links = self.shared.ask(Step::OpenFile { file, path: path.clone(), holes })?;
        Ok(self.file(path, file, links.map_err(|message| entry_error(path, message))?))
    }

    fn links(&self, path: &EntryPath) -> Result<u64, SinkError> {
        let links = self.shared.ask(Step::Links(path.clone()))?;
        links.map_err(|message| entry_error(path, message))
    }

    fn make_other(&self, path: &EntryPath, entry: &Entry) -> Result<(), SinkError> {
        self.shared.take(Step::MakeOther { path: path.clone(), entry: entry.clone() })
    }

    fn link(&self, path: &EntryPath, first: &EntryPath, kind: &Kind) -> Result<(), SinkError> {
        let entry = Entry {
            kind: kind.clone(),
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: Time::new(0, 0),
            xattrs: Vec::new(),
            link: None,
        };
        self.shared.take(Step::Link { path: path.clone(), first: first.clone(), entry })
    }

    fn finish_directory(&self, path: &EntryPath, entry: &Entry) -> Result<(), SinkError> {
        self.shared.take(Step::FinishDirectory { path: path.clone(), entry: entry.clone() })
    }

    fn set_metadata(&self, path: &EntryPath, entry: &Entry) -> Result<(), SinkError> {
        self.shared.take(Step::SetMetadata { path: path.clone(), entry: entry.clone() })
    }

    fn remove(&self, path: &EntryPath) -> Result<(), SinkError> {
        self.shared.take(Step::Remove(path.clone()))
    }

    fn complete(self: Box<Self>, root: &Entry) -> Result<(), SinkError> {
        let answer = self.shared.ask(Step::Complete { root: root.clone() })?;
        answer.map(drop).map_err(|message| self.shared.target(message))
    }
}

impl SinkFile for RemoteFile {
    fn links(&self) -> u64 {
        self.links
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), SinkError> {
        let mut offset = offset;
        data.chunks(DATA_LEN).try_for_each(|data| {
            let step = Step::WriteAt { file: self.number, offset, data: data.to_vec() };
            offset += data.len() as u64;
            self.shared.take(step)
        })
    }

    fn punch(&self, offset: u64, len: u64) -> Result<(), SinkError> {
        self.shared.take(Step::Punch { file: self.number, offset, len })
    }

    fn truncate(&self, len: u64) -> Result<(), SinkError> {
        self.shared.take(Step::Truncate { file: self.number, len })
    }

    fn finish(mut self: Box<Self>, entry: &Entry) -> Result<(), SinkError> {
        self.finished = true;
        let step = Step::FinishFile { file: self.number, entry: entry.clone() };
        self.shared.take(step)
    }
}

impl Drop for RemoteFile {
    fn drop(&mut self) {
        if !self.finished {
            // If it cannot be said, the agent is gone and the file with it.
            let _ = self.shared.take(Step::CloseFile { file: self.number });
        }
    }
}

impl std::fmt::Debug for RemoteSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RemoteSink({})", self.shared.name)
    }
}

impl std::fmt::Debug for RemoteFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RemoteFile({} of {})", self.number, self.path)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
