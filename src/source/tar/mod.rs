//! A tar stream as a source: what an engine or another program sends, read once from front to end.
//!
//! Built on the header layout of `tar_core`. A stream counts as complete only with its end marker
//! and nothing but zeros behind it, memory is bounded whatever the stream says, and a stream that
//! programs could understand in two ways is refused.

mod header;
mod input;
mod member;
mod pax;
mod sparse;

#[cfg(test)]
mod foreign;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod written;

use std::io::Read;
use std::sync::Arc;

use self::input::{Input, padding};
use self::member::{Member, Type};
use self::pax::Attributes;
use self::sparse::Map;
use super::{Found, Order, ReadError, Run, Source, SourceError};
use crate::entry::{Entry, EntryPath, Hint, Kind, Xattr};
use crate::event::{Observer, Warning};

/// How to read a tar stream.
#[derive(Debug, Clone)]
pub struct TarOptions {
    /// What the stream is called in messages.
    pub name: String,
    /// The directory in the stream that is the root of the item: `v` if names begin with `v/`, the
    /// root if they begin with nothing or `./`. What lies beside it is skipped with a warning.
    pub root: EntryPath,
}

impl TarOptions {
    /// A stream called `name` whose names begin at the root of the item.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), root: EntryPath::root() }
    }
}

/// Reads entries from a tar stream: ustar, PAX, GNU or older.
///
/// A hard link comes as a [`Kind::File`] of size 0 with [`Entry::link`] set, whatever it is a link
/// to: kind, size and content are those of the entry at that path. Sparse files of all GNU forms
/// yield their holes. A time without a fraction is a whole second. Hints are never known.
///
/// Left out with a warning: entries of unknown type, with `..` or an otherwise impossible name, or
/// with owners and times beyond what a system can hold. Everything malformed or ambiguous ends the
/// stream with [`SourceError::Stream`], and so does each later call.
pub struct TarStream {
    input: Input,
    options: TarOptions,
    observer: Arc<dyn Observer>,
    globals: Attributes,
    warned: Vec<&'static str>,
    state: State,
    current: Option<Current>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Ended,
    Failed,
}

/// The entry yielded last, and where in its content the stream stands.
struct Current {
    entry: Entry,
    map: Map,
    size: u64,
    offset: u64,
    stored: u64,
    padding: u64,
}

impl TarStream {
    /// Reads `reader` to its end; nothing is read before the first call of [`Source::next`].
    #[must_use]
    pub fn new(
        reader: Box<dyn Read + Send>,
        options: TarOptions,
        observer: Arc<dyn Observer>,
    ) -> Self {
        Self {
            input: Input::new(reader, options.name.clone()),
            options,
            observer,
            globals: Attributes::default(),
            warned: Vec::new(),
            state: State::Open,
            current: None,
        }
    }

    fn advance(&mut self) -> Result<Option<Found>, SourceError> {
        loop {
            if let Some(current) = self.current.take() {
                self.input.skip(current.stored)?;
                self.input.skip(current.padding)?;
            }
            let Some(mut member) = member::next(&mut self.input, &mut self.globals)? else {
                return Ok(None);
            };
            let path = std::mem::take(&mut member.path);
            let stored = member.stored;
            let found = self.convert(&path, &mut member);
            match found {
                Ok(Some((at, entry))) => {
                    self.warn_lost(&path, &member.attributes);
                    let file = member.kind == Type::File;
                    self.current = Some(Current {
                        entry: entry.clone(),
                        map: if file { member.map } else { Map::default() },
                        size: if file { member.size } else { 0 },
                        offset: 0,
                        stored,
                        padding: padding(stored),
                    });
                    return Ok(Some(Found { path: at, entry, hint: None }));
                }
                Ok(None) => {}
                Err(message) => self.observer.warn(Warning::skipped(path, message)),
            }
            self.input.skip(stored)?;
            self.input.skip(padding(stored))?;
        }
    }

    /// What the member is to us; none if it is a directory above the root.
    ///
    /// Errors: why it is left out.
    fn convert(
        &self,
        path: &[u8],
        member: &mut Member,
    ) -> Result<Option<(EntryPath, Entry)>, String> {
        if let Type::Unknown(byte) = member.kind {
            let byte = byte.escape_ascii();
            return Err(format!("entries of type `{byte}` cannot be saved"));
        }
        let full = EntryPath::from_slashed(path).map_err(|e| e.to_string())?;
        if full.contains(&self.options.root) && full != self.options.root {
            return Ok(None);
        }
        let at = self.below_root(&full)?;
        let (kind, link) = self.kind(&at, member)?;
        if at.is_root() && !matches!(kind, Kind::Directory) {
            return Err("the root is not a directory".into());
        }
        let owner = |id: i128| {
            u32::try_from(id).map_err(|_| format!("owner {id} is beyond what a system can hold"))
        };
        let xattrs = std::mem::take(&mut member.attributes.xattrs);
        let entry = Entry {
            kind,
            mode: member.mode,
            uid: owner(member.uid)?,
            gid: owner(member.gid)?,
            mtime: member.mtime.ok_or("its time is beyond what a system can hold")?,
            xattrs: xattrs.into_iter().map(|(name, value)| Xattr { name, value }).collect(),
            link,
        };
        Ok(Some((at, entry)))
    }

