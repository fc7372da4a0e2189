//! Holds what a source finds now against an item of a snapshot.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use super::{Change, ChangeKind, compare};
use crate::codec::ChunkerParams;
use crate::entry::{EntryPath, Extent, Hint, Kind};
use crate::event::{Counters, Observer, Warning};
use crate::format::{Content, FormatError, Item, PackKind, Stored};
use crate::ops::error::{Interrupt, OpsError};
use crate::ops::list::first_name;
use crate::repo::{ChunkReader, ContentWalk, HintsWalk, RepoError, TreeWalk};
use crate::source::{Found, Order, ReadError, Run, Source};

/// Bytes of a file that are read at once.
const BUFFER_LEN: usize = 256 << 10;

/// Yields what differs between an item and what a source holds now, in order of path: the item is
/// the old side.
///
/// The content of a file is read unless size, time and hints are those of the snapshot. What
/// cannot be read is reported to whoever watches, and left out.
pub struct LiveDiff<'r> {
    reader: &'r Arc<ChunkReader>,
    item: Item,
    walk: TreeWalk,
    hints: Option<HintsWalk<'r>>,
    source: Box<dyn Source>,
    observer: Arc<dyn Observer>,
    interrupt: Interrupt,
    stored: Option<(EntryPath, Stored, Option<Hint>)>,
    found: Option<Found>,
    changed: ChangedFiles,
    buffer: Vec<u8>,
    chunk: Vec<u8>,
}

impl<'r> LiveDiff<'r> {
    /// Compares from the root on.
    ///
    /// Errors: [`OpsError::Refused`] if the source does not come in order.
    pub fn new(
        reader: &'r Arc<ChunkReader>,
        item: &Item,
        source: Box<dyn Source>,
        observer: &Arc<dyn Observer>,
        interrupt: &Interrupt,
    ) -> Result<Self, OpsError> {
        if source.order() != Order::Sorted {
            return Err(OpsError::Refused("a stream cannot be compared".to_owned()));
        }
        Ok(Self {
            reader,
            item: item.clone(),
            walk: TreeWalk::new(reader, item.root, item.root_level),
            hints: item.hints_root().map(|root| HintsWalk::new(reader, root)),
            source,
            observer: observer.clone(),
            interrupt: interrupt.clone(),
            stored: None,
            found: None,
            changed: ChangedFiles::default(),
            buffer: vec![0; BUFFER_LEN],
            chunk: Vec::new(),
        })
    }

    /// The next change.
    ///
    /// Errors: those of reading the tree, and [`OpsError::Source`] if the source as a whole fails.
    pub fn next(&mut self) -> Result<Option<Change>, OpsError> {
        loop {
            self.interrupt.check()?;
            self.advance()?;
            let order = match (&self.stored, &self.found) {
                (None, None) => return Ok(None),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((path, ..)), Some(found)) => path.cmp(&found.path),
            };
            let stored = if order == Ordering::Greater { None } else { self.stored.take() };
            let found = if order == Ordering::Less { None } else { self.found.take() };
            match (stored, found) {
                (Some((path, stored, _)), None) => {
                    return Ok(Some(Change::removed(path, stored.entry)));
                }
                (None, Some(found)) => return Ok(Some(Change::added(found.path, found.entry))),
                (Some((_, stored, hint)), Some(found)) => {
                    if let Some(change) = self.judge(stored, hint, found)? {
                        return Ok(Some(change));
                    }
                }
                (None, None) => return Ok(None),
            }
        }
    }

    fn advance(&mut self) -> Result<(), OpsError> {
        if self.found.is_none() {
            self.found = self.source.next()?;
            Counters::add(&self.observer.counters().entries, u64::from(self.found.is_some()));
        }
        if self.stored.is_none()
            && let Some((path, stored)) = self.walk.next()?
        {
            let hint = match self.hints.as_mut().map(HintsWalk::next) {
                Some(Ok(hint)) => hint,
                // Nothing is lost by reading everything.
                Some(Err(_)) => {
                    self.hints = None;
                    None
                }
                None => None,
            };
            self.stored = Some((path, stored, hint));
        }
        Ok(())
    }

    fn judge(
        &mut self,
        stored: Stored,
        hint: Option<Hint>,
        found: Found,
    ) -> Result<Option<Change>, OpsError> {
        let (old, new) = (stored.entry.clone(), found.entry.clone());
        let untouched = hint.is_some()
            && found.hint == hint
            && old.mtime == new.mtime
            && old.link.is_none()
            && new.link.is_none();
        let differs = || if untouched { Ok(false) } else { self.content_differs(stored, &found) };
        let Some(kind) = compare(&old, &new, differs)? else { return Ok(None) };
        if matches!(kind, ChangeKind::Content | ChangeKind::Type)
            && matches!(new.kind, Kind::File { .. })
        {
            self.changed.add(&found.path);
        }
        Ok(Some(Change { path: found.path, kind, old: Some(old), new: Some(new) }))
    }

    fn content_differs(&mut self, stored: Stored, found: &Found) -> Result<bool, OpsError> {
        let whole = first_name(self.reader, &self.item, stored)?;
        if let Some(first) = &found.entry.link {
            // What the first name holds was compared with what it held: that is to be the same.
            if self.changed.has(first) {
                return Ok(true);
            }
            let (root, level) = (self.item.root, self.item.root_level);
            let Some(there) = TreeWalk::find(self.reader, root, level, first)? else {
                return Ok(true);
            };
            return Ok(first_name(self.reader, &self.item, there)?.content != whole.content);
        }
        match self.read_differs(&whole.content) {
            Ok(differs) => Ok(differs),
            Err(Failure::Run(error)) => Err(error),
            Err(Failure::File(message)) => {
                self.observer.warn(Warning::skipped(found.path.to_slashed(), message));
                Ok(false)
            }
        }
    }

    /// Whether the file found last holds anything else than `content`.
    fn read_differs(&mut self, content: &Content) -> Result<bool, Failure> {
        let mut input = Input::new(&mut *self.source, &mut self.buffer);
        let mut extents = ContentWalk::new(self.reader, content);
        while let Some(extent) = extents.next().map_err(OpsError::from)? {
            self.interrupt.check()?;
            Counters::add(&self.observer.counters().bytes, extent.len());
            match extent {
                Extent::Chunk(id, len) => {
                    if len > ChunkerParams::MAX {
                        let error = FormatError::damaged("file", "a chunk of it is too long");
                        return Err(OpsError::from(RepoError::from(error)).into());
                    }
                    self.chunk.resize(len as usize, 0);
                    let repo = self.reader.repository();
                    if !input.fill(&mut self.chunk)?
                        || repo.chunk_id(PackKind::Data, &self.chunk) != id
                    {
                        return Ok(true);
                    }
                }
                Extent::Zeros(len) if !input.skip_zeros(len)? => return Ok(true),
                Extent::Zeros(_) => {}
            }
        }
        if input.has_more()? {
            return Ok(true);
        }
        // Warns if the file changed meanwhile.
        let _ = self.source.finish()?;
        Ok(false)
    }
}

