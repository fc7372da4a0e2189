//! Where chunks lie, and reading them: section 15.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use super::keys::{Keys, RUN_SEAL_LEN};
use super::objects::{SEGMENT, Store, open_shell};
use super::packs::{self, DATA, Frame, PACK_MOST, PackKey, TREE};
use super::wire::{self, Cursor};
use super::{Fault, Result, damaged, ensure};

const SEGMENT_MOST: usize = 64 << 20;
const LIST_MOST: u64 = 65_536;

/// So many frames are kept open.
const FRAMES_KEPT: usize = 16;

/// Content of frames by pack and offset.
type OpenFrames = HashMap<(usize, u32), Rc<Vec<u8>>>;

/// One copy of a chunk.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Position in the list of packs.
    pack: usize,
    offset: u32,
    stored_len: u32,
    /// Where in the content of the frame.
    start: u32,
    len: u32,
}

/// All chunks of the repository.
pub(crate) struct Index {
    store: Store,
    keys: Keys,
    packs: Vec<([u8; 32], PackKey)>,
    /// By kind and prefix of the id.
    places: HashMap<(u8, [u8; 16]), Vec<Place>>,
    open_frames: RefCell<OpenFrames>,
}

impl Index {
    fn new(store: Store, keys: Keys) -> Self {
        let (places, open_frames) = (HashMap::new(), RefCell::default());
        Self { store, keys, packs: Vec::new(), places, open_frames }
    }

    /// Reads every segment. One that cannot be read is reported.
    pub(crate) fn read(store: Store, keys: Keys, reports: &mut Vec<String>) -> Result<Self> {
        let mut index = Self::new(store, keys);
        let names = index.store.list("index")?;
        let present = list_packs(&index.store)?.into_iter().collect();
        for name in names {
            let Some(id) = wire::unhex::<32>(&name) else { continue };
            let bytes = index.store.get(&format!("index/{name}"), SEGMENT_MOST)?;
            if let Err(fault) = index.add_segment(&id, &bytes, &present) {
                reports.push(format!("index/{name}: {fault:?}"));
            }
        }
        Ok(index)
    }

    /// Makes the index from the packs.
    pub(crate) fn rebuild(store: Store, keys: Keys, reports: &mut Vec<String>) -> Result<Self> {
        let mut index = Self::new(store, keys);
        for id in list_packs(&index.store)? {
            let bytes = index.store.get(&packs::name(&id), PACK_MOST)?;
            match packs::read(&index.keys, &id, &bytes) {
                Ok(pack) => index.add_pack(id, pack.key, &pack.frames),
                Err(fault) => reports.push(format!("{}: {fault:?}", packs::name(&id))),
            }
        }
        Ok(index)
    }

    fn add_segment(
        &mut self,
        id: &[u8; 32],
        bytes: &[u8],
        present: &BTreeSet<[u8; 32]>,
    ) -> Result<()> {
        ensure(blake3::hash(bytes) == *id, "a segment has another hash than its name")?;
        let message = open_shell(&self.keys, SEGMENT, bytes)?;
        let mut cursor = Cursor::new(&message);
        let mut runs = Vec::new();
        for _ in 0..cursor.at_most::<u64>(LIST_MOST)? {
            runs.push(self.keys.run_secret(&cursor.array::<RUN_SEAL_LEN>()?)?);
        }
        for _ in 0..cursor.at_most::<u64>(LIST_MOST)? {
            let _superseded: [u8; 32] = cursor.array()?;
        }
        // Nothing is taken from a segment before all of it was read.
        let mut found = Vec::new();
        for _ in 0..cursor.at_most::<u64>(LIST_MOST)? {
            let (pack, kind) = (cursor.array()?, cursor.u8()?);
            ensure(kind == DATA || kind == TREE, "a pack is of no known kind")?;
            let size: u64 = cursor.at_most(PACK_MOST as u64)?;
            let Some(run) = runs.get(cursor.at_most::<usize>(LIST_MOST)?) else {
                return damaged("a pack names a run seal that is not there");
            };
            let key = PackKey::new(kind, cursor.array()?, run, self.keys.repository);
            let mut directory = Cursor::new(cursor.sized(SEGMENT_MOST as u64)?);
            let (frames, end) = packs::directory(kind, &mut directory)?;
            directory.finish()?;
            ensure(end <= size, "frames are longer than their pack")?;
            found.push((pack, key, frames));
        }
        cursor.finish()?;
        for (pack, key, frames) in found {
            if present.contains(&pack) {
                self.add_pack(pack, key, &frames);
            }
        }
        Ok(())
    }

