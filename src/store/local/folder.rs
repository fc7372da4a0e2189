//! Folders of a local store, reached component by component so that no symlink is followed.
//!
//! An object survives a crash only if every folder above it does: a folder counts as durable once
//! this process has synced the one that holds it, whoever made it.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

/// A descriptor that only leads further down.
pub(super) const PASS: OFlags = OFlags::PATH;
/// A descriptor that can be listed and synced.
pub(super) const READ: OFlags = OFlags::RDONLY;

/// Splits the name of an object into its folder, empty for the root, and its last component.
pub(super) fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('/').unwrap_or(("", name))
}

/// Opens a folder; the empty one is the root itself.
///
/// Errors: `NOTDIR` where a component is a symlink or a file.
pub(super) fn open(root: &OwnedFd, folder: &str, access: OFlags) -> Result<OwnedFd, Errno> {
    let Some((above, last)) = folder.rsplit_once('/') else {
        return step(root, if folder.is_empty() { "." } else { folder }, access);
    };
    let mut components = above.split('/');
    let mut here = step(root, components.next().unwrap_or("."), PASS)?;
    for component in components {
        here = step(&here, component, PASS)?;
    }
    step(&here, last, access)
}

/// Makes the entries of a folder durable.
pub(super) fn sync(folder: &OwnedFd) -> Result<(), Errno> {
    match rustix::fs::fsync(folder) {
        // What file systems answer that have no way to sync a folder; there is nothing else to ask.
        Err(Errno::INVAL | Errno::NOTSUP) => Ok(()),
        other => other,
    }
}

/// Opens a folder to put objects into, after making it (0700) and what is above it where missing.
///
/// Each folder is synced into the one above, once by each process, before anything is put in it.
pub(super) fn make(root: &OwnedFd, folder: &str, durable: &Known) -> Result<OwnedFd, Errno> {
    let mut here = step(root, ".", READ)?;
    let mut end = 0;
    for component in folder.split('/').filter(|component| !component.is_empty()) {
        end += component.len();
        let mut made = false;
        let next = match step(&here, component, READ) {
            Err(Errno::NOENT) => {
                made = match rustix::fs::mkdirat(&here, component, Mode::RWXU) {
                    Ok(()) => true,
                    Err(Errno::EXIST) => false,
                    Err(error) => return Err(error),
                };
                step(&here, component, READ)?
            }
            other => other?,
        };
        if made || !durable.has(&folder[..end]) {
            if let Err(error) = sync(&here) {
                if made {
                    // Best effort: what is left behind is an empty folder.
                    let _ = rustix::fs::unlinkat(&here, component, AtFlags::REMOVEDIR);
                }
                return Err(error);
            }
            let _ = durable.learn(&folder[..end]);
        }
        here = next;
        end += 1;
    }
    Ok(here)
}

/// Folders of which this process knows something.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<HashSet<String>>);

impl Known {
    /// Whether the folder was learnt.
    pub(super) fn has(&self, folder: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(folder)
    }

    /// Learns a folder; says whether that is new.
    pub(super) fn learn(&self, folder: &str) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(folder.to_owned())
    }
}

fn step(above: impl AsFd, component: &str, access: OFlags) -> Result<OwnedFd, Errno> {
    let flags = access | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    retry_on_intr(|| rustix::fs::openat(above.as_fd(), component, flags, Mode::empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_at_the_root_has_the_empty_folder() {
        assert_eq!(split("vault.json"), ("", "vault.json"));
        assert_eq!(split("packs/0a/0a1b"), ("packs/0a", "0a1b"));
    }
}
