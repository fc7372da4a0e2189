//! Writing into a configuration file what `init --default` asks for, leaving all else as it is.

use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::{Config, ConfigError, read_text};

/// Adds `[repository.NAME]` with `url` and `default = true` to the file at `path`, which is made
/// (0600, its folder 0700) where it does not exist.
///
/// The file's own text, comments included, stays as it is; the file is replaced as a whole, so a
/// crash leaves the old one or the new one. A repository of the same URL that is the default
/// already is left alone.
///
/// Errors: [`ConfigError::Content`] if another repository is the default or the name is taken;
/// [`ConfigError::Io`].
pub fn add_default_repository(path: &Path, name: &str, url: &str) -> Result<(), ConfigError> {
    let failed = |source| ConfigError::Io { action: "write", path: path.to_path_buf(), source };
    let content = |message| ConfigError::Content { path: path.to_path_buf(), message };
    let old = match read_text(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(failed(error)),
    };
    let config = Config::parse(&old, path)?;
    if let Some((other, repository)) = config.repositories.iter().find(|(_, r)| r.default) {
        if repository.url == url {
            return Ok(());
        }
        return Err(content(format!("`[repository.{other}]` is the default already")));
    }
    if config.repositories.contains_key(name) {
        return Err(content(format!("`[repository.{name}]` exists already")));
    }
    let gap = if old.is_empty() || old.ends_with("\n\n") {
        ""
    } else if old.ends_with('\n') {
        "\n"
    } else {
        "\n\n"
    };
    let quoted = toml::Value::String(url.to_owned());
    let new = format!("{old}{gap}[repository.{name}]\nurl = {quoted}\ndefault = true\n");
    // What is written must read back as what was meant, or the next run could not start.
    let reread = Config::parse(&new, path)?;
    if reread.default_repository().map(|(_, repository)| repository.url.as_str()) != Some(url) {
        return Err(content(format!("cannot hold `{url}` as `[repository.{name}]`")));
    }
    replace(path, &new).map_err(failed)
}

fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    // A link is followed, so that a file kept elsewhere is changed there.
    let path = &std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mode = std::fs::metadata(path).ok().map(|old| old.permissions());
    let mut staged = path.as_os_str().to_owned();
    staged.push(format!(".{}.new", std::process::id()));
    let write = || {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&staged)?;
        if let Some(mode) = mode {
            file.set_permissions(mode)?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&staged, path)?;
        std::fs::File::open(folder)?.sync_all()
    };
    write().inspect_err(|_| {
        let _ = std::fs::remove_file(&staged);
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_new_file_is_made_private_and_reads_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("vault/config.toml");
        add_default_repository(&path, "default", "/srv/\"odd\" path").expect("written");
        let config = Config::read(&path).expect("read back");
        let (name, repository) = config.default_repository().expect("a default");
        assert_eq!((name, repository.url.as_str()), ("default", "/srv/\"odd\" path"));
        let mode = |p: &Path| std::fs::metadata(p).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(&dir.path().join("vault")), 0o700);
    }

    #[test]
    fn comments_and_other_tables_stay_as_they_are() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("config.toml");
        let old = "# mine\n[hosts.b]\nurl = 'tcp://b' # note";
        std::fs::write(&path, old).expect("written");
        add_default_repository(&path, "default", "/r").expect("added");
        let new = std::fs::read_to_string(&path).expect("read");
        assert!(new.starts_with(old), "{new}");
        assert!(new.ends_with("\n\n[repository.default]\nurl = \"/r\"\ndefault = true\n"), "{new}");
        let left = std::fs::read_dir(dir.path()).expect("listed").count();
        assert_eq!(left, 1, "a staged file was left behind");
    }

    #[test]
    fn another_default_is_never_replaced_and_the_same_one_is_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("config.toml");
        add_default_repository(&path, "default", "/r").expect("added");
        let before = std::fs::read_to_string(&path).expect("read");
        add_default_repository(&path, "default", "/r").expect("the same again");
        assert!(add_default_repository(&path, "second", "/other").is_err());
        assert_eq!(std::fs::read_to_string(&path).expect("read"), before);
    }

    #[test]
    fn a_file_that_is_not_understood_is_not_touched() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("config.toml");
        std::fs::write(&path, "[nonsense]\n").expect("written");
        assert!(add_default_repository(&path, "default", "/r").is_err());
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "[nonsense]\n");
    }
}
