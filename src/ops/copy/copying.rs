//! Copies snapshots one after the other; each is committed before the next begins.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::fetch::Fetcher;
use super::original::{Failure, Original};
use super::{Copied, CopyOptions, DamagedFiles, Known, Outcome, Plan, Refused, key};
use crate::clock::Stopwatch;
use crate::entry::{EntryPath, Extent};
use crate::event::{Counters, Observer};
use crate::format::{BackupFacts, FormatError, Item, SnapshotBody, WarningFact};
use crate::id::ChunkId;
use crate::ops::backup::{Collector, Run, Saved};
use crate::ops::error::{Interrupt, OpsError};
use crate::repo::{
    ChunkReader, ContentWalk, NewData, RepoError, Repository, Session, Snapshot, TreeWalk,
    WriterOptions, reach,
};

/// Opened frames that are kept, in bytes.
const CACHE_LEN: usize = 32 << 20;

/// Part of the memory limit that packs under way may take.
const PACK_MEMORY_SHARE: u64 = 3;

/// So many warnings stand in a snapshot.
const WARNINGS_MAX: usize = 1000;

/// Lost chunks that are remembered, so that snapshots with them are refused before they are read.
const LOST_MAX: usize = 100_000;

/// Copies snapshots from one repository to another.
pub struct Copying<'a> {
    from: &'a Arc<Repository>,
    to: &'a Arc<Repository>,
    options: CopyOptions,
    reader: Arc<ChunkReader>,
    known: Known,
    lost: HashSet<ChunkId>,
}

/// Who watches, and who stops it.
#[derive(Clone, Copy)]
struct Watch<'a> {
    observer: &'a Arc<dyn Observer>,
    interrupt: &'a Interrupt,
}

/// A new item, and what it took.
struct NewItem {
    item: Item,
    facts: BackupFacts,
    left_out: u64,
    stored: u64,
}

impl<'a> Copying<'a> {
    /// Gets ready to copy what `plan` says, which was made for these repositories.
    ///
    /// Errors: an index that cannot be read.
    pub fn begin(
        from: &'a Arc<Repository>,
        to: &'a Arc<Repository>,
        plan: Plan,
        options: CopyOptions,
    ) -> Result<Self, OpsError> {
        let reader = reader(from)?;
        Ok(Self { from, to, options, reader, known: plan.known, lost: HashSet::new() })
    }

    /// Copies one snapshot of the plan.
    ///
    /// Errors: [`OpsError`]; then nothing was acknowledged and no snapshot shows.
    pub fn copy(
        &mut self,
        snapshot: &Snapshot,
        observer: &Arc<dyn Observer>,
        interrupt: &Interrupt,
    ) -> Result<Outcome, OpsError> {
        let watch = Watch { observer, interrupt };
        match self.try_copy(snapshot, watch) {
            Err(OpsError::Repo(RepoError::Gone { .. })) => {
                // A collector has moved what is needed: where to, the index of now says.
                self.reader = reader(self.from)?;
                self.try_copy(snapshot, watch)
            }
            done => done,
        }
    }

    fn try_copy(&mut self, snapshot: &Snapshot, watch: Watch<'_>) -> Result<Outcome, OpsError> {
        let stopwatch = Stopwatch::start();
        expect_totals(snapshot, watch.observer);
        watch.observer.stage("copying");
        let session = Session::begin(self.to, watch.observer)?;
        let mut items = Vec::new();
        let (mut facts, mut left_out, mut stored) = (BackupFacts::default(), 0, 0);
        for item in snapshot.items() {
            let new = match self.copy_item(&session, snapshot, item, watch)? {
                Ok(new) => new,
                Err(refused) => return Ok(Outcome::Refused(refused)),
            };
            facts.bytes_read += new.facts.bytes_read;
            facts.bytes_new += new.facts.bytes_new;
            left_out += new.left_out;
            stored += new.stored;
            items.push(new.item);
        }
        watch.interrupt.check()?;
        watch.observer.stage("committing");
        let origin = snapshot.origin(self.from.id());
        let body = SnapshotBody { items, copied: Some(origin), ..snapshot.body.clone() };
        let committed = session.commit(&body, self.writer_options())?;
        self.known.add_there(key(&origin), committed.snapshot, &body.items);
        let sum = |figure: fn(&BackupFacts) -> u64| {
            body.items.iter().map(|item| figure(&item.facts)).fold(0, u64::saturating_add)
        };
        Ok(Outcome::Copied(Copied {
            from: snapshot.id,
            snapshot: committed.snapshot,
            head: committed.head,
            entries: sum(|facts| facts.entries),
            bytes: sum(|facts| facts.bytes),
            left_out,
            bytes_read: facts.bytes_read,
            bytes_new: facts.bytes_new,
            bytes_stored: stored + committed.stored_bytes,
            seconds: stopwatch.elapsed().as_secs_f64(),
        }))
    }

