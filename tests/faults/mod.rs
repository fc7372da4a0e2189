//! The fault matrix: what a fault may cost, and what it may not. Tests carry their row's number.
//!
//! A test that injects a fault also proves that it came about; otherwise it has shown nothing.

mod cache;
mod calls;
mod collect;
mod collect_beside;
mod collect_lists;
mod cuts;
mod economy;
mod forget;
mod gone;
mod kept;
mod kill;
mod opening;
mod panics;
mod protocol;
mod repair;
mod restore;
mod room;
mod rot;
mod row;
mod rows;
mod signals;
mod strays;
mod syscalls;
mod thrash;
