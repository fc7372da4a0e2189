//! What small objects of the store say, kept once they were read and checked.
//!
//! Records of snapshots, tombstones, condemn records and configurations are written once, so what
//! was found in one holds for as long as the store lists it with the same size and time. Reading
//! ten thousand of them costs as many requests, and two signatures each; here they are a few files,
//! sealed and signed like what the store holds. A file that does not open is none; all of them may
//! be removed at any time, and any number of processes may add to them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;

use super::cache_files::{is_temporary, make_private_dir, read_private, write_private};
use super::keyring::Keyring;
use crate::clock::Time;
use crate::codec::{WireError, WireReader, put_bytes, put_signed, put_varint};
use crate::crypto::fresh_salt;
use crate::format::{ObjectKind, open_object, seal_object};
use crate::id::{RepositoryId, hex};
use crate::store::{Listed, ObjectName};

const FOLDER: &str = "records";
const EXTENSION: &str = "records";

/// First bytes of a file's message, so that no other sealed file of this host passes for one.
const MAGIC: &[u8] = b"records 1";

/// A file is ended beyond so many bytes.
const FILE_LEN: usize = 8 << 20;

/// A longer file is none of ours, in bytes: the last value may reach over.
const FILE_LEN_MAX: u64 = 16 << 20;

/// Files shorter than this are merged when there are many, in bytes.
const FILE_SMALL: u64 = 1 << 20;

/// So many small files may there be.
const FILES_SMALL_MAX: usize = 8;

/// More files than this are not looked at.
const FILES_MAX: usize = 256;

/// All values together, in bytes: what a process holds in memory.
const LEN_MAX: usize = 64 << 20;

/// A longer value is read from the store each time, in bytes.
const VALUE_LEN_MAX: usize = 1 << 20;

/// What is known of the objects of one repository.
pub(super) struct RecordCache {
    id: RepositoryId,
    dir: PathBuf,
    is_off: AtomicBool,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    by_name: HashMap<ObjectName, Entry>,
    files: Vec<CacheFile>,
    /// What the next file is numbered: of two that speak of an object, the later counts.
    next: u64,
    len: usize,
    fresh: usize,
}

struct CacheFile {
    path: PathBuf,
    len: u64,
}

struct Entry {
    size: u64,
    /// When it was stored, by the store's clock; not known of what this process stored.
    modified: Option<Time>,
    value: Arc<[u8]>,
    /// Which of the files it is in, if it is in one.
    file: Option<usize>,
}

impl RecordCache {
    /// Takes in what the files below `cache` hold; what cannot be opened is removed.
    pub(super) fn load(cache: &Path, id: RepositoryId, keys: &Keyring) -> Self {
        let dir = cache.join(FOLDER);
        let mut known = Known::default();
        // A cache that cannot be made is none.
        let _ = make_private_dir(&dir);
        let mut paths: Vec<PathBuf> = std::fs::read_dir(&dir)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .collect();
        paths.sort_by_key(|path| number_of(path));
        for path in paths.into_iter().take(FILES_MAX) {
            if path.extension().is_none_or(|extension| extension != EXTENSION) {
                continue;
            }
            match read_file(&path, &id, keys) {
                Some((len, message)) if known.len < LEN_MAX => {
                    let file = known.files.len();
                    known.next = known.next.max(number_of(&path) + 1);
                    known.files.push(CacheFile { path, len });
                    // It is authentic, so it is what some version of this program wrote.
                    let _ = known.take_in(&message, file);
                }
                _ => drop(std::fs::remove_file(&path)),
            }
        }
        Self { id, dir, is_off: AtomicBool::new(false), known: Mutex::new(known) }
    }

    /// From now on everything is read from the store.
    pub(super) fn turn_off(&self) {
        self.is_off.store(true, Ordering::Relaxed);
    }

    /// What was noted of an object that the store lists like this.
    pub(super) fn get(&self, listed: &Listed) -> Option<Arc<[u8]>> {
        if self.is_off.load(Ordering::Relaxed) {
            return None;
        }
        let mut known = self.lock();
        let known = &mut *known;
        let entry = known.by_name.get_mut(&listed.name)?;
        if entry.size != listed.size {
            return None;
        }
        match entry.modified {
            Some(modified) if modified != listed.modified => return None,
            Some(_) => {}
            // The first listing after it was stored says when that was.
            None => {
                entry.modified = Some(listed.modified);
                entry.file = None;
                known.fresh += 1;
            }
        }
        Some(entry.value.clone())
    }

    /// Notes what an object says that was read and checked.
    pub(super) fn note(&self, listed: &Listed, value: Vec<u8>) {
        self.put(&listed.name, listed.size, Some(listed.modified), value);
    }

