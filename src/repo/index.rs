//! Where chunks lie: the tables of all stored segments, and what the present run has added.
//!
//! Segments are fetched once, checked, and turned into sorted tables in the cache directory. A
//! chunk counts as stored only in a pack that the store lists and that no condemn record names.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hashbrown::HashMap;

use super::cache_files::make_private_dir;
use super::error::RepoError;
use super::index_files::{
    merge, merge_records, merge_small, open_tables, open_written, remove, sort_for_merge,
    write_table,
};
use super::index_table::{Record, Table, TablePack};
use super::layout;
use crate::crypto::{RunSeal, digest};
use crate::format::{FrameEntry, PackHeader, PackKind, SegmentRecord};
use crate::id::{ChunkId, ChunkPrefix, PackId, SegmentId};
use crate::store::StoreError;

/// More tables than this are merged into fewer when the index is loaded.
const TABLES_MAX: usize = 8;

/// More tables than this are never open: a look-up asks each of them, and each is an open file.
const TABLES_OPEN_MAX: usize = 64;

/// A pack, by its place in the index of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackRef(u32);

impl PackRef {
    /// Its place in what [`Index::packs`] gives.
    pub(super) fn number(self) -> usize {
        self.0 as usize
    }
}

/// What the index knows of a pack.
#[derive(Debug)]
pub struct PackInfo {
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
    present: bool,
    condemned: AtomicBool,
    relied: AtomicBool,
    distrusted: AtomicBool,
}

impl PackInfo {
    /// Whether new snapshots may refer to it.
    pub(super) fn is_usable(&self) -> bool {
        self.present
            && !self.condemned.load(Ordering::Relaxed)
            && !self.distrusted.load(Ordering::Relaxed)
    }
}

/// Where a chunk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The pack.
    pub pack: PackRef,
    /// Start of the frame in the pack, in bytes.
    pub frame_offset: u32,
    /// Stored length of the frame in bytes.
    pub frame_len: u32,
    /// Start of the chunk in the frame's content, in bytes.
    pub offset: u32,
    /// Length of the chunk in bytes.
    pub len: u32,
}

/// A chunk the present run has added.
#[derive(Debug, Clone, Copy)]
enum Recent {
    InFlight,
    Stored(Place),
}

#[derive(Default)]
struct State {
    tables: Vec<Mapped>,
    packs: Vec<Arc<PackInfo>>,
    by_id: HashMap<PackId, u32>,
    seals: HashSet<Arc<RunSeal>>,
    recent: HashMap<ChunkPrefix, Recent>,
}

/// A table, and which pack of the index each of its packs is.
struct Mapped {
    table: Arc<Table>,
    packs: Vec<u32>,
    /// Whether all its segments are condemned.
    condemned: bool,
}

/// The index of a repository, as this process sees it.
pub struct Index {
    dir: PathBuf,
    state: RwLock<State>,
    merging: Mutex<()>,
}

/// What the store showed when the index was loaded.
#[derive(Debug, Clone, Default)]
pub(super) struct Listing {
    /// Segments the store lists.
    pub(super) segments: BTreeSet<SegmentId>,
    /// Packs the store lists, with their sizes in bytes.
    pub(super) packs: HashMap<PackId, u64>,
    /// Packs that condemn records name.
    pub(super) condemned_packs: HashSet<PackId>,
    /// Segments that condemn records name.
    pub(super) condemned_segments: HashSet<SegmentId>,
    /// Whether also segments are read that others stand for.
    pub(super) superseded_too: bool,
}

