//! One member of a tar stream: its header, with the extended headers before it.
//!
//! Part of [`super::TarStream`]. Where readers of this format disagree about what a sequence of
//! headers means, the stream is refused: two programs must not see two contents in one archive.

use tar_core::EntryType;

use super::header::{Block, Format};
use super::input::Input;
use super::pax::Attributes;
use super::sparse::{self, Map};
use crate::clock::Time;
use crate::source::SourceError;

/// Most bytes of extended headers for one member.
const METADATA_LEN_MAX: u64 = 1 << 20;

/// Largest size an octal field can hold; only above it may the two sizes of a member differ.
const OCTAL_SIZE_MAX: u64 = 0o77_777_777_777;

/// What kind of thing a member is, as far as the format can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    File,
    Link,
    Symlink,
    CharDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Directory,
    Fifo,
    /// Something else, by its type byte; or a file whose content cannot be made out.
    Unknown(u8),
}

/// A member with all that is said about it. Owners are as large as the format allows.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) kind: Type,
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) mode: u32,
    pub(super) uid: i128,
    pub(super) gid: i128,
    pub(super) mtime: Option<Time>,
    pub(super) attributes: Attributes,
    /// Length of the file's content, holes included.
    pub(super) size: u64,
    /// Where data lies in it; for a file without holes, all of it.
    pub(super) map: Map,
    pub(super) sparse: bool,
    /// Bytes left of its data in the stream.
    pub(super) stored: u64,
}

/// Extended headers waiting for their member.
#[derive(Default)]
struct Pending {
    len: u64,
    pax: Option<Vec<u8>>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.pax.is_none() && self.name.is_none() && self.link.is_none()
    }

    /// Errors: a second one of a kind, or both ways to extend a header for one member.
    fn add(&mut self, kind: u8, data: Vec<u8>) -> Result<(), String> {
        let mixed = match kind {
            b'x' => self.name.is_some() || self.link.is_some(),
            _ => self.pax.is_some(),
        };
        if mixed {
            return Err("PAX and GNU extended headers for the same entry".into());
        }
        let slot = match kind {
            b'x' => &mut self.pax,
            b'L' => &mut self.name,
            _ => &mut self.link,
        };
        match slot.replace(data) {
            None => Ok(()),
            Some(_) => Err("two extended headers of a kind for the same entry".into()),
        }
    }
}

/// Reads the next member; none at the end marker, with nothing but zeros behind it.
pub(super) fn next(
    input: &mut Input,
    globals: &mut Attributes,
) -> Result<Option<Member>, SourceError> {
    let mut pending = Pending::default();
    loop {
        let at = input.position();
        let Some(bytes) = input.block()? else {
            return Err(input.fail(format!("no end marker: the stream broke off after {at} bytes")));
        };
        if bytes.iter().all(|b| *b == 0) {
            return end(input, &pending).map(|()| None);
        }
        let fail = |message: String| format!("{message} (header at byte {at})");
        let block = Block::check(&bytes).map_err(|e| input.fail(fail(e)))?;
        let kind = block.type_byte();
        if !matches!(kind, b'x' | b'g' | b'L' | b'K') {
            return member(input, &block, globals, pending, fail).map(Some);
        }
        let data = extension(input, &block, &mut pending.len).map_err(|e| match e {
            Refusal::Message(message) => input.fail(fail(message)),
            Refusal::Source(error) => error,
        })?;
        let added = match kind {
            b'g' if !pending.is_empty() => Err("global header right before an entry".into()),
            b'g' => {
                pending.len = 0;
                globals.apply_global(&data)
            }
            b'L' | b'K' => pending.add(kind, without_nul(data)),
            _ => pending.add(kind, data),
        };
        added.map_err(|e| input.fail(fail(e)))?;
    }
}

/// Reads the second half of the end marker and what follows it.
fn end(input: &mut Input, pending: &Pending) -> Result<(), SourceError> {
    if !pending.is_empty() {
        return Err(input.fail("extended header without an entry"));
    }
    let at = input.position();
    match input.block()? {
        None => Err(input.fail(format!("the stream broke off in its end marker, at byte {at}"))),
        Some(block) if block.iter().any(|b| *b != 0) => {
            Err(input.fail(format!("data after half an end marker, at byte {at}")))
        }
        Some(_) => input.drain_zeros(),
    }
}

enum Refusal {
    Message(String),
    Source(SourceError),
}

impl From<String> for Refusal {
    fn from(message: String) -> Self {
        Self::Message(message)
    }
}

