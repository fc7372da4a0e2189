//! Which engine is meant: option, environment, docker context or the default socket.
//!
//! The environment is handed in; only the cli reads it. What is named but cannot be used is an
//! error, never a reason to take the next choice: that could be another machine's engine.

mod address;
mod ssh_names;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use self::address::DEFAULT_SOCKET;
pub use self::address::{Address, Certificates, SshPlace};
use super::context;
use super::error::DockerError;

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
    /// `DOCKER_CERT_PATH`: the folder with what TLS needs; docker's own folder if none.
    pub cert_path: Option<PathBuf>,
    /// `HOME`, below which ssh has its configuration.
    pub home: Option<PathBuf>,
    /// The variables that an `ssh` gets to see.
    pub ssh_environment: BTreeMap<OsString, OsString>,
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
    /// By a name of ssh's configuration.
    SshName(String),
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
    /// The variables that an `ssh` gets to see.
    pub(super) ssh_environment: BTreeMap<OsString, OsString>,
}

impl Host {
    /// Finds out which engine is meant: `explicit` (an address, `local`, the name of a context or
    /// one of ssh's configuration), else `DOCKER_HOST`, else `DOCKER_CONTEXT`, else docker's
    /// current context, else the default socket. `local` is the default socket whatever else is
    /// set.
    ///
    /// Errors: [`DockerError::NoHost`], [`DockerError::NoContext`], [`DockerError::Config`] if
    /// docker's configuration cannot be read, [`DockerError::Unsupported`] for what is no address.
    /// Source: the docker command, `cli/command/cli.go`.
    pub fn resolve(explicit: Option<&str>, env: &Environment) -> Result<Self, DockerError> {
        let set = |value: &Option<String>| value.clone().filter(|text| !text.is_empty());
        let explicit = explicit.filter(|text| !text.is_empty());
        match explicit {
            Some("local") => return Ok(Self::default_socket(env)),
            Some("default") | None => {}
            Some(given) if is_address(given) => {
                let address = Address::parse(given, certificates(env))?;
                return Ok(Self::at(address, Choice::Explicit, env));
            }
            Some(given) => return Self::named(given, env),
        }
        if let Some(given) = set(&env.docker_host) {
            let address = Address::parse(&given, certificates(env))?;
            return Ok(Self::at(address, Choice::DockerHost, env));
        }
        let mut context = set(&env.docker_context);
        if let (None, None, Some(folder)) = (&context, explicit, &env.docker_config) {
            context = context::current(folder)?;
        }
        match context.filter(|name| explicit.is_none() && name != "default") {
            Some(name) => Self::of_context(&name, env),
            None => Ok(Self::default_socket(env)),
        }
    }

