//! The cache: what it saves, and that nothing depends on it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use volume_vault::clock::Clock;
use volume_vault::event::{Observer, Recorder};
use volume_vault::ops::Interrupt;
use volume_vault::ops::check::{CheckOptions, CheckReport, ReadData, check as check_all};
use volume_vault::repo::{
    ChunkReader, Dirs, RepoError, Repository, Secret, SnapshotList, TreeWalk,
};
use volume_vault::repo::{add_slot, remove_slot};
use volume_vault::store::{MemoryStore, ObjectName, RecordStore, Store};

use crate::support::far::Far;
use crate::support::garden::{at_once, collect};
use crate::support::mount::Tmpfs;
use crate::support::repo::{
    Bench, CHEAP_KDF, assert_restores, backup, change_tree, copy, files_below, list, make_tree,
    open, reader, scratch, secret,
};
use crate::support::tree::describe;

type Recorded = Arc<RecordStore<Far<MemoryStore>>>;

fn far(bench: &Bench) -> Recorded {
    Arc::new(RecordStore::new(Far(bench.store.clone())))
}

/// A repository far away with a snapshot of a tree, made by the host that asks for it later.
fn saved() -> (Bench, tempfile::TempDir) {
    let (bench, dir) = (Bench::new(), scratch());
    make_tree(dir.path());
    let repo = open(far(&bench), bench.home.path()).expect("opens");
    let _ = backup(&repo, dir.path()).expect("acknowledged");
    (bench, dir)
}

/// The calls, sorted, with ids that differ from run to run left out.
fn calls(store: &Recorded) -> Vec<String> {
    let kept = |part: &str| part.len() < 32;
    let shown = |target: &str| {
        let name: Vec<&str> = target
            .split('/')
            .map(|part| match part.split_once('.') {
                Some((id, end)) if !kept(id) => end,
                _ if kept(part) => part,
                _ => "ID",
            })
            .collect();
        name.join("/")
    };
    let mut calls: Vec<String> = store
        .calls()
        .iter()
        .map(|call| format!("{:?} {}", call.kind, shown(&call.target)))
        .collect();
    calls.sort();
    store.clear();
    calls
}

fn look(repo: &Arc<Repository>) -> usize {
    let snapshots = list(repo);
    let reader = reader(repo);
    entries(&reader, &snapshots[0].items()[0])
}

fn entries(reader: &Arc<ChunkReader>, item: &volume_vault::format::Item) -> usize {
    let mut walk = TreeWalk::new(reader, item.root, item.root_level);
    std::iter::from_fn(|| walk.next().expect("the tree reads")).count()
}

const OPEN: [&str; 3] = ["Get keys/ID", "Get vault.json", "List config"];
const LISTS: [&str; 2] = ["List forget", "List snapshots"];
const INDEX: [&str; 3] = ["List gc", "List index", "List packs"];

