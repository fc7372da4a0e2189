//! The only place where the process environment is read.
//!
//! What is read becomes plain data, so that every rule built on it is tested without touching the
//! environment of the test process.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use volume_vault::store::Access;
use zeroize::Zeroizing;

use super::error::CliError;

/// Settings of ours; `VAULT_ADDR`, `VAULT_TOKEN` and others of HashiCorp's product are not among
/// them and are never looked at.
const SETTINGS: [&str; 12] = [
    "VAULT_REPO",
    "VAULT_REPO_FILE",
    "VAULT_PASSWORD",
    "VAULT_PASSWORD_FILE",
    "VAULT_PASSWORD_COMMAND",
    "VAULT_KEY_FILE",
    "VAULT_TO_PASSWORD",
    "VAULT_TO_PASSWORD_FILE",
    "VAULT_TO_PASSWORD_COMMAND",
    "VAULT_TO_KEY_FILE",
    "VAULT_CONFIG",
    "VAULT_CACHE_DIR",
];

/// Beginnings that only a setting of ours, perhaps misspelled, has.
const SETTING_STEMS: [&str; 4] = ["VAULT_REPO", "VAULT_PASS", "VAULT_KEY", "VAULT_TO_"];

/// What a child (a password command, an ssh) gets to see of the environment: where programs are,
/// who we are and in which language we speak, and the credentials of agents, but no setting of
/// ours and so no password.
const CHILD_ALLOWED: [&str; 17] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TERM",
    "TZ",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "GNUPGHOME",
    "GPG_TTY",
    "PASSWORD_STORE_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "XDG_RUNTIME_DIR",
];

