//! Frozen repositories below `fixtures/repos`: `v<format>/<name>/repository`, and `manifest.json`
//! with what is in them.
//!
//! Each was made once, by the program as it was, from a tree that is made here. They are never made
//! anew: what cannot be read from them any more is a bug in what reads.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, FileTimes};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::fs::{self as sys, AtFlags, FileType, Mode, Timespec, Timestamps, XattrFlags};
use serde_json::{Map, Value, json};

use crate::support::tree::{self, Kind};

pub(crate) const PASSPHRASE: &str = "fixture";

/// All there are.
pub(crate) const FIXTURES: [&str; 1] = ["v1/basic"];

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/repos")
}

/// The program on a repository, without anything of the machine's own.
pub(crate) struct Program {
    /// Its home, and where it looks for configuration, state and caches.
    pub(crate) home: PathBuf,
    pub(crate) repository: PathBuf,
    /// None to open it with the key file in its home.
    pub(crate) password: Option<&'static str>,
}

impl Program {
    pub(crate) fn command(&self) -> Command {
        // A host name of its own, so that no fixture names a machine.
        let renamed = "echo fixture > /proc/sys/kernel/hostname && exec \"$0\" \"$@\"";
        let mut command = Command::new("unshare");
        let _ = command.args(["--uts", "sh", "-c", renamed, env!("CARGO_BIN_EXE_vault"), "-r"]);
        let _ = command.arg(&self.repository).env_clear();
        let _ = command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", &self.home);
        for name in ["CONFIG", "CACHE", "STATE", "DATA"] {
            let _ = command.env(format!("XDG_{name}_HOME"), self.home.join(name));
        }
        if let Some(password) = self.password {
            let _ = command.env("VAULT_PASSWORD", password);
        }
        command
    }

    /// Runs it on a file as standard input, and expects success.
    pub(crate) fn run(&self, arguments: &[&str], input: Stdio) -> Output {
        self.run_to(0, arguments, input)
    }

    /// The same, with another exit code.
    pub(crate) fn run_to(&self, code: i32, arguments: &[&str], input: Stdio) -> Output {
        let output = self.command().args(arguments).stdin(input).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        output
    }

    /// Saves one source and tells the id of its snapshot.
    pub(crate) fn backup(&self, arguments: &[&str], input: Stdio) -> String {
        let output = self.run(&[&["backup", "--json"], arguments].concat(), input);
        let said: Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");
        said["backups"][0]["snapshot"].as_str().expect("a snapshot").to_owned()
    }
}

/// What a directory holds, as manifests write it: escaped path → fields.
pub(crate) fn listing(dir: &Path) -> Value {
    let mut all = Map::new();
    for (path, record) in tree::describe(dir) {
        let at = dir.join(OsStr::from_bytes(&path));
        let kind = match record.kind {
            Kind::File { size, holes, .. } => {
                let mut hasher = blake3::Hasher::new();
                let _ = hasher.update_reader(File::open(&at).expect("it opens")).expect("it reads");
                let hash = hasher.finalize().to_string();
                json!({ "size": size, "blake3": hash, "sparse": !holes.is_empty() })
            }
            Kind::Symlink(target) => json!({ "target": target.escape_ascii().to_string() }),
            Kind::Char(major, minor) => json!({ "character device": [major, minor] }),
            Kind::Block(major, minor) => json!({ "block device": [major, minor] }),
            Kind::Directory => json!("directory"),
            Kind::Fifo => json!("pipe"),
            Kind::Socket => json!("socket"),
        };
        let mut fields = json!({
            "kind": kind,
            "mode": format!("{:04o}", record.mode),
            "owner": [record.uid, record.gid],
            "mtime": [record.mtime.0, record.mtime.1],
        });
        if let Some(group) = record.group {
            fields["same as"] = json!(group.escape_ascii().to_string());
        }
        if !record.xattrs.is_empty() {
            let shown = |bytes: Vec<u8>| bytes.escape_ascii().to_string();
            let pairs = record.xattrs.into_iter().map(|(name, value)| (shown(name), shown(value)));
            fields["attributes"] = json!(pairs.collect::<BTreeMap<_, _>>());
        }
        let _ = all.insert(path.escape_ascii().to_string(), fields);
    }
    Value::Object(all)
}

/// Text that compresses as text does, the same for the same seed.
pub(crate) fn text(seed: u64, len: usize) -> Vec<u8> {
    let (mut state, mut text) = (seed, Vec::new());
    let mut next = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 40).expect("24 bits")
    };
    let parts: Vec<_> = "ba do fi gu ka le mo nu pa re si to va wo xi za".split(' ').collect();
    while text.len() < len {
        for _ in 0..1 + next() % 4 {
            text.extend_from_slice(parts[next() % parts.len()].as_bytes());
        }
        text.push(if next() % 12 == 0 { b'\n' } else { b' ' });
    }
    text.truncate(len);
    text
}

