//! The reference model: what was promised of every snapshot, and whether it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use volume_vault::clock::Clock;
use volume_vault::event::{Observer, Recorder};
use volume_vault::id::SnapshotId;
use volume_vault::ops::Interrupt;
use volume_vault::ops::check::{CheckOptions, CheckReport, ReadData, check};
use volume_vault::repo::{ChunkReader, Inventory, Repository, SnapshotList};
use volume_vault::store::{MemoryStore, Store};

use super::actor::{Deed, Outcome};
use super::plot::{Picture, read};
use super::stage::{Ended, Stage, Weather};
use crate::support::garden::{all_at_once, collect};
use crate::support::repo::{open, scratch};

/// What is known of a snapshot whose record was sent.
pub(super) struct Known {
    pub(super) picture: Picture,
    bytes: u64,
    /// It was acknowledged.
    acked: bool,
    /// It was acknowledged and not forgotten, or taken back since: it must restore.
    pub(super) promised: bool,
    /// It was forgotten for certain.
    pub(super) forgotten: bool,
    /// Somebody failed to take it back, or was lied to: nothing is known of it.
    pub(super) broken: bool,
}

/// All that was promised.
#[derive(Default)]
pub(super) struct World {
    pub(super) known: BTreeMap<SnapshotId, Known>,
    pub(super) bytes_acked: u64,
    pub(super) acked: usize,
}

impl World {
    /// Takes in what hosts did at the same time; and O4, what they said of it.
    pub(super) fn note(&mut self, all: &[Ended], weather: Weather) {
        let alone = all.len() == 1 && all[0].hits == 0 && weather != Weather::Lagging;
        for ended in all {
            match &ended.deed {
                Deed::Backup { .. } => self.note_backup(ended, alone),
                Deed::Read(id) | Deed::Restore(id) => self.note_read(id, ended, alone),
                Deed::Forget(_) | Deed::Undo(_) | Deed::Prune { .. } => {}
            }
        }
        let touched = |ended: &Ended| match ended.deed {
            Deed::Forget(id) | Deed::Undo(id) => Some(id),
            _ => None,
        };
        for id in all.iter().filter_map(touched).collect::<BTreeSet<_>>() {
            let mine: Vec<&Ended> = all.iter().filter(|e| touched(e) == Some(id)).collect();
            let known = self.known.get_mut(&id).expect("a snapshot that is known");
            known.note_said(&mine, alone);
        }
    }

    fn note_backup(&mut self, ended: &Ended, alone: bool) {
        let Deed::Backup { plot, .. } = &ended.deed else { return };
        let is_ok = match &ended.outcome {
            Outcome::Acked { id, is_partial } => {
                assert_eq!(Some(*id), ended.snapshot, "O4: acknowledged without a record");
                assert_eq!(*is_partial, !ended.lost.is_empty(), "O4: what is missing is said");
                true
            }
            Outcome::Failed(why) => {
                assert!(!alone, "O5: a plain backup fails: {why}");
                false
            }
            Outcome::Done | Outcome::Read(_) => panic!("no end of a backup"),
        };
        let Some(id) = ended.snapshot else { return };
        let picture = plot.picture(&ended.lost);
        let bytes = picture.values().map(|(entry, _)| entry.content_len()).sum();
        let promised = is_ok && !ended.deceived;
        if promised {
            self.bytes_acked += bytes;
            self.acked += 1;
        }
        let (forgotten, broken) = (false, ended.deceived);
        let known = Known { picture, bytes, acked: is_ok, promised, forgotten, broken };
        assert!(self.known.insert(id, known).is_none(), "an id came twice");
    }

    fn note_read(&self, id: &SnapshotId, ended: &Ended, alone: bool) {
        let known = &self.known[id];
        match &ended.outcome {
            Outcome::Read(picture) => known.assert_is(id, picture, "O1: what was read"),
            Outcome::Failed(why) => {
                assert!(!alone || !known.promised, "O1: {} cannot be read: {why}", id.short());
            }
            Outcome::Acked { .. } | Outcome::Done => panic!("no end of reading"),
        }
    }

