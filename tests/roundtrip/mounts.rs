//! Mounts and overlay leftovers in what is saved.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rustix::fs::{self as sys, CWD, FileType, Mode};

use super::{Bench, shown, write};
use crate::support::tree::{describe, diff};

/// Mounted while it lives.
pub(super) struct Mounted(PathBuf);

impl Mounted {
    pub(super) fn new(arguments: &[&str], at: PathBuf) -> Self {
        let status = Command::new("mount").args(arguments).arg(&at).status().expect("mount runs");
        assert!(status.success(), "mount {arguments:?}");
        Self(at)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg("--").arg(&self.0).status();
    }
}

#[test]
fn f118_what_is_mounted_in_the_tree_is_named_and_not_saved() {
    let bench = Bench::new();
    for dir in ["bind", "own", "tmpfs"] {
        fs::create_dir(bench.at(dir)).expect("made");
    }
    write(&bench.at("own/file"), b"inside");
    write(&bench.at("over"), b"below");
    let outside = tempfile::tempdir().expect("a directory");
    write(&outside.path().join("secret"), b"outside");
    let text = |path: &std::path::Path| path.to_str().expect("text").to_owned();
    let _bind = Mounted::new(&["--bind", &text(outside.path())], bench.at("bind"));
    let _tmpfs = Mounted::new(&["-t", "tmpfs", "none"], bench.at("tmpfs"));
    let _file = Mounted::new(&["--bind", &text(&outside.path().join("secret"))], bench.at("over"));
    write(&bench.at("tmpfs/other"), b"outside");
    let saved = bench.save();
    let expected = [
        "bind: is a mount point and was not entered",
        "!over: is a mount point and was not read",
        "tmpfs: is a mount point and was not entered",
    ];
    assert_eq!(shown(&saved.warnings), expected);
    assert!(saved.report.is_partial());
    let (target, _) = bench.restore(&saved);
    let names: Vec<_> = describe(&target).into_keys().collect();
    assert_eq!(names, [&b""[..], b"bind", b"own", b"own/file", b"tmpfs"]);
}

#[test]
fn f118_overlay_whiteouts_come_back_as_they_are() {
    let bench = Bench::new();
    fs::create_dir(bench.at("opaque")).expect("made");
    let made = sys::mknodat(CWD, bench.at("gone"), FileType::CharacterDevice, Mode::empty(), 0);
    made.expect("made");
    let flags = sys::XattrFlags::empty();
    sys::setxattr(bench.at("opaque"), "trusted.overlay.opaque", b"y", flags).expect("set");
    let tree = describe(&bench.tree());
    let saved = bench.save();
    let (target, _) = bench.restore(&saved);
    assert_eq!(diff(&tree, &describe(&target)), [""; 0]);
}
