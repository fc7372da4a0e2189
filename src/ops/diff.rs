//! What differs between two items, or between an item and what a source holds now.
//!
//! Nothing is written, and of the repository only trees are read: the content of a live file is
//! cut as the snapshot's file was, and the names of the pieces are compared.

mod live;

use std::mem::discriminant;
use std::sync::Arc;

pub use self::live::LiveDiff;
use super::error::OpsError;
use super::list::first_name;
use crate::entry::{Entry, EntryPath, Kind};
use crate::format::{Item, Stored};
use crate::repo::{ChunkReader, Difference, TreeDiff, TreeWalk};

/// In what way two sides differ at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// Only the new side has it.
    Added,
    /// Only the old side has it.
    Removed,
    /// It is another kind of thing.
    Type,
    /// Its content, link target or device number differs, and perhaps more.
    Content,
    /// Only its metadata differs.
    Metadata,
}

/// A path at which two sides differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub path: EntryPath,
    /// In what way.
    pub kind: ChangeKind,
    /// As it was; none if it was added.
    pub old: Option<Entry>,
    /// As it is; none if it was removed.
    pub new: Option<Entry>,
}

impl Change {
    fn added(path: EntryPath, entry: Entry) -> Self {
        Self { path, kind: ChangeKind::Added, old: None, new: Some(entry) }
    }

    fn removed(path: EntryPath, entry: Entry) -> Self {
        Self { path, kind: ChangeKind::Removed, old: Some(entry), new: None }
    }

    /// The same change with the sides swapped.
    #[must_use]
    pub fn reversed(self) -> Self {
        let kind = match self.kind {
            ChangeKind::Added => ChangeKind::Removed,
            ChangeKind::Removed => ChangeKind::Added,
            kind => kind,
        };
        Self { kind, old: self.new, new: self.old, ..self }
    }
}

/// Yields what differs between two items of one repository, in order of path.
#[derive(Debug)]
pub struct ItemDiff {
    reader: Arc<ChunkReader>,
    old: Item,
    new: Item,
    diff: TreeDiff,
}

impl ItemDiff {
    /// Compares from the root on. What the items have in common costs next to nothing.
    #[must_use]
    pub fn new(reader: &Arc<ChunkReader>, old: &Item, new: &Item) -> Self {
        let walk = |item: &Item| TreeWalk::new(reader, item.root, item.root_level);
        Self {
            reader: reader.clone(),
            old: old.clone(),
            new: new.clone(),
            diff: TreeDiff::new(walk(old), walk(new)),
        }
    }

    /// The next change.
    ///
    /// Errors: those of reading the trees.
    pub fn next(&mut self) -> Result<Option<Change>, OpsError> {
        while let Some(difference) = self.diff.next()? {
            let (path, old, new) = match difference {
                Difference::Added(path, stored) => {
                    return Ok(Some(Change::added(path, stored.entry)));
                }
                Difference::Removed(path, stored) => {
                    return Ok(Some(Change::removed(path, stored.entry)));
                }
                Difference::Changed(path, old, new) => (path, old, new),
            };
            let kind = compare(&old.entry, &new.entry, || self.content_differs(&old, &new))?;
            if let Some(kind) = kind {
                let (old, new) = (Some(old.entry), Some(new.entry));
                return Ok(Some(Change { path, kind, old, new }));
            }
        }
        Ok(None)
    }

    fn content_differs(&self, old: &Stored, new: &Stored) -> Result<bool, OpsError> {
        let old = first_name(&self.reader, &self.old, old.clone())?;
        let new = first_name(&self.reader, &self.new, new.clone())?;
        Ok(old.content != new.content)
    }
}

/// How two entries at one path differ; `content_differs` is asked for files of equal size only.
fn compare(
    old: &Entry,
    new: &Entry,
    content_differs: impl FnOnce() -> Result<bool, OpsError>,
) -> Result<Option<ChangeKind>, OpsError> {
    if discriminant(&old.kind) != discriminant(&new.kind) {
        return Ok(Some(ChangeKind::Type));
    }
    let differs = match (&old.kind, &new.kind) {
        // Whether there are holes is no part of what a file holds.
        (Kind::File { size: old, .. }, Kind::File { size: new, .. }) => {
            old != new || content_differs()?
        }
        (old, new) => old != new,
    };
    if differs {
        return Ok(Some(ChangeKind::Content));
    }
    let metadata = |e: &Entry| (e.mode, e.uid, e.gid, e.mtime, e.xattrs.clone(), e.link.clone());
    Ok((metadata(old) != metadata(new)).then_some(ChangeKind::Metadata))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Time;

    fn file(size: u64) -> Entry {
        Entry {
            kind: Kind::File { size, sparse: false },
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Time::new(1, 0),
            xattrs: Vec::new(),
            link: None,
        }
    }

    fn judged(old: &Entry, new: &Entry) -> Option<ChangeKind> {
        compare(old, new, || Ok(false)).expect("compared")
    }

    #[test]
    fn each_kind_of_change_is_told_from_the_others() {
        let old = file(1);
        assert_eq!(judged(&old, &old), None);
        let sparse = Entry { kind: Kind::File { size: 1, sparse: true }, ..file(1) };
        assert_eq!(judged(&old, &sparse), None, "holes do not count");
        assert_eq!(judged(&old, &file(2)), Some(ChangeKind::Content));
        let content = compare(&old, &old, || Ok(true)).expect("compared");
        assert_eq!(content, Some(ChangeKind::Content));
        assert_eq!(judged(&old, &Entry { mode: 0, ..file(1) }), Some(ChangeKind::Metadata));
        let link =
            |target: &[u8]| Entry { kind: Kind::Symlink { target: target.to_vec() }, ..file(0) };
        assert_eq!(judged(&old, &link(b"a")), Some(ChangeKind::Type));
        assert_eq!(judged(&link(b"a"), &link(b"b")), Some(ChangeKind::Content));
    }

    #[test]
    fn a_reversed_change_swaps_its_sides() {
        let added = Change::added(EntryPath::root(), file(1));
        assert_eq!(added.clone().reversed(), Change::removed(EntryPath::root(), file(1)));
        assert_eq!(added.clone().reversed().reversed(), added);
    }
}