    fn writer_options(&self) -> WriterOptions {
        WriterOptions {
            level: self.options.level,
            verify: self.options.verify,
            pack_memory: self.options.memory / PACK_MEMORY_SHARE,
            data: NewData::Store,
        }
    }

    fn copy_item(
        &mut self,
        session: &Session,
        snapshot: &Snapshot,
        item: &Item,
        watch: Watch<'_>,
    ) -> Result<Result<NewItem, Refused>, OpsError> {
        let refused =
            |path, error| Refused { snapshot: snapshot.id, item: item.name.clone(), path, error };
        let before = self.known.before(snapshot, item);
        if let Some((ours, theirs)) = before
            && is_copied_whole(item, ours, theirs)
            && self.rely_on_all(session, theirs)?
        {
            let counters = watch.observer.counters();
            Counters::add(&counters.entries, item.facts.entries);
            Counters::add(&counters.bytes, item.facts.bytes);
            let item = with_tree(item, theirs);
            return Ok(Ok(NewItem { item, facts: BackupFacts::default(), left_out: 0, stored: 0 }));
        }
        if self.options.damaged == DamagedFiles::Refuse
            && let Some((path, error)) = self.known_loss(item, watch.interrupt)?
        {
            return Ok(Err(refused(path, error)));
        }
        let collector = Arc::new(Collector::new(watch.observer.clone()));
        let watched: Arc<dyn Observer> = collector.clone();
        let run = Run {
            repo: self.to,
            session,
            watched: &watched,
            interrupt: watch.interrupt,
            clock: self.options.clock,
            read_all: false,
        };
        let writer = self.writer_options();
        let (saved, failure, lost, counted) = std::thread::scope(|scope| {
            let fetcher = Fetcher::start(scope, &self.reader);
            let ours = before.map(|(ours, _)| ours);
            let (reader, damaged) = (&self.reader, self.options.damaged);
            let mut original = Original::new(reader, fetcher, item, ours, damaged, &watched);
            let saved = run.save(&mut original, before.map(|(_, theirs)| theirs), writer);
            let counted = (original.entries, original.bytes);
            (saved, original.take_failure(), original.lost, counted)
        });
        if self.lost.len() < LOST_MAX {
            self.lost.extend(lost);
        }
        let saved = match (saved, failure) {
            (_, Some(Failure::Damaged(path, error))) => return Ok(Err(refused(path, error))),
            (_, Some(Failure::Repo(error))) => return Err(error.into()),
            (saved, None) => saved?,
        };
        let left_out = collector.skipped();
        if left_out == 0 && counted != (saved.root.entries, saved.root.bytes) {
            // Nothing that was read may be missing in what is committed.
            let why = "its copy does not hold as much as it";
            return Err(RepoError::from(FormatError::damaged("tree", why)).into());
        }
        let (facts, stored) = (saved.facts, saved.stored);
        let item = new_item(item, &saved, &collector);
        Ok(Ok(NewItem { item, facts, left_out, stored }))
    }

