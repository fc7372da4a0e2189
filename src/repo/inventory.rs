//! What a store holds of a repository: every segment read and checked anew, every pack listed.
//!
//! Nothing is taken from the cache, where a segment that is damaged by now may still be known.
//! Damage is collected; what can still be read makes an index of its own.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FlockOperation;

use super::cache_files::make_private_dir;
use super::error::RepoError;
use super::index::{Index, Listing, segment_ids};
use super::layout;
use super::repository::Repository;
use crate::clock::Time;
use crate::crypto::{RunSeal, digest, random_bytes};
use crate::format::{CondemnRecord, PackDirectory, PackHeader, PackKind, SegmentRecord};
use crate::id::{PackId, SegmentId, hex};
use crate::store::{Listed, ObjectName, StoreError};

/// First part of the names of such folders.
pub(super) const FOLDER_PREFIX: &str = "inventory-";

/// A pack as a segment names it.
#[derive(Debug, Clone)]
pub struct KnownPack {
    /// Its id.
    pub id: PackId,
    /// What it holds.
    pub kind: PackKind,
    /// Its size in bytes.
    pub size: u64,
    /// Its salt.
    pub salt: [u8; 32],
    /// The sealed secret of its run.
    pub seal: Arc<RunSeal>,
    /// A segment that lists what it holds.
    pub segment: SegmentId,
    /// Chunks in it.
    pub chunks: u64,
    /// Whether only condemned segments name it: nothing but an old snapshot may need it.
    pub condemned: bool,
    directory: [u8; 32],
}

impl KnownPack {
    /// Whether this is what the segment says that the pack holds.
    #[must_use]
    pub fn holds(&self, directory: &PackDirectory) -> bool {
        digest(&directory.encode()) == self.directory
    }
}

/// What a store holds.
#[derive(Debug)]
pub struct Inventory {
    /// Where chunks lie, by the segments that could be read.
    pub index: Arc<Index>,
    /// The packs in segments that could be read.
    pub known: BTreeMap<PackId, KnownPack>,
    /// The packs the store lists, with their sizes in bytes.
    pub listed: BTreeMap<PackId, u64>,
    /// Packs that condemn records name: they may be gone at any time.
    pub condemned: HashSet<PackId>,
    /// When the listed packs were written, by the store's clock.
    pub(super) written: HashMap<PackId, Time>,
    /// The segments the store lists.
    pub(super) listed_segments: BTreeSet<SegmentId>,
    /// The segments that could be read, each with its size and the packs it names.
    pub(super) contents: BTreeMap<SegmentId, (u64, Vec<PackId>)>,
    /// Segments the store lists.
    pub segments: u64,
    /// Bytes of these.
    pub segment_bytes: u64,
    /// The segments that others stand for, which no condemn record names: nothing rests on them.
    pub superseded: BTreeSet<SegmentId>,
    /// Segments and condemn records that cannot be read, and why; not what is superseded.
    pub damaged: Vec<(ObjectName, RepoError)>,
    _folder: Option<Folder>,
}

impl Inventory {
    /// Lists and reads segments, then lists packs: whatever a segment names was stored before.
    ///
    /// Snapshots that were listed before have all they need in it.
    /// Errors: [`RepoError::Store`] if the store as a whole fails, [`RepoError::Local`].
    pub fn take(repo: &Repository) -> Result<Self, RepoError> {
        let (segments, packs) = Self::list(repo)?;
        // Condemned last: what was removed under us is named there.
        match repo.condemn_records(&Default::default()) {
            Ok(records) => {
                let records = records.into_iter().map(|(_, record)| record);
                Self::build(repo, &segments, &packs, records, Vec::new())
            }
            Err(RepoError::Object { name, source }) => {
                let damaged = vec![(name.clone(), RepoError::Object { name, source })];
                Self::build(repo, &segments, &packs, std::iter::empty(), damaged)
            }
            Err(error) => Err(error),
        }
    }

