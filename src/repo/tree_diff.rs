//! What differs between two trees, at the cost of what differs.

use super::error::RepoError;
use super::tree_walk::TreeWalk;
use crate::entry::EntryPath;
use crate::format::Stored;

/// A path at which two trees differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// Only the new tree has it.
    Added(EntryPath, Stored),
    /// Only the old tree has it.
    Removed(EntryPath, Stored),
    /// Both have it: as it was, as it is.
    Changed(EntryPath, Stored, Stored),
}

/// Yields the differences between two trees in order of path.
#[derive(Debug)]
pub struct TreeDiff {
    old: Side,
    new: Side,
}

#[derive(Debug)]
struct Side {
    walk: TreeWalk,
    head: Option<(EntryPath, Stored)>,
}

impl TreeDiff {
    /// Compares from the first entry on.
    #[must_use]
    pub fn new(old: TreeWalk, new: TreeWalk) -> Self {
        Self { old: Side { walk: old, head: None }, new: Side { walk: new, head: None } }
    }

    /// The next difference.
    ///
    /// Errors: those of [`TreeWalk::next`].
    pub fn next(&mut self) -> Result<Option<Difference>, RepoError> {
        loop {
            self.skip_common()?;
            let (old, new) = (self.old.take()?, self.new.take()?);
            return Ok(match (old, new) {
                (None, None) => None,
                (Some((path, stored)), None) => Some(Difference::Removed(path, stored)),
                (None, Some((path, stored))) => Some(Difference::Added(path, stored)),
                (Some(old), Some(new)) if old.0 < new.0 => {
                    self.new.head = Some(new);
                    Some(Difference::Removed(old.0, old.1))
                }
                (Some(old), Some(new)) if old.0 > new.0 => {
                    self.old.head = Some(old);
                    Some(Difference::Added(new.0, new.1))
                }
                (Some(old), Some(new)) if old.1 == new.1 => continue,
                (Some(old), Some(new)) => Some(Difference::Changed(old.0, old.1, new.1)),
            });
        }
    }

    /// Where both walks stand at the border of a node, passes over nodes they have in common.
    fn skip_common(&mut self) -> Result<(), RepoError> {
        while self.old.head.is_none() && self.new.head.is_none() {
            let (Some(old), Some(new)) = (self.old.walk.peek_node(), self.new.walk.peek_node())
            else {
                return Ok(());
            };
            if old == new {
                self.old.walk.skip_node();
                self.new.walk.skip_node();
                continue;
            }
            if old.0 >= new.0 {
                self.old.walk.enter_node()?;
            }
            if new.0 >= old.0 {
                self.new.walk.enter_node()?;
            }
        }
        Ok(())
    }
}

impl Side {
    fn take(&mut self) -> Result<Option<(EntryPath, Stored)>, RepoError> {
        match self.head.take() {
            Some(head) => Ok(Some(head)),
            None => self.walk.next(),
        }
    }
}