    /// Notes what an object says that this process has stored, and that was acknowledged.
    pub(super) fn note_stored(&self, name: &ObjectName, size: u64, value: Vec<u8>) {
        self.put(name, size, None, value);
    }

    fn put(&self, name: &ObjectName, size: u64, modified: Option<Time>, value: Vec<u8>) {
        let mut known = self.lock();
        if value.len() > VALUE_LEN_MAX || known.len + value.len() > LEN_MAX {
            return;
        }
        known.fresh += 1;
        known.insert(name.clone(), Entry { size, modified, value: value.into(), file: None });
    }

    /// Writes what is new, and many small files as one.
    pub(super) fn save(&self, keys: &Keyring) {
        let mut known = self.lock();
        // Without its folder the cache was removed, or could not be made.
        if std::mem::take(&mut known.fresh) == 0 || !self.dir.is_dir() {
            return;
        }
        let small = |file: &CacheFile| file.len < FILE_SMALL;
        let many = known.files.iter().filter(|file| small(file)).count() >= FILES_SMALL_MAX;
        let gone = |number: usize| many && known.files.get(number).is_some_and(small);
        let wanted = known.by_name.iter().filter(|(_, entry)| entry.file.is_none_or(gone));
        let mut message = MAGIC.to_vec();
        let mut written = true;
        for (name, entry) in wanted {
            put_entry(&mut message, name, entry);
            if message.len() > FILE_LEN {
                written &= self.write(keys, &message, known.next);
                message.truncate(MAGIC.len());
            }
        }
        if message.len() > MAGIC.len() {
            written &= self.write(keys, &message, known.next);
        }
        if written {
            known.remove_idle();
        }
        if written && many {
            for file in known.files.iter().filter(|file| small(file)) {
                let _ = std::fs::remove_file(&file.path);
            }
            remove_left_behind(&self.dir);
        }
    }

