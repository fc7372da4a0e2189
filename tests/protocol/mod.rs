//! A model of the two-list protocol (`docs/format.md`, §19), searched through by stateright.
//!
//! Writers that reuse packs and collectors that delete them meet in a store that knows only PUT of
//! new names, DELETE and LIST. The adversary stops any of them at any step and lets whatever they
//! sent land at any later time, also when they are long dead; there is no grace period. Searched
//! through is every order of steps, and the invariant is: whatever was promised can be read.
//!
//! - `world`: what there is; `action`: what can happen next; `rules`: switches for both.
//! - `writer`, `collector`, `undo`: the steps of the actors; `model`: those of the network, and
//!   the invariant.
//! - `base`, `losing`, `extensions`: the runs. Each rule is broken once, and then data is lost.
//! - `replay`: traces of the model, done by the real writer on a real store; `schedule` holds it.
//!
//! Simplified: a snapshot is a set of chunks; trees, signatures and reading errors are left out
//! (I8); one pack is made at a time; condemn records are never deleted (I6); progress is not looked
//! at. `docs/testing.md` has the figures.

mod action;
mod base;
mod collector;
mod extensions;
mod losing;
mod model;
mod replay;
mod rules;
mod schedule;
mod search;
mod undo;
mod world;
mod writer;
