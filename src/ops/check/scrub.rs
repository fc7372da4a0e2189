//! Scrub: whether stored bytes still have the hashes that are their names. No key is needed.
//!
//! Packs and index segments are named so. What else lies in a store has names that say nothing of
//! its bytes; who holds a key checks it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::report::{DAMAGE_MAX, Damage, Fault};
use crate::clock::Stopwatch;
use crate::crypto::Hasher;
use crate::event::{Counters, Observer};
use crate::format::{PACK_BYTES_MAX, SEGMENT_BYTES_MAX};
use crate::ops::error::{Interrupt, OpsError};
use crate::repo::{HASHED_FOLDERS, RepoError, Repository, hash_in_name};
use crate::store::{Listed, Store, StoreError};

/// Bytes of an object that are asked for at once.
const PIECE_LEN: usize = 4 << 20;

/// Objects that are read side by side, at most: what waits for a store waits together.
const THREADS_MAX: usize = 8;

/// No format allows longer objects.
const OBJECT_LEN_MAX: u64 =
    if PACK_BYTES_MAX > SEGMENT_BYTES_MAX { PACK_BYTES_MAX } else { SEGMENT_BYTES_MAX };

/// How a store is scrubbed.
#[derive(Debug, Clone, Copy)]
pub struct ScrubOptions {
    /// Ceiling of memory in bytes.
    pub memory: u64,
}

/// What a scrub found.
#[derive(Debug, Clone, PartialEq)]
pub struct ScrubReport {
    /// Objects that were read.
    pub objects: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Damaged objects, in the order of their names.
    pub damage: Vec<Damage>,
    /// Damaged objects beyond those named.
    pub damage_more: u64,
    /// What is odd but harmless: object and remark.
    pub notices: Vec<(String, String)>,
    /// Seconds it took.
    pub seconds: f64,
}

impl ScrubReport {
    /// Whether nothing is damaged.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.damage.is_empty()
    }
}

/// What was found of an object.
enum Seen {
    Sound,
    /// Sound only when it was read again.
    Transient,
    Bad(Fault, String),
    /// Somebody deleted it since it was listed.
    Gone,
}

/// Reads every object whose name is the hash of its bytes, and compares.
///
/// Damage is no error; it stands in the report.
/// Errors: [`RepoError::NoRepository`]; the store fails, or it was interrupted.
pub fn scrub(
    store: &Arc<dyn Store>,
    options: ScrubOptions,
    observer: &Arc<dyn Observer>,
    interrupt: &Interrupt,
) -> Result<ScrubReport, OpsError> {
    let watch = Stopwatch::start();
    let mut damage = BTreeMap::new();
    match Repository::probe(&**store) {
        Ok(_) => {}
        Err(error @ RepoError::Object { .. }) => {
            let name = "vault.json".to_owned();
            let _ = damage.insert(name, (Fault::Damaged, super::why(&error)));
        }
        Err(error) => return Err(error.into()),
    }
    observer.stage("listing");
    let mut objects = Vec::new();
    for folder in HASHED_FOLDERS {
        let listed = store.list(folder).map_err(RepoError::from)?.into_iter();
        objects.extend(listed.filter_map(|object| Some((hash_in_name(&object.name)?, object))));
    }
    let bytes = objects.iter().map(|(_, object)| object.size).sum();
    observer.stage("reading objects");
    Counters::add(&observer.counters().bytes_total, bytes);
    let mut notices = Vec::new();
    for (object, seen) in read_all(store, &objects, options, observer, interrupt)? {
        let name = object.name.to_string();
        match seen {
            Seen::Sound | Seen::Gone => {}
            Seen::Transient => {
                notices.push((name, "was read well only the second time".to_owned()));
            }
            Seen::Bad(fault, why) => drop(damage.insert(name, (fault, why))),
        }
    }
    notices.sort();
    let damage_more = damage.len().saturating_sub(DAMAGE_MAX) as u64;
    let damage = damage.into_iter().take(DAMAGE_MAX);
    Ok(ScrubReport {
        objects: objects.len() as u64,
        bytes,
        damage: damage.map(|(object, (fault, why))| Damage { object, fault, why }).collect(),
        damage_more,
        notices,
        seconds: watch.elapsed().as_secs_f64(),
    })
}

