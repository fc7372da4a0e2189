//! Repacking: gives every needed chunk a holder that nobody condemns, before anything is condemned.
//!
//! What is read is hashed before it is stored, and opened, expanded and hashed again from the bytes
//! that are sent. A crash in between leaves two copies.

use std::sync::Arc;

use super::super::chunk_reader::ChunkReader;
use super::super::chunk_writer::{ChunkWriter, WriterOptions};
use super::super::error::RepoError;
use super::super::index::{Index, Place};
use super::super::layout;
use super::super::packer::RunKeys;
use super::super::repository::Repository;
use super::needed::{Needed, join};
use super::{Stop, lost, not_collected};
use crate::event::{Counters, Observer};
use crate::format::{FormatError, OpenedFrame};
use crate::id::{ChunkPrefix, PackId};

/// Chunks that are copied in one go, at most: what is known of them takes 40 bytes each.
const CHUNKS_MAX: usize = 1 << 21;

/// What was stored anew.
#[derive(Debug, Clone, Default)]
pub(super) struct Copied {
    /// Chunks.
    pub(super) chunks: u64,
    /// Their bytes before compression.
    pub(super) content: u64,
    /// Bytes of packs and segments stored.
    pub(super) stored_bytes: u64,
    /// The new packs.
    pub(super) packs: Vec<PackId>,
}

#[derive(Debug, Clone, Copy)]
struct Job {
    prefix: ChunkPrefix,
    place: Place,
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
    loop {
        let jobs = jobs(index, needed)?;
        if jobs.is_empty() {
            break;
        }
        let total = jobs.iter().map(|job| u64::from(job.place.len)).sum();
        Counters::add(&observer.counters().bytes_total, total);
        let (secret, seal) = repo.keyring().restore().public().seal(repo.id().as_bytes())?;
        let run = RunKeys { secret, seal };
        let mut writer = ChunkWriter::start(repo, index, run, options, observer);
        copied.chunks += jobs.len() as u64;
        copied.content += total;
        store(repo, index, &jobs, &mut writer, observer, stop)?;
        copied.stored_bytes += writer.finish()?.stored_bytes;
    }
    copied.packs = index.packs().into_iter().skip(before).map(|(pack, _)| pack.id).collect();
    Ok(copied)
}

/// The needed chunks without a usable holder, in the order of their places.
fn jobs(index: &Index, needed: &mut Needed) -> Result<Vec<Job>, RepoError> {
    let packs = index.packs();
    let mut jobs = Vec::new();
    join(index, needed, |prefix, is_needed, places| {
        if !is_needed || jobs.len() >= CHUNKS_MAX {
            return Ok(());
        }
        if places.iter().any(|place| packs[place.pack.number()].0.is_usable()) {
            return Ok(());
        }
        let place = places.iter().find(|place| packs[place.pack.number()].1);
        let place = *place.ok_or_else(|| lost(prefix))?;
        jobs.push(Job { prefix: *prefix, place });
        Ok(())
    })?;
    jobs.sort_unstable_by_key(|job| (job.place.pack, job.place.frame_offset, job.place.offset));
    Ok(jobs)
}

fn store(
    repo: &Arc<Repository>,
    index: &Arc<Index>,
    jobs: &[Job],
    writer: &mut ChunkWriter,
    observer: &Arc<dyn Observer>,
    stop: Stop<'_>,
) -> Result<(), RepoError> {
    // Each frame is opened once, so none need be kept.
    let reader = ChunkReader::new(repo, index, 0);
    let mut opened = OpenedFrame::default();
    let frame = |job: &Job| (job.place.pack, job.place.frame_offset);
    for jobs in jobs.chunk_by(|a, b| frame(a) == frame(b)) {
        stop()?;
        let Some(first) = jobs.first() else { continue };
        let pack = index.pack(first.place.pack);
        let damaged = |error: RepoError| match error.is_damage() {
            true => not_collected(&layout::pack(&pack.id))(error),
            false => error,
        };
        reader.open_frame(&first.place, &mut opened).map_err(damaged)?;
        for job in jobs {
            let start = job.place.offset as usize;
            let bytes = opened.content().get(start..start.saturating_add(job.place.len as usize));
            let named = bytes.map(|bytes| (bytes, repo.chunk_id(pack.kind, bytes)));
            let Some((bytes, id)) = named.filter(|(_, id)| id.prefix() == job.prefix) else {
                let why = format!("chunk {} has other content than its name", job.prefix.short());
                return Err(damaged(FormatError::damaged("pack", why).into()));
            };
            let _ = writer.store(pack.kind, id, bytes)?;
            Counters::add(&observer.counters().bytes, bytes.len() as u64);
        }
    }
    Ok(())
}
