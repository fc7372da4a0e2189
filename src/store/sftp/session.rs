//! One connection: an `ssh` that runs the other side's SFTP server, and what it says.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::pin::pin;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use futures_util::TryStreamExt as _;
use openssh_sftp_client::error::SftpErrorKind;
use openssh_sftp_client::file::File;
use openssh_sftp_client::fs::Fs;
use openssh_sftp_client::metadata::MetaData;
use openssh_sftp_client::{Error, Sftp, SftpOptions};
use tokio::net::unix::pipe;
use tokio::time::{Instant, sleep_until, timeout};

use super::place::SftpPlace;
use crate::store::attempts::{Task, Verdict, denied, io_error};
use crate::store::rate::Rate;
use crate::store::{Access, StoreError};

/// Most of what ssh says that is kept, in bytes.
const SAID_MAX: usize = 4096;

/// Most entries of one folder.
const ENTRIES_MAX: usize = 10_000_000;

/// How a call went wrong.
#[derive(Debug)]
pub(super) enum Trouble {
    /// There is no such file.
    Missing,
    /// We may not.
    Forbidden(String),
    /// The server refuses and gives no reason.
    Refused(String),
    /// No room is left.
    Full,
    /// The connection does not work any more.
    Broken(String),
    /// The server contradicts itself.
    Senseless(String),
    /// It is known what that means.
    Known(StoreError),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        match error {
            Error::SftpError(SftpErrorKind::NoSuchFile, _) => Self::Missing,
            Error::SftpError(SftpErrorKind::PermDenied, said) => Self::Forbidden(said.to_string()),
            Error::SftpError(_, said) => Self::Refused(said.to_string()),
            other => Self::Broken(other.to_string()),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        match error.downcast::<Error>() {
            Ok(error) => error.into(),
            Err(error) => Self::Broken(error.to_string()),
        }
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Known(error)
    }
}

impl Trouble {
    /// Whether the connection is of no more use.
    pub(super) fn is_broken(&self) -> bool {
        matches!(self, Self::Broken(_))
    }

    /// What it means. `said` is what ssh wrote to its standard error.
    pub(super) fn judge(self, task: Task<'_>, location: &str, said: Option<&str>) -> Verdict {
        let refusal = |text: String| {
            let source = io::Error::new(io::ErrorKind::PermissionDenied, text);
            Verdict::Final(denied(task, location, source))
        };
        match self {
            Self::Missing => Verdict::Missing,
            Self::Forbidden(why) => refusal(why),
            Self::Refused(why) => Verdict::Final(io_error(task, location, io::Error::other(why))),
            Self::Full => match task.name() {
                Some(name) => Verdict::Final(StoreError::NoSpace {
                    name: name.clone(),
                    location: location.to_owned(),
                }),
                None => refusal("no space is left".to_owned()),
            },
            Self::Senseless(why) => Verdict::Senseless(why),
            Self::Known(error) => Verdict::Final(error),
            Self::Broken(why) => match said.map(str::trim).filter(|said| !said.is_empty()) {
                Some(said) => judge_said(said, refusal),
                None => judge_said(&why, refusal),
            },
        }
    }
}

/// What ssh says is wrong with the login stays wrong.
fn judge_said(said: &str, refusal: impl Fn(String) -> Verdict) -> Verdict {
    const LASTING: [&str; 5] = [
        "Permission denied",
        "Host key verification failed",
        "IDENTIFICATION HAS CHANGED",
        "Too many authentication failures",
        "subsystem request failed",
    ];
    let line = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or(said);
    let line: String = line.chars().filter(|c| !c.is_control()).take(300).collect();
    match LASTING.iter().any(|words| said.contains(words)) {
        true => refusal(format!("ssh says: {line}")),
        false => Verdict::Again { why: line, after: None },
    }
}

/// A connection. It ends with this.
pub(super) struct Session {
    sftp: Sftp,
    child: Mutex<Child>,
    said: Arc<Mutex<String>>,
    upload: Arc<Rate>,
    download: Arc<Rate>,
}

