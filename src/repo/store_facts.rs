//! What was seen of a store by trying it: kept in the configuration, so that every host knows, and
//! honoured by collectors (`collect/survey.rs`).

use std::time::Duration;

use super::collect::GRACE_LAGGING;
use super::error::RepoError;
use super::layout;
use super::repository::Repository;
use crate::clock::Time;
use crate::format::{Config, ObjectKind, StoreFacts};
use crate::store::Probe;

/// What is kept of a probe. Whether long lists are complete is another, dearer question.
#[must_use]
pub fn to_facts(probe: &Probe, lists_many: Option<bool>, now: Time) -> StoreFacts {
    StoreFacts {
        tried: now.seconds,
        lists_written: probe.lists_written,
        lists_many,
        creates_once: probe.creates_once,
    }
}

/// The least wait between condemning and deleting that must be asked for, if there is one.
#[must_use]
pub fn grace_min(repo: &Repository) -> Option<Duration> {
    repo.config().store.filter(|store| !store.lists_written).map(|_| GRACE_LAGGING)
}

/// Keeps what was seen of the store beside what was known, in a new configuration if that says
/// anything new. Gives what is known now; it counts from the next opening on.
///
/// Errors: [`RepoError::Refused`] if another host changed the configuration meanwhile; a store
/// that does not let it be written.
pub fn keep_facts(repo: &Repository, seen: StoreFacts) -> Result<StoreFacts, RepoError> {
    let known = repo.config().store;
    let all = known.map_or(seen, |known| known.and(seen));
    if known == Some(StoreFacts { tried: known.map_or(0, |known| known.tried), ..all }) {
        return Ok(all);
    }
    repo.check_writable()?;
    let sequence = repo.config().sequence;
    let (present, next) = (layout::config(sequence), layout::config(sequence + 1));
    let bytes = repo.store().get(&present, Config::BYTES_MAX)?;
    let message = repo.open_signed(ObjectKind::Config, &present, &bytes)?;
    let message = Config::amended(&message, sequence + 1, &all);
    let message = message.map_err(RepoError::object(&present))?;
    let changed = || RepoError::Refused("another host changed the configuration".to_owned());
    if repo.store().list(layout::CONFIG)?.iter().any(|object| object.name >= next) {
        return Err(changed());
    }
    let sealed = repo.seal_signed(ObjectKind::Config, &message)?;
    repo.store().put(&next, &sealed)?;
    // Nothing keeps two from writing the same number: the one whose bytes stay has said it.
    match repo.store().get(&next, Config::BYTES_MAX)? == sealed.to_vec() {
        true => Ok(all),
        false => Err(changed()),
    }
}
