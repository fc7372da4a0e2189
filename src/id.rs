//! Ids as distinct types, so that one cannot stand where another is meant.
//!
//! Floor 0. Ids are only carried, compared and printed here; nothing in this file hashes.

use std::fmt;
use std::str::FromStr;

/// A text that is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an id of {len} hex digits")]
pub struct IdError {
    text: String,
    len: usize,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $bytes;

            /// Wraps raw bytes.
            #[must_use]
            pub const fn new(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// The raw bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }

            /// The first eight hex digits, as people are shown them.
            #[must_use]
            pub fn short(&self) -> String {
                hex(&self.0[..4])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }

        impl<C> minicbor::Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.bytes(&self.0)?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $name {
            fn decode(
                d: &mut minicbor::Decoder<'b>,
                _: &mut C,
            ) -> Result<Self, minicbor::decode::Error> {
                let bytes = d.bytes()?.try_into();
                bytes.map(Self).map_err(|_| minicbor::decode::Error::message("id of wrong length"))
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let mut bytes = [0; $bytes];
                match unhex(text, &mut bytes) {
                    true => Ok(Self(bytes)),
                    false => {
                        let text = text.chars().take(80).collect();
                        Err(IdError { text, len: 2 * $bytes })
                    }
                }
            }
        }
    };
}

id!(
    /// Names a repository for ever; drawn at `init`.
    RepositoryId,
    16
);
id!(
    /// Names one installation that writes snapshots: the owner of one chain of records.
    WriterId,
    16
);
id!(
    /// Keyed BLAKE3 hash of a chunk's plaintext.
    ChunkId,
    32
);
id!(
    /// BLAKE3 hash of a pack's stored bytes.
    PackId,
    32
);
id!(
    /// BLAKE3 hash of a segment's stored bytes.
    SegmentId,
    32
);
id!(
    /// Names a snapshot; drawn at random when its backup starts.
    SnapshotId,
    32
);
id!(
    /// BLAKE3 hash of a stored snapshot record: what a head is.
    RecordHash,
    32
);
id!(
    /// Names a key slot; drawn at random.
    SlotId,
    16
);

impl ChunkId {
    /// The first 16 bytes, under which the index knows the chunk.
    #[must_use]
    pub fn prefix(&self) -> ChunkPrefix {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.0[..16]);
        ChunkPrefix::new(bytes)
    }
}

id!(
    /// The first 16 bytes of a chunk id.
    ChunkPrefix,
    16
);

/// Lower-case hex digits of `bytes`.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)] as char);
        text.push(DIGITS[usize::from(byte & 15)] as char);
    }
    text
}

/// Fills `out` from exactly twice as many lower-case hex digits; says whether `text` was that.
#[must_use]
pub fn unhex(text: &str, out: &mut [u8]) -> bool {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let text = text.as_bytes();
    if text.len() != 2 * out.len() {
        return false;
    }
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        match (digit(pair[0]), digit(pair[1])) {
            (Some(high), Some(low)) => *byte = high << 4 | low,
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_what_it_prints() {
        let id = PackId::new([0xa7; 32]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.short(), "a7a7a7a7");
    }

    #[test]
    fn other_lengths_and_other_digits_are_no_id() {
        assert!("".parse::<SlotId>().is_err());
        assert!("0".repeat(33).parse::<SlotId>().is_err());
        assert!("A".repeat(32).parse::<SlotId>().is_err());
        assert!("g".repeat(32).parse::<SlotId>().is_err());
    }
}
