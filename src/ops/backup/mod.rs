//! Backup: from a source to an acknowledged snapshot.
//!
//! Three stages work at once. Reading walks the source beside the tree of the snapshot before and
//! reads what may have changed into batches; naming, on the processor threads, hashes the chunks of
//! a batch; assembling takes batches in order, stores what is new, and builds the tree. Behind it
//! the chunk writer compresses, seals, checks and stores. Each stage hands on through a bounded
//! channel, so a slow store slows the reading down, and memory has a ceiling.

mod assembling;
mod batch;
mod collector;
mod previous;
mod reading;
mod sorter;
mod volume;

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};

use self::assembling::Assembler;
pub(in crate::ops) use self::assembling::within_limits;
pub(in crate::ops) use self::batch::{BATCHES_IN_FLIGHT, Batch, Event, Named};
pub use self::collector::Collector;
pub(in crate::ops) use self::previous::{Earlier, Previous};
pub(in crate::ops) use self::reading::{Before, ReadOptions, Reading};
pub(in crate::ops) use self::volume::{OpenedVolume, can_do_without};
pub use self::volume::{Route, VolumePlan, Way, backup_volume, find_volume, plan_volume};
use super::agent::{ReceiveOptions, RemoteSource};
use super::error::{Interrupt, OpsError};
use super::series::Series;
use crate::clock::{Clock, Stopwatch};
use crate::event::{Observer, Warning};
use crate::format::{
    BackupFacts, HostFacts, Item, ItemKind, Method, SnapshotBody, VolumeFacts, WarningFact,
};
use crate::id::{RecordHash, SnapshotId};
use crate::repo::{ChunkReader, NewData, Repository, Session, TreeRoot, WriterOptions};
use crate::source::{Order, Source};

/// Opened frames of the tree before that are kept, in bytes.
const PREVIOUS_CACHE: usize = 8 << 20;

/// Part of the memory limit that packs under way may take.
const PACK_MEMORY_SHARE: u64 = 3;

/// What is saved, apart from its entries.
#[derive(Debug, Clone)]
pub struct NewItem {
    /// What it is.
    pub kind: ItemKind,
    /// Its name.
    pub name: String,
    /// How it is read.
    pub method: Method,
    /// Why what is read may be less than everything; each reason ends the run with exit code 3.
    pub degraded: Vec<String>,
    /// Its definition, if it is a volume.
    pub volume: Option<VolumeFacts>,
    /// Containers that use it while it is read.
    pub in_use_by: Vec<String>,
}

/// How a backup is made.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// The host it belongs to.
    pub host: HostFacts,
    /// Tags of the snapshot.
    pub tags: Vec<String>,
    /// zstd level.
    pub level: i32,
    /// Whether every frame is opened and hashed before it is sent.
    pub verify: bool,
    /// Whether files are read even where hints say that they did not change.
    pub read_all: bool,
    /// Ceiling of memory in bytes.
    pub memory: u64,
    /// Where the time comes from.
    pub clock: Clock,
    /// The program's name and version, for the record.
    pub program: String,
}

/// What a backup did.
#[derive(Debug, Clone)]
pub struct BackupReport {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The writer's head, to be kept elsewhere: it tells whether a store was rolled back.
    pub head: RecordHash,
    /// What was saved.
    pub item: Item,
    /// The snapshot before, whose unchanged files were not read.
    pub parent: Option<SnapshotId>,
    /// Bytes stored in all, with trees, index and records.
    pub bytes_stored: u64,
    /// Packs stored.
    pub packs: u64,
    /// Seconds it took.
    pub seconds: f64,
}

impl BackupReport {
    /// Whether anything is missing in the snapshot, or may be.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.item.degraded || self.item.warnings.iter().any(|warning| warning.skipped)
    }
}

/// Where the entries of an item come from.
pub enum Origin {
    /// Read here.
    Source(Box<dyn Source>),
    /// Read by an agent beside the data.
    Agent(Box<RemoteSource>),
}

impl From<Box<dyn Source>> for Origin {
    fn from(source: Box<dyn Source>) -> Self {
        Self::Source(source)
    }
}

impl From<RemoteSource> for Origin {
    fn from(source: RemoteSource) -> Self {
        Self::Agent(Box::new(source))
    }
}

