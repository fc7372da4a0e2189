//! What a host and its agent say to each other.
//!
//! Both are of the same build: the first message names it, and another build is not talked to. So
//! there are no optional fields; what stands here may change with every version.

use super::link::LinkError;
use super::step::Step;
use crate::clock::Time;
use crate::codec::{WireError, WireReader, put_bytes, put_signed, put_varint};
use crate::entry::{Entry, EntryPath, Extent, Hint, Kind, PATH_LEN_MAX};
use crate::format::{Content, Stored};
use crate::id::ChunkId;
use crate::repo::Cutter;

/// Longest text in a message, in bytes.
const TEXT_MAX: usize = 1 << 20;
/// Longest entry in a message, in bytes: its attributes and the target of a link.
const ENTRY_MAX: usize = 3 << 20;
/// Most patterns of one kind.
const PATTERNS_MAX: usize = 10_000;
/// Most things found, hints or answers in a message; there are fewer than 3,000.
const COUNT_MAX: usize = 1 << 15;

/// What a file was like when it was saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileHint {
    pub(super) path: EntryPath,
    pub(super) size: u64,
    pub(super) mtime: Time,
    pub(super) hint: Hint,
}

/// What is to be read.
#[derive(Debug)]
pub(super) struct ReadTask {
    pub(super) cutter: Cutter,
    pub(super) read_all: bool,
    /// Whether what is sent is worth packing.
    pub(super) pack: bool,
    pub(super) include: Vec<String>,
    pub(super) exclude: Vec<String>,
}

/// What is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WriteTask {
    /// Whether the directory was there before and may hold anything.
    pub(super) existing: bool,
    /// Names the restore.
    pub(super) marker: String,
}

/// What the host says.
#[derive(Debug)]
pub(super) enum ToAgent {
    /// Read this; hints follow as they are asked for.
    Read(Box<ReadTask>),
    /// Files of the snapshot before, in order; `last` with the last of them.
    Hints { hints: Vec<FileHint>, last: bool },
    /// Which chunks of a batch are wanted.
    Want { batch: u64, wanted: Vec<bool> },
    /// Say what the marker of an unfinished restore says, if there is one.
    Marker,
    /// Write this; steps follow.
    Write(WriteTask),
    /// Do this, in order.
    Steps(Vec<Step>),
}

/// What was found, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// An entry that has no content of its own.
    Plain { path: EntryPath, entry: Entry, hint: Option<Hint> },
    /// A file that is as it was.
    Kept { path: EntryPath, entry: Entry, hint: Option<Hint> },
    /// A chunk of the file that is being read.
    Chunk { id: ChunkId, len: u32 },
    /// Zeros of it.
    Zeros(u64),
    /// The file that was being read is complete.
    End { path: EntryPath, entry: Entry, hint: Option<Hint> },
    /// It is lost; why came as a warning.
    Lost { path: EntryPath },
}

/// What the agent says.
#[derive(Debug)]
pub(super) enum ToHost {
    /// Which build it is.
    Hello { build: String },
    /// What was found; its chunks are kept until it is said which are wanted.
    Batch { number: u64, found: Vec<Found> },
    /// The chunks of a batch that are wanted, one after another.
    Data { batch: u64, bytes: Vec<u8> },
    /// More hints, please.
    More,
    /// To be passed on.
    Warning { object: Vec<u8>, message: String, skipped: bool },
    /// All was read: so many bytes of content.
    End { bytes_read: u64 },
    /// The marker's text.
    Marker(Option<Vec<u8>>),
    /// The answer to a step that is answered: a number, or what went wrong with this one thing.
    Answer(Result<u64, String>),
    /// It is still at it.
    Alive,
    /// It gives up. The target may have been refused for what it holds.
    Failed { message: String, refused: bool },
}

const READ: u8 = 1;
const HINTS: u8 = 2;
const WANT: u8 = 3;
const READ_MARKER: u8 = 4;
const WRITE: u8 = 5;
const STEPS: u8 = 6;

