//! What an operation tells whoever watches it: counters and warnings.
//!
//! Floor 0. The library never prints; it calls an [`Observer`].

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// A thing that went wrong without stopping the operation, which then ends with exit code 3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The object it is about, as raw bytes where it is a path; escaped before it is shown.
    pub object: Vec<u8>,
    /// What happened, as a lower-case fragment.
    pub message: String,
    /// Whether something was left out because of it.
    pub skipped: bool,
}

impl Warning {
    /// Something of `object` could not be saved or brought back.
    pub fn skipped(object: impl Into<Vec<u8>>, message: impl Into<String>) -> Self {
        Self { object: object.into(), message: message.into(), skipped: true }
    }

    /// Worth knowing, but nothing is missing.
    pub fn notice(object: impl Into<Vec<u8>>, message: impl Into<String>) -> Self {
        Self { object: object.into(), message: message.into(), skipped: false }
    }
}

/// How far an operation has come; all figures only grow.
#[derive(Debug, Default)]
pub struct Counters {
    /// Entries handled.
    pub entries: AtomicU64,
    /// Bytes of content handled, whether they had to be read or not.
    pub bytes: AtomicU64,
    /// Bytes written to the store or to the target.
    pub written: AtomicU64,
    /// Entries expected in total; 0 while unknown.
    pub entries_total: AtomicU64,
    /// Bytes expected in total; 0 while unknown.
    pub bytes_total: AtomicU64,
}

impl Counters {
    /// Adds to one of the counters.
    pub fn add(counter: &AtomicU64, by: u64) {
        let _ = counter.fetch_add(by, Ordering::Relaxed);
    }

    /// Reads one of the counters.
    pub fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}

/// Watches an operation. Called from several threads at once.
pub trait Observer: Send + Sync {
    /// The counters the operation advances.
    fn counters(&self) -> &Counters;

    /// Something was skipped or is worth knowing.
    fn warn(&self, warning: Warning);

    /// The operation enters a stage, named for people ("reading", "committing").
    fn stage(&self, _name: &str) {}
}

/// Keeps all it is told. For tests, and for operations inside others.
#[derive(Debug, Default)]
pub struct Recorder {
    counters: Counters,
    warnings: Mutex<Vec<Warning>>,
}

impl Recorder {
    /// The warnings so far.
    #[must_use]
    pub fn warnings(&self) -> Vec<Warning> {
        self.warnings.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

impl Observer for Recorder {
    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn warn(&self, warning: Warning) {
        self.warnings.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(warning);
    }
}