fn sorted(parts: &[&[&'static str]]) -> Vec<&'static str> {
    let mut all = parts.concat();
    all.sort_unstable();
    all
}

#[test]
fn a_warm_cache_leaves_a_handful_of_calls_and_these_are_they() {
    let (bench, dir) = saved();
    let store = far(&bench);
    let reopen = || open(store.clone(), bench.home.path()).expect("opens");
    // Who wrote it needs nothing of it.
    let repo = reopen();
    assert_eq!(list(&repo).len(), 1);
    assert_eq!(calls(&store), sorted(&[&OPEN, &LISTS]), "snapshots");
    let entries = look(&reopen());
    assert!(entries > 10, "{entries}");
    assert_eq!(calls(&store), sorted(&[&OPEN, &LISTS, &INDEX]), "ls");
    let second = backup(&reopen(), dir.path()).expect("acknowledged");
    assert_eq!((second.item.facts.bytes_read, second.packs), (0, 0));
    let commit = ["Put snapshots/pending", "List gc", "Put snapshots/ok", "List forget"];
    assert_eq!(calls(&store), sorted(&[&OPEN, &LISTS, &INDEX, &commit]), "unchanged backup");
}

#[test]
fn another_host_reads_once_what_it_keeps_from_then_on() {
    let (bench, _dir) = saved();
    let (store, other) = (far(&bench), bench.other_host());
    let reopen = || open(store.clone(), other.home.path()).expect("opens");
    let entries = look(&reopen());
    let cold = calls(&store);
    let read: Vec<_> = cold.iter().filter(|call| call.starts_with("Get")).cloned().collect();
    let expected = [
        "Get config/0000000000000001",
        "Get index/ID",
        "Get keys/ID",
        "Get snapshots/ok",
        "Get snapshots/pending",
        "Get vault.json",
        // A pack this small is fetched whole.
        "GetRange packs/",
    ];
    assert_eq!(read.len(), expected.len(), "{read:?}");
    assert!(read.iter().zip(expected).all(|(call, start)| call.starts_with(start)), "{read:?}");
    assert_eq!(look(&reopen()), entries);
    assert_eq!(calls(&store), sorted(&[&OPEN, &LISTS, &INDEX]));
}

/// The files of this host's cache of the one repository, and that folder.
fn cached(home: &Path) -> (PathBuf, Vec<PathBuf>) {
    let cache = home.join("cache");
    let folder = fs::read_dir(&cache).expect("a cache").next().expect("one repository");
    let folder = folder.expect("it lists").path();
    let files = files_below(&folder);
    (folder, files)
}

/// All that a host does with a repository far away, with whatever its cache holds.
fn live(bench: &Bench, dir: &Path, what: &str) {
    let reopen = || open(far(bench), bench.home.path()).expect(what);
    assert!(look(&reopen()) > 10, "{what}");
    let saved = backup(&reopen(), dir).expect(what);
    assert_eq!(saved.item.facts.bytes_read, 0, "{what}");
    assert_restores(&reopen(), &saved.snapshot, &describe(dir));
}

#[test]
fn a_cache_that_is_damaged_cut_short_or_gone_is_as_good_as_empty_and_made_anew() {
    type Damage = fn(&Path, usize);
    let damages: [(&str, Damage); 6] = [
        ("empty", |path, _| fs::write(path, b"").expect("written")),
        ("half", |path, len| {
            let file = fs::OpenOptions::new().write(true).open(path).expect("opens");
            file.set_len(len as u64 / 2).expect("cut");
        }),
        ("flipped", |path, len| {
            let mut bytes = fs::read(path).expect("reads");
            (0..len).step_by(97).for_each(|at| bytes[at] ^= 0x10);
            fs::write(path, bytes).expect("written");
        }),
        ("noise", |path, len| {
            fs::write(path, crate::support::repo::noise(9, 3 * len)).expect("written");
        }),
        ("zeros", |path, len| fs::write(path, vec![0; len]).expect("written")),
        ("gone", |path, _| fs::remove_file(path).expect("removed")),
    ];
    let (bench, dir) = saved();
    let (_, files) = cached(bench.home.path());
    for kind in ["records/", "trees/", "index/", "slot"] {
        assert!(files.iter().any(|file| file.starts_with(kind)), "{kind}: {files:?}");
    }
    for (what, damage) in damages {
        let fork = bench.fork();
        let (folder, files) = cached(fork.home.path());
        for file in &files {
            let path = folder.join(file);
            damage(&path, fs::read(&path).map_or(0, |bytes| bytes.len()));
        }
        live(&fork, dir.path(), what);
        let store = far(&fork);
        let _ = look(&open(store.clone(), fork.home.path()).expect("opens"));
        assert_eq!(calls(&store), sorted(&[&OPEN, &LISTS, &INDEX]), "{what}: it is made anew");
    }
}

#[test]
fn the_cache_of_another_repository_is_as_good_as_empty() {
    let (bench, dir) = saved();
    let (other, _other_dir) = saved();
    let (ours, _) = cached(bench.home.path());
    let (theirs, _) = cached(other.home.path());
    fs::remove_dir_all(&ours).expect("removed");
    copy(&theirs, &ours);
    live(&bench, dir.path(), "another repository");
}

#[test]
fn what_stands_where_the_cache_keeps_its_things_does_no_harm() {
    let (bench, dir) = saved();
    let (folder, _) = cached(bench.home.path());
    for name in ["records", "trees", "index", "slot"] {
        let _ = fs::remove_dir_all(folder.join(name));
        fs::remove_file(folder.join(name)).unwrap_or_default();
        // A file for a folder, a folder for a file.
        match name {
            "slot" => fs::create_dir(folder.join(name)).expect("made"),
            _ => fs::write(folder.join(name), "x").expect("written"),
        }
    }
    live(&bench, dir.path(), "files for folders");
}

#[test]
fn the_cache_may_go_while_it_is_used() {
    let (bench, dir) = saved();
    let repo = open(far(&bench), bench.home.path()).expect("opens");
    fs::remove_dir_all(bench.home.path().join("cache")).expect("removed");
    assert!(look(&repo) > 10);
    let _ = backup(&repo, dir.path()).expect("acknowledged");
    drop(repo);
    live(&bench, dir.path(), "gone");
}

#[test]
fn f018_no_verb_fails_because_the_cache_is_full() {
    let (bench, dir) = saved();
    let sizes = (1..30).map(|pages| format!("size={}", pages * 4096));
    let inodes = (1..16).map(|inodes| format!("size=8m,nr_inodes={inodes}"));
    let mut full = 0;
    for options in sizes.chain(inodes) {
        let (disk, state, tree) = (Tmpfs::new(&options), scratch(), scratch());
        let fork = bench.fork();
        copy(dir.path(), tree.path());
        let reopen = || {
            let dirs = Dirs { cache: disk.path().to_owned(), state: state.path().to_owned() };
            Arc::new(Repository::open(far(&fork), &secret(), &dirs).expect(&options))
        };
        let _ = look(&reopen());
        change_tree(tree.path());
        let saved = backup(&reopen(), tree.path()).expect(&options);
        assert_restores(&reopen(), &saved.snapshot, &describe(tree.path()));
        assert!(checked(&reopen()).is_clean(), "{options}");
        let stat = rustix::fs::statvfs(disk.path()).expect("a file system");
        full += usize::from(stat.f_bavail == 0 || stat.f_favail == 0);
    }
    assert!(full > 10, "{full} ran full");
}

#[test]
fn two_processes_share_a_cache_without_waiting_for_each_other() {
    let (bench, dir) = saved();
    let (folder, _) = cached(bench.home.path());
    fs::remove_dir_all(&folder).expect("removed");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let _ = scope.spawn(|| {
                for _ in 0..5 {
                    let repo = open(far(&bench), bench.home.path()).expect("opens");
                    assert!(look(&repo) > 10);
                }
            });
        }
    });
    live(&bench, dir.path(), "shared");
}

