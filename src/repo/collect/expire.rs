//! Backups that never came to their end: a tombstone of the owner gives them up.
//!
//! It is void if the snapshot's commit shows in a list begun after it was durable; a writer that
//! finds it after its commit does not acknowledge (B6). Time alone ends nothing.

use std::collections::BTreeSet;

use super::super::error::RepoError;
use super::super::repository::Repository;
use super::super::snapshots::read_pending;
use super::mark::Claim;
use super::view::{Listed, View};
use crate::clock::Time;
use crate::format::{ForgetKind, ForgetRecord};
use crate::id::{RecordHash, SnapshotId, WriterId};

/// The snapshots without a commit and without a tombstone whose record was written at `before` or
/// earlier, by the store's clock.
pub(super) fn expirable(view: &View, before: Time) -> BTreeSet<SnapshotId> {
    let old = |listed: &Listed| listed.pending.is_some_and(|written| written <= before);
    view.snapshots
        .iter()
        .filter(|(id, listed)| {
            !listed.ok && old(listed) && view.claim(id, **listed, &|_| true) == Claim::Needs
        })
        .map(|(id, _)| *id)
        .collect()
}

/// Expires a backup that has not come to its end; says whether this call did.
pub(super) fn expire(repo: &Repository, view: &View, id: &SnapshotId) -> Result<bool, RepoError> {
    // A record that cannot be read any more is expired all the same.
    let unknown = (WriterId::new([0; 16]), 0, RecordHash::new([0; 32]));
    let (writer, sequence, record) = match read_pending(repo, id) {
        Ok((record, hash)) => (record.writer, record.sequence, hash),
        Err(error) if error.is_damage() => unknown,
        Err(error) => return Err(error),
    };
    let kind = ForgetKind::Expire;
    let round = view.tombstones.next_round(id);
    let said = ForgetRecord { snapshot: *id, kind, writer, sequence, record, round };
    match repo.put_tombstone(&said) {
        Ok(()) => Ok(true),
        // The owner said something else of it meanwhile.
        Err(RepoError::Refused(_)) => Ok(false),
        Err(error) => Err(error),
    }
}
