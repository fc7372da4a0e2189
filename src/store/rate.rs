//! Keeps a stream of bytes below a rate.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Shares one rate among all requests of a store.
#[derive(Debug)]
pub(super) struct Rate {
    /// Bytes a second; no limit if none.
    limit: Option<u64>,
    /// When the bytes granted so far have had their time.
    paid_until: Mutex<Option<Instant>>,
}

impl Rate {
    pub(super) fn new(limit: Option<u64>) -> Self {
        Self { limit: limit.filter(|limit| *limit > 0), paid_until: Mutex::default() }
    }

    /// Grants `len` bytes; they may move from the returned time on, at once if none.
    pub(super) fn grant(&self, len: usize, now: Instant) -> Option<Instant> {
        let limit = self.limit?;
        let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        let from = paid_until.filter(|until| *until > now).unwrap_or(now);
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no more digits")]
        let took = Duration::from_secs_f64(len as f64 / limit as f64);
        *paid_until = Some(from + took);
        (from > now).then_some(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_wait_until_those_before_them_have_had_their_time() {
        let rate = Rate::new(Some(1000));
        let start = Instant::now();
        assert_eq!(rate.grant(500, start), None);
        assert_eq!(rate.grant(1000, start), Some(start + Duration::from_millis(500)));
        assert_eq!(rate.grant(1, start), Some(start + Duration::from_millis(1500)));
        // Time that nobody used is not saved up.
        let later = start + Duration::from_secs(60);
        assert_eq!(rate.grant(1000, later), None);
        assert_eq!(rate.grant(1, later), Some(later + Duration::from_secs(1)));
    }

    #[test]
    fn without_a_limit_nothing_waits() {
        for limit in [None, Some(0)] {
            let rate = Rate::new(limit);
            assert_eq!(rate.grant(usize::MAX, Instant::now()), None);
            assert_eq!(rate.grant(usize::MAX, Instant::now()), None);
        }
    }
}
