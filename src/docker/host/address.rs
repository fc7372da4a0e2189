//! How an engine is reached: the addresses that the docker command knows, read as it reads them.
//!
//! What is not understood is refused before anything is run or connected to: words that `ssh` could
//! take for an option never get that far.

use std::fmt;
use std::path::PathBuf;

use crate::docker::error::DockerError;

/// Where the engine listens unless told otherwise.
pub(super) const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// The port of an engine where an address names none.
const TCP_PORT: u16 = 2375;

/// How an engine is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A unix socket of this machine, by absolute path.
    Unix(PathBuf),
    /// TCP without TLS, as `host:port`.
    Tcp(String),
    /// TCP with TLS.
    Tls {
        /// `host:port`.
        address: String,
        /// Whom to trust, and as whom to come.
        certificates: Certificates,
    },
    /// The `docker` command of another machine, through `ssh`.
    Ssh(SshPlace),
}

/// A folder with what TLS needs: `ca.pem`, and `cert.pem` and `key.pem` of the client.
///
/// Without `ca.pem` the authorities of this machine are trusted; without the other two the client
/// stays nameless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificates {
    /// The folder.
    pub folder: PathBuf,
    /// Whether the engine has to prove who it is; only a docker context can say no.
    pub verify: bool,
}

/// A machine that `ssh` logs in to. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshPlace {
    /// The account; the one of ssh's configuration if none.
    pub(in crate::docker) user: Option<String>,
    /// A name that ssh's configuration knows, or an address.
    pub(in crate::docker) host: String,
    pub(in crate::docker) port: Option<u16>,
    /// The engine's socket there; the one its `docker` command chooses if none.
    pub(in crate::docker) socket: Option<String>,
}

impl Address {
    /// Reads an address; `certificates` are for one that speaks TCP.
    ///
    /// Errors: [`DockerError::Unsupported`].
    pub(super) fn parse(
        given: &str,
        certificates: Option<Certificates>,
    ) -> Result<Self, DockerError> {
        let tcp = |rest| {
            let address = tcp_address(given, rest)?;
            Ok(match certificates {
                Some(certificates) => Self::Tls { address, certificates },
                None => Self::Tcp(address),
            })
        };
        match given.split_once("://") {
            Some(("unix", path)) => unix_address(given, path),
            None if given.starts_with('/') => unix_address(given, given),
            Some(("ssh", rest)) => SshPlace::parse(rest).map(Self::Ssh),
            Some(("tcp", rest)) => tcp(rest),
            None => tcp(given),
            Some((scheme, _)) => {
                let known = "unix://, tcp:// and ssh:// are";
                Err(malformed(given, &format!("`{scheme}` is no way to an engine; {known}")))
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) | Self::Tls { address, .. } => write!(f, "tcp://{address}"),
            Self::Ssh(place) => place.fmt(f),
        }
    }
}

impl SshPlace {
    /// A machine by the name that ssh's configuration has for it.
    pub(in crate::docker) fn named(name: &str) -> Self {
        Self { user: None, host: name.to_owned(), port: None, socket: None }
    }

    /// Reads `[USER@]HOST[:PORT][/SOCKET]`.
    fn parse(rest: &str) -> Result<Self, DockerError> {
        // What stands there may be a password: it is not repeated.
        let refused = |why: &str| Err(DockerError::Unsupported(format!("ssh:// address: {why}")));
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, _)) if user.contains(':') => {
                return refused("it must not hold a password; ssh logs in with a key");
            }
            Some((user, host)) => (Some(user.to_owned()), host),
            None => (None, authority),
        };
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => match port.parse() {
                Ok(port) => (host, Some(port)),
                Err(_) => return refused("the port is a number"),
            },
            _ => (host, None),
        };
        let six = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let good = match six {
            Some(six) => !six.is_empty() && six.chars().all(|c| c.is_ascii_hexdigit() || c == ':'),
            None => is_word(host),
        };
        if !good || !user.as_deref().is_none_or(is_word) {
            return refused("host and user consist of letters, digits, `.`, `_` and `-`");
        }
        let socket = (path.len() > 1).then(|| path.to_owned());
        let sane = |c: char| c.is_ascii_alphanumeric() || "/._-+@".contains(c);
        if !path.chars().all(sane) {
            return refused("the path of a socket there has unusual characters");
        }
        Ok(Self { user, host: six.unwrap_or(host).to_owned(), port, socket })
    }
}

