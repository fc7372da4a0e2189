//! Which repository is meant, and who said so.
//!
//! The embedded default repository is made only where nothing hints at another one: a cron job
//! that lost its `VAULT_REPO` must fail, not fill a fresh empty repository.

use std::fmt;
use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::error::{CliError, Kind};
use super::places::{Configuration, Places};
use volume_vault::near::{did_you_mean, near_names};
use volume_vault::store::Location;

/// Who named the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// `--repo`.
    Flag,
    /// `VAULT_REPO` or `VAULT_REPO_FILE`.
    Environment(&'static str),
    /// `[repository.NAME]` of a configuration file.
    Config {
        /// The file.
        path: PathBuf,
        /// The table's name.
        name: String,
    },
    /// Nobody: it is the embedded default repository.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("--repo"),
            Self::Environment(name) => f.write_str(name),
            Self::Config { path, name } => {
                write!(f, "[repository.{name}] in {}", path.display())
            }
            Self::Default => f.write_str("embedded default"),
        }
    }
}

/// The repository that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Path or URL.
    pub(crate) url: String,
    /// Who named it.
    pub(crate) origin: Origin,
    /// The key file its configuration names.
    pub(crate) key_file: Option<PathBuf>,
    /// The password file its configuration names.
    pub(crate) password_file: Option<PathBuf>,
    /// Whether a backup may make it: only the embedded default repository, and only where no trace
    /// hints at another.
    pub(crate) may_create: bool,
}

impl Choice {
    /// Where it is.
    ///
    /// Errors: no repository, naming what later versions will support.
    pub(crate) fn location(&self) -> Result<Location, CliError> {
        location(&self.url)
    }
}

/// Resolves `-r/--repo`, the environment, the configuration file, then the default.
///
/// Errors: usage; no repository where something hints at one that is not named.
pub(crate) fn choose(
    flag: Option<&str>,
    environment: &Environment,
    configuration: &Configuration,
    places: &Places,
) -> Result<Choice, CliError> {
    if let Some(text) = flag {
        return Ok(named(text, Origin::Flag, configuration, environment));
    }
    if let Some(text) = &environment.repo {
        return Ok(named(text, Origin::Environment("VAULT_REPO"), configuration, environment));
    }
    if let Some(path) = &environment.repo_file {
        let text = read_url(path)?;
        let origin = Origin::Environment("VAULT_REPO_FILE");
        return Ok(named(&text, origin, configuration, environment));
    }
    if let Some(path) = &configuration.path {
        if let Some((name, repository)) = configuration.config.default_repository() {
            return Ok(Choice {
                url: based(&repository.url, path.parent().unwrap_or(Path::new("/"))),
                origin: Origin::Config { path: path.clone(), name: name.to_owned() },
                key_file: repository.key_file.clone(),
                password_file: repository.password_file.clone(),
                may_create: false,
            });
        }
        if !configuration.config.repositories.is_empty() {
            let names: Vec<_> = configuration.config.repositories.keys().cloned().collect();
            let message = format!(
                "`{}` has several repositories ({}) and none is the default",
                path.display(),
                names.join(", ")
            );
            return Err(CliError::new(Kind::Ambiguous, message)
                .hint("name one with `--repo NAME`, or give one of them `default = true`"));
        }
    }
    default(environment, configuration, places)
}

fn default(
    environment: &Environment,
    configuration: &Configuration,
    places: &Places,
) -> Result<Choice, CliError> {
    let choice = |may_create| Choice {
        url: places.repository.display().to_string(),
        origin: Origin::Default,
        key_file: None,
        password_file: None,
        may_create,
    };
    // An empty folder is what a killed `init` or a missing mount leaves: not a repository.
    if has_entries(&places.repository)? {
        return Ok(choice(false));
    }
    let hint_at_other = configuration
        .path
        .as_ref()
        .map(|path| format!("configuration file `{}` names none", path.display()))
        .or_else(|| environment.settings.first().map(|name| format!("only {name} is set")))
        .or_else(|| {
            let trace = places.trace()?;
            let (trace, lost) = (trace.display(), places.repository.display());
            Some(format!("`{trace}` shows that there was one, but `{lost}` is gone"))
        });
    match hint_at_other {
        None => Ok(choice(true)),
        Some(why) => {
            Err(CliError::new(Kind::NoRepository, format!("no repository is named, and {why}")))
        }
    }
}

