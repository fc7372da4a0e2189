//! The ids of all chunks that are needed, in bounded memory: sorted runs in files, read as one.
//!
//! A run that does not read back as it was written stops the collection: an id that is lost here
//! would be a chunk that is lost there.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use super::super::error::RepoError;
use super::super::index::{Index, Place};
use crate::crypto::Hasher;
use crate::id::{ChunkId, ChunkPrefix};

/// Ids kept in memory before they become a run: 16 MiB.
const BUFFER_IDS: usize = 1 << 20;

/// More runs than this are merged into one.
const RUNS_MAX: usize = 48;

/// A set that only grows.
#[derive(Debug)]
pub(super) struct Needed {
    dir: PathBuf,
    buffer_ids: usize,
    buffer: Vec<ChunkPrefix>,
    runs: Vec<Run>,
    made: u64,
}

/// A file of ascending ids.
#[derive(Debug)]
struct Run {
    path: PathBuf,
    ids: u64,
    hash: [u8; 32],
}

impl Needed {
    /// An empty set that keeps its files in `dir`.
    pub(super) fn new(dir: &Path) -> Self {
        Self::with_buffer(dir, BUFFER_IDS)
    }

    fn with_buffer(dir: &Path, buffer_ids: usize) -> Self {
        Self { dir: dir.to_owned(), buffer_ids, buffer: Vec::new(), runs: Vec::new(), made: 0 }
    }

    /// Adds a chunk.
    pub(super) fn add(&mut self, id: &ChunkId) -> Result<(), RepoError> {
        self.buffer.push(id.prefix());
        if self.buffer.len() < self.buffer_ids {
            return Ok(());
        }
        self.sort_buffer();
        // Much the same comes again and again: a run is worth its file only if it is full.
        if self.buffer.len() < self.buffer_ids / 2 {
            return Ok(());
        }
        self.spill()
    }

    fn sort_buffer(&mut self) {
        self.buffer.sort_unstable();
        self.buffer.dedup();
    }

    fn spill(&mut self) -> Result<(), RepoError> {
        let ids = std::mem::take(&mut self.buffer);
        let run = self.write(|write| ids.iter().try_for_each(write))?;
        self.runs.push(run);
        self.buffer = ids;
        self.buffer.clear();
        if self.runs.len() > RUNS_MAX { self.merge() } else { Ok(()) }
    }

    fn merge(&mut self) -> Result<(), RepoError> {
        let mut sorted = Sorted::open(&self.runs, &[])?;
        let merged = self.write(|write| {
            while let Some(id) = sorted.next()? {
                write(&id)?;
            }
            Ok(())
        })?;
        for run in std::mem::replace(&mut self.runs, vec![merged]) {
            let _ = std::fs::remove_file(run.path);
        }
        Ok(())
    }

    fn write(
        &mut self,
        fill: impl FnOnce(
            &mut dyn FnMut(&ChunkPrefix) -> Result<(), RepoError>,
        ) -> Result<(), RepoError>,
    ) -> Result<Run, RepoError> {
        self.made += 1;
        let path = self.dir.join(format!("needed-{}", self.made));
        let file = File::create_new(&path).map_err(RepoError::local("create", &path))?;
        let mut file = BufWriter::with_capacity(1 << 18, file);
        let (mut hasher, mut ids) = (Hasher::new(), 0);
        fill(&mut |id| {
            hasher.update(id.as_bytes());
            ids += 1;
            file.write_all(id.as_bytes()).map_err(RepoError::local("write", &path))
        })?;
        file.flush().map_err(RepoError::local("write", &path))?;
        drop(file);
        Ok(Run { path, ids, hash: hasher.finish() })
    }

    /// All ids in order, each once.
    fn sorted(&mut self) -> Result<Sorted<'_>, RepoError> {
        self.sort_buffer();
        Sorted::open(&self.runs, &self.buffer)
    }
}

/// Reads runs and the buffer as one.
struct Sorted<'n> {
    files: Vec<RunReader>,
    buffer: std::slice::Iter<'n, ChunkPrefix>,
    heads: BinaryHeap<Reverse<(ChunkPrefix, usize)>>,
    last: Option<ChunkPrefix>,
}

/// Stands for the buffer among the numbers of files.
const BUFFER: usize = usize::MAX;

impl<'n> Sorted<'n> {
    fn open(runs: &[Run], buffer: &'n [ChunkPrefix]) -> Result<Self, RepoError> {
        let files = runs.iter().map(RunReader::open).collect::<Result<Vec<_>, _>>()?;
        let mut sorted =
            Self { files, buffer: buffer.iter(), heads: BinaryHeap::new(), last: None };
        for at in (0..runs.len()).chain([BUFFER]) {
            sorted.advance(at)?;
        }
        Ok(sorted)
    }

    fn advance(&mut self, at: usize) -> Result<(), RepoError> {
        let next = match self.files.get_mut(at) {
            Some(file) => file.next()?,
            None => self.buffer.next().copied(),
        };
        self.heads.extend(next.map(|id| Reverse((id, at))));
        Ok(())
    }

