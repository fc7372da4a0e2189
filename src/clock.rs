//! The only source of time.
//!
//! Floor 0. Time is for display and for hints; no promise of the repository rests on a clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point in time as file systems keep it: seconds since 1970 (negative before) and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time {
    /// Whole seconds since 1970-01-01 00:00:00 UTC, rounded down.
    pub seconds: i64,
    /// Nanoseconds past `seconds`, below 1,000,000,000.
    pub nanos: u32,
}

impl Time {
    /// The point `seconds` and `nanos` after the epoch.
    #[must_use]
    pub const fn new(seconds: i64, nanos: u32) -> Self {
        Self { seconds, nanos }
    }
}

/// Tells the time; tests hold it still.
#[derive(Debug, Clone, Copy)]
pub enum Clock {
    /// The system's clock.
    System,
    /// A clock that stands still.
    Fixed(Time),
}

impl Clock {
    /// The present time of day.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the clock everybody else must use")]
    pub fn now(&self) -> Time {
        let now = match self {
            Self::Fixed(time) => return *time,
            Self::System => SystemTime::now(),
        };
        match now.duration_since(UNIX_EPOCH) {
            Ok(since) => Time {
                seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
                nanos: since.subsec_nanos(),
            },
            Err(_) => Time::default(),
        }
    }
}

/// Measures how long something takes.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the clock everybody else must use")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