/// A text that names a repository: the NAME of a `[repository.NAME]` table, else a path or URL.
fn named(
    text: &str,
    origin: Origin,
    configuration: &Configuration,
    environment: &Environment,
) -> Choice {
    let tables = &configuration.config.repositories;
    match (tables.get(text), &configuration.path) {
        (Some(table), Some(path)) => Choice {
            url: based(&table.url, path.parent().unwrap_or(Path::new("/"))),
            origin,
            key_file: table.key_file.clone(),
            password_file: table.password_file.clone(),
            may_create: false,
        },
        _ => Choice {
            url: based(text, &environment.current_dir),
            origin,
            key_file: None,
            password_file: None,
            may_create: false,
        },
    }
}

/// Relative paths are meant from `base`; URLs stay as they are.
fn based(url: &str, base: &Path) -> String {
    match scheme(url) {
        Some(_) => url.to_owned(),
        None => base.join(url).display().to_string(),
    }
}

/// The part before `:` of `scheme:…`; a path may hold a colon later on.
fn scheme(url: &str) -> Option<&str> {
    let (scheme, _) = url.split_once(':')?;
    let good = scheme.len() > 1
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    good.then_some(scheme)
}

/// The place behind a path or URL.
///
/// Errors: no repository, for a URL that means no place.
pub(crate) fn location(url: &str) -> Result<Location, CliError> {
    const KNOWN: [&str; 7] = ["s3", "az", "azure", "gs", "http", "https", "sftp"];
    const OTHERS: [&str; 2] = ["webdav", "rclone"];
    let Some(scheme) = scheme(url) else { return Ok(Location::Local(PathBuf::from(url))) };
    let refused = |message: String| Err(CliError::new(Kind::NoRepository, message));
    match scheme.to_ascii_lowercase().as_str() {
        "file" => {
            let path = url["file:".len()..].strip_prefix("//").unwrap_or(&url["file:".len()..]);
            let path = path.strip_prefix("localhost").unwrap_or(path);
            match path.starts_with('/') {
                true => Ok(Location::Local(PathBuf::from(percent_decoded(path)?))),
                false => refused(format!("`{url}` names no absolute path: write file:///PATH")),
            }
        }
        known if KNOWN.contains(&known) => Ok(Location::parse(url, Path::new("/"))?),
        other => {
            let near = near_names(other, ["file"].into_iter().chain(KNOWN).chain(OTHERS));
            let error =
                CliError::new(Kind::NoRepository, format!("`{other}` is no kind of repository"));
            Err(error.hint_if(did_you_mean(&near)))
        }
    }
}

fn percent_decoded(path: &str) -> Result<std::ffi::OsString, CliError> {
    use std::os::unix::ffi::OsStringExt as _;

    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte.filter(|byte| *byte != 0) {
            Some(byte) => bytes.push(byte),
            None => return Err(CliError::usage(format!("`{path}` has a broken %-escape"))),
        }
        rest = &rest[2..];
    }
    Ok(std::ffi::OsString::from_vec(bytes))
}

fn read_url(path: &Path) -> Result<String, CliError> {
    const SIZE_MAX: u64 = 4096;
    let text = super::secret::read_bounded(path, SIZE_MAX).map_err(|error| {
        let message = format!("read VAULT_REPO_FILE `{}`", path.display());
        CliError::new(Kind::NoRepository, message).because(error)
    })?;
    match std::str::from_utf8(super::secret::without_newline(&text)) {
        Ok(url) if !url.is_empty() => Ok(url.to_owned()),
        _ => Err(CliError::new(
            Kind::NoRepository,
            format!("VAULT_REPO_FILE `{}` holds no URL", path.display()),
        )),
    }
}