    fn next(&mut self) -> Result<Option<ChunkPrefix>, RepoError> {
        while let Some(Reverse((id, at))) = self.heads.pop() {
            self.advance(at)?;
            if self.last != Some(id) {
                self.last = Some(id);
                return Ok(Some(id));
            }
        }
        Ok(None)
    }
}

struct RunReader {
    path: PathBuf,
    file: BufReader<File>,
    left: u64,
    hasher: Hasher,
    hash: [u8; 32],
}

impl RunReader {
    fn open(run: &Run) -> Result<Self, RepoError> {
        let file = File::open(&run.path).map_err(RepoError::local("open", &run.path))?;
        let file = BufReader::with_capacity(1 << 16, file);
        let (path, hasher) = (run.path.clone(), Hasher::new());
        Ok(Self { path, file, left: run.ids, hasher, hash: run.hash })
    }

    fn next(&mut self) -> Result<Option<ChunkPrefix>, RepoError> {
        if self.left == 0 {
            return match self.hasher.finish() == self.hash {
                true => Ok(None),
                false => {
                    let error = std::io::Error::other("it does not read back as it was written");
                    Err(RepoError::local("read", &self.path)(error))
                }
            };
        }
        let mut id = [0; ChunkPrefix::LEN];
        self.file.read_exact(&mut id).map_err(RepoError::local("read", &self.path))?;
        self.hasher.update(&id);
        self.left -= 1;
        Ok(Some(ChunkPrefix::new(id)))
    }
}

/// Calls `each` with every chunk that is needed or stored, in order: whether it is needed, and the
/// different places that segments name for it, which may be none.
pub(super) fn join(
    index: &Index,
    needed: &mut Needed,
    mut each: impl FnMut(&ChunkPrefix, bool, &[Place]) -> Result<(), RepoError>,
) -> Result<(), RepoError> {
    let mut wanted = needed.sorted()?;
    let mut next = wanted.next()?;
    let mut chunk: Option<ChunkPrefix> = None;
    let mut places: Vec<Place> = Vec::new();
    let mut end = |chunk: Option<ChunkPrefix>, places: &mut Vec<Place>| -> Result<(), RepoError> {
        let Some(chunk) = chunk else { return Ok(()) };
        while let Some(id) = next.filter(|id| *id < chunk) {
            each(&id, true, &[])?;
            next = wanted.next()?;
        }
        let is_needed = next == Some(chunk);
        if is_needed {
            next = wanted.next()?;
        }
        // Two segments may name the same pack.
        places.sort_unstable_by_key(|place| (place.pack, place.frame_offset, place.offset));
        places.dedup();
        each(&chunk, is_needed, places)?;
        places.clear();
        Ok(())
    };
    index.scan_sorted(|prefix, place| {
        if chunk != Some(prefix) {
            end(chunk.replace(prefix), &mut places)?;
        }
        places.push(place);
        Ok(())
    })?;
    end(chunk, &mut places)?;
    while let Some(id) = next {
        each(&id, true, &[])?;
        next = wanted.next()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::crypto::digest;

    fn id(n: u32) -> ChunkId {
        ChunkId::new(digest(&n.to_le_bytes()))
    }

    fn collected(needed: &mut Needed) -> Vec<ChunkPrefix> {
        let mut sorted = needed.sorted().expect("opens");
        std::iter::from_fn(|| sorted.next().expect("reads")).collect()
    }

    #[test]
    fn every_id_comes_once_and_in_order_however_many_runs_there_are() {
        for (buffer, ids) in [(1000, 10), (8, 500), (2, 300)] {
            let dir = tempfile::tempdir().expect("a directory");
            let mut needed = Needed::with_buffer(dir.path(), buffer);
            let mut expected = BTreeSet::new();
            for n in 0..ids {
                for again in [n, n / 2, n / 3] {
                    needed.add(&id(again)).expect("adds");
                    let _ = expected.insert(id(again).prefix());
                }
                if n == ids / 2 {
                    // Read in the middle, as when more is marked later.
                    assert!(collected(&mut needed).iter().eq(&expected));
                }
            }
            assert!(collected(&mut needed).iter().eq(&expected), "buffer {buffer}");
            assert!(needed.runs.len() <= RUNS_MAX + 1);
        }
    }

    #[test]
    fn a_run_that_lost_a_bit_is_noticed() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut needed = Needed::with_buffer(dir.path(), 4);
        (0..4).for_each(|n| needed.add(&id(n)).expect("adds"));
        assert_eq!(needed.runs.len(), 1);
        let mut bytes = std::fs::read(&needed.runs[0].path).expect("reads");
        bytes[3] ^= 1;
        std::fs::write(&needed.runs[0].path, bytes).expect("writes");
        let mut sorted = needed.sorted().expect("opens");
        assert!((0..6).any(|_| sorted.next().is_err()));
    }
}