    fn write(&self, keys: &Keyring, message: &[u8], number: u64) -> bool {
        let Ok(salt) = fresh_salt() else { return false };
        let name = format!("{number:016x}-{}.{EXTENSION}", hex(&salt[..8]));
        let path = self.dir.join(name);
        seal_object(ObjectKind::State, &self.id, keys.shared(), keys.signer(), message)
            .is_ok_and(|sealed| write_private(&path, &sealed.to_vec()).is_ok())
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn insert(&mut self, name: ObjectName, entry: Entry) {
        self.len += entry.value.len();
        if let Some(old) = self.by_name.insert(name, entry) {
            self.len -= old.value.len();
        }
    }

    fn take_in(&mut self, message: &[u8], file: usize) -> Result<(), WireError> {
        let mut reader = WireReader::new(message);
        while reader.remaining() > 0 {
            let name = reader.sized(ObjectName::LEN_MAX, "name")?;
            let size = reader.varint()?;
            let modified = match reader.u8()? {
                0 => None,
                _ => Some(Time::new(reader.signed()?, reader.varint_u32("nanoseconds")?)),
            };
            let value = reader.sized(VALUE_LEN_MAX, "value")?.into();
            let name = std::str::from_utf8(name).ok().and_then(ObjectName::parse);
            let Some(name) = name else { return Err(WireError::Invalid("is no name")) };
            self.insert(name, Entry { size, modified, value, file: Some(file) });
        }
        Ok(())
    }

    /// Removes files of which nothing counts any more: all was said anew in others.
    fn remove_idle(&self) {
        let mut idle = vec![true; self.files.len()];
        for file in self.by_name.values().filter_map(|entry| entry.file) {
            idle[file] = false;
        }
        for (file, _) in self.files.iter().zip(idle).filter(|(_, idle)| *idle) {
            let _ = std::fs::remove_file(&file.path);
        }
    }
}

/// The number in a file's name.
fn number_of(path: &Path) -> u64 {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let number = name.split('-').next().unwrap_or_default();
    // The next one must have a number, too.
    u64::from_str_radix(number, 16).unwrap_or(0).min(u64::MAX - 1)
}

fn put_entry(message: &mut Vec<u8>, name: &ObjectName, entry: &Entry) {
    put_bytes(message, name.as_str().as_bytes());
    put_varint(message, entry.size);
    message.push(u8::from(entry.modified.is_some()));
    if let Some(modified) = entry.modified {
        put_signed(message, modified.seconds);
        put_varint(message, u64::from(modified.nanos));
    }
    put_bytes(message, &entry.value);
}

/// The length of a file and what it says behind the magic, if it is one of this repository.
fn read_file(path: &Path, id: &RepositoryId, keys: &Keyring) -> Option<(u64, Vec<u8>)> {
    let bytes = read_private(path, FILE_LEN_MAX)?;
    let len = bytes.len() as u64;
    let signed = open_object(ObjectKind::State, id, keys.shared(), &bytes).ok()?;
    let message = (signed.signer == keys.owner()).then_some(signed.message)?;
    Some((len, message.strip_prefix(MAGIC)?.to_vec()))
}

/// Removes what killed processes have left. One that is being written at this moment is not kept.
fn remove_left_behind(dir: &Path) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for path in entries.filter_map(|entry| entry.ok().map(|entry| entry.path())) {
        if is_temporary(&path) {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Key;

    const ID: RepositoryId = RepositoryId::new([3; 16]);

    fn keys() -> Keyring {
        Keyring::new(&Key::new([1; 32]))
    }

    fn listed(number: usize, size: u64, seconds: i64) -> Listed {
        let name = ObjectName::parse(&format!("snapshots/{number:032}.ok")).expect("a name");
        Listed { name, size, modified: Time::new(seconds, 7) }
    }

    fn files(cache: &Path) -> usize {
        std::fs::read_dir(cache.join(FOLDER)).map_or(0, Iterator::count)
    }

    #[test]
    fn what_was_noted_holds_while_size_and_time_are_the_same_and_for_this_repository_only() {
        let home = tempfile::tempdir().expect("a directory");
        let load = |id, keys: &Keyring| RecordCache::load(home.path(), id, keys);
        let cache = load(ID, &keys());
        cache.note(&listed(1, 10, 5), b"one".to_vec());
        cache.note_stored(&listed(2, 20, 0).name, 20, b"two".to_vec());
        cache.save(&keys());
        let cache = load(ID, &keys());
        assert_eq!(cache.get(&listed(1, 10, 5)).as_deref(), Some(&b"one"[..]));
        for other in [listed(1, 11, 5), listed(1, 10, 6), listed(3, 10, 5), listed(2, 21, 9)] {
            assert_eq!(cache.get(&other), None, "{other:?}");
        }
        // The first list after it was stored says when that was, and that is kept.
        assert_eq!(cache.get(&listed(2, 20, 9)).as_deref(), Some(&b"two"[..]));
        assert_eq!(cache.get(&listed(2, 20, 8)), None);
        cache.save(&keys());
        let cache = load(ID, &keys());
        assert_eq!(cache.get(&listed(2, 20, 8)), None);
        assert!(cache.get(&listed(2, 20, 9)).is_some());
        cache.turn_off();
        assert_eq!(cache.get(&listed(2, 20, 9)), None);
        // Whoever has other keys cannot open them, and has no use for them.
        let other = load(ID, &Keyring::new(&Key::new([2; 32])));
        assert_eq!((other.get(&listed(1, 10, 5)), files(home.path())), (None, 0));
    }

    #[test]
    fn what_was_read_again_takes_the_place_of_what_was_known() {
        let home = tempfile::tempdir().expect("a directory");
        for time in 0..20 {
            let cache = RecordCache::load(home.path(), ID, &keys());
            let fits = |number: usize| cache.get(&listed(number, 1, time - 1)).is_some();
            assert!(time == 0 || (1..3).all(fits), "at {time}");
            for number in 1..3 {
                cache.note(&listed(number, 1, time), vec![0; VALUE_LEN_MAX]);
            }
            cache.save(&keys());
            assert_eq!(files(home.path()), 1, "after {time}");
        }
    }

    #[test]
    fn many_runs_that_add_a_little_leave_few_files_and_lose_nothing() {
        let home = tempfile::tempdir().expect("a directory");
        for number in 0..100 {
            let cache = RecordCache::load(home.path(), ID, &keys());
            cache.note(&listed(number, 1, 1), vec![0; 100]);
            cache.save(&keys());
            assert!(files(home.path()) <= FILES_SMALL_MAX, "after {number}");
        }
        let cache = RecordCache::load(home.path(), ID, &keys());
        assert!((0..100).all(|number| cache.get(&listed(number, 1, 1)).is_some()));
        cache.save(&keys());
        assert!(files(home.path()) <= FILES_SMALL_MAX, "what is not new is not written");
    }

    #[test]
    fn what_is_kept_is_bounded_and_lies_in_files_of_a_few_megabytes() {
        let home = tempfile::tempdir().expect("a directory");
        let cache = RecordCache::load(home.path(), ID, &keys());
        cache.note(&listed(0, 1, 1), vec![0; VALUE_LEN_MAX + 1]);
        assert_eq!(cache.get(&listed(0, 1, 1)), None);
        for number in 0..100 {
            cache.note(&listed(number, 1, 1), vec![0; VALUE_LEN_MAX]);
        }
        cache.save(&keys());
        assert_eq!(files(home.path()), 8);
        let cache = RecordCache::load(home.path(), ID, &keys());
        let kept = (0..100).filter(|number| cache.get(&listed(*number, 1, 1)).is_some()).count();
        assert_eq!(kept, LEN_MAX / VALUE_LEN_MAX);
    }
}
