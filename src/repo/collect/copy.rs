//! Repacking: gives every needed chunk a holder that nobody condemns, before anything is condemned.
//!
//! What is read is hashed before it is stored, and opened, expanded and hashed again from the bytes
//! that are sent. A crash in between leaves two copies.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::chunk_writer::{ChunkWriter, WriterOptions};
use super::super::error::RepoError;
use super::super::index::{Index, PackRef};
use super::super::packer::RunKeys;
use super::super::repository::Repository;
use super::needed::{Needed, join};
use super::read::{ChunkCopy, read_copies};
use super::{Stop, lost};
use crate::event::{Counters, Observer};
use crate::id::PackId;

/// Chunks that are copied in one go, at most: what is known of them takes 40 bytes each.
const CHUNKS_MAX: usize = 1 << 21;

/// What was stored anew.
#[derive(Debug, Clone, Default)]
pub(super) struct Copied {
    /// Bytes of packs and segments stored.
    pub(super) stored_bytes: u64,
    /// The new packs.
    pub(super) packs: Vec<PackId>,
}

/// Stores anew every needed chunk that has no usable holder in `index`, where packs that are to go
/// were marked as condemned before.
///
/// Errors: [`RepoError::NotCollected`] for a chunk that has no sound copy.
pub(super) fn copy(
    repo: &Arc<Repository>,
    index: &Arc<Index>,
    needed: &mut Needed,
    options: WriterOptions,
    observer: &Arc<dyn Observer>,
    stop: Stop<'_>,
) -> Result<Copied, RepoError> {
    let before = index.packs().len();
    let mut copied = Copied::default();
    // Packs in which damage was met: each round finds one more, or comes to the end.
    let mut damaged = BTreeMap::new();
    loop {
        let stranded = stranded(index, needed, &mut damaged)?;
        if stranded.is_empty() {
            break;
        }
        let total = stranded.iter().map(|chunk| u64::from(chunk.place.len)).sum();
        Counters::add(&observer.counters().bytes_total, total);
        let (secret, seal) = repo.keyring().restore().public().seal(repo.id().as_bytes())?;
        let run = RunKeys { secret, seal };
        let mut writer = ChunkWriter::start(repo, index, run, options, observer);
        let store = |kind, id, bytes: &[u8]| {
            let _ = writer.store(kind, id, bytes)?;
            Counters::add(&observer.counters().bytes, bytes.len() as u64);
            Ok(())
        };
        read_copies(repo, index, stranded, stop, store, |pack, error| {
            let _ = damaged.entry(pack).or_insert(error);
            Ok(())
        })?;
        copied.stored_bytes += writer.finish()?.stored_bytes;
    }
    copied.packs = index.packs().into_iter().skip(before).map(|(pack, _)| pack.id).collect();
    Ok(copied)
}

/// The needed chunks without a usable holder, each in a pack that is not known as damaged.
///
/// Errors: what is wrong with such a pack, if a chunk has no other place.
fn stranded(
    index: &Index,
    needed: &mut Needed,
    damaged: &mut BTreeMap<PackRef, RepoError>,
) -> Result<Vec<ChunkCopy>, RepoError> {
    let packs = index.packs();
    let mut stranded = Vec::new();
    join(index, needed, |prefix, is_needed, places| {
        if !is_needed || stranded.len() >= CHUNKS_MAX {
            return Ok(());
        }
        if places.iter().any(|place| packs[place.pack.number()].0.is_usable()) {
            return Ok(());
        }
        let mut present = places.iter().filter(|place| packs[place.pack.number()].1);
        let place = match present.clone().find(|place| !damaged.contains_key(&place.pack)) {
            Some(place) => *place,
            None => {
                let known = present.find_map(|place| damaged.remove(&place.pack));
                return Err(known.unwrap_or_else(|| lost(prefix)));
            }
        };
        stranded.push(ChunkCopy { prefix: *prefix, place });
        Ok(())
    })?;
    Ok(stranded)
}
