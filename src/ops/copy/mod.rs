//! Copy: snapshots of one repository become snapshots of another, with other keys.
//!
//! A copy is a backup whose source is a snapshot: content is cut and named anew with the keys of
//! the repository it goes to, and committed as any backup. Each snapshot remembers where it was
//! first made, so that it is copied once, whichever way it comes.

mod copying;
mod fetch;
mod original;

use std::collections::{HashMap, HashSet};

use super::error::OpsError;
use super::forget::forgotten;
use super::series::Series;
use crate::clock::{Clock, Time};
use crate::entry::EntryPath;
use crate::format::{Item, Origin};
use crate::id::{RecordHash, RepositoryId, SnapshotId};
use crate::repo::{RepoError, Repository, Snapshot, SnapshotList};

pub use self::copying::Copying;

/// What is done where a file of a snapshot is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DamagedFiles {
    /// The snapshot is not copied.
    Refuse,
    /// It is copied without the file, and says so.
    LeaveOut,
}

/// What is done with what was copied before and then forgotten there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForgottenThere {
    /// It is not wanted there.
    Skip,
    /// It is copied again.
    Copy,
}

/// How snapshots are copied.
#[derive(Debug, Clone)]
pub struct CopyOptions {
    /// What is done where a file is damaged.
    pub damaged: DamagedFiles,
    /// zstd level.
    pub level: i32,
    /// Whether every frame is opened and hashed before it is sent.
    pub verify: bool,
    /// Ceiling of memory in bytes.
    pub memory: u64,
    /// Where the time comes from.
    pub clock: Clock,
}

/// What becomes of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is to be copied.
    Copy,
    /// It is there, as this one.
    There(SnapshotId),
    /// It was there, as this one, and was forgotten.
    Forgotten(SnapshotId),
}

/// A snapshot that was asked for.
#[derive(Debug, Clone)]
pub struct Row {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// What becomes of it.
    pub fate: Fate,
}

/// What is about to be copied.
#[derive(Debug)]
pub struct Plan {
    /// The snapshots that were asked for, oldest first.
    pub rows: Vec<Row>,
    /// How many records of the other repository cannot be read: what they stand for may be copied
    /// once more.
    pub unreadable_there: usize,
    known: Known,
}

/// What tells snapshots apart, in whichever repository they lie.
type Key = (RepositoryId, SnapshotId);

fn key(origin: &Origin) -> Key {
    (origin.repository, origin.snapshot)
}

/// What both repositories hold.
#[derive(Debug, Default)]
struct Known {
    /// The items of each series, oldest first, in the repository that is read.
    originals: HashMap<Series, Vec<(Time, Key, Item)>>,
    /// The items of each snapshot in the one that is written to.
    there: HashMap<Key, (SnapshotId, Vec<Item>)>,
}

impl Known {
    fn add_original(&mut self, here: RepositoryId, snapshot: &Snapshot) {
        let key = key(&snapshot.origin(here));
        for item in snapshot.items() {
            let series = self.originals.entry(Series::of(snapshot, item)).or_default();
            series.push((snapshot.time(), key, slim(item)));
        }
    }

    fn add_there(&mut self, key: Key, id: SnapshotId, items: &[Item]) {
        let _ = self.there.insert(key, (id, items.iter().map(slim).collect()));
    }

    /// The item of the series that was copied last, or first if all are younger than this one: as
    /// it is where it is read, and its copy.
    fn before(&self, snapshot: &Snapshot, item: &Item) -> Option<(&Item, &Item)> {
        let series = self.originals.get(&Series::of(snapshot, item))?;
        let copies = || {
            series.iter().filter_map(|(time, key, ours)| {
                let mut theirs = self.there.get(key)?.1.iter();
                let theirs = theirs.find(|i| (i.kind, &i.name) == (ours.kind, &ours.name))?;
                Some((*time, ours, theirs))
            })
        };
        let is_older = |(time, ..): &(Time, &Item, &Item)| *time <= snapshot.time();
        let found = copies().rev().find(is_older).or_else(|| copies().next());
        found.map(|(_, ours, theirs)| (ours, theirs))
    }
}

/// An item without what takes room and is not needed to compare trees.
fn slim(item: &Item) -> Item {
    Item { warnings: Vec::new(), in_use_by: Vec::new(), volume: None, ..item.clone() }
}

