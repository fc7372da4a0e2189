//! Passwords and keys: where they come from, in which order, and how they are kept.
//!
//! Never from the command line itself. All of them live in zeroing buffers, and none is printed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use volume_vault::id::RepositoryId;
use zeroize::Zeroizing;

use super::environment::Environment;
use super::error::{CliError, Kind};
use super::prompt::{Echo, prompt};

/// Longest password or key file, in bytes.
pub(crate) const SECRET_LEN_MAX: u64 = 64 * 1024;

/// Bytes that are overwritten when they are dropped.
pub(crate) type Secret = Zeroizing<Vec<u8>>;

/// What opens a repository.
pub(crate) enum Credential {
    /// A password, without the newline that ended its line.
    Password(Secret),
    /// The content of a key file.
    KeyFile {
        /// The file.
        path: PathBuf,
        /// Its content as it is.
        content: Secret,
    },
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Password(_) => f.write_str("Password(..)"),
            Self::KeyFile { path, .. } => write!(f, "KeyFile({})", path.display()),
        }
    }
}

/// Where a credential comes from; nothing is read or asked before it is needed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Credentials {
    /// `--key-file`.
    pub(crate) key_file_flag: Option<PathBuf>,
    /// `--password-command`.
    pub(crate) command_flag: Option<String>,
    /// `--password-file`.
    pub(crate) file_flag: Option<PathBuf>,
    /// The key file the configuration names for the repository.
    pub(crate) configured_key_file: Option<PathBuf>,
    /// The password file the configuration names for the repository.
    pub(crate) configured_file: Option<PathBuf>,
    /// The folder of key files by repository id.
    pub(crate) keys: PathBuf,
    /// Settings from the environment, and what children get of it.
    pub(crate) environment: Environment,
    /// The repository that is copied to, where it is that one: its settings have other names.
    pub(crate) copied_to: Option<String>,
}

impl Credentials {
    /// The credential for the repository with this id: what the flags name, else the environment,
    /// else the configuration, else the key file of this id, else what is typed at the terminal.
    ///
    /// Errors: what a named place cannot give; wrong key if there is none and no terminal.
    pub(crate) fn existing(&self, id: &RepositoryId) -> Result<Credential, CliError> {
        if let Some(named) = self.named()? {
            return Ok(named);
        }
        let key_file = self.key_file_of(id);
        if key_file.exists() {
            return read_key_file(&key_file);
        }
        let question = match &self.copied_to {
            None => "password of the repository: ".to_owned(),
            Some(url) => format!("password of {}: ", volume_vault::entry::escape(url.as_bytes())),
        };
        let asked = prompt(&question, Echo::Hidden)?;
        asked.map(Credential::Password).ok_or_else(|| {
            let message = format!("no password or key for repository {}", id.short());
            CliError::new(Kind::WrongKey, message).hint(match self.copied_to {
                None => {
                    "give --password-file, --password-command, --key-file or VAULT_PASSWORD; or \
                     run it at a terminal to be asked"
                }
                Some(_) => {
                    "give --to-password-file, --to-password-command, --to-key-file or \
                     VAULT_TO_PASSWORD; or run it at a terminal to be asked"
                }
            })
        })
    }

    /// The credential for a repository or key slot that is being made: like
    /// [`Credentials::existing`], but a password is asked for twice and must not be empty. None if
    /// nothing is named and nobody is there to ask: a key file is to be made then.
    pub(crate) fn new_slot(&self) -> Result<Option<Credential>, CliError> {
        if let Some(named) = self.named()? {
            return Ok(Some(named));
        }
        let question = "new password (empty: make a key file instead): ";
        let Some(first) = prompt(question, Echo::Hidden)? else {
            return Ok(None);
        };
        if first.is_empty() {
            return Ok(None);
        }
        match prompt("the same again: ", Echo::Hidden)? {
            Some(second) if second == first => Ok(Some(Credential::Password(first))),
            _ => Err(CliError::new(Kind::Failed, "the two passwords differ")),
        }
    }

