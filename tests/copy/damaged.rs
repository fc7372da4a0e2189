//! A snapshot that is damaged is not copied, or only without what is damaged, and says so.

use std::path::Path;
use std::sync::Arc;

use volume_vault::event::{Observer, Recorder};
use volume_vault::format::PackKind;
use volume_vault::id::SnapshotId;
use volume_vault::ops::Interrupt;
use volume_vault::ops::copy::{CopyOptions, DamagedFiles, ForgottenThere};
use volume_vault::repo::pack_name;

use super::{Told, copy, copy_as, options, planned};
use crate::support::damage::{pack_of_file, packs_of, rot};
use crate::support::repo::{Bench, assert_restores, backup, listed, noise, scratch};
use crate::support::tree::{Tree, describe};

/// Three snapshots: the first and the last hold `a`, whose content is damaged.
struct Scene {
    bench: Bench,
    snapshots: Vec<(SnapshotId, Tree)>,
    damaged: volume_vault::store::ObjectName,
    dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let (bench, dir) = (Bench::new(), scratch());
        let repo = bench.open();
        let mut snapshots = Vec::new();
        let mut save = |dir: &Path| {
            let saved = backup(&repo, dir).expect("saved").snapshot;
            snapshots.push((saved, describe(dir)));
        };
        let write = |name: &str, seed| {
            std::fs::write(dir.path().join(name), noise(seed, 3 << 19)).expect("written");
        };
        write("a", 1);
        write("b", 2);
        std::os::unix::fs::symlink("a", dir.path().join("s")).expect("made");
        std::fs::hard_link(dir.path().join("a"), dir.path().join("twin")).expect("made");
        save(dir.path());
        std::fs::remove_file(dir.path().join("a")).expect("removed");
        std::fs::remove_file(dir.path().join("twin")).expect("removed");
        write("c", 3);
        save(dir.path());
        write("a", 1);
        save(dir.path());
        let pack = pack_of_file(&repo, &snapshots[0].0, "a");
        let damaged = pack_name(&pack);
        rot(&bench.store, &damaged);
        Self { bench, snapshots, damaged, dir }
    }
}

fn leaving_out(from: &Bench, to: &Bench) -> (Told, Arc<Recorder>) {
    let options = CopyOptions { damaged: DamagedFiles::LeaveOut, ..options() };
    let (from, to) = (from.open(), to.open());
    let recorder = Arc::new(Recorder::default());
    let observer: Arc<dyn Observer> = recorder.clone();
    let plan = planned(&from, &to, ForgottenThere::Skip).expect("planned");
    let done = copy_as(&from, &to, plan, options, &observer, &Interrupt::default());
    (done.expect("copied"), recorder)
}

#[test]
fn a_snapshot_with_a_damaged_file_is_not_copied_and_the_file_is_named() {
    let scene = Scene::new();
    let there = Bench::new();
    let done = copy(&scene.bench.open(), &there.open()).expect("the others are copied");
    let copied: Vec<_> = done.copied.iter().map(|copied| copied.from).collect();
    assert_eq!(copied, [scene.snapshots[1].0]);
    let refused: Vec<_> = done.refused.iter().map(|refused| refused.snapshot).collect();
    assert_eq!(refused, [scene.snapshots[0].0, scene.snapshots[2].0]);
    for refused in &done.refused {
        let path = refused.path.as_ref().expect("a file is named");
        assert_eq!((path.to_string().as_str(), refused.item.as_str()), ("a", "/tree"));
    }
    // The second time it was known before anything was read.
    let why = done.refused[1].error.to_string();
    assert!(why.contains("as an earlier snapshot has shown"), "{why}");
    assert_restores(&there.open(), &done.copied[0].snapshot, &scene.snapshots[1].1);
    assert_eq!(there.names("snapshots").len(), 2, "no other has left a record");
}

#[test]
fn once_the_damage_is_mended_the_rest_is_copied() {
    let scene = Scene::new();
    let there = Bench::new();
    let _ = copy(&scene.bench.open(), &there.open()).expect("the others are copied");
    rot(&scene.bench.store, &scene.damaged);
    let done = copy(&scene.bench.open(), &there.open()).expect("copied");
    assert_eq!((done.copied.len(), done.refused.len(), done.passed), (2, 0, 1));
    let to = there.open();
    assert_restores(&to, &done.copied[0].snapshot, &scene.snapshots[0].1);
    assert_restores(&to, &done.copied[1].snapshot, &scene.snapshots[2].1);
}

#[test]
fn where_it_is_asked_for_a_snapshot_is_copied_without_its_damaged_files_and_says_so() {
    let scene = Scene::new();
    let there = Bench::new();
    let (done, recorder) = leaving_out(&scene.bench, &there);
    assert_eq!((done.copied.len(), done.refused.len()), (3, 0));
    let left_out: Vec<_> = done.copied.iter().map(|copied| copied.left_out).collect();
    // With the other name of the file.
    assert_eq!(left_out, [2, 0, 1]);
    assert_eq!(recorder.warnings().iter().filter(|warning| warning.skipped).count(), 3);
    let to = there.open();
    for (copied, (_, tree)) in done.copied.iter().zip(&scene.snapshots) {
        let item = listed(&to, &copied.snapshot).expect("listed").items()[0].clone();
        assert_eq!(item.is_partial(), copied.left_out > 0);
        assert_eq!(item.facts.entries_skipped, copied.left_out);
        let mut tree = tree.clone();
        if copied.left_out > 0 {
            let warned = item.warnings.iter().find(|w| w.object == b"a").expect("it is named");
            assert!(warned.skipped && warned.message.contains("damaged"), "{warned:?}");
            let _ = (tree.remove(&b"a"[..]), tree.remove(&b"twin"[..]));
        }
        assert_restores(&to, &copied.snapshot, &tree);
    }
    // The next one has the same tree. Now that it is mended, nothing may be missing in its copy.
    rot(&scene.bench.store, &scene.damaged);
    let _ = backup(&scene.bench.open(), scene.dir.path()).expect("saved");
    let (done, _) = leaving_out(&scene.bench, &there);
    assert_eq!((done.copied.len(), done.copied[0].left_out), (1, 0));
    assert_restores(&there.open(), &done.copied[0].snapshot, &scene.snapshots[2].1);
}

#[test]
fn a_snapshot_whose_tree_is_damaged_is_never_copied() {
    let (bench, there, dir) = (Bench::new(), Bench::new(), scratch());
    std::fs::write(dir.path().join("file"), "content").expect("written");
    let saved = backup(&bench.open(), dir.path()).expect("saved").snapshot;
    for name in packs_of(&bench, PackKind::Tree) {
        rot(&bench.store, &name);
    }
    let (done, _) = leaving_out(&bench, &there);
    assert_eq!((done.copied.len(), done.refused[0].snapshot), (0, saved));
    assert_eq!(done.refused[0].path, None);
    assert_eq!(there.names("snapshots").len(), 0);
}
