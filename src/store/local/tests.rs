//! What a directory adds to the contract of stores: strays, symlinks, full and failing disks.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Timespec, Timestamps};
use tempfile::TempDir;

use super::*;
use crate::clock::Clock;
use crate::store::contract;

fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).expect("a good name")
}

fn payload(len: usize) -> Payload {
    Payload::public((0..len).map(|n| u8::try_from(n % 251).expect("is below 251")).collect())
}

fn fresh() -> (TempDir, LocalStore) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = LocalStore::create(&dir.path().join("store")).expect("is made");
    (dir, store)
}

fn names(listed: &[Listed]) -> Vec<&str> {
    listed.iter().map(|object| object.name.as_str()).collect()
}

/// Every file below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("is listed") {
        let path = entry.expect("is listed").path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

/// A file system in memory, of the size and kind that `options` say.
struct Mount(PathBuf);

impl Mount {
    fn new(path: PathBuf, options: &str) -> Self {
        fs::create_dir(&path).expect("is made");
        let mount = Self(path);
        mount.run(Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]));
        mount
    }

    fn read_only(&self) {
        self.run(Command::new("mount").args(["-o", "remount,ro"]));
    }

    fn run(&self, command: &mut Command) {
        let status = command.arg(&self.0).status().expect("mount is installed");
        assert!(status.success(), "{command:?}: needs root");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn it_keeps_the_contract_of_stores() {
    let (_dir, store) = fresh();
    contract::check(&store).expect("keeps the contract");
    assert!(store.unnamed.load(Ordering::Relaxed), "this file system has unnamed files");
    assert!(files(&store.path).is_empty());
}

#[test]
fn it_keeps_the_contract_where_files_must_have_names() {
    let (_dir, store) = fresh();
    store.unnamed.store(false, Ordering::Relaxed);
    contract::check(&store).expect("keeps the contract");
    assert!(files(&store.path).is_empty(), "no temporary file is left");
}

#[test]
fn two_stores_in_one_directory_see_each_other() {
    let (_dir, store) = fresh();
    let other = LocalStore::open(&store.path).expect("opens");
    store.put(&name("packs/0a/x"), &payload(10)).expect("puts");
    assert_eq!(other.get(&name("packs/0a/x"), 10).expect("gets"), payload(10).to_vec());
    other.delete(&name("packs/0a/x")).expect("deletes");
    assert!(store.list("packs").expect("lists").is_empty());
}

#[test]
fn files_and_folders_are_private() {
    let (dir, store) = fresh();
    store.put(&name("packs/0a/x"), &payload(10)).expect("puts");
    store.unnamed.store(false, Ordering::Relaxed);
    store.put(&name("packs/0a/y"), &payload(10)).expect("puts");
    for (path, mode) in [
        ("store", 0o700),
        ("store/packs", 0o700),
        ("store/packs/0a", 0o700),
        ("store/packs/0a/x", 0o600),
        ("store/packs/0a/y", 0o600),
    ] {
        let stat = fs::metadata(dir.path().join(path)).expect("is there");
        assert_eq!(stat.permissions().mode() & 0o7777, mode, "{path}");
    }
}

#[test]
fn strays_are_neither_listed_nor_read() {
    let (dir, store) = fresh();
    let packs = dir.path().join("store/packs");
    store.put(&name("packs/0a/object"), &payload(10)).expect("puts");
    for stray in [".tmp-0011", "object#1", ".DS_Store", ".nfs0000012", "Object", "a b", "a\n"] {
        fs::write(packs.join(stray), "x").expect("writes");
    }
    fs::write(packs.join(OsStr::from_bytes(b"\xff")), "x").expect("writes");
    for folder in ["lost+found", ".Trash"] {
        fs::create_dir(packs.join(folder)).expect("is made");
        fs::write(packs.join(folder).join("object"), "x").expect("writes");
    }
    fs::create_dir(packs.join("folder")).expect("is made");
    symlink("0a/object", packs.join("link")).expect("is made");
    let fifo = packs.join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo is installed").success());
    assert!(fs::metadata(&fifo).expect("is there").file_type().is_fifo());

    assert_eq!(names(&store.list("packs").expect("lists")), ["packs/0a/object"]);
    for stray in ["packs/folder", "packs/link", "packs/fifo"] {
        let error = store.get(&name(stray), 10).expect_err("is no object");
        assert!(matches!(error, StoreError::NotFound(_)), "{stray}: {error:?}");
        let error = store.put(&name(stray), &payload(10)).expect_err("the name is taken");
        assert!(matches!(error, StoreError::Io { .. }), "{stray}: {error:?}");
    }
    store.delete(&name("packs/folder")).expect("a folder is no object");
    assert!(packs.join("folder").exists());
}

#[test]
fn symlinked_folders_are_not_followed() {
    let (dir, store) = fresh();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).expect("is made");
    fs::write(outside.join("object"), "secret").expect("writes");
    symlink(&outside, dir.path().join("store/packs")).expect("is made");
    fs::create_dir(dir.path().join("store/index")).expect("is made");
    symlink(&outside, dir.path().join("store/index/0a")).expect("is made");

    for object in ["packs/object", "index/0a/object"] {
        let (object, new) = (name(object), name(&format!("{object}-new")));
        let _ = store.get(&object, 10).expect_err("is behind a symlink");
        let _ = store.get_range(&object, 0, &mut [0; 1]).expect_err("is behind a symlink");
        let _ = store.put(&new, &payload(1)).expect_err("is behind a symlink");
        let _ = store.delete(&object).expect_err("is behind a symlink");
    }
    let _ = store.list("packs").expect_err("must not look empty");
    assert!(store.list("index").expect("lists").is_empty());
    assert_eq!(files(&outside), [outside.join("object")]);
}

