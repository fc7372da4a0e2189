//! `packs/<xx>/<id>`: frames of chunks, and a sealed directory of them at the end.
//!
//! Layout: header ‖ frames ‖ sealed directory ‖ its length u32 ‖ magic. A frame is one or more
//! neighbouring chunks, compressed as one and sealed for its place in its pack. No length of a
//! chunk or frame can be seen without the key.

use subtle::ConstantTimeEq;

use super::frame::FRAME_RAW_MAX;
use super::object::{MAGIC, ObjectKind, PREFIX_LEN, check_prefix, prefix};
use super::{FormatError, SUITE, VERSION, within};
use crate::codec::{WireReader, padded_len, put_varint};
use crate::crypto::{
    Key, Payload, Plaintext, Purpose, RandomError, RunSeal, SEAL_OVERHEAD, fresh_salt, open, seal,
};
use crate::id::{ChunkPrefix, RepositoryId};

/// Longest pack accepted, in bytes.
pub const PACK_BYTES_MAX: u64 = 64 << 20;

/// Most frames in a pack.
pub const PACK_FRAMES_MAX: usize = 1 << 16;

/// Most chunks in a pack.
pub const PACK_CHUNKS_MAX: usize = 1 << 20;

/// Magic and length at the end of a pack.
const FOOTER_LEN: usize = 8;

/// What a pack holds; data and tree never mix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PackKind {
    /// Chunks of content.
    Data,
    /// Chunks of trees: nodes of paths, of content and of hints.
    Tree,
}

impl PackKind {
    fn object(self) -> ObjectKind {
        match self {
            Self::Data => ObjectKind::DataPack,
            Self::Tree => ObjectKind::TreePack,
        }
    }

    /// What people call a pack of this kind.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.object().name()
    }
}

/// The start of a pack: all that is needed, with an owner's key, to open it on its own.
#[derive(Debug, Clone)]
pub struct PackHeader {
    kind: PackKind,
    repository: RepositoryId,
    salt: [u8; 32],
    commitment: [u8; 32],
    seal: RunSeal,
}

impl PackHeader {
    /// Length in bytes.
    pub const LEN: usize = PREFIX_LEN + 32 + 32 + RunSeal::LEN;

    /// Starts a pack of a run: draws its salt and derives its key.
    ///
    /// Errors: [`RandomError`].
    pub fn start(
        kind: PackKind,
        repository: RepositoryId,
        run_secret: &Key,
        seal: RunSeal,
    ) -> Result<(Self, Key), RandomError> {
        Ok(Self::known(kind, repository, fresh_salt()?, run_secret, seal))
    }

