//! Saves Docker volumes as deduplicated, compressed, encrypted streams and brings them back.
//!
//! `docs/architecture.md` shows the floors of this library and the way the data goes through them.

pub mod clock;
pub mod codec;
pub mod config;
pub mod crypto;
pub mod docker;
pub mod entry;
pub mod event;
pub mod format;
pub mod id;
pub mod near;
pub mod ops;
pub mod repo;
pub mod sink;
pub mod source;
pub mod store;
