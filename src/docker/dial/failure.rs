//! Why a connection could not be made or kept, and what that means.
//!
//! It travels inside the errors of the HTTP client, which only lend it out: so it can be copied.

use std::error::Error;
use std::fmt;
use std::io;

use tokio_rustls::rustls::{AlertDescription, CertificateError, Error as TlsError};

use crate::docker::error::{DockerError, SshProblem, TlsProblem};
use crate::docker::host::Host;

/// A failure on the way to an engine.
#[derive(Debug, Clone)]
pub(in crate::docker) enum DialError {
    /// Nobody answers.
    Unreachable(String),
    /// This user may not use the socket.
    Permission,
    /// What ssh does not get past.
    Ssh { problem: SshProblem, said: String },
    /// What TLS does not get past.
    Tls { problem: TlsProblem, detail: String },
    /// A connection that stood is gone.
    Lost(String),
}

impl DialError {
    /// Something that cannot be, said rather than ignored.
    pub(super) fn lost() -> Self {
        Self::Lost("the connection was never prepared".into())
    }

    /// An engine that hung up on a client without a certificate.
    pub(super) fn nameless() -> Self {
        let detail = "it asks for a certificate, and there is none".to_owned();
        Self::Tls { problem: TlsProblem::Refused, detail }
    }

    /// What the system, or TLS, says about a connection that could not be made.
    pub(super) fn of_io(error: &io::Error) -> Self {
        if let Some(tls) = tls_error(error) {
            return Self::of_tls(tls);
        }
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::Permission,
            io::ErrorKind::TimedOut => Self::Unreachable("it did not answer in time".into()),
            _ => Self::Unreachable(error.to_string()),
        }
    }

    fn of_tls(error: &TlsError) -> Self {
        use AlertDescription as Alert;

        let problem = match error {
            TlsError::InvalidCertificate(CertificateError::NotValidForName)
            | TlsError::InvalidCertificate(CertificateError::NotValidForNameContext { .. }) => {
                TlsProblem::OtherName
            }
            TlsError::InvalidCertificate(_) => TlsProblem::Untrusted,
            TlsError::AlertReceived(
                Alert::CertificateRequired
                | Alert::BadCertificate
                | Alert::UnknownCA
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::HandshakeFailure
                | Alert::AccessDenied,
            ) => TlsProblem::Refused,
            TlsError::InvalidMessage(_) | TlsError::InappropriateMessage { .. } => {
                TlsProblem::NotSpoken
            }
            other => return Self::Lost(other.to_string()),
        };
        Self::Tls { problem, detail: error.to_string() }
    }

    /// The failure that `error` carries somewhere inside.
    pub(in crate::docker) fn within(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<Self>() {
                return Some(found.clone());
            }
            if let Some(io) = error.downcast_ref::<io::Error>() {
                if let Some(found) = io.get_ref().and_then(|inner| inner.downcast_ref::<Self>()) {
                    return Some(found.clone());
                }
                if let Some(tls) = tls_error(io) {
                    return Some(Self::of_tls(tls));
                }
            }
            next = error.source();
        }
        None
    }

    /// What it means while `action` was under way with the engine at `host`.
    pub(in crate::docker) fn judge(self, host: &Host, action: &str) -> DockerError {
        let host = host.to_string();
        match self {
            Self::Unreachable(reason) => DockerError::NoEngine { host, reason },
            Self::Permission => DockerError::Permission { host },
            Self::Ssh { problem, said } => DockerError::Ssh { host, problem, said },
            Self::Tls { problem, detail } => DockerError::Tls { host, problem, detail },
            Self::Lost(message) => DockerError::Interrupted { action: action.into(), message },
        }
    }
}

fn tls_error(error: &io::Error) -> Option<&TlsError> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) | Self::Lost(why) => f.write_str(why),
            Self::Permission => f.write_str("permission denied"),
            Self::Ssh { problem, said } => write!(f, "{problem}: {said}"),
            Self::Tls { problem, detail } => write!(f, "{problem}: {detail}"),
        }
    }
}

impl Error for DialError {}
