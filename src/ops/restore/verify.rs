//! Reads back what was restored and compares it with the snapshot.

use std::collections::HashSet;
use std::hash::BuildHasher;
use std::path::Path;
use std::sync::Arc;

use super::RestoreRun;
use super::volume::COMPARE_CACHE;
use crate::clock::Clock;
use crate::docker::Engine;
use crate::event::Warning;
use crate::format::Item;
use crate::ops::backup::{BackupOptions, OpenedVolume, Route, Way, plan_volume, scan};
use crate::ops::diff::{Change, ChangeKind, ItemDiff, LiveDiff};
use crate::ops::error::OpsError;
use crate::repo::{ChunkReader, Repository};
use crate::source::{Directory, DirectoryOptions, Selection, Source, Verdict};

/// Compares a directory with the selected entries of an item; returns at how many paths they
/// differ, each of which whoever watches is told. Paths in `excused`, with slashes, may differ:
/// what was left out there was said before.
///
/// Errors: [`OpsError`].
pub fn verify_directory<S: BuildHasher>(
    run: &RestoreRun<'_>,
    item: &Item,
    place: &Path,
    excused: &HashSet<Vec<u8>, S>,
) -> Result<u64, OpsError> {
    run.observer.stage("verifying");
    let walk = DirectoryOptions { clock: Clock::System, selection: Selection::all() };
    let source: Box<dyn Source> = Box::new(Directory::open(place, walk, run.observer.clone())?);
    let mut diff = LiveDiff::new(run.reader, item, source, run.observer, run.interrupt)?;
    count(run, excused, || diff.next())
}

/// As [`verify_directory`], for a volume: read in place, or by an agent beside it.
///
/// Errors: [`OpsError`]; [`OpsError::Refused`] where only the archive interface is left.
pub fn verify_volume<S: BuildHasher>(
    repo: &Arc<Repository>,
    engine: &Engine,
    name: &str,
    run: &RestoreRun<'_>,
    item: &Item,
    options: &BackupOptions,
    excused: &HashSet<Vec<u8>, S>,
) -> Result<u64, OpsError> {
    let plan = plan_volume(engine, name, Way::Best)?;
    if let Route::Host(place) = &plan.route {
        return verify_directory(run, item, place, excused);
    }
    run.observer.stage("verifying");
    let opened = OpenedVolume::open(engine, &plan)?;
    if let OpenedVolume::Archive(why) = &opened {
        return Err(OpsError::Refused(format!("volume `{name}` cannot be read back: {why}")));
    }
    let options = BackupOptions { read_all: true, ..options.clone() };
    let (found, all) = (opened.item(&plan), Selection::all());
    let open = |watched| opened.origin(engine, &plan, &all, &options, watched);
    let present = scan(repo, &found, open, &options, run.observer, run.interrupt)?;
    // The index is read again: it must know the tree that was built just now.
    let reader = Arc::new(ChunkReader::new(repo, &Arc::new(repo.load_index()?), COMPARE_CACHE));
    let mut diff = ItemDiff::new(&reader, item, &present);
    count(run, excused, || diff.next())
}

/// Tells of changes that may not be, and counts them.
fn count<S: BuildHasher>(
    run: &RestoreRun<'_>,
    excused: &HashSet<Vec<u8>, S>,
    mut next: impl FnMut() -> Result<Option<Change>, OpsError>,
) -> Result<u64, OpsError> {
    let mut differing = 0;
    while let Some(change) = next()? {
        let path = change.path.to_slashed();
        if !is_wanted(run, &change) || excused.contains(&path) {
            continue;
        }
        differing += 1;
        let what = match change.kind {
            ChangeKind::Added => "is there, but not in the snapshot",
            ChangeKind::Removed => "is missing after the restore",
            ChangeKind::Type => "is another kind of thing than in the snapshot",
            ChangeKind::Content => "has other content than in the snapshot",
            ChangeKind::Metadata => "has other metadata than in the snapshot",
        };
        run.observer.warn(Warning::skipped(path, what));
    }
    Ok(differing)
}

/// Whether the restore was to make the path what the snapshot says.
fn is_wanted(run: &RestoreRun<'_>, change: &Change) -> bool {
    if run.selection.is_all() {
        return true;
    }
    let entry = change.old.as_ref().or(change.new.as_ref());
    let directory = entry.is_some_and(crate::entry::Entry::is_directory);
    // Directories that only lead to something, and what was there before, are as they are.
    change.kind != ChangeKind::Added
        && run.selection.verdict(&change.path, directory) == Verdict::Take
}