impl Index {
    /// Brings the tables in `dir` in line with what the store lists; `fetch` reads a segment.
    pub(super) fn load(
        dir: &Path,
        listing: &Listing,
        fetch: impl Fn(&SegmentId) -> Result<SegmentRecord, RepoError>,
    ) -> Result<Self, RepoError> {
        // A cache that cannot be made is none: tables are in memory then.
        let _ = make_private_dir(dir);
        let (condemned, sound): (BTreeSet<_>, BTreeSet<_>) =
            listing.segments.iter().partition(|id| listing.condemned_segments.contains(*id));
        let (mut tables, mut doomed) = open_tables(dir, &sound, &condemned)?;
        for (wanted, tables) in [(&sound, &mut tables), (&condemned, &mut doomed)] {
            let mut have: BTreeSet<SegmentId> =
                tables.iter().flat_map(|table| table.segments()).copied().collect();
            let mut unread = Vec::new();
            for id in wanted.iter() {
                if have.contains(id) {
                    continue;
                }
                match fetch(id) {
                    Ok(record) => {
                        // Its table stands for those, too, which may be damaged.
                        let counts = !listing.superseded_too && !condemned.contains(id);
                        let stands_for = |old: &&SegmentId| counts && wanted.contains(*old);
                        let old = record.supersedes.iter().filter(stands_for);
                        let mut all = vec![*id];
                        all.extend(old.filter(|old| !have.contains(*old)));
                        all[1..].sort_unstable();
                        all.dedup();
                        tables.push(write_table(dir, &all, &record)?);
                        have.extend(all);
                        if tables.len() > TABLES_OPEN_MAX {
                            *tables = merge_small(dir, std::mem::take(tables))?;
                        }
                    }
                    // A collector deleted it since it was listed: nobody needs its packs.
                    Err(RepoError::Store(StoreError::NotFound(_))) => {}
                    // Nothing may rest on what a condemned one says.
                    Err(error) if condemned.contains(id) && error.is_damage() => {}
                    Err(error) if error.is_damage() => unread.push((*id, error)),
                    Err(error) => return Err(error),
                }
            }
            // One that was read later may stand for it.
            if let Some((_, error)) = unread.into_iter().find(|(id, _)| !have.contains(id)) {
                return Err(error);
            }
        }
        if tables.len() > TABLES_MAX {
            tables = merge_small(dir, tables)?;
        }
        let index =
            Self { dir: dir.to_owned(), state: RwLock::default(), merging: Mutex::default() };
        let mut state = index.write();
        let listed = |pack: &TablePack| listing.packs.get(&pack.id) == Some(&pack.size);
        for table in tables {
            state.adopt(table, false, listed);
        }
        // What only a condemned segment names can be read, but nothing new may refer to it.
        let sound_packs = state.packs.len();
        for table in doomed {
            state.adopt(table, true, listed);
        }
        for (number, pack) in state.packs.iter().enumerate() {
            let condemned = number >= sound_packs || listing.condemned_packs.contains(&pack.id);
            pack.condemned.store(condemned, Ordering::Relaxed);
        }
        drop(state);
        Ok(index)
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the repository will have the chunk: if not, the caller is to store it now, and
    /// nobody else of this run will be told to.
    ///
    /// A pack that is relied on in this way is remembered for [`Index::condemn`].
    pub fn claim(&self, id: &ChunkId) -> Result<bool, RepoError> {
        if self.rely(id)? {
            return Ok(true);
        }
        let _ = self.write().recent.insert(id.prefix(), Recent::InFlight);
        Ok(false)
    }

    /// Whether the repository has the chunk; as [`Index::claim`], but promises nothing if not.
    pub fn rely(&self, id: &ChunkId) -> Result<bool, RepoError> {
        let state = self.read();
        if matches!(state.recent.get(&id.prefix()), Some(Recent::InFlight)) {
            return Ok(true);
        }
        let place = state.usable(&id.prefix())?;
        if let Some(place) = place {
            state.packs[place.pack.0 as usize].relied.store(true, Ordering::Relaxed);
        }
        Ok(place.is_some())
    }

    /// Where the chunk lies in a pack that can be relied on.
    pub fn find(&self, id: &ChunkId) -> Result<Option<Place>, RepoError> {
        self.read().usable(&id.prefix())
    }

    /// Every place where the chunk may lie, also in packs that are condemned.
    pub fn find_all(&self, id: &ChunkId) -> Result<Vec<Place>, RepoError> {
        let state = self.read();
        let mut places = Vec::new();
        if let Some(Recent::Stored(place)) = state.recent.get(&id.prefix()) {
            places.push(*place);
        }
        state.each(&id.prefix(), |place, pack| {
            if pack.present {
                places.push(place);
            }
            false
        })?;
        Ok(places)
    }

    /// Every place that is recorded for the chunk, also in packs that the store does not list.
    pub fn find_recorded(&self, id: &ChunkId) -> Result<Vec<Place>, RepoError> {
        let mut places = Vec::new();
        self.read().each(&id.prefix(), |place, _| {
            places.push(place);
            false
        })?;
        Ok(places)
    }

    /// The place of a pack in this index, if it knows the pack.
    #[must_use]
    pub fn pack_ref(&self, id: &PackId) -> Option<PackRef> {
        self.read().by_id.get(id).copied().map(PackRef)
    }

    /// Something in the pack could not be read: nothing new may refer to it.
    pub(super) fn distrust(&self, pack: PackRef) {
        self.pack(pack).distrusted.store(true, Ordering::Relaxed);
    }

    /// The packs in which something could not be read.
    pub(super) fn distrusted(&self) -> Vec<PackId> {
        let state = self.read();
        let distrusted = state.packs.iter().filter(|pack| pack.distrusted.load(Ordering::Relaxed));
        distrusted.map(|pack| pack.id).collect()
    }

    /// Whether this run came to rely on a pack before it was distrusted.
    pub(super) fn relies_on_distrusted(&self) -> bool {
        let both = |pack: &Arc<PackInfo>| {
            pack.relied.load(Ordering::Relaxed) && pack.distrusted.load(Ordering::Relaxed)
        };
        self.read().packs.iter().any(both)
    }

    /// What is known of a pack.
    #[must_use]
    pub fn pack(&self, pack: PackRef) -> Arc<PackInfo> {
        self.read().packs[pack.0 as usize].clone()
    }

    /// All packs, with whether the store lists them.
    #[must_use]
    pub fn packs(&self) -> Vec<(Arc<PackInfo>, bool)> {
        self.read().packs.iter().map(|pack| (pack.clone(), pack.present)).collect()
    }

    /// Every record of every table, as chunk prefix and place.
    pub fn scan(
        &self,
        mut each: impl FnMut(ChunkPrefix, Place) -> Result<(), RepoError>,
    ) -> Result<(), RepoError> {
        let state = self.read();
        state.tables.iter().try_for_each(|mapped| {
            mapped.table.scan(|record| each(record.prefix, mapped.place(&record)))
        })
    }

    /// As [`Index::scan`], but in order of prefixes: copies of a chunk come one after the other.
    pub fn scan_sorted(
        &self,
        mut each: impl FnMut(ChunkPrefix, Place) -> Result<(), RepoError>,
    ) -> Result<(), RepoError> {
        let state = self.read();
        let tables = state.tables.iter().map(|mapped| (&*mapped.table, mapped.packs.clone()));
        merge_records(tables.collect(), |record| {
            let pack = PackRef(record.pack);
            let Record { prefix, frame_offset, frame_len, offset, len, .. } = record;
            each(prefix, Place { pack, frame_offset, frame_len, offset, len })
        })
    }

    /// Takes note of a pack that was stored: its chunks can be found from now on.
    pub(super) fn add_pack(&self, pack: TablePack, frames: &[FrameEntry]) {
        let mut state = self.write();
        let number = state.register(&pack, true);
        // Whoever condemns it now, as an orphan, condemns what this run's snapshot will need.
        state.packs[number as usize].relied.store(true, Ordering::Relaxed);
        let mut offset = header_len();
        for frame in frames {
            let mut at = 0;
            for (prefix, len) in &frame.chunks {
                let place = Place {
                    pack: PackRef(number),
                    frame_offset: offset,
                    frame_len: frame.stored_len,
                    offset: at,
                    len: *len,
                };
                let _ = state.recent.insert(*prefix, Recent::Stored(place));
                at += len;
            }
            offset += frame.stored_len;
        }
    }

    /// Takes note of a segment that was stored: its chunks move from memory to a table.
    pub(super) fn add_segment(
        &self,
        id: SegmentId,
        record: &SegmentRecord,
    ) -> Result<(), RepoError> {
        let table = write_table(&self.dir, &[id], record)?;
        let mut state = self.write();
        state.adopt(table, false, |_| true);
        for pack in &record.packs {
            for (prefix, _) in pack.directory.frames.iter().flat_map(|frame| &frame.chunks) {
                let _ = state.recent.remove(prefix);
            }
        }
        drop(state);
        self.merge_many()
    }

    /// Merges small tables when a long run has added many. Look-ups go on meanwhile.
    fn merge_many(&self) -> Result<(), RepoError> {
        let _alone = self.merging.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.read();
        let sound = state.tables.iter().filter(|mapped| !mapped.condemned);
        let mut tables: Vec<Arc<Table>> = sound.map(|mapped| mapped.table.clone()).collect();
        drop(state);
        if tables.len() <= TABLES_OPEN_MAX {
            return Ok(());
        }
        let small = sort_for_merge(&mut tables);
        tables.truncate(small);
        let merged = merge(&self.dir, &tables)?;
        let mut state = self.write();
        let is_merged = |mapped: &Mapped| tables.iter().any(|t| Arc::ptr_eq(t, &mapped.table));
        state.tables.retain(|mapped| !is_merged(mapped));
        remove(&tables, &merged);
        // Their filters are given back before that of the merged table is read.
        drop(tables);
        state.adopt(open_written(merged)?, false, |_| true);
        Ok(())
    }

    /// How many chunks are kept in memory.
    pub(super) fn recent_len(&self) -> usize {
        self.read().recent.len()
    }

    /// The packs of every table that a segment is in: those it names, and perhaps more.
    pub(super) fn packs_beside(&self, segment: &SegmentId) -> Vec<PackId> {
        let state = self.read();
        let tables = state.tables.iter().filter(|mapped| mapped.table.segments().contains(segment));
        tables.flat_map(|mapped| mapped.table.packs()).map(|pack| pack.id).collect()
    }

    /// Marks packs that a condemn record names; says whether this run relies on one of them.
    pub(super) fn condemn(&self, packs: &HashSet<PackId>) -> bool {
        let mut relied = false;
        for pack in self.read().packs.iter().filter(|pack| packs.contains(&pack.id)) {
            pack.condemned.store(true, Ordering::Relaxed);
            relied |= pack.relied.load(Ordering::Relaxed);
        }
        relied
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.read();
        write!(f, "Index({} tables, {} packs)", state.tables.len(), state.packs.len())
    }
}

impl Mapped {
    fn place(&self, record: &Record) -> Place {
        Place {
            pack: PackRef(self.packs[record.pack as usize]),
            frame_offset: record.frame_offset,
            frame_len: record.frame_len,
            offset: record.offset,
            len: record.len,
        }
    }
}

impl State {
    /// The number of a pack in this index; whether it is present is known from the first call on.
    fn register(&mut self, pack: &TablePack, present: bool) -> u32 {
        if let Some(number) = self.by_id.get(&pack.id) {
            return *number;
        }
        let number = u32::try_from(self.packs.len()).expect("because packs are counted in 32 bits");
        let seal = match self.seals.get(&pack.seal) {
            Some(seal) => seal.clone(),
            None => {
                let _ = self.seals.insert(pack.seal.clone());
                pack.seal.clone()
            }
        };
        self.packs.push(Arc::new(PackInfo {
            id: pack.id,
            kind: pack.kind,
            size: pack.size,
            salt: pack.salt,
            seal,
            present,
            condemned: AtomicBool::new(false),
            relied: AtomicBool::new(false),
            distrusted: AtomicBool::new(false),
        }));
        let _ = self.by_id.insert(pack.id, number);
        number
    }