    /// As [`Inventory::take`], with condemn records that were listed before: what a collector
    /// takes for a holder is in none of them.
    pub(super) fn take_after<'r>(
        repo: &Repository,
        condemns: impl Iterator<Item = &'r CondemnRecord>,
    ) -> Result<Self, RepoError> {
        let (segments, packs) = Self::list(repo)?;
        Self::build(repo, &segments, &packs, condemns.cloned(), Vec::new())
    }

    fn list(repo: &Repository) -> Result<(Vec<Listed>, Vec<Listed>), RepoError> {
        Ok((repo.store().list(layout::INDEX)?, repo.store().list(layout::PACKS)?))
    }

    fn build(
        repo: &Repository,
        segments: &[Listed],
        packs: &[Listed],
        condemns: impl Iterator<Item = CondemnRecord>,
        damaged: Vec<(ObjectName, RepoError)>,
    ) -> Result<Self, RepoError> {
        // Without it the tables are in memory.
        let folder = Folder::make(&repo.dirs().cache);
        let nowhere = PathBuf::from("/dev/null/none");
        let place = folder.as_ref().map_or(nowhere, |folder| folder.path.clone());
        let segment_list = segment_ids(segments);
        let mut listing =
            Listing { segments: segment_list, superseded_too: true, ..Listing::default() };
        let (mut listed, mut written) = (BTreeMap::new(), HashMap::new());
        for object in packs {
            let id = layout::id_of(&object.name, "");
            if let Some(id) = id.filter(|id| layout::pack(id) == object.name) {
                let _ = listed.insert(id, object.size);
                let _ = written.insert(id, object.modified);
            }
        }
        listing.packs = listed.iter().map(|(id, size)| (*id, *size)).collect();
        for record in condemns {
            listing.condemned_packs.extend(record.packs);
            listing.condemned_segments.extend(record.segments);
        }
        let sizes: HashMap<SegmentId, u64> = segments
            .iter()
            .filter_map(|object| Some((layout::id_of(&object.name, "")?, object.size)))
            .collect();
        let found = RefCell::new((damaged, BTreeMap::new(), BTreeMap::new()));
        let superseded = RefCell::new(BTreeSet::new());
        let index = Index::load(&place, &listing, |id| {
            let condemned = listing.condemned_segments.contains(id);
            let (damaged, known, contents) = &mut *found.borrow_mut();
            match repo.read_segment(id) {
                Ok(record) => {
                    let packs = record.packs.iter().map(|pack| pack.id).collect();
                    if !condemned {
                        superseded.borrow_mut().extend(record.supersedes.iter().copied());
                    }
                    let size = sizes.get(id).copied().unwrap_or(0);
                    let _ = contents.insert(*id, (size, packs));
                    note_packs(id, &record, condemned, known, damaged);
                    Ok(record)
                }
                Err(error) if repo.blames_object(&error)? => {
                    let for_now = matches!(&error, RepoError::Store(said) if !said.is_damage());
                    match (condemned, for_now) {
                        // Whether it goes is decided by what it says.
                        (true, true) => return Err(error),
                        // One that is on its way out may be gone by now.
                        (true, false) => {}
                        (false, _) => damaged.push((layout::segment(id), error)),
                    }
                    Ok(SegmentRecord::default())
                }
                Err(error) => Err(error),
            }
        })?;
        let (mut damaged, known, contents) = found.into_inner();
        let mut superseded = superseded.into_inner();
        superseded
            .retain(|id| listing.segments.contains(id) && !listing.condemned_segments.contains(id));
        let stood_for: HashSet<ObjectName> = superseded.iter().map(layout::segment).collect();
        damaged.retain(|(name, _)| !stood_for.contains(name));
        Ok(Self {
            index: Arc::new(index),
            known,
            listed,
            condemned: listing.condemned_packs,
            written,
            listed_segments: listing.segments,
            contents,
            superseded,
            segments: segments.len() as u64,
            segment_bytes: segments.iter().map(|object| object.size).sum(),
            damaged,
            _folder: folder.ok(),
        })
    }

    /// The segments that are there, cannot be read, and have no other that stands for them.
    pub fn unreadable_segments(&self) -> impl Iterator<Item = (SegmentId, &RepoError)> {
        self.damaged.iter().filter_map(|(name, error)| {
            let id = layout::id_of(name, "").filter(|id| layout::segment(id) == *name)?;
            let gone = matches!(error, RepoError::Store(StoreError::NotFound(_)));
            let damaged = error.is_damage() && !gone && !self.contents.contains_key(&id);
            damaged.then_some((id, error))
        })
    }

    /// Packs that the store lists and no segment names: an interrupted run leaves such.
    pub fn unknown(&self) -> impl Iterator<Item = (&PackId, u64)> {
        let unknown = |(id, _): &(&PackId, &u64)| !self.known.contains_key(*id);
        self.listed.iter().filter(unknown).map(|(id, size)| (id, *size))
    }
}

