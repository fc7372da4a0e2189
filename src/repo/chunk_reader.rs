//! Reads chunks, checked.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashMap;

use super::error::RepoError;
use super::index::{Index, PackInfo, PackRef, Place};
use super::layout;
use super::repository::Repository;
use super::tree_cache::WHOLE_MAX;
use crate::crypto::{Key, digest};
use crate::format::{FormatError, OpenedFrame, PackHeader, PackKind};
use crate::id::{ChunkId, RecordHash};
use crate::store::StoreError;

/// Reads chunks of a repository from any number of threads.
///
/// Every chunk is checked against its name after it was read. A copy that is damaged is passed over
/// for another, if there is one.
pub struct ChunkReader {
    repo: Arc<Repository>,
    index: Arc<Index>,
    packs: Mutex<HashMap<PackRef, Arc<(PackHeader, Key)>>>,
    secrets: Mutex<HashMap<RecordHash, Key>>,
    frames: Mutex<Frames>,
}

/// Which frame: its pack and where it starts in it.
type FramePlace = (PackRef, u32);

/// Frames that were opened last.
struct Frames {
    recent: VecDeque<(FramePlace, Arc<Vec<u8>>)>,
    len: usize,
    len_max: usize,
}

impl ChunkReader {
    /// Keeps up to `cache_len` bytes of opened frames.
    #[must_use]
    pub fn new(repo: &Arc<Repository>, index: &Arc<Index>, cache_len: usize) -> Self {
        Self {
            repo: repo.clone(),
            index: index.clone(),
            packs: Mutex::default(),
            secrets: Mutex::default(),
            frames: Mutex::new(Frames { recent: VecDeque::new(), len: 0, len_max: cache_len }),
        }
    }

    /// The repository that is read.
    #[must_use]
    pub fn repository(&self) -> &Arc<Repository> {
        &self.repo
    }

    /// The index that is used.
    #[must_use]
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// A chunk's plaintext.
    ///
    /// Errors: [`RepoError::Chunk`] if no copy of it can be had.
    pub fn read(&self, kind: PackKind, id: &ChunkId) -> Result<Vec<u8>, RepoError> {
        let mut failure = None;
        for place in self.index.find_all(id)? {
            match self.read_at(kind, id, &place) {
                Ok(bytes) => return Ok(bytes),
                Err(error) => {
                    if error.is_damage() {
                        // What is stored from now on must not rest on it.
                        self.index.distrust(place.pack);
                    }
                    failure = Some(error);
                }
            }
        }
        Err(failure.unwrap_or_else(|| RepoError::Chunk {
            id: *id,
            why: "is in no pack that the index knows and the store lists".to_owned(),
        }))
    }

    fn read_at(&self, kind: PackKind, id: &ChunkId, place: &Place) -> Result<Vec<u8>, RepoError> {
        let frame = self.cached_frame(place)?;
        let bytes = self.cut(&frame, place, id)?;
        self.check(kind, id, place, bytes)?;
        Ok(bytes.to_vec())
    }

