//! The program itself on damaged and hostile repositories: exit codes, and what is left behind.

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

use volume_vault::entry::{Extent, Kind};
use volume_vault::format::{BackupFacts, Item, PackKind};
use volume_vault::sink::MARKER_NAME;
use volume_vault::store::Store as _;

use super::{Beside, text};
use crate::support::builder::{
    Builder, RawRecord, directory, entry, file_of, key_of, noise, raw, root, value, write_key,
};
use crate::support::tree::remove;

/// A repository on disk beside a sentinel, and a host that knows nothing of it.
struct OnDisk {
    beside: Beside,
    builder: Builder,
}

impl OnDisk {
    fn new(builder: Builder) -> Self {
        let beside = Beside::new();
        builder.write_to(&beside.path("repo"), &beside.path("key"));
        Self { beside, builder }
    }

    fn object(&self, name: &str) -> PathBuf {
        self.beside.path("repo").join(name)
    }

    /// The only object below a folder.
    fn only(&self, folder: &str) -> PathBuf {
        let listed = self.builder.store.list(folder).expect("lists");
        assert_eq!(listed.len(), 1, "{listed:?}");
        self.object(listed[0].name.as_str())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vault"));
        let _ = command.env_clear().current_dir(self.beside.dir.path());
        for name in ["DATA", "CONFIG", "CACHE", "STATE"] {
            let _ = command.env(format!("XDG_{name}_HOME"), self.beside.path("host"));
        }
        command
    }

    /// Runs the program on the repository; its exit code and all it said.
    fn run(&self, args: &[&str]) -> (i32, String) {
        let mut command = self.command();
        let _ = command.args(["--repo", "repo", "--key-file", "key", "--yes"]).args(args);
        self.done(command)
    }

