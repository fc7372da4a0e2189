//! Frames: neighbouring chunks, compressed as one and sealed for their place in a pack.
//!
//! Shape of the sealed text: compression u8 (0 raw, 1 zstd) ‖ content length u32 ‖ payload. Content
//! is gathered behind room for what comes in front of it, so a frame that does not shrink is sealed
//! where it was gathered.

use std::cell::RefCell;

use super::pack::{PackHeader, ROLE_FRAME};
use super::{FormatError, within};
use crate::codec::{Compressed, WireReader, compress, expand};
use crate::crypto::{
    Key, Plaintext, RandomError, SEAL_OVERHEAD, Sealed, open_into, seal, seal_named,
};
use crate::id::ChunkId;

/// Longest content of a frame in bytes, whatever a pack says.
pub const FRAME_RAW_MAX: usize = 4 << 20;

/// Compression and length in front of a frame's content.
const INNER_LEN: usize = 5;

const RAW: u8 = 0;
const ZSTD: u8 = 1;

/// Chunks that are gathered to be a frame.
#[derive(Debug)]
pub struct FrameContent(Plaintext);

impl FrameContent {
    /// No content, with room for `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        let mut plaintext = Plaintext::with_capacity(INNER_LEN + capacity);
        plaintext.resize(INNER_LEN);
        Self(plaintext)
    }

    /// Adds a chunk.
    pub fn push(&mut self, chunk: &[u8]) {
        self.0.extend(chunk);
    }

    /// The chunks so far.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes()[INNER_LEN..]
    }
}

/// A frame that is ready to be sealed.
#[derive(Debug)]
pub struct FramePlaintext {
    method: u8,
    plaintext: Plaintext,
}

impl FramePlaintext {
    /// Compresses the content of a frame; content that does not shrink is taken as it is.
    ///
    /// Errors: [`FormatError::Damaged`] if it is longer than [`FRAME_RAW_MAX`] or zstd fails.
    pub fn compress(level: i32, content: FrameContent) -> Result<Self, FormatError> {
        thread_local! {
            static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let failed = |why: String| FormatError::Damaged { what: "frame", why };
        let len = content.bytes().len();
        if len > FRAME_RAW_MAX {
            return Err(failed(format!("{len} bytes are too many")));
        }
        let raw_len = u32::try_from(len).map_err(|error| failed(error.to_string()))?;
        // Compressed beside, then copied: what is kept until the pack is stored is no larger than
        // what is stored.
        SCRATCH.with_borrow_mut(|scratch| {
            if scratch.len() < len {
                scratch.resize(len, 0);
            }
            let compressed = compress(level, content.bytes(), &mut scratch[..len])
                .map_err(|error| failed(error.to_string()))?;
            let (method, mut plaintext) = match compressed {
                Compressed::Zstd(len) => {
                    let mut smaller = FrameContent::with_capacity(len);
                    smaller.push(&scratch[..len]);
                    (ZSTD, smaller.0)
                }
                Compressed::Raw => (RAW, content.0),
            };
            let inner = &mut plaintext.bytes_mut()[..INNER_LEN];
            inner[0] = method;
            inner[1..].copy_from_slice(&raw_len.to_le_bytes());
            Ok(Self { method, plaintext })
        })
    }

    /// How many bytes the frame will take in its pack.
    #[must_use]
    pub fn sealed_len(&self) -> u32 {
        u32::try_from(self.plaintext.bytes().len() + SEAL_OVERHEAD)
            .expect("because content of a frame is bounded")
    }
}

/// Seals a frame that holds these chunks for its place.
///
/// Errors: [`RandomError`].
pub fn seal_frame<'c>(
    key: &Key,
    header: &PackHeader,
    offset: u32,
    frame: FramePlaintext,
    chunks: impl IntoIterator<Item = &'c ChunkId>,
) -> Result<Sealed, RandomError> {
    let aad = header.aad(ROLE_FRAME, offset, frame.sealed_len());
    match frame.method {
        // The names of its chunks say all that a raw frame holds, and are hashed in no time.
        RAW => seal_named(key, frame.plaintext, &aad, chunks.into_iter().map(ChunkId::as_bytes)),
        _ => seal(key, frame.plaintext, &aad),
    }
}

/// A frame that was opened, with buffers that the next one uses again.
#[derive(Debug, Default)]
pub struct OpenedFrame {
    text: Vec<u8>,
    expanded: Vec<u8>,
    holds: Holds,
}

/// Where the content of an opened frame is.
#[derive(Debug, Default)]
enum Holds {
    #[default]
    Nothing,
    Raw,
    Expanded,
}

impl OpenedFrame {
    /// Its chunks; nothing if none was opened, or it could not be.
    #[must_use]
    pub fn content(&self) -> &[u8] {
        match self.holds {
            Holds::Nothing => &[],
            Holds::Raw => &self.text[INNER_LEN..],
            Holds::Expanded => &self.expanded,
        }
    }

