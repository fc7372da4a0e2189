//! Bad input: each gets a clear error and the right exit code, and nothing is lost or half made.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::container::volume_exists;
use super::vault::{Machine, acknowledged, snapshot_of};
use super::{TestVolume, engine, fresh_name, noise};
use crate::support::tree;

/// The file names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("it lists");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("listed").file_name().display().to_string()).collect();
    names.sort();
    names
}

/// That a failed first backup has made nothing.
fn assert_nothing_made(machine: &Machine) {
    assert_eq!(names(&machine.path("")), ["work"]);
    assert_eq!(names(&machine.path("work")), [""; 0]);
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// A volume with a file, saved on a machine.
fn saved() -> (Machine, TestVolume, String) {
    let engine = engine();
    let volume = TestVolume::new(&engine);
    let place = engine.host_path(&volume.info).expect("root on the same machine");
    fs::write(place.join("file"), noise(100_000)).expect("written");
    let machine = Machine::new();
    let id = snapshot_of(&machine.json(&["backup", volume.name()], 0));
    (machine, volume, id)
}

#[test]
fn no_engine_is_unreachable_and_the_message_names_the_socket() {
    let mut machine = Machine::new();
    let none = machine.path("none.sock");
    machine.set_engine(&none);
    let said = [text(&none), "systemctl start docker"];
    let _ = machine.run(&["backup", "my-data"]).expect_error(16, &said);
    assert_nothing_made(&machine);
    let error = &machine.json(&["backup", "my-data"], 16)["error"];
    assert_eq!((&error["kind"], &error["exit_code"]), (&"unreachable".into(), &16.into()));
    assert!(error["message"].to_string().contains(text(&none)), "{error}");
    assert_nothing_made(&machine);
}

#[test]
fn socket_without_permission_is_unreachable_and_the_message_says_so() {
    let mut machine = Machine::new();
    let socket = machine.path("root.sock");
    let _listener = UnixListener::bind(&socket).expect("a socket");
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o600)).expect("set");
    machine.set_engine(&socket);
    let home = machine.path("home");
    fs::create_dir(&home).expect("made");
    chown(&home, Some(65_534), Some(65_534)).expect("root may");
    for place in ["DATA", "CONFIG", "CACHE", "STATE"] {
        machine.unset(&format!("XDG_{place}_HOME"));
    }
    // where nobody may read what was built
    let program = machine.path("vault");
    let _ = fs::copy(env!("CARGO_BIN_EXE_vault"), &program).expect("copied");
    let mut command = Command::new("setpriv");
    let _ = command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    let _ = command.arg(&program).args(["backup", "my-data"]);
    machine.furnish(&mut command);
    let ended: super::vault::Ended = command.output().expect("setpriv runs").into();
    let _ = ended.expect_error(16, &["no permission", text(&socket), "group"]);
    assert_eq!(names(&home), [""; 0]);
}

#[test]
fn volume_that_does_not_exist_is_not_found_with_near_names_and_never_made() {
    let engine = engine();
    let volume = TestVolume::new(&engine);
    let typo = volume.name().replacen("volume", "volmue", 1);
    let machine = Machine::new();
    for sources in [vec![typo.as_str()], vec![volume.name(), typo.as_str()]] {
        let run = machine.run(&[&["backup"], &sources[..]].concat());
        let _ = run.expect_error(15, &[&typo, "did you mean", volume.name()]);
        assert!(!volume_exists(&engine, &typo));
        assert_nothing_made(&machine);
    }
    let missing = machine.path("no-such-folder");
    let _ = machine.run(&["backup", text(&missing)]).expect_error(15, &[text(&missing)]);
    assert_nothing_made(&machine);
    for bad in ["../../etc", "a b", "x/y", ""] {
        let ended = machine.run(&["backup", bad]);
        assert!(matches!(ended.code, Some(2 | 15)), "{bad}: {ended:?}");
        assert_nothing_made(&machine);
    }
}

#[test]
fn snapshot_that_does_not_exist_is_not_found_with_near_names_and_no_volume_is_made() {
    let (machine, volume, _) = saved();
    let typo = volume.name().replacen("volume", "volmue", 1);
    let copy = fresh_name("copy");
    let run = machine.run(&["restore", &typo, "--as", &copy]);
    let _ = run.expect_error(15, &[&typo, "did you mean", volume.name()]);
    let old = format!("{}@2001-01-01", volume.name());
    let _ = machine.run(&["restore", &old, "--as", &copy]).expect_error(15, &[volume.name()]);
    assert!(!volume_exists(&volume.engine, &copy));
}

