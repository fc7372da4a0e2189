//! Hard links of an unsorted source: where they lead, and who of a group comes first.
//!
//! Held in memory, since links are rare; a limit makes too many of them an error.

use std::collections::BTreeMap;
use std::io;

use super::walk::Thing;
use crate::entry::EntryPath;
use crate::format::{Content, Stored};
use crate::ops::OpsError;

/// What a link takes in memory beside its two paths, in bytes.
const LINK_OVERHEAD: usize = 160;
/// What an entry that links lead to takes beside its path and its stored form, in bytes.
const HOLDER_OVERHEAD: usize = 320;

/// Memory for links, in bytes.
#[derive(Debug)]
struct Budget {
    used: usize,
    max: usize,
}

impl Budget {
    fn take(&mut self, path: &EntryPath, len: usize) -> Result<(), OpsError> {
        self.used += len;
        if self.used <= self.max {
            return Ok(());
        }
        let action = format!("keep hard links in {} bytes of memory, at `{path}`", self.max);
        Err(OpsError::Io { action, source: io::ErrorKind::OutOfMemory.into() })
    }
}

/// The hard links pushed so far, with what they are links to.
#[derive(Debug)]
pub(super) struct LinkMap {
    targets: BTreeMap<EntryPath, EntryPath>,
    budget: Budget,
}

impl LinkMap {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { targets: BTreeMap::new(), budget: Budget { used: 0, max: bytes_max } }
    }

    pub(super) fn insert(&mut self, path: EntryPath, target: EntryPath) -> Result<(), OpsError> {
        self.remove(&path);
        self.budget.take(&path, cost(&path, &target))?;
        let _ = self.targets.insert(path, target);
        Ok(())
    }

    /// Something else stands at this path now.
    pub(super) fn remove(&mut self, path: &EntryPath) {
        if let Some(target) = self.targets.remove(path) {
            self.budget.used -= cost(path, &target);
        }
    }

    /// Follows each link over all others.
    pub(super) fn resolve(self) -> Links {
        let links: Vec<_> = self.targets.into_iter().collect();
        let at = |target: &EntryPath| links.binary_search_by(|(path, _)| path.cmp(target)).ok();
        let next: Vec<_> = links.iter().map(|(_, target)| at(target)).collect();
        let ends = chain_ends(&next);
        let ends: Vec<_> = ends.into_iter().map(|end| Some(links[end?].1.clone())).collect();
        let mut paths: Vec<_> = ends.iter().flatten().cloned().collect();
        paths.sort_unstable();
        paths.dedup();
        let number = |end: EntryPath| paths.binary_search(&end).ok();
        let targets: Vec<_> = ends.into_iter().map(|end| end.and_then(number)).collect();
        let links = links.into_iter().zip(targets);
        Links {
            links: links.map(|((path, _), target)| Link { path, target, kept: false }).collect(),
            targets: paths.into_iter().map(Target::new).collect(),
            budget: self.budget,
        }
    }
}

fn cost(path: &EntryPath, target: &EntryPath) -> usize {
    path.as_key().len() + target.as_key().len() + LINK_OVERHEAD
}

/// Where following `next` from each place ends; none where it goes round in a circle.
fn chain_ends(next: &[Option<usize>]) -> Vec<Option<usize>> {
    #[derive(Clone, Copy)]
    enum Place {
        New,
        OnTheWay,
        Ends(Option<usize>),
    }
    let mut places = vec![Place::New; next.len()];
    let mut way = Vec::new();
    for start in 0..next.len() {
        let mut at = start;
        // Ends: each turn but the last takes a place that is new.
        let end = loop {
            match places[at] {
                Place::Ends(end) => break end,
                Place::OnTheWay => break None,
                Place::New => {
                    places[at] = Place::OnTheWay;
                    way.push(at);
                }
            }
            match next[at] {
                Some(further) => at = further,
                None => break Some(at),
            }
        };
        way.drain(..).for_each(|at| places[at] = Place::Ends(end));
    }
    let end = |place| if let Place::Ends(end) = place { end } else { None };
    places.into_iter().map(end).collect()
}

#[derive(Debug)]
struct Link {
    path: EntryPath,
    /// None if it only leads to links.
    target: Option<usize>,
    /// Whether a tree can hold something at its path.
    kept: bool,
}