    /// What flags, environment or configuration name; none if they name nothing.
    pub(crate) fn named(&self) -> Result<Option<Credential>, CliError> {
        let children = &self.environment.child;
        let env = &self.environment;
        if let Some(path) = &self.key_file_flag {
            return read_key_file(path).map(Some);
        }
        if let Some(command) = &self.command_flag {
            return run_command(command, children).map(Some);
        }
        if let Some(path) = &self.file_flag {
            return read_password_file(path).map(Some);
        }
        if let Some(path) = &env.key_file {
            return read_key_file(path).map(Some);
        }
        if let Some(command) = &env.password_command {
            return run_command(command, children).map(Some);
        }
        if let Some(path) = &env.password_file {
            return read_password_file(path).map(Some);
        }
        if let Some(password) = &env.password {
            return Ok(Some(Credential::Password(password.clone())));
        }
        if let Some(path) = &self.configured_key_file {
            return read_key_file(path).map(Some);
        }
        self.configured_file.as_deref().map(read_password_file).transpose()
    }

    /// Where the key file of a repository lies unless another is named.
    pub(crate) fn key_file_of(&self, id: &RepositoryId) -> PathBuf {
        self.keys.join(format!("{id}.key"))
    }
}

/// Reads a key file; it must be as private as a password file.
pub(crate) fn read_key_file(path: &Path) -> Result<Credential, CliError> {
    let content = read_private(path, "key file")?;
    Ok(Credential::KeyFile { path: path.to_path_buf(), content })
}

/// Reads a password file: all of it but one newline at the end.
pub(crate) fn read_password_file(path: &Path) -> Result<Credential, CliError> {
    let content = read_private(path, "password file")?;
    let password = without_newline(&content);
    if password.is_empty() {
        return Err(CliError::new(
            Kind::WrongKey,
            format!("password file `{}` is empty", path.display()),
        ));
    }
    Ok(Credential::Password(Zeroizing::new(password.to_vec())))
}

/// The bytes without one line ending at their end.
pub(crate) fn without_newline(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

/// Reads a whole regular file of at most `size_max` bytes. Opening a FIFO does not hang.
pub(crate) fn read_bounded(path: &Path, size_max: u64) -> io::Result<Secret> {
    read_open(open(path)?, size_max)
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = std::fs::OpenOptions::new();
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    options.read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

fn read_open(file: File, size_max: u64) -> io::Result<Secret> {
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("is not a regular file"));
    }
    read_all(file, size_max)
}

/// Reads to the end, at most `size_max` bytes.
///
/// The buffer is allocated once: growing it would leave copies of the secret behind.
pub(crate) fn read_all(input: impl io::Read, size_max: u64) -> io::Result<Secret> {
    let room = usize::try_from(size_max + 1).map_err(io::Error::other)?;
    let mut content = Zeroizing::new(Vec::with_capacity(room));
    let len = input.take(size_max + 1).read_to_end(&mut content)?;
    if len as u64 > size_max {
        return Err(io::Error::other(format!("is larger than {size_max} bytes")));
    }
    Ok(content)
}

/// Reads a file that only we may read; below `/run/secrets` whoever mounted it there saw to that.
fn read_private(path: &Path, what: &str) -> Result<Secret, CliError> {
    let failed = |error: io::Error| {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => Kind::WrongKey,
            _ => Kind::Failed,
        };
        CliError::new(kind, format!("read {what} `{}`", path.display())).because(error)
    };
    let file = open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    // The real path decides: a link in /run/secrets could lead anywhere.
    let real = std::fs::canonicalize(path).map_err(failed)?;
    if !real.starts_with("/run/secrets") {
        let refused = |problem: &str, hint: String| {
            let message = format!("{what} `{}` {problem}", path.display());
            Err(CliError::new(Kind::Refused, message).hint(hint))
        };
        if metadata.mode() & 0o077 != 0 {
            let hint = format!("`chmod 600 {}`", path.display());
            return refused("can be read by others", hint);
        }
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return refused("belongs to another user", "make a copy of your own".to_owned());
        }
    }
    read_open(file, SECRET_LEN_MAX).map_err(failed)
}

