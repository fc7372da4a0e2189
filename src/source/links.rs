//! Which names are hard links of one inode.
//!
//! Floor 5, used by the directory source only. The first name in walk order stands for the inode;
//! a group is forgotten once all its names were seen, so memory grows with open groups only.

use std::collections::HashMap;

use super::stat::Stat;
use crate::clock::Time;
use crate::entry::EntryPath;

/// An inode; the time of birth tells it from a later one that got the same number.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Identity {
    dev: (u32, u32),
    ino: u64,
    born: Option<Time>,
}

impl Identity {
    fn of(stat: &Stat) -> Self {
        Self { dev: stat.dev, ino: stat.ino, born: stat.born }
    }
}

#[derive(Debug)]
struct Group {
    /// None after the first name was lost: the next one takes its place.
    first: Option<EntryPath>,
    /// Names not seen yet.
    left: u32,
}

/// The groups of which names are still to come.
#[derive(Debug, Default)]
pub(super) struct Links(HashMap<Identity, Group>);

impl Links {
    /// Notes that the inode bears the name `path`; gives the group's first name if that is another.
    pub(super) fn claim(&mut self, stat: &Stat, path: &EntryPath) -> Option<EntryPath> {
        if stat.nlink < 2 || stat.is_directory() {
            return None;
        }
        let identity = Identity::of(stat);
        let Some(group) = self.0.get_mut(&identity) else {
            let group = Group { first: Some(path.clone()), left: stat.nlink - 1 };
            let _ = self.0.insert(identity, group);
            return None;
        };
        group.left = group.left.saturating_sub(1);
        let is_last = group.left == 0;
        let first = group.first.clone();
        if is_last {
            let _ = self.0.remove(&identity);
        } else if first.is_none() {
            group.first = Some(path.clone());
        }
        first
    }

    /// Notes that the first name could not be saved: nothing may be a link to it.
    pub(super) fn lose(&mut self, stat: &Stat) {
        if let Some(group) = self.0.get_mut(&Identity::of(stat)) {
            group.first = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn path(name: &str) -> EntryPath {
        EntryPath::from_slashed(name.as_bytes()).expect("a path")
    }

    fn stat_with_links(nlink: u32) -> Stat {
        let file = tempfile::tempfile().expect("a file");
        Stat { nlink, ..Stat::of(file.as_fd()).expect("its stat") }
    }

    #[test]
    fn a_group_is_forgotten_once_all_its_names_were_seen() {
        let stat = stat_with_links(3);
        let mut links = Links::default();
        assert_eq!(links.claim(&stat, &path("a")), None);
        assert_eq!(links.claim(&stat, &path("b")), Some(path("a")));
        assert_eq!(links.0.len(), 1);
        assert_eq!(links.claim(&stat, &path("c")), Some(path("a")));
        assert!(links.0.is_empty());
    }

    #[test]
    fn after_the_first_name_is_lost_the_next_one_leads() {
        let stat = stat_with_links(4);
        let mut links = Links::default();
        assert_eq!(links.claim(&stat, &path("a")), None);
        links.lose(&stat);
        assert_eq!(links.claim(&stat, &path("b")), None);
        assert_eq!(links.claim(&stat, &path("c")), Some(path("b")));
    }

    #[test]
    fn a_reused_inode_number_is_no_further_name() {
        let old = stat_with_links(2);
        let new = Stat { born: Some(Time::new(1, 1)), ..old.clone() };
        let mut links = Links::default();
        assert_eq!(links.claim(&old, &path("a")), None);
        assert_eq!(links.claim(&new, &path("b")), None);
    }
}