    fn add_pack(&mut self, id: [u8; 32], key: PackKey, frames: &[Frame]) {
        let (kind, pack) = (key.kind, self.packs.len());
        self.packs.push((id, key));
        for frame in frames {
            let mut start = 0;
            for (prefix, len) in &frame.chunks {
                let (offset, stored_len) = (frame.offset, frame.len);
                let place = Place { pack, offset, stored_len, start, len: *len };
                self.places.entry((kind, *prefix)).or_default().push(place);
                start += len;
            }
        }
    }

    fn places(&self, kind: u8, id: &[u8; 32]) -> &[Place] {
        let prefix = id[..16].try_into().expect("16 bytes");
        self.places.get(&(kind, prefix)).map_or(&[], Vec::as_slice)
    }

    /// Whether a chunk is known.
    pub(crate) fn has(&self, kind: u8, id: &[u8; 32]) -> bool {
        !self.places(kind, id).is_empty()
    }

    /// What the index knows, in a form that does not depend on how it was made.
    pub(crate) fn listing(&self) -> BTreeSet<String> {
        let line = |key: &(u8, [u8; 16]), place: &Place| {
            format!("{key:?} {:?} {place:?}", self.packs[place.pack].0)
                .replace(&format!("pack: {}", place.pack), "")
        };
        let places = self.places.iter();
        places.flat_map(|(key, places)| places.iter().map(move |p| line(key, p))).collect()
    }

    /// The bytes of a chunk, from the first place that has them.
    pub(crate) fn chunk(&self, kind: u8, id: &[u8; 32]) -> Result<Vec<u8>> {
        let mut fault = Fault::Damaged(format!("no pack has chunk {}", wire::hex(id)));
        for place in self.places(kind, id) {
            match self.chunk_at(place) {
                Ok(bytes) if self.keys.chunk_id(kind, &bytes) == *id => return Ok(bytes),
                Ok(_) => {}
                Err(other) => fault = other,
            }
        }
        Err(fault)
    }

    fn chunk_at(&self, place: &Place) -> Result<Vec<u8>> {
        let at = (place.pack, place.offset);
        let known = self.open_frames.borrow().get(&at).cloned();
        let frame = match known {
            Some(frame) => frame,
            None => {
                let (id, key) = &self.packs[place.pack];
                let (offset, len) = (u64::from(place.offset), place.stored_len as usize);
                let sealed = self.store.get_range(&packs::name(id), offset, len)?;
                let frame = Rc::new(key.open_frame(place.offset, &sealed)?);
                let mut open_frames = self.open_frames.borrow_mut();
                if open_frames.len() >= FRAMES_KEPT {
                    open_frames.clear();
                }
                let _ = open_frames.insert(at, Rc::clone(&frame));
                frame
            }
        };
        let start = place.start as usize;
        let chunk = frame.get(start..start + place.len as usize);
        chunk.map_or_else(|| damaged("a chunk lies outside its frame"), |c| Ok(c.to_vec()))
    }
}

fn list_packs(store: &Store) -> Result<Vec<[u8; 32]>> {
    let mut all = Vec::new();
    for folder in store.list("packs")? {
        if wire::unhex::<1>(&folder).is_none() {
            continue;
        }
        let ids = store.list(&format!("packs/{folder}"))?;
        all.extend(ids.iter().filter(|id| id.starts_with(&folder)).filter_map(|n| wire::unhex(n)));
    }
    Ok(all)
}
