//! What can be done with a repository: one file or folder per verb.
//!
//! Floor 6. Operations are free functions over an open repository: options in, report out. They
//! never print and never ask; whoever calls them watches through an `Observer` and may interrupt.

pub mod agent;
pub mod backup;
pub mod check;
pub mod copy;
mod copy_out;
mod diff;
mod dump;
mod error;
pub mod forget;
mod list;
pub mod prune;
pub mod repair;
pub mod restore;
mod series;
pub mod stats;

pub use self::copy_out::copy_out;
pub use self::diff::{Change, ChangeKind, ItemDiff, LiveDiff};
pub use self::dump::dump_file;
pub use self::error::{Interrupt, OpsError};
pub use self::list::{Depth, Listing, Lookup, Missing, first_name, look_up};
pub use self::series::Series;