    fn done(&self, mut command: Command) -> (i32, String) {
        let output: Output = command.output().expect("it runs");
        let said = [&output.stdout[..], &output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(!said.contains("panicked"), "{said}");
        assert_eq!(output.status.signal(), None, "{said}");
        self.beside.check(&["repo", "key", "host"]);
        (output.status.code().expect("no signal"), said)
    }

    fn restore(&self) -> (i32, String) {
        self.run(&["restore", "latest", "--target", "target"])
    }

    /// No target, an empty one, or one that says that it is not whole.
    fn nothing_half_made(&self) {
        let target = self.beside.target();
        let held = std::fs::read_dir(&target).map_or(0, Iterator::count);
        assert!(held == 0 || target.join(MARKER_NAME).exists(), "half a tree looks whole");
    }
}

/// A snapshot of files `a` and `b`, which lie in packs of their own.
fn two_files() -> Builder {
    let mut builder = Builder::new();
    let mut records = vec![root()];
    for (seed, path) in [(1, "a"), (2, "b")] {
        let content = noise(seed, 3000);
        let id = builder.chunk_id(PackKind::Data, &content);
        let mut pack = builder.start_pack(PackKind::Data);
        pack.frame(vec![(id.prefix(), 3000)], &raw(&content));
        let _ = builder.finish_pack(pack);
        records.push(file_of(path, vec![Extent::Chunk(id, 3000)]));
    }
    let item = builder.tree(&records);
    let _ = builder.publish();
    let _ = builder.snapshot(vec![item]);
    builder
}

/// The pack that holds file `a`.
fn pack_of_a(disk: &OnDisk) -> PathBuf {
    let id = disk.builder.chunk_id(PackKind::Data, &noise(1, 3000));
    let index = disk.builder.open().load_index().expect("loads");
    let place = index.find(&id).expect("reads").expect("it is there");
    disk.object(&crate::support::builder::pack_name(&index.pack(place.pack).id))
}

#[test]
fn a_sound_repository_restores_with_exit_code_0() {
    let disk = OnDisk::new(two_files());
    let (code, said) = disk.restore();
    assert_eq!(code, 0, "{said}");
    assert_eq!(std::fs::read(disk.beside.path("target/a")).expect("there"), noise(1, 3000));
}

#[test]
fn a_damaged_pack_ends_with_13_and_all_other_files_restored() {
    let disk = OnDisk::new(two_files());
    let pack = pack_of_a(&disk);
    let mut bytes = std::fs::read(&pack).expect("it reads");
    bytes[1300] ^= 1;
    std::fs::write(&pack, bytes).expect("written");
    let (code, said) = disk.restore();
    assert_eq!(code, 13, "{said}");
    assert!(
        said.contains("damaged files of /data: 1") && said.contains("warning: a: pack"),
        "{said}"
    );
    assert!(!disk.beside.path("target/a").exists(), "half a file is worse than none");
    assert_eq!(std::fs::read(disk.beside.path("target/b")).expect("there"), noise(2, 3000));
}

#[test]
fn a_missing_pack_ends_with_13_and_all_other_files_restored() {
    let disk = OnDisk::new(two_files());
    std::fs::remove_file(pack_of_a(&disk)).expect("removed");
    let (code, said) = disk.restore();
    assert_eq!(code, 13, "{said}");
    assert!(!disk.beside.path("target/a").exists());
    assert!(disk.beside.path("target/b").exists());
}

#[test]
fn missing_or_damaged_trees_and_indexes_end_with_13_and_no_half_made_target() {
    let tree_pack = |disk: &OnDisk| {
        let index = disk.builder.open().load_index().expect("loads");
        let packs = index.packs();
        let tree = packs.iter().find(|(pack, _)| pack.kind == PackKind::Tree).expect("one");
        disk.object(&crate::support::builder::pack_name(&tree.0.id))
    };
    let segment = |disk: &OnDisk| disk.only("index");
    let lose: fn(&PathBuf) = |path| std::fs::remove_file(path).expect("removed");
    let damage: fn(&PathBuf) = |path| {
        let mut bytes = std::fs::read(path).expect("it reads");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bytes[1300] ^= 1;
        std::fs::write(path, bytes).expect("written");
    };
    let cut: fn(&PathBuf) = |path| {
        let bytes = std::fs::read(path).expect("it reads");
        std::fs::write(path, &bytes[..bytes.len() / 2]).expect("written");
    };
    for (number, harm) in [lose, damage, cut].into_iter().enumerate() {
        for what in [&tree_pack as &dyn Fn(&OnDisk) -> PathBuf, &segment] {
            let disk = OnDisk::new(two_files());
            harm(&what(&disk));
            let (code, said) = disk.restore();
            assert_eq!(code, 13, "harm {number}: {said}");
            disk.nothing_half_made();
        }
    }
}

#[test]
fn a_snapshot_that_this_host_has_seen_and_that_is_gone_ends_with_13() {
    for end in ["pending", "ok"] {
        let disk = OnDisk::new(two_files());
        assert_eq!(disk.run(&["restore", "latest", "--target", "target"]).0, 0);
        remove(&disk.beside.target());
        for listed in disk.builder.store.list("snapshots").expect("lists") {
            if listed.name.as_str().ends_with(end) {
                std::fs::remove_file(disk.object(listed.name.as_str())).expect("removed");
            }
        }
        for verb in [&["restore", "latest", "--target", "target"][..], &["backup", "./sentinel"]] {
            let (code, said) = disk.run(verb);
            assert_eq!(code, 13, "{said}");
            assert!(said.contains("rolled back"), "{said}");
        }
        disk.nothing_half_made();
    }
}

#[test]
fn a_damaged_snapshot_is_not_passed_over_in_silence() {
    let mut builder = two_files();
    let item = builder.tree(&[root()]);
    let _ = builder.publish();
    let newest = builder.snapshot(vec![item]);
    let disk = OnDisk::new(builder);
    let path = disk.object(&format!("snapshots/{newest}.pending"));
    let mut bytes = std::fs::read(&path).expect("it reads");
    bytes[100] ^= 1;
    std::fs::write(path, bytes).expect("written");
    let (code, said) = disk.restore();
    assert_eq!(code, 0, "the older one is whole: {said}");
    assert!(said.contains("1 snapshot records cannot be read"), "{said}");
}

#[test]
fn a_rolled_back_repository_ends_with_13() {
    let mut builder = two_files();
    let older = builder.store.copied();
    let item = builder.tree(&[root()]);
    let _ = builder.publish();
    let _ = builder.snapshot(vec![item]);
    let disk = OnDisk::new(builder);
    assert_eq!(disk.restore().0, 0);
    remove(&disk.beside.path("repo"));
    let mut builder = disk.builder;
    builder.store = older;
    builder.write_to(&disk.beside.path("repo"), &disk.beside.path("key"));
    let disk = OnDisk { builder, beside: disk.beside };
    remove(&disk.beside.target());
    let (code, said) = disk.restore();
    assert_eq!(code, 13, "{said}");
    assert!(said.contains("rolled back"), "{said}");
    disk.nothing_half_made();
}

#[test]
fn f107_another_repository_in_the_place_of_the_embedded_one_ends_with_12() {
    let disk = OnDisk::new(two_files());
    let plain = |args: &[&str]| {
        let mut command = disk.command();
        let _ = command.arg("--yes").args(args);
        disk.done(command)
    };
    let (code, said) = plain(&["backup", "./sentinel"]);
    assert_eq!(code, 0, "{said}");
    let embedded = disk.beside.path("host/vault/repository");
    assert!(embedded.join("vault.json").exists(), "{said}");
    remove(&embedded);
    disk.builder.write_to(&embedded, &disk.beside.path("key"));
    for verb in [&["restore", "latest", "--target", "target"][..], &["backup", "./sentinel"]] {
        let (code, said) = plain(verb);
        assert_eq!(code, 12, "{said}");
    }
    disk.nothing_half_made();
}

#[test]
fn a_wrong_key_ends_with_12() {
    let disk = OnDisk::new(two_files());
    let other = volume_vault::crypto::Key::new([1; 32]);
    write_key(&disk.beside.path("key"), &other, &disk.builder.id);
    let (code, said) = disk.restore();
    assert_eq!(code, 12, "{said}");
    disk.nothing_half_made();
}

#[test]
fn f100_times_and_figures_at_the_end_of_their_range_are_shown_without_a_panic() {
    for (seconds, nanos) in [(i64::MAX, u32::MAX), (i64::MIN, u32::MAX), (0, u32::MAX)] {
        let mut builder = Builder::new();
        let mut entry = entry(Kind::Directory);
        entry.mtime = volume_vault::clock::Time::new(seconds, 999_999_999);
        let records: [RawRecord; 3] = [
            root(),
            (key_of("a"), value(entry, volume_vault::format::Content::empty())),
            builder.file("b", b"b"),
        ];
        let mut item = builder.tree(&records);
        let most = u64::MAX;
        item.facts = BackupFacts { entries: most, bytes: most, ..BackupFacts::default() };
        let _ = builder.publish();
        let mut body = builder.body(vec![item]);
        (body.seconds, body.nanos) = (seconds, nanos);
        let record = builder.pending(&body);
        let sealed = volume_vault::format::ObjectKind::Pending;
        let bytes = builder.sealed(sealed, &record.encode());
        builder.commit(record.snapshot, bytes);
        let disk = OnDisk::new(builder);
        for args in [
            &["restore", "latest", "--target", "target", "--dry-run"][..],
            &["restore", "latest", "--tar", "host.tar"],
            &["restore", "latest", "--target", "target", "--json=lines"],
        ] {
            let (code, said) = disk.run_beside(args, &["host.tar"]);
            assert!(code == 0 || code == 3, "{args:?}: {code} {said}");
        }
        assert_eq!(text(&disk.beside.path("target/b")), "b");
    }
}

impl OnDisk {
    /// As [`OnDisk::run`], where more may appear beside the sentinel.
    fn run_beside(&self, args: &[&str], made: &[&str]) -> (i32, String) {
        let found = self.run_unchecked(args);
        for name in made {
            let _ = std::fs::remove_file(self.beside.path(name));
        }
        self.beside.check(&["repo", "key", "host"]);
        found
    }