    /// Opens a frame and expands it.
    ///
    /// Errors: [`FormatError::Damaged`]; nothing is expanded before it is authentic.
    pub fn open(
        &mut self,
        key: &Key,
        header: &PackHeader,
        offset: u32,
        stored: &[u8],
    ) -> Result<(), FormatError> {
        let damaged = |why: String| FormatError::Damaged { what: "frame", why };
        self.holds = Holds::Nothing;
        let stored_len = u32::try_from(stored.len()).map_err(|error| damaged(error.to_string()))?;
        let aad = header.aad(ROLE_FRAME, offset, stored_len);
        open_into(key, stored, &aad, &mut self.text).map_err(|error| damaged(error.to_string()))?;
        let mut reader = WireReader::new(&self.text);
        let wire = within("frame");
        let method = reader.u8().map_err(&wire)?;
        let raw_len = usize::try_from(reader.u32().map_err(&wire)?).unwrap_or(usize::MAX);
        let payload = reader.rest();
        if raw_len > FRAME_RAW_MAX {
            return Err(damaged(format!("it claims {raw_len} bytes of content")));
        }
        self.holds = match method {
            RAW if payload.len() == raw_len => Holds::Raw,
            ZSTD => {
                expand(payload, raw_len, &mut self.expanded)
                    .map_err(|error| damaged(error.to_string()))?;
                Holds::Expanded
            }
            _ => return Err(damaged("its compression is unknown".to_owned())),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::PackKind;
    use crate::format::pack::tests::{REPOSITORY, restore_key, start};
    use crate::id::RepositoryId;

    fn compressed(content: &[u8]) -> FramePlaintext {
        let mut gathered = FrameContent::with_capacity(content.len());
        gathered.push(content);
        FramePlaintext::compress(3, gathered).expect("it compresses")
    }

    #[test]
    fn content_that_does_not_shrink_is_kept_as_it_is() {
        let (header, key, _) = start(PackKind::Data);
        let mut noise = vec![0; 100_000];
        blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut noise);
        let text = b"content ".repeat(500);
        let mut opened = OpenedFrame::default();
        for (content, shrinks) in [(&noise, false), (&text, true), (&noise, false)] {
            let frame = compressed(content);
            assert_eq!((frame.sealed_len() as usize) < content.len(), shrinks);
            let name = ChunkId::new(crate::crypto::digest(content));
            let sealed = seal_frame(&key, &header, 5000, frame, &[name]).expect("randomness");
            opened.open(&key, &header, 5000, sealed.as_bytes()).expect("it opens");
            assert_eq!(opened.content(), &content[..]);
        }
    }

    #[test]
    fn a_frame_opens_only_in_its_own_place_pack_and_kind() {
        let (header, key, secret) = start(PackKind::Data);
        let content = b"content ".repeat(500);
        let sealed =
            seal_frame(&key, &header, 5000, compressed(&content), &[ChunkId::new([1; 32])])
                .expect("randomness");
        let mut frame = OpenedFrame::default();
        let mut try_open = |key: &Key, header: &PackHeader, offset, bytes: &[u8]| {
            frame.open(key, header, offset, bytes).map(|()| frame.content().to_vec())
        };
        let reread = PackHeader::decode(PackKind::Data, REPOSITORY, &header.encode());
        let reread = reread.expect("the header reads");
        let opened_secret = restore_key().open(reread.run_seal(), REPOSITORY.as_bytes());
        let again = reread.key(&opened_secret.expect("it opens")).expect("the key commits");
        assert_eq!(try_open(&again, &reread, 5000, sealed.as_bytes()).expect("opens"), content);
        assert!(try_open(&key, &header, 5001, sealed.as_bytes()).is_err(), "another place");
        let (other, other_key) =
            PackHeader::start(PackKind::Data, REPOSITORY, &secret, header.run_seal().clone())
                .expect("randomness");
        assert!(try_open(&other_key, &other, 5000, sealed.as_bytes()).is_err(), "another pack");
        assert!(try_open(&key, &other, 5000, sealed.as_bytes()).is_err(), "another salt");
        let salt = *header.salt();
        let known = |kind, repository| {
            PackHeader::known(kind, repository, salt, &secret, header.run_seal().clone()).0
        };
        let tree = known(PackKind::Tree, REPOSITORY);
        assert!(try_open(&key, &tree, 5000, sealed.as_bytes()).is_err(), "another kind");
        let foreign = known(PackKind::Data, RepositoryId::new([8; 16]));
        assert!(try_open(&key, &foreign, 5000, sealed.as_bytes()).is_err(), "another repository");
    }

    #[test]
    fn a_sealed_frame_that_lies_about_its_length_is_capped() {
        let (header, key, _) = start(PackKind::Data);
        for (method, claimed) in [(0u8, 7u32), (1, u32::MAX), (1, 3), (7, 4)] {
            let mut plaintext = Plaintext::with_capacity(16);
            plaintext.extend(&[method]);
            plaintext.extend(&claimed.to_le_bytes());
            plaintext.extend(b"abcd");
            let frame = FramePlaintext { method, plaintext };
            let sealed = seal_frame(&key, &header, 5000, frame, &[]).expect("randomness");
            let mut frame = OpenedFrame::default();
            let opened = frame.open(&key, &header, 5000, sealed.as_bytes());
            assert!(opened.is_err(), "method {method}, {claimed} bytes");
            assert!(frame.content().is_empty());
            assert!(frame.expanded.capacity() <= FRAME_RAW_MAX);
        }
    }
}