/// Saves one item in a snapshot of its own.
///
/// `open` opens the source with the observer that it is to warn; `complete` is asked, when the
/// source has ended, whether what was read is still there, and fails the run if not.
///
/// Errors: [`OpsError`]; then nothing was acknowledged and no snapshot shows.
pub fn backup<O: Into<Origin>>(
    repo: &Arc<Repository>,
    item: &NewItem,
    open: impl FnOnce(Arc<dyn Observer>) -> Result<O, OpsError>,
    complete: impl FnOnce() -> Result<(), OpsError>,
    options: &BackupOptions,
    observer: &Arc<dyn Observer>,
    interrupt: &Interrupt,
) -> Result<BackupReport, OpsError> {
    let watch = Stopwatch::start();
    let started = options.clock.now();
    let prepared = prepare(repo, item, open, options, observer)?;
    let Prepared { collector, watched, origin, parent, session } = prepared;
    let writer = writer_options(options, NewData::Store);
    watched.stage("reading");
    let run = Run::new(repo, &session, options, &watched, interrupt);
    let saved = run.save_origin(origin, parent.as_ref().map(|(_, item)| item), writer)?;
    complete()?;
    interrupt.check()?;
    watched.stage("committing");
    let body = SnapshotBody {
        seconds: started.seconds,
        nanos: started.nanos,
        host: options.host.clone(),
        tags: options.tags.clone(),
        items: vec![new_item(item, &saved, &collector)],
        program: options.program.clone(),
        salvaged: None,
        copied: None,
    };
    let committed = session.commit(&body, writer)?;
    let item = body.items.into_iter().next().expect("because one was put in");
    Ok(BackupReport {
        snapshot: committed.snapshot,
        head: committed.head,
        item,
        parent: parent.map(|(id, _)| id),
        bytes_stored: saved.stored + committed.stored_bytes,
        packs: saved.packs,
        seconds: watch.elapsed().as_secs_f64(),
    })
}

/// Builds the tree of one item without making a snapshot of it, to compare another tree with.
///
/// New content is not stored; the nodes of the tree are, and are garbage from then on.
/// Errors: as [`backup`].
pub fn scan<O: Into<Origin>>(
    repo: &Arc<Repository>,
    item: &NewItem,
    open: impl FnOnce(Arc<dyn Observer>) -> Result<O, OpsError>,
    options: &BackupOptions,
    observer: &Arc<dyn Observer>,
    interrupt: &Interrupt,
) -> Result<Item, OpsError> {
    let prepared = prepare(repo, item, open, options, observer)?;
    let Prepared { collector, watched, origin, parent, session } = prepared;
    let run = Run::new(repo, &session, options, &watched, interrupt);
    let parent = parent.as_ref().map(|(_, item)| item);
    let saved = run.save_origin(origin, parent, writer_options(options, NewData::Drop))?;
    Ok(new_item(item, &saved, &collector))
}

/// What stands before a source is read.
struct Prepared {
    collector: Arc<Collector>,
    watched: Arc<dyn Observer>,
    origin: Origin,
    parent: Option<(SnapshotId, Item)>,
    session: Session,
}

fn prepare<O: Into<Origin>>(
    repo: &Arc<Repository>,
    item: &NewItem,
    open: impl FnOnce(Arc<dyn Observer>) -> Result<O, OpsError>,
    options: &BackupOptions,
    observer: &Arc<dyn Observer>,
) -> Result<Prepared, OpsError> {
    let collector = Arc::new(Collector::new(observer.clone()));
    let watched: Arc<dyn Observer> = collector.clone();
    for reason in &item.degraded {
        watched.warn(Warning::skipped(item.name.as_bytes(), reason.as_str()));
    }
    let origin = open(watched.clone())?.into();
    let (list, session) = Session::begin_beside_list(repo, &watched)?;
    let series =
        Series { host: options.host.name.clone(), kind: item.kind, name: item.name.clone() };
    let mut parent = series.latest(&list);
    if let Some((snapshot, _)) = parent
        && is_of_another_engine(&snapshot.body.host, &options.host)
    {
        let message = format!(
            "the snapshots before are of another docker engine that calls its machine `{}`, too; \
             give each a name of its own in the configuration ([hosts.NAME])",
            options.host.name
        );
        watched.warn(Warning::notice(item.name.as_bytes(), message));
        // Hints of another machine's files say nothing about these.
        parent = None;
    }
    let parent = parent.map(|(snapshot, item)| (snapshot.id, item.clone()));
    Ok(Prepared { collector, watched, origin, parent, session })
}

fn is_of_another_engine(before: &HostFacts, now: &HostFacts) -> bool {
    match (&before.engine_id, &now.engine_id) {
        (Some(before), Some(now)) => before != now,
        _ => false,
    }
}

fn writer_options(options: &BackupOptions, data: NewData) -> WriterOptions {
    WriterOptions {
        level: options.level,
        verify: options.verify,
        pack_memory: options.memory / PACK_MEMORY_SHARE,
        data,
    }
}

