//! The golden vectors of `docs/format.md`, in `fixtures/vectors/v1.json`.
//!
//! What follows from its input alone is computed and compared. What holds fresh randomness was made
//! once by these same functions and kept: it must open for ever. An entry that the file lacks fails
//! its test, which then prints the section as it would be.

mod codec;
mod cuts;
mod keys;
mod objects;
mod packs;
mod records;
mod repository;
mod trees;

use std::collections::BTreeMap;

use serde_json::Value;
use volume_vault::crypto::Key;
use volume_vault::id::{RepositoryId, hex};

const FILE: &str = include_str!("../fixtures/vectors/v1.json");

/// The repository of all vectors.
const REPOSITORY: RepositoryId = RepositoryId::new(*b"vector-repo-id-1");

/// The master key of all vectors: bytes 0 to 31.
fn master() -> Key {
    Key::new(std::array::from_fn(|at| u8::try_from(at).expect("below 32")))
}

/// One section of the file.
struct Section {
    name: &'static str,
    file: BTreeMap<String, Value>,
    now: BTreeMap<String, Value>,
}

impl Section {
    fn open(name: &'static str) -> Self {
        let mut sections: BTreeMap<String, BTreeMap<String, Value>> =
            serde_json::from_str(FILE).expect("the vectors are JSON");
        Self { name, file: sections.remove(name).unwrap_or_default(), now: BTreeMap::new() }
    }

    /// Takes note of what is computed.
    fn is(&mut self, name: &str, value: impl Into<Value>) {
        let before = self.now.insert(name.to_owned(), value.into());
        assert!(before.is_none(), "`{name}` comes twice");
    }

    /// As [`Section::is`], for bytes.
    fn bytes(&mut self, name: &str, bytes: &[u8]) {
        self.is(name, hex(bytes));
    }

    /// Bytes that were made once; `make` shows how.
    fn kept(&mut self, name: &str, make: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
        let text = match self.file.get(name) {
            Some(text) => text.as_str().expect("kept bytes are text").to_owned(),
            None => hex(&make()),
        };
        self.is(name, text.clone());
        unhex(&text)
    }

    /// Compares: the file must hold exactly what was noted.
    fn finish(self) {
        let now = serde_json::to_string(&self.now).expect("it is JSON");
        let name = self.name;
        for (entry, value) in &self.now {
            let file = self.file.get(entry);
            assert!(file == Some(value), "`{name}`: `{entry}` differs; it would be\n{now}");
        }
        let known = self.file.keys().all(|entry| self.now.contains_key(entry));
        assert!(known, "`{name}` holds an entry that nothing computes");
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let mut bytes = vec![0; text.len() / 2];
    assert!(volume_vault::id::unhex(text, &mut bytes), "kept bytes are hex digits");
    bytes
}

/// The stream of the vectors: splitmix64 from `seed` on, each word little-endian.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut word = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31).to_le_bytes()
    };
    (0..len.div_ceil(8)).flat_map(|_| word()).take(len).collect()
}
