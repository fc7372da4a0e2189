//! The verbs that look into a repository, run as a user runs them.

mod cp;
mod diff;
mod dump;
mod forget;
mod ls;
mod restore;
mod snapshots;
mod volumes;
mod world;
