//! What can go wrong with an operation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::agent::LinkError;
use crate::docker::DockerError;
use crate::repo::RepoError;
use crate::sink::SinkError;
use crate::source::{SelectionError, SourceError};

/// What can go wrong with an operation.
#[derive(Debug, thiserror::Error)]
pub enum OpsError {
    /// The repository failed, or is not what it must be.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// What was to be saved could not be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// What was to be brought back could not be written.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The engine failed, or refuses.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// The agent beside the data gave up, or cannot be understood.
    #[error("{name}")]
    Agent {
        /// What it was to read or write.
        name: String,
        /// What it said, or what came of the connection.
        source: LinkError,
    },
    /// A glob is none.
    #[error(transparent)]
    Selection(#[from] SelectionError),
    /// What was asked for is not there.
    #[error("{0}")]
    NotFound(String),
    /// Doing it would destroy something, or what it needs is in use.
    #[error("{0}")]
    Refused(String),
    /// Whoever watches asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// A file of this host failed.
    #[error("{action}")]
    Io {
        /// What was tried, with the path.
        action: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A request to stop, from a signal handler or a test.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// A request that is made by setting `flag`.
    #[must_use]
    pub fn new(flag: Arc<AtomicBool>) -> Self {
        Self(flag)
    }

    /// Fails once the request was made.
    ///
    /// Errors: [`OpsError::Interrupted`].
    pub fn check(&self) -> Result<(), OpsError> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(OpsError::Interrupted),
            false => Ok(()),
        }
    }

    /// Makes the request.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