/// Decides what is copied of the snapshots in `list`, which are those of `from`. Reads only.
///
/// What was forgotten in `from` is in no list. Snapshots are told apart by their origin.
/// Errors: [`OpsError::Refused`] if both are the same repository, or one a copy of the other's
/// objects; of reading `to`.
pub fn plan(
    from: &Repository,
    list: &SnapshotList,
    to: &Repository,
    wanted: &dyn Fn(&Snapshot) -> bool,
    again: ForgottenThere,
) -> Result<Plan, OpsError> {
    check_different(from.id(), to.id())?;
    let list_there = SnapshotList::load(to)?;
    let mut known = Known::default();
    for snapshot in &list_there.snapshots {
        known.add_there(key(&snapshot.origin(to.id())), snapshot.id, snapshot.items());
    }
    list.snapshots.iter().for_each(|snapshot| known.add_original(from.id(), snapshot));
    let mut rows = Vec::new();
    let mut taken: HashSet<Key> = HashSet::new();
    for snapshot in list.snapshots.iter().filter(|snapshot| wanted(snapshot)) {
        let key = key(&snapshot.origin(from.id()));
        let fate = match known.there.get(&key) {
            Some((id, _)) => Fate::There(*id),
            // Two copies of one snapshot: one is enough.
            None if !taken.insert(key) => continue,
            None => Fate::Copy,
        };
        rows.push(Row { snapshot: snapshot.clone(), fate });
    }
    if again == ForgottenThere::Skip && rows.iter().any(|row| row.fate == Fate::Copy) {
        skip_forgotten(&mut rows, from, to, &list_there)?;
    }
    if lacks_original(&rows, &list_there, &known) {
        // What was copied and then forgotten here still tells what has changed since.
        for gone in forgotten(from, list)?.iter().filter(|forgotten| forgotten.at.is_some()) {
            known.add_original(from.id(), &gone.snapshot);
        }
        known.originals.values_mut().for_each(|series| series.sort_by_key(|(time, ..)| *time));
    }
    Ok(Plan { rows, unreadable_there: list_there.damaged.len(), known })
}

/// Refuses to copy a repository into itself.
///
/// Errors: [`OpsError::Refused`].
pub fn check_different(from: RepositoryId, to: RepositoryId) -> Result<(), OpsError> {
    match from == to {
        false => Ok(()),
        true => Err(OpsError::Refused(format!(
            "both are the same repository, {}, or one is a copy of all objects of the other",
            from.short()
        ))),
    }
}

/// Whether something is to be copied of a series that is there, and of whose copies none has its
/// original any more.
fn lacks_original(rows: &[Row], list_there: &SnapshotList, known: &Known) -> bool {
    let there: HashSet<Series> = list_there
        .snapshots
        .iter()
        .flat_map(|snapshot| snapshot.items().iter().map(|item| Series::of(snapshot, item)))
        .collect();
    rows.iter().filter(|row| row.fate == Fate::Copy).any(|Row { snapshot, .. }| {
        let mut items = snapshot.items().iter();
        items.any(|item| {
            known.before(snapshot, item).is_none() && there.contains(&Series::of(snapshot, item))
        })
    })
}

fn skip_forgotten(
    rows: &mut [Row],
    from: &Repository,
    to: &Repository,
    list_there: &SnapshotList,
) -> Result<(), OpsError> {
    let gone: HashMap<Key, SnapshotId> = forgotten(to, list_there)?
        .into_iter()
        .filter(|forgotten| forgotten.at.is_some())
        .map(|f| (key(&f.snapshot.origin(to.id())), f.snapshot.id))
        .collect();
    for row in rows {
        if row.fate == Fate::Copy
            && let Some(id) = gone.get(&key(&row.snapshot.origin(from.id())))
        {
            row.fate = Fate::Forgotten(*id);
        }
    }
    Ok(())
}

/// A copy that was made.
#[derive(Debug, Clone)]
pub struct Copied {
    /// The snapshot that was copied.
    pub from: SnapshotId,
    /// The new snapshot.
    pub snapshot: SnapshotId,
    /// The writer's head.
    pub head: RecordHash,
    /// Entries and bytes of content in it.
    pub entries: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Files and names that were left out because they are damaged.
    pub left_out: u64,
    /// Bytes of content that were read: the others are known to be there.
    pub bytes_read: u64,
    /// Bytes of chunks that were not there.
    pub bytes_new: u64,
    /// Bytes stored in all, with trees, index and records.
    pub bytes_stored: u64,
    /// Seconds it took.
    pub seconds: f64,
}

/// A snapshot that was not copied, because it is damaged.
#[derive(Debug)]
pub struct Refused {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The item in it.
    pub item: String,
    /// The first damaged file; none if it is the tree.
    pub path: Option<EntryPath>,
    /// What is wrong.
    pub error: RepoError,
}

/// What copying a snapshot came to.
#[derive(Debug)]
pub enum Outcome {
    /// It was copied.
    Copied(Copied),
    /// It was not.
    Refused(Refused),
}
