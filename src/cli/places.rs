//! Where `vault` keeps its own things on this machine.
//!
//! `XDG_*` variables win, for root too; without them root's things lie in the system's folders and
//! everybody else's below the home directory. Nothing is made here.

use std::path::{Path, PathBuf};

use volume_vault::config::Config;

use super::environment::Environment;
use super::error::{CliError, Kind};

/// Folders and files of this installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    /// The embedded default repository.
    pub(crate) repository: PathBuf,
    /// Key files, `<repository id>.key` each.
    pub(crate) keys: PathBuf,
    /// What can be fetched again at any time.
    pub(crate) cache: PathBuf,
    /// What must not be lost: writer identity, remembered heads, journals.
    pub(crate) state: PathBuf,
    /// Where `init --default` writes when no configuration file exists yet.
    pub(crate) config_file: PathBuf,
}

impl Places {
    /// Applies the rules above.
    ///
    /// Errors: usage, if this is not root and there is neither `HOME` nor the `XDG_*` variables.
    pub(crate) fn of(environment: &Environment) -> Result<Self, CliError> {
        let place = |xdg: &Option<PathBuf>, system: &str, below_home: &str, rest: &str| {
            if let Some(base) = xdg {
                return Ok(base.join("vault").join(rest));
            }
            if environment.root {
                return Ok(PathBuf::from(system).join(rest));
            }
            match &environment.home {
                Some(home) => Ok(home.join(below_home).join("vault").join(rest)),
                None => Err(CliError::usage("HOME is not set, so there is no place for keys")),
            }
        };
        let e = environment;
        Ok(Self {
            repository: place(&e.data_home, "/var/lib/vault", ".local/share", "repository")?,
            keys: place(&e.config_home, "/etc/vault", ".config", "keys")?,
            cache: place(&e.cache_home, "/var/cache/vault", ".cache", "")?,
            state: match (&e.state_home, e.root) {
                (None, true) => PathBuf::from("/var/lib/vault/state"),
                _ => place(&e.state_home, "", ".local/state", "")?,
            },
            config_file: place(&e.config_home, "/etc/vault", ".config", "config.toml")?,
        })
    }

    /// Something that shows that a repository was used from here before, if the embedded one is
    /// gone: a key file, or state. A cache alone counts for nothing, anybody may clear it.
    pub(crate) fn trace(&self) -> Option<PathBuf> {
        let first = |folder: &Path, wanted: fn(&Path) -> bool| {
            let entries = std::fs::read_dir(folder).ok()?;
            let mut found: Vec<PathBuf> =
                entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
            found.sort();
            found.into_iter().find(|path| wanted(path))
        };
        let is_key = |path: &Path| path.extension().is_some_and(|end| end == "key");
        first(&self.keys, is_key).or_else(|| first(&self.state, |_| true))
    }
}

/// The configuration in force.
#[derive(Debug, Clone, Default)]
pub(crate) struct Configuration {
    /// The file it was read from; none if there is no file.
    pub(crate) path: Option<PathBuf>,
    /// What it says.
    pub(crate) config: Config,
}

impl Configuration {
    /// Finds and reads it: `--config`, `VAULT_CONFIG`, `./vault.toml`,
    /// `$XDG_CONFIG_HOME/vault/config.toml`, `/etc/vault/config.toml`; only the first counts.
    pub(crate) fn find(flag: Option<&Path>, environment: &Environment) -> Result<Self, CliError> {
        if let Some(path) = flag.or(environment.config.as_deref()) {
            let path = environment.current_dir.join(path);
            return Ok(Self { config: Config::read(&path)?, path: Some(path) });
        }
        let here = environment.current_dir.join("vault.toml");
        if exists(&here)? {
            check_owner(&here)?;
            return Ok(Self { config: Config::read(&here)?, path: Some(here) });
        }
        let personal = environment.config_home.clone().or_else(|| {
            let home = environment.home.as_ref()?;
            Some(home.join(".config"))
        });
        let system = PathBuf::from("/etc/vault/config.toml");
        // With XDG_CONFIG_HOME set, as in a test, the machine's file still counts: it is where a
        // machine's repository is named.
        let personal = personal.map(|folder| folder.join("vault/config.toml"));
        for path in personal.into_iter().chain([system]) {
            if exists(&path)? {
                return Ok(Self { config: Config::read(&path)?, path: Some(path) });
            }
        }
        Ok(Self::default())
    }
}

/// Not being allowed to look is no proof that a file is not there.
fn exists(path: &Path) -> Result<bool, CliError> {
    path.try_exists().map_err(|error| {
        CliError::new(Kind::Failed, format!("look for `{}`", path.display())).because(error)
    })
}

