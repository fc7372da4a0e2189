//! What a store keeps of the promises that the protocol rests on, seen by trying.
//!
//! The probe puts one small object below `probe/`, looks at it in every way and removes it again.

use crate::clock::{Clock, Time};
use crate::crypto::Payload;
use crate::store::{ObjectName, Store, StoreError};

/// How a store answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What was just written could be read, whole and in part.
    pub reads_back: bool,
    /// What was just written was listed, with its size.
    pub lists_written: bool,
    /// What was just deleted was neither listed nor read. None if it may not be deleted, which is
    /// right for a store that only the owner prunes.
    pub forgets_deleted: Option<bool>,
    /// How many seconds the store's clock is ahead of ours, beyond what the calls took; negative
    /// if it is behind.
    pub clock_ahead: i64,
}

impl Probe {
    /// Whether the store does what backups need.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.reads_back && self.lists_written && self.forgets_deleted != Some(false)
    }
}

/// Tries a store.
///
/// Errors: the first call that fails, so that a right that is missing is named; a missing right to
/// delete is no error.
pub fn probe(store: &dyn Store, clock: Clock) -> Result<Probe, StoreError> {
    let random = getrandom::u64().unwrap_or_default();
    // The random part makes the bytes differ too: a cache cannot answer for the store.
    let text = format!("vault asks whether this store works: {random:016x}\n");
    let Some(name) = ObjectName::parse(&format!("probe/{random:016x}")) else {
        return Err(StoreError::Location("the probe has no name".to_owned()));
    };
    let before = clock.now();
    store.put(&name, &Payload::public(text.clone().into_bytes()))?;
    let after = clock.now();
    let whole = store.get(&name, text.len() as u64)? == text.as_bytes();
    let mut part = [0; 8];
    store.get_range(&name, 6, &mut part)?;
    let listed = store.list("probe")?;
    let there = listed.iter().find(|object| object.name == name);
    let forgets_deleted = match store.delete(&name) {
        Ok(()) => Some(is_gone(store, &name)?),
        Err(StoreError::Denied { .. } | StoreError::Locked { .. }) => None,
        Err(error) => return Err(error),
    };
    Ok(Probe {
        reads_back: whole && text.as_bytes().get(6..14) == Some(&part[..]),
        lists_written: there.is_some_and(|object| object.size == text.len() as u64),
        forgets_deleted,
        clock_ahead: there.map_or(0, |object| ahead(object.modified, before, after)),
    })
}

fn is_gone(store: &dyn Store, name: &ObjectName) -> Result<bool, StoreError> {
    let unread = match store.get(name, 4096) {
        Err(StoreError::NotFound(_)) => true,
        Err(error) => return Err(error),
        Ok(_) => false,
    };
    Ok(unread && store.list("probe")?.iter().all(|object| object.name != *name))
}

/// How far a time lies outside of a span, in seconds.
fn ahead(time: Time, from: Time, to: Time) -> i64 {
    // Stores tell the second only.
    let (earliest, latest) = (from.seconds - 1, to.seconds + 1);
    match time.seconds {
        early if early < earliest => early.saturating_sub(earliest),
        late => late.saturating_sub(latest).max(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{CallKind, Fault, FaultPlan, FaultStore, MemoryStore};

    #[test]
    fn a_sound_store_is_found_sound_and_left_as_it_was() {
        let store = MemoryStore::new(Clock::System);
        let probe = probe(&store, Clock::System).expect("works");
        assert!(probe.is_sound(), "{probe:?}");
        assert_eq!((probe.forgets_deleted, probe.clock_ahead), (Some(true), 0));
        assert!(store.names().is_empty());
    }

    #[test]
    fn stores_that_lag_or_lie_are_found_out() {
        for (kind, fault) in
            [(CallKind::List, Fault::Truncate(1)), (CallKind::Get, Fault::Truncate(1))]
        {
            let plan = FaultPlan::at_kind(kind, 1, fault);
            let store = FaultStore::new(MemoryStore::new(Clock::System), plan);
            let probe = probe(&store, Clock::System).expect("answers");
            assert!(!probe.is_sound(), "{kind:?} {probe:?}");
            assert_eq!(store.hits().len(), 1);
        }
    }

    #[test]
    fn the_difference_of_clocks_is_told_beyond_what_the_calls_took() {
        let at = |seconds| Time::new(seconds, 0);
        for (time, difference) in [(100, 0), (111, 0), (99, 0), (120, 9), (40, -59)] {
            assert_eq!(ahead(at(time), at(100), at(110)), difference, "{time}");
        }
        let store = MemoryStore::new(Clock::Fixed(at(86_400)));
        let probe = probe(&store, Clock::Fixed(at(0))).expect("works");
        assert_eq!(probe.clock_ahead, 86_399);
    }
}
