//! `vault diff`

use std::fs::{self, FileTimes};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::world::{World, noise};

const THEN: SystemTime = SystemTime::UNIX_EPOCH;

/// Gives everything below `dir` the same time, so that only what is meant differs.
fn settle(dir: &Path) {
    for entry in fs::read_dir(dir).expect("listed") {
        let path = entry.expect("listed").path();
        if path.is_dir() && !path.is_symlink() {
            settle(&path);
        } else if path.is_file() && !path.is_symlink() {
            set_time(&path, THEN + Duration::from_secs(1_000_000));
        }
    }
    set_time(dir, THEN + Duration::from_secs(1_000_000));
}

fn set_time(path: &Path, time: SystemTime) {
    let file = fs::File::open(path).expect("opened");
    file.set_times(FileTimes::new().set_modified(time)).expect("set");
}

fn make(dir: &Path) {
    fs::create_dir(dir.join("sub")).expect("made");
    for (name, content) in [
        ("same", noise(1, 300_000)),
        ("gone", b"bye".to_vec()),
        ("mode", b"m".to_vec()),
        ("grown", noise(2, 200_000)),
        ("swapped", noise(3, 200_000)),
        ("type", b"t".to_vec()),
        ("sub/deep\x1b", b"deep".to_vec()),
    ] {
        fs::write(dir.join(name), content).expect("written");
    }
    fs::hard_link(dir.join("same"), dir.join("same 2")).expect("made");
    settle(dir);
}

fn change(dir: &Path) {
    fs::remove_file(dir.join("gone")).expect("removed");
    fs::remove_file(dir.join("type")).expect("removed");
    symlink("same", dir.join("type")).expect("made");
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(dir.join("mode"), mode).expect("set");
    fs::write(dir.join("grown"), [noise(2, 200_000), noise(9, 48_000)].concat()).expect("written");
    let mut swapped = noise(3, 200_000);
    swapped[150_000] ^= 1;
    fs::write(dir.join("swapped"), swapped).expect("written");
    fs::write(dir.join("sub/new"), b"new!").expect("written");
    settle(dir);
}

const LINES: [&str; 6] = [
    "- gone  (3 B)",
    "M grown  (195 KiB -> 242 KiB, +46.8 KiB)",
    "m mode  (mode)",
    "+ sub/new  (4 B)",
    "M swapped  (195 KiB as before)",
    "T type  (file -> symlink)",
];

fn changes(document: &Value) -> Vec<(&str, &str)> {
    let list = document["changes"].as_array().expect("a list");
    list.iter()
        .map(|c| (c["path"].as_str().expect("a path"), c["change"].as_str().expect("a change")))
        .collect()
}

#[test]
fn two_snapshots_are_compared_path_by_path() {
    let world = World::new();
    let dir = world.folder("src");
    make(&dir);
    let old = world.save("v", &dir);
    change(&dir);
    let new = world.save("v", &dir);
    let ran = world.vault(&["diff", &old, &new]);
    let lines = ran.lines();
    assert_eq!(lines[..6], LINES);
    let summary = "1 added, 1 removed, 2 modified, 1 of another type, 1 with other metadata only; ";
    assert!(lines[6].starts_with(summary), "{}", lines[6]);
    let quiet = ["gone", "grown", "mode", "sub/new", "swapped", "type"];
    assert_eq!(world.vault(&["diff", "-q", &old, &new]).lines(), quiet);

    let document = world.json(&["diff", &old, &new], 0);
    assert_eq!(document["old"]["snapshot"], json!(old));
    let kinds = ["removed", "content", "metadata", "added", "content", "type"];
    let expected: Vec<_> = quiet.into_iter().zip(kinds).collect();
    assert_eq!(changes(&document), expected);
    assert_eq!(document["changes"][2]["differs"], json!(["mode"]));
    assert_eq!(document["changes"][0]["new"], Value::Null);
    assert_eq!(document["changes"][1]["old"]["size"], 200_000);
    assert_eq!(document["summary"]["content"], 2);

    let back = world.json(&["diff", &new, &old], 0);
    assert_eq!(changes(&back)[0], ("gone", "added"));
    assert_eq!(world.vault(&["diff", &old, "v@2026-11-20T12:00"]).lines(), ["no difference"]);
}

