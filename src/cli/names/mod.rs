//! The names people type: sources, snapshots, sizes, durations.
//!
//! Reading a name asks nobody; whether the thing exists is the operations' business.

mod quantity;
mod snapshot_name;
mod source_name;

pub(crate) use self::quantity::{parse_duration, parse_rate, parse_size};
pub(crate) use self::snapshot_name::{Selector, SnapshotName, SnapshotPath};
pub(crate) use self::source_name::SourceName;