#[test]
fn nobody_else_can_look_into_the_cache() {
    let (bench, _dir) = saved();
    let (folder, files) = cached(bench.home.path());
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    assert!(files.len() > 3, "{files:?}");
    for file in files {
        assert_eq!(mode(&folder.join(&file)), 0o600, "{file:?}");
        assert_eq!(mode(folder.join(&file).parent().expect("a folder")), 0o700, "{file:?}");
    }
}

#[test]
fn the_canary_and_what_snapshots_say_are_nowhere_in_the_cache() {
    let (bench, _dir) = saved();
    let repo = open(far(&bench), bench.home.path()).expect("opens");
    let _ = look(&repo);
    drop(repo);
    let (folder, files) = cached(bench.home.path());
    for file in files {
        let bytes = fs::read(folder.join(&file)).expect("reads");
        for secret in [crate::support::repo::CANARY.as_bytes(), b"file-03", b"/tree"] {
            assert!(!bytes.windows(secret.len()).any(|found| found == secret), "{file:?}");
        }
    }
}

fn checked(repo: &Arc<Repository>) -> CheckReport {
    let observer: Arc<dyn Observer> = Arc::new(Recorder::default());
    let options = CheckOptions { read: ReadData::Trees, memory: 256 << 20, clock: Clock::System };
    check_all(repo, &options, &observer, &Interrupt::default()).expect("it checks")
}