const HELLO: u8 = 64;
const BATCH: u8 = 65;
const DATA: u8 = 66;
const MORE: u8 = 67;
const WARNING: u8 = 68;
const END: u8 = 69;
const FAILED: u8 = 70;
const MARKER: u8 = 71;
const ANSWER: u8 = 72;
const ALIVE: u8 = 73;

const FOUND_PLAIN: u8 = 0;
const FOUND_KEPT: u8 = 1;
const FOUND_CHUNK: u8 = 2;
const FOUND_ZEROS: u8 = 3;
const FOUND_END: u8 = 4;
const FOUND_LOST: u8 = 5;

impl ToAgent {
    /// Kind and payload.
    pub(super) fn encode(&self) -> (u8, Vec<u8>) {
        let mut out = Vec::new();
        let kind = match self {
            Self::Read(task) => {
                task.cutter.lend(&mut out);
                out.push(u8::from(task.read_all));
                out.push(u8::from(task.pack));
                put_texts(&mut out, &task.include);
                put_texts(&mut out, &task.exclude);
                READ
            }
            Self::Hints { hints, last } => {
                out.push(u8::from(*last));
                put_varint(&mut out, hints.len() as u64);
                for hint in hints {
                    put_bytes(&mut out, hint.path.as_key());
                    put_varint(&mut out, hint.size);
                    put_time(&mut out, hint.mtime);
                    put_hint(&mut out, Some(hint.hint));
                }
                HINTS
            }
            Self::Want { batch, wanted } => {
                put_varint(&mut out, *batch);
                put_varint(&mut out, wanted.len() as u64);
                out.extend(wanted.iter().map(|wanted| u8::from(*wanted)));
                WANT
            }
            Self::Marker => READ_MARKER,
            Self::Write(task) => {
                out.push(u8::from(task.existing));
                put_bytes(&mut out, task.marker.as_bytes());
                WRITE
            }
            Self::Steps(steps) => {
                steps.iter().for_each(|step| step.encode(&mut out));
                STEPS
            }
        };
        (kind, out)
    }

    /// Errors: [`LinkError::Damaged`].
    pub(super) fn decode(kind: u8, payload: &[u8]) -> Result<Self, LinkError> {
        let mut reader = WireReader::new(payload);
        let message = match kind {
            READ => Self::Read(Box::new(ReadTask {
                cutter: Cutter::borrow(&mut reader)?,
                read_all: reader.u8()? != 0,
                pack: reader.u8()? != 0,
                include: texts(&mut reader)?,
                exclude: texts(&mut reader)?,
            })),
            HINTS => {
                let last = reader.u8()? != 0;
                let count = reader.len_max(COUNT_MAX, "number of hints")?;
                let mut hints = Vec::new();
                for _ in 0..count {
                    let hint = FileHint {
                        path: path(&mut reader)?,
                        size: reader.varint()?,
                        mtime: time(&mut reader)?,
                        hint: hint(&mut reader)?.ok_or(WireError::Invalid("a hint is missing"))?,
                    };
                    hints.push(hint);
                }
                Self::Hints { hints, last }
            }
            WANT => {
                let batch = reader.varint()?;
                let wanted = reader.sized(COUNT_MAX, "number of chunks")?;
                Self::Want { batch, wanted: wanted.iter().map(|wanted| *wanted != 0).collect() }
            }
            READ_MARKER => Self::Marker,
            WRITE => {
                let existing = reader.u8()? != 0;
                Self::Write(WriteTask { existing, marker: text(&mut reader)? })
            }
            STEPS => {
                let mut steps = Vec::new();
                while reader.remaining() > 0 {
                    steps.push(Step::decode(&mut reader)?);
                }
                Self::Steps(steps)
            }
            _ => return Err(unknown(kind)),
        };
        reader.finish()?;
        Ok(message)
    }
}

