//! A repository with garbage of every sort in it, and what must hold however it is collected.

use std::collections::HashSet;
use std::sync::Arc;

use tempfile::TempDir;
use volume_vault::clock::Clock;
use volume_vault::event::{Observer, Recorder};
use volume_vault::format::{ForgetKind, ForgetRecord, ObjectKind};
use volume_vault::id::{ChunkPrefix, SnapshotId};
use volume_vault::ops::check::{CheckOptions, ReadData, check};
use volume_vault::ops::prune::{Grace, MaxUnused, PruneOptions, Report, prune};
use volume_vault::ops::{Interrupt, OpsError};
use volume_vault::repo::{Repository, reach};
use volume_vault::store::{Call, Fault, MemoryStore, ObjectName, Store};

use super::repo::{
    Bench, assert_restores, backup, list, listed, make_tree, noise, put_signed, reader, scratch,
};
use super::tree::{Tree, describe};

/// Nothing is waited for, nothing is left: what a collector may do at the very most.
pub(crate) fn at_once() -> PruneOptions {
    PruneOptions {
        grace: Grace::Given(std::time::Duration::ZERO),
        max_unused: MaxUnused::Percent(0.0),
        orphan_age: std::time::Duration::ZERO,
        level: 1,
        memory: 0,
        ..PruneOptions::default()
    }
}

/// As [`at_once`], and backups that have not come to their end are given up.
pub(crate) fn all_at_once() -> PruneOptions {
    PruneOptions { expire_pending: std::time::Duration::ZERO, ..at_once() }
}

/// As [`at_once`], but nothing is deleted that was condemned within a day.
pub(crate) fn in_a_day() -> PruneOptions {
    PruneOptions { grace: PruneOptions::default().grace, ..at_once() }
}

pub(crate) fn collect(repo: &Arc<Repository>, options: &PruneOptions) -> Result<Report, OpsError> {
    let observer: Arc<dyn Observer> = Arc::new(Recorder::default());
    prune(repo, options, &observer, &Interrupt::default())
}

/// What runs while a call of this thread is under way, on a thread of its own.
pub(crate) fn meanwhile(run: impl Fn() + Send + Sync + 'static) -> Fault {
    Fault::Delay(Arc::new(move |_: &Call| {
        let done = std::thread::scope(|scope| scope.spawn(&run).join());
        done.expect("what runs meanwhile does as it should");
    }))
}

/// The owner's tombstone of a snapshot.
pub(crate) fn forget(store: &dyn Store, repo: &Repository, id: &SnapshotId) {
    let found = listed(repo, id).expect("it is listed");
    let said = ForgetRecord {
        snapshot: *id,
        kind: ForgetKind::Forget,
        writer: found.writer,
        sequence: found.sequence,
        record: found.head,
        round: 0,
    };
    put_signed(store, repo, ObjectKind::Forget, &format!("forget/{id}"), &said.encode());
}

/// A repository with a live snapshot that shares half its packs with a forgotten one, a live one of
/// another host, and one that was forgotten whole.
pub(crate) struct Garden {
    pub(crate) bench: Bench,
    /// What the first live snapshot was made of.
    pub(crate) dir: TempDir,
    /// Snapshots that must restore, and as what.
    pub(crate) live: Vec<(SnapshotId, Tree)>,
    /// Names of packs and segments when the last snapshot was made.
    pub(crate) before: Vec<ObjectName>,
}

impl Garden {
    pub(crate) fn new() -> Self {
        let (bench, dir, other) = (Bench::new(), scratch(), scratch());
        let write = |number: u64, seed: u64| {
            let path = dir.path().join(format!("file-{number}"));
            std::fs::write(path, noise(seed, 300_000)).expect("written");
        };
        (0..6).for_each(|number| write(number, number));
        let old = backup(&bench.open(), dir.path()).expect("acknowledged").snapshot;
        // Every other file of each pack is needed no more.
        [0, 2, 4].into_iter().for_each(|number| write(number, 100 + number));
        let new = backup(&bench.open(), dir.path()).expect("acknowledged").snapshot;
        let mut live = vec![(new, describe(dir.path()))];
        make_tree(other.path());
        let host = bench.other_host();
        let kept = backup(&host.open(), other.path()).expect("acknowledged").snapshot;
        live.push((kept, describe(other.path())));
        let whole = scratch();
        std::fs::write(whole.path().join("gone"), noise(7, 500_000)).expect("written");
        let gone = backup(&host.open(), whole.path()).expect("acknowledged").snapshot;
        let repo = bench.open();
        [old, gone].iter().for_each(|id| forget(&bench.store, &repo, id));
        let before = stored(&bench.store);
        Self { bench, dir, live, before }
    }

