//! What the owner said of snapshots: that they are forgotten, expired, or wanted back.
//!
//! Each says it under a name of its own, and of several the highest round counts. So nothing is
//! overwritten or removed, and a PUT that arrives late changes nothing that was said after it.

use std::collections::BTreeMap;

use super::error::RepoError;
use super::layout;
use super::repository::Repository;
use super::side_by_side::side_by_side;
use crate::clock::Time;
use crate::format::{
    ForgetKind, ForgetRecord, FormatError, ObjectKind, RECORD_BYTES_MAX, ROUND_MAX,
};
use crate::id::SnapshotId;
use crate::store::{Listed, ObjectName, StoreError};

/// What the owner said last of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// What was said.
    pub record: ForgetRecord,
    /// When, by the store's clock.
    pub stored: Time,
}

/// What was said of all snapshots.
#[derive(Debug, Default)]
pub(super) struct Tombstones {
    /// What counts, by snapshot.
    pub(super) last: BTreeMap<SnapshotId, Tombstone>,
    /// The round that was not used yet, by snapshot; 0 where there is none.
    next_round: BTreeMap<SnapshotId, u32>,
    /// Objects that the owner did not sign, or not for this place. They count for nothing.
    pub(super) forged: Vec<ObjectName>,
    /// Objects that cannot be read. What was said of their snapshots is not known.
    pub(super) damaged: Vec<(ObjectName, RepoError)>,
}

/// An object that may be a tombstone.
enum Word {
    Said(Tombstone),
    Forged,
    Damaged(RepoError),
    Gone,
}

impl Tombstones {
    /// Lists and reads them.
    ///
    /// Errors: of the store.
    pub(super) fn load(repo: &Repository) -> Result<Self, RepoError> {
        let mut listed: BTreeMap<SnapshotId, Vec<(u32, Listed)>> = BTreeMap::new();
        for object in repo.store().list(layout::FORGET)? {
            if let Some((id, round)) = layout::forgotten(&object.name) {
                listed.entry(id).or_default().push((round, object));
            }
        }
        let mut listed: Vec<_> = listed.into_iter().collect();
        for (_, rounds) in &mut listed {
            rounds.sort_unstable_by_key(|(round, _)| std::cmp::Reverse(*round));
        }
        let is_far = repo.store().is_far();
        let read = side_by_side(is_far, &listed, |(id, rounds)| read_last(repo, id, rounds))?;
        let mut all = Self::default();
        for ((id, rounds), words) in listed.into_iter().zip(read) {
            let _ = all.next_round.insert(id, rounds.first().map_or(0, |(round, _)| round + 1));
            for ((_, object), word) in rounds.into_iter().zip(words) {
                match word {
                    Word::Said(tombstone) => drop(all.last.insert(id, tombstone)),
                    Word::Forged => all.forged.push(object.name),
                    Word::Damaged(error) => all.damaged.push((object.name, error)),
                    Word::Gone => {}
                }
            }
        }
        Ok(all)
    }

    /// The round under which something new can be said of a snapshot.
    pub(super) fn next_round(&self, id: &SnapshotId) -> u32 {
        self.next_round.get(id).copied().unwrap_or(0)
    }
}

/// Reads from the highest round down to the first that counts. Below one that cannot be read none
/// does: it may have taken back what they say.
fn read_last(
    repo: &Repository,
    id: &SnapshotId,
    rounds: &[(u32, Listed)],
) -> Result<Vec<Word>, RepoError> {
    let mut words = Vec::new();
    for (round, object) in rounds {
        let word = match noted(repo, id, *round, object) {
            Some(tombstone) => Word::Said(tombstone),
            None => {
                let word = read(repo, id, *round, object.modified)?;
                if let Word::Said(tombstone) = &word {
                    repo.records().note(object, tombstone.record.encode());
                }
                word
            }
        };
        let ends = matches!(word, Word::Said(_) | Word::Damaged(_));
        words.push(word);
        if ends {
            break;
        }
    }
    Ok(words)
}

/// What was noted of a tombstone that is as it was then.
fn noted(repo: &Repository, id: &SnapshotId, round: u32, object: &Listed) -> Option<Tombstone> {
    let record = ForgetRecord::decode(&repo.records().get(object)?).ok()?;
    let fits = record.snapshot == *id && record.round == round;
    fits.then_some(Tombstone { record, stored: object.modified })
}

