//! The power goes while the program writes, on each file system, at every moment that matters.

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use volume_vault::id::SnapshotId;
use volume_vault::repo::{Dirs, Repository, Secret, read_key_file};
use volume_vault::store::LocalStore;

use super::disk::{Disk, Kept};
use super::{Mounted, met, run, text, watched};
use crate::support::machine::{Machine, arg, assert_success};
use crate::support::repo::{
    assert_restores, backup, check, copy, files_below, list, make_tree, noise, scratch,
};
use crate::support::tree::{Tree, describe};

const KINDS: [&str; 3] = ["ext4", "xfs", "btrfs"];

/// A snapshot that was acknowledged.
struct Acked {
    id: SnapshotId,
    tree: Tree,
    /// How much was on record then.
    from: usize,
    /// How much was on record when it was given up.
    to: usize,
}

/// What was done on a disk, and the disk on record.
struct Film {
    machine: Machine,
    disk: Disk,
    dir: TempDir,
    acked: Vec<Acked>,
    /// How much was on record when all was in place.
    start: usize,
}

impl Film {
    /// A machine whose repository lies on a new disk.
    fn begin(kind: &str) -> Self {
        let disk = Disk::new(kind, None);
        let mut machine = Machine::new();
        let repository = disk.path().join("r");
        copy(&machine.repository, &repository);
        let _ = run(&["sync", "-f", text(disk.path())]);
        machine.repository = repository;
        let dir = scratch();
        make_tree(dir.path());
        let start = disk.position();
        Self { machine, disk, dir, acked: Vec::new(), start }
    }

    /// Backs up what has changed since; `runner` may disturb it.
    fn backup(&mut self, number: u64, runner: &[&str]) {
        let file = self.dir.path().join(format!("file-{}", number % 3));
        std::fs::write(file, noise(number, 300_000)).expect("written");
        let args = ["-q", "backup", arg(self.dir.path())];
        let output = self.machine.under(runner, &args).output().expect("vault runs");
        assert_success(&output);
        let id = String::from_utf8(output.stdout).expect("text").trim().parse().expect("an id");
        let tree = describe(self.dir.path());
        let acked = Acked { id, tree, from: self.disk.position(), to: usize::MAX };
        self.acked.push(acked);
    }

    fn vault(&self, args: &[&str]) {
        assert_success(&self.machine.vault(args).output().expect("vault runs"));
    }

    /// Backups, and a collection that moves and deletes what they stored.
    fn whole(kind: &str) -> Self {
        let mut film = Self::begin(kind);
        (0..3).for_each(|number| film.backup(number, &[]));
        film.acked[1].to = film.disk.position();
        let id = film.acked[1].id.to_string();
        film.vault(&["-q", "forget", &id]);
        film.vault(&["-q", "prune", "--max-unused", "0%"]);
        (3..5).for_each(|number| film.backup(number, &[]));
        film.disk.stop();
        film
    }

    /// The repository as a cut leaves it, mounted in a file system that was cut, too.
    fn cut(&self, position: usize, kept: Kept) -> (TempDir, Mounted, usize) {
        let dir = scratch();
        let image = dir.path().join("image");
        let lost = self.disk.after_cut(position, kept, &image);
        let mounted = Mounted::image(&image);
        (dir, mounted, lost)
    }

    /// Holds O1 to O5 on what a cut left; `acked` are those that must be there.
    fn judge(&self, mounted: &Mounted, acked: &[&Acked]) {
        let home = scratch();
        let repo = open_at(&self.machine, &mounted.join("r"), home.path());
        let listed = list(&repo);
        for acked in acked {
            let is_there = listed.iter().any(|snapshot| snapshot.id == acked.id);
            assert!(is_there, "an acknowledged snapshot is gone");
        }
        if let Some(newest) = acked.last() {
            assert_restores(&repo, &newest.id, &newest.tree);
        }
        let _ = check(&repo);
        let next = backup(&repo, self.dir.path()).expect("the next plain backup");
        assert_restores(&repo, &next.snapshot, &describe(self.dir.path()));
    }

    /// Those that were acknowledged and not given up at a moment.
    fn promised(&self, position: usize) -> Vec<&Acked> {
        let counts = |acked: &&Acked| acked.from <= position && position <= acked.to;
        self.acked.iter().filter(counts).collect()
    }
}

/// The repository in a folder, opened with the machine's key as a host that knows nothing of it.
fn open_at(machine: &Machine, place: &Path, home: &Path) -> Arc<Repository> {
    let keys = machine.path("config/vault/keys");
    let key = keys.join(files_below(&keys).pop().expect("one key file"));
    let key = read_key_file(&std::fs::read(key).expect("reads")).expect("a key");
    let dirs = Dirs { cache: home.join("cache"), state: home.join("state") };
    let store = LocalStore::open(place).expect("the store opens");
    let repo = Repository::open(Arc::new(store), &Secret::KeyFile(key), &dirs);
    Arc::new(repo.expect("the repository opens"))
}

