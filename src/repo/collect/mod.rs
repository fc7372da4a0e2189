//! The collector's half of the two-list protocol: marks, repacks, condemns, lists again, sweeps.
//!
//! Steps G1 to G5 are those of `docs/format.md`. The collector stores its condemn record, then
//! looks for snapshot records; a writer does it the other way round, so one of them sees the other.
//! Nothing is deleted while anything is not accounted for. What one collector leaves undone, any
//! other may finish.

mod choose;
mod copy;
mod expire;
mod judge;
mod mark;
mod needed;
mod read;
mod segments;
mod survey;
mod sweep;
mod view;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

pub use self::choose::MaxUnused;
use self::copy::copy;
use self::expire::expire;
use self::mark::Marks;
use self::segments::{SegmentChoice, merge_segments};
pub use self::survey::survey;
use self::sweep::sweep;
use self::view::View;
use super::chunk_writer::WriterOptions;
use super::error::RepoError;
use super::layout;
use super::repository::Repository;
use crate::clock::Time;
use crate::crypto::random_bytes;
use crate::event::Observer;
use crate::format::{CondemnRecord, ObjectKind};
use crate::id::{ChunkPrefix, PackId, SegmentId, SnapshotId, hex};
use crate::store::ObjectName;

/// The wait between condemning and deleting where others may use the repository too.
pub const GRACE_SHARED: Duration = Duration::from_secs(24 * 3600);

/// The least wait where lists were seen to lag behind what is written: nobody knows by how much,
/// and half of the wait is what they may lag.
pub const GRACE_LAGGING: Duration = Duration::from_secs(7 * 24 * 3600);

/// The age from which a backup that has not come to its end is taken for one that never will.
pub const ABANDONED: Duration = Duration::from_secs(7 * 24 * 3600);

/// Packs and segments in a condemn record, at most.
const CONDEMNED_MAX: usize = 1 << 20;

/// Asked at every step; an error stops.
pub type Stop<'a> = &'a dyn Fn() -> Result<(), RepoError>;

/// How long is waited between condemning and deleting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grace {
    /// So long.
    Given(Duration),
    /// Not at all if nobody but this host has written to the repository, else [`GRACE_SHARED`].
    Local,
}

/// How garbage is collected.
#[derive(Debug, Clone)]
pub struct CollectOptions {
    /// The wait between condemning and deleting.
    pub grace: Grace,
    /// How much space may stay unused in packs that are kept.
    pub max_unused: MaxUnused,
    /// Most bytes to store anew for the sake of space.
    pub max_repack: Option<u64>,
    /// Backups without a commit are given up at this age.
    pub expire_pending: Duration,
    /// Packs of runs that stored no record are left alone up to this age.
    pub orphan_age: Duration,
    /// Snapshots to take for forgotten, to see what that would free. Only for a plan.
    pub forgotten: BTreeSet<SnapshotId>,
    /// The time.
    pub now: Time,
    /// How chunks are stored anew.
    pub writer: WriterOptions,
}

/// So many things, and their bytes in the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Heap {
    /// How many.
    pub objects: u64,
    /// Bytes of them.
    pub bytes: u64,
}

impl Heap {
    fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

/// Calls to the store, about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Requests {
    /// Lists.
    pub list: u64,
    /// Reads.
    pub get: u64,
    /// Writes.
    pub put: u64,
    /// Deletions.
    pub delete: u64,
}