    /// The stored bytes: prefix 24 ‖ salt 32 ‖ commitment 32 ‖ run seal.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::LEN);
        bytes.extend(prefix(self.kind.object(), &self.repository));
        bytes.extend(self.salt);
        bytes.extend(self.commitment);
        bytes.extend(self.seal.as_bytes());
        bytes
    }

    /// Reads the start of a pack that should be of this kind and repository.
    ///
    /// Errors: [`FormatError`].
    pub fn decode(
        kind: PackKind,
        repository: RepositoryId,
        bytes: &[u8],
    ) -> Result<Self, FormatError> {
        check_prefix(kind.object(), &repository, bytes)?;
        let wire = within(kind.name());
        let mut reader = WireReader::new(&bytes[PREFIX_LEN..]);
        let salt = reader.array().map_err(&wire)?;
        let commitment = reader.array().map_err(&wire)?;
        let seal = RunSeal::from_slice(reader.bytes(RunSeal::LEN).map_err(&wire)?)
            .expect("because so many bytes were asked for");
        Ok(Self { kind, repository, salt, commitment, seal })
    }

    /// The kind of a pack by its first bytes; none if they are not those of a pack.
    #[must_use]
    pub fn kind_of(bytes: &[u8]) -> Option<PackKind> {
        match bytes.get(5) {
            Some(1) => Some(PackKind::Data),
            Some(2) => Some(PackKind::Tree),
            _ => None,
        }
    }

    /// The header of a pack whose run's secret is known, from what its segment says of it.
    #[must_use]
    pub fn known(
        kind: PackKind,
        repository: RepositoryId,
        salt: [u8; 32],
        run_secret: &Key,
        seal: RunSeal,
    ) -> (Self, Key) {
        let key = derive_key(run_secret, kind, &salt);
        let commitment = *key.derive(Purpose::PackCommitment, b"").expose();
        (Self { kind, repository, salt, commitment, seal }, key)
    }

    /// What makes its key differ from that of every other pack.
    #[must_use]
    pub fn salt(&self) -> &[u8; 32] {
        &self.salt
    }

    /// What it holds.
    #[must_use]
    pub fn kind(&self) -> PackKind {
        self.kind
    }

    /// The run's secret, sealed.
    #[must_use]
    pub fn run_seal(&self) -> &RunSeal {
        &self.seal
    }

    /// The pack's key, from its run's secret.
    ///
    /// Errors: [`FormatError::Damaged`] if the pack was not made with that secret.
    pub fn key(&self, run_secret: &Key) -> Result<Key, FormatError> {
        let key = derive_key(run_secret, self.kind, &self.salt);
        let commitment = key.derive(Purpose::PackCommitment, b"");
        match bool::from(commitment.expose().ct_eq(&self.commitment)) {
            true => Ok(key),
            false => Err(FormatError::damaged(self.kind.name(), "its header was altered")),
        }
    }

    /// What binds a sealed part to its place; fixed width.
    pub(super) fn aad(&self, role: u8, offset: u32, sealed_len: u32) -> [u8; 60] {
        let mut aad = [0; 60];
        aad[..4].copy_from_slice(&[VERSION, self.kind.object() as u8, SUITE, role]);
        aad[4..20].copy_from_slice(self.repository.as_bytes());
        aad[20..52].copy_from_slice(&self.salt);
        aad[52..56].copy_from_slice(&offset.to_le_bytes());
        aad[56..].copy_from_slice(&sealed_len.to_le_bytes());
        aad
    }
}

fn derive_key(run_secret: &Key, kind: PackKind, salt: &[u8; 32]) -> Key {
    let mut input = [0; 33];
    input[0] = kind.object() as u8;
    input[1..].copy_from_slice(salt);
    run_secret.derive(Purpose::Pack, &input)
}

/// Roles of sealed parts: a frame, the directory.
pub(super) const ROLE_FRAME: u8 = 0;
const ROLE_DIRECTORY: u8 = 1;

/// A frame in a pack's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameEntry {
    /// Its stored length in bytes.
    pub stored_len: u32,
    /// Its chunks in order: id prefix and length in bytes.
    pub chunks: Vec<(ChunkPrefix, u32)>,
}

/// What a pack holds, in the order it holds it: offsets follow from lengths.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PackDirectory {
    /// The frames, from the end of the header on without gaps.
    pub frames: Vec<FrameEntry>,
}

impl PackDirectory {
    /// The offset of each frame in the pack, with the frame.
    pub fn placed(&self) -> impl Iterator<Item = (u32, &FrameEntry)> {
        let start = u32::try_from(PackHeader::LEN).expect("because it is a small constant");
        self.frames.iter().scan(start, |at, frame| {
            let offset = *at;
            *at = at.saturating_add(frame.stored_len);
            Some((offset, frame))
        })
    }

