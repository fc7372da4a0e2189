//! An item of a snapshot as a source: its entries, and the content of its files.
//!
//! It walks beside the tree of the snapshot whose copy the other repository has already, so that it
//! can tell which files have the same content there. Of these nothing is fetched.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use super::DamagedFiles;
use super::fetch::{Fetched, Fetcher, Part};
use crate::entry::{Entry, EntryPath, Extent, Hint, Kind};
use crate::event::Observer;
use crate::format::{Content, FormatError, Item, PackKind, Stored};
use crate::id::ChunkId;
use crate::ops::backup::Previous;
use crate::repo::{ChunkReader, ContentWalk, HintsWalk, RepoError, TreeWalk};
use crate::source::{Found, Order, ReadError, Run, Source, SourceError};

/// How far the walk is ahead of what was handed on, at most: steps, and about so many bytes.
const STEPS_MAX: usize = 8192;
const WEIGHT_MAX: usize = 8 << 20;

/// Why an item could not be read to its end.
pub(super) enum Failure {
    /// The repository is damaged there.
    Damaged(Option<EntryPath>, RepoError),
    /// Anything else.
    Repo(RepoError),
}

/// What the walk has come across.
enum Step {
    /// An entry; with its content, if that is as it was before.
    Entry(Box<Found>, Option<Content>),
    /// A chunk of the entry before, and the part that begins with it.
    Chunk(ChunkId, u32, Option<Part>),
    /// Zeros of the entry before.
    Zeros(u64),
    /// The content of the entry before cannot be known.
    Lost(RepoError),
}

/// The entry that was yielded last.
struct At<'a> {
    found: Found,
    is_as_before: bool,
    /// Content that was not fetched, and is wanted all the same.
    unfetched: Option<ContentWalk<'a>>,
    /// What was fetched and not handed on.
    piece: Vec<u8>,
    piece_at: usize,
    position: u64,
}

/// What comes next in the content of a file.
enum Piece {
    Bytes(Vec<u8>),
    Zeros(u64),
    End,
}

/// Yields the entries of an item.
pub(super) struct Original<'a> {
    reader: &'a Arc<ChunkReader>,
    fetcher: Fetcher,
    damaged: DamagedFiles,
    name: &'a str,
    walk: TreeWalk,
    hints: Option<HintsWalk<'a>>,
    before: Previous<'a>,
    content: Option<ContentWalk<'a>>,
    has_ended: bool,
    steps: VecDeque<Step>,
    weight: usize,
    part: std::vec::IntoIter<Fetched>,
    at: Option<At<'a>>,
    failure: Option<Failure>,
    /// Chunks that cannot be had.
    pub(super) lost: HashSet<ChunkId>,
    /// Entries yielded so far, and the bytes of content they hold.
    pub(super) entries: u64,
    pub(super) bytes: u64,
}

impl<'a> Original<'a> {
    /// Starts at the first entry of `item`. `before` is the item, in the same repository, whose
    /// copy the other has.
    pub(super) fn new(
        reader: &'a Arc<ChunkReader>,
        fetcher: Fetcher,
        item: &'a Item,
        before: Option<&Item>,
        damaged: DamagedFiles,
        observer: &'a Arc<dyn Observer>,
    ) -> Self {
        let before = before.map(|item| Item { hints: None, ..item.clone() });
        Self {
            reader,
            fetcher,
            damaged,
            name: &item.name,
            walk: TreeWalk::new(reader, item.root, item.root_level),
            hints: item.hints_root().map(|root| HintsWalk::new(reader, root)),
            before: Previous::new(reader, before.as_ref(), observer),
            content: None,
            has_ended: false,
            steps: VecDeque::new(),
            weight: 0,
            part: Vec::new().into_iter(),
            at: None,
            failure: None,
            lost: HashSet::new(),
            entries: 0,
            bytes: 0,
        }
    }

    /// Why it ended before its end, if it did.
    pub(super) fn take_failure(&mut self) -> Option<Failure> {
        self.failure.take()
    }

