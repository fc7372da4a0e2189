//! The configuration file as validated plain data.
//!
//! Floor 7. TOML with the tables `[repository.NAME]`, `[hosts.NAME]` and `[defaults]`. A key that
//! is not known is an error that names the nearest known one: a setting that is silently without
//! effect is how backups go missing.

mod edit;
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use self::edit::add_default_repository;

/// Largest configuration file that is read, in bytes.
pub const SIZE_MAX: u64 = 1 << 20;

/// What can be wrong with a configuration file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It could not be read or written.
    #[error("{action} configuration file `{}`", .path.display())]
    Io {
        /// What was tried: "read", "write".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is no TOML.
    #[error("configuration file `{}` is not valid TOML", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
    /// It holds something that it must not hold.
    #[error("configuration file `{}`: {message}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The key with its table, and what is wrong with it.
        message: String,
    },
}

/// A `[repository.NAME]` table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Repository {
    /// Where it is: a path or URL without secrets.
    pub url: String,
    /// A file that holds its key.
    pub key_file: Option<PathBuf>,
    /// A file that holds its password.
    pub password_file: Option<PathBuf>,
    /// Whether it is meant where none is named.
    pub default: bool,
}

/// A `[hosts.NAME]` table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Host {
    /// Where its Docker Engine listens, or another name that `--host` takes.
    pub url: String,
    /// The folder with `ca.pem`, `cert.pem` and `key.pem`: TLS is spoken with it.
    pub cert_path: Option<PathBuf>,
}

/// The `[defaults]` table: what holds where the command line says nothing. Texts are in the form
/// of the flags of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Defaults {
    /// `--host`.
    pub host: Option<String>,
    /// `--cache-dir`.
    pub cache_dir: Option<PathBuf>,
    /// `--memory`.
    pub memory: Option<String>,
    /// `backup --compression`.
    pub compression: Option<String>,
}

/// A whole configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// The repositories by name.
    pub repositories: BTreeMap<String, Repository>,
    /// The hosts by name.
    pub hosts: BTreeMap<String, Host>,
    /// Defaults for flags.
    pub defaults: Defaults,
}

impl Config {
    /// Reads the file at `path`.
    ///
    /// Errors: [`ConfigError`], also for a file above [`SIZE_MAX`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let failed = |source| ConfigError::Io { action: "read", path: path.to_path_buf(), source };
        Self::parse(&read_text(path).map_err(failed)?, path)
    }

    /// Reads `text`, which stands in the file at `path`; relative file names in it are meant from
    /// the file's own folder.
    ///
    /// Errors: [`ConfigError::Syntax`], [`ConfigError::Content`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        table::parse(text, path)
    }

    /// The repository that is meant where none is named: the one marked so, else the only one.
    #[must_use]
    pub fn default_repository(&self) -> Option<(&str, &Repository)> {
        let marked = self.repositories.iter().find(|(_, repository)| repository.default);
        let only = || match self.repositories.len() {
            1 => self.repositories.iter().next(),
            _ => None,
        };
        marked.or_else(only).map(|(name, repository)| (name.as_str(), repository))
    }
}

fn read_text(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;

    let mut text = String::new();
    let len = std::fs::File::open(path)?.take(SIZE_MAX + 1).read_to_string(&mut text)?;
    if len as u64 > SIZE_MAX {
        let message = format!("larger than {SIZE_MAX} bytes");
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, message));
    }
    Ok(text)
}
