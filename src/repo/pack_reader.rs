//! Reads packs whole and checks every byte of them.
//!
//! A pack is fetched with one read. Its name is the hash of its bytes; header, directory and every
//! frame are authenticated; every chunk is hashed again. Also what an index is rebuilt from.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashMap;

use super::error::RepoError;
use super::inventory::KnownPack;
use super::layout;
use super::repository::Repository;
use crate::crypto::{Key, RunSeal, digest};
use crate::format::{
    FormatError, FrameEntry, OpenedFrame, PACK_BYTES_MAX, PackDirectory, PackHeader, split_trailer,
};
use crate::id::PackId;

/// So many faults of one pack are told; more are counted.
const FAULTS_MAX: usize = 8;

/// Buffers that are used again from pack to pack.
#[derive(Debug, Default)]
pub struct PackBuffers {
    stored: Vec<u8>,
    frame: OpenedFrame,
}

/// What of a pack cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PackLoss {
    /// All of it.
    All,
    /// The chunks at these places: offset of the frame in the pack, offset in its content.
    Chunks(HashSet<(u32, u32)>),
}

impl PackLoss {
    /// Whether the chunk at this place cannot be had.
    #[must_use]
    pub fn covers(&self, frame_offset: u32, offset: u32) -> bool {
        match self {
            Self::All => true,
            Self::Chunks(places) => places.contains(&(frame_offset, offset)),
        }
    }
}

/// What was found of a pack that was read whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackCheck {
    /// What is wrong with it, as fragments; empty if it is sound.
    pub faults: Vec<String>,
    /// Faults that are not told.
    pub faults_more: u64,
    /// The chunks that cannot be had from it.
    pub loss: PackLoss,
    /// Whether it was sound when it was read again.
    pub transient: bool,
}

/// A pack that was opened without an index.
#[derive(Debug)]
pub struct OpenedPack {
    /// Its header.
    pub header: PackHeader,
    /// Its key.
    pub key: Key,
    /// What it holds.
    pub directory: PackDirectory,
    /// Whether its bytes have its name: if not, some of its frames are damaged.
    pub is_whole: bool,
}

/// Reads whole packs, from any number of threads.
pub struct PackReader {
    repo: Arc<Repository>,
    secrets: Mutex<HashMap<RunSeal, Key>>,
}

impl PackReader {
    /// A reader for packs of this repository.
    #[must_use]
    pub fn new(repo: &Arc<Repository>) -> Self {
        Self { repo: repo.clone(), secrets: Mutex::default() }
    }

    /// Opens a pack by what stands in itself, to make an index of it.
    ///
    /// Errors: [`RepoError::Object`] if header or directory are not authentic;
    /// [`RepoError::Store`] if it cannot be read. Frames are not looked at.
    pub fn open(
        &self,
        id: &PackId,
        size: u64,
        buffers: &mut PackBuffers,
    ) -> Result<OpenedPack, RepoError> {
        let name = layout::pack(id);
        self.fetch(id, size, buffers)?;
        let bytes = &buffers.stored;
        let object = RepoError::object(&name);
        let kind = PackHeader::kind_of(bytes);
        let opened = || -> Result<OpenedPack, RepoError> {
            let kind =
                kind.ok_or_else(|| FormatError::damaged("pack", "its first bytes are none"))?;
            let header = PackHeader::decode(kind, self.repo.id(), bytes)?;
            let key = header.key(&self.secret(header.run_seal())?)?;
            let directory = read_directory(&key, &header, bytes)?;
            let is_whole = digest(bytes) == *id.as_bytes();
            Ok(OpenedPack { header, key, directory, is_whole })
        };
        opened().map_err(|error| match error {
            RepoError::Format(source) => object(source),
            other => object(FormatError::damaged("pack", other)),
        })
    }

    /// Reads a pack that a segment names and checks all of it.
    ///
    /// A pack with a fault is read once more, since the fault may lie in the way.
    /// Errors: [`RepoError::Store`] if it cannot be read at all.
    pub fn check(
        &self,
        known: &KnownPack,
        buffers: &mut PackBuffers,
    ) -> Result<PackCheck, RepoError> {
        let first = self.check_once(known, buffers)?;
        if first.faults.is_empty() {
            return Ok(first);
        }
        let second = self.check_once(known, buffers)?;
        match second.faults.is_empty() {
            true => Ok(PackCheck { transient: true, loss: second.loss, ..first }),
            false => Ok(second),
        }
    }

