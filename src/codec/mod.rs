//! Cutting, compressing and writing bytes.
//!
//! Floor 1. Pure functions over memory. Pairs stand in one file with one round-trip test.

mod compress;
mod gear;
mod padme;
mod split;
mod wire;

pub use self::compress::{Compressed, CompressionError, compress, expand};
pub use self::padme::{padded_len, padding_at};
pub use self::split::{ChunkerParams, Piece, Splitter};
pub use self::wire::{WireError, WireReader, put_bytes, put_signed, put_varint};