fn new_item(item: &NewItem, saved: &Saved, collector: &Collector) -> Item {
    let hints = saved.root.hints;
    Item {
        kind: item.kind,
        name: item.name.clone(),
        root: saved.root.id,
        root_level: saved.root.level,
        hints: Some((hints.id, hints.len, hints.level)),
        method: item.method,
        degraded: !item.degraded.is_empty(),
        volume: item.volume.clone(),
        facts: BackupFacts { entries_skipped: collector.skipped(), ..saved.facts },
        warnings: collector
            .kept()
            .into_iter()
            .map(|w| WarningFact { object: w.object, message: w.message, skipped: w.skipped })
            .collect(),
        in_use_by: item.in_use_by.clone(),
    }
}

/// What the stages of a backup, or of a copy, have in common.
pub(crate) struct Run<'a> {
    pub(crate) repo: &'a Arc<Repository>,
    pub(crate) session: &'a Session,
    pub(crate) watched: &'a Arc<dyn Observer>,
    pub(crate) interrupt: &'a Interrupt,
    pub(crate) clock: Clock,
    /// Whether files are read whatever hints say.
    pub(crate) read_all: bool,
}

/// A tree that was stored.
pub(crate) struct Saved {
    pub(crate) root: TreeRoot,
    pub(crate) facts: BackupFacts,
    /// Bytes of its packs and segments.
    pub(crate) stored: u64,
    pub(crate) packs: u64,
}

impl<'a> Run<'a> {
    fn new(
        repo: &'a Arc<Repository>,
        session: &'a Session,
        options: &BackupOptions,
        watched: &'a Arc<dyn Observer>,
        interrupt: &'a Interrupt,
    ) -> Self {
        let BackupOptions { clock, read_all, .. } = *options;
        Self { repo, session, watched, interrupt, clock, read_all }
    }

    /// B2: reads where `origin` says, stores what is new, and waits until it is acknowledged.
    fn save_origin(
        &self,
        origin: Origin,
        parent: Option<&Item>,
        writer_options: WriterOptions,
    ) -> Result<Saved, OpsError> {
        match origin {
            Origin::Source(mut source) => self.save(&mut *source, parent, writer_options),
            Origin::Agent(remote) => {
                self.assemble(Order::Sorted, writer_options, |reader, batches, _| {
                    let options = ReceiveOptions {
                        repo: self.repo,
                        reader,
                        parent,
                        observer: self.watched,
                        interrupt: self.interrupt,
                        read_all: self.read_all,
                        data: writer_options.data,
                    };
                    remote.run(&options, &batches)
                })
            }
        }
    }

    /// Reads the source, stores what is new, and waits until all of it is acknowledged.
    ///
    /// `parent` is the item of a snapshot of the same repository whose content is taken over where
    /// the source has the same.
    pub(crate) fn save(
        &self,
        source: &mut dyn Source,
        parent: Option<&Item>,
        writer_options: WriterOptions,
    ) -> Result<Saved, OpsError> {
        self.assemble(source.order(), writer_options, |reader, batches, spent| {
            let options = ReadOptions {
                cutter: Arc::new(self.repo.cutter()),
                pool: self.repo.pool(),
                observer: self.watched,
                interrupt: self.interrupt,
                read_all: self.read_all,
            };
            let previous = Previous::new(reader, parent, self.watched);
            Reading::new(options, previous, batches, spent).run(source)
        })
    }

    /// Builds the tree of what `read` hands on; gives it empty buffers back.
    fn assemble(
        &self,
        order: Order,
        writer_options: WriterOptions,
        read: impl FnOnce(
            &Arc<ChunkReader>,
            Sender<Named<Earlier>>,
            Receiver<Vec<u8>>,
        ) -> Result<u64, OpsError>,
    ) -> Result<Saved, OpsError> {
        let reader = Arc::new(ChunkReader::new(self.repo, self.session.index(), PREVIOUS_CACHE));
        let (batches, batches_in) = bounded(BATCHES_IN_FLIGHT);
        let (spent, spent_in) = bounded(BATCHES_IN_FLIGHT);
        let assembler = Assembler::new(
            self.session.writer(writer_options),
            order,
            self.watched.clone(),
            &self.repo.dirs().cache,
            self.clock.now(),
        );
        std::thread::scope(|scope| {
            let assembling = scope.spawn(move || assembler.run(&batches_in, &spent));
            let reading = read(&reader, batches, spent_in);
            let assembled = assembling.join().unwrap_or(Err(crate::repo::RepoError::Worker.into()));
            // If assembling failed, reading only failed to hand on.
            match (reading, assembled) {
                (Err(OpsError::Repo(crate::repo::RepoError::Worker)), Err(error)) => Err(error),
                (Err(error), _) | (Ok(_), Err(error)) => Err(error),
                (Ok(bytes_read), Ok(mut saved)) => {
                    saved.facts.bytes_read = bytes_read;
                    Ok(saved)
                }
            }
        })
    }
}