    /// Walks on until enough is known and under way.
    fn fill(&mut self) -> Result<(), SourceError> {
        while !self.has_ended
            && self.steps.len() < STEPS_MAX
            && self.weight < WEIGHT_MAX
            && !self.fetcher.is_full()
        {
            if let Err(error) = self.advance() {
                return Err(self.fail(None, error));
            }
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<(), RepoError> {
        if let Some(content) = &mut self.content {
            let step = match content.next() {
                Ok(Some(Extent::Zeros(len))) => Step::Zeros(len),
                Ok(Some(Extent::Chunk(id, len))) => {
                    Step::Chunk(id, len, self.fetcher.add(id, len)?)
                }
                Ok(None) => {
                    self.content = None;
                    return Ok(());
                }
                Err(error) => {
                    self.content = None;
                    Step::Lost(error)
                }
            };
            self.steps.push_back(step);
            return Ok(());
        }
        let Some((path, Stored { entry, content })) = self.walk.next()? else {
            self.has_ended = true;
            return Ok(());
        };
        let hint = self.next_hint()?;
        let before = self.before.find(&path);
        let is_as_before = has_content(&entry)
            && before
                .is_some_and(|old| has_content(&old.stored.entry) && old.stored.content == content);
        if has_content(&entry) && !is_as_before {
            self.content = Some(ContentWalk::new(self.reader, &content));
        }
        self.weight += weight(&path, &entry);
        let found = Box::new(Found { path, entry, hint });
        self.steps.push_back(Step::Entry(found, is_as_before.then_some(content)));
        Ok(())
    }

    /// What helps to find changed files is worth no failure.
    fn next_hint(&mut self) -> Result<Option<Hint>, RepoError> {
        match self.hints.as_mut().map(HintsWalk::next) {
            None => Ok(None),
            Some(Err(error)) if is_damage(&error) => {
                self.hints = None;
                Ok(None)
            }
            Some(next) => next,
        }
    }

    /// The next chunk that was asked for; `part` if it begins one.
    fn fetched(&mut self, part: Option<&Part>) -> Fetched {
        if let Some(part) = part {
            self.part = self.fetcher.receive(part)?.into_iter();
        }
        self.part.next().unwrap_or(Err(RepoError::Worker))
    }

    fn piece(&mut self) -> Result<Piece, ReadError> {
        let late = self.at.as_mut().and_then(|at| at.unfetched.as_mut());
        if let Some(walk) = late {
            let (id, piece) = match walk.next() {
                Ok(None) => return Ok(Piece::End),
                Ok(Some(Extent::Zeros(len))) => return Ok(Piece::Zeros(len)),
                Ok(Some(Extent::Chunk(id, len))) => {
                    (Some(id), of_length(&id, len, self.reader.read(PackKind::Data, &id)))
                }
                Err(error) => (None, Err(error)),
            };
            return piece.map(Piece::Bytes).map_err(|error| self.lose(id, error));
        }
        self.fill()?;
        match self.steps.pop_front() {
            None => Ok(Piece::End),
            Some(entry @ Step::Entry(..)) => {
                self.steps.push_front(entry);
                Ok(Piece::End)
            }
            Some(Step::Zeros(len)) => Ok(Piece::Zeros(len)),
            Some(Step::Lost(error)) => Err(self.lose(None, error)),
            Some(Step::Chunk(id, len, part)) => {
                let fetched = self.fetched(part.as_ref());
                let bytes = of_length(&id, len, fetched);
                bytes.map(Piece::Bytes).map_err(|error| self.lose(Some(id), error))
            }
        }
    }

    /// Decides what it means that content of the entry yielded last cannot be had.
    fn lose(&mut self, id: Option<ChunkId>, error: RepoError) -> ReadError {
        let is_lost = is_damage(&error);
        if is_lost {
            self.lost.extend(id);
        }
        if is_lost && self.damaged == DamagedFiles::LeaveOut {
            let message = format!("left out: damaged where it is copied from: {}", chain(&error));
            return ReadError::Entry(message, None);
        }
        let path = self.at.as_ref().map(|at| at.found.path.clone());
        self.fail(path, error).into()
    }

    fn fail(&mut self, path: Option<EntryPath>, error: RepoError) -> SourceError {
        let message = chain(&error);
        self.has_ended = true;
        self.failure = Some(match is_damage(&error) {
            true => Failure::Damaged(path, error),
            false => Failure::Repo(error),
        });
        SourceError::Stream { name: self.name.to_owned(), message, source: None }
    }
}

impl Source for Original<'_> {
    fn order(&self) -> Order {
        Order::Sorted
    }

    fn next(&mut self) -> Result<Option<Found>, SourceError> {
        self.at = None;
        loop {
            self.fill()?;
            match self.steps.pop_front() {
                None => return Ok(None),
                Some(Step::Entry(found, content)) => {
                    self.weight = self.weight.saturating_sub(weight(&found.path, &found.entry));
                    self.entries += 1;
                    self.bytes = self.bytes.saturating_add(found.entry.content_len());
                    self.at = Some(At {
                        found: (*found).clone(),
                        is_as_before: content.is_some(),
                        unfetched: content.map(|content| ContentWalk::new(self.reader, &content)),
                        piece: Vec::new(),
                        piece_at: 0,
                        position: 0,
                    });
                    return Ok(Some(*found));
                }
                // Content that nobody read.
                Some(Step::Chunk(_, _, part)) => {
                    let _ = self.fetched(part.as_ref());
                }
                Some(Step::Zeros(_) | Step::Lost(_)) => {}
            }
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<Run, ReadError> {
        loop {
            let Some(at) = &mut self.at else { return Ok(Run::End) };
            let rest = &at.piece[at.piece_at..];
            if !rest.is_empty() {
                let len = rest.len().min(buffer.len());
                buffer[..len].copy_from_slice(&rest[..len]);
                at.piece_at += len;
                at.position += len as u64;
                return Ok(Run::Data(len));
            }
            let piece = self.piece()?;
            let Some(at) = &mut self.at else { return Ok(Run::End) };
            match piece {
                Piece::Bytes(bytes) => (at.piece, at.piece_at) = (bytes, 0),
                Piece::Zeros(0) => {}
                Piece::Zeros(len) => {
                    at.position = at.position.saturating_add(len);
                    return Ok(Run::Hole(len));
                }
                Piece::End => return Ok(Run::End),
            }
        }
    }

    fn finish(&mut self) -> Result<(Entry, Option<Hint>), ReadError> {
        let Some(at) = &self.at else {
            return Err(ReadError::Entry("has no content of its own".to_owned(), None));
        };
        if at.position != at.found.entry.content_len() {
            let error = FormatError::damaged("content of a file", "it has another length");
            return Err(self.lose(None, error.into()));
        }
        Ok((at.found.entry.clone(), at.found.hint))
    }

    fn is_as_before(&self) -> Option<bool> {
        self.at.as_ref().map(|at| at.is_as_before)
    }
}

fn has_content(entry: &Entry) -> bool {
    matches!(entry.kind, Kind::File { .. }) && entry.link.is_none()
}

/// About what an entry takes in memory, in bytes.
fn weight(path: &EntryPath, entry: &Entry) -> usize {
    let xattrs = entry.xattrs.iter().map(|xattr| xattr.name.len() + xattr.value.len());
    path.as_key().len() + xattrs.sum::<usize>()
}

/// The length must be the one the tree gives.
fn of_length(id: &ChunkId, len: u32, fetched: Fetched) -> Fetched {
    let bytes = fetched?;
    if bytes.len() == len as usize {
        return Ok(bytes);
    }
    Err(RepoError::Chunk { id: *id, why: "has another length than its file says".to_owned() })
}

/// Whether something is lost. What a collector has moved meanwhile is not.
fn is_damage(error: &RepoError) -> bool {
    match error {
        RepoError::Gone { .. } => false,
        RepoError::Store(error) => error.is_damage(),
        other => other.is_damage(),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
