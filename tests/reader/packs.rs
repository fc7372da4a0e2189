//! Frames, directories and whole packs: section 14.

use super::keys::{self, Key, Keys, RUN_SEAL_LEN, SEAL_LEN};
use super::objects::{PREFIX_LEN, check_prefix, padded};
use super::wire::{self, Cursor};
use super::{Result, damaged, ensure};

pub(crate) const DATA: u8 = 1;
pub(crate) const TREE: u8 = 2;

pub(crate) const PACK_MOST: usize = 64 << 20;
const HEADER_LEN: u64 = 1256;
const CONTENT_MOST: u32 = 4 << 20;
const DATA_CHUNK_MOST: u32 = 1 << 20;
const FRAMES_MOST: u64 = 65_536;
const CHUNKS_MOST: u64 = 1_048_576;

const FRAME: u8 = 0;
const DIRECTORY: u8 = 1;

/// What opens the frames of one pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackKey {
    pub(crate) kind: u8,
    salt: [u8; 32],
    key: Key,
    repository: [u8; 16],
}

impl PackKey {
    pub(crate) fn new(kind: u8, salt: [u8; 32], run: &Key, repository: [u8; 16]) -> Self {
        let input = [&[kind], &salt[..]].concat();
        Self { kind, salt, key: keys::derive(run, "pack", &input), repository }
    }

    fn open(&self, role: u8, offset: u32, sealed: &[u8]) -> Result<Vec<u8>> {
        let len = u32::try_from(sealed.len()).expect("packs are shorter");
        let mut aad = vec![1, self.kind, 1, role];
        aad.extend_from_slice(&self.repository);
        aad.extend_from_slice(&self.salt);
        aad.extend_from_slice(&offset.to_le_bytes());
        aad.extend_from_slice(&len.to_le_bytes());
        let opened = keys::open(&self.key, sealed, &aad);
        opened.map_or_else(|| damaged("a part of a pack does not open"), Ok)
    }

    /// The content of a frame.
    pub(crate) fn open_frame(&self, offset: u32, sealed: &[u8]) -> Result<Vec<u8>> {
        let inner = self.open(FRAME, offset, sealed)?;
        let mut cursor = Cursor::new(&inner);
        let (form, len) = (cursor.u8()?, cursor.u32()?);
        ensure(len <= CONTENT_MOST, "a frame holds more than it may")?;
        let content = match form {
            0 => cursor.rest().to_vec(),
            1 => zstd::bulk::decompress(cursor.rest(), len as usize)?,
            _ => return damaged("a frame is compressed in an unknown way"),
        };
        ensure(content.len() == len as usize, "a frame has another length")?;
        Ok(content)
    }
}

/// One frame as a directory tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) offset: u32,
    /// As stored.
    pub(crate) len: u32,
    /// Prefix of the id, and length, of each chunk.
    pub(crate) chunks: Vec<([u8; 16], u32)>,
}

/// Reads a directory and leaves what follows it; also tells where the last frame ends.
pub(crate) fn directory(kind: u8, cursor: &mut Cursor<'_>) -> Result<(Vec<Frame>, u64)> {
    let count: u64 = cursor.at_most(FRAMES_MOST)?;
    let (mut frames, mut offset, mut chunks_left) = (Vec::new(), HEADER_LEN, CHUNKS_MOST);
    for _ in 0..count {
        let len: u32 = cursor.at_most(u64::from(u32::MAX))?;
        let chunk_count: u64 = cursor.at_most(chunks_left)?;
        chunks_left -= chunk_count;
        let (mut chunks, mut content) = (Vec::new(), 0);
        for _ in 0..chunk_count {
            let prefix = cursor.array()?;
            let most = if kind == DATA { DATA_CHUNK_MOST } else { CONTENT_MOST };
            let len: u32 = cursor.at_most(u64::from(most))?;
            content += len;
            ensure(content <= CONTENT_MOST, "a frame holds more than it may")?;
            chunks.push((prefix, len));
        }
        let start = u32::try_from(offset).expect("checked in the turn before");
        frames.push(Frame { offset: start, len, chunks });
        offset += u64::from(len);
        ensure(offset <= PACK_MOST as u64, "frames are longer than a pack")?;
    }
    Ok((frames, offset))
}

/// What a pack says of itself.
pub(crate) struct Pack {
    pub(crate) key: PackKey,
    pub(crate) frames: Vec<Frame>,
}

/// Reads a whole pack and checks everything but the chunks in it.
pub(crate) fn read(keys: &Keys, id: &[u8; 32], bytes: &[u8]) -> Result<Pack> {
    ensure(blake3::hash(bytes) == *id, "a pack has another hash than its name")?;
    let mut cursor = Cursor::new(bytes);
    let kind = cursor.bytes(PREFIX_LEN)?[5];
    ensure(kind == DATA || kind == TREE, "a pack is of no known kind")?;
    check_prefix(bytes, kind, keys.repository)?;
    let (salt, commitment) = (cursor.array()?, cursor.array::<32>()?);
    let run = keys.run_secret(&cursor.array::<RUN_SEAL_LEN>()?)?;
    let key = PackKey::new(kind, salt, &run, keys.repository);
    ensure(keys::derive(&key.key, "pack commitment", b"") == commitment, "a header was altered")?;

    let Some((rest, footer)) = bytes.split_last_chunk::<8>() else { return damaged("no footer") };
    let mut cursor = Cursor::new(footer);
    let len = cursor.u32()? as usize;
    ensure(cursor.rest() == b"VVLT", "a pack has no magic at its end")?;
    let Some(start) = rest.len().checked_sub(len).filter(|at| *at as u64 >= HEADER_LEN) else {
        return damaged("a directory is longer than its pack");
    };
    let offset = u32::try_from(start).expect("a pack is shorter");
    let plaintext = key.open(DIRECTORY, offset, &rest[start..])?;
    let mut cursor = Cursor::new(&plaintext);
    let (frames, end) = directory(kind, &mut cursor)?;
    ensure(end == u64::from(offset), "frames do not end where the directory begins")?;
    let zeros = cursor.rest();
    ensure(zeros.iter().all(|b| *b == 0), "padding is not zero")?;
    let directory_len = plaintext.len() - zeros.len();
    let full = padded((start + SEAL_LEN + 8 + directory_len) as u64);
    ensure(bytes.len() as u64 == full, "padding has another length")?;
    Ok(Pack { key, frames })
}

/// The name of a pack.
pub(crate) fn name(id: &[u8; 32]) -> String {
    let digits = wire::hex(id);
    format!("packs/{}/{digits}", &digits[..2])
}
