//! The steps of a restore, as the host sends them to its agent.

use super::link::{LinkError, PAYLOAD_MAX};
use super::message::{entry, path, put_entry, unknown};
use crate::codec::{WireError, WireReader, put_bytes, put_varint};
use crate::entry::{Entry, EntryPath, Kind};
use crate::sink::Holes;

/// One step of a restore. Files under way have numbers, given by the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    MakeDirectory(EntryPath),
    CreateFile {
        file: u32,
        path: EntryPath,
        size: u64,
        holes: Holes,
    },
    /// To be answered with how many names it has.
    OpenFile {
        file: u32,
        path: EntryPath,
        holes: Holes,
    },
    WriteAt {
        file: u32,
        offset: u64,
        data: Vec<u8>,
    },
    Punch {
        file: u32,
        offset: u64,
        len: u64,
    },
    Truncate {
        file: u32,
        len: u64,
    },
    FinishFile {
        file: u32,
        entry: Entry,
    },
    CloseFile {
        file: u32,
    },
    MakeOther {
        path: EntryPath,
        entry: Entry,
    },
    /// The kind of the entry is what `first` must be.
    Link {
        path: EntryPath,
        first: EntryPath,
        entry: Entry,
    },
    FinishDirectory {
        path: EntryPath,
        entry: Entry,
    },
    SetMetadata {
        path: EntryPath,
        entry: Entry,
    },
    Remove(EntryPath),
    /// To be answered with how many names there are.
    Links(EntryPath),
    /// The last; to be answered with 0 once all is on disk.
    Complete {
        root: Entry,
    },
}

impl Step {
    /// About how many bytes it takes.
    pub(super) fn weight(&self) -> usize {
        let paths = match self {
            Self::MakeDirectory(path) | Self::Remove(path) | Self::Links(path) => path_len(path),
            Self::CreateFile { path, .. } | Self::OpenFile { path, .. } => path_len(path),
            Self::MakeOther { path, entry }
            | Self::FinishDirectory { path, entry }
            | Self::SetMetadata { path, entry } => path_len(path) + entry_len(entry),
            Self::Link { path, first, .. } => path_len(path) + path_len(first),
            Self::FinishFile { entry, .. } | Self::Complete { root: entry } => entry_len(entry),
            Self::WriteAt { data, .. } => data.len(),
            Self::Punch { .. } | Self::Truncate { .. } | Self::CloseFile { .. } => 0,
        };
        paths + 64
    }

    /// Appends it.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let (kind, file, path, entry) = match self {
            Self::MakeDirectory(path) => (0, None, Some(path), None),
            Self::CreateFile { file, path, .. } => (1, Some(*file), Some(path), None),
            Self::OpenFile { file, path, .. } => (2, Some(*file), Some(path), None),
            Self::WriteAt { file, .. } => (3, Some(*file), None, None),
            Self::Punch { file, .. } => (4, Some(*file), None, None),
            Self::Truncate { file, .. } => (5, Some(*file), None, None),
            Self::FinishFile { file, entry } => (6, Some(*file), None, Some(entry)),
            Self::CloseFile { file } => (7, Some(*file), None, None),
            Self::MakeOther { path, entry } => (8, None, Some(path), Some(entry)),
            Self::Link { path, entry, .. } => (9, None, Some(path), Some(entry)),
            Self::FinishDirectory { path, entry } => (10, None, Some(path), Some(entry)),
            Self::SetMetadata { path, entry } => (11, None, Some(path), Some(entry)),
            Self::Remove(path) => (12, None, Some(path), None),
            Self::Links(path) => (13, None, Some(path), None),
            Self::Complete { root } => (14, None, None, Some(root)),
        };
        out.push(kind);
        if let Some(file) = file {
            put_varint(out, u64::from(file));
        }
        if let Some(path) = path {
            put_bytes(out, path.as_key());
        }
        if let Some(entry) = entry {
            put_entry(out, entry, &mut Vec::new());
        }
        match self {
            Self::CreateFile { size, holes, .. } => {
                put_varint(out, *size);
                out.push(u8::from(*holes == Holes::Make));
            }
            Self::OpenFile { holes, .. } => out.push(u8::from(*holes == Holes::Make)),
            Self::WriteAt { offset, data, .. } => {
                put_varint(out, *offset);
                put_bytes(out, data);
            }
            Self::Punch { offset, len, .. } => {
                put_varint(out, *offset);
                put_varint(out, *len);
            }
            Self::Truncate { len, .. } => put_varint(out, *len),
            Self::Link { first, .. } => put_bytes(out, first.as_key()),
            _ => {}
        }
    }

    pub(super) fn decode(reader: &mut WireReader<'_>) -> Result<Self, LinkError> {
        fn file(reader: &mut WireReader<'_>) -> Result<u32, WireError> {
            reader.varint_u32("number of a file")
        }
        fn holes(reader: &mut WireReader<'_>) -> Result<Holes, WireError> {
            Ok(Holes::of(reader.u8()? != 0))
        }
        Ok(match reader.u8()? {
            0 => Self::MakeDirectory(path(reader)?),
            1 => Self::CreateFile {
                file: file(reader)?,
                path: path(reader)?,
                size: reader.varint()?,
                holes: holes(reader)?,
            },
            2 => Self::OpenFile { file: file(reader)?, path: path(reader)?, holes: holes(reader)? },
            3 => Self::WriteAt {
                file: file(reader)?,
                offset: reader.varint()?,
                data: reader.sized(PAYLOAD_MAX, "length of data")?.to_vec(),
            },
            4 => {
                Self::Punch { file: file(reader)?, offset: reader.varint()?, len: reader.varint()? }
            }
            5 => Self::Truncate { file: file(reader)?, len: reader.varint()? },
            6 => Self::FinishFile { file: file(reader)?, entry: entry(reader)? },
            7 => Self::CloseFile { file: file(reader)? },
            8 => Self::MakeOther { path: path(reader)?, entry: entry(reader)? },
            9 => {
                let (to, entry) = (path(reader)?, entry(reader)?);
                Self::Link { path: to, entry, first: path(reader)? }
            }
            10 => Self::FinishDirectory { path: path(reader)?, entry: entry(reader)? },
            11 => Self::SetMetadata { path: path(reader)?, entry: entry(reader)? },
            12 => Self::Remove(path(reader)?),
            13 => Self::Links(path(reader)?),
            14 => Self::Complete { root: entry(reader)? },
            kind => return Err(unknown(kind)),
        })
    }
}

fn path_len(path: &EntryPath) -> usize {
    path.as_key().len()
}

/// What an entry takes that can be long, in bytes.
fn entry_len(entry: &Entry) -> usize {
    let target = match &entry.kind {
        Kind::Symlink { target } => target.len(),
        _ => 0,
    };
    let first = entry.link.as_ref().map_or(0, path_len);
    let xattrs: usize = entry.xattrs.iter().map(|x| x.name.len() + x.value.len()).sum();
    target + first + xattrs
}
