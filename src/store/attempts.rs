//! The loop around every call: attempts, pauses between them, and when to give up.

use std::future::Future;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep, timeout};

use crate::store::{Access, ObjectName, StoreError};

/// How often a wait looks whether the user wants to stop.
const GLANCE: Duration = Duration::from_millis(200);

/// Threads that move bytes between sockets and those who wait for them.
const WORKERS: usize = 2;

/// The threads on which a store at `location` makes its calls.
///
/// Errors: `Io`.
pub(super) fn start_threads(location: &str) -> Result<Runtime, StoreError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("vault-store")
        .enable_all()
        .build();
    runtime.map_err(|source| StoreError::Io {
        action: "start threads".to_owned(),
        location: location.to_owned(),
        source,
    })
}

/// What is done, for messages and for what an answer means.
#[derive(Debug, Clone, Copy)]
pub(super) enum Task<'a> {
    Put(&'a ObjectName),
    Get(&'a ObjectName),
    List(&'a str),
    Delete(&'a ObjectName),
}

impl Task<'_> {
    /// Such as "write `packs/ab/…`".
    pub(super) fn action(&self) -> String {
        match self {
            Self::Put(name) => format!("write `{name}`"),
            Self::Get(name) => format!("read `{name}`"),
            Self::List("") => "list objects".to_owned(),
            Self::List(folder) => format!("list `{folder}`"),
            Self::Delete(name) => format!("delete `{name}`"),
        }
    }

    /// The object it is about, if it is about one.
    pub(super) fn name(&self) -> Option<&ObjectName> {
        match self {
            Self::Put(name) | Self::Get(name) | Self::Delete(name) => Some(name),
            Self::List(_) => None,
        }
    }
}

/// What a failed attempt means.
#[derive(Debug)]
pub(super) enum Verdict {
    /// There is no such object.
    Missing,
    /// The object has no such range.
    OutOfRange,
    /// It may work soon, but not before the store asks for it.
    Again { why: String, after: Option<Duration> },
    /// It may work, but hardly if it did not the first few times.
    Senseless(String),
    /// It may work with credentials that are read anew.
    Renew(StoreError),
    /// It will not work.
    Final(StoreError),
}

/// Why a call has no result.
#[derive(Debug)]
pub(super) enum Stop {
    Missing,
    OutOfRange,
    Error(StoreError),
}

impl Stop {
    /// What it means where an object was asked for.
    pub(super) fn of_object(self, name: &ObjectName) -> StoreError {
        match self {
            Self::Missing | Self::OutOfRange => StoreError::NotFound(name.clone()),
            Self::Error(error) => error,
        }
    }
}

/// What to do after a failed attempt.
pub(super) enum Next {
    Again,
    /// Once more with credentials that are read anew.
    Renewed,
}

/// One call and its attempts so far.
pub(super) struct Attempts<'a> {
    task: Task<'a>,
    location: &'a str,
    access: &'a Access,
    made: u32,
    renewed: bool,
    /// When the first attempt failed.
    failing_since: Option<Instant>,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(task: Task<'a>, location: &'a str, access: &'a Access) -> Self {
        Self { task, location, access, made: 0, renewed: false, failing_since: None }
    }

    /// Makes an attempt; gives up waiting for it once the user wants to stop.
    pub(super) async fn make<T>(&mut self, attempt: impl Future<Output = T>) -> Result<T, Stop> {
        self.made += 1;
        let result = self.unless_interrupted(attempt).await;
        result.ok_or_else(|| Stop::Error(self.stopped()))
    }

    /// Waits until it is time for another attempt.
    ///
    /// Errors: there is none, and why.
    pub(super) async fn after(&mut self, verdict: Verdict) -> Result<Next, Stop> {
        let patience = &self.access.patience;
        let (why, asked, most) = match verdict {
            Verdict::Missing => return Err(Stop::Missing),
            Verdict::OutOfRange => return Err(Stop::OutOfRange),
            Verdict::Final(error) => return Err(Stop::Error(error)),
            Verdict::Renew(error) if self.renewed => return Err(Stop::Error(error)),
            Verdict::Renew(_) => {
                self.renewed = true;
                return Ok(Next::Renewed);
            }
            Verdict::Again { why, after } => (why, after, u32::MAX),
            Verdict::Senseless(why) => (why, None, patience.senseless_max),
        };
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        let pause = asked.unwrap_or_default().max(self.pause());
        if self.made >= most || since.elapsed() + pause > patience.budget {
            return Err(Stop::Error(self.gave_up(why)));
        }
        match self.unless_interrupted(sleep(pause)).await {
            Some(()) => Ok(Next::Again),
            None => Err(Stop::Error(self.stopped())),
        }
    }

    /// A random part of a time that doubles: those who failed together do not come together again.
    fn pause(&self) -> Duration {
        let doublings = self.made.saturating_sub(1).min(20);
        let longest = self.access.patience.pause.saturating_mul(1 << doublings);
        let longest = longest.min(self.access.patience.pause_max);
        let random = getrandom::u32().unwrap_or(u32::MAX);
        longest / 2 + (longest / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    fn gave_up(&self, why: String) -> StoreError {
        let text = match self.made {
            1 => why,
            made => format!("{why} (tried {made} times)"),
        };
        io_error(self.task, self.location, io::Error::other(text))
    }

    fn stopped(&self) -> StoreError {
        let source = io::Error::new(io::ErrorKind::Interrupted, "stopped by a signal");
        io_error(self.task, self.location, source)
    }

    async fn unless_interrupted<F: Future>(&self, wait: F) -> Option<F::Output> {
        let mut wait = Box::pin(wait);
        loop {
            if self.access.interrupted.load(Ordering::Relaxed) {
                return None;
            }
            if let Ok(output) = timeout(GLANCE, &mut wait).await {
                return Some(output);
            }
        }
    }
}

/// Missing rights.
pub(super) fn denied(task: Task<'_>, location: &str, source: io::Error) -> StoreError {
    StoreError::Denied { action: task.action(), location: location.to_owned(), source }
}

/// The store does not work, or not now.
pub(super) fn io_error(task: Task<'_>, location: &str, source: io::Error) -> StoreError {
    StoreError::Io { action: task.action(), location: location.to_owned(), source }
}