#[test]
fn wrong_password_and_wrong_key_open_nothing() {
    let engine = engine();
    let volume = TestVolume::new(&engine);
    let mut machine = Machine::new();
    machine.set("VAULT_REPO", machine.path("repository"));
    machine.set("VAULT_PASSWORD", "right");
    let _ = machine.run(&["init"]).expect(0);
    let _ = machine.run(&["backup", volume.name()]).expect(0);
    let before = tree::describe(&machine.path("repository"));

    machine.set("VAULT_PASSWORD", "wrong");
    let run = machine.run(&["backup", volume.name()]);
    let _ = run.expect_error(12, &["password"]);
    let _ = machine.run(&["restore", volume.name(), "--as", "x"]).expect_error(12, &[]);
    machine.unset("VAULT_PASSWORD");
    // nobody is there to be asked
    let _ = machine.run(&["backup", volume.name()]).expect_error(12, &[]);

    let other = machine.path("other");
    let _ = machine.run(&["init", text(&other)]).expect(0);
    let keys = machine.path("config/vault/keys");
    let key = keys.join(&names(&keys)[0]);
    let run = machine.run(&["backup", volume.name(), "--key-file", text(&key)]);
    let _ = run.expect_error(12, &[]);
    fs::write(&key, "no key at all\n").expect("written");
    let run = machine.run(&["backup", volume.name(), "--key-file", text(&key)]);
    let _ = run.expect_error(12, &[text(&key)]);
    assert_eq!(tree::diff(&before, &tree::describe(&machine.path("repository"))), [""; 0]);
}

#[test]
fn damaged_key_slot_is_damage_and_not_a_wrong_password() {
    let (machine, volume, _) = saved();
    let keys = machine.repository().join("keys");
    let slot = keys.join(&names(&keys)[0]);
    let whole = fs::read(&slot).expect("the slot");
    let name = slot.file_name().and_then(|name| name.to_str()).expect("text");
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    let end = whole.len() - 1;
    for damaged in [flipped(0), flipped(end), whole[..end / 2].to_vec(), Vec::new()] {
        fs::write(&slot, damaged).expect("written");
        let _ = machine.run(&["backup", volume.name()]).expect_error(13, &[name]);
    }
    // what the secret is mixed with cannot be told from a wrong secret
    for at in (0..end).step_by(17) {
        fs::write(&slot, flipped(at)).expect("written");
        let ended = machine.run(&["backup", volume.name()]);
        assert!(matches!(ended.code, Some(1 | 12 | 13)), "{at}: {ended:?}");
    }
    assert_eq!(machine.acknowledged().len(), 1);
    fs::write(&slot, whole).expect("written");
    let _ = machine.run(&["backup", volume.name()]).expect(0);
}

#[test]
fn repository_of_a_newer_version_is_left_alone() {
    let (machine, volume, _) = saved();
    let head = machine.repository().join("vault.json");
    let current = fs::read_to_string(&head).expect("the head");
    let changed = current.replacen("\"format\": 1", "\"format\": 999", 1);
    assert_ne!(current, changed);
    fs::write(&head, changed).expect("written");
    let before = tree::describe(&machine.repository());
    for arguments in [vec!["backup", volume.name()], vec!["restore", volume.name(), "--as", "x"]] {
        let _ = machine.run(&arguments).expect_error(1, &["newer vault"]);
    }
    assert_eq!(tree::diff(&before, &tree::describe(&machine.repository())), [""; 0]);
    fs::write(&head, "{}").expect("written");
    let ended = machine.run(&["backup", volume.name()]);
    let _ = ended.expect_error(13, &["vault.json"]);
}

#[test]
fn folder_that_is_something_else_is_neither_made_nor_taken_for_a_repository() {
    let engine = engine();
    let volume = TestVolume::new(&engine);
    let machine = Machine::new();
    let folder = machine.path("photos");
    fs::create_dir(&folder).expect("made");
    fs::write(folder.join("cat.jpg"), "a cat").expect("written");
    let before = tree::describe(&folder);
    let _ = machine.run(&["init", text(&folder)]).expect_error(14, &[text(&folder), "not empty"]);
    for repository in [&folder, &folder.join("cat.jpg"), &machine.path("nothing")] {
        let run = machine.run(&["backup", volume.name(), "--repo", text(repository)]);
        let _ = run.expect_error(10, &[text(repository)]);
    }
    let _ = machine.run(&["init", text(&folder.join("cat.jpg"))]).expect_error(14, &["cat.jpg"]);
    assert_eq!(tree::diff(&before, &tree::describe(&folder)), [""; 0]);
    assert!(!machine.path("nothing").exists() && !machine.path("config").exists());

    let good = machine.path("good");
    let _ = machine.run(&["init", text(&good)]).expect(0);
    let whole = tree::describe(&good);
    let _ = machine.run(&["init", text(&good)]).expect_error(14, &[text(&good)]);
    assert_eq!(tree::diff(&whole, &tree::describe(&good)), [""; 0]);
    assert_eq!(names(&machine.path("config/vault/keys")).len(), 1);
}

