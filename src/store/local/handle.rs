//! The open files of objects read in ranges, so that a range costs one system call.
//!
//! Names are never used twice, so an open file cannot go stale: it either shows the object or,
//! once that is deleted, what it was.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fd::OwnedFd;

use crate::store::ObjectName;

/// How many objects are kept open.
pub(super) const OPEN_MAX: usize = 64;

/// The objects read last, open.
#[derive(Debug, Default)]
pub(super) struct Handles(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    files: HashMap<ObjectName, (u64, Arc<OwnedFd>)>,
    uses: u64,
}

impl Handles {
    /// The open file of an object, if it is kept.
    pub(super) fn get(&self, name: &ObjectName) -> Option<Arc<OwnedFd>> {
        let mut kept = self.kept();
        kept.uses += 1;
        let now = kept.uses;
        let (used, file) = kept.files.get_mut(name)?;
        *used = now;
        Some(Arc::clone(file))
    }

    /// Keeps an open file, in place of the one that was not used for longest.
    pub(super) fn keep(&self, name: &ObjectName, file: &Arc<OwnedFd>) {
        let mut kept = self.kept();
        if kept.files.len() >= OPEN_MAX {
            let oldest = kept.files.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                let _ = kept.files.remove(&oldest);
            }
        }
        kept.uses += 1;
        let entry = (kept.uses, Arc::clone(file));
        let _ = kept.files.insert(name.clone(), entry);
    }

    /// Lets go of one object.
    pub(super) fn drop_one(&self, name: &ObjectName) {
        let _ = self.kept().files.remove(name);
    }

    /// Lets go of all objects.
    pub(super) fn drop_all(&self) {
        self.kept().files.clear();
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_unused_for_longest_makes_room() {
        let handles = Handles::default();
        let name = |n: usize| ObjectName::parse(&format!("object-{n}")).expect("a good name");
        let null = || {
            let file = std::fs::File::open("/dev/null").expect("/dev/null opens");
            Arc::new(OwnedFd::from(file))
        };
        for n in 0..OPEN_MAX {
            handles.keep(&name(n), &null());
        }
        assert!(handles.get(&name(0)).is_some());
        handles.keep(&name(OPEN_MAX), &null());
        assert!(handles.get(&name(0)).is_some(), "was used after object-1");
        assert!(handles.get(&name(1)).is_none());
        assert_eq!(handles.kept().files.len(), OPEN_MAX);
    }
}
