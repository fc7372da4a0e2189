//! Makes index segments anew from what packs say of themselves.
//!
//! Packs that no segment names are read whole and named in new ones; the last of these stands for
//! the segments that cannot be read. Nothing is condemned: a collector lets go of those later. It
//! can be stopped anywhere and run at any time, several times at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::bounded;

use super::collect::Stop;
use super::error::RepoError;
use super::inventory::Inventory;
use super::layout;
use super::pack_reader::{OpenedPack, PackBuffers, PackReader};
use super::repository::Repository;
use super::segment_draft::SegmentDraft;
use crate::event::{Counters, Observer};
use crate::format::{FormatError, SegmentPack};
use crate::id::{PackId, SegmentId};

/// Packs that were opened and wait to be named, at most.
const OPENED_MAX: usize = 4;

/// What became of it.
#[derive(Debug, Default)]
pub struct Rebuilt {
    /// Packs that are named now.
    pub packs: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Chunks in them.
    pub chunks: u64,
    /// Segments stored.
    pub segments: u64,
    /// Bytes of these.
    pub stored_bytes: u64,
    /// Unreadable segments that the new ones stand for: all, or none while packs are left that may
    /// be whole.
    pub superseded: u64,
    /// Packs that are named by nothing still, and why.
    pub left: Vec<(PackId, RepoError)>,
}

/// Names the packs of the inventory that no segment names, and lets what is stored stand for
/// `unreadable` segments.
///
/// A damaged pack is named only if a condemn record names it, too, so that nothing new comes to
/// rest on it; what is whole in it can be read then.
/// Errors: of the store as a whole; those of `stop`.
pub fn rebuild_index(
    repo: &Arc<Repository>,
    inventory: &Inventory,
    unreadable: &[SegmentId],
    threads: usize,
    observer: &Arc<dyn Observer>,
    stop: Stop<'_>,
) -> Result<Rebuilt, RepoError> {
    repo.check_writable()?;
    let packs: Vec<(PackId, u64)> = inventory.unknown().map(|(id, size)| (*id, size)).collect();
    let reader = PackReader::new(repo);
    let next = AtomicUsize::new(0);
    let mut rebuilt = Rebuilt::default();
    let mut draft = SegmentDraft::default();
    std::thread::scope(|scope| -> Result<(), RepoError> {
        let (opened, opened_in) = bounded(OPENED_MAX);
        for _ in 0..threads.clamp(1, packs.len().max(1)) {
            let (reader, packs, next, opened) = (&reader, &packs, &next, opened.clone());
            let _ = scope.spawn(move || {
                let mut buffers = PackBuffers::default();
                while let Some((id, size)) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // Whoever took them has ended.
                    if opened.send((*id, *size, reader.open(id, *size, &mut buffers))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(opened);
        for (id, size, pack) in opened_in {
            stop()?;
            Counters::add(&observer.counters().bytes, size);
            match judge(repo, inventory, &id, pack)? {
                Ok(pack) => rebuilt.add(&mut draft, id, size, pack),
                Err(error) => rebuilt.left.push((id, error)),
            }
            if draft.is_full() {
                rebuilt.put(repo, std::mem::take(&mut draft))?;
            }
        }
        Ok(())
    })?;
    // Only now, and only if what they named, as far as it exists and counts, is named.
    if rebuilt.left.iter().all(|(id, _)| inventory.condemned.contains(id)) {
        draft.supersede(unreadable.iter().copied());
        rebuilt.superseded = unreadable.len() as u64;
    }
    rebuilt.put(repo, draft)?;
    rebuilt.left.sort_by_key(|(id, _)| *id);
    Ok(rebuilt)
}

/// Whether a pack can be named; inside, why not.
fn judge(
    repo: &Repository,
    inventory: &Inventory,
    id: &PackId,
    opened: Result<OpenedPack, RepoError>,
) -> Result<Result<OpenedPack, RepoError>, RepoError> {
    match opened {
        Ok(pack) if pack.is_whole || inventory.condemned.contains(id) => Ok(Ok(pack)),
        Ok(_) => {
            let error = FormatError::damaged("pack", "its bytes do not have its name");
            Ok(Err(RepoError::object(&layout::pack(id))(error)))
        }
        Err(error) if repo.blames_object(&error)? => Ok(Err(error)),
        Err(error) => Err(error),
    }
}

impl Rebuilt {
    fn add(&mut self, draft: &mut SegmentDraft, id: PackId, size: u64, pack: OpenedPack) {
        let OpenedPack { header, directory, .. } = pack;
        self.packs += 1;
        self.bytes += size;
        self.chunks += directory.frames.iter().map(|frame| frame.chunks.len() as u64).sum::<u64>();
        let (kind, salt) = (header.kind(), *header.salt());
        let pack = SegmentPack { id, kind, size, seal: 0, salt, directory };
        draft.add(pack, header.run_seal());
    }

    fn put(&mut self, repo: &Repository, draft: SegmentDraft) -> Result<(), RepoError> {
        let bytes = draft.put(repo)?;
        self.stored_bytes += bytes;
        self.segments += u64::from(bytes > 0);
        Ok(())
    }
}
