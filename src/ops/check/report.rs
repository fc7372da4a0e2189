//! What a check found.

use std::collections::BTreeSet;

use super::share::Coverage;
use crate::entry::EntryPath;
use crate::id::SnapshotId;
use crate::repo::RepoError;
use crate::store::{ObjectName, StoreError};

/// So many damaged objects are named; more are counted.
pub(super) const DAMAGE_MAX: usize = 10_000;

/// What is wrong with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// It is not there.
    Missing,
    /// It is not what was written.
    Damaged,
    /// The store cannot read it.
    Unreadable,
    /// The store shows less than this host has seen before.
    RolledBack,
}

impl Fault {
    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Damaged => "damaged",
            Self::Unreadable => "unreadable",
            Self::RolledBack => "rolled_back",
        }
    }
}

/// A damaged object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Its name in the store; of a chunk that is in no pack, `chunk` and its id.
    pub object: String,
    /// What is wrong.
    pub fault: Fault,
    /// How that shows.
    pub why: String,
}

/// What of a snapshot is touched by damage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The item; none if the snapshot's record itself is lost.
    pub item: Option<String>,
    /// The files that cannot be brought back whole, the first thousand of them.
    pub files: Vec<TouchedFile>,
    /// How many there are.
    pub files_total: u64,
    /// Whether what helps to find changed files is touched: the next backup reads all files.
    pub hints: bool,
}

impl Touched {
    /// A snapshot whose record is lost.
    #[must_use]
    pub fn whole(snapshot: SnapshotId) -> Self {
        Self { snapshot, item: None, files: Vec::new(), files_total: 0, hints: false }
    }
}

/// A file that cannot be brought back whole. Further names of the same file are not told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TouchedFile {
    /// Its path.
    pub path: EntryPath,
    /// None for a file. Where a piece of the tree is lost: how many entries it holds, of which
    /// `path` is the first.
    pub entries: Option<u64>,
    /// Damaged objects it needs, some of them if there are many.
    pub objects: BTreeSet<String>,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckReport {
    /// Snapshots checked.
    pub snapshots: u64,
    /// Index segments read.
    pub segments: u64,
    /// Packs the store lists.
    pub packs: u64,
    /// Packs read whole.
    pub packs_read: u64,
    /// Bytes of these.
    pub bytes_read: u64,
    /// Which packs this host has read since when; none if it read no packs this time.
    pub coverage: Option<Coverage>,
    /// Nodes of trees read.
    pub nodes: u64,
    /// Chunks of files looked up.
    pub chunks: u64,
    /// Damaged objects.
    pub damage: Vec<Damage>,
    /// Damaged objects beyond those named.
    pub damage_more: u64,
    /// What they touch.
    pub touched: Vec<Touched>,
    /// What is odd but harmless: object and remark.
    pub notices: Vec<(String, String)>,
    /// Seconds it took.
    pub seconds: f64,
}

impl CheckReport {
    /// Whether nothing is damaged.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.damage.is_empty() && self.touched.is_empty()
    }
}

/// A report in the making.
#[derive(Debug, Default)]
pub(in crate::ops) struct Findings {
    pub(in crate::ops) damage: Vec<Damage>,
    pub(super) damage_more: u64,
    pub(in crate::ops) touched: Vec<Touched>,
    pub(super) notices: Vec<(String, String)>,
    objects: BTreeSet<String>,
    /// Something that could not be read and may be whole.
    pub(in crate::ops) unreadable: Option<String>,
    /// A chunk that no segment names.
    pub(in crate::ops) unnamed: Option<String>,
}

impl Findings {
    /// Adds a damaged object; what is found of it first counts.
    pub(super) fn add(&mut self, object: &str, fault: Fault, why: &str) {
        if fault == Fault::Unreadable {
            let _ = self.unreadable.get_or_insert_with(|| object.to_owned());
        }
        if object.starts_with("chunk ") {
            let _ = self.unnamed.get_or_insert_with(|| object.to_owned());
        }
        if self.objects.contains(object) {
            return;
        }
        if self.damage.len() >= DAMAGE_MAX {
            self.damage_more += 1;
            return;
        }
        let _ = self.objects.insert(object.to_owned());
        self.damage.push(Damage { object: object.to_owned(), fault, why: why.to_owned() });
    }

    /// Adds an object that could not be read.
    pub(super) fn damaged(&mut self, name: &ObjectName, error: &RepoError) {
        // What is wrong, without the name once more.
        let why = match error {
            RepoError::Object { source, .. } => source.to_string(),
            error => chain(error),
        };
        self.add(name.as_str(), fault_of(error), &why);
    }

    /// Whether damage of this object was told.
    pub(super) fn names(&self, object: &str) -> bool {
        self.objects.contains(object)
    }

    pub(super) fn notice(&mut self, object: &str, message: String) {
        self.notices.push((object.to_owned(), message));
    }
}

pub(super) fn fault_of(error: &RepoError) -> Fault {
    match error {
        RepoError::Store(StoreError::NotFound(_)) => Fault::Missing,
        // What a disk says of a sector stays so.
        RepoError::Store(error @ StoreError::Io { .. }) if !error.is_damage() => Fault::Unreadable,
        _ => Fault::Damaged,
    }
}

/// An error with its causes, as one line.
pub(in crate::ops) fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