    /// The engine at a unix socket of this machine.
    #[must_use]
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::at(Address::Unix(path.into()), Choice::Explicit, &Environment::default())
    }

    /// Whether the engine is reached through a unix socket.
    #[must_use]
    pub fn is_unix(&self) -> bool {
        matches!(self.address, Address::Unix(_))
    }

    fn default_socket(env: &Environment) -> Self {
        Self::at(Address::Unix(DEFAULT_SOCKET.into()), Choice::Default, env)
    }

    /// A context goes before a name of ssh's configuration, as it says more.
    fn named(name: &str, env: &Environment) -> Result<Self, DockerError> {
        let folder = env.docker_config.as_deref().unwrap_or(Path::new(""));
        if context::exists(folder, name) {
            return Self::of_context(name, env);
        }
        let ssh_names = ssh_names::all(env.home.as_deref());
        if ssh_names.contains(name) {
            let address = Address::Ssh(SshPlace::named(name));
            return Ok(Self::at(address, Choice::SshName(name.to_owned()), env));
        }
        Err(DockerError::NoHost {
            name: name.to_owned(),
            contexts: context::known(folder),
            ssh_names: ssh_names.into_iter().collect(),
        })
    }

    fn of_context(name: &str, env: &Environment) -> Result<Self, DockerError> {
        let folder = env.docker_config.as_deref().unwrap_or(Path::new(""));
        let endpoint = context::find(folder, name)?;
        let address = Address::parse(&endpoint.host, endpoint.certificates)?;
        Ok(Self::at(address, Choice::Context(name.to_owned()), env))
    }

    fn at(address: Address, choice: Choice, env: &Environment) -> Self {
        Self { address, choice, ssh_environment: env.ssh_environment.clone() }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

/// Names of contexts hold neither colons nor slashes, and every address holds one.
fn is_address(given: &str) -> bool {
    given.contains([':', '/'])
}

/// What the environment wants of addresses that speak TCP.
fn certificates(env: &Environment) -> Option<Certificates> {
    let folder = env.cert_path.clone().or_else(|| env.docker_config.clone());
    env.tls_verify.then(|| Certificates { folder: folder.unwrap_or_default(), verify: true })
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
        let blind = r#"{"docker":{"Host":"tcp://blind:2376","SkipTLSVerify":true}}"#;
        add_context(folder.path(), "blind", blind);
        let tls = folder.path().join("contexts/tls").join(sha256_hex(b"safe")).join("docker");
        fs::create_dir_all(tls).expect("a folder");
        fs::write(folder.path().join("config.json"), r#"{"currentContext":"near"}"#).expect("file");
        let env = Environment {
            docker_config: Some(folder.path().to_owned()),
            home: Some(folder.path().to_owned()),
            ..Environment::default()
        };
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
        let error = Host::resolve(Some("neer"), &env).expect_err("there is no such host");
        assert!(
            error.to_string().starts_with(
                "no docker host is called `neer`: docker contexts are `blind`, `default`, \
                 `far`, `hollow`, `near`, `safe`, `shell`"
            ),
            "{error}"
        );
        env.docker_context = Some("gone".into());
        assert!(resolved(None, &env).contains("no docker context is called `gone`"));
        // what DOCKER_CONTEXT names is never looked for elsewhere
        env.docker_context = Some("machine".into());
        assert!(resolved(None, &env).contains("no docker context is called `machine`"));
        let error = Host::resolve(Some("me@machine"), &env).expect_err("no address");
        assert!(matches!(error, DockerError::NoHost { .. }), "{error}");
    }

    #[test]
    fn a_name_is_a_context_before_it_is_a_name_of_ssh() {
        let (folder, env) = folder();
        let config = "Host machine near\n  HostName 10.0.0.1\n";
        fs::create_dir(folder.path().join(".ssh")).expect("made");
        fs::write(folder.path().join(".ssh/config"), config).expect("written");
        assert_eq!(resolved(Some("machine"), &env), r#"ssh://machine SshName("machine")"#);
        assert_eq!(resolved(Some("near"), &env), r#"unix:///near.sock Context("near")"#);
        assert!(resolved(Some("elsewhere"), &env).contains("ssh knows `machine`, `near`"));
    }

    #[test]
    fn local_is_the_default_socket_whatever_else_is_set() {
        let (_folder, mut env) = folder();
        env.docker_host = Some("tcp://h".into());
        env.docker_context = Some("far".into());
        assert_eq!(resolved(Some("local"), &env), "unix:///var/run/docker.sock Default");
    }

    #[test]
    fn tls_is_spoken_where_environment_or_context_say_so_and_plain_tcp_never_instead() {
        let (folder, mut env) = folder();
        let certificates =
            |explicit: Option<&str>, env: &Environment| match Host::resolve(explicit, env)
                .expect("a host")
                .address
            {
                Address::Tls { certificates, .. } => Some(certificates),
                _ => None,
            };
        let safe = certificates(Some("safe"), &env).expect("its context has certificates");
        assert!(safe.verify && safe.folder.ends_with("docker"), "{safe:?}");
        let blind = certificates(Some("blind"), &env).expect("its context says so");
        assert!(!blind.verify, "{blind:?}");
        assert_eq!(certificates(Some("far"), &env), None);
        assert_eq!(certificates(Some("tcp://h:2376"), &env), None);
        env.tls_verify = true;
        let own = certificates(Some("tcp://h:2376"), &env).expect("the environment says so");
        assert_eq!((own.folder.as_path(), own.verify), (folder.path(), true));
        env.cert_path = Some("/certs".into());
        let given = certificates(Some("h:2376"), &env).expect("the environment says so");
        assert_eq!(given.folder, Path::new("/certs"));
        // the environment says nothing about contexts
        assert_eq!(certificates(Some("far"), &env), None);
        assert_eq!(certificates(Some("unix:///given.sock"), &env), None);
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
}
