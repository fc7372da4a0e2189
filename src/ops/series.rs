//! Series: the snapshots of one thing over time.

use crate::format::{Item, ItemKind};
use crate::repo::{Snapshot, SnapshotList};

/// What the snapshots of one thing have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Series {
    /// The host it is on.
    pub host: String,
    /// What it is.
    pub kind: ItemKind,
    /// Its name on that host.
    pub name: String,
}

impl Series {
    /// The series an item of a snapshot belongs to.
    #[must_use]
    pub fn of(snapshot: &Snapshot, item: &Item) -> Self {
        Self { host: snapshot.body.host.name.clone(), kind: item.kind, name: item.name.clone() }
    }

    /// The newest snapshot of the series, with its item.
    #[must_use]
    pub fn latest<'l>(&self, list: &'l SnapshotList) -> Option<(&'l Snapshot, &'l Item)> {
        list.snapshots.iter().rev().find_map(|snapshot| {
            let ours = |item: &&Item| Self::of(snapshot, item) == *self;
            Some((snapshot, snapshot.items().iter().find(ours)?))
        })
    }
}