/// Cuts before every flush, so that most is at stake; what is kept of the rest is up to the test.
fn cut_everywhere(kept: impl Fn(u64) -> Kept) {
    let mut told = Vec::new();
    for kind in KINDS {
        let film = Film::whole(kind);
        let (mut cuts, mut sectors, mut pending) = (0, 0, 0);
        for flush in film.disk.flushes().into_iter().filter(|flush| *flush > film.start) {
            let (_image, mounted, lost) = film.cut(flush, kept(flush as u64));
            let promised = film.promised(flush);
            film.judge(&mounted, &promised);
            cuts += 1;
            sectors += lost;
            pending += usize::from(lost > 0);
        }
        assert!(cuts > 40 && pending > 20, "{kind}: {cuts} cuts, {pending} that lost something");
        told.push(format!("{kind} {cuts} cuts, {sectors} sectors lost"));
    }
    met(&told.join("; "));
}

#[test]
#[ignore = "minutes; needs FUSE, ext4, xfs and btrfs"]
fn f011_power_cut_at_any_flush_what_was_not_synced_is_lost_and_nothing_acknowledged() {
    cut_everywhere(|_| Kept::Nothing);
}

#[test]
#[ignore = "minutes; needs FUSE, ext4, xfs and btrfs"]
fn f012_power_cut_with_any_sectors_kept_that_were_not_flushed_costs_nothing_acknowledged() {
    cut_everywhere(|flush| match flush % 4 {
        0 => Kept::All,
        _ => Kept::Some(flush),
    });
}

#[test]
#[ignore = "a minute; needs FUSE and ext4"]
fn f013_where_syncs_of_directories_are_dropped_a_cut_costs_the_last_backup_and_no_other() {
    let (mut dropped, mut lost) = (0, 0);
    for number in 10..16 {
        let mut film = Film::begin("ext4");
        film.backup(1, &[]);
        film.backup(2, &[]);
        // What is a directory is synced by this call, and nothing else is.
        let log = film.machine.path("strace.log");
        let drop = ["-e", "trace=fsync", "-e", "inject=fsync:retval=0"];
        film.backup(number, &[&["strace", "-f", "-qq", "-o", arg(&log)][..], &drop].concat());
        let log = std::fs::read(&log).expect("a log");
        let injected = String::from_utf8_lossy(&log).matches("(INJECTED)").count();
        assert!(injected > 3, "{injected}");
        dropped += injected;
        let end = film.disk.position();
        film.disk.stop();
        let (_image, mounted, _) = film.cut(end, Kept::Nothing);
        let repo = open_at(&film.machine, &mounted.join("r"), scratch().path());
        let last = film.acked.last().expect("three").id;
        lost += usize::from(!list(&repo).iter().any(|snapshot| snapshot.id == last));
        let promised: Vec<&Acked> = film.acked[..2].iter().collect();
        film.judge(&mounted, &promised);
    }
    // No program can see through a system that says that it has synced; that it matters shows that
    // F-011 would find a sync that is missing.
    assert!(lost > 0, "{dropped} syncs of directories were dropped, and nothing was lost");
    met(&format!("{dropped} syncs dropped, {lost} of 6 last backups lost, 12 others kept"));
}

#[test]
#[ignore = "a minute; needs FUSE and ext4"]
fn f035_a_disk_of_a_megabyte_a_second_is_waited_for_and_memory_is_bounded() {
    let disk = Disk::new("ext4", Some(1 << 20));
    let mut machine = Machine::new();
    machine.repository = disk.path().join("r");
    assert_success(
        &machine.vault(&["init", arg(&machine.repository)]).output().expect("vault runs"),
    );
    let dir = scratch();
    std::fs::write(dir.path().join("large"), noise(1, 48 << 20)).expect("written");
    let args = ["--memory", "64MiB", "-q", "backup", arg(dir.path())];
    let (output, most) = watched(machine.vault(&args).spawn().expect("vault runs"));
    assert_success(&output);
    let id = String::from_utf8(output.stdout).expect("text").trim().parse().expect("an id");
    let waited = disk.waited().as_secs();
    assert!(waited > 45, "the disk was slow: {waited} s");
    assert!(most > 10_000 && most < 160 << 10, "{most} KiB resident");
    let home = scratch();
    let repo = open_at(&machine, &machine.repository, home.path());
    assert_restores(&repo, &id, &describe(dir.path()));
    met(&format!("writers waited {waited} s, {} MiB resident at most", most >> 10));
}