    fn kind(
        &self,
        at: &EntryPath,
        member: &mut Member,
    ) -> Result<(Kind, Option<EntryPath>), String> {
        let kind = match member.kind {
            Type::File => Kind::File { size: member.size, sparse: member.sparse },
            Type::Directory => Kind::Directory,
            Type::Fifo => Kind::Fifo,
            Type::CharDevice { major, minor } => Kind::CharDevice { major, minor },
            Type::BlockDevice { major, minor } => Kind::BlockDevice { major, minor },
            Type::Unknown(byte) => return Err(format!("type {byte}")),
            Type::Symlink if member.link.is_empty() || member.link.contains(&0) => {
                return Err("symbolic link with an impossible target".into());
            }
            Type::Symlink => Kind::Symlink { target: std::mem::take(&mut member.link) },
            Type::Link => {
                let target = EntryPath::from_slashed(&member.link).map_err(|e| e.to_string());
                let target = target.and_then(|target| self.below_root(&target));
                let target = target.map_err(|e| format!("hard link to an impossible name: {e}"))?;
                if target.is_root() || target == *at {
                    return Err("hard link to itself or to the root".into());
                }
                return Ok((Kind::File { size: 0, sparse: false }, Some(target)));
            }
        };
        Ok((kind, None))
    }

    /// Takes the item's root off a path.
    fn below_root(&self, path: &EntryPath) -> Result<EntryPath, String> {
        let root = &self.options.root;
        if !root.contains(path) {
            return Err(format!("lies outside `{root}`"));
        }
        let taken = root.components().count();
        path.components()
            .skip(taken)
            .try_fold(EntryPath::root(), |at, name| at.child(name))
            .map_err(|e| e.to_string())
    }

    /// Says once for each kind of attribute that it is not kept.
    fn warn_lost(&mut self, path: &[u8], attributes: &Attributes) {
        for what in &attributes.lost {
            if !self.warned.contains(what) {
                self.warned.push(what);
                let message = format!("{what} not saved, here and maybe in further entries");
                self.observer.warn(Warning::skipped(path, message));
            }
        }
    }

    fn read_on(&mut self, buffer: &mut [u8]) -> Result<Run, SourceError> {
        let Some(current) = &mut self.current else { return Ok(Run::End) };
        let Some((start, len)) = current.map.front() else {
            let hole = current.size - current.offset;
            current.offset = current.size;
            return Ok(if hole > 0 { Run::Hole(hole) } else { Run::End });
        };
        if start > current.offset {
            let hole = start - current.offset;
            current.offset = start;
            return Ok(Run::Hole(hole));
        }
        let want = usize::try_from(len).map_or(buffer.len(), |len| len.min(buffer.len()));
        let got = self.input.some(&mut buffer[..want])?;
        current.map.advance(got as u64);
        current.offset += got as u64;
        current.stored -= got as u64;
        Ok(Run::Data(got))
    }

    fn refuse_failed(&self) -> Result<(), SourceError> {
        if self.state == State::Failed {
            return Err(self.input.fail("the stream has failed before"));
        }
        Ok(())
    }
}

impl Source for TarStream {
    fn order(&self) -> Order {
        Order::Unsorted
    }

    fn next(&mut self) -> Result<Option<Found>, SourceError> {
        self.refuse_failed()?;
        if self.state == State::Ended {
            return Ok(None);
        }
        // Stands until the stream has proved to be sound so far.
        self.state = State::Failed;
        let found = self.advance()?;
        self.state = if found.is_some() { State::Open } else { State::Ended };
        Ok(found)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<Run, ReadError> {
        self.refuse_failed()?;
        if buffer.is_empty() {
            return Err(ReadError::Entry("read into an empty buffer".into(), None));
        }
        let run = self.read_on(buffer);
        if run.is_err() {
            self.state = State::Failed;
        }
        Ok(run?)
    }

    fn finish(&mut self) -> Result<(Entry, Option<Hint>), ReadError> {
        self.refuse_failed()?;
        match &self.current {
            Some(current) => Ok((current.entry.clone(), None)),
            None => Err(ReadError::Entry("no entry to finish".into(), None)),
        }
    }
}
