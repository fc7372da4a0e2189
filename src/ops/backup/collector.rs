//! Keeps the warnings of a backup for its snapshot while passing them on.

use std::sync::{Arc, Mutex, PoisonError};

use crate::event::{Counters, Observer, Warning};

/// So many warnings stand in a snapshot; more are counted. Each is cut to so many bytes, so that a
/// record never comes near the size that readers refuse.
const KEPT_MAX: usize = 1000;
const OBJECT_LEN_MAX: usize = 4096;
const MESSAGE_LEN_MAX: usize = 1000;

/// An observer that also remembers.
pub struct Collector {
    inner: Arc<dyn Observer>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    warnings: Vec<Warning>,
    skipped: u64,
}

impl Collector {
    /// Passes everything on to `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Observer>) -> Self {
        Self { inner, kept: Mutex::default() }
    }

    /// The first warnings. Those about something missing are never crowded out by others.
    #[must_use]
    pub fn kept(&self) -> Vec<Warning> {
        self.lock().warnings.clone()
    }

    /// How many warnings were about something missing.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.lock().skipped
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Collector {
    fn counters(&self) -> &Counters {
        self.inner.counters()
    }

    fn warn(&self, warning: Warning) {
        let mut kept = self.lock();
        kept.skipped += u64::from(warning.skipped);
        if kept.warnings.len() < KEPT_MAX {
            kept.warnings.push(cut(&warning));
        } else if warning.skipped
            && let Some(notice) = kept.warnings.iter_mut().find(|kept| !kept.skipped)
        {
            *notice = cut(&warning);
        }
        drop(kept);
        self.inner.warn(warning);
    }

    fn stage(&self, name: &str) {
        self.inner.stage(name);
    }
}

fn cut(warning: &Warning) -> Warning {
    let object = &warning.object[..warning.object.len().min(OBJECT_LEN_MAX)];
    Warning {
        object: object.to_vec(),
        message: warning.message.chars().take(MESSAGE_LEN_MAX).collect(),
        skipped: warning.skipped,
    }
}
