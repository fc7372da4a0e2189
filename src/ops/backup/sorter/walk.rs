//! One walk over the final entry of each path, deciding which can be part of a tree.
//!
//! Made twice: once to look, once to yield. Both must decide alike, so nothing here depends on
//! where hard links lead.

use super::links::Links;
use super::merge::{Merge, Record};
use crate::entry::EntryPath;
use crate::format::{FormatError, Stored};
use crate::ops::OpsError;

/// Most parents that are made up for one entry: a name of a megabyte must not become half a
/// million directories.
const MADE_UP_MAX: usize = 2_048;

/// What stands at a path.
#[derive(Debug)]
pub(super) enum Thing {
    /// An entry of its own, with its length in stored form.
    Entry { stored: Stored, len: usize },
    /// A hard link, by its number.
    Link(usize),
}

/// What became of the next path.
#[derive(Debug)]
pub(super) enum Step {
    Kept(EntryPath, Thing),
    /// With the reason.
    LeftOut(EntryPath, String),
}

/// Yields what stands at each path, in order.
#[derive(Debug)]
pub(super) struct Walk {
    merge: Merge,
    /// Read, but behind the next link.
    held: Option<Record>,
    next_link: usize,
    last: Option<Last>,
}

/// The last path that was kept.
#[derive(Debug)]
struct Last {
    path: EntryPath,
    directory: bool,
}

impl Walk {
    pub(super) fn new(merge: Merge) -> Self {
        Self { merge, held: None, next_link: 0, last: None }
    }

    /// The next path; `links` must be the same with each call.
    pub(super) fn next(&mut self, links: &Links) -> Result<Option<Step>, OpsError> {
        if self.held.is_none() {
            self.held = self.merge.next()?;
        }
        let link = links.path(self.next_link);
        if let Some(path) = link
            && self.held.as_ref().is_none_or(|record| *path <= record.path)
        {
            // Had the record of an equal path been pushed later, the link would be gone.
            let _ = self.held.take_if(|record| record.path == *path);
            self.next_link += 1;
            return Ok(Some(self.decide(path.clone(), Thing::Link(self.next_link - 1))));
        }
        let Some(Record { path, value, .. }) = self.held.take() else { return Ok(None) };
        Ok(Some(match Stored::decode(&value) {
            Ok(stored) => self.decide(path, Thing::Entry { stored, len: value.len() }),
            // The bytes are authentic: the entry has more than the format can keep.
            Err(FormatError::Damaged { why, .. }) => Step::LeftOut(path, unfit(why)),
            Err(error) => Step::LeftOut(path, unfit(error.to_string())),
        }))
    }

    fn decide(&mut self, path: EntryPath, thing: Thing) -> Step {
        if let Some(Last { path: last, directory: false }) = &self.last
            && last.contains(&path)
        {
            let why = format!("lies below `{last}`, which is not a directory");
            return Step::LeftOut(path, why);
        }
        let known = self.last.as_ref().map_or(0, |last| depth_shared(&last.path, &path));
        let missing = path.components().count().saturating_sub(known + 1);
        if missing > MADE_UP_MAX {
            return Step::LeftOut(
                path,
                format!("lies below {missing} directories that never came"),
            );
        }
        let directory =
            matches!(&thing, Thing::Entry { stored, .. } if stored.entry.is_directory());
        self.last = Some(Last { path: path.clone(), directory });
        Step::Kept(path, thing)
    }
}

fn unfit(why: String) -> String {
    format!("does not fit into a repository: {why}")
}

/// The uppermost directory on the way to `path` that did not come, `last` being what came last.
pub(super) fn missing_parent(path: &EntryPath, last: Option<&EntryPath>) -> Option<EntryPath> {
    let Some(last) = last else { return (!path.is_root()).then(EntryPath::root) };
    let known = depth_shared(last, path);
    let key = path.as_key();
    let mut ends = key.iter().enumerate().filter(|(_, byte)| **byte == 0).map(|(at, _)| at);
    let end = ends.nth(known)?;
    Some(EntryPath::from_key(&key[..end]).expect("because a path was cut between components"))
}

/// How many components two paths have in common at their start.
fn depth_shared(a: &EntryPath, b: &EntryPath) -> usize {
    a.components().zip(b.components()).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_parents_are_found_from_the_root_down() {
        let path = |p: &str| EntryPath::from_slashed(p.as_bytes()).expect("a path");
        let missing = |p: &str, last: &str| {
            missing_parent(&path(p), Some(&path(last))).map(|parent| parent.to_string())
        };
        assert_eq!(missing_parent(&path("a"), None), Some(EntryPath::root()));
        assert_eq!(missing_parent(&path(""), None), None);
        assert_eq!(missing("a", ""), None);
        assert_eq!(missing("a/b/c", ""), Some("a".into()));
        assert_eq!(missing("a/b/c", "a"), Some("a/b".into()));
        assert_eq!(missing("a/b/c", "a/b"), None);
        assert_eq!(missing("a/b/c", "a/b/b/d"), None);
        assert_eq!(missing("ab/c", "a/b"), Some("ab".into()));
    }
}
