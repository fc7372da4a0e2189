//! `index/<id>`: where chunks lie, for the packs of one run or of several merged segments.

use super::pack::{PACK_BYTES_MAX, PackDirectory, PackKind};
use super::{FormatError, within};
use crate::codec::{WireReader, put_bytes, put_varint};
use crate::crypto::RunSeal;
use crate::id::{PackId, SegmentId};

/// Longest segment accepted, in bytes.
pub const SEGMENT_BYTES_MAX: u64 = 64 << 20;

const WHAT: &str = "index segment";
const PACKS_MAX: usize = 1 << 16;
const SUPERSEDES_MAX: usize = 1 << 16;

/// A pack in a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentPack {
    /// Its id.
    pub id: PackId,
    /// What it holds.
    pub kind: PackKind,
    /// Its size in bytes.
    pub size: u64,
    /// Which of the segment's run seals opens it.
    pub seal: usize,
    /// Its salt, so that its frames can be opened without a look at its header.
    pub salt: [u8; 32],
    /// What it holds, where.
    pub directory: PackDirectory,
}

/// What a segment says.
///
/// Chunks stand in the order of their places, which costs 18 bytes each; a client sorts them once
/// when it takes the segment into its tables.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SegmentRecord {
    /// Seals of the runs whose packs are here.
    pub seals: Vec<RunSeal>,
    /// Segments that this one replaces, one by one.
    pub supersedes: Vec<SegmentId>,
    /// The packs.
    pub packs: Vec<SegmentPack>,
}

impl SegmentRecord {
    /// The message to be signed and sealed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.seals.len() as u64);
        for seal in &self.seals {
            out.extend(seal.as_bytes());
        }
        put_varint(&mut out, self.supersedes.len() as u64);
        for id in &self.supersedes {
            out.extend(id.as_bytes());
        }
        put_varint(&mut out, self.packs.len() as u64);
        for pack in &self.packs {
            out.extend(pack.id.as_bytes());
            out.push(match pack.kind {
                PackKind::Data => 1,
                PackKind::Tree => 2,
            });
            put_varint(&mut out, pack.size);
            put_varint(&mut out, pack.seal as u64);
            out.extend(pack.salt);
            put_bytes(&mut out, &pack.directory.encode());
        }
        out
    }

    /// Reads the message.
    ///
    /// Errors: [`FormatError::Damaged`].
    pub fn decode(message: &[u8]) -> Result<Self, FormatError> {
        let wire = within(WHAT);
        let mut reader = WireReader::new(message);
        let mut record = Self::default();
        for _ in 0..reader.len_max(PACKS_MAX, "number of run seals").map_err(&wire)? {
            let seal = RunSeal::from_slice(reader.bytes(RunSeal::LEN).map_err(&wire)?);
            record.seals.extend(seal);
        }
        for _ in 0..reader.len_max(SUPERSEDES_MAX, "number of segments").map_err(&wire)? {
            record.supersedes.push(SegmentId::new(reader.array().map_err(&wire)?));
        }
        for _ in 0..reader.len_max(PACKS_MAX, "number of packs").map_err(&wire)? {
            record.packs.push(decode_pack(&mut reader, record.seals.len())?);
        }
        reader.finish().map_err(&wire)?;
        Ok(record)
    }
}

fn decode_pack(reader: &mut WireReader<'_>, seals: usize) -> Result<SegmentPack, FormatError> {
    let wire = within(WHAT);
    let id = PackId::new(reader.array().map_err(&wire)?);
    let kind = match reader.u8().map_err(&wire)? {
        1 => PackKind::Data,
        2 => PackKind::Tree,
        _ => return Err(FormatError::damaged(WHAT, "it names a pack of unknown kind")),
    };
    let size = reader.varint_max(PACK_BYTES_MAX, "pack size").map_err(&wire)?;
    let seal = reader.len_max(PACKS_MAX, "number of a run seal").map_err(&wire)?;
    if seal >= seals {
        return Err(FormatError::damaged(WHAT, "it names a run seal it does not hold"));
    }
    let salt = reader.array().map_err(&wire)?;
    let bytes = reader.sized(message_max(), "directory length").map_err(&wire)?;
    let mut inner = WireReader::new(bytes);
    let directory = PackDirectory::decode(&mut inner)?;
    inner.finish().map_err(&wire)?;
    Ok(SegmentPack { id, kind, size, seal, salt, directory })
}

fn message_max() -> usize {
    usize::try_from(SEGMENT_BYTES_MAX).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::pack::FrameEntry;
    use super::*;
    use crate::id::ChunkPrefix;

    #[test]
    fn segments_read_back() {
        let frame = FrameEntry {
            stored_len: 99,
            chunks: vec![(ChunkPrefix::new([1; 16]), 5), (ChunkPrefix::new([2; 16]), 70_000)],
        };
        let record = SegmentRecord {
            seals: vec![RunSeal::from_slice(&[4; RunSeal::LEN]).expect("a seal")],
            supersedes: vec![SegmentId::new([7; 32])],
            packs: vec![SegmentPack {
                id: PackId::new([8; 32]),
                kind: PackKind::Tree,
                size: 1 << 20,
                seal: 0,
                salt: [6; 32],
                directory: PackDirectory { frames: vec![frame] },
            }],
        };
        assert_eq!(SegmentRecord::decode(&record.encode()).expect("it reads"), record);
        let mut unknown_seal = record;
        unknown_seal.packs[0].seal = 1;
        assert!(SegmentRecord::decode(&unknown_seal.encode()).is_err());
    }

    proptest! {
        #[test]
        fn hostile_segments_are_errors_at_most(bytes: Vec<u8>) {
            let _ = SegmentRecord::decode(&bytes);
        }
    }
}
