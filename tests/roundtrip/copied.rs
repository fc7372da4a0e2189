//! Any tree that is copied into another repository is what it was, after any change.

use std::path::Path;
use std::sync::Arc;

use proptest::collection::vec;
use volume_vault::clock::Clock;
use volume_vault::codec::ChunkerParams;
use volume_vault::event::{Observer, Recorder};
use volume_vault::ops::Interrupt;
use volume_vault::ops::backup::BackupReport;
use volume_vault::ops::copy::{
    CopyOptions, Copying, DamagedFiles, Fate, ForgottenThere, Outcome, plan,
};
use volume_vault::repo::SnapshotList;

use super::mutation::mutations;
use super::{Bench, Saved, check, root};
use crate::support::tree::describe;
use crate::support::tree::plan::plans;

/// Copies what is new, and gives the copies as if they had been saved.
fn copy(from: &Bench, to: &Bench) -> Vec<Saved> {
    let list = SnapshotList::load(&from.repo).expect("lists");
    let again = ForgottenThere::Skip;
    let mut plan = plan(&from.repo, &list, &to.repo, &|_| true, again).expect("planned");
    let rows = std::mem::take(&mut plan.rows);
    let options = CopyOptions {
        damaged: DamagedFiles::Refuse,
        level: 1,
        verify: true,
        memory: 64 << 20,
        clock: Clock::System,
    };
    let mut copying = Copying::begin(&from.repo, &to.repo, plan, options).expect("begun");
    let recorder = Arc::new(Recorder::default());
    let observer: Arc<dyn Observer> = recorder.clone();
    let mut copies = Vec::new();
    for row in rows.iter().filter(|row| row.fate == Fate::Copy) {
        let copied = copying.copy(&row.snapshot, &observer, &Interrupt::default());
        let Ok(Outcome::Copied(copied)) = copied else { panic!("{copied:?}") };
        let list = SnapshotList::load(&to.repo).expect("lists").snapshots;
        let found = list.into_iter().find(|s| s.id == copied.snapshot).expect("it is listed");
        let report = BackupReport {
            snapshot: found.id,
            head: found.head,
            item: found.items()[0].clone(),
            parent: None,
            bytes_stored: copied.bytes_stored,
            packs: 0,
            seconds: copied.seconds,
        };
        copies.push(Saved { report, warnings: recorder.warnings() });
    }
    copies
}

#[test]
fn any_tree_that_is_copied_is_what_was_saved_after_any_change() {
    let cases = (plans(30), vec(mutations(), 1..14));
    check(15, &cases, |(plan, changes)| {
        // Cut elsewhere, too: nothing of how the original lies may matter.
        let chunker = ChunkerParams { min: 1 << 10, average: 1 << 12, max: 1 << 14 };
        let bench = Bench::on_tmpfs();
        let other = Bench::with(chunker, Path::new("/dev/shm"));
        plan.make(&bench.tree());
        let old = describe(&bench.tree());
        let _ = bench.save();
        let first = copy(&bench, &other).pop().expect("one");
        bench.let_the_clock_tick();
        changes.iter().for_each(|change| change.apply(&bench.tree()));
        let new = describe(&bench.tree());
        let _ = bench.save();
        let second = copy(&bench, &other).pop().expect("one");
        // What was taken over unread is what a backup would have found, hints and all.
        let scratch = other.save_dir("scratch", &bench.tree());
        assert_eq!(root(&second), root(&scratch));
        assert_eq!(second.report.item.hints, scratch.report.item.hints);
        other.assert_comes_back(&second, &new);
        other.assert_comes_back(&first, &old);
    });
}