#[test]
fn restore_goes_neither_over_a_file_nor_into_a_folder_that_holds_something() {
    let (machine, _volume, id) = saved();
    let full = machine.path("full");
    fs::create_dir(&full).expect("made");
    fs::write(full.join("mine"), "mine").expect("written");
    let before = tree::describe(&full);
    let _ = machine.run(&["restore", &id, "--target", text(&full)]).expect_error(14, &["full"]);
    let file = full.join("mine");
    for flag in ["--target", "--tar"] {
        let ended = machine.run(&["restore", &id, flag, text(&file)]);
        let _ = ended.expect_error(14, &[text(&file)]);
    }
    assert_eq!(tree::diff(&before, &tree::describe(&full)), [""; 0]);
}

/// A file system that nobody can write to, at a folder; it goes with this.
struct ReadOnly(PathBuf);

impl ReadOnly {
    fn at(folder: PathBuf) -> Self {
        fs::create_dir(&folder).expect("made");
        let mut mount = Command::new("mount");
        let _ = mount.args(["-t", "tmpfs", "-o", "ro", "tmpfs"]).arg(&folder);
        assert!(mount.status().expect("mount runs").success());
        Self(folder)
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn read_only_target_and_read_only_repository_are_errors_that_name_them() {
    let (machine, volume, id) = saved();
    let sealed = ReadOnly::at(machine.path("sealed"));
    for below in ["", "new"] {
        let target = sealed.0.join(below);
        let ended = machine.run(&["restore", &id, "--target", text(&target)]);
        let _ = ended.expect_error(1, &["sealed", "ead-only file system"]);
    }
    let tar = sealed.0.join("x.tar");
    let ended = machine.run(&["restore", &id, "--tar", text(&tar)]);
    let _ = ended.expect_error(1, &["sealed", "ead-only file system"]);
    let repository = sealed.0.join("repository");
    let ended = machine.run(&["init", text(&repository)]);
    let _ = ended.expect_error(1, &["sealed", "ead-only file system"]);
    let _ = machine.run(&["backup", volume.name()]).expect(0);
}

fn tar_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o640);
        header.set_mtime(1_600_000_000);
        builder.append_data(&mut header, name, *content).expect("it is taken");
    }
    builder.into_inner().expect("a tar")
}

#[test]
fn tar_stream_that_is_cut_short_is_not_acknowledged() {
    let machine = Machine::new();
    let _ = machine.run(&["init"]).expect(0);
    let content = noise(300_000);
    let whole = tar_of(&[("a", b"a"), ("big", &content), ("z", b"z")]);
    let backup = ["backup", "stdin:site", "--tar"];
    let end = whole.len();
    let cuts = [0, 100, 512, 1024 + 7, 1024 + 512 + 100_000, end - 1024 - 512, end - 1024];
    for cut in cuts {
        let ended = machine.run_with(&backup, &whole[..cut]);
        assert!(matches!(ended.code, Some(1)), "cut at {cut}: {ended:?}");
        let _ = ended.expect_error(1, &["site"]);
        assert_eq!(machine.acknowledged(), [""; 0], "cut at {cut}");
    }
    let mut garbled = whole.clone();
    garbled[1024] ^= 1;
    let _ = machine.run_with(&backup, &garbled).expect_error(1, &["site"]);
    assert_eq!(machine.acknowledged(), [""; 0]);

    let _ = machine.run_with(&backup, &whole).expect(0);
    assert_eq!(machine.acknowledged().len(), 1);
    let ended = machine.run(&["restore", "stdin:site", "--tar", "-"]).expect(0);
    let found = unpacked(&ended.stdout);
    let found: Vec<_> = found.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).collect();
    assert_eq!(found, [("a", &b"a"[..]), ("big", &content), ("z", b"z")]);
}

/// Names and contents of the files in a tar, in its order.
fn unpacked(tar: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(tar);
    let mut found = Vec::new();
    for entry in archive.entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = entry.path().expect("a path").display().to_string();
        let mut bytes = Vec::new();
        let _ = std::io::Read::read_to_end(&mut entry, &mut bytes).expect("it reads");
        found.push((name.trim_start_matches("./").to_owned(), bytes));
    }
    found
}

#[test]
fn file_from_standard_input_comes_back_as_that_file() {
    let machine = Machine::new();
    let content = noise(2_000_000);
    for content in [&content[..], b""] {
        let _ = machine.run_with(&["backup", "stdin:dump.sql"], content).expect(0);
        let ended = machine.run(&["restore", "stdin:dump.sql", "--tar", "-"]).expect(0);
        let found = unpacked(&ended.stdout);
        assert_eq!(found.len(), 1);
        assert!(found[0].0 == "dump.sql" && found[0].1 == content);
        let target = machine.path("target");
        let restored = machine.run(&["restore", "stdin:dump.sql", "--target", text(&target)]);
        let _ = restored.expect(0);
        assert_eq!(names(&target), ["dump.sql"]);
        assert!(fs::read(target.join("dump.sql")).expect("it is there") == content);
        fs::remove_dir_all(&target).expect("removed");
    }
    assert_eq!(acknowledged(&machine.repository()).len(), 2);
    let _ = machine.run(&["restore", "stdin:dump.sql"]).expect_error(2, &["--target"]);
}