impl ToHost {
    /// Kind and payload.
    pub(super) fn encode(&self) -> (u8, Vec<u8>) {
        let mut out = Vec::new();
        let kind = match self {
            Self::Hello { build } => {
                put_bytes(&mut out, build.as_bytes());
                HELLO
            }
            Self::Batch { number, found } => {
                put_varint(&mut out, *number);
                put_varint(&mut out, found.len() as u64);
                let mut value = Vec::new();
                for found in found {
                    found.encode(&mut out, &mut value);
                }
                BATCH
            }
            Self::Data { batch, bytes } => {
                put_varint(&mut out, *batch);
                out.extend_from_slice(bytes);
                DATA
            }
            Self::More => MORE,
            Self::Alive => ALIVE,
            Self::Warning { object, message, skipped } => {
                put_bytes(&mut out, object);
                put_bytes(&mut out, message.as_bytes());
                out.push(u8::from(*skipped));
                WARNING
            }
            Self::End { bytes_read } => {
                put_varint(&mut out, *bytes_read);
                END
            }
            Self::Failed { message, refused } => {
                put_bytes(&mut out, message.as_bytes());
                out.push(u8::from(*refused));
                FAILED
            }
            Self::Marker(text) => {
                out.push(u8::from(text.is_some()));
                out.extend_from_slice(text.as_deref().unwrap_or_default());
                MARKER
            }
            Self::Answer(answer) => {
                out.push(u8::from(answer.is_ok()));
                match answer {
                    Ok(number) => put_varint(&mut out, *number),
                    Err(message) => put_bytes(&mut out, message.as_bytes()),
                }
                ANSWER
            }
        };
        (kind, out)
    }

    /// Errors: [`LinkError::Damaged`].
    pub(super) fn decode(kind: u8, payload: &[u8]) -> Result<Self, LinkError> {
        let mut reader = WireReader::new(payload);
        let message = match kind {
            HELLO => Self::Hello { build: text(&mut reader)? },
            BATCH => {
                let number = reader.varint()?;
                let count = reader.len_max(COUNT_MAX, "number of entries")?;
                let mut found = Vec::new();
                for _ in 0..count {
                    found.push(Found::decode(&mut reader)?);
                }
                Self::Batch { number, found }
            }
            DATA => Self::Data { batch: reader.varint()?, bytes: reader.rest().to_vec() },
            MORE => Self::More,
            ALIVE => Self::Alive,
            WARNING => Self::Warning {
                object: reader.sized(TEXT_MAX, "length of a name")?.to_vec(),
                message: text(&mut reader)?,
                skipped: reader.u8()? != 0,
            },
            END => Self::End { bytes_read: reader.varint()? },
            FAILED => {
                // Another host's words, on their way to a terminal.
                let message = crate::entry::escape(text(&mut reader)?.as_bytes());
                Self::Failed { message, refused: reader.u8()? != 0 }
            }
            MARKER => {
                let is_there = reader.u8()? != 0;
                let text = reader.rest().to_vec();
                Self::Marker(is_there.then_some(text))
            }
            ANSWER => Self::Answer(match reader.u8()? {
                0 => Err(text(&mut reader)?),
                _ => Ok(reader.varint()?),
            }),
            _ => return Err(unknown(kind)),
        };
        reader.finish()?;
        Ok(message)
    }
}

impl Found {
    /// `value` is a buffer that is used again.
    fn encode(&self, out: &mut Vec<u8>, value: &mut Vec<u8>) {
        let mut whole = |kind: u8, path: &EntryPath, entry: &Entry, hint: Option<Hint>| {
            out.push(kind);
            put_bytes(out, path.as_key());
            put_entry(out, entry, value);
            put_hint(out, hint);
        };
        match self {
            Self::Plain { path, entry, hint } => whole(FOUND_PLAIN, path, entry, *hint),
            Self::Kept { path, entry, hint } => whole(FOUND_KEPT, path, entry, *hint),
            Self::End { path, entry, hint } => whole(FOUND_END, path, entry, *hint),
            Self::Chunk { id, len } => {
                out.push(FOUND_CHUNK);
                out.extend_from_slice(id.as_bytes());
                put_varint(out, u64::from(*len));
            }
            Self::Zeros(len) => {
                out.push(FOUND_ZEROS);
                put_varint(out, *len);
            }
            Self::Lost { path } => {
                out.push(FOUND_LOST);
                put_bytes(out, path.as_key());
            }
        }
    }

