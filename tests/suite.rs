//! One integration test binary.

#![expect(clippy::panic, reason = "a test fails by it")]

mod architecture;
mod checks;
mod copy;
mod directory_source;
mod docker;
mod driver;
mod faults;
mod hostile_repository;
mod instructions;
mod protocol;
mod rare;
mod reader;
mod repair;
mod roundtrip;
mod stores;
mod support;
mod vectors;
mod verbs_cache;
mod verbs_check;
mod verbs_copy;
mod verbs_key;
mod verbs_look;
mod verbs_prune;
mod verbs_repair;
mod verbs_report;