#[test]
fn other_bytes_under_a_taken_name_are_refused() {
    let (_dir, store) = fresh();
    store.put(&name("keys/a"), &payload(300_000)).expect("puts");
    for named in [true, false] {
        store.unnamed.store(named, Ordering::Relaxed);
        let mut changed = payload(300_000).to_vec();
        changed[299_999] ^= 1;
        for other in [payload(299_999), payload(300_001), Payload::public(changed)] {
            let error = store.put(&name("keys/a"), &other).expect_err("is taken");
            assert!(matches!(error, StoreError::Io { .. }), "{error:?}");
            let expected = format!("put other bytes under `keys/a` in {}", store.location());
            assert_eq!(error.to_string(), expected);
        }
        store.put(&name("keys/a"), &payload(300_000)).expect("the same bytes are welcome");
    }
    assert_eq!(store.get(&name("keys/a"), 300_000).expect("gets"), payload(300_000).to_vec());
    assert_eq!(files(&store.path).len(), 1);
}

#[test]
fn f_017_a_full_disk_is_named_and_nothing_is_left_on_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mount = Mount::new(dir.path().join("mount"), "size=1m");
    let store = LocalStore::create(&mount.0.join("store")).expect("is made");
    let small = name("packs/0a/small");
    for named in [true, false] {
        store.unnamed.store(named, Ordering::Relaxed);
        store.put(&small, &payload(600_000)).expect("fits");
        for len in [500_000, 1_100_000, 5_000_000] {
            let error = store.put(&name("packs/0b/large"), &payload(len)).expect_err("is full");
            assert!(matches!(error, StoreError::NoSpace { .. }), "{error:?}");
            let expected = format!("no space left in {} for `packs/0b/large`", store.location());
            assert_eq!(error.to_string(), expected);
        }
        assert_eq!(files(&store.path), [store.path.join("packs/0a/small")]);
        store.delete(&small).expect("deletes");
    }
    store.put(&name("packs/0b/large"), &payload(900_000)).expect("all room is free again");
}

#[test]
fn f_019_a_disk_without_inodes_is_named_as_full() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mount = Mount::new(dir.path().join("mount"), "size=1m,nr_inodes=16");
    let store = LocalStore::create(&mount.0.join("store")).expect("is made");
    let put = |n: usize| store.put(&name(&format!("keys/{n}")), &payload(1));
    let full = (0..16).find_map(|n| put(n).err().map(|error| (n, error)));
    let (count, error) = full.expect("16 inodes cannot hold 16 objects and their folders");
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error:?}");
    assert_eq!(files(&store.path).len(), count);
    let error = store.put(&name("packs/0a/x"), &payload(1)).expect_err("no folder can be made");
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error:?}");
}

