//! `config/<sequence>`: the owner's settings. The highest sequence that the owner signed counts.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};

use super::{FormatError, from_cbor, to_cbor};
use crate::codec::ChunkerParams;

const WHAT: &str = "configuration";

const SEQUENCE_KEY: u64 = 0;
const STORE_KEY: u64 = 5;

/// What was seen of the store that a repository lies in, by trying.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct StoreFacts {
    /// When it was tried, in seconds since 1970.
    #[n(0)]
    pub tried: i64,
    /// Whether lists show what was just written.
    #[n(1)]
    pub lists_written: bool,
    /// Whether lists of over a thousand names are complete; none if that was not tried.
    #[n(2)]
    pub lists_many: Option<bool>,
    /// Whether of many who create one object exactly one succeeds; none if that is not known.
    #[n(3)]
    pub creates_once: Option<bool>,
}

impl StoreFacts {
    /// What is known once more was seen. A failure once seen counts for ever: that it did not come
    /// about again says nothing.
    #[must_use]
    pub fn and(self, newer: Self) -> Self {
        let worse = |old: Option<bool>, new: Option<bool>| match (old, new) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (old, new) => new.or(old),
        };
        Self {
            tried: newer.tried,
            lists_written: self.lists_written && newer.lists_written,
            lists_many: worse(self.lists_many, newer.lists_many),
            creates_once: worse(self.creates_once, newer.creates_once),
        }
    }
}

/// Settings every writer follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Counts up with every change.
    pub sequence: u64,
    /// Sizes of chunks.
    pub chunker: ChunkerParams,
    /// Features that a program must know to read, write or collect; the readable head names the
    /// same, but is not signed.
    pub features: Vec<String>,
    /// What is known of the store; none if it was never tried.
    pub store: Option<StoreFacts>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Document {
    #[n(0)]
    sequence: u64,
    #[n(1)]
    chunk_min: u32,
    #[n(2)]
    chunk_average: u32,
    #[n(3)]
    chunk_max: u32,
    #[n(4)]
    features: Option<Vec<String>>,
    #[n(5)]
    store: Option<StoreFacts>,
}

impl Config {
    /// Longest object accepted, in bytes.
    pub const BYTES_MAX: u64 = 64 << 10;

    /// The message to be signed and sealed: CBOR.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_cbor(&Document {
            sequence: self.sequence,
            chunk_min: self.chunker.min,
            chunk_average: self.chunker.average,
            chunk_max: self.chunker.max,
            features: Some(self.features.clone()).filter(|features| !features.is_empty()),
            store: self.store,
        })
    }

    /// Reads the message.
    ///
    /// Errors: [`FormatError::Damaged`], also if the chunker could not work with the sizes.
    pub fn decode(message: &[u8]) -> Result<Self, FormatError> {
        let document: Document = from_cbor(WHAT, message)?;
        let chunker = ChunkerParams {
            min: document.chunk_min,
            average: document.chunk_average,
            max: document.chunk_max,
        };
        if let Some(feature) = document.features.unwrap_or_default().first() {
            let shown: String = feature.chars().filter(char::is_ascii_graphic).take(60).collect();
            let why = format!("it needs the feature `{shown}`");
            return Err(FormatError::Newer { what: WHAT, why });
        }
        match chunker.is_valid() {
            true => Ok(Self {
                sequence: document.sequence,
                chunker,
                features: Vec::new(),
                store: document.store,
            }),
            false => Err(FormatError::damaged(WHAT, "its chunk sizes make no sense")),
        }
    }

    /// The message of the next configuration, which differs from `message` in its sequence and in
    /// what is known of the store. Keys that this program does not know are carried over.
    ///
    /// Errors: [`FormatError::Damaged`] if `message` is none.
    pub fn amended(
        message: &[u8],
        sequence: u64,
        store: &StoreFacts,
    ) -> Result<Vec<u8>, FormatError> {
        let mut fields = fields(message).map_err(|error| FormatError::damaged(WHAT, error))?;
        let _ = fields.insert(SEQUENCE_KEY, to_cbor(&sequence));
        let _ = fields.insert(STORE_KEY, to_cbor(store));
        let mut encoder = minicbor::Encoder::new(Vec::new());
        let head = encoder.map(fields.len() as u64).map(drop);
        head.expect("because writing to memory cannot fail");
        let mut message = encoder.into_writer();
        for (key, value) in fields {
            message.extend(to_cbor(&key));
            message.extend(value);
        }
        Ok(message)
    }
}

/// The values of a map by key, as they were encoded.
fn fields(message: &[u8]) -> Result<BTreeMap<u64, Vec<u8>>, minicbor::decode::Error> {
    let mut decoder = minicbor::Decoder::new(message);
    let Some(len) = decoder.map()? else {
        return Err(minicbor::decode::Error::message("its length is left open"));
    };
    let mut fields = BTreeMap::new();
    for _ in 0..len {
        let key = decoder.u64()?;
        let start = decoder.position();
        decoder.skip()?;
        let value = message.get(start..decoder.position()).unwrap_or_default();
        let _ = fields.insert(key, value.to_vec());
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_what_it_writes_and_refuses_nonsense() {
        let features = Vec::new();
        let config = Config { sequence: 3, chunker: ChunkerParams::DEFAULT, features, store: None };
        assert_eq!(Config::decode(&config.encode()).expect("it reads"), config);
        let bad = ChunkerParams { min: 0, ..ChunkerParams::DEFAULT };
        assert!(Config::decode(&Config { chunker: bad, ..config.clone() }.encode()).is_err());
        let newer = Config { features: vec!["tape".to_owned()], ..config };
        let error = Config::decode(&newer.encode()).expect_err("an unknown feature");
        assert!(matches!(error, FormatError::Newer { .. }), "{error}");
        assert!(Config::decode(b"").is_err());
    }

    const SOUND: StoreFacts =
        StoreFacts { tried: 7, lists_written: true, lists_many: Some(true), creates_once: None };

    #[test]
    fn the_next_configuration_carries_over_what_nobody_here_knows() {
        let first = Config {
            sequence: 3,
            chunker: ChunkerParams::DEFAULT,
            features: Vec::new(),
            store: None,
        };
        let mut message = first.encode();
        message[0] += 1; // One more field: 99 is an array of a text.
        message.extend([0x18, 99, 0x81, 0x61, b'x']);
        let next = Config::amended(&message, 4, &SOUND).expect("it reads");
        let read = Config::decode(&next).expect("it reads");
        assert_eq!(read, Config { sequence: 4, store: Some(SOUND), ..first });
        assert!(next.ends_with(&[0x18, 99, 0x81, 0x61, b'x']), "{next:x?}");
        assert_eq!(Config::amended(&next, 4, &SOUND).expect("it reads"), next);
        assert!(Config::amended(b"", 4, &SOUND).is_err());
        assert!(Config::amended(&[0xbb, 255, 255, 255, 255, 0, 0, 0, 0], 4, &SOUND).is_err());
    }

    #[test]
    fn a_failure_of_the_store_that_was_seen_once_is_never_forgotten() {
        let bad = StoreFacts { lists_written: false, lists_many: Some(false), ..SOUND };
        let later = StoreFacts { tried: 9, creates_once: Some(true), ..SOUND };
        for (old, new) in [(SOUND, bad), (bad, SOUND), (bad, later)] {
            let known = old.and(new);
            assert!(!known.lists_written && known.lists_many == Some(false));
            assert_eq!(known.tried, new.tried);
        }
        let untried = StoreFacts { lists_many: None, ..later };
        assert_eq!(SOUND.and(untried), later, "what was not tried again stands");
    }
}