/// A path that links lead to, and at which stands no link.
#[derive(Debug)]
struct Target {
    path: EntryPath,
    state: State,
    /// The first in walk order of all paths of the group.
    first: Option<EntryPath>,
}

#[derive(Debug)]
enum State {
    Missing,
    Directory,
    Holder(Box<Stored>),
}

impl Target {
    fn new(path: EntryPath) -> Self {
        Self { path, state: State::Missing, first: None }
    }

    /// What stands at `path`, a member of the group; none if there is no file to link to.
    fn member(&self, path: &EntryPath) -> Option<Stored> {
        let State::Holder(holder) = &self.state else { return None };
        let first = self.first.as_ref()?;
        if path == first {
            return Some((**holder).clone());
        }
        let mut entry = holder.entry.clone();
        entry.link = Some(first.clone());
        Some(Stored { entry, content: Content::empty() })
    }
}

/// All hard links, sorted by path, and the groups they form.
#[derive(Debug)]
pub(super) struct Links {
    links: Vec<Link>,
    targets: Vec<Target>,
    budget: Budget,
}

impl Links {
    /// The path of the link of that number, which is its place in walk order.
    pub(super) fn path(&self, link: usize) -> Option<&EntryPath> {
        self.links.get(link).map(|link| &link.path)
    }

    /// Notes an entry that a tree can hold. Entries and links must come in walk order.
    ///
    /// Errors: [`OpsError::Io`] if links lead to more than can be held. `len` is the length of the
    /// stored form in bytes.
    pub(super) fn meet_entry(
        &mut self,
        path: &EntryPath,
        stored: &Stored,
        len: usize,
    ) -> Result<(), OpsError> {
        let Some(number) = self.target_at(path) else { return Ok(()) };
        let target = &mut self.targets[number];
        if stored.entry.is_directory() {
            target.state = State::Directory;
            return Ok(());
        }
        self.budget.take(path, len + path.as_key().len() + HOLDER_OVERHEAD)?;
        let _ = target.first.get_or_insert_with(|| path.clone());
        target.state = State::Holder(Box::new(stored.clone()));
        Ok(())
    }

    /// Notes a link at whose path a tree can hold something.
    pub(super) fn meet_link(&mut self, path: &EntryPath, link: usize) {
        let link = &mut self.links[link];
        link.kept = true;
        if let Some(number) = link.target {
            let _ = self.targets[number].first.get_or_insert_with(|| path.clone());
        }
    }

    /// After all were met: the links that lead to nothing, and why.
    pub(super) fn lost(&self) -> impl Iterator<Item = (&EntryPath, String)> {
        self.links.iter().filter(|link| link.kept).filter_map(|link| {
            let why = match link.target.map(|number| &self.targets[number]) {
                None => "hard link that leads only to hard links".into(),
                Some(Target { state: State::Missing, path, .. }) => {
                    format!("hard link to `{path}`, which is missing or left out")
                }
                Some(Target { state: State::Directory, path, .. }) => {
                    format!("hard link to `{path}`, which is a directory")
                }
                Some(Target { state: State::Holder(_), .. }) => return None,
            };
            Some((&link.path, why))
        })
    }

    /// After all were met: what stands at a path in the end; none for a link that is lost.
    pub(super) fn settle(&self, path: EntryPath, thing: Thing) -> Option<(EntryPath, Stored)> {
        let stored = match thing {
            Thing::Link(link) => self.targets[self.links[link].target?].member(&path)?,
            Thing::Entry { stored, .. } => {
                let target = self.target_at(&path).map(|number| &self.targets[number]);
                target.and_then(|target| target.member(&path)).unwrap_or(stored)
            }
        };
        Some((path, stored))
    }

    fn target_at(&self, path: &EntryPath) -> Option<usize> {
        self.targets.binary_search_by(|target| target.path.cmp(path)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_end_where_they_lead_and_circles_nowhere() {
        // 0 → 1 → 2; 3 → 4 → 5 → 4; 6 → 6; 7 → 1.
        let next = [Some(1), Some(2), None, Some(4), Some(5), Some(4), Some(6), Some(1)];
        let ends = [Some(2), Some(2), Some(2), None, None, None, None, Some(2)];
        assert_eq!(chain_ends(&next), ends);
        let long: Vec<_> = (0..100_000).map(|at: usize| at.checked_sub(1)).collect();
        assert!(chain_ends(&long).iter().all(|end| *end == Some(0)));
    }
}