fn read(repo: &Repository, id: &SnapshotId, round: u32, stored: Time) -> Result<Word, RepoError> {
    let name = layout::forget(id, round);
    let opened = match repo.store().get(&name, RECORD_BYTES_MAX) {
        Ok(bytes) => repo.open_signed(ObjectKind::Forget, &name, &bytes),
        Err(StoreError::NotFound(_)) => return Ok(Word::Gone),
        Err(error) => Err(error.into()),
    };
    let decoded =
        opened.and_then(|message| ForgetRecord::decode(&message).map_err(RepoError::object(&name)));
    match decoded {
        Ok(record) if record.snapshot == *id && record.round == round => {
            Ok(Word::Said(Tombstone { record, stored }))
        }
        // Signed, but for another place: whoever holds the store put it here.
        Ok(_) | Err(RepoError::Object { source: FormatError::Signature { .. }, .. }) => {
            Ok(Word::Forged)
        }
        Err(error) if error.is_damage() => Ok(Word::Damaged(error)),
        Err(error) => Err(error),
    }
}

/// Whether a listing of `forget/`, begun just now, says that a backup expired in any round.
pub(super) fn is_expired(repo: &Repository, id: &SnapshotId) -> Result<bool, RepoError> {
    for object in repo.store().list(layout::FORGET)? {
        let Some((found, round)) = layout::forgotten(&object.name) else { continue };
        if found != *id {
            continue;
        }
        match read(repo, id, round, object.modified)? {
            Word::Said(tombstone) if tombstone.record.kind == ForgetKind::Expire => {
                return Ok(true);
            }
            Word::Damaged(error) => return Err(error),
            _ => {}
        }
    }
    Ok(false)
}

impl Repository {
    /// Stores what the owner says of a snapshot, and reads it back.
    ///
    /// It can be called again with the same record, whatever became of the first call.
    /// Errors: [`RepoError::Refused`] if something else was said in that round; of the store.
    pub fn put_tombstone(&self, record: &ForgetRecord) -> Result<(), RepoError> {
        self.check_writable()?;
        let (id, round) = (record.snapshot, record.round);
        if round > ROUND_MAX {
            let why = format!("snapshot {} was forgotten and taken back too often", id.short());
            return Err(RepoError::Refused(why));
        }
        let payload = self.seal_signed(ObjectKind::Forget, &record.encode())?;
        let put = self.store().put(&layout::forget(&id, round), &payload);
        // A name is taken if this was said before, here or by another owner: then that will do.
        match (read(self, &id, round, Time::default()), put) {
            (Ok(Word::Said(said)), put) if said.record.kind == record.kind => {
                if put.is_ok() {
                    let (name, said) = (layout::forget(&id, round), said.record.encode());
                    self.records().note_stored(&name, payload.len(), said);
                }
                Ok(())
            }
            (_, Err(error)) | (Err(RepoError::Store(error)), _) => Err(error.into()),
            (Ok(Word::Damaged(error)) | Err(error), Ok(())) => Err(error),
            (Ok(_), Ok(())) => Err(RepoError::Refused(format!(
                "something else was said of snapshot {} meanwhile",
                id.short()
            ))),
        }
    }

    /// As [`Repository::put_tombstone`] for many, a few at a time, until one fails or `stop` says
    /// so. Gives the snapshots it was done for, in order, and what ended it.
    pub fn put_tombstones(
        &self,
        records: &[ForgetRecord],
        stop: &(dyn Fn() -> bool + Sync),
    ) -> (Vec<SnapshotId>, Option<RepoError>) {
        let done = std::sync::Mutex::new(Vec::with_capacity(records.len()));
        let put = side_by_side(self.store().is_far(), records, |record| {
            if stop() {
                return Err(RepoError::Interrupted);
            }
            self.put_tombstone(record)?;
            done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(record.snapshot);
            Ok(())
        });
        let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let places: std::collections::HashMap<_, _> =
            records.iter().enumerate().map(|(at, record)| (record.snapshot, at)).collect();
        done.sort_by_key(|id| places.get(id).copied());
        (done, put.err())
    }
}
