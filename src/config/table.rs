//! From TOML to [`Config`], key by key, so that each complaint can name the key and its neighbours.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{Config, ConfigError, Defaults, Host, Repository};
use crate::near::{did_you_mean, near_names};

/// Tables of later versions: known by name, so that nobody takes them for a misspelling.
const LATER: [&str; 2] = ["schedule", "notify"];

pub(super) fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
    let root: Table = toml::from_str(text).map_err(|error| ConfigError::Syntax {
        path: path.to_path_buf(),
        source: Box::new(error),
    })?;
    let base = path.parent().unwrap_or(Path::new(""));
    config(root, base).map_err(|message| ConfigError::Content { path: path.to_path_buf(), message })
}

fn config(root: Table, base: &Path) -> Result<Config, String> {
    let mut config = Config::default();
    for (key, value) in root {
        match key.as_str() {
            "repository" => {
                for (name, table) in named_tables("repository", value)? {
                    let repository = repository(&name, table, base)?;
                    let _ = config.repositories.insert(name, repository);
                }
            }
            "hosts" => {
                for (name, table) in named_tables("hosts", value)? {
                    let host = host(&name, table, base)?;
                    let _ = config.hosts.insert(name, host);
                }
            }
            "defaults" => {
                config.defaults = defaults(Keys::new("defaults".to_owned(), value)?, base)?
            }
            later if LATER.contains(&later) => {
                return Err(format!(
                    "table `[{later}]`: this version of vault does not have it yet"
                ));
            }
            other => return Err(unknown("table", other, "", &["repository", "hosts", "defaults"])),
        }
    }
    let marked = config.repositories.iter().filter(|(_, repository)| repository.default);
    let marked: Vec<_> = marked.map(|(name, _)| format!("`[repository.{name}]`")).collect();
    match marked.len() {
        0 | 1 => Ok(config),
        _ => Err(format!("{} all say `default = true`; only one may", marked.join(" and "))),
    }
}

fn repository(name: &str, table: Value, base: &Path) -> Result<Repository, String> {
    let mut keys = Keys::new(format!("repository.{name}"), table)?;
    let url = keys.required_text("url")?;
    let key_file = keys.path("key_file", base)?;
    let password_file = keys.path("password_file", base)?;
    let default = keys.flag("default")?;
    keys.finish()?;
    Ok(Repository { url, key_file, password_file, default })
}

fn host(name: &str, table: Value, base: &Path) -> Result<Host, String> {
    let mut keys = Keys::new(format!("hosts.{name}"), table)?;
    let url = keys.required_text("url")?;
    let cert_path = keys.path("cert_path", base)?;
    keys.finish()?;
    if matches!(name, "local" | "default") {
        return Err(format!("`[hosts.{name}]`: `{name}` is the engine of this machine"));
    }
    if cert_path.is_some() && url.contains("://") && !url.starts_with("tcp://") {
        return Err(keys_of_tcp(name));
    }
    Ok(Host { url, cert_path })
}

fn keys_of_tcp(name: &str) -> String {
    format!("`cert_path` in `[hosts.{name}]` is for a `url` of tcp://")
}

fn defaults(mut keys: Keys, base: &Path) -> Result<Defaults, String> {
    let host = keys.text("host")?;
    let cache_dir = keys.path("cache_dir", base)?;
    let memory = keys.text("memory")?;
    let compression = keys.text("compression")?;
    keys.finish()?;
    Ok(Defaults { host, cache_dir, memory, compression })
}

/// `[WHAT.NAME]` tables; names are kept to what needs no quoting anywhere.
fn named_tables(what: &str, value: Value) -> Result<Table, String> {
    let Value::Table(tables) = value else {
        return Err(format!("`{what}` must be written as tables `[{what}.NAME]`"));
    };
    let good = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    for (name, inside) in &tables {
        if !inside.is_table() {
            return Err(format!("`{what}` has no name: write `[{what}.NAME]` above `{name}`"));
        }
        if !good(name) {
            let shown = crate::entry::escape(name.as_bytes());
            return Err(format!(
                "`[{what}.{shown}]`: a name is made of letters, digits, `-`, `_` and `.`"
            ));
        }
    }
    Ok(tables)
}

/// The keys of one table that were not asked for yet, and the names that were.
struct Keys {
    table: String,
    left: Table,
    known: Vec<&'static str>,
}

impl Keys {
    fn new(table: String, value: Value) -> Result<Self, String> {
        match value {
            Value::Table(left) => Ok(Self { table, left, known: Vec::new() }),
            _ => Err(format!("`{table}` must be a table `[{table}]`")),
        }
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.left.remove(key)
    }

