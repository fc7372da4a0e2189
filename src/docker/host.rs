//! Which engine is meant: option, environment, docker context or the default socket.
//!
//! The environment is handed in; only the cli reads it. What is named but cannot be used is an
//! error, never a reason to take the next choice: that could be another machine's engine.

use std::fmt;
use std::path::{Path, PathBuf};

use super::context;
use super::error::DockerError;

/// Where the engine listens unless told otherwise.
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// The port of an engine without TLS.
const TCP_PORT: u16 = 2375;

/// What the environment says about the engine. Empty texts count as unset.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `DOCKER_HOST`.
    pub docker_host: Option<String>,
    /// `DOCKER_CONTEXT`.
    pub docker_context: Option<String>,
    /// `DOCKER_CONFIG`, or `.docker` in the home directory; contexts are not looked for without.
    pub docker_config: Option<PathBuf>,
    /// Whether `DOCKER_TLS_VERIFY` is set and not empty.
    pub tls_verify: bool,
    /// `DOCKER_CERT_PATH`; for TLS, which this version does not speak.
    pub cert_path: Option<PathBuf>,
}

/// How an engine is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A unix socket of this machine, by absolute path.
    Unix(PathBuf),
    /// TCP without TLS, as `host:port`.
    Tcp(String),
}

/// Why an engine was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// By option.
    Explicit,
    /// By `DOCKER_HOST`.
    DockerHost,
    /// By the context of this name.
    Context(String),
    /// Because nothing else was said.
    Default,
}

/// The engine to talk to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its address.
    pub address: Address,
    /// What named it.
    pub choice: Choice,
}

impl Host {
    /// Finds out which engine is meant: `explicit` (an address or the name of a context), else
    /// `DOCKER_HOST`, else `DOCKER_CONTEXT`, else docker's current context, else the default
    /// socket.
    ///
    /// Errors: [`DockerError::NoContext`], [`DockerError::Config`] if docker's configuration cannot
    /// be read, [`DockerError::Unsupported`] for ssh, TLS and addresses of other kinds.
    /// Source: the docker command, `cli/command/cli.go`.
    pub fn resolve(explicit: Option<&str>, env: &Environment) -> Result<Self, DockerError> {
        let set = |value: &Option<String>| value.clone().filter(|text| !text.is_empty());
        let explicit = explicit.filter(|text| !text.is_empty());
        if let Some(given) = explicit {
            if is_address(given) {
                return Self::at(given, env.tls_verify, Choice::Explicit);
            }
            if given != "default" {
                return Self::of_context(given, env);
            }
        }
        if let Some(given) = set(&env.docker_host) {
            return Self::at(&given, env.tls_verify, Choice::DockerHost);
        }
        let mut context = set(&env.docker_context);
        if let (None, None, Some(folder)) = (&context, explicit, &env.docker_config) {
            context = context::current(folder)?;
        }
        match context.filter(|name| explicit.is_none() && name != "default") {
            Some(name) => Self::of_context(&name, env),
            None => {
                Ok(Self { address: Address::Unix(DEFAULT_SOCKET.into()), choice: Choice::Default })
            }
        }
    }

