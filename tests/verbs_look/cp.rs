//! `vault cp`

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use super::dump::{walk_files, writable};
use super::world::{World, noise};
use crate::support::tree::plan::random_tree;
use crate::support::tree::{Aspect, Kind, describe, diff_except};

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("listed");
    let mut names: Vec<_> =
        entries.map(|e| e.expect("listed").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_tree_comes_out_as_it_was() {
    let world = World::new();
    let dir = world.folder("src");
    fs::create_dir(dir.join("part")).expect("made");
    random_tree(&dir.join("part"), 11, 300);
    fs::write(dir.join("beside"), "not copied").expect("written");
    let _ = world.save("v", &dir);
    let out = world.folder("out");
    let ran = world.vault(&["cp", "v:/part", &out.display().to_string()]);
    // Devices and set-id bits are not brought to a directory of the host, and that is said.
    assert!([0, 3].contains(&ran.code), "{}", ran.stderr);
    let (mut left, right) = (describe(&dir.join("part")), describe(&out.join("part")));
    left.retain(|_, record| !matches!(record.kind, Kind::Char(..) | Kind::Block(..)));
    for record in left.values_mut().filter(|record| record.kind != Kind::Directory) {
        record.mode &= 0o1777;
        let _ = record.xattrs.remove(&b"security.capability"[..]);
        record.xattrs.retain(|name, _| !name.starts_with(b"trusted."));
    }
    for record in left.values_mut() {
        record.xattrs.retain(|name, _| !name.starts_with(b"trusted."));
    }
    let ignored = [Aspect::Holes, Aspect::Links];
    assert_eq!(diff_except(&left, &right, &ignored), [""; 0]);
    assert_eq!(names(&out), ["part"]);
}

#[test]
fn a_file_gets_its_owner_mode_time_and_the_name_that_was_asked_for() {
    let world = World::new();
    let dir = world.folder("src");
    let content = noise(1, 3 << 20);
    fs::write(dir.join("file"), &content).expect("written");
    std::os::unix::fs::chown(dir.join("file"), Some(12), Some(34)).expect("set");
    fs::hard_link(dir.join("file"), dir.join("other")).expect("made");
    symlink("nowhere", dir.join("link")).expect("made");
    let _ = world.save("v", &dir);
    let out = world.folder("out");
    let at = |name: &str| out.join(name).display().to_string();
    for (from, to, name) in [
        ("v:/file", at(""), "file"),
        ("v:/file", at("renamed"), "renamed"),
        ("v:other", at("further"), "further"),
    ] {
        let ran = world.vault(&["cp", from, &to]);
        assert!(ran.text(0).starts_with("copied 1 entry, 3.00 MiB, to "), "{ran:?}");
        assert!(fs::read(out.join(name)).expect("read") == content, "{name}");
        let [is, was] = [out.join(name), dir.join("file")].map(|p| p.metadata().expect("there"));
        assert_eq!((is.uid(), is.gid(), is.mode()), (12, 34, was.mode()));
        assert_eq!((is.mtime(), is.mtime_nsec()), (was.mtime(), was.mtime_nsec()));
        assert_eq!(is.nlink(), 1);
    }
    assert_eq!(world.vault(&["cp", "-q", "v:link", &at("link")]).lines(), [""; 0]);
    assert_eq!(fs::read_link(out.join("link")).expect("a link"), Path::new("nowhere"));
    assert_eq!(names(&out), ["file", "further", "link", "renamed"]);
    // From where it was started, and the root of an item under the item's name.
    let _ = world.vault(&["cp", "v:/", "."]).text(0);
    assert_eq!(names(&world.path("cwd/v")), ["file", "link", "other"]);
    let document = world.json(&["cp", "v:file", &at("json")], 0);
    assert_eq!((&document["entries"], &document["bytes"]), (&1.into(), &(3 << 20).into()));
}

#[test]
fn names_that_are_no_text_can_be_copied() {
    let world = World::new();
    let dir = world.folder("src");
    let odd = OsStr::from_bytes(b"\xffodd\n");
    fs::create_dir(dir.join(odd)).expect("made");
    fs::write(dir.join(odd).join("x"), "1").expect("written");
    let _ = world.save("v", &dir);
    let out = world.folder("out");
    for from in [&b"v:/\xffodd\n"[..], b"v:\xffodd\n"] {
        let args = [OsStr::new("cp"), OsStr::from_bytes(from), out.as_os_str()];
        let _ = world.vault(&args).text(0);
        assert!(out.join(odd).join("x").exists());
        fs::remove_dir_all(out.join(odd)).expect("removed");
    }
}

#[test]
fn names_of_one_file_stay_together_and_its_content_comes_even_if_the_first_name_does_not() {
    let world = World::new();
    let dir = world.folder("src");
    fs::create_dir(dir.join("d")).expect("made");
    fs::write(dir.join("a"), "one").expect("written");
    fs::write(dir.join("d/m"), "two").expect("written");
    for (from, to) in [("a", "d/x"), ("a", "d/y"), ("d/m", "d/n")] {
        fs::hard_link(dir.join(from), dir.join(to)).expect("made");
    }
    let _ = world.save("v", &dir);
    let out = world.path("out");
    let _ = world.vault(&["cp", "v:d", &out.display().to_string()]).text(0);
    assert_eq!(fs::read(out.join("x")).expect("read"), b"one");
    let inode = |name: &str| out.join(name).metadata().expect("there").ino();
    assert_eq!((inode("x"), inode("m")), (inode("y"), inode("n")));
    assert_ne!(inode("x"), inode("m"));
}

#[test]
fn nothing_is_replaced_and_nothing_is_left_behind() {
    let world = World::new();
    let dir = world.folder("src");
    fs::create_dir(dir.join("d")).expect("made");
    fs::write(dir.join("d/file"), "new").expect("written");
    let _ = world.save("v", &dir);
    let out = world.folder("out");
    fs::write(out.join("file"), "old").expect("written");
    fs::create_dir(out.join("d")).expect("made");
    symlink("nowhere", out.join("dangling")).expect("made");
    let at = |name: &str| out.join(name).display().to_string();
    for (from, to, code, kind) in [
        ("v:d/file", at("file"), 14, "refused"),
        ("v:d/file", at(""), 14, "refused"),
        ("v:d", at(""), 14, "refused"),
        ("v:d/file", at("dangling"), 14, "refused"),
        ("v:d/file", at("no/such/folder"), 15, "not_found"),
        ("v:d/file", at("new/"), 15, "not_found"),
        ("v:d/no-such", at("x"), 15, "not_found"),
        ("w:d", at("x"), 15, "not_found"),
        ("v", at("x"), 2, "usage"),
    ] {
        let error = world.json(&["cp", from, &to], code)["error"].clone();
        assert_eq!(error["kind"], kind, "{from} {to}: {error}");
    }
    let ran = world.vault(&["cp", "--dry-run", "v:d", &at("x")]);
    assert_eq!(ran.lines(), [format!("would copy `d` to {}", at("x"))]);
    assert_eq!(names(&out), ["d", "dangling", "file"]);
    assert_eq!(fs::read(out.join("file")).expect("read"), b"old");
    assert_eq!(names(&out.join("d")), [""; 0]);
}

#[test]
fn a_file_that_is_damaged_is_left_out_of_a_tree_and_an_error_alone() {
    let world = World::new();
    let dir = world.folder("src");
    fs::create_dir(dir.join("d")).expect("made");
    fs::write(dir.join("d/bad"), noise(5, 6 << 20)).expect("written");
    fs::write(dir.join("d/good"), "").expect("written");
    let _ = world.save("v", &dir);
    let packs = walk_files(&world.path("repository/packs"));
    let largest = packs.iter().max_by_key(|path| path.metadata().expect("there").len());
    let path = largest.expect("a pack");
    let mut bytes = fs::read(path).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    writable(path);
    fs::write(path, bytes).expect("damaged");
    let out = world.folder("out");
    let at = |name: &str| out.join(name).display().to_string();
    let ran = world.vault(&["cp", "v:d", &at("")]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(ran.stderr.contains("warning: bad: "), "{}", ran.stderr);
    assert_eq!(names(&out.join("d")), ["good"]);
    let ran = world.vault(&["cp", "v:d/bad", &at("bad")]);
    assert_eq!(ran.code, 13, "{}", ran.stderr);
    assert_eq!(names(&out), ["d"]);
}
