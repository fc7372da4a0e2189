//! A tree that nobody made up.

use std::path::Path;
use std::process::Command;

use volume_vault::ops::restore::Extra;
use volume_vault::source::Selection;

use super::{Bench, root, shown};
use crate::support::tree::{Aspect, describe, diff_except};

/// Trees of many files; any Debian has one of them that is small enough.
const PLACES: [&str; 6] = [
    "/usr/include/linux",
    "/usr/share/perl5",
    "/usr/share/doc",
    "/usr/share/bash-completion",
    "/usr/share",
    "/etc",
];

/// So many KiB are copied at most.
const KIB_MAX: u64 = 24_000;

#[test]
fn a_copy_of_the_systems_own_files_comes_back() {
    let size = |place: &str| -> u64 {
        let output = Command::new("du").args(["-sk", place]).output().expect("du runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0)
    };
    let fits = |place: &&&str| Path::new(place).is_dir() && (500..KIB_MAX).contains(&size(place));
    let place = PLACES.iter().find(fits).expect("one of them");
    let bench = Bench::on_tmpfs();
    let status = Command::new("cp").args(["-a", place]).arg(bench.tree()).status();
    assert!(status.expect("cp runs").success());
    let tree = describe(&bench.tree());
    assert!(tree.len() > 100, "{place}");
    let saved = bench.save();
    assert_eq!(shown(&saved.warnings), [""; 0]);
    bench.assert_comes_back(&saved, &tree);
    // Half of it gone, some of it changed, and back.
    let doomed = tree.keys().filter(|path| path.len() % 2 == 0 && !path.is_empty());
    for path in doomed {
        use std::os::unix::ffi::OsStrExt as _;
        let path = bench.tree().join(std::ffi::OsStr::from_bytes(path));
        // Never through a symbolic link: it may lead to the original.
        match path.symlink_metadata() {
            Ok(found) if found.is_file() => super::write(&path, b"overwritten"),
            Ok(found) if found.is_dir() => std::fs::remove_dir_all(&path).expect("removed"),
            Ok(_) => std::fs::remove_file(&path).expect("removed"),
            // It went with the directory it was in.
            Err(_) => {}
        }
    }
    let restored = bench.restore_into_tree(&saved, Extra::Remove, Selection::all());
    assert_eq!(shown(&restored.warnings), [""; 0]);
    let lines = diff_except(&tree, &describe(&bench.tree()), &[Aspect::Holes]);
    assert_eq!(lines, [""; 0]);
    assert_eq!(root(&bench.save_as("again")), root(&saved));
}