fn make_tree(dir: &Path) {
    let write = |name: &[u8], bytes: &[u8]| {
        fs::write(dir.join(OsStr::from_bytes(name)), bytes).expect("written");
    };
    let mode = |name, mode| {
        fs::set_permissions(dir.join(name), PermissionsExt::from_mode(mode)).expect("set");
    };
    for name in ["a/b/c/d", "many", "empty directory"] {
        fs::create_dir_all(dir.join(name)).expect("made");
    }
    write(b"empty", b"");
    write(b"text", &text(1, 700_000));
    write(b"zeros", &[0; 100_001]);
    write(b"a/b/c/d/deep", b"far below");
    write(b"new\nline", b"a name of two lines");
    write(b"\xff\xfe not UTF-8", b"a name of bytes");
    for number in 0..300 {
        write(format!("many/{number:03}").as_bytes(), format!("file {number}").as_bytes());
    }
    write(b"first", b"three names");
    for name in ["a/second", "z third"] {
        fs::hard_link(dir.join("first"), dir.join(name)).expect("linked");
    }
    let target = OsStr::from_bytes(b"nowhere/\xff");
    for (target, name) in [(OsStr::new("a/../first"), "link"), (target, "dangling")] {
        symlink(target, dir.join(name)).expect("linked");
    }
    fs::hard_link(dir.join("dangling"), dir.join("dangling again")).expect("linked");
    for (name, kind) in [("pipe", FileType::Fifo), ("socket", FileType::Socket)] {
        sys::mknodat(sys::CWD, dir.join(name), kind, Mode::RUSR, 0).expect("made");
    }

    let sparse = File::create(dir.join("sparse")).expect("made");
    sparse.write_all_at(b"in the middle", 1 << 20).expect("written");
    sparse.set_len((3 << 20) + 5).expect("set");
    // So many runs of zeros that content needs nodes above nodes.
    let islands = File::create(dir.join("islands")).expect("made");
    for number in 0..400 {
        let island = format!("island {number:04}").repeat(4096 / 11);
        islands.write_all_at(island.as_bytes(), number * (68 << 10)).expect("written");
    }

    mode("empty", 0o600);
    mode("text", 0o711);
    mode("many", 0o1777);
    mode("empty directory", 0o2750);
    mode("zeros", 0);
    std::os::unix::fs::lchown(dir.join("first"), Some(1234), Some(56789)).expect("given");
    for (name, attribute, value) in [
        ("", "user.of the root", &b"root"[..]),
        ("text", "user.bytes", b"\x00\x01\xff"),
        ("text", "user.empty", b""),
        ("a/b", "user.note", b"on a directory"),
    ] {
        sys::lsetxattr(dir.join(name), attribute, value, XattrFlags::empty()).expect("set");
    }
}

/// Gives everything a time of its own, before 1970 too.
fn set_times(dir: &Path) {
    let tree = tree::describe(dir);
    for (at, path) in tree.keys().rev().enumerate() {
        let at = i64::try_from(at).expect("few");
        let time = Timespec { tv_sec: 86_399 * (at * 59 - 500), tv_nsec: at * 1_000_003 + 1 };
        let times = Timestamps { last_access: time, last_modification: time };
        let path = dir.join(OsStr::from_bytes(path));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        sys::utimensat(sys::CWD, path, &times, flags).expect("set");
    }
}

fn change_tree(dir: &Path) {
    let mut changed = text(1, 700_000);
    let _ = changed.splice(300_000..300_010, b"something else".iter().copied());
    fs::write(dir.join("text"), changed).expect("written");
    fs::remove_file(dir.join("new\nline")).expect("removed");
    fs::remove_file(dir.join("z third")).expect("removed");
    fs::create_dir(dir.join("b new")).expect("made");
    fs::write(dir.join("b new/file"), b"new").expect("written");
    fs::set_permissions(dir.join("a"), PermissionsExt::from_mode(0o700)).expect("set");
    let times = FileTimes::new().set_modified(std::time::UNIX_EPOCH);
    File::open(dir.join("many/123")).and_then(|file| file.set_times(times)).expect("set");
}

#[test]
#[ignore = "makes a fixture, once"]
fn make_a_fixture() {
    let fixture = folder().join(FIXTURES[FIXTURES.len() - 1]);
    assert!(!fixture.exists(), "{fixture:?} is there; it is never made anew");
    fs::create_dir_all(&fixture).expect("made");
    let dir = tempfile::tempdir().expect("a directory");
    let (tree, dump) = (dir.path().join("tree"), dir.path().join("dump"));
    fs::create_dir(&tree).expect("made");
    fs::write(&dump, text(2, 100_000)).expect("written");
    let (home, repository) = (dir.path().join("home"), fixture.join("repository"));
    let program = Program { home, repository, password: Some(PASSPHRASE) };
    let _ = program.run(&["init"], Stdio::null());
    let source = format!("dir:{}", tree.display());

    make_tree(&tree);
    set_times(&tree);
    let first = program.backup(&[&source, "--tag", "first"], Stdio::null());
    let first =
        json!({ "snapshot": first, "kind": 1, "tags": ["first"], "entries": listing(&tree) });
    change_tree(&tree);
    let second = program.backup(&[&source], Stdio::null());
    let second = json!({ "snapshot": second, "kind": 1, "tags": [], "entries": listing(&tree) });

    let input = File::open(&dump).expect("it opens").into();
    let third = program.backup(&["stdin:dump.sql"], input);
    let target = dir.path().join("stream");
    let to = target.to_str().expect("a plain path");
    let _ = program.run(&["restore", &third, "--target", to], Stdio::null());
    let third = json!({ "snapshot": third, "kind": 2, "tags": [], "entries": listing(&target) });
    let hash = blake3::hash(&text(2, 100_000)).to_string();
    assert_eq!(third["entries"]["dump.sql"]["kind"]["blake3"], hash);

    let manifest = json!({ "passphrase": PASSPHRASE, "snapshots": [first, second, third] });
    // Lines that can be compared.
    let text = manifest.to_string().replace("},\"", "},\n\"").replace(":{\"\":", ":{\n\"\":");
    assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), manifest);
    fs::write(fixture.join("manifest.json"), text + "\n").expect("written");
}