impl From<SourceError> for Refusal {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

/// Reads the data of an extended header; `total` counts those of one member.
fn extension(input: &mut Input, block: &Block<'_>, total: &mut u64) -> Result<Vec<u8>, Refusal> {
    if block.format() == Format::Old {
        return Err(Refusal::Message("extended header in a format that has none".into()));
    }
    let size = block.size()?;
    *total = total.saturating_add(size);
    let len =
        usize::try_from(size).ok().filter(|_| *total <= METADATA_LEN_MAX).ok_or_else(|| {
            format!("extended headers of {total} bytes, more than {METADATA_LEN_MAX}")
        })?;
    Ok(input.padded(len)?)
}

fn without_nul(mut data: Vec<u8>) -> Vec<u8> {
    // GNU counts the NUL after the name; readers take what comes before it.
    if let Some(end) = data.iter().position(|b| *b == 0) {
        data.truncate(end);
    }
    data
}

fn member(
    input: &mut Input,
    block: &Block<'_>,
    globals: &Attributes,
    pending: Pending,
    fail: impl Fn(String) -> String,
) -> Result<Member, SourceError> {
    let mut member =
        assemble(block, globals, pending).map_err(|message| input.fail(fail(message)))?;
    if block.type_byte() == b'S' {
        let found = block.gnu_sparse_size().and_then(|size| Ok((size, block.gnu_sparse()?)));
        let (size, first) = found.map_err(|message| input.fail(fail(message)))?;
        member.map = sparse::read_old(input, first)?;
        (member.size, member.sparse) = (size, true);
    } else if member.kind == Type::File {
        read_pax_sparse(input, &mut member)?;
    }
    if member.kind == Type::File {
        let checked = member.map.check(member.size, member.stored);
        checked.map_err(|message| input.fail(fail(message)))?;
    }
    Ok(member)
}

/// Puts together what the header and the extended headers before it say.
fn assemble(block: &Block<'_>, globals: &Attributes, pending: Pending) -> Result<Member, String> {
    let mut attributes = globals.clone();
    if let Some(data) = &pending.pax {
        attributes.apply(data)?;
    }
    let path = attributes.sparse.name.take().or(attributes.path.take());
    let path = path.or(pending.name).unwrap_or_else(|| block.path());
    let link = attributes.link.take().or(pending.link).unwrap_or_else(|| block.link());
    let stored = size(block.size()?, attributes.size)?;
    let (kind, stored) = kind(block, &path, stored)?;
    let seconds = block.mtime()?;
    let header_time = i64::try_from(seconds).ok().map(|seconds| Time::new(seconds, 0));
    Ok(Member {
        kind,
        path,
        link,
        mode: block.mode()?,
        uid: attributes.uid.map_or_else(|| block.uid(), |uid| Ok(uid.into()))?,
        gid: attributes.gid.map_or_else(|| block.gid(), |gid| Ok(gid.into()))?,
        mtime: attributes.mtime.or(header_time),
        attributes,
        size: stored,
        map: Map::dense(stored),
        sparse: false,
        stored,
    })
}

/// The size to go by. Source: RUSTSEC-2026-0068, CVE-2025-62518: readers that go by the other one
/// see other members.
fn size(header: u64, pax: Option<u64>) -> Result<u64, String> {
    match pax {
        Some(pax) if pax != header && pax <= OCTAL_SIZE_MAX => {
            Err(format!("two sizes for one entry: {header} and {pax}"))
        }
        Some(pax) => Ok(pax),
        None => Ok(header),
    }
}

/// What the member is, and how much data it has.
fn kind(block: &Block<'_>, path: &[u8], stored: u64) -> Result<(Type, u64), String> {
    let byte = block.type_byte();
    let kind = match EntryType::from_byte(byte) {
        // Before there was a type for directories, a slash made one.
        EntryType::Regular | EntryType::Continuous if path.ends_with(b"/") => Type::Directory,
        EntryType::Regular | EntryType::Continuous => Type::File,
        EntryType::GnuSparse if block.format() == Format::Gnu => Type::File,
        EntryType::GnuSparse => return Err("sparse file in a format that has none".into()),
        EntryType::Link => Type::Link,
        EntryType::Symlink => Type::Symlink,
        EntryType::Directory => Type::Directory,
        EntryType::Fifo => Type::Fifo,
        EntryType::Char => {
            let (major, minor) = block.device()?;
            Type::CharDevice { major, minor }
        }
        EntryType::Block => {
            let (major, minor) = block.device()?;
            Type::BlockDevice { major, minor }
        }
        // A directory of GNU tar's incremental archives, with a list of names as data.
        _ if byte == b'D' => return Ok((Type::Directory, stored)),
        _ => Type::Unknown(byte),
    };
    match kind {
        Type::File | Type::Unknown(_) => Ok((kind, stored)),
        // Old archives repeat the size of the file here; no reader takes data to follow.
        Type::Link => Ok((kind, 0)),
        _ if stored == 0 => Ok((kind, 0)),
        _ => Err(format!("{stored} bytes of data for an entry that has none")),
    }
}

/// Takes the map of GNU's sparse files in PAX archives, wherever it stands.
fn read_pax_sparse(input: &mut Input, member: &mut Member) -> Result<(), SourceError> {
    let sparse = &member.attributes.sparse;
    let map = match sparse.version {
        (None, None) | (Some(0), Some(0 | 1)) => sparse.to_map().map_err(|e| input.fail(e))?,
        (Some(1), Some(0)) => {
            let (map, used) = sparse::read_v1(input, member.stored)?;
            member.stored = member
                .stored
                .checked_sub(used)
                .ok_or_else(|| input.fail("sparse map longer than its entry"))?;
            Some(map)
        }
        _ => {
            member.kind = Type::Unknown(b'S');
            return Ok(());
        }
    };
    if let Some(map) = map {
        let size = sparse.size.ok_or_else(|| input.fail("sparse file without a size"))?;
        (member.size, member.map, member.sparse) = (size, map, true);
    } else if sparse.size.is_some() {
        return Err(input.fail("sparse file without a map"));
    }
    Ok(())
}