    fn adopt(&mut self, table: Table, condemned: bool, present: impl Fn(&TablePack) -> bool) {
        let packs = table.packs().iter().map(|pack| self.register(pack, present(pack)));
        let packs = packs.collect();
        self.tables.push(Mapped { table: Arc::new(table), packs, condemned });
    }

    /// Calls `found` with each stored place of a chunk until it returns true.
    fn each(
        &self,
        prefix: &ChunkPrefix,
        mut found: impl FnMut(Place, &PackInfo) -> bool,
    ) -> Result<(), RepoError> {
        for mapped in self.tables.iter().rev() {
            let mut done = false;
            let searched = mapped.table.find(prefix, |record| {
                let known = (record.pack as usize) < mapped.packs.len();
                done = known && {
                    let place = mapped.place(record);
                    found(place, &self.packs[place.pack.0 as usize])
                };
                done
            });
            searched.map_err(|error| mapped.table.failed(error))?;
            if done {
                break;
            }
        }
        Ok(())
    }

    fn usable(&self, prefix: &ChunkPrefix) -> Result<Option<Place>, RepoError> {
        if let Some(Recent::Stored(place)) = self.recent.get(prefix)
            && self.packs[place.pack.0 as usize].is_usable()
        {
            return Ok(Some(*place));
        }
        let mut usable = None;
        self.each(prefix, |place, pack| {
            if pack.is_usable() {
                usable = Some(place);
            }
            usable.is_some()
        })?;
        Ok(usable)
    }
}

fn header_len() -> u32 {
    u32::try_from(PackHeader::LEN).expect("because it is a small constant")
}

/// The id of a segment by its stored bytes.
pub(super) fn segment_id(bytes: &[u8]) -> SegmentId {
    SegmentId::new(digest(bytes))
}

/// The ids in a listing of segments.
pub(super) fn segment_ids(listed: &[crate::store::Listed]) -> BTreeSet<SegmentId> {
    listed.iter().filter_map(|object| layout::id_of(&object.name, "")).collect()
}

#[cfg(test)]
mod tests;