#[test]
fn a_further_name_follows_the_content_of_the_first() {
    let world = World::new();
    let dir = world.folder("src");
    make(&dir);
    let old = world.save("v", &dir);
    fs::write(dir.join("same"), noise(7, 300_000)).expect("written");
    set_time(&dir.join("same"), THEN + Duration::from_secs(2_000_000));
    let new = world.save("v", &dir);
    let expected = [("same", "content"), ("same 2", "content")];
    assert_eq!(changes(&world.json(&["diff", &old, &new], 0)), expected);
    let live = format!("live:{}", dir.display());
    assert_eq!(changes(&world.json(&["diff", &old, &live], 0)), expected);
    // The first name goes, the content stays.
    fs::remove_file(dir.join("same")).expect("removed");
    settle(&dir);
    fs::File::open(dir.join("same 2"))
        .and_then(|f| {
            f.set_times(FileTimes::new().set_modified(THEN + Duration::from_secs(2_000_000)))
        })
        .expect("set");
    let expected = [("same", "removed"), ("same 2", "metadata")];
    assert_eq!(changes(&world.json(&["diff", &new, &live], 0)), expected);
    let last = world.save("v", &dir);
    assert_eq!(changes(&world.json(&["diff", &new, &last], 0)), expected);
}

#[test]
fn a_live_directory_is_compared_without_writing_to_the_repository() {
    let world = World::new();
    let dir = world.folder("src");
    make(&dir);
    let old = world.save("v", &dir);
    let live = format!("live:{}", dir.display());
    assert_eq!(world.vault(&["diff", &old, &live]).lines(), ["no difference"]);
    change(&dir);
    let before = super::dump::walk_files(&world.path("repository"));
    let ran = world.vault(&["diff", &old, &live, "--no-progress"]);
    assert_eq!(ran.lines()[..6], LINES);
    let back = world.json(&["diff", &live, &old], 0);
    assert_eq!(changes(&back)[0], ("gone", "added"));
    assert_eq!(changes(&back)[3], ("sub/new", "removed"));
    assert_eq!(back["old"]["live"], json!(dir.display().to_string()));
    assert_eq!(super::dump::walk_files(&world.path("repository")), before);
}

#[test]
fn holes_and_zeros_are_the_same_content_in_a_live_comparison() {
    let world = World::new();
    let dir = world.folder("src");
    let content = [noise(1, 100_000), vec![0; 3 << 20], noise(2, 50_001), vec![0; 9000]].concat();
    fs::write(dir.join("file"), &content).expect("written");
    settle(&dir);
    let old = world.save("v", &dir);
    // The same bytes with holes where there were zeros, and another inode, so that it is read.
    let file = fs::File::create(dir.join("copy")).expect("made");
    file.set_len(content.len() as u64).expect("long");
    use std::os::unix::fs::FileExt as _;
    file.write_all_at(&content[..100_000], 0).expect("written");
    let tail = 100_000 + (3 << 20);
    file.write_all_at(&content[tail..tail + 50_001], tail as u64).expect("written");
    drop(file);
    fs::rename(dir.join("copy"), dir.join("file")).expect("moved");
    settle(&dir);
    let mode = fs::Permissions::from_mode(0o644);
    fs::set_permissions(dir.join("file"), mode).expect("set");
    let live = format!("live:{}", dir.display());
    assert_eq!(world.vault(&["diff", &old, &live]).lines(), ["no difference"]);
    // One byte in the hole.
    let file = fs::OpenOptions::new().write(true).open(dir.join("file")).expect("opened");
    file.write_all_at(b"x", 2 << 20).expect("written");
    drop(file);
    settle(&dir);
    assert_eq!(changes(&world.json(&["diff", &old, &live], 0)), [("file", "content")]);
}

#[test]
fn sides_that_cannot_be_compared_are_refused() {
    let world = World::new();
    let dir = world.folder("src");
    let _ = world.save("v", &dir);
    let live = format!("live:{}", dir.display());
    assert_eq!(world.json(&["diff", &live, &live], 2)["error"]["kind"], "usage");
    assert_eq!(world.json(&["diff", "v", "live:stdin:x"], 2)["error"]["kind"], "usage");
    assert_eq!(world.json(&["diff", "v", "live:/no/such"], 15)["error"]["kind"], "not_found");
    assert_eq!(world.json(&["diff", "v", "w"], 15)["error"]["kind"], "not_found");
}