    /// The stored form: counts and lengths as varints, prefixes of 16 bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.frames.iter().map(|f| 8 + 18 * f.chunks.len()).sum());
        put_varint(&mut out, self.frames.len() as u64);
        for frame in &self.frames {
            put_varint(&mut out, u64::from(frame.stored_len));
            put_varint(&mut out, frame.chunks.len() as u64);
            for (prefix, len) in &frame.chunks {
                out.extend(prefix.as_bytes());
                put_varint(&mut out, u64::from(*len));
            }
        }
        out
    }

    /// Reads a directory and leaves the reader behind it.
    ///
    /// Errors: [`FormatError::Damaged`] also if frames would not fit in a pack, or chunks in a
    /// frame.
    pub fn decode(reader: &mut WireReader<'_>) -> Result<Self, FormatError> {
        const WHAT: &str = "pack directory";
        let wire = within(WHAT);
        let count = reader.len_max(PACK_FRAMES_MAX, "number of frames").map_err(&wire)?;
        let mut frames = Vec::with_capacity(count.min(reader.remaining() / 2));
        let mut pack_len = PackHeader::LEN as u64;
        let mut chunk_count = 0;
        for _ in 0..count {
            let stored_len = reader.varint_u32("frame length").map_err(&wire)?;
            let chunks = reader.len_max(PACK_CHUNKS_MAX, "number of chunks").map_err(&wire)?;
            pack_len += u64::from(stored_len);
            chunk_count += chunks;
            if pack_len > PACK_BYTES_MAX || chunk_count > PACK_CHUNKS_MAX {
                return Err(FormatError::damaged(WHAT, "it names more than a pack can hold"));
            }
            let mut frame = FrameEntry {
                stored_len,
                chunks: Vec::with_capacity(chunks.min(reader.remaining() / 17)),
            };
            let mut raw_len = 0;
            for _ in 0..chunks {
                let prefix = ChunkPrefix::new(reader.array().map_err(&wire)?);
                let len = reader.varint_u32("chunk length").map_err(&wire)?;
                raw_len += u64::from(len);
                frame.chunks.push((prefix, len));
            }
            if raw_len > FRAME_RAW_MAX as u64 {
                return Err(FormatError::damaged(WHAT, "it names more than a frame can hold"));
            }
            frames.push(frame);
        }
        Ok(Self { frames })
    }
}

/// Seals the directory that ends a pack whose frames end at `offset`, padded so that the whole pack
/// has a Padmé size, with the footer behind it.
///
/// Errors: [`RandomError`].
pub fn seal_trailer(
    key: &Key,
    header: &PackHeader,
    offset: u32,
    directory: &[u8],
) -> Result<Payload, RandomError> {
    let fixed = u64::from(offset) + (SEAL_OVERHEAD + FOOTER_LEN) as u64;
    let padded = padded_len(fixed + directory.len() as u64) - fixed;
    let len = usize::try_from(padded).expect("because packs are bounded");
    let mut plaintext = Plaintext::with_capacity(len);
    plaintext.extend(directory);
    plaintext.resize(len);
    let sealed_len = u32::try_from(len + SEAL_OVERHEAD).expect("because packs are bounded");
    let aad = header.aad(ROLE_DIRECTORY, offset, sealed_len);
    let mut payload = seal(key, plaintext, &aad)?.into_payload();
    let mut footer = sealed_len.to_le_bytes().to_vec();
    footer.extend(MAGIC);
    payload.append(Payload::public(footer));
    Ok(payload)
}

