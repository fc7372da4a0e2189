//! Damage done on purpose, and repairs through the library.

use std::sync::Arc;

use volume_vault::event::{Observer, Recorder};
use volume_vault::format::PackKind;
use volume_vault::id::PackId;
use volume_vault::ops::check::{CheckOptions, CheckReport, ReadData, check};
use volume_vault::ops::repair::{
    IndexReport, OldOnes, PacksReport, RepairOptions, SnapshotsReport, plan_index, plan_packs,
    plan_snapshots, run_index, run_packs, run_snapshots,
};
use volume_vault::ops::{Interrupt, OpsError};
use volume_vault::repo::{Repository, pack_name};
use volume_vault::store::{MemoryStore, ObjectName, Store};

use super::repo::{Bench, listed, reader};

pub(crate) fn observer() -> Arc<dyn Observer> {
    Arc::new(Recorder::default())
}

/// Small packs, and little work.
pub(crate) fn options() -> RepairOptions {
    RepairOptions { memory: 64 << 20, level: 1, ..RepairOptions::default() }
}

pub(crate) fn repair_index(repo: &Arc<Repository>) -> Result<IndexReport, OpsError> {
    let plan = plan_index(repo, &observer())?;
    run_index(repo, plan, &options(), &observer(), &Interrupt::default())
}

pub(crate) fn repair_packs(repo: &Arc<Repository>) -> Result<PacksReport, OpsError> {
    let plan = plan_packs(repo, &options(), &observer(), &Interrupt::default())?;
    run_packs(repo, plan)
}

pub(crate) fn repair_snapshots(
    repo: &Arc<Repository>,
    old: OldOnes,
) -> Result<SnapshotsReport, OpsError> {
    let (options, interrupt) = (options(), Interrupt::default());
    let plan = plan_snapshots(repo, &options, old, &observer(), &interrupt)?;
    run_snapshots(repo, &plan, &options, old, &observer(), &interrupt)
}

/// What the verb `check` says, with every byte read.
pub(crate) fn checked(repo: &Arc<Repository>) -> CheckReport {
    let clock = volume_vault::clock::Clock::System;
    let options = CheckOptions { read: ReadData::All, memory: 256 << 20, clock };
    check(repo, &options, &observer(), &Interrupt::default()).expect("it checks")
}

/// Flips a bit of the first frame.
pub(crate) fn rot(store: &MemoryStore, name: &ObjectName) {
    assert!(store.corrupt(name, |bytes| bytes[1300] ^= 1), "{name} is there");
}

/// The names of all packs of a kind.
pub(crate) fn packs_of(bench: &Bench, kind: PackKind) -> Vec<ObjectName> {
    let packs = bench.open().load_index().expect("the index loads").packs();
    let ours = packs.iter().filter(|(pack, present)| pack.kind == kind && *present);
    ours.map(|(pack, _)| pack_name(&pack.id)).collect()
}

/// The pack that holds the first chunk of a file of a snapshot.
pub(crate) fn pack_of_file(
    repo: &Arc<Repository>,
    snapshot: &volume_vault::id::SnapshotId,
    path: &str,
) -> PackId {
    use volume_vault::entry::{EntryPath, Extent};
    use volume_vault::repo::{ContentWalk, TreeWalk};

    let reader = reader(repo);
    let found = listed(repo, snapshot).expect("listed");
    let item = &found.items()[0];
    let path = EntryPath::from_slashed(path.as_bytes()).expect("a path");
    let stored = TreeWalk::find(&reader, item.root, item.root_level, &path);
    let content = stored.expect("it reads").expect("it is there").content;
    let mut walk = ContentWalk::new(&reader, &content);
    while let Some(extent) = walk.next().expect("it reads") {
        if let Extent::Chunk(id, _) = extent {
            let place = reader.index().find_all(&id).expect("it looks up");
            return reader.index().pack(place[0].pack).id;
        }
    }
    panic!("it has no content");
}

/// Deletes every object of a folder; says how many.
pub(crate) fn delete_all(store: &MemoryStore, folder: &str) -> usize {
    let listed = store.list(folder).expect("lists");
    listed.iter().for_each(|object| store.delete(&object.name).expect("deleted"));
    listed.len()
}