/// The name of a pack in the store.
#[must_use]
pub fn pack_name(id: &PackId) -> ObjectName {
    layout::pack(id)
}

/// The name of a snapshot's record in the store.
#[must_use]
pub fn snapshot_record_name(id: &crate::id::SnapshotId) -> ObjectName {
    layout::pending(id)
}

impl Repository {
    /// Whether a failure is that of one object: it is damaged, or cannot be read while the store
    /// answers otherwise.
    ///
    /// Errors: what the store says if it fails as a whole.
    pub fn blames_object(&self, error: &RepoError) -> Result<bool, RepoError> {
        match error {
            error if error.is_damage() => Ok(true),
            RepoError::Store(StoreError::Io { .. }) => Self::probe(&**self.store()).map(|_| true),
            _ => Ok(false),
        }
    }
}

fn note_packs(
    segment: &SegmentId,
    record: &SegmentRecord,
    condemned: bool,
    known: &mut BTreeMap<PackId, KnownPack>,
    damaged: &mut Vec<(ObjectName, RepoError)>,
) {
    let mut seals: HashMap<usize, Arc<RunSeal>> = HashMap::new();
    let mut blame = |why: String| {
        let error = crate::format::FormatError::damaged("index segment", why);
        let name = layout::segment(segment);
        damaged.push((name.clone(), RepoError::object(&name)(error)));
    };
    for pack in &record.packs {
        let frames = &pack.directory.frames;
        let frame_bytes: u64 = frames.iter().map(|frame| u64::from(frame.stored_len)).sum();
        if PackHeader::LEN as u64 + frame_bytes > pack.size {
            blame(format!("it names frames beyond the end of pack {}", pack.id.short()));
        }
        let seal = seals.entry(pack.seal);
        let seal = seal.or_insert_with(|| Arc::new(record.seals[pack.seal].clone()));
        let new = KnownPack {
            id: pack.id,
            kind: pack.kind,
            size: pack.size,
            salt: pack.salt,
            seal: seal.clone(),
            segment: *segment,
            chunks: frames.iter().map(|frame| frame.chunks.len() as u64).sum(),
            condemned,
            directory: digest(&pack.directory.encode()),
        };
        let first = known.entry(pack.id).or_insert_with(|| new.clone());
        first.condemned &= condemned;
        let same = (first.kind, first.size, first.salt, first.directory)
            == (new.kind, new.size, new.salt, new.directory);
        if !same || first.seal != new.seal {
            let other = first.segment.short();
            blame(format!("segment {other} says otherwise of pack {}", pack.id.short()));
        }
    }
}

/// A folder for tables that nobody else uses and that goes with its inventory.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    _lock: File,
}

impl Folder {
    pub(super) fn make(cache: &Path) -> Result<Self, RepoError> {
        make_private_dir(cache).map_err(RepoError::local("create", cache))?;
        remove_left_behind(cache);
        let name = format!("{FOLDER_PREFIX}{}", hex(&random_bytes::<8>()?));
        let path = cache.join(name);
        std::fs::create_dir(&path).map_err(RepoError::local("create", &path))?;
        let lock = File::open(&path).map_err(RepoError::local("open", &path))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| RepoError::local("lock", &path)(error.into()))?;
        Ok(Self { path, _lock: lock })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Removes the folders of killed runs: those that nobody holds.
fn remove_left_behind(cache: &Path) {
    let Ok(entries) = std::fs::read_dir(cache) else { return };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        if !name.to_str().is_some_and(|name| name.starts_with(FOLDER_PREFIX)) {
            continue;
        }
        let held = File::open(entry.path()).is_ok_and(|folder| {
            rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive).is_err()
        });
        if !held {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