/// Finds and opens the directory of a pack of `pack_len` bytes, of which `tail` are the last.
///
/// Errors: `Ok(Err(needed))` if `tail` is too short: so many last bytes are needed;
/// [`FormatError::Damaged`] if the directory is not authentic or does not fit the pack.
pub fn split_trailer(
    key: &Key,
    header: &PackHeader,
    pack_len: u64,
    tail: &[u8],
) -> Result<Result<PackDirectory, usize>, FormatError> {
    let what = header.kind.name();
    let damaged = |why: &str| FormatError::damaged(what, why);
    if tail.len() < FOOTER_LEN {
        return Ok(Err(FOOTER_LEN));
    }
    let (rest, footer) = tail.split_at(tail.len() - FOOTER_LEN);
    if footer[4..] != MAGIC {
        return Err(damaged("it is cut short"));
    }
    let sealed_len = WireReader::new(footer).u32().map_err(within(what))?;
    let len = usize::try_from(sealed_len).unwrap_or(usize::MAX);
    let room = pack_len.checked_sub((PackHeader::LEN + FOOTER_LEN) as u64);
    if pack_len > PACK_BYTES_MAX || room.is_none_or(|room| u64::from(sealed_len) > room) {
        return Err(damaged("its directory is longer than the pack"));
    }
    let Some(start) = rest.len().checked_sub(len) else {
        return Ok(Err(len + FOOTER_LEN));
    };
    let offset = pack_len - FOOTER_LEN as u64 - u64::from(sealed_len);
    let offset = u32::try_from(offset).map_err(|_| damaged("it is too long"))?;
    let aad = header.aad(ROLE_DIRECTORY, offset, sealed_len);
    let plaintext = open(key, &rest[start..], &aad).map_err(|error| damaged(&error.to_string()))?;
    let mut reader = WireReader::new(&plaintext);
    let directory = PackDirectory::decode(&mut reader)?;
    let end = directory
        .placed()
        .last()
        .map_or(PackHeader::LEN as u64, |(at, frame)| u64::from(at) + u64::from(frame.stored_len));
    if end != u64::from(offset) || reader.rest().iter().any(|b| *b != 0) {
        return Err(damaged("its directory does not fit its frames"));
    }
    Ok(Ok(directory))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::RestoreKey;

    pub(in crate::format) const REPOSITORY: RepositoryId = RepositoryId::new([9; 16]);

    pub(in crate::format) fn restore_key() -> RestoreKey {
        RestoreKey::from_seed(&Key::new([1; 32]), Key::new([2; 32]))
    }

    /// A pack of a fresh run: its header, its key, and the run's secret.
    pub(in crate::format) fn start(kind: PackKind) -> (PackHeader, Key, Key) {
        let (secret, seal) = restore_key().public().seal(REPOSITORY.as_bytes()).expect("a seal");
        let (header, key) = PackHeader::start(kind, REPOSITORY, &secret, seal).expect("randomness");
        (header, key, secret)
    }

    fn directory() -> impl Strategy<Value = PackDirectory> {
        let chunk = (any::<[u8; 16]>(), 0u32..1000).prop_map(|(p, l)| (ChunkPrefix::new(p), l));
        let frame = (41u32..5000, prop::collection::vec(chunk, 0..20))
            .prop_map(|(stored_len, chunks)| FrameEntry { stored_len, chunks });
        prop::collection::vec(frame, 0..20).prop_map(|frames| PackDirectory { frames })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn directories_read_back(directory in directory()) {
            let bytes = directory.encode();
            let mut reader = WireReader::new(&bytes);
            prop_assert_eq!(PackDirectory::decode(&mut reader).expect("it reads"), directory);
            prop_assert_eq!(reader.remaining(), 0);
        }

        #[test]
        fn hostile_directories_are_errors_at_most(bytes: Vec<u8>) {
            let _ = PackDirectory::decode(&mut WireReader::new(&bytes));
        }
    }

    #[test]
    fn a_trailer_reads_back_from_the_tail_of_a_padded_pack() {
        let (header, key, _) = start(PackKind::Tree);
        let frame = FrameEntry { stored_len: 700, chunks: vec![(ChunkPrefix::new([3; 16]), 9)] };
        let directory = PackDirectory { frames: vec![frame] };
        let offset = u32::try_from(PackHeader::LEN).expect("small") + 700;
        let trailer =
            seal_trailer(&key, &header, offset, &directory.encode()).expect("randomness").to_vec();
        let len = u64::from(offset) + trailer.len() as u64;
        assert_eq!(padded_len(len), len);
        let read = |len, tail: &[u8]| split_trailer(&key, &header, len, tail);
        assert_eq!(read(len, &trailer).expect("authentic"), Ok(directory.clone()));
        let needed = read(len, &trailer[trailer.len() - 8..]).expect("only the footer");
        assert_eq!(needed, Err(trailer.len()));
        assert!(read(len + 1, &trailer).is_err(), "a pack of another length");
        assert!(read(1000, &trailer).is_err(), "a directory longer than the pack");
    }
}