    /// Whether the new snapshot can rest on everything that an item of the other repository needs.
    fn rely_on_all(&self, session: &Session, theirs: &Item) -> Result<bool, OpsError> {
        let index = session.index();
        let reader = ChunkReader::new(self.to, index, CACHE_LEN);
        let mut is_all = true;
        let reached = reach(&reader, theirs, &mut HashSet::new(), &mut |_, id| {
            is_all = is_all && index.rely(id)?;
            Ok(())
        });
        match reached {
            Ok(()) => Ok(is_all),
            // What cannot be looked up is copied again.
            Err(error) if error.is_damage() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The first file of an item that needs a chunk which is known to be lost.
    fn known_loss(
        &self,
        item: &Item,
        interrupt: &Interrupt,
    ) -> Result<Option<(Option<EntryPath>, RepoError)>, OpsError> {
        if self.lost.is_empty() {
            return Ok(None);
        }
        let find = || {
            let mut walk = TreeWalk::new(&self.reader, item.root, item.root_level);
            while let Some((path, stored)) = walk.next()? {
                interrupt.check()?;
                let mut content = ContentWalk::new(&self.reader, &stored.content);
                while let Some(extent) = content.next()? {
                    if let Extent::Chunk(id, _) = extent
                        && self.lost.contains(&id)
                    {
                        let why = "is damaged, as an earlier snapshot has shown".to_owned();
                        return Ok(Some((Some(path), RepoError::Chunk { id, why })));
                    }
                }
            }
            Ok(None)
        };
        match find() {
            Err(OpsError::Repo(error @ RepoError::Gone { .. })) => Err(error.into()),
            // Reading it in earnest will say where.
            Err(OpsError::Repo(error)) if error.is_damage() => Ok(None),
            found => found,
        }
    }
}

fn reader(repo: &Arc<Repository>) -> Result<Arc<ChunkReader>, OpsError> {
    let index = Arc::new(repo.load_index()?);
    Ok(Arc::new(ChunkReader::new(repo, &index, CACHE_LEN)))
}

fn expect_totals(snapshot: &Snapshot, observer: &Arc<dyn Observer>) {
    let counters = observer.counters();
    let sum = |figure: fn(&BackupFacts) -> u64| {
        snapshot.items().iter().map(|item| figure(&item.facts)).fold(0, u64::saturating_add)
    };
    counters.entries_total.store(sum(|facts| facts.entries), Ordering::Relaxed);
    counters.bytes_total.store(sum(|facts| facts.bytes), Ordering::Relaxed);
}

/// Whether `theirs`, the copy of `ours`, is all that a copy of `item` would be. Figures differ
/// where something was left out.
fn is_copied_whole(item: &Item, ours: &Item, theirs: &Item) -> bool {
    (item.root, item.root_level, item.hints) == (ours.root, ours.root_level, ours.hints)
        && ours.facts == theirs.facts
}

/// An item with the tree that another has.
fn with_tree(item: &Item, tree: &Item) -> Item {
    Item { root: tree.root, root_level: tree.root_level, hints: tree.hints, ..item.clone() }
}

/// The item with the tree that was stored. What the original says of itself stays; what is missing
/// in the copy is added.
fn new_item(item: &Item, saved: &Saved, collector: &Collector) -> Item {
    let hints = saved.root.hints;
    let left_out = collector.skipped();
    let facts = match left_out {
        0 => item.facts,
        _ => BackupFacts {
            entries: saved.root.entries,
            bytes: saved.root.bytes,
            entries_skipped: item.facts.entries_skipped.saturating_add(left_out),
            ..item.facts
        },
    };
    let told = collector.kept().into_iter().filter(|warning| warning.skipped);
    let told =
        told.map(|w| WarningFact { object: w.object, message: w.message, skipped: w.skipped });
    Item {
        root: saved.root.id,
        root_level: saved.root.level,
        hints: item.hints.map(|_| (hints.id, hints.len, hints.level)),
        facts,
        warnings: told.chain(item.warnings.iter().cloned()).take(WARNINGS_MAX).collect(),
        ..item.clone()
    }
}

impl std::fmt::Debug for Copying<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Copying({:?} to {:?})", self.from, self.to)
    }
}