/// What a survey found and what is about to be done; bytes are those in the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Snapshots whose chunks are protected, backups under way among them.
    pub snapshots: u64,
    /// Backups that are given up.
    pub expired: u64,
    /// Packs that are listed.
    pub packs: Heap,
    /// Of these, condemned by nobody and in no part needed.
    pub free: Heap,
    /// Of these, to be emptied before they go.
    pub repack: Heap,
    /// Bytes that are stored anew, about.
    pub moved: u64,
    /// Bytes of packs that stay and are not needed, about.
    pub unused: u64,
    /// Packs that are left alone because a backup that made them may be under way.
    pub young: Heap,
    /// Packs that were condemned before and whose time has come.
    pub due: Heap,
    /// Packs that were condemned before and wait.
    pub waiting: Heap,
    /// Segments that go, those that are merged among them.
    pub segments: Heap,
    /// Segments that are merged.
    pub merged: u64,
    /// Bytes that are free when this is done.
    pub freed_now: u64,
    /// Bytes that are condemned and freed by a later run.
    pub freed_later: u64,
    /// The wait between condemning and deleting.
    pub grace: Duration,
    /// When all that is condemned may go; none if nothing waits.
    pub later: Option<Time>,
    /// Calls to the store.
    pub requests: Requests,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Backups that were given up.
    pub expired: u64,
    /// Packs that were condemned.
    pub condemned: Heap,
    /// Packs that were stored anew, and bytes stored for it with their segments.
    pub stored: Heap,
    /// Segments that were condemned.
    pub segments_condemned: u64,
    /// Packs that were deleted.
    pub packs: Heap,
    /// Segments that were deleted.
    pub segments: Heap,
    /// Condemned packs that were kept because something needs them after all.
    pub spared: u64,
    /// Condemn records that are done with.
    pub records: u64,
}

/// A survey, and all it takes to act on it.
#[derive(Debug)]
pub struct Collection {
    /// What was found and is about to be done.
    pub figures: Figures,
    options: CollectOptions,
    view: View,
    marks: Marks,
    expire: BTreeSet<SnapshotId>,
    /// Packs to be condemned.
    going: HashSet<PackId>,
    /// Segments to be condemned, or merged and condemned.
    segments: SegmentChoice,
    /// Whether the packs that go hold anything that is needed.
    moves: bool,
}

impl Collection {
    /// Does what the survey found.
    ///
    /// It can be stopped, or killed, anywhere: another run goes on.
    /// Errors: [`RepoError::NotCollected`] if something is not accounted for;
    /// [`RepoError::Refused`] for a survey that took snapshots for forgotten.
    pub fn run(
        mut self,
        repo: &Arc<Repository>,
        observer: &Arc<dyn Observer>,
        stop: Stop<'_>,
    ) -> Result<Collected, RepoError> {
        if !self.options.forgotten.is_empty() {
            let why = "what was only looked at as if it were forgotten cannot be collected";
            return Err(RepoError::Refused(why.to_owned()));
        }
        let mut collected = Collected::default();
        for id in &self.expire {
            stop()?;
            collected.expired += u64::from(expire(repo, &self.view, id)?);
        }
        let sound = self.repack(repo, &mut collected, observer, stop)?;
        stop()?;
        observer.stage("condemning");
        self.condemn(repo, &mut collected)?;
        let grace = self.figures.grace;
        let now = self.options.now.max(self.view.newest());
        let due = |written: Time| is_due(written, grace, now);
        let old = self.view.condemned.iter().any(|record| !record.done && due(record.written));
        // A late upload may have come back after its record was done with.
        let strays = self.figures.due.objects > 0;
        let fresh = collected.condemned.objects > 0 || collected.segments_condemned > 0;
        if old || strays || grace.is_zero() && fresh {
            let Self { mut marks, view: View { condemned, .. }, .. } = self;
            let swept = sweep(repo, &mut marks, &condemned, due, &sound, observer, stop)?;
            collected.packs = Heap { objects: swept.packs, bytes: swept.pack_bytes };
            collected.segments = Heap { objects: swept.segments, bytes: swept.segment_bytes };
            collected.spared = swept.spared;
            collected.records = swept.records;
        }
        Ok(collected)
    }

    /// Stores anew what is needed of packs that go; gives the new packs.
    fn repack(
        &mut self,
        repo: &Arc<Repository>,
        collected: &mut Collected,
        observer: &Arc<dyn Observer>,
        stop: Stop<'_>,
    ) -> Result<HashSet<PackId>, RepoError> {
        if !self.moves {
            return Ok(HashSet::new());
        }
        observer.stage("repacking");
        let index = &self.view.inventory.index;
        // From here on they are no holders; what they hold and others need is stored anew.
        let _ = index.condemn(&self.going);
        let writer = self.options.writer;
        let copied = copy(repo, index, &mut self.marks.needed, writer, observer, stop)?;
        let objects = copied.packs.len() as u64;
        collected.stored = Heap { objects, bytes: copied.stored_bytes };
        Ok(copied.packs.into_iter().collect())
    }

