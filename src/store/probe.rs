//! What a store keeps of the promises that the protocol rests on, seen by trying.
//!
//! The probe puts small objects below `probe/`, looks at them in every way and removes them again.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::clock::{Clock, Time};
use crate::crypto::Payload;
use crate::store::{Created, ObjectName, Store, StoreError};

/// How many try at once to create one object.
const RACERS: u32 = 16;

/// Names of which a list must show all: one more than stores put on a page.
pub const MANY: usize = 1001;

/// Calls that [`probe_many`] makes at the same time.
const SIDE_BY_SIDE: usize = 16;

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
    /// Whether of many that create one object at once exactly one succeeds. None if the store
    /// knows no such condition. Nothing rests on it.
    pub creates_once: Option<bool>,
    /// How many seconds the store's clock is ahead of ours, beyond what the calls took; negative
    /// if it is behind.
    pub clock_ahead: i64,
}

impl Probe {
    /// Whether the store does what backups need.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.is_usable() && self.lists_written
    }

    /// As [`Probe::is_sound`], but that its lists may lag behind what is written: what is pruned
    /// there must wait.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.reads_back && self.forgets_deleted != Some(false)
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
    let name = named(&format!("{random:016x}"))?;
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
    let creates_once = match forgets_deleted {
        Some(_) => race(store, &named(&format!("{random:016x}-race"))?)?,
        // What cannot be removed again is not left behind by the dozen.
        None => None,
    };
    Ok(Probe {
        creates_once,
        reads_back: whole && text.as_bytes().get(6..14) == Some(&part[..]),
        lists_written: there.is_some_and(|object| object.size == text.len() as u64),
        forgets_deleted,
        clock_ahead: there.map_or(0, |object| ahead(object.modified, before, after)),
    })
}

/// Whether a list of more names than fit on a page is complete. None if what it takes cannot be
/// put there or removed again.
///
/// Costs a thousand puts and as many deletions.
///
/// Errors: the first call that fails; what was put by then may stay.
pub fn probe_many(store: &dyn Store) -> Result<Option<bool>, StoreError> {
    let folder = format!("{:016x}-many", getrandom::u64().unwrap_or_default());
    let names = (0..MANY).map(|number| named(&format!("{folder}/{number}")));
    let names = names.collect::<Result<Vec<_>, _>>()?;
    let (first, rest) = names.split_at(1);
    let put = |name: &ObjectName| store.put(name, &Payload::public(vec![b'.']));
    first.iter().try_for_each(put)?;
    match first.iter().try_for_each(|name| store.delete(name)) {
        Err(StoreError::Denied { .. } | StoreError::Locked { .. }) => return Ok(None),
        other => other?,
    }
    first.iter().try_for_each(put)?;
    side_by_side(rest, &put)?;
    let listed = store.list(&format!("probe/{folder}"))?;
    let complete = listed.iter().map(|object| &object.name).eq(sorted(&names));
    side_by_side(&names, &|name| store.delete(name))?;
    Ok(Some(complete))
}

fn sorted(names: &[ObjectName]) -> Vec<&ObjectName> {
    let mut sorted: Vec<_> = names.iter().collect();
    sorted.sort();
    sorted
}

/// Calls for each name, several at a time; the first failure ends it.
fn side_by_side(
    names: &[ObjectName],
    call: &(dyn Fn(&ObjectName) -> Result<(), StoreError> + Sync),
) -> Result<(), StoreError> {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
    let work = || {
        while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = call(name) {
                next.store(names.len(), Ordering::Relaxed);
                *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            let _ = scope.spawn(work);
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// Lets many create one object at once, each with other bytes.
fn race(store: &dyn Store, name: &ObjectName) -> Result<Option<bool>, StoreError> {
    let (made, known) = (AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        for racer in 0..RACERS {
            let (made, known) = (&made, &known);
            let _ = scope.spawn(move || {
                let bytes = format!("racer {racer}\n").into_bytes();
                // A store may refuse a condition in many ways. Nothing rests on it.
                match store.create(name, &Payload::public(bytes)) {
                    Ok(Created::Made) => {
                        let _ = made.fetch_add(1, Ordering::Relaxed);
                        let _ = known.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(Created::Taken) => {
                        let _ = known.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(Created::Unknown) | Err(_) => {}
                }
            });
        }
    });
    let made = made.into_inner();
    if made > 0 {
        store.delete(name)?;
    }
    Ok((known.into_inner() == RACERS && made > 0).then_some(made == 1))
}

fn named(rest: &str) -> Result<ObjectName, StoreError> {
    let name = ObjectName::parse(&format!("probe/{rest}"));
    name.ok_or_else(|| StoreError::Location("the probe has no name".to_owned()))
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
        assert_eq!(probe.creates_once, Some(true));
        assert!(store.names().is_empty());
        assert_eq!(probe_many(&store).expect("works"), Some(true));
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
    fn a_list_that_leaves_out_one_of_many_is_found_out() {
        let plan = FaultPlan::at_kind(CallKind::List, 1, Fault::Truncate(1));
        let memory = MemoryStore::new(Clock::System);
        let store = FaultStore::new(memory.clone(), plan);
        assert_eq!(probe_many(&store).expect("answers"), Some(false));
        assert_eq!(store.hits().len(), 1);
        assert!(memory.names().is_empty());
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
