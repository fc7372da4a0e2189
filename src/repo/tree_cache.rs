//! Parts of tree packs, kept as the store has them: sealed, each at its place in its pack's file.
//!
//! A file does not say what it holds: what was never read is a hole. So whoever reads from one
//! opens the frame, and one that does not open is read from the store and written over. That makes
//! files that are cut short, damaged or written by two processes at once as good as empty, and
//! needs no lock. Nothing is kept of a store on this machine, which is as quick itself.

use std::collections::HashSet;
use std::fs::FileTimes;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::cache_files::{make_private_dir, open_or_create_private, open_private};
use crate::clock::Clock;
use crate::crypto::Payload;
use crate::id::PackId;

/// Room that all files may take on the disk, in bytes.
pub(super) const LEN_MAX: u64 = 1 << 30;

/// A pack up to this size is fetched whole, in bytes: what a small change stores is read at once.
pub(super) const WHOLE_MAX: u64 = 1 << 20;

/// After so many bytes were added, files that were not used for longest go.
const ADDED_MAX: u64 = 32 << 20;

/// The tree packs of one repository.
pub(super) struct TreeCache {
    dir: PathBuf,
    is_on: AtomicBool,
    /// A write failed: this process tries no other.
    is_full: AtomicBool,
    len_max: u64,
    used: Mutex<Used>,
}

#[derive(Default)]
struct Used {
    /// Packs whose file was marked as used.
    packs: HashSet<PackId>,
    added: u64,
}

impl TreeCache {
    /// The cache below `cache`, if it is wanted.
    pub(super) fn new(cache: &Path, is_on: bool) -> Self {
        Self {
            dir: cache.join("trees"),
            is_on: AtomicBool::new(is_on),
            is_full: AtomicBool::new(false),
            len_max: LEN_MAX,
            used: Mutex::default(),
        }
    }

    /// Whether anything is kept.
    pub(super) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// From now on everything is read from the store.
    pub(super) fn turn_off(&self) {
        self.is_on.store(false, Ordering::Relaxed);
    }

    /// Fills `buffer` from what may be the bytes of a pack at `offset`; says whether it did.
    pub(super) fn read(&self, pack: &PackId, offset: u64, buffer: &mut [u8]) -> bool {
        if !self.is_on() {
            return false;
        }
        let Ok(file) = open_private(&self.path(pack)) else { return false };
        let is_read = file.read_exact_at(buffer, offset).is_ok();
        if is_read && self.lock().packs.insert(*pack) {
            let now = FileTimes::new().set_modified(system_now());
            let _ = file.set_times(now);
        }
        is_read
    }

    /// Keeps the bytes of a pack at `offset`, which were seen to be sound.
    pub(super) fn keep(&self, pack: &PackId, offset: u64, bytes: &[u8]) {
        self.keep_parts(pack, offset, std::iter::once(bytes));
    }

    /// Keeps a pack that was stored just now.
    pub(super) fn keep_whole(&self, pack: &PackId, payload: &Payload) {
        self.keep_parts(pack, 0, payload.parts().iter().map(|part| &part[..]));
    }

    fn keep_parts<'b>(&self, pack: &PackId, offset: u64, parts: impl Iterator<Item = &'b [u8]>) {
        if !self.is_on() || self.is_full.load(Ordering::Relaxed) {
            return;
        }
        let mut at = offset;
        // A cache that cannot be written is none.
        let written = make_private_dir(&self.dir).and_then(|()| {
            let file = open_or_create_private(&self.path(pack))?;
            for part in parts {
                file.write_all_at(part, at)?;
                at += part.len() as u64;
            }
            Ok(())
        });
        self.is_full.store(written.is_err(), Ordering::Relaxed);
        let mut used = self.lock();
        let is_first = used.added == 0;
        let _ = used.packs.insert(*pack);
        used.added += at - offset;
        if is_first || used.added > ADDED_MAX {
            used.added = 1;
            evict(&self.dir, self.len_max);
        }
    }

    fn path(&self, pack: &PackId) -> PathBuf {
        self.dir.join(pack.to_string())
    }

    fn lock(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn system_now() -> SystemTime {
    let now = Clock::System.now();
    let since = std::time::Duration::new(u64::try_from(now.seconds).unwrap_or(0), now.nanos);
    SystemTime::UNIX_EPOCH + since
}

/// Removes files that were not used for longest until all of them take no more room than that.
fn evict(dir: &Path, len_max: u64) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    let mut files: Vec<_> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let found = std::fs::symlink_metadata(&path).ok()?;
            Some(((found.mtime(), found.mtime_nsec()), found.blocks() * 512, path))
        })
        .collect();
    let mut len: u64 = files.iter().map(|(_, len, _)| len).sum();
    if len <= len_max {
        return;
    }
    files.sort();
    // More than must be, or the next pack would start it all again.
    for (_, file_len, path) in files {
        if len <= len_max / 10 * 9 {
            break;
        }
        if std::fs::remove_file(path).is_ok() {
            len -= file_len;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(home: &Path, len_max: u64) -> TreeCache {
        TreeCache { len_max, ..TreeCache::new(home, true) }
    }

    fn id(number: u8) -> PackId {
        PackId::new([number; 32])
    }

    #[test]
    fn ranges_are_where_they_were_and_what_was_never_kept_does_not_pass_for_it() {
        let home = tempfile::tempdir().expect("a directory");
        let trees = cache(home.path(), LEN_MAX);
        let mut buffer = [9; 4];
        assert!(!trees.read(&id(1), 0, &mut buffer));
        trees.keep(&id(1), 100, b"abcdef");
        assert!(trees.read(&id(1), 102, &mut buffer));
        assert_eq!(&buffer, b"cdef");
        assert!(trees.read(&id(1), 50, &mut buffer), "a hole, which no frame is");
        assert_eq!(buffer, [0; 4]);
        assert!(!trees.read(&id(1), 104, &mut buffer), "beyond its end");
        let mut payload = Payload::public(b"0123".to_vec());
        payload.append(Payload::public(b"4567".to_vec()));
        trees.keep_whole(&id(2), &payload);
        assert!(trees.read(&id(2), 2, &mut buffer));
        assert_eq!(&buffer, b"2345");
        trees.turn_off();
        assert!(!trees.read(&id(2), 2, &mut buffer));
        let off = TreeCache::new(home.path(), false);
        off.keep(&id(3), 0, b"x");
        assert!(!trees.path(&id(3)).exists());
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let home = tempfile::tempdir().expect("a directory");
        let filled = cache(home.path(), LEN_MAX);
        for number in 0..10 {
            filled.keep(&id(number), 0, &[1; 4096]);
            let file = std::fs::File::open(filled.path(&id(number))).expect("it is there");
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(number.into());
            file.set_times(FileTimes::new().set_modified(time)).expect("set");
        }
        let trees = cache(home.path(), 5 * 4096);
        // Read by now, so it is the youngest.
        assert!(trees.read(&id(0), 0, &mut [0; 10]));
        evict(&trees.dir, trees.len_max);
        let left: Vec<u8> = (0..10).filter(|number| trees.path(&id(*number)).exists()).collect();
        assert_eq!(left, [0, 7, 8, 9]);
    }
}