fn has_entries(folder: &Path) -> Result<bool, CliError> {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => {
            let message = format!("look into `{}`", folder.display());
            Err(CliError::new(Kind::Failed, message).because(error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Machine {
        _dir: tempfile::TempDir,
        environment: Environment,
        places: Places,
    }

    fn machine() -> Machine {
        let dir = tempfile::tempdir().expect("a directory");
        let base = |name: &str| Some(dir.path().join(name));
        let environment = Environment {
            data_home: base("data"),
            config_home: base("config"),
            cache_home: base("cache"),
            state_home: base("state"),
            current_dir: "/here".into(),
            ..Default::default()
        };
        let places = Places::of(&environment).expect("places");
        Machine { _dir: dir, environment, places }
    }

    impl Machine {
        fn choose(&self, flag: Option<&str>, config: Option<&str>) -> Result<Choice, CliError> {
            let path = PathBuf::from("/etc/vault/config.toml");
            let configuration = match config {
                None => Configuration::default(),
                Some(text) => Configuration {
                    config: volume_vault::config::Config::parse(text, &path).expect("valid"),
                    path: Some(path),
                },
            };
            choose(flag, &self.environment, &configuration, &self.places)
        }

        fn default_fails(&self, config: Option<&str>) -> CliError {
            let error = self.choose(None, config).expect_err("no repository");
            assert_eq!(error.code(), 10, "{error}");
            error
        }
    }

    #[test]
    fn flag_wins_over_environment_over_configuration() {
        let mut machine = machine();
        let config = Some("[repository.a]\nurl = 'sub/r'");
        let choice = machine.choose(None, config).expect("from the file");
        assert_eq!(choice.url, "/etc/vault/sub/r");
        assert_eq!(choice.origin.to_string(), "[repository.a] in /etc/vault/config.toml");
        machine.environment.repo = Some("/env".to_owned());
        let choice = machine.choose(None, config).expect("from the environment");
        assert_eq!(
            (choice.url.as_str(), choice.origin.to_string().as_str()),
            ("/env", "VAULT_REPO")
        );
        let choice = machine.choose(Some("flag"), config).expect("from the flag");
        assert_eq!((choice.url.as_str(), choice.origin), ("/here/flag", Origin::Flag));
        assert_eq!(machine.choose(Some("a"), config).expect("by name").url, "/etc/vault/sub/r");
    }

    #[test]
    fn the_default_may_be_made_only_where_nothing_hints_at_another() {
        let choice = machine().choose(None, None).expect("the default");
        assert!(choice.may_create);
        assert_eq!(choice.origin, Origin::Default);

        assert!(machine().default_fails(Some("[defaults]\n")).to_string().contains("names none"));

        let mut with_setting = machine();
        with_setting.environment.settings = vec!["VAULT_PASSWORD".to_owned()];
        let error = with_setting.default_fails(None).to_string();
        assert!(error.contains("only VAULT_PASSWORD is set"), "{error}");

        let with_key = machine();
        std::fs::create_dir_all(&with_key.places.keys).expect("made");
        std::fs::write(with_key.places.keys.join("00.key"), "").expect("written");
        assert!(with_key.default_fails(None).to_string().contains("is gone"));
        // The folder is there but empty: a disk that is not mounted.
        std::fs::create_dir_all(&with_key.places.repository).expect("made");
        let _ = with_key.default_fails(None);
    }

    #[test]
    fn an_existing_default_is_used_and_never_made_again() {
        let machine = machine();
        std::fs::create_dir_all(machine.places.repository.join("keys")).expect("made");
        std::fs::create_dir_all(machine.places.keys.join("00.key")).expect("made");
        let choice = machine.choose(None, None).expect("the default");
        assert!(!choice.may_create);
    }

    #[test]
    fn several_repositories_without_a_default_are_ambiguous() {
        let config = "[repository.a]\nurl = 'x'\n[repository.b]\nurl = 'y'";
        let error = machine().choose(None, Some(config)).expect_err("ambiguous");
        assert_eq!(error.kind(), Kind::Ambiguous);
    }

    #[test]
    fn a_file_named_by_the_environment_gives_the_repository() {
        let mut machine = machine();
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "/srv/r\n").expect("written");
        machine.environment.repo_file = Some(file.path().to_path_buf());
        assert_eq!(machine.choose(None, None).expect("a repository").url, "/srv/r");
        std::fs::write(file.path(), "\n").expect("written");
        let _ = machine.default_fails(None);
        machine.environment.repo_file = Some("/no/such/file".into());
        let _ = machine.default_fails(None);
    }

    #[test]
    fn urls_of_local_repositories_and_of_others() {
        for (url, path) in [
            ("/srv/r", "/srv/r"),
            ("/srv/a:b", "/srv/a:b"),
            ("file:///srv/r", "/srv/r"),
            ("file:/srv/r", "/srv/r"),
            ("file://localhost/srv/r", "/srv/r"),
            ("file:///srv/a%20b%25", "/srv/a b%"),
        ] {
            assert_eq!(location(url).expect(url), Location::Local(PathBuf::from(path)));
        }
        for url in ["s3://bucket/p", "az://container", "gs://b/p", "https://host/p", "sftp://h/p"] {
            assert_eq!(location(url).expect(url).to_string(), url);
        }
        for url in ["s3://", "s3:b", "sftp://h", "file://host/p", "fle:///p", "ftp://x"] {
            assert_eq!(location(url).expect_err(url).code(), 10);
        }
        assert_eq!(location("file:///a%0").expect_err("escape").code(), 2);
        let near = location("fle:///p").expect_err("unknown").to_string();
        assert!(near.contains("did you mean `file`?"), "{near}");
    }
}