    fn check_once(
        &self,
        known: &KnownPack,
        buffers: &mut PackBuffers,
    ) -> Result<PackCheck, RepoError> {
        self.fetch(&known.id, known.size, buffers)?;
        let PackBuffers { stored, frame: opened_frame } = buffers;
        let mut found = Findings::default();
        let secret = match self.secret(&known.seal) {
            Ok(secret) => secret,
            Err(error) => {
                found.add(format!("the index names a run for it that does not open: {error}"));
                return Ok(found.into_check(PackLoss::All));
            }
        };
        // Frames are opened as a restore opens them: by what the index says.
        let seal = (*known.seal).clone();
        let (header, key) =
            PackHeader::known(known.kind, self.repo.id(), known.salt, &secret, seal);
        if stored.get(..PackHeader::LEN) != Some(&header.encode()[..]) {
            let repository = self.repo.id();
            match PackHeader::decode(known.kind, repository, stored) {
                Ok(_) => found.add("its header is not the one that the index names".to_owned()),
                Err(error) => found.add(error.to_string()),
            }
        }
        let directory = match read_directory(&key, &header, stored) {
            Ok(directory) if known.holds(&directory) => Some(directory),
            Ok(_) => {
                found.add("its directory is not the one that the index holds".to_owned());
                None
            }
            Err(error) => {
                found.add(error.to_string());
                None
            }
        };
        let directory = match directory {
            Some(directory) => directory,
            None => self.directory_in_index(known)?,
        };
        let mut lost = HashSet::new();
        for (offset, frame) in directory.placed() {
            let end = offset as usize + frame.stored_len as usize;
            let opened = match stored.get(offset as usize..end) {
                Some(bytes) => opened_frame.open(&key, &header, offset, bytes),
                None => Err(FormatError::damaged("frame", "the pack ends before it does")),
            };
            match opened {
                Ok(()) => {
                    let content = opened_frame.content();
                    self.check_chunks(&header, offset, frame, content, &mut found, &mut lost);
                }
                Err(error) => {
                    found.add(format!("at {offset}, {error}"));
                    lost.extend(chunk_offsets(frame).map(|at| (offset, at)));
                }
            }
        }
        // Where every byte is authentic, hashing them all once more could find nothing that a
        // restore would meet; `check --scrub` does it.
        if !found.faults.is_empty() && digest(stored) != *known.id.as_bytes() {
            found.faults.insert(0, "its bytes do not have its name".to_owned());
        }
        Ok(found.into_check(PackLoss::Chunks(lost)))
    }

    fn check_chunks(
        &self,
        header: &PackHeader,
        frame_offset: u32,
        frame: &FrameEntry,
        content: &[u8],
        found: &mut Findings,
        lost: &mut HashSet<(u32, u32)>,
    ) {
        let mut at = 0u32;
        for (prefix, len) in &frame.chunks {
            let end = at.saturating_add(*len);
            let chunk = content.get(at as usize..end as usize);
            let sound = chunk
                .is_some_and(|chunk| self.repo.chunk_id(header.kind(), chunk).prefix() == *prefix);
            if !sound {
                found.add(format!("at {frame_offset}, chunk {} has other content", prefix.short()));
                let _ = lost.insert((frame_offset, at));
            }
            at = end;
        }
        if at as usize != content.len() {
            found.add(format!("at {frame_offset}, a frame holds more than its directory says"));
        }
    }

    fn directory_in_index(&self, known: &KnownPack) -> Result<PackDirectory, RepoError> {
        let record = self.repo.read_segment(&known.segment)?;
        let pack = record.packs.into_iter().find(|pack| pack.id == known.id);
        Ok(pack.map(|pack| pack.directory).unwrap_or_default())
    }

    fn fetch(&self, id: &PackId, size: u64, buffers: &mut PackBuffers) -> Result<(), RepoError> {
        let len = usize::try_from(size.min(PACK_BYTES_MAX)).unwrap_or_default();
        buffers.stored.resize(len, 0);
        Ok(self.repo.store().get_range(&layout::pack(id), 0, &mut buffers.stored)?)
    }

    fn secret(&self, seal: &RunSeal) -> Result<Key, RepoError> {
        let lock = || self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(secret) = lock().get(seal) {
            return Ok(secret.clone());
        }
        let secret = self.repo.keyring().restore().open(seal, self.repo.id().as_bytes())?;
        let _ = lock().insert(seal.clone(), secret.clone());
        Ok(secret)
    }
}

impl std::fmt::Debug for PackReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PackReader({:?})", self.repo)
    }
}

#[derive(Default)]
struct Findings {
    faults: Vec<String>,
    more: u64,
}

impl Findings {
    fn add(&mut self, fault: String) {
        match self.faults.len() < FAULTS_MAX {
            true => self.faults.push(fault),
            false => self.more += 1,
        }
    }

    fn into_check(self, loss: PackLoss) -> PackCheck {
        PackCheck { faults: self.faults, faults_more: self.more, loss, transient: false }
    }
}

fn read_directory(
    key: &Key,
    header: &PackHeader,
    bytes: &[u8],
) -> Result<PackDirectory, FormatError> {
    let damaged = |_| FormatError::damaged(header.kind().name(), "it is cut short");
    split_trailer(key, header, bytes.len() as u64, bytes)?.map_err(damaged)
}

/// Where the chunks of a frame start in its content.
fn chunk_offsets(frame: &FrameEntry) -> impl Iterator<Item = u32> {
    frame.chunks.iter().scan(0u32, |at, (_, len)| {
        let offset = *at;
        *at = at.saturating_add(*len);
        Some(offset)
    })
}