    /// G2: merges segments, then stores the condemn records.
    fn condemn(&self, repo: &Repository, collected: &mut Collected) -> Result<(), RepoError> {
        let merged = merge_segments(repo, &self.segments.merge, |pack| self.stays(pack))?;
        collected.stored.bytes += merged;
        let mut packs: Vec<PackId> = self.going.iter().copied().collect();
        packs.sort_unstable();
        let segments = self.segments.free.iter().chain(&self.segments.merge);
        let segments: Vec<SegmentId> = segments.copied().collect();
        put_condemn(repo, &packs, &segments)?;
        let listed = &self.view.inventory.listed;
        packs.iter().for_each(|pack| {
            collected.condemned.add(listed.get(pack).copied().unwrap_or(0));
        });
        collected.segments_condemned = segments.len() as u64;
        Ok(())
    }

    /// Whether a pack is listed and neither condemned nor about to be.
    fn stays(&self, pack: &PackId) -> bool {
        let inventory = &self.view.inventory;
        inventory.listed.contains_key(pack)
            && !inventory.condemned.contains(pack)
            && !self.going.contains(pack)
    }
}

/// Condemns packs because they are damaged: nothing new will rest on them, so the next backups
/// store what they hold once more. No pack goes by this alone; a collector spares it while anything
/// in it is needed and nowhere else.
///
/// Errors: of the store.
pub fn set_aside(repo: &Repository, packs: &[PackId]) -> Result<(), RepoError> {
    repo.check_writable()?;
    put_condemn(repo, packs, &[])
}

/// G2: stores the condemn records.
fn put_condemn(
    repo: &Repository,
    packs: &[PackId],
    segments: &[SegmentId],
) -> Result<(), RepoError> {
    let records = packs.len().max(segments.len()).div_ceil(CONDEMNED_MAX);
    for number in 0..records {
        let record = CondemnRecord {
            packs: part(packs, number).to_vec(),
            segments: part(segments, number).to_vec(),
        };
        let payload = repo.seal_signed(ObjectKind::Condemn, &record.encode())?;
        let name = layout::condemn(&hex(&random_bytes::<16>()?));
        repo.store().put(&name, &payload)?;
    }
    Ok(())
}

fn part<T>(all: &[T], number: usize) -> &[T] {
    let start = (number * CONDEMNED_MAX).min(all.len());
    &all[start..(start + CONDEMNED_MAX).min(all.len())]
}

/// Whether the wait after what was written then is over, by the store's clock.
fn is_due(written: Time, grace: Duration, now: Time) -> bool {
    grace.is_zero() || age(written, now) >= grace
}

fn age(written: Time, now: Time) -> Duration {
    let seconds = now.seconds.saturating_sub(written.seconds);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// Names the object because of which nothing is deleted.
fn not_collected(name: &ObjectName) -> impl FnOnce(RepoError) -> RepoError {
    let object = name.to_string();
    move |source| RepoError::NotCollected { object, source: Box::new(source) }
}

/// As [`not_collected`], where the error itself names the object.
fn unaccounted(error: RepoError) -> RepoError {
    match error {
        RepoError::Object { name, source } => {
            not_collected(&name)(RepoError::Object { name: name.clone(), source })
        }
        other => other,
    }
}

/// A chunk that is needed and nowhere.
fn lost(prefix: &ChunkPrefix) -> RepoError {
    let mut id = [0; 32];
    id[..ChunkPrefix::LEN].copy_from_slice(prefix.as_bytes());
    let why = "is needed and in no pack that a segment names and the store lists".to_owned();
    let source = Box::new(RepoError::Chunk { id: crate::id::ChunkId::new(id), why });
    RepoError::NotCollected { object: format!("chunk {prefix}"), source }
}
