//! No room: bytes and inodes run out in the repository, in this host's folders and at the target.

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use volume_vault::event::{Observer, Recorder};
use volume_vault::id::SnapshotId;
use volume_vault::ops::backup::BackupReport;
use volume_vault::ops::{Interrupt, OpsError};
use volume_vault::repo::{RepoError, Repository};
use volume_vault::sink::MARKER_NAME;
use volume_vault::store::{LocalStore, StoreError};

use crate::support::mount::Tmpfs;
use crate::support::repo::{
    assert_restores, backup, change_tree, check, copy, files_below, list, listed, make, make_tree,
    open, restore_as, scratch,
};
use crate::support::tree::{Tree, describe, diff};

/// A repository in a directory with one snapshot, and the tree that the next backup meets.
struct Local {
    repository: TempDir,
    home: TempDir,
    old: SnapshotId,
    old_tree: Tree,
    dir: TempDir,
    tree: Tree,
}

fn open_at(place: &Path, home: &Path) -> Result<Arc<Repository>, OpsError> {
    let store = LocalStore::open(place).map_err(RepoError::from)?;
    Ok(open(Arc::new(store), home)?)
}

impl Local {
    fn new() -> Self {
        let (repository, home, dir) = (scratch(), scratch(), scratch());
        make(&LocalStore::create(repository.path()).expect("a store"));
        make_tree(dir.path());
        let repo = open_at(repository.path(), home.path()).expect("opens");
        let old = backup(&repo, dir.path()).expect("acknowledged").snapshot;
        let old_tree = describe(dir.path());
        change_tree(dir.path());
        let tree = describe(dir.path());
        Self { repository, home, old, old_tree, dir, tree }
    }

    /// Backs up into a copy of the repository in a small file system; then gives it room and
    /// judges what is left.
    fn with_room(&self, options: &str) -> Result<BackupReport, OpsError> {
        let disk = Tmpfs::new("size=64m");
        let (place, home) = (disk.join("r"), scratch());
        copy(self.repository.path(), &place);
        copy(self.home.path(), home.path());
        assert!(disk.remount(options), "{options}");
        let run = || backup(&open_at(&place, home.path())?, self.dir.path());
        let result = run();
        let files = files_below(&place);
        let hidden = |file: &&std::path::PathBuf| file.to_string_lossy().contains("/.tmp");
        assert_eq!(files.iter().find(hidden), None, "temporary files are gone");
        let repo = open_at(&place, home.path()).expect("opens");
        assert_restores(&repo, &self.old, &self.old_tree);
        let id = result.as_ref().ok().map(|report| report.snapshot);
        assert_eq!(list(&repo).len(), 1 + usize::from(id.is_some()));
        if let Err(error) = &result {
            let named = matches!(error, OpsError::Repo(RepoError::Store(
                StoreError::NoSpace { location, .. })) if *location == place.display().to_string());
            assert!(named, "{options}: {error:?}");
        }
        assert!(disk.remount("size=64m,nr_inodes=10000"));
        let next = run().expect("the next plain backup");
        assert_restores(&repo, &next.snapshot, &self.tree);
        assert!(check(&repo) > 0);
        result
    }
}

#[test]
fn f017_whenever_bytes_run_out_in_the_repository_the_backup_fails_clean() {
    let local = Local::new();
    let probe = Tmpfs::new("size=64m");
    copy(local.repository.path(), &probe.join("r"));
    let used = probe.used().0;
    let mut failed = 0;
    for pages in (0..).step_by(16) {
        match local.with_room(&format!("size={}", used + pages * 4096)) {
            Ok(_) => break,
            Err(_) => failed += 1,
        }
    }
    assert!(failed > 10, "{failed} sizes were too small");
}

#[test]
fn f019_whenever_inodes_run_out_in_the_repository_the_backup_fails_clean() {
    let local = Local::new();
    let probe = Tmpfs::new("size=64m");
    copy(local.repository.path(), &probe.join("r"));
    let used = probe.used().1;
    let mut failed = 0;
    for inodes in 0.. {
        match local.with_room(&format!("nr_inodes={}", used + inodes)) {
            Ok(_) => break,
            Err(_) => failed += 1,
        }
    }
    assert!(failed > 4, "{failed} numbers were too small");
}

#[test]
fn f018_whenever_room_runs_out_in_cache_and_state_the_repository_stays_whole() {
    let local = Local::new();
    let (mut failed, mut acked) = (0, 0);
    let sizes = (1..).map(|pages| format!("size={}", pages * 4096));
    let inodes = (1..20).map(|inodes| format!("size=8m,nr_inodes={inodes}"));
    for options in sizes.take(40).chain(inodes) {
        let (disk, place) = (Tmpfs::new(&options), scratch());
        copy(local.repository.path(), place.path());
        let run = |home: &Path| backup(&open_at(place.path(), home)?, local.dir.path());
        let result = run(disk.path());
        let repo = open_at(place.path(), scratch().path()).expect("opens");
        match &result {
            Ok(report) => {
                acked += 1;
                assert_restores(&repo, &report.snapshot, &local.tree);
            }
            Err(OpsError::Repo(RepoError::Local { path, .. })) => {
                failed += 1;
                assert!(path.starts_with(disk.path()), "{path:?}");
                assert_eq!(list(&repo).len(), 1);
            }
            Err(error) => panic!("{options}: {error:?}"),
        }
        assert_restores(&repo, &local.old, &local.old_tree);
        assert!(disk.remount("size=8m,nr_inodes=1000"));
        let next = run(disk.path()).expect("the next plain backup");
        assert_restores(&repo, &next.snapshot, &local.tree);
    }
    assert!(failed > 4 && acked > 4, "{failed} failed, {acked} acknowledged");
}

#[test]
fn f017_whenever_room_runs_out_at_the_target_the_restore_says_so_and_ends_well_when_run_again() {
    let local = Local::new();
    let repo = open_at(local.repository.path(), local.home.path()).expect("opens");
    let snapshot = listed(&repo, &local.old).expect("listed");
    let (mut failed, mut restored) = (0, 0);
    let sizes = (1..=16).map(|step| format!("size={}k,nr_inodes=1000", step * 200));
    let inodes = (2..40).step_by(3).map(|inodes| format!("size=16m,nr_inodes={inodes}"));
    for options in sizes.chain(inodes) {
        let disk = Tmpfs::new(&options);
        let target = disk.join("target");
        let recorder = Arc::new(Recorder::default());
        let observer: Arc<dyn Observer> = recorder.clone();
        let run = || restore_as(&repo, &snapshot, &target, &observer, &Interrupt::default());
        match run() {
            Ok(_) => {
                assert_eq!(recorder.warnings(), [], "{options}");
                assert_eq!(diff(&local.old_tree, &describe(&target)), [""; 0]);
                restored += 1;
            }
            Err(error) => {
                assert!(matches!(error, OpsError::Sink(_)), "{options}: {error:?}");
                let text = chain(&error);
                assert!(text.contains("No space left"), "{options}: {text}");
                assert!(text.contains(disk.path().to_str().expect("text")), "{text}");
                let begun = target.exists() && !files_below(&target).is_empty();
                assert!(!begun || target.join(MARKER_NAME).exists(), "{options}");
                assert!(disk.remount("size=16m,nr_inodes=1000"));
                let _ = run().expect("the same restore again");
                assert_eq!(diff(&local.old_tree, &describe(&target)), [""; 0]);
                failed += 1;
            }
        }
    }
    assert!(failed > 10 && restored > 1, "{failed} failed, {restored} restored");
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
