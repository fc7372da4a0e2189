//! `vault ls`

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use serde_json::{Value, json};

use super::world::World;

const HOSTILE: [&[u8]; 5] = [
    b"\x1b[2Jclear",
    b"new\nline",
    b"no-text-\xff\xfe",
    "\u{202e}gpj.exe".as_bytes(),
    b"\xc2\x9b1m",
];

fn paths(document: &Value) -> Vec<&str> {
    let list = document["entries"].as_array().expect("a list");
    list.iter().map(|entry| entry["path"].as_str().expect("a path")).collect()
}

#[test]
fn hostile_names_are_escaped_for_people_and_exact_for_machines() {
    let world = World::new();
    let dir = world.folder("src");
    for name in HOSTILE {
        std::fs::write(dir.join(OsStr::from_bytes(name)), "x").expect("written");
    }
    let _ = world.save("v", &dir);
    for args in [&["ls", "v"][..], &["ls", "-lR", "v"], &["ls", "-q", "v"]] {
        let ran = world.vault(args);
        assert_eq!(ran.lines().len(), HOSTILE.len(), "{args:?}");
        assert!(ran.text(0).contains("no-text-\\xff\\xfe"));
    }
    let ran = world.vault(&["ls", "v", "--json"]);
    let _ = ran.text(0);
    let document = world.json(&["ls", "v"], 0);
    let mut exact: Vec<Vec<u8>> = document["entries"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| match entry["path_hex"].as_str() {
            Some(hex) => (0..hex.len() / 2)
                .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex"))
                .collect(),
            None => entry["path"].as_str().expect("a path").as_bytes().to_vec(),
        })
        .collect();
    let mut expected: Vec<Vec<u8>> = HOSTILE.iter().map(|name| name.to_vec()).collect();
    exact.sort();
    expected.sort();
    assert_eq!(exact, expected);
    // Such a name can be asked for as it is.
    let asked = world.vault(&[OsStr::new("ls"), OsStr::new("v"), OsStr::from_bytes(HOSTILE[2])]);
    assert_eq!(asked.lines(), ["no-text-\\xff\\xfe"]);
}

#[test]
fn a_directory_lists_what_it_holds_itself_unless_all_below_is_asked_for() {
    let world = World::new();
    let dir = world.folder("src");
    // So many that the tree has several levels, with names that sort around their subtrees.
    for at in 0..60 {
        let sub = dir.join(format!("d{at:02}/inner"));
        std::fs::create_dir_all(&sub).expect("made");
        for file in 0..40 {
            std::fs::write(sub.join(format!("file-{file:02}")), "").expect("written");
        }
        std::fs::write(dir.join(format!("d{at:02}\u{1}")), "").expect("written");
        std::fs::write(dir.join(format!("d{at:02}-x")), "").expect("written");
    }
    let _ = world.save("v", &dir);
    let document = world.json(&["ls", "v"], 0);
    let mut expected = Vec::new();
    for at in 0..60 {
        expected.extend([format!("d{at:02}"), format!("d{at:02}\u{1}"), format!("d{at:02}-x")]);
    }
    assert_eq!(paths(&document), expected);
    assert_eq!(world.vault(&["ls", "v", "/d07"]).lines(), ["inner"]);
    assert_eq!(world.vault(&["ls", "v", "d07/inner/"]).lines().len(), 40);
    assert_eq!(
        world.vault(&["ls", "-R", "v", "d07"]).lines()[0..2],
        ["d07/inner", "d07/inner/file-00"]
    );
    assert_eq!(
        world.json(&["ls", "-R", "v"], 0)["entries"].as_array().expect("all").len(),
        60 * 44
    );
}

#[test]
fn the_long_form_shows_metadata_of_every_kind() {
    let world = World::new();
    let dir = world.folder("src");
    std::fs::write(dir.join("a"), vec![1; 2048]).expect("written");
    std::fs::set_permissions(dir.join("a"), std::fs::Permissions::from_mode(0o4751)).expect("set");
    std::fs::hard_link(dir.join("a"), dir.join("b")).expect("made");
    symlink("a\u{1b}", dir.join("c")).expect("made");
    let _ = world.save("v", &dir);
    let ran = world.vault(&["ls", "-l", "v"]);
    let lines = ran.lines();
    assert!(lines[0].starts_with("-rwsr-x--x         0:0  2.00 KiB  20"), "{}", lines[0]);
    assert!(lines[1].ends_with("b (same file as a)"), "{}", lines[1]);
    assert!(lines[2].starts_with("lrwxrwxrwx"), "{}", lines[2]);
    assert!(lines[2].ends_with("c -> a\\u{1b}"), "{}", lines[2]);
    let document = world.json(&["ls", "v"], 0);
    let entry = |at: usize| document["entries"][at].clone();
    assert_eq!((&entry(0)["type"], &entry(0)["size"]), (&json!("file"), &json!(2048)));
    assert_eq!((&entry(0)["mode"], &entry(1)["link"]), (&json!("4751"), &json!("a")));
    assert_eq!(entry(2)["target"], "a\u{1b}");
    assert_eq!(paths(&world.json(&["ls", "v", "a"], 0)), ["a"]);
}

#[test]
fn a_path_that_is_not_there_is_not_found_with_what_is_near_or_in_the_way() {
    let world = World::new();
    let dir = world.folder("src");
    std::fs::create_dir_all(dir.join("etc/nginx")).expect("made");
    std::fs::write(dir.join("etc/hosts"), "").expect("written");
    symlink("etc", dir.join("link")).expect("made");
    let _ = world.save("v", &dir);
    for (path, hint) in [
        ("/etc/ngnix/x", "did you mean `etc/nginx`?"),
        ("etc/host", "did you mean `etc/hosts`?"),
        ("zzzzzz", "lists what there is"),
        ("link/hosts", "`link` is a link to `etc`; links are not followed"),
        ("etc/hosts/x", "`etc/hosts` is no directory but a file"),
    ] {
        let error = world.json(&["ls", "v", path], 15)["error"].clone();
        assert!(error["hint"].as_str().is_some_and(|text| text.contains(hint)), "{error}");
    }
    assert_eq!(world.json(&["ls", "v", "a/../b"], 2)["error"]["kind"], "usage");
}

#[test]
fn a_document_that_breaks_off_ends_with_the_error() {
    let world = World::new();
    let dir = world.folder("src");
    std::fs::write(dir.join("a"), "x").expect("written");
    let _ = world.save("v", &dir);
    // The pack with the tree goes, so that the root cannot be read.
    std::fs::remove_dir_all(world.path("repository/packs")).expect("removed");
    let document = world.json(&["ls", "v"], 13);
    assert_eq!(document["error"]["kind"], "damaged");
}
