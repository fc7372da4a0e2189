//! `config/<sequence>`: the owner's settings. The highest sequence that the owner signed counts.

use minicbor::{Decode, Encode};

use super::{FormatError, from_cbor, to_cbor};
use crate::codec::ChunkerParams;

const WHAT: &str = "configuration";

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
            true => Ok(Self { sequence: document.sequence, chunker, features: Vec::new() }),
            false => Err(FormatError::damaged(WHAT, "its chunk sizes make no sense")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_what_it_writes_and_refuses_nonsense() {
        let features = Vec::new();
        let config = Config { sequence: 3, chunker: ChunkerParams::DEFAULT, features };
        assert_eq!(Config::decode(&config.encode()).expect("it reads"), config);
        let bad = ChunkerParams { min: 0, ..ChunkerParams::DEFAULT };
        assert!(Config::decode(&Config { chunker: bad, ..config.clone() }.encode()).is_err());
        let newer = Config { features: vec!["tape".to_owned()], ..config };
        let error = Config::decode(&newer.encode()).expect_err("an unknown feature");
        assert!(matches!(error, FormatError::Newer { .. }), "{error}");
        assert!(Config::decode(b"").is_err());
    }
}
