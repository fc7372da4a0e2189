//! What goes wrong between us and a Docker Engine.
//!
//! Callers act on the variants; texts of the engine are kept as it gave them.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;

use super::host::Host;
use super::volume::Container;

/// A failure of the Docker Engine, or on the way to it.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// Nobody answers at the address.
    #[error(
        "no docker engine answers at {host}: {reason} (start it with `systemctl start docker`, or \
         choose another one with -H, DOCKER_HOST or a docker context)"
    )]
    NoEngine {
        /// The address.
        host: String,
        /// What the system said.
        reason: String,
    },
    /// The socket exists, but this user may not use it.
    #[error(
        "no permission to use the docker socket {host} (be root or a member of the group that owns \
         it, usually `docker`)"
    )]
    Permission {
        /// The address.
        host: String,
    },
    /// A docker context was named that does not exist.
    #[error("no docker context is called `{name}`; known are: {}", names(.known))]
    NoContext {
        /// The name asked for.
        name: String,
        /// All there are, sorted; `default` always is one.
        known: Vec<String>,
    },
    /// Docker's own configuration cannot be understood; guessing could reach the wrong engine.
    #[error("docker configuration `{}`: {reason}", .path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Something this version cannot do.
    #[error("{0}")]
    Unsupported(String),
    /// The engine has no such object.
    #[error("no {kind} is called `{name}`")]
    NotFound {
        /// What was looked for: `volume`, `container`.
        kind: &'static str,
        /// Its name or id.
        name: String,
    },
    /// A volume of this name exists already.
    #[error("a volume called `{name}` exists already")]
    Exists {
        /// The volume.
        name: String,
    },
    /// Containers, running or not, use the volume.
    #[error("volume `{volume}` is in use by {}", users(.containers))]
    InUse {
        /// The volume.
        volume: String,
        /// The containers.
        containers: Vec<Container>,
    },
    /// The engine refused, or answered with something that cannot be used.
    #[error("{action}: {message}")]
    Engine {
        /// What was asked of it.
        action: String,
        /// What it said.
        message: String,
    },
    /// The connection broke off or stood still in the middle of something.
    #[error("{action}: the connection to the docker engine broke off: {message}")]
    Interrupted {
        /// What was under way.
        action: String,
        /// What the transport said.
        message: String,
    },
    /// What was to be sent to the engine could not be read.
    #[error("read the archive to be written into the volume")]
    Input(#[source] io::Error),
}

impl DockerError {
    /// Sorts what bollard reported while doing `action`.
    pub(super) fn of(error: bollard::errors::Error, host: &Host, action: &str) -> Self {
        use bollard::errors::Error as E;
        let action = action.to_owned();
        match error {
            E::DockerResponseServerError { message, .. } => Self::Engine { action, message },
            E::DockerStreamError { error } => Self::Engine { action, message: error },
            E::RequestTimeoutError => {
                Self::Engine { action, message: "the docker engine did not answer in time".into() }
            }
            E::SocketNotFoundError(_) => {
                Self::unreachable(host, &io::Error::from(io::ErrorKind::NotFound))
            }
            E::HyperLegacyError { ref err } if err.is_connect() => match io_cause(&error) {
                Some(cause) => Self::unreachable(host, cause),
                None => Self::NoEngine { host: host.to_string(), reason: chain(&error) },
            },
            E::HyperLegacyError { .. } | E::HyperResponseError { .. } | E::IOError { .. } => {
                Self::Interrupted { action, message: chain(&error) }
            }
            other => Self::Engine { action, message: chain(&other) },
        }
    }

    /// A connection to `host` could not be made.
    pub(super) fn unreachable(host: &Host, cause: &io::Error) -> Self {
        match cause.kind() {
            io::ErrorKind::PermissionDenied => Self::Permission { host: host.to_string() },
            _ => Self::NoEngine { host: host.to_string(), reason: cause.to_string() },
        }
    }

    /// This error as one of a stream; [`io::Error::get_ref`] gives it back.
    pub(super) fn into_io(self) -> io::Error {
        let kind = match self {
            Self::Interrupted { .. } => io::ErrorKind::ConnectionAborted,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, self)
    }

    /// The error a stream carried, if it is one of these.
    pub(super) fn from_io(error: io::Error, action: &str) -> Self {
        error.downcast::<Self>().unwrap_or_else(|other| Self::Interrupted {
            action: action.to_owned(),
            message: other.to_string(),
        })
    }
}

/// The status with which the engine refused; none if it was no refusal.
pub(super) fn status(error: &bollard::errors::Error) -> Option<u16> {
    match error {
        bollard::errors::Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

fn io_cause(error: &bollard::errors::Error) -> Option<&io::Error> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io);
        }
        cause = error.source();
    }
    None
}

fn chain(error: &bollard::errors::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

fn names(known: &[String]) -> String {
    known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn users(containers: &[Container]) -> String {
    match containers {
        [] => "something the engine does not name".into(),
        some => {
            let each =
                some.iter().map(|user| format!("container `{}` ({})", user.name, user.state));
            each.collect::<Vec<_>>().join(", ")
        }
    }
}