impl std::fmt::Debug for LiveDiff<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LiveDiff({})", self.item.name)
    }
}

/// Files whose content has changed. A path takes eight bytes; that two have one number is all but
/// impossible, and would call a file changed that is not.
#[derive(Default)]
struct ChangedFiles {
    state: RandomState,
    hashes: HashSet<u64>,
}

impl ChangedFiles {
    fn add(&mut self, path: &EntryPath) {
        let _ = self.hashes.insert(self.state.hash_one(path));
    }

    fn has(&self, path: &EntryPath) -> bool {
        self.hashes.contains(&self.state.hash_one(path))
    }
}

/// The content of a file as a stream of bytes.
struct Input<'a> {
    source: &'a mut dyn Source,
    buffer: &'a mut Vec<u8>,
    /// The part of the buffer that was not taken yet.
    start: usize,
    end: usize,
    /// Zeros that come before it.
    zeros: u64,
    done: bool,
}

impl<'a> Input<'a> {
    fn new(source: &'a mut dyn Source, buffer: &'a mut Vec<u8>) -> Self {
        Self { source, buffer, start: 0, end: 0, zeros: 0, done: false }
    }

    fn has_more(&mut self) -> Result<bool, ReadError> {
        while !self.done && self.zeros == 0 && self.start == self.end {
            match self.source.read(self.buffer)? {
                Run::Data(len) => (self.start, self.end) = (0, len),
                Run::Hole(len) => self.zeros = len,
                Run::End => self.done = true,
            }
        }
        Ok(self.zeros > 0 || self.start < self.end)
    }

    /// Fills `out`; false if the file ends before.
    fn fill(&mut self, out: &mut [u8]) -> Result<bool, ReadError> {
        let mut filled = 0;
        while filled < out.len() {
            if !self.has_more()? {
                return Ok(false);
            }
            let room = &mut out[filled..];
            let len;
            if self.zeros > 0 {
                len = usize::try_from(self.zeros).unwrap_or(usize::MAX).min(room.len());
                room[..len].fill(0);
                self.zeros -= len as u64;
            } else {
                len = (self.end - self.start).min(room.len());
                room[..len].copy_from_slice(&self.buffer[self.start..self.start + len]);
                self.start += len;
            }
            filled += len;
        }
        Ok(true)
    }

    /// Passes over `len` zeros; false if anything else comes, or the end.
    fn skip_zeros(&mut self, mut len: u64) -> Result<bool, ReadError> {
        while len > 0 {
            if !self.has_more()? {
                return Ok(false);
            }
            if self.zeros > 0 {
                let step = self.zeros.min(len);
                self.zeros -= step;
                len -= step;
                continue;
            }
            let data = &self.buffer[self.start..self.end];
            let step = usize::try_from(len).unwrap_or(usize::MAX).min(data.len());
            if data[..step].iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            self.start += step;
            len -= step as u64;
        }
        Ok(true)
    }
}

/// Why the content of a file could not be compared.
enum Failure {
    /// Only this file cannot be read.
    File(String),
    /// The comparison is lost.
    Run(OpsError),
}

impl From<OpsError> for Failure {
    fn from(error: OpsError) -> Self {
        Self::Run(error)
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Source(error) => Self::Run(error.into()),
            ReadError::Entry(what, Some(cause)) => Self::File(format!("{what}: {cause}")),
            ReadError::Entry(what, None) => Self::File(what),
        }
    }
}