    fn decode(reader: &mut WireReader<'_>) -> Result<Self, LinkError> {
        let kind = reader.u8()?;
        Ok(match kind {
            FOUND_PLAIN | FOUND_KEPT | FOUND_END => {
                let path = path(reader)?;
                let entry = entry(reader)?;
                let hint = hint(reader)?;
                match kind {
                    FOUND_PLAIN => Self::Plain { path, entry, hint },
                    FOUND_KEPT => Self::Kept { path, entry, hint },
                    _ => Self::End { path, entry, hint },
                }
            }
            FOUND_CHUNK => Self::Chunk {
                id: ChunkId::new(reader.array()?),
                len: reader.varint_u32("length of a chunk")?,
            },
            FOUND_ZEROS => Self::Zeros(reader.varint()?),
            FOUND_LOST => Self::Lost { path: path(reader)? },
            _ => return Err(unknown(kind)),
        })
    }
}

/// `value` is a buffer that is used again.
pub(super) fn put_entry(out: &mut Vec<u8>, entry: &Entry, value: &mut Vec<u8>) {
    value.clear();
    bare(entry).encode(value);
    put_bytes(out, value);
}

pub(super) fn entry(reader: &mut WireReader<'_>) -> Result<Entry, LinkError> {
    let value = reader.sized(ENTRY_MAX, "length of an entry")?;
    let stored = Stored::decode(value).map_err(|e| LinkError::Damaged(e.to_string()))?;
    Ok(stored.entry)
}

/// An entry as a tree keeps it; what stands for its content only has its length.
fn bare(entry: &Entry) -> Stored {
    let content = match entry.kind {
        Kind::File { size, .. } if size > 0 && entry.link.is_none() => {
            Content::Inline(vec![Extent::Zeros(size)])
        }
        _ => Content::empty(),
    };
    Stored { entry: entry.clone(), content }
}

fn put_time(out: &mut Vec<u8>, time: Time) {
    put_signed(out, time.seconds);
    put_varint(out, u64::from(time.nanos));
}

fn time(reader: &mut WireReader<'_>) -> Result<Time, WireError> {
    let seconds = reader.signed()?;
    let nanos = reader.varint_max(999_999_999, "nanoseconds")?;
    Ok(Time::new(seconds, u32::try_from(nanos).unwrap_or(0)))
}

fn put_hint(out: &mut Vec<u8>, hint: Option<Hint>) {
    out.push(u8::from(hint.is_some()));
    if let Some(hint) = hint {
        put_varint(out, hint.inode);
        put_time(out, hint.ctime);
    }
}

fn hint(reader: &mut WireReader<'_>) -> Result<Option<Hint>, WireError> {
    if reader.u8()? == 0 {
        return Ok(None);
    }
    Ok(Some(Hint { inode: reader.varint()?, ctime: time(reader)? }))
}

pub(super) fn path(reader: &mut WireReader<'_>) -> Result<EntryPath, LinkError> {
    let key = reader.sized(PATH_LEN_MAX, "length of a path")?;
    EntryPath::from_key(key).map_err(|error| LinkError::Damaged(error.to_string()))
}

fn put_texts(out: &mut Vec<u8>, texts: &[String]) {
    put_varint(out, texts.len() as u64);
    texts.iter().for_each(|text| put_bytes(out, text.as_bytes()));
}

fn texts(reader: &mut WireReader<'_>) -> Result<Vec<String>, LinkError> {
    let count = reader.len_max(PATTERNS_MAX, "number of patterns")?;
    (0..count).map(|_| text(reader)).collect()
}

fn text(reader: &mut WireReader<'_>) -> Result<String, LinkError> {
    let bytes = reader.sized(TEXT_MAX, "length of a text")?;
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

pub(super) fn unknown(kind: u8) -> LinkError {
    LinkError::Damaged(format!("there is no message of kind {kind}"))
}

impl From<WireError> for LinkError {
    fn from(error: WireError) -> Self {
        Self::Damaged(error.to_string())
    }
}