/// Runs a password command in a shell; its first line is the password. It shares our standard
/// error and input, so that it can ask.
fn run_command(
    command: &str,
    environment: &BTreeMap<OsString, OsString>,
) -> Result<Credential, CliError> {
    // Neither the command nor its output stands in an error: both may hold the password.
    let failed = || CliError::new(Kind::WrongKey, "run the password command");
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .env_clear()
        .envs(environment)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed().because(error))?;
    let output = child.stdout.take().map(|output| read_all(output, SECRET_LEN_MAX));
    let status = child.wait().map_err(|error| failed().because(error))?;
    if !status.success() {
        return Err(CliError::new(
            Kind::WrongKey,
            format!("the password command failed ({status})"),
        ));
    }
    let output = output.transpose().map_err(|error| failed().because(error))?.unwrap_or_default();
    let line = output.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let password = without_newline(line);
    if password.is_empty() {
        return Err(CliError::new(Kind::WrongKey, "the password command printed nothing"));
    }
    Ok(Credential::Password(Zeroizing::new(password.to_vec())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn file(content: &str, mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), content).expect("written");
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).expect("set");
        file
    }

    fn password(credential: Result<Credential, CliError>) -> Vec<u8> {
        match credential.expect("a credential") {
            Credential::Password(password) => password.to_vec(),
            Credential::KeyFile { .. } => b"(key file)".to_vec(),
        }
    }

    fn named(credentials: &Credentials) -> Vec<u8> {
        password(credentials.named().map(|named| named.expect("something is named")))
    }

    #[test]
    fn a_password_file_others_can_read_is_refused() {
        for (mode, good) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            let file = file("hunter2\n", mode);
            let read = read_password_file(file.path());
            assert_eq!(read.is_ok(), good, "{mode:o}");
            assert!(good || read.is_err_and(|error| error.kind() == Kind::Refused));
        }
    }

    #[test]
    fn exactly_one_newline_is_taken_off() {
        for (content, expected) in [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n")] {
            let file = file(content, 0o600);
            assert_eq!(password(read_password_file(file.path())), expected.as_bytes());
        }
        assert!(read_password_file(file("\n", 0o600).path()).is_err());
    }

    #[test]
    fn what_is_no_regular_file_of_a_sane_size_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let fifo = dir.path().join("fifo");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0)
            .expect("a fifo");
        assert!(read_password_file(&fifo).is_err());
        assert!(read_password_file(dir.path()).is_err());
        let large = file(&"x".repeat(64 * 1024 + 1), 0o600);
        assert!(read_password_file(large.path()).is_err());
    }

    #[test]
    fn a_link_below_run_secrets_does_not_excuse_a_file_elsewhere() {
        let dir = tempfile::tempdir().expect("a directory");
        let open = file("hunter2", 0o644);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(open.path(), &link).expect("a link");
        assert!(read_password_file(&link).is_err());
    }

    #[test]
    fn the_first_named_place_counts() {
        let mut credentials = Credentials::default();
        let (flag, env, config) = (file("flag", 0o600), file("env", 0o600), file("config", 0o600));
        credentials.configured_file = Some(config.path().to_path_buf());
        assert_eq!(named(&credentials), b"config");
        credentials.environment.password = Some(Zeroizing::new(b"value".to_vec()));
        assert_eq!(named(&credentials), b"value");
        credentials.environment.password_file = Some(env.path().to_path_buf());
        assert_eq!(named(&credentials), b"env");
        credentials.environment.password_command = Some("echo envcommand".to_owned());
        assert_eq!(named(&credentials), b"envcommand");
        credentials.file_flag = Some(flag.path().to_path_buf());
        assert_eq!(named(&credentials), b"flag");
        credentials.command_flag = Some("echo command; echo more".to_owned());
        assert_eq!(named(&credentials), b"command");
    }

    #[test]
    fn a_password_command_sees_only_what_it_is_given() {
        let environment =
            BTreeMap::from([(OsString::from("PATH"), OsString::from("/usr/bin:/bin"))]);
        // The shell itself adds PWD, SHLVL and _; the build's own variables must be gone.
        let seen = run_command("env | grep -c -e CARGO -e HOME || true", &environment);
        assert_eq!(password(seen), b"0");
    }

    #[test]
    fn a_failing_password_command_is_an_error_without_its_text() {
        for command in ["echo hunter2; exit 3", "true # hunter2"] {
            let error = run_command(command, &BTreeMap::new()).expect_err(command);
            assert_eq!(error.code(), 12);
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn the_key_file_of_the_repository_is_found_by_its_id() {
        let dir = tempfile::tempdir().expect("a directory");
        let id = RepositoryId::new([0xab; 16]);
        let credentials = Credentials { keys: dir.path().to_path_buf(), ..Credentials::default() };
        let path = dir.path().join(format!("{id}.key"));
        std::fs::write(&path, "k").expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("set");
        let found = credentials.existing(&id).expect("a credential");
        assert!(matches!(found, Credential::KeyFile { path: found, .. } if found == path));
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let credential = Credential::Password(Zeroizing::new(b"hunter2".to_vec()));
        assert_eq!(format!("{credential:?}"), "Password(..)");
    }
}
