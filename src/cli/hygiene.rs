//! What the process does to itself before anything else: secrets in memory must not leave it.

use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit, umask,
};

use super::output;

/// Makes new files private, core dumps impossible and many open files possible, and keeps what a
/// panic carries off the terminal.
///
/// None of it can fail in a way that matters more than the work: a system that forbids one of
/// these steps still gets its backup.
pub(crate) fn apply() {
    let _ = umask(Mode::RWXG | Mode::RWXO);
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let files = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files });
    std::panic::set_hook(Box::new(|panic| {
        // The payload may quote data or keys; the place is enough to find the bug.
        let place = panic.location().map_or("unknown place".to_owned(), ToString::to_string);
        output::notice(&format!("vault: internal error at {place}"));
    }));
}
