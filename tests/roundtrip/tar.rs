//! What a tar stream can keep goes through one and comes back the same.

use std::fs::{self, File};
use std::io::Cursor;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use volume_vault::ops::restore::restore_tar;
use volume_vault::sink::TarWriterOptions;
use volume_vault::source::{Selection, TarOptions, TarStream};

use super::mutation::set_mtime;
use super::{Bench, Saved, check, root, shown};
use crate::support::tree::plan::plans;
use crate::support::tree::{Aspect, describe, diff_except};

/// Sends what was saved through a tar stream into a series of its own.
fn through_tar(bench: &Bench, saved: &Saved) -> (Vec<String>, Saved) {
    let mut stream = Vec::new();
    let restored = bench.run(Selection::all(), |run| {
        let options = TarWriterOptions::new("t");
        let (report, written) = restore_tar(run, &saved.report.item, Vec::new(), options)?;
        stream = written;
        Ok(report)
    });
    let again = bench.save_from("tar", |watched| {
        Ok(Box::new(TarStream::new(Box::new(Cursor::new(stream)), TarOptions::new("t"), watched)))
    });
    (shown(&restored.warnings), again)
}

/// Leaves only what a tar stream keeps: no sockets, and zeros in place of holes.
fn make_plain(dir: &Path) {
    let before = dir.symlink_metadata().expect("known");
    for entry in fs::read_dir(dir).expect("lists") {
        let path = entry.expect("lists on").path();
        let metadata = path.symlink_metadata().expect("known");
        if metadata.file_type().is_socket() {
            fs::remove_file(&path).expect("removed");
        } else if metadata.is_dir() {
            make_plain(&path);
        } else if metadata.is_file() {
            let content = fs::read(&path).expect("reads");
            let file = File::options().write(true).open(&path).expect("opens");
            file.write_all_at(&content, 0).expect("written");
            set_mtime(&path, metadata.mtime(), metadata.mtime_nsec()).expect("set");
        }
    }
    set_mtime(dir, before.mtime(), before.mtime_nsec()).expect("set");
}

#[test]
fn what_tar_keeps_has_the_same_root_behind_it() {
    check(16, &plans(40), |plan| {
        let bench = Bench::on_tmpfs();
        plan.make(&bench.tree());
        make_plain(&bench.tree());
        let saved = bench.save();
        let (warnings, again) = through_tar(&bench, &saved);
        assert_eq!(warnings, [""; 0]);
        assert_eq!(shown(&again.warnings), [""; 0]);
        let (target, _) = bench.restore(&again);
        assert_eq!(diff_except(&describe(&bench.tree()), &describe(&target), &[]), [""; 0]);
        assert_eq!(root(&again), root(&saved));
    });
}

#[test]
fn what_tar_does_not_keep_is_sockets_and_holes() {
    check(12, &plans(40), |plan| {
        let bench = Bench::on_tmpfs();
        plan.make(&bench.tree());
        let (warnings, again) = through_tar(&bench, &bench.save());
        let (target, _) = bench.restore(&again);
        let tree = describe(&bench.tree());
        let sockets = tree.values().filter(|r| r.kind == crate::support::tree::Kind::Socket);
        assert_eq!(warnings.len(), sockets.count(), "{warnings:?}");
        assert_eq!(shown(&again.warnings), [""; 0]);
        let lost = [Aspect::Sockets, Aspect::Holes];
        assert_eq!(diff_except(&tree, &describe(&target), &lost), [""; 0]);
    });
}