    /// O1, O3: looks at all that is listed, on a host that nobody disturbs.
    pub(super) fn assert_holds(&self, store: &MemoryStore, home: &Path) {
        let repo = open(Arc::new(store.clone()), home).expect("it opens");
        // What this host has kept is no proof that the store has it.
        repo.read_only_the_store();
        let (list, reader) = list(&repo);
        for (id, known) in self.known.iter().filter(|(_, known)| known.promised) {
            let is_listed = list.snapshots.iter().any(|snapshot| snapshot.id == *id);
            assert!(is_listed, "O1: {} ({} bytes) is not listed", id.short(), known.bytes);
        }
        for snapshot in &list.snapshots {
            let id = snapshot.id;
            let known = self.known.get(&id).expect("O3: nobody sent the record of what is listed");
            assert!(!known.forgotten, "O3: {} was forgotten and is listed", id.short());
            match read(&reader, snapshot) {
                Ok(picture) => known.assert_is(&id, &picture, "O1: what is listed"),
                Err(error) => {
                    let may = known.broken || !known.promised && self.is_expired(store, &id);
                    assert!(may, "O1: {} ({} bytes): {error}", id.short(), known.bytes);
                }
            }
        }
    }

    /// Whether somebody gave up a backup that was not acknowledged. If it came to its commit all
    /// the same, it counts as far as it is there.
    fn is_expired(&self, store: &MemoryStore, id: &SnapshotId) -> bool {
        let said = format!("forget/{id}");
        let is_said = store.names().iter().any(|name| name.as_str().starts_with(&said));
        is_said && !self.known[id].acked
    }

    /// O2: a check that reads everything finds nothing, or what is known to be broken.
    pub(super) fn assert_clean(&self, stage: &Stage, home: &Path) {
        let report = look(&stage.store, home);
        let mut excused = false;
        for (id, known) in &self.known {
            let may = known.broken || !known.promised && self.is_expired(&stage.store, id);
            excused |= may;
            let touched = report.touched.iter().find(|touched| touched.snapshot == *id);
            assert!(may || touched.is_none(), "O2: {touched:?} of {}", id.short());
        }
        // A pack that was cut short is there to be seen.
        let excused = excused || stage.weather == Weather::Lying;
        assert!(excused || report.is_clean(), "O2: {:?}", report.damage);
    }

    /// O2: a check names the snapshots that damage touches and no others, and a collection that
    /// does what it may loses none of the others.
    pub(super) fn assert_named(&self, store: &MemoryStore, home: &Path) {
        let report = look(store, home);
        let whole = self.whole(store, home);
        for id in self.promised() {
            let touched = report.touched.iter().find(|touched| touched.snapshot == id);
            let named = touched.is_some_and(|t| t.files_total > 0 || t.item.is_none());
            let reads = whole.contains(&id);
            let why = &report.touched;
            assert_ne!(named, reads, "O2: {} restores: {reads}; {why:?}", id.short());
            assert!(reads || !report.is_clean(), "O2: {report:?}");
        }
        let other = scratch();
        let repo = open(Arc::new(store.clone()), other.path()).expect("it opens");
        let _ = collect(&repo, &all_at_once());
        let left = self.whole(store, home);
        let lost = whole.difference(&left).collect::<Vec<_>>();
        assert!(lost.is_empty(), "O1: collected under damage, {lost:?} are lost");
    }

    fn promised(&self) -> impl Iterator<Item = SnapshotId> {
        self.known.iter().filter(|(_, known)| known.promised).map(|(id, _)| *id)
    }