    /// The engine at a unix socket of this machine.
    #[must_use]
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self { address: Address::Unix(path.into()), choice: Choice::Explicit }
    }

    /// Whether the engine is reached through a unix socket.
    #[must_use]
    pub fn is_unix(&self) -> bool {
        matches!(self.address, Address::Unix(_))
    }

    fn of_context(name: &str, env: &Environment) -> Result<Self, DockerError> {
        let folder = env.docker_config.as_deref().unwrap_or(Path::new(""));
        let endpoint = context::find(folder, name)?;
        Self::at(&endpoint.host, endpoint.tls, Choice::Context(name.to_owned()))
    }

    fn at(given: &str, tls: bool, choice: Choice) -> Result<Self, DockerError> {
        let later = |what: &str| {
            Err(DockerError::Unsupported(format!(
                "docker host `{given}`: {what} is not supported yet, only unix:// and plain tcp://"
            )))
        };
        let address = match given.split_once("://") {
            Some(("unix", path)) => unix_address(given, path)?,
            None if given.starts_with('/') => unix_address(given, given)?,
            Some(("tcp", _)) | None if tls => return later("tcp with TLS"),
            Some(("tcp", rest)) => tcp_address(given, rest)?,
            None => tcp_address(given, given)?,
            Some(("ssh", _)) => return later("ssh"),
            Some(("https", _)) => return later("TLS"),
            Some((scheme, _)) => return later(&format!("`{scheme}`")),
        };
        Ok(Self { address, choice })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Unix(path) => write!(f, "unix://{}", path.display()),
            Address::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

/// Names of contexts hold neither colons nor slashes, and every address holds one.
fn is_address(given: &str) -> bool {
    given.contains([':', '/'])
}

fn unix_address(given: &str, path: &str) -> Result<Address, DockerError> {
    let path = if path.is_empty() { DEFAULT_SOCKET } else { path };
    if !path.starts_with('/') {
        return Err(malformed(given, "the path of a socket must be absolute"));
    }
    Ok(Address::Unix(path.into()))
}

fn tcp_address(given: &str, rest: &str) -> Result<Address, DockerError> {
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
        Some(port) if !host.is_empty() => Ok(Address::Tcp(format!("{host}:{port}"))),
        _ => Err(malformed(given, "it must be a host and a port")),
    }
}

