//! What goes wrong between us and a Docker Engine.
//!
//! Callers act on the variants; texts of the engine are kept as it gave them.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;

use super::dial::DialError;
use super::host::Host;
use super::volume::Container;

/// What an engine's server says to those who do not speak TLS.
const TLS_WANTED: &str = "HTTP request to an HTTPS server";

/// A failure of the Docker Engine, or on the way to it.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// Nobody answers at the address.
    #[error("no docker engine answers at {host}: {reason}")]
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
    /// A host was named that is neither a docker context nor a name of ssh's configuration.
    #[error("no docker host is called `{name}`: docker contexts are {}{}", names(.contexts),
        known_to_ssh(.ssh_names))]
    NoHost {
        /// The name asked for.
        name: String,
        /// All docker contexts, sorted; `default` always is one.
        contexts: Vec<String>,
        /// The names that ssh's configuration mentions, sorted.
        ssh_names: Vec<String>,
    },
    /// The machine could not be logged in to, or has no docker command.
    #[error("{host}: {problem}{}", after_colon(.said))]
    Ssh {
        /// The address.
        host: String,
        /// What is in the way.
        problem: SshProblem,
        /// The last that ssh said.
        said: String,
    },
    /// The engine and this program do not trust each other.
    #[error("{host}: {problem}: {detail}")]
    Tls {
        /// The address.
        host: String,
        /// What is in the way.
        problem: TlsProblem,
        /// What TLS says.
        detail: String,
    },
    /// A file that TLS needs is missing or no good.
    #[error("certificates: `{}`: {reason}", .path.display())]
    Certificate {
        /// The file, or the folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
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

/// What `ssh` does not get past without a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SshProblem {
    /// There is no program `ssh` here.
    #[error("the program `ssh` cannot be run")]
    NoProgram,
    /// The machine has never been logged in to.
    #[error("its host key is not known")]
    UnknownKey,
    /// The machine is another than it was, or somebody stands between.
    #[error("its host key is another than the one that is known")]
    ChangedKey,
    /// It asks for a password, or refuses the keys there are.
    #[error("ssh cannot log in without being asked for something")]
    Login,
    /// There is no command `docker` on the machine.
    #[error("the command `docker` is not found there")]
    NoDocker,
    /// The command `docker` there is older than 18.09.
    #[error("the command `docker` there has no `system dial-stdio`")]
    OldDocker,
}

/// What TLS does not get past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TlsProblem {
    /// Nobody we trust vouches for the engine's certificate, or it has run out.
    #[error("its certificate is not trusted")]
    Untrusted,
    /// The engine's certificate is for another name.
    #[error("its certificate is for another name")]
    OtherName,
    /// The engine does not take our certificate, or misses one.
    #[error("it refuses us without a certificate that it trusts")]
    Refused,
    /// Who answers does not speak TLS.
    #[error("it does not speak TLS")]
    NotSpoken,
    /// Who answers speaks only TLS.
    #[error("it speaks TLS, and was spoken to without")]
    Wanted,
}

impl DockerError {
    /// Sorts what bollard reported while doing `action`.
    pub(super) fn of(error: bollard::errors::Error, host: &Host, action: &str) -> Self {
        use bollard::errors::Error as E;
        let action = action.to_owned();
        if let Some(failure) = DialError::within(&error) {
            return failure.judge(host, &action);
        }
        match error {
            E::DockerResponseServerError { message, .. } if message.contains(TLS_WANTED) => {
                let (host, problem) = (host.to_string(), TlsProblem::Wanted);
                Self::Tls { host, problem, detail: message.trim().to_owned() }
            }
            E::DockerResponseServerError { message, .. } => Self::Engine { action, message },
            E::DockerStreamError { error } => Self::Engine { action, message: error },
            E::RequestTimeoutError => {
                Self::Interrupted { action, message: "it did not answer in time".into() }
            }
            E::HyperLegacyError { ref err } if err.is_connect() => {
                Self::NoEngine { host: host.to_string(), reason: chain(&error) }
            }
            E::HyperLegacyError { .. } | E::HyperResponseError { .. } | E::IOError { .. } => {
                Self::Interrupted { action, message: chain(&error) }
            }
            other => Self::Engine { action, message: chain(&other) },
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

fn known_to_ssh(known: &[String]) -> String {
    match known {
        [] => String::new(),
        known => format!("; ssh knows {}", names(known)),
    }
}

fn after_colon(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
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