    /// The promised snapshots that restore; none may restore as something else.
    fn whole(&self, store: &MemoryStore, home: &Path) -> BTreeSet<SnapshotId> {
        let repo = open(Arc::new(store.clone()), home).expect("it opens");
        // What this host has kept is no proof that the store has it.
        repo.read_only_the_store();
        let (list, _) = SnapshotList::survey(&repo).expect("it lists");
        // As far as it can be read: while a segment is damaged no restore begins.
        let index = Inventory::take(&repo).expect("it is taken").index;
        let reader = Arc::new(ChunkReader::new(&repo, &index, 16 << 20));
        let mut whole = BTreeSet::new();
        for snapshot in &list.snapshots {
            if let Ok(picture) = read(&reader, snapshot) {
                self.known[&snapshot.id].assert_is(&snapshot.id, &picture, "O1: under damage");
                let _ = whole.insert(snapshot.id);
            }
        }
        whole
    }

    /// The snapshots that are listed and about which nothing is known.
    pub(super) fn doubtful(&self, repo: &Arc<Repository>, store: &MemoryStore) -> Vec<SnapshotId> {
        let listed = list(repo).0.snapshots.into_iter().map(|snapshot| snapshot.id);
        let doubtful = |id: &SnapshotId| {
            let known = &self.known[id];
            known.broken || !known.promised && self.is_expired(store, id)
        };
        listed.filter(doubtful).collect()
    }
}

impl Known {
    fn assert_is(&self, id: &SnapshotId, picture: &Picture, what: &str) {
        let differs = |path| self.picture.get(path) != picture.get(path);
        let paths = self.picture.keys().chain(picture.keys());
        let wrong: BTreeSet<_> = paths.filter(|path| differs(*path)).collect();
        let sides = wrong.first().map(|path| (self.picture.get(path), picture.get(path)));
        assert!(wrong.is_empty(), "{what} of {} differs at {wrong:?}: {sides:?}", id.short());
    }

    /// What owners said of it at the same time, one or several.
    fn note_said(&mut self, all: &[&Ended], alone: bool) {
        let is_ok = |ended: &&&Ended| matches!(ended.outcome, Outcome::Done);
        let is_undo = |ended: &&&Ended| matches!(ended.deed, Deed::Undo(_));
        let (before, said) = (self.promised, all.iter().any(|ended| ended.said));
        if alone && let (Deed::Forget(_), Outcome::Failed(why)) = (&all[0].deed, &all[0].outcome) {
            assert!(!before, "O5: what is listed cannot be forgotten: {why}");
        }
        if !said {
            return;
        }
        let undone = all.iter().filter(is_undo).any(|ended| is_ok(&ended));
        let tried = all.iter().any(|ended| is_undo(&ended) && ended.said);
        let forgot = all.iter().any(|ended| !is_undo(&ended) && ended.said);
        let is_lied = all.iter().any(|ended| ended.deceived);
        self.broken |= tried && !undone || is_lied;
        self.promised = undone && !forgot && !is_lied;
        self.forgotten = !tried && !is_lied && all.iter().any(|ended| is_ok(&ended));
        if undone && !is_lied {
            self.broken = false;
        }
    }
}

/// What is listed, and a reader of all of it.
pub(super) fn list(repo: &Arc<Repository>) -> (SnapshotList, Arc<ChunkReader>) {
    let list = SnapshotList::load(repo).expect("it lists");
    assert!(list.damaged.is_empty(), "{:?}", list.damaged);
    let index = Arc::new(repo.load_index().expect("the index loads"));
    (list, Arc::new(ChunkReader::new(repo, &index, 16 << 20)))
}

/// `check --read-data`, on a host that nobody disturbs.
pub(super) fn look(store: &MemoryStore, home: &Path) -> CheckReport {
    let repo = open(Arc::new(store.clone()) as Arc<dyn Store>, home).expect("it opens");
    let observer: Arc<dyn Observer> = Arc::new(Recorder::default());
    let options = CheckOptions { read: ReadData::All, memory: 64 << 20, clock: Clock::System };
    check(&repo, &options, &observer, &Interrupt::default()).expect("it checks")
}