impl fmt::Display for SshPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ssh://")?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        match self.host.contains(':') {
            true => write!(f, "[{}]", self.host)?,
            false => f.write_str(&self.host)?,
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(self.socket.as_deref().unwrap_or(""))
    }
}

/// Nothing that ssh could take for an option or a part of a command.
fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

fn unix_address(given: &str, path: &str) -> Result<Address, DockerError> {
    let path = if path.is_empty() { DEFAULT_SOCKET } else { path };
    if !path.starts_with('/') {
        return Err(malformed(given, "the path of a socket must be absolute"));
    }
    Ok(Address::Unix(path.into()))
}

fn tcp_address(given: &str, rest: &str) -> Result<String, DockerError> {
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let known = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
    if rest.is_empty() || !rest.chars().all(known) {
        return Err(malformed(given, "it must be a host and a port"));
    }
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
        _ => (rest, Some(TCP_PORT)),
    };
    match port {
        Some(port) if !host.is_empty() => Ok(format!("{host}:{port}")),
        _ => Err(malformed(given, "it must be a host and a port")),
    }
}

fn malformed(given: &str, reason: &str) -> DockerError {
    DockerError::Unsupported(format!("docker host `{given}`: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(given: &str) -> Result<String, String> {
        let address = Address::parse(given, None);
        address.map(|address| address.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn addresses_are_read_as_the_docker_command_reads_them() {
        for (given, meant) in [
            ("unix:///a/b.sock", "unix:///a/b.sock"),
            ("unix://", "unix:///var/run/docker.sock"),
            ("/a/b.sock", "unix:///a/b.sock"),
            ("tcp://h", "tcp://h:2375"),
            ("tcp://10.0.0.1:99/", "tcp://10.0.0.1:99"),
            ("tcp://[::1]:99", "tcp://[::1]:99"),
            ("tcp://[::1]", "tcp://[::1]:2375"),
            ("h:99", "tcp://h:99"),
            ("ssh://h", "ssh://h"),
            ("ssh://h/", "ssh://h"),
            ("ssh://me@h:22", "ssh://me@h:22"),
            ("ssh://me@[fe80::1]:22/run/docker.sock", "ssh://me@[fe80::1]:22/run/docker.sock"),
        ] {
            assert_eq!(parsed(given).as_deref(), Ok(meant), "{given}");
        }
        for given in [
            "unix://a.sock",
            "tcp://",
            "tcp://h:x",
            "tcp://u@h",
            "tcp://h/p",
            "fd://",
            "https://h",
            "h:",
        ] {
            assert!(parsed(given).is_err(), "{given}");
        }
    }

    #[test]
    fn what_ssh_could_take_for_something_else_is_refused_and_no_password_repeated() {
        for given in [
            "ssh://",
            "ssh://-oProxyCommand=x",
            "ssh://-l@h",
            "ssh://me:hunter2@h",
            "ssh://h:x",
            "ssh://a b",
            "ssh://h/a b",
            "ssh://h/$(x)",
            "ssh://[x]",
        ] {
            let error = parsed(given).expect_err(given);
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn certificates_make_tls_of_tcp_and_of_nothing_else() {
        let parse = |given: &str| {
            let certificates = Certificates { folder: "/c".into(), verify: true };
            Address::parse(given, Some(certificates)).expect(given)
        };
        assert!(matches!(parse("tcp://h:1"), Address::Tls { .. }));
        assert!(matches!(parse("h:1"), Address::Tls { .. }));
        assert!(matches!(parse("unix:///s"), Address::Unix(_)));
        assert!(matches!(parse("ssh://h"), Address::Ssh(_)));
    }
}