    fn run_unchecked(&self, args: &[&str]) -> (i32, String) {
        let mut command = self.command();
        let _ = command.args(["--repo", "repo", "--key-file", "key", "--yes"]).args(args);
        let output = command.output().expect("it runs");
        let said = [&output.stdout[..], &output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(!said.contains("panicked"), "{said}");
        (output.status.code().expect("no signal"), said)
    }
}

/// Items of one snapshot with these names, each with a file of its own.
fn items_named(names: &[&str]) -> Builder {
    let mut builder = Builder::new();
    let items: Vec<Item> = names
        .iter()
        .map(|name| {
            let records = [root(), builder.file("file", name.as_bytes())];
            Item { name: (*name).to_owned(), ..builder.tree(&records) }
        })
        .collect();
    let _ = builder.publish();
    let _ = builder.snapshot(items);
    builder
}

#[test]
fn f102_the_name_of_an_item_does_not_lead_out_of_the_target() {
    for name in ["..", ".", "", "../sentinel", "/", "a\0b"] {
        let disk = OnDisk::new(items_named(&["good", name]));
        let (code, said) = disk.run(&["restore", "--target", "target/deep"]);
        let within = disk.beside.target();
        let outside = within.join("file").exists() || within.join(MARKER_NAME).exists();
        assert!(!outside, "`{name}` was restored beside the target: {code} {said}");
        let file = disk.beside.path("target/deep/file");
        assert!(!file.exists(), "`{name}` was mixed with the target itself: {code} {said}");
    }
}

#[test]
fn f101_memory_does_not_grow_with_depth_times_length_of_paths() {
    // Depth d has paths of d² bytes together: kept all at once, more than 300 MB.
    const DEPTH: usize = 18_000;
    let mut builder = Builder::new();
    let mut records = vec![root()];
    let mut path = "d".to_owned();
    for _ in 0..DEPTH {
        records.push(directory(&path));
        path.push_str("/d");
    }
    let item = builder.tree_of(100, &records);
    let _ = builder.publish();
    let _ = builder.snapshot(vec![item]);
    let disk = OnDisk::new(builder);
    let mut command = Command::new("sh");
    let _ = command.env_clear().current_dir(disk.beside.dir.path());
    for name in ["DATA", "CONFIG", "CACHE", "STATE"] {
        let _ = command.env(format!("XDG_{name}_HOME"), disk.beside.path("host"));
    }
    // One arena, so that address space is what is used and not what might be.
    let script = format!(
        "ulimit -v 300000; MALLOC_ARENA_MAX=1 exec {} --repo repo --key-file key restore latest \
         --target target",
        env!("CARGO_BIN_EXE_vault")
    );
    let output = command.args(["-c", &script]).output().expect("it runs");
    remove(&disk.beside.target());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?} {said}", output.status);
}