    /// The part of a frame that is the chunk.
    ///
    /// Errors: [`RepoError::Chunk`] if the frame is too short for it.
    pub fn cut<'f>(
        &self,
        frame: &'f [u8],
        place: &Place,
        id: &ChunkId,
    ) -> Result<&'f [u8], RepoError> {
        let start = place.offset as usize;
        let end = start.saturating_add(place.len as usize);
        frame.get(start..end).ok_or_else(|| {
            let pack = self.index.pack(place.pack).id;
            RepoError::Chunk { id: *id, why: format!("lies beyond its frame in pack {pack}") }
        })
    }

    /// Checks a chunk against its name.
    ///
    /// Errors: [`RepoError::Chunk`].
    pub fn check(
        &self,
        kind: PackKind,
        id: &ChunkId,
        place: &Place,
        bytes: &[u8],
    ) -> Result<(), RepoError> {
        if self.repo.chunk_id(kind, bytes) == *id {
            return Ok(());
        }
        let pack = self.index.pack(place.pack).id;
        let why = format!("has other content than its name says, in pack {}", pack.short());
        Err(RepoError::Chunk { id: *id, why })
    }

    /// The content of the frame a chunk lies in, from those opened last if possible.
    fn cached_frame(&self, place: &Place) -> Result<Arc<Vec<u8>>, RepoError> {
        let key = (place.pack, place.frame_offset);
        if let Some(frame) = lock(&self.frames).get(key) {
            return Ok(frame);
        }
        thread_local! {
            static FRAME: RefCell<OpenedFrame> = RefCell::default();
        }
        let frame = FRAME.with_borrow_mut(|frame| {
            self.open_frame(place, frame)?;
            Ok::<_, RepoError>(Arc::new(frame.content().to_vec()))
        })?;
        lock(&self.frames).add(key, frame.clone());
        Ok(frame)
    }

    /// Reads and opens the frame at a place.
    ///
    /// Errors: [`RepoError::Frame`] if it is not what was stored; a read that failed to
    /// authenticate is tried once more, since the fault may lie in the way and not in the store.
    /// [`RepoError::Gone`] if the pack was deleted since it was listed.
    pub fn open_frame(&self, place: &Place, frame: &mut OpenedFrame) -> Result<(), RepoError> {
        match self.try_open_frame(place, frame) {
            Err(RepoError::Frame { .. }) => self.try_open_frame(place, frame),
            done => done,
        }
    }

    fn try_open_frame(&self, place: &Place, frame: &mut OpenedFrame) -> Result<(), RepoError> {
        thread_local! {
            static STORED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let pack = self.index.pack(place.pack);
        let keys = self.pack_keys(place.pack)?;
        STORED.with_borrow_mut(|stored| {
            if pack.kind == PackKind::Tree && self.repo.trees().is_on() {
                return self.open_tree_frame(place, &pack, &keys, stored, frame);
            }
            self.fetch_frame(place, &pack, stored)?;
            frame.open(&keys.1, &keys.0, place.frame_offset, stored).map_err(|source| {
                RepoError::Frame { pack: pack.id, offset: place.frame_offset, source }
            })
        })
    }

    /// Opens a frame of a tree pack as this host has it, or else as the store does.
    fn open_tree_frame(
        &self,
        place: &Place,
        pack: &PackInfo,
        keys: &(PackHeader, Key),
        stored: &mut Vec<u8>,
        frame: &mut OpenedFrame,
    ) -> Result<(), RepoError> {
        let (trees, at) = (self.repo.trees(), place.frame_offset);
        stored.resize(place.frame_len as usize, 0);
        // What does not open was never kept, or is damaged: it is fetched and written over.
        if trees.read(&pack.id, u64::from(at), stored)
            && frame.open(&keys.1, &keys.0, at, stored).is_ok()
        {
            return Ok(());
        }
        if let Some(bytes) = self.fetch_whole(pack)
            && let Some(bytes) = bytes.get(at as usize..at as usize + place.frame_len as usize)
            && frame.open(&keys.1, &keys.0, at, bytes).is_ok()
        {
            return Ok(());
        }
        self.fetch_frame(place, pack, stored)?;
        let opened = frame.open(&keys.1, &keys.0, at, stored);
        opened.map_err(|source| RepoError::Frame { pack: pack.id, offset: at, source })?;
        trees.keep(&pack.id, u64::from(at), stored);
        Ok(())
    }

    /// A pack that is small and whose bytes have its name, which is kept from now on.
    fn fetch_whole(&self, pack: &PackInfo) -> Option<Vec<u8>> {
        if pack.size > WHOLE_MAX {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(pack.size).unwrap_or_default()];
        let read = self.repo.store().get_range(&layout::pack(&pack.id), 0, &mut bytes);
        let is_sound = read.is_ok() && digest(&bytes) == *pack.id.as_bytes();
        is_sound.then(|| {
            self.repo.trees().keep(&pack.id, 0, &bytes);
            bytes
        })
    }

    fn fetch_frame(
        &self,
        place: &Place,
        pack: &PackInfo,
        stored: &mut Vec<u8>,
    ) -> Result<(), RepoError> {
        stored.resize(place.frame_len as usize, 0);
        let offset = place.frame_offset;
        let got = self.repo.store().get_range(&layout::pack(&pack.id), u64::from(offset), stored);
        got.map_err(|error| match error {
            // Another copy may do, as well as where the pack was cut short since it was listed, or
            // the index is wrong about it.
            StoreError::NotFound(_) => RepoError::Gone { pack: pack.id },
            StoreError::Size { .. } => {
                let source = FormatError::damaged(pack.kind.name(), error);
                RepoError::Frame { pack: pack.id, offset, source }
            }
            other => other.into(),
        })
    }

    /// The header and key of a pack, from what its segment says of it.
    fn pack_keys(&self, number: PackRef) -> Result<Arc<(PackHeader, Key)>, RepoError> {
        if let Some(keys) = lock(&self.packs).get(&number) {
            return Ok(keys.clone());
        }
        let pack = self.index.pack(number);
        let seal_hash = RecordHash::new(digest(pack.seal.as_bytes()));
        let known = lock(&self.secrets).get(&seal_hash).cloned();
        let secret = match known {
            Some(secret) => secret,
            None => {
                let repository = self.repo.id();
                let restore = self.repo.keyring().restore();
                let secret = restore.open(&pack.seal, repository.as_bytes())?;
                let _ = lock(&self.secrets).insert(seal_hash, secret.clone());
                secret
            }
        };
        let seal = (*pack.seal).clone();
        let keys = PackHeader::known(pack.kind, self.repo.id(), pack.salt, &secret, seal);
        let keys = Arc::new(keys);
        let _ = lock(&self.packs).insert(number, keys.clone());
        Ok(keys)
    }
}

impl std::fmt::Debug for ChunkReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ChunkReader({:?})", self.repo)
    }
}

impl Frames {
    fn get(&mut self, key: FramePlace) -> Option<Arc<Vec<u8>>> {
        let at = self.recent.iter().position(|(k, _)| *k == key)?;
        let found = self.recent.remove(at)?;
        let frame = found.1.clone();
        self.recent.push_front(found);
        Some(frame)
    }

    fn add(&mut self, key: FramePlace, frame: Arc<Vec<u8>>) {
        self.len += frame.len();
        self.recent.push_front((key, frame));
        while self.len > self.len_max && self.recent.len() > 1 {
            if let Some((_, old)) = self.recent.pop_back() {
                self.len -= old.len();
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