#[test]
fn f_025_a_read_only_disk_denies_writing_and_still_reads() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mount = Mount::new(dir.path().join("mount"), "size=1m");
    let store = LocalStore::create(&mount.0.join("store")).expect("is made");
    let there = name("packs/0a/x");
    store.put(&there, &payload(10)).expect("puts");
    mount.read_only();

    for text in ["packs/0a/y", "packs/0b/y"] {
        let error = store.put(&name(text), &payload(10)).expect_err("is read-only");
        assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
        let expected = format!("{} refuses to write `{text}`", store.location());
        assert_eq!(error.to_string(), expected);
    }
    let error = store.delete(&there).expect_err("is read-only");
    assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
    assert_eq!(store.get(&there, 10).expect("gets"), payload(10).to_vec());
    let error = LocalStore::create(&mount.0.join("other")).expect_err("is read-only");
    assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
}

#[test]
fn missing_permissions_are_told_from_missing_objects() {
    let (_dir, store) = fresh();
    let there = name("packs/0a/x");
    store.put(&there, &payload(10)).expect("puts");
    let folder = store.path.join("packs/0a");
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("mode is set");
    };
    let denied = |result: Result<(), StoreError>| {
        let error = result.expect_err("has no permission");
        assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
    };
    without_override(|| {
        mode(&folder, 0o500);
        denied(store.put(&name("packs/0a/y"), &payload(10)));
        denied(store.delete(&there));
        mode(&folder.join("x"), 0);
        denied(store.get(&there, 10).map(drop));
        denied(store.get_range(&there, 0, &mut [0; 1]));
        mode(&folder, 0);
        denied(store.get(&there, 10).map(drop));
        denied(store.list("packs").map(drop));
    });
}

/// Runs `test` in a thread that may not pass over file permissions although it is root.
fn without_override(test: impl FnOnce() + Send) {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let mut sets = capabilities(None).expect("capabilities are told");
            sets.effective -= CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
            set_capabilities(None, sets).expect("capabilities are dropped");
            test();
        });
        thread.join().expect("the test in the thread passes");
    });
}

#[test]
fn temporary_files_are_swept_when_they_are_a_day_old() {
    let (_dir, store) = fresh();
    store.put(&name("packs/x"), &payload(10)).expect("puts");
    let packs = store.path.join("packs");
    let now = Clock::System.now().seconds;
    for (stray, age) in [(".tmp-old", 90_000), (".tmp-new", 80_000), (".other", 90_000)] {
        let file = fs::File::create(packs.join(stray)).expect("is made");
        let time = Timespec { tv_sec: now - age, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::futimens(&file, &times).expect("time is set");
    }
    store.put(&name("packs/y"), &payload(10)).expect("puts");
    assert!(packs.join(".tmp-old").exists(), "nothing is swept where nothing is left behind");
    store.unnamed.store(false, Ordering::Relaxed);
    store.put(&name("packs/z"), &payload(10)).expect("puts");
    assert!(!packs.join(".tmp-old").exists());
    assert!(packs.join(".tmp-new").exists(), "may belong to a running process");
    assert!(packs.join(".other").exists(), "is none of ours");
}

#[test]
fn a_store_removed_under_us_does_not_look_empty() {
    let (_dir, store) = fresh();
    store.put(&name("packs/x"), &payload(10)).expect("puts");
    assert!(store.list("index").expect("lists").is_empty());
    fs::remove_dir_all(&store.path).expect("is removed");
    for folder in ["packs", "index"] {
        let error = store.list(folder).expect_err("is gone");
        assert!(matches!(error, StoreError::Io { .. }), "{error:?}");
    }
    let _ = store.put(&name("packs/y"), &payload(10)).expect_err("is gone");
}

#[test]
fn a_folder_that_was_removed_is_made_again() {
    let (_dir, store) = fresh();
    store.put(&name("packs/0a/x"), &payload(10)).expect("puts");
    fs::remove_dir_all(store.path.join("packs")).expect("is removed");
    store.put(&name("packs/0a/y"), &payload(10)).expect("puts");
    assert_eq!(names(&store.list("").expect("lists")), ["packs/0a/y"]);
}

#[test]
fn opening_never_makes_and_creating_makes_all_that_is_missing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("a/b/c");
    let error = LocalStore::open(&path).expect_err("is missing");
    assert_eq!(error.to_string(), format!("no directory `{}`", path.display()));
    assert!(!dir.path().join("a").exists());
    let store = LocalStore::create(&path).expect("is made");
    store.put(&name("x"), &payload(1)).expect("puts");
    let store = LocalStore::create(&path).expect("is there already");
    assert_eq!(names(&store.list("").expect("lists")), ["x"]);
}