    fn text(&mut self, key: &'static str) -> Result<Option<String>, String> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Err(self.says(key, "is empty")),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.says(key, "must be a text in quotes")),
        }
    }

    /// A table without this key may hold it misspelled: then that is what is said.
    fn required_text(&mut self, key: &'static str) -> Result<String, String> {
        if let Some(text) = self.text(key)? {
            return Ok(text);
        }
        let near = near_names(key, self.left.keys().map(String::as_str));
        Err(match near.first() {
            Some(wrong) => unknown("key", wrong, &self.table, &[key]),
            None => self.says(key, "is missing"),
        })
    }

    fn path(&mut self, key: &'static str, base: &Path) -> Result<Option<PathBuf>, String> {
        Ok(self.text(key)?.map(|text| base.join(text)))
    }

    fn flag(&mut self, key: &'static str) -> Result<bool, String> {
        match self.take(key) {
            None => Ok(false),
            Some(Value::Boolean(flag)) => Ok(flag),
            Some(_) => Err(self.says(key, "must be `true` or `false`")),
        }
    }

    fn finish(self) -> Result<(), String> {
        match self.left.keys().next() {
            None => Ok(()),
            Some(key) => Err(unknown("key", key, &self.table, &self.known)),
        }
    }

    fn says(&self, key: &str, problem: &str) -> String {
        format!("`{key}` in `[{}]` {problem}", self.table)
    }
}

fn unknown(what: &str, name: &str, table: &str, known: &[&str]) -> String {
    let place = if table.is_empty() { String::new() } else { format!(" in `[{table}]`") };
    let near = near_names(name, known.iter().copied());
    let hint = did_you_mean(&near[..near.len().min(1)])
        .unwrap_or_else(|| format!("known are {}", known.join(", ")));
    format!("unknown {what} `{}`{place}; {hint}", crate::entry::escape(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        parse(text, Path::new("/etc/vault/config.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn every_known_key_is_read() {
        let config = read(
            "[repository.local]\nurl = '/srv/backup'\nkey_file = 'keys/a.key'\ndefault = true\n\
             [repository.cloud]\nurl = 's3://b/p'\npassword_file = '/run/secrets/p'\n\
             [hosts.host2]\nurl = 'ssh://root@host2'\n\
             [hosts.host3]\nurl = 'tcp://host3:2376'\ncert_path = 'certs/host3'\n\
             [defaults]\nhost = 'host2'\nmemory = '128MiB'\ncache_dir = '/c'\ncompression = '3'\n",
        )
        .expect("a valid file");
        assert_eq!(config.default_repository().map(|(name, _)| name), Some("local"));
        let local = &config.repositories["local"];
        assert_eq!(local.key_file.as_deref(), Some(Path::new("/etc/vault/keys/a.key")));
        let cloud = &config.repositories["cloud"];
        assert_eq!(cloud.password_file.as_deref(), Some(Path::new("/run/secrets/p")));
        assert_eq!(config.hosts["host2"].url, "ssh://root@host2");
        let certificates = config.hosts["host3"].cert_path.as_deref();
        assert_eq!(certificates, Some(Path::new("/etc/vault/certs/host3")));
        assert_eq!(config.defaults.memory.as_deref(), Some("128MiB"));
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_the_nearest() {
        for (text, part) in [
            ("[repositry.a]\nurl='x'", "unknown table `repositry`; did you mean `repository`?"),
            ("[repository.a]\nurl='x'\nkeyfile='y'", "did you mean `key_file`?"),
            (
                "[repository.a]\nurk='x'",
                "unknown key `urk` in `[repository.a]`; did you mean `url`?",
            ),
            ("[repository.a]\ndefault=true", "`url` in `[repository.a]` is missing"),
            (
                "[hosts.a]\nurl='x'\nport=1",
                "unknown key `port` in `[hosts.a]`; known are url, cert_path",
            ),
            ("[defaults]\nmem='1'", "did you mean `memory`?"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(part), "{error}\nlacks\n{part}");
        }
    }

    #[test]
    fn tables_of_later_versions_are_named_as_such() {
        for table in LATER {
            let error = read(&format!("[{table}.a]\ncron = '@daily'")).expect_err(table);
            assert!(error.contains("does not have it yet"), "{error}");
        }
    }

    #[test]
    fn wrong_types_and_shapes_are_errors() {
        for text in [
            "repository = 1",
            "[repository]\nurl = 'x'",
            "[repository.a]\nurl = 1",
            "[repository.a]\nurl = ''",
            "[repository.a]\nurl = 'x'\ndefault = 'yes'",
            "[repository.'a b']\nurl = 'x'",
            "[hosts.local]\nurl = 'tcp://h'",
            "[hosts.a]\nurl = 'ssh://h'\ncert_path = 'c'",
            "[[repository.a]]\nurl = 'x'",
            "defaults = true",
            "[repository.a]\nurl='x'\ndefault=true\n[repository.b]\nurl='y'\ndefault=true",
            "not toml",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn of_several_repositories_none_is_the_default_unless_marked() {
        let two = read("[repository.a]\nurl='x'\n[repository.b]\nurl='y'").expect("valid");
        assert_eq!(two.default_repository(), None);
        let one = read("[repository.a]\nurl='x'").expect("valid");
        assert_eq!(one.default_repository().map(|(name, _)| name), Some("a"));
    }
}