/// Whoever can write `./vault.toml` decides where backups go and what they are sealed with; in a
/// shared folder that must not be somebody else.
fn check_owner(path: &Path) -> Result<(), CliError> {
    use std::os::unix::fs::MetadataExt as _;

    let read = std::fs::metadata(path);
    let metadata = read.map_err(|error| {
        CliError::new(Kind::Failed, format!("read `{}`", path.display())).because(error)
    })?;
    let ours = [0, rustix::process::geteuid().as_raw()].contains(&metadata.uid());
    if ours && metadata.mode() & 0o002 == 0 {
        return Ok(());
    }
    Err(CliError::new(
        Kind::Refused,
        format!("`{}` belongs to somebody else or can be written by everybody", path.display()),
    )
    .hint("change its owner or mode, or name it with `--config` if you trust it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(environment: &Environment) -> [String; 5] {
        let p = Places::of(environment).expect("places");
        [p.repository, p.keys, p.cache, p.state, p.config_file]
            .map(|path| path.display().to_string().trim_end_matches('/').to_owned())
    }

    #[test]
    fn root_keeps_its_things_in_the_systems_folders() {
        let root = Environment { root: true, home: Some("/root".into()), ..Default::default() };
        assert_eq!(
            shown(&root),
            [
                "/var/lib/vault/repository",
                "/etc/vault/keys",
                "/var/cache/vault",
                "/var/lib/vault/state",
                "/etc/vault/config.toml",
            ]
        );
    }

    #[test]
    fn others_keep_their_things_below_home() {
        let user = Environment { home: Some("/home/u".into()), ..Default::default() };
        assert_eq!(
            shown(&user),
            [
                "/home/u/.local/share/vault/repository",
                "/home/u/.config/vault/keys",
                "/home/u/.cache/vault",
                "/home/u/.local/state/vault",
                "/home/u/.config/vault/config.toml",
            ]
        );
        assert!(Places::of(&Environment::default()).is_err());
    }

    #[test]
    fn base_directories_win_even_for_root() {
        let root = Environment {
            root: true,
            data_home: Some("/d".into()),
            config_home: Some("/c".into()),
            cache_home: Some("/k".into()),
            state_home: Some("/s".into()),
            ..Default::default()
        };
        assert_eq!(
            shown(&root),
            [
                "/d/vault/repository",
                "/c/vault/keys",
                "/k/vault",
                "/s/vault",
                "/c/vault/config.toml"
            ]
        );
    }

    #[test]
    fn key_files_and_state_are_traces_and_a_cache_is_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let base = |name: &str| Some(dir.path().join(name));
        let environment = Environment {
            data_home: base("d"),
            config_home: base("c"),
            cache_home: base("k"),
            state_home: base("s"),
            ..Default::default()
        };
        let places = Places::of(&environment).expect("places");
        for folder in [&places.keys, &places.cache, &places.state] {
            std::fs::create_dir_all(folder).expect("made");
        }
        std::fs::write(places.cache.join("x"), "").expect("written");
        assert_eq!(places.trace(), None);
        let key = places.keys.join("0a.key");
        std::fs::write(&key, "").expect("written");
        assert_eq!(places.trace(), Some(key.clone()));
        std::fs::remove_file(key).expect("removed");
        std::fs::write(places.state.join("writer"), "").expect("written");
        assert_eq!(places.trace(), Some(places.state.join("writer")));
    }

    #[test]
    fn a_configuration_file_anybody_can_write_is_not_taken_from_the_current_folder() {
        use std::os::unix::fs::PermissionsExt as _;

        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("vault.toml");
        std::fs::write(&file, "[repository.a]\nurl = '/r'\n").expect("written");
        let environment =
            Environment { current_dir: dir.path().to_path_buf(), ..Default::default() };
        let set = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode));
        set(0o644).expect("set");
        let found = Configuration::find(None, &environment).expect("found");
        assert_eq!(found.path.as_deref(), Some(file.as_path()));
        set(0o646).expect("set");
        let error = Configuration::find(None, &environment).expect_err("refused");
        assert_eq!(error.kind(), Kind::Refused);
        assert!(Configuration::find(Some(&file), &environment).is_ok());
    }

    #[test]
    fn a_configuration_file_that_was_named_must_exist() {
        let environment = Environment { current_dir: "/".into(), ..Default::default() };
        assert!(Configuration::find(Some(Path::new("/no/such.toml")), &environment).is_err());
    }
}
