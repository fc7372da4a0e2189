//! `vault dump`

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::process::Stdio;

use super::world::{World, noise};

#[test]
fn a_file_comes_out_as_it_was_whatever_its_size_and_name() {
    let world = World::new();
    let dir = world.folder("src");
    let big = [noise(1, 9 << 20), vec![0; 5 << 20], noise(2, 3 << 20), noise(1, 1 << 20)].concat();
    let odd = OsStr::from_bytes(b"odd\xff\n");
    for (name, content) in [
        (OsStr::new("big"), big.as_slice()),
        (OsStr::new("empty"), b""),
        (OsStr::new("zeros"), &[0; 100_000]),
        (odd, b"odd"),
    ] {
        std::fs::write(dir.join(name), content).expect("written");
    }
    std::fs::hard_link(dir.join("big"), dir.join("other name")).expect("made");
    let _ = world.save("v", &dir);
    for name in [OsStr::new("big"), OsStr::new("empty"), OsStr::new("zeros"), odd] {
        let ran = world.vault(&[OsStr::new("dump"), OsStr::new("v"), name]);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        assert!(ran.stdout == std::fs::read(dir.join(name)).expect("read"), "{name:?}");
    }
    let ran = world.vault(&["dump", "v", "/other name"]);
    assert!(ran.code == 0 && ran.stdout == big, "a further name has the content of the first");
}

#[test]
fn a_sparse_file_comes_out_at_its_full_length() {
    let world = World::new();
    let dir = world.folder("src");
    let mut file = std::fs::File::create(dir.join("sparse")).expect("made");
    file.set_len(40 << 20).expect("long");
    file.write_all(b"start").expect("written");
    drop(file);
    let _ = world.save("v", &dir);
    let ran = world.vault(&["dump", "v", "sparse"]);
    assert_eq!((ran.code, ran.stdout.len()), (0, 40 << 20));
    assert!(ran.stdout.starts_with(b"start\0") && ran.stdout[5..].iter().all(|b| *b == 0));
}

#[test]
fn what_has_no_content_is_refused_with_what_to_do_instead() {
    let world = World::new();
    let dir = world.folder("src");
    std::fs::create_dir(dir.join("folder")).expect("made");
    symlink("/etc/passwd", dir.join("link")).expect("made");
    let _ = std::os::unix::net::UnixListener::bind(dir.join("socket")).expect("made");
    let _ = world.save("v", &dir);
    for (path, code, part) in [
        ("folder", 2, "--tar"),
        ("/", 2, "--tar"),
        ("link", 2, "a symbolic link to `/etc/passwd`"),
        ("socket", 2, "has no content"),
        ("folder/x", 15, "has no `folder/x`"),
    ] {
        let ran = world.vault(&["dump", "v", path]);
        assert_eq!((ran.code, ran.stdout.len()), (code, 0), "{path}: {}", ran.stderr);
        assert!(ran.stderr.contains(part), "{path}: {}", ran.stderr);
    }
    assert_eq!(world.json(&["dump", "v", "--tar"], 2)["error"]["kind"], "usage");
}

#[test]
fn everything_comes_out_as_a_tar() {
    let world = World::new();
    let dir = world.folder("src");
    std::fs::create_dir(dir.join("d")).expect("made");
    std::fs::write(dir.join("d/big"), noise(3, 5 << 20)).expect("written");
    std::fs::hard_link(dir.join("d/big"), dir.join("z")).expect("made");
    let _ = world.save("v", &dir);
    let ran = world.vault(&["dump", "v", "--tar", "--no-progress"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let mut names = Vec::new();
    for entry in tar::Archive::new(&ran.stdout[..]).entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        names.push(entry.path().expect("a path").display().to_string());
        let mut content = Vec::new();
        let _ = entry.read_to_end(&mut content).expect("read");
        if names.last().is_some_and(|name| name.ends_with("big")) {
            assert!(content == noise(3, 5 << 20));
        }
    }
    assert_eq!(names, ["./", "./d/", "./d/big", "./z"]);
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let world = World::new();
    let dir = world.folder("src");
    std::fs::write(dir.join("big"), noise(4, 8 << 20)).expect("written");
    let _ = world.save("v", &dir);
    for args in [["dump", "v", "big"], ["dump", "v", "--tar"]] {
        let mut command = world.command();
        let _ = command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it runs");
        let mut stdout = child.stdout.take().expect("a pipe");
        stdout.read_exact(&mut [0; 10]).expect("read");
        drop(stdout);
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
    }
}

#[test]
fn damage_is_told_and_what_is_damaged_is_not_passed_off_as_whole() {
    let world = World::new();
    let dir = world.folder("src");
    std::fs::write(dir.join("big"), noise(5, 6 << 20)).expect("written");
    let _ = world.save("v", &dir);
    let packs = walk_files(&world.path("repository/packs"));
    let largest = packs.iter().max_by_key(|path| path.metadata().expect("there").len());
    let path = largest.expect("a pack");
    let mut bytes = std::fs::read(path).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    writable(path);
    std::fs::write(path, bytes).expect("damaged");
    let ran = world.vault(&["dump", "v", "big"]);
    assert_eq!(ran.code, 13, "{}", ran.stderr);
    assert!(ran.stdout.len() < 6 << 20 && noise(5, 6 << 20).starts_with(&ran.stdout));
}

/// All files below a directory.
pub(super) fn walk_files(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).expect("listed") {
        let path = entry.expect("listed").path();
        if path.is_dir() { files.extend(walk_files(&path)) } else { files.push(path) }
    }
    files
}

/// Objects are stored read-only.
pub(super) fn writable(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, mode).expect("set");
}