/// Reads all objects, several at a time; gives those of which there is something to tell.
fn read_all<'o>(
    store: &Arc<dyn Store>,
    objects: &'o [([u8; 32], Listed)],
    options: ScrubOptions,
    observer: &Arc<dyn Observer>,
    interrupt: &Interrupt,
) -> Result<Vec<(&'o Listed, Seen)>, OpsError> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(&'o Listed, Seen)>, OpsError> {
        let mut found = Vec::new();
        let mut piece = vec![0; PIECE_LEN];
        while let Some((hash, object)) = objects.get(next.fetch_add(1, Ordering::Relaxed)) {
            let seen = interrupt.check().and_then(|()| look_at(store, hash, object, &mut piece));
            if seen.is_err() {
                // Others stop at their next object.
                next.store(objects.len(), Ordering::Relaxed);
            }
            match seen? {
                Seen::Sound => {}
                seen => found.push((object, seen)),
            }
            Counters::add(&observer.counters().bytes, object.size);
        }
        Ok(found)
    };
    let room = usize::try_from(options.memory / PIECE_LEN as u64).unwrap_or(usize::MAX);
    let threads = THREADS_MAX.min(room).min(objects.len()).max(1);
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut all = work();
        for other in others {
            let more = other.join().unwrap_or(Err(RepoError::Worker.into()));
            all = all.and_then(|mut all| more.map(|more| all.extend(more)).map(|()| all));
        }
        all
    })
}

fn look_at(
    store: &Arc<dyn Store>,
    hash: &[u8; 32],
    object: &Listed,
    piece: &mut [u8],
) -> Result<Seen, OpsError> {
    if object.size > OBJECT_LEN_MAX {
        let why = format!("it has {} bytes where {OBJECT_LEN_MAX} are allowed", object.size);
        return Ok(Seen::Bad(Fault::Damaged, why));
    }
    // The fault may lie in the way.
    for again in [false, true] {
        match digest_of(store, object, piece) {
            Ok(found) if found == *hash && again => return Ok(Seen::Transient),
            Ok(found) if found == *hash => return Ok(Seen::Sound),
            Ok(_) => {}
            Err(StoreError::NotFound(_)) if !is_listed(store, object)? => return Ok(Seen::Gone),
            Err(error @ StoreError::NotFound(_)) if again => {
                return Ok(Seen::Bad(Fault::Missing, error.to_string()));
            }
            Err(error) if error.is_damage() && again => {
                return Ok(Seen::Bad(Fault::Damaged, error.to_string()));
            }
            Err(error @ StoreError::Io { .. }) if again => {
                // Is it this object, or the whole store?
                let _ = store.list(HASHED_FOLDERS[1]).map_err(RepoError::from)?;
                return Ok(Seen::Bad(Fault::Unreadable, super::chain(&error)));
            }
            Err(error) if error.is_damage() || matches!(error, StoreError::Io { .. }) => {}
            Err(error) => return Err(RepoError::from(error).into()),
        }
    }
    Ok(Seen::Bad(Fault::Damaged, "its bytes do not have its name".to_owned()))
}

fn is_listed(store: &Arc<dyn Store>, object: &Listed) -> Result<bool, OpsError> {
    let folder = object.name.as_str().rsplit_once('/').map_or("", |(folder, _)| folder);
    let listed = store.list(folder).map_err(RepoError::from)?;
    Ok(listed.iter().any(|listed| listed.name == object.name))
}

fn digest_of(
    store: &Arc<dyn Store>,
    object: &Listed,
    piece: &mut [u8],
) -> Result<[u8; 32], StoreError> {
    let mut hasher = Hasher::new();
    let mut at = 0;
    while at < object.size {
        let left = usize::try_from(object.size - at).unwrap_or(usize::MAX);
        let len = left.min(piece.len());
        store.get_range(&object.name, at, &mut piece[..len])?;
        hasher.update(&piece[..len]);
        at += len as u64;
    }
    Ok(hasher.finish())
}
