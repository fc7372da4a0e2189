//! Repairs: what is damaged on purpose becomes whole again, or is told and got out of the way.

mod index;
mod packs;
mod snapshots;
mod trees;