/// The names of objects below a folder.
fn named(bench: &Bench, start: &str, end: &str) -> Vec<ObjectName> {
    let wanted = |name: &ObjectName| name.as_str().starts_with(start) && name.base().ends_with(end);
    bench.store.names().into_iter().filter(wanted).collect()
}

#[test]
fn damage_in_the_store_is_seen_by_check_and_stops_a_collector_whatever_the_cache_knows() {
    let (bench, _dir) = saved();
    let reopen = |bench: &Bench| open(far(bench), bench.home.path()).expect("opens");
    let mut seen = 0;
    for start in ["snapshots/", "packs/"] {
        for name in named(&bench, start, "") {
            let fork = bench.fork();
            // The time stays: nothing in a list says that it happened.
            assert!(fork.store.corrupt(&name, |bytes| bytes.iter_mut().for_each(|b| *b ^= 1)));
            assert_eq!(list(&reopen(&fork)).len(), 1, "known from the cache");
            // This check reads no packs of data, nor does a collector that keeps them.
            if !checked(&reopen(&fork)).is_clean() {
                let _ = collect(&reopen(&fork), &at_once()).expect_err("it deletes nothing");
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 3, "the record, its commit, the pack of the tree");
}

#[test]
fn a_record_that_was_written_over_or_cut_is_read_again() {
    let (bench, _dir) = saved();
    for end in [".pending", ".ok"] {
        let name = named(&bench, "snapshots/", end).pop().expect("a record");
        let changes: [fn(&mut Vec<u8>); 2] = [|bytes| bytes.truncate(9), |bytes| bytes[99] ^= 1];
        for change in changes {
            let fork = bench.fork();
            // Seen once, so that its time is known.
            let _ = list(&open(far(&fork), fork.home.path()).expect("opens"));
            let mut bytes = fork.store.get(&name, 1 << 20).expect("reads");
            change(&mut bytes);
            fork.store.insert_raw(name.clone(), bytes);
            let repo = open(far(&fork), fork.home.path()).expect("opens");
            let result = SnapshotList::load(&repo);
            let damaged = match &result {
                Ok(found) => found.damaged.len(),
                Err(error) => usize::from(matches!(error, RepoError::RolledBack(_))),
            };
            assert_eq!(damaged, 1, "{name}");
        }
    }
}

#[test]
fn a_slot_that_was_removed_opens_nothing_though_it_opened_last() {
    let (bench, _dir) = saved();
    let repo = open(far(&bench), bench.home.path()).expect("opens");
    let other = || Secret::KeyFile(volume_vault::crypto::Key::new([8; 32]));
    let store = far(&bench);
    let (id, master) = (repo.id(), repo.master());
    let _ = add_slot(&store, &id, master, &other(), CHEAP_KDF, "new", 0).expect("added");
    remove_slot(&store, &repo.slot()).expect("removed");
    drop(repo);
    let refused = open(store.clone(), bench.home.path()).expect_err("its slot is gone");
    assert!(matches!(refused, RepoError::WrongKey { .. }), "{refused:?}");
    let home = bench.home.path();
    let dirs = Dirs { cache: home.join("cache"), state: home.join("state") };
    for listed in [1, 0] {
        store.clear();
        let _ = Repository::open(store.clone(), &other(), &dirs).expect("the new slot opens");
        let lists = calls(&store).iter().filter(|call| *call == "List keys").count();
        assert_eq!(lists, listed);
    }
}