/// The environment as far as `vault` looks at it.
#[derive(Clone, Default)]
pub(crate) struct Environment {
    /// `VAULT_REPO`.
    pub(crate) repo: Option<String>,
    /// `VAULT_REPO_FILE`.
    pub(crate) repo_file: Option<PathBuf>,
    /// `VAULT_PASSWORD`.
    pub(crate) password: Option<Zeroizing<Vec<u8>>>,
    /// `VAULT_PASSWORD_FILE`.
    pub(crate) password_file: Option<PathBuf>,
    /// `VAULT_PASSWORD_COMMAND`.
    pub(crate) password_command: Option<String>,
    /// `VAULT_KEY_FILE`.
    pub(crate) key_file: Option<PathBuf>,
    /// `VAULT_TO_PASSWORD`: that, and the next three, for the repository that is copied to.
    pub(crate) to_password: Option<Zeroizing<Vec<u8>>>,
    /// `VAULT_TO_PASSWORD_FILE`.
    pub(crate) to_password_file: Option<PathBuf>,
    /// `VAULT_TO_PASSWORD_COMMAND`.
    pub(crate) to_password_command: Option<String>,
    /// `VAULT_TO_KEY_FILE`.
    pub(crate) to_key_file: Option<PathBuf>,
    /// `VAULT_CONFIG`.
    pub(crate) config: Option<PathBuf>,
    /// `VAULT_CACHE_DIR`.
    pub(crate) cache_dir: Option<PathBuf>,
    /// `DOCKER_HOST`.
    pub(crate) docker_host: Option<String>,
    /// `DOCKER_CONTEXT`.
    pub(crate) docker_context: Option<String>,
    /// `DOCKER_CERT_PATH`.
    pub(crate) docker_cert_path: Option<PathBuf>,
    /// `DOCKER_CONFIG`.
    pub(crate) docker_config: Option<PathBuf>,
    /// `DOCKER_TLS_VERIFY`: set to anything but nothing.
    pub(crate) docker_tls_verify: bool,
    /// `HOME`.
    pub(crate) home: Option<PathBuf>,
    /// `XDG_DATA_HOME`, if absolute.
    pub(crate) data_home: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`, if absolute.
    pub(crate) config_home: Option<PathBuf>,
    /// `XDG_CACHE_HOME`, if absolute.
    pub(crate) cache_home: Option<PathBuf>,
    /// `XDG_STATE_HOME`, if absolute.
    pub(crate) state_home: Option<PathBuf>,
    /// Names of all variables that are, or look like, a setting of ours.
    pub(crate) settings: Vec<String>,
    /// The variables a child process gets.
    pub(crate) child: BTreeMap<OsString, OsString>,
    /// The variables that stores elsewhere and their tools look at; many are secrets.
    pub(crate) store: BTreeMap<String, Zeroizing<String>>,
    /// Whether this is root.
    pub(crate) root: bool,
    /// The folder the process was started in.
    pub(crate) current_dir: PathBuf,
}

impl Environment {
    /// Reads the environment of this process.
    ///
    /// Errors: usage, for a setting whose text is not UTF-8, and for one given both as it is and
    /// as `_FILE`.
    pub(crate) fn of_process() -> Result<Self, CliError> {
        let mut environment = Self::of(std::env::vars_os())?;
        environment.root = rustix::process::geteuid().is_root();
        environment.current_dir = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        Ok(environment)
    }

    /// Reads an environment given as pairs; root and folder are left unset.
    pub(crate) fn of(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, CliError> {
        // An empty variable counts as unset: that is how shells and compose files clear one.
        let all: BTreeMap<OsString, OsString> =
            variables.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let names = all.keys().filter_map(|name| name.to_str());
        let settings = names.filter(|name| is_setting(name)).map(str::to_owned).collect();
        let variables = Variables(&all);
        let environment = Self {
            repo: variables.text("VAULT_REPO")?,
            repo_file: variables.path("VAULT_REPO_FILE"),
            password: variables.secret("VAULT_PASSWORD"),
            password_file: variables.path("VAULT_PASSWORD_FILE"),
            password_command: variables.text("VAULT_PASSWORD_COMMAND")?,
            key_file: variables.path("VAULT_KEY_FILE"),
            to_password: variables.secret("VAULT_TO_PASSWORD"),
            to_password_file: variables.path("VAULT_TO_PASSWORD_FILE"),
            to_password_command: variables.text("VAULT_TO_PASSWORD_COMMAND")?,
            to_key_file: variables.path("VAULT_TO_KEY_FILE"),
            config: variables.path("VAULT_CONFIG"),
            cache_dir: variables.path("VAULT_CACHE_DIR"),
            docker_host: variables.text("DOCKER_HOST")?,
            docker_context: variables.text("DOCKER_CONTEXT")?,
            docker_cert_path: variables.path("DOCKER_CERT_PATH"),
            docker_config: variables.path("DOCKER_CONFIG"),
            docker_tls_verify: all.contains_key(OsStr::new("DOCKER_TLS_VERIFY")),
            home: variables.absolute("HOME"),
            data_home: variables.absolute("XDG_DATA_HOME"),
            config_home: variables.absolute("XDG_CONFIG_HOME"),
            cache_home: variables.absolute("XDG_CACHE_HOME"),
            state_home: variables.absolute("XDG_STATE_HOME"),
            settings,
            child: variables.for_children(),
            store: variables.for_stores()?,
            root: false,
            current_dir: PathBuf::from("/"),
        };
        if environment.repo.is_some() && environment.repo_file.is_some() {
            return Err(CliError::usage("VAULT_REPO and VAULT_REPO_FILE are both set"));
        }
        Ok(environment)
    }
}

/// No value is shown: one of them may be a password.
impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment").field("settings", &self.settings).finish_non_exhaustive()
    }
}

fn is_setting(name: &str) -> bool {
    SETTINGS.contains(&name) || SETTING_STEMS.iter().any(|stem| name.starts_with(stem))
}

struct Variables<'a>(&'a BTreeMap<OsString, OsString>);

impl Variables<'_> {
    fn text(&self, name: &str) -> Result<Option<String>, CliError> {
        let Some(value) = self.0.get(OsStr::new(name)) else { return Ok(None) };
        match value.to_str() {
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(CliError::usage(format!("{name} is not valid UTF-8"))),
        }
    }

    fn secret(&self, name: &str) -> Option<Zeroizing<Vec<u8>>> {
        use std::os::unix::ffi::OsStrExt as _;
        self.0.get(OsStr::new(name)).map(|value| Zeroizing::new(value.as_bytes().to_vec()))
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.0.get(OsStr::new(name)).map(PathBuf::from)
    }

    /// The XDG base directory rules have relative paths ignored.
    fn absolute(&self, name: &str) -> Option<PathBuf> {
        self.path(name).filter(|path| path.is_absolute())
    }

    /// Errors: usage, for one that is not UTF-8.
    fn for_stores(&self) -> Result<BTreeMap<String, Zeroizing<String>>, CliError> {
        let names = self.0.keys().filter_map(|name| name.to_str());
        let mut wanted = BTreeMap::new();
        for name in names.filter(|name| Access::is_wanted(name)) {
            if let Some(value) = self.text(name)? {
                let _ = wanted.insert(name.to_owned(), value.into());
            }
        }
        Ok(wanted)
    }

    fn for_children(&self) -> BTreeMap<OsString, OsString> {
        let allowed =
            CHILD_ALLOWED.iter().filter_map(|name| self.0.get_key_value(OsStr::new(name)));
        allowed.map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Environment {
        let pairs = pairs.iter().map(|(name, value)| (name.into(), value.into()));
        Environment::of(pairs).expect("a valid environment")
    }

    #[test]
    fn variables_of_the_other_vault_are_no_settings() {
        let other =
            ["VAULT_ADDR", "VAULT_TOKEN", "VAULT_NAMESPACE", "VAULT_CACERT", "VAULT_FORMAT"];
        for name in other {
            assert!(of(&[(name, "x")]).settings.is_empty(), "{name}");
        }
        for name in SETTINGS.iter().chain(&["VAULT_REPOSITORY", "VAULT_PASSWD", "VAULT_KEYFILE"]) {
            assert_eq!(of(&[(name, "x")]).settings, [*name]);
        }
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let environment = of(&[("VAULT_REPO", ""), ("VAULT_PASSWORD", "")]);
        assert!(environment.repo.is_none() && environment.password.is_none());
        assert!(environment.settings.is_empty());
    }

    #[test]
    fn relative_base_directories_are_ignored() {
        assert!(of(&[("XDG_DATA_HOME", "data")]).data_home.is_none());
        assert!(of(&[("XDG_DATA_HOME", "/data")]).data_home.is_some());
    }

    #[test]
    fn children_see_no_setting_and_no_credential() {
        let secret = ["VAULT_PASSWORD", "AWS_SECRET_ACCESS_KEY", "VAULT_TOKEN", "PATH"];
        let environment = of(&secret.map(|name| (name, "hunter2")));
        assert_eq!(environment.child.keys().collect::<Vec<_>>(), ["PATH"]);
    }

    #[test]
    fn nothing_shows_the_password() {
        assert!(!format!("{:?}", of(&[("VAULT_PASSWORD", "hunter2")])).contains("hunter2"));
    }

    #[test]
    fn the_repository_in_two_ways_at_once_is_refused() {
        let pairs = [("VAULT_REPO", "/a"), ("VAULT_REPO_FILE", "/b")];
        let pairs = pairs.map(|(name, value)| (name.into(), value.into()));
        assert_eq!(Environment::of(pairs).expect_err("refused").code(), 2);
    }
}