impl Session {
    pub(super) async fn start(place: &SftpPlace, access: &Access) -> Result<Self, Trouble> {
        let mut child = command(place, access)
            .spawn()
            .map_err(|error| Trouble::Forbidden(format!("`ssh` cannot be run: {error}")))?;
        let said = Arc::<Mutex<String>>::default();
        if let Some(errors) = child.stderr.take() {
            let said = said.clone();
            let _ = thread::spawn(move || listen(errors, &said));
        }
        let pipes = (child.stdin.take(), child.stdout.take());
        let child = Mutex::new(child);
        let (Some(input), Some(output)) = pipes else {
            return Err(Trouble::Broken("ssh has no pipes".to_owned()));
        };
        let input = pipe::Sender::from_owned_fd(OwnedFd::from(input))?;
        let output = pipe::Receiver::from_owned_fd(OwnedFd::from(output))?;
        let patience = &access.patience;
        let starting = Sftp::new(input, output, SftpOptions::new());
        let started = timeout(patience.connect + patience.idle, starting).await;
        let failed = |why: String| {
            // What ssh says comes before its end, which is what we have seen.
            end(&child);
            let said = said.lock().unwrap_or_else(PoisonError::into_inner).clone();
            Trouble::Broken(if said.is_empty() { why } else { said })
        };
        let sftp = match started {
            Ok(Ok(sftp)) => sftp,
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_) => return Err(failed("no connection came about".to_owned())),
        };
        let (upload, download) = (Rate::new(access.upload_rate), Rate::new(access.download_rate));
        Ok(Self { sftp, child, said, upload: Arc::new(upload), download: Arc::new(download) })
    }

    pub(super) fn sftp(&self) -> &Sftp {
        &self.sftp
    }

    pub(super) fn fs(&self) -> Fs {
        self.sftp.fs()
    }

    /// What ssh wrote to its standard error so far.
    pub(super) fn said(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Opens a file to be read; with its size.
    pub(super) async fn file(&self, path: &str) -> Result<(File, u64), Trouble> {
        let mut file = self.sftp.open(path).await?;
        let metadata = file.metadata().await?;
        if metadata.file_type().is_some_and(|kind| !kind.is_file()) {
            return Err(Trouble::Missing);
        }
        match metadata.len() {
            Some(size) => Ok((file, size)),
            None => Err(Trouble::Senseless("it tells no sizes".to_owned())),
        }
    }

    /// Gives a file its final name.
    pub(super) async fn rename(&self, from: &str, to: &str) -> Result<(), Trouble> {
        let mut fs = self.fs();
        let renamed = fs.rename(from, to).await;
        if renamed.is_err() && !self.sftp.support_posix_rename() {
            // A server that replaces nothing: the same object may have been there.
            let (new, old) = (fs.metadata(from).await?.len(), fs.metadata(to).await?.len());
            if new.is_some() && new == old {
                return Ok(fs.remove_file(from).await?);
            }
        }
        Ok(renamed?)
    }

    /// The entries of a folder whose names are text, with what they are.
    pub(super) async fn entries(&self, path: &str) -> Result<Vec<(String, MetaData)>, Trouble> {
        let folder = self.fs().open_dir(path).await?;
        let mut entries = pin!(folder.read_dir());
        let mut found = Vec::new();
        while let Some(entry) = entries.try_next().await? {
            if found.len() >= ENTRIES_MAX {
                return Err(Trouble::Senseless(format!("a folder of over {ENTRIES_MAX} entries")));
            }
            if let Some(base) = entry.filename().to_str() {
                found.push((base.to_owned(), entry.metadata()));
            }
        }
        Ok(found)
    }

    /// Whether a folder's disk has no room for so many bytes: the protocol does not say so.
    pub(super) async fn is_full(&self, folder: &str, bytes: u64) -> bool {
        self.sftp.support_statvfs()
            && self.fs().statvfs(folder).await.is_ok_and(|disk| {
                disk.bavail.saturating_mul(disk.frsize.max(1)) < bytes || disk.favail == 0
            })
    }

    pub(super) async fn pace_upload(&self, len: usize) {
        pace(&self.upload, len).await;
    }

    pub(super) async fn pace_download(&self, len: usize) {
        pace(&self.download, len).await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        end(&self.child);
    }
}

async fn pace(rate: &Rate, len: usize) {
    if let Some(from) = rate.grant(len, Instant::now()) {
        sleep_until(from).await;
    }
}

fn end(child: &Mutex<Child>) {
    let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = child.kill();
    let _ = child.wait();
}

fn command(place: &SftpPlace, access: &Access) -> Command {
    let mut words = access.ssh_command.iter().cloned();
    let mut command = Command::new(words.next().unwrap_or_else(|| "ssh".into()));
    let _ = command.args(words);
    // Nobody is there to answer questions; a connection that died is noticed by ssh itself.
    for option in ["BatchMode=yes", "ServerAliveInterval=15", "ServerAliveCountMax=4"] {
        let _ = command.args(["-o", option]);
    }
    let connect = format!("ConnectTimeout={}", access.patience.connect.as_secs().max(1));
    let _ = command.args(["-o", &connect, "-o", "ClearAllForwardings=yes"]);
    if let Some(port) = place.port {
        let _ = command.args(["-p", &port.to_string()]);
    }
    if let Some(user) = &place.user {
        let _ = command.args(["-l", user]);
    }
    let _ = command.args(["-s", "--", &place.host, "sftp"]);
    let _ = command.env_clear().envs(&access.ssh_environment);
    // A signal from the terminal is ours to act on.
    let _ = command.process_group(0);
    let _ = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Keeps the beginning of what ssh says, and reads on so that it never waits for us.
fn listen(mut errors: impl io::Read, said: &Mutex<String>) {
    let mut buffer = [0; 512];
    while let Ok(len) = errors.by_ref().read(&mut buffer)
        && len > 0
    {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() < SAID_MAX {
            said.push_str(&String::from_utf8_lossy(&buffer[..len]));
        }
    }
}