fn malformed(given: &str, reason: &str) -> DockerError {
    DockerError::Unsupported(format!("docker host `{given}`: {reason}"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::docker::digest::sha256_hex;

    fn add_context(folder: &Path, name: &str, endpoint: &str) {
        let at = folder.join("contexts/meta").join(sha256_hex(name.as_bytes()));
        fs::create_dir_all(&at).expect("a folder");
        let meta = format!(r#"{{"Name":"{name}","Metadata":{{}},"Endpoints":{endpoint}}}"#);
        fs::write(at.join("meta.json"), meta).expect("a file");
    }

    fn folder() -> (tempfile::TempDir, Environment) {
        let folder = tempfile::tempdir().expect("a folder");
        add_context(folder.path(), "near", r#"{"docker":{"Host":"unix:///near.sock"}}"#);
        add_context(folder.path(), "far", r#"{"docker":{"Host":"tcp://far:9"}}"#);
        add_context(folder.path(), "safe", r#"{"docker":{"Host":"tcp://safe:2376"}}"#);
        add_context(folder.path(), "shell", r#"{"docker":{"Host":"ssh://root@shell"}}"#);
        add_context(folder.path(), "hollow", "{}");
        let tls = folder.path().join("contexts/tls").join(sha256_hex(b"safe")).join("docker");
        fs::create_dir_all(tls).expect("a folder");
        fs::write(folder.path().join("config.json"), r#"{"currentContext":"near"}"#).expect("file");
        let env =
            Environment { docker_config: Some(folder.path().to_owned()), ..Environment::default() };
        (folder, env)
    }

    fn resolved(explicit: Option<&str>, env: &Environment) -> String {
        match Host::resolve(explicit, env) {
            Ok(host) => format!("{host} {:?}", host.choice),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn option_beats_docker_host_beats_docker_context_beats_current_context_beats_default() {
        let (folder, mut env) = folder();
        assert_eq!(resolved(None, &env), r#"unix:///near.sock Context("near")"#);
        env.docker_context = Some("far".into());
        assert_eq!(resolved(None, &env), r#"tcp://far:9 Context("far")"#);
        env.docker_host = Some("unix:///env.sock".into());
        assert_eq!(resolved(None, &env), "unix:///env.sock DockerHost");
        assert_eq!(resolved(Some("unix:///given.sock"), &env), "unix:///given.sock Explicit");
        assert_eq!(resolved(Some("near"), &env), r#"unix:///near.sock Context("near")"#);
        fs::remove_file(folder.path().join("config.json")).expect("the file was there");
        env = Environment { docker_host: None, docker_context: None, ..env };
        assert_eq!(resolved(None, &env), "unix:///var/run/docker.sock Default");
    }

    #[test]
    fn context_named_default_means_docker_host_or_the_default_socket() {
        let (_folder, mut env) = folder();
        assert_eq!(resolved(Some("default"), &env), "unix:///var/run/docker.sock Default");
        env.docker_host = Some("unix:///env.sock".into());
        assert_eq!(resolved(Some("default"), &env), "unix:///env.sock DockerHost");
        env.docker_host = None;
        env.docker_context = Some("default".into());
        assert_eq!(resolved(None, &env), "unix:///var/run/docker.sock Default");
    }

    #[test]
    fn empty_variables_count_as_unset() {
        let env = Environment {
            docker_host: Some(String::new()),
            docker_context: Some(String::new()),
            ..Environment::default()
        };
        assert_eq!(resolved(Some(""), &env), "unix:///var/run/docker.sock Default");
    }

    #[test]
    fn missing_context_is_an_error_that_names_the_known_ones() {
        let (_folder, mut env) = folder();
        let error = Host::resolve(Some("neer"), &env).expect_err("there is no such context");
        assert_eq!(
            error.to_string(),
            "no docker context is called `neer`; known are: `default`, `far`, `hollow`, `near`, \
             `safe`, `shell`"
        );
        env.docker_context = Some("gone".into());
        assert!(resolved(None, &env).contains("no docker context is called `gone`"));
    }

    #[test]
    fn ssh_and_tls_are_refused_rather_than_spoken_plainly() {
        let (_folder, mut env) = folder();
        assert!(resolved(Some("shell"), &env).contains("ssh is not supported yet"));
        assert!(resolved(Some("ssh://root@h"), &env).contains("ssh is not supported yet"));
        assert!(resolved(Some("safe"), &env).contains("tcp with TLS is not supported yet"));
        env.tls_verify = true;
        assert!(resolved(Some("tcp://h:2376"), &env).contains("tcp with TLS is not supported yet"));
        assert_eq!(resolved(Some("unix:///given.sock"), &env), "unix:///given.sock Explicit");
    }

    #[test]
    fn damaged_configuration_is_an_error_and_not_the_default_engine() {
        let (folder, env) = folder();
        fs::write(folder.path().join("config.json"), "{").expect("a file");
        assert!(resolved(None, &env).contains("config.json`: EOF"));
        assert!(resolved(Some("hollow"), &env).contains("names no docker engine"));
        fs::write(folder.path().join("config.json"), vec![b' '; 2 << 20]).expect("a file");
        assert!(resolved(None, &env).contains("longer than"));
    }

    #[test]
    fn addresses_are_read_as_the_docker_command_reads_them() {
        let env = Environment::default();
        for (given, meant) in [
            ("unix:///a/b.sock", "unix:///a/b.sock"),
            ("unix://", "unix:///var/run/docker.sock"),
            ("/a/b.sock", "unix:///a/b.sock"),
            ("tcp://h", "tcp://h:2375"),
            ("tcp://10.0.0.1:99/", "tcp://10.0.0.1:99"),
            ("tcp://[::1]:99", "tcp://[::1]:99"),
            ("tcp://[::1]", "tcp://[::1]:2375"),
            ("h:99", "tcp://h:99"),
        ] {
            assert_eq!(resolved(Some(given), &env), format!("{meant} Explicit"), "{given}");
        }
        for given in
            ["unix://a.sock", "tcp://", "tcp://h:x", "tcp://u@h", "tcp://h/p", "fd://", "h:"]
        {
            assert!(Host::resolve(Some(given), &env).is_err(), "{given}");
        }
    }
}