    pub(crate) fn fork(&self) -> Self {
        let dir = scratch();
        super::repo::copy(self.dir.path(), dir.path());
        let (live, before) = (self.live.clone(), self.before.clone());
        Self { bench: self.bench.fork(), dir, live, before }
    }

    /// Every acknowledged snapshot restores, for this host and for one that knows nothing.
    pub(crate) fn assert_whole(&self) {
        for repo in [self.bench.open(), self.bench.other_host().open()] {
            for (id, tree) in &self.live {
                assert_restores(&repo, id, tree);
            }
        }
        self.assert_clean();
    }

    /// O2, by the verb itself.
    pub(crate) fn assert_clean(&self) {
        let observer: Arc<dyn Observer> = Arc::new(Recorder::default());
        let options = CheckOptions { read: ReadData::All, memory: 256 << 20, clock: Clock::System };
        let report = check(&self.bench.open(), &options, &observer, &Interrupt::default());
        let report = report.expect("it checks");
        assert!(report.is_clean(), "{report:?}");
    }

    /// All must be well after another collection has finished what was begun; and then the garbage
    /// is gone, and the next plain backup works.
    pub(crate) fn assert_collects(&self) {
        let _ = collect(&self.bench.open(), &all_at_once()).expect("another run finishes");
        // What was spared is repacked by the next.
        let _ = collect(&self.bench.open(), &all_at_once()).expect("and so does the next");
        self.assert_whole();
        assert_tidy(&self.bench.open());
        let next = backup(&self.bench.open(), self.dir.path()).expect("the next plain backup");
        assert_restores(&self.bench.open(), &next.snapshot, &describe(self.dir.path()));
    }
}

/// Names of all packs and segments.
pub(crate) fn stored(store: &MemoryStore) -> Vec<ObjectName> {
    let mut names = store.names();
    names.retain(|name| ["packs/", "index/"].iter().any(|at| name.as_str().starts_with(at)));
    names
}

/// Nothing is stored that no snapshot needs, and nothing twice: every chunk of every pack that the
/// store lists is needed, and every pack is known.
pub(crate) fn assert_tidy(repo: &Arc<Repository>) {
    let reader = reader(repo);
    let mut needed: HashSet<ChunkPrefix> = HashSet::new();
    for snapshot in list(repo) {
        for item in snapshot.items() {
            reach(&reader, item, &mut HashSet::new(), &mut |_, id| {
                let _ = needed.insert(id.prefix());
                Ok(())
            })
            .expect("the tree can be read");
        }
    }
    let packs = reader.index().packs();
    let listed: Vec<_> = packs.iter().filter(|(_, present)| *present).collect();
    let names = repo.store().list("packs").expect("lists").len();
    assert_eq!(listed.len(), names, "every pack is in a segment");
    let mut found = HashSet::new();
    reader
        .index()
        .scan(|prefix, place| {
            let pack = reader.index().pack(place.pack);
            if listed.iter().any(|(listed, _)| listed.id == pack.id) {
                assert!(needed.contains(&prefix), "a chunk of {} is garbage", pack.id.short());
                let first = found.insert((prefix, pack.id));
                assert!(first, "two segments name {}", pack.id.short());
            }
            Ok(())
        })
        .expect("the index reads");
    let chunks: HashSet<_> = found.iter().map(|(prefix, _)| prefix).collect();
    let twice = found
        .iter()
        .filter(|(prefix, _)| found.iter().filter(|(other, _)| other == prefix).count() > 1);
    let twice: Vec<_> = twice.map(|(prefix, pack)| (prefix.to_string(), pack.short())).collect();
    assert!(twice.is_empty(), "chunks stored twice, and where: {twice:?}");
    assert_eq!(chunks.len(), needed.len());
}
