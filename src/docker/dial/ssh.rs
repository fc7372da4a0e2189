//! A connection through the system's own `ssh`, which runs `docker system dial-stdio` there.
//!
//! Keys, names and known hosts are the business of ssh and its configuration; nobody is asked
//! anything. An `ssh` ends with its connection. If this process is killed, its pipes close: ssh
//! sees the end of its input, and so does the command on the other side.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::pin::Pin;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use super::failure::DialError;
use super::{CONNECT_MAX, QUESTIONS_MAX, SILENCE_SECONDS};
use crate::docker::error::SshProblem;
use crate::docker::host::SshPlace;

/// Most of what ssh says that is kept, in bytes.
const SAID_MAX: usize = 4096;

/// Most of what ssh says that is repeated, in characters.
const SHOWN_MAX: usize = 300;

/// How often it is asked whether an ssh that has closed its pipes has ended, and how long after.
const ENDING: (u32, Duration) = (200, Duration::from_millis(10));

/// A connection through ssh. It ends with this.
pub(super) struct SshLink {
    input: Option<pipe::Sender>,
    output: pipe::Receiver,
    /// What ssh said, and how it ended.
    ended: Option<oneshot::Receiver<Ended>>,
    /// Whether the engine was ever heard.
    heard: bool,
    _process: Arc<Process>,
}

/// How an `ssh` ended.
struct Ended {
    said: String,
    status: Option<ExitStatus>,
}

/// All that were started and may still run; clones share the list.
#[derive(Clone, Default)]
pub(super) struct SshLinks {
    processes: Arc<Mutex<Vec<Weak<Process>>>>,
}

impl SshLinks {
    fn add(&self, process: &Arc<Process>) {
        let mut processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        processes.retain(|process| process.strong_count() > 0);
        processes.push(Arc::downgrade(process));
    }

    /// Ends all of them.
    pub(super) fn end(&self) {
        let processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        processes.iter().filter_map(Weak::upgrade).for_each(|process| process.end());
    }
}

/// An `ssh`, with what it started itself to get there.
struct Process {
    child: Mutex<Child>,
    group: Option<Pid>,
}

impl Process {
    /// How it ended, if it has.
    fn status(&self) -> Option<ExitStatus> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.try_wait().ok().flatten()
    }

    fn end(&self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        // One that was waited for has no number any more, which may be another's by now.
        if let (Ok(None), Some(group)) = (child.try_wait(), self.group) {
            let _ = kill_process_group(group, Signal::KILL);
            let _ = child.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

impl SshLink {
    /// Starts an `ssh`; whether it gets there is seen when the engine is to answer.
    pub(super) fn start(
        place: &SshPlace,
        environment: &BTreeMap<OsString, OsString>,
        links: &SshLinks,
    ) -> Result<Self, DialError> {
        let mut child = command(place, environment).spawn().map_err(|error| DialError::Ssh {
            problem: SshProblem::NoProgram,
            said: error.to_string(),
        })?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let group = Pid::from_child(&child);
        let process = Arc::new(Process { child: Mutex::new(child), group: Some(group) });
        links.add(&process);
        let (Some(input), Some(output), Some(errors)) = pipes else {
            return Err(DialError::lost());
        };
        let (report, ended) = oneshot::channel();
        let watched = Arc::downgrade(&process);
        let _ = thread::spawn(move || listen(errors, &watched, report));
        let input = pipe::Sender::from_owned_fd(OwnedFd::from(input));
        let output = pipe::Receiver::from_owned_fd(OwnedFd::from(output));
        Ok(Self {
            input: Some(input.map_err(|e| DialError::of_io(&e))?),
            output: output.map_err(|e| DialError::of_io(&e))?,
            ended: Some(ended),
            heard: false,
            _process: process,
        })
    }

    /// Waits until ssh has ended, and says what that means; nothing if all is said already.
    fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<Option<DialError>> {
        let Some(ended) = &mut self.ended else { return Poll::Ready(None) };
        let ended = ready!(Pin::new(ended).poll(context));
        self.ended = None;
        Poll::Ready(match ended {
            Ok(ended) if self.heard => lost(&ended),
            Ok(ended) => Some(judge(&ended)),
            Err(_) => None,
        })
    }

    /// The error of a pipe that ssh has closed.
    fn poll_broken(
        &mut self,
        error: io::Error,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let why = ready!(self.poll_ended(context));
        Poll::Ready(Err(why.map_or(error, io::Error::other)))
    }
}

impl AsyncRead for SshLink {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let link = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut link.output).poll_read(context, buffer))?;
        if buffer.filled().len() > before || buffer.remaining() == 0 {
            link.heard = true;
            return Poll::Ready(Ok(()));
        }
        match ready!(link.poll_ended(context)) {
            Some(why) => Poll::Ready(Err(io::Error::other(why))),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for SshLink {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let link = self.get_mut();
        let Some(input) = &mut link.input else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        match ready!(Pin::new(input).poll_write(context, bytes)) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                link.poll_broken(error, context)
            }
            written => Poll::Ready(written),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// The other side sees the end of its input.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().input = None;
        Poll::Ready(Ok(()))
    }
}

fn command(place: &SshPlace, environment: &BTreeMap<OsString, OsString>) -> Command {
    let mut command = Command::new("ssh");
    let options = [
        "BatchMode=yes".to_owned(),
        format!("ConnectTimeout={}", CONNECT_MAX.as_secs()),
        format!("ServerAliveInterval={SILENCE_SECONDS}"),
        format!("ServerAliveCountMax={QUESTIONS_MAX}"),
        "ClearAllForwardings=yes".to_owned(),
        // One that the account has open already is used; none is opened that would stay.
        "ControlMaster=no".to_owned(),
        "RemoteCommand=none".to_owned(),
        "RequestTTY=no".to_owned(),
    ];
    for option in options {
        let _ = command.args(["-o", &option]);
    }
    if let Some(port) = place.port {
        let _ = command.args(["-p", &port.to_string()]);
    }
    if let Some(user) = &place.user {
        let _ = command.args(["-l", user]);
    }
    let _ = command.args(["--", &place.host, "docker"]);
    if let Some(socket) = &place.socket {
        let _ = command.arg(format!("--host=unix://{socket}"));
    }
    let _ = command.args(["system", "dial-stdio"]);
    let _ = command.env_clear().envs(environment);
    // A signal from the terminal is ours to act on.
    let _ = command.process_group(0);
    let _ = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Reads what ssh says, and reports it when ssh has ended. Nobody waits long for an ssh that has
/// closed its pipes and lives on.
fn listen(mut errors: ChildStderr, process: &Weak<Process>, report: oneshot::Sender<Ended>) {
    use io::Read as _;

    let mut said = Vec::new();
    let mut buffer = [0; 512];
    while let Ok(len) = errors.read(&mut buffer)
        && len > 0
    {
        let room = SAID_MAX.saturating_sub(said.len());
        said.extend_from_slice(&buffer[..len.min(room)]);
    }
    let mut status = None;
    for _ in 0..ENDING.0 {
        status = process.upgrade().and_then(|process| process.status());
        if status.is_some() || process.strong_count() == 0 {
            break;
        }
        thread::sleep(ENDING.1);
    }
    let said = String::from_utf8_lossy(&said).into_owned();
    let _ = report.send(Ended { said, status });
}

/// What it means that ssh ended before the engine was heard.
fn judge(ended: &Ended) -> DialError {
    const UNKNOWN_KEY: &str = "Host key verification failed";
    const REFUSED: [&str; 3] =
        ["Permission denied (", "Too many authentication failures", "No more authentication"];
    const NO_COMMAND: i32 = 127;

    let said = &ended.said;
    let says = |words: &str| said.contains(words);
    let code = ended.status.and_then(|status| status.code());
    let ssh = |problem| DialError::Ssh { problem, said: telling_line(said) };
    if says("IDENTIFICATION HAS CHANGED") {
        return ssh(SshProblem::ChangedKey);
    }
    if says(UNKNOWN_KEY) {
        return ssh(SshProblem::UnknownKey);
    }
    if REFUSED.iter().any(|words| says(words)) {
        return ssh(SshProblem::Login);
    }
    if says("failed to open the raw stream connection") || says("docker daemon socket") {
        return match says("permission denied") {
            true => DialError::Permission,
            false => DialError::Unreachable(telling_line(said)),
        };
    }
    if code == Some(NO_COMMAND) {
        return ssh(SshProblem::NoDocker);
    }
    if says("dial-stdio") || says("is not a docker command") {
        return ssh(SshProblem::OldDocker);
    }
    match telling_line(said).as_str() {
        "" => DialError::Unreachable("ssh ended without a word".into()),
        line => DialError::Unreachable(line.to_owned()),
    }
}

/// What it means that ssh ended after the engine was heard: nothing, if it does not complain.
fn lost(ended: &Ended) -> Option<DialError> {
    let complained = ended.status.is_some_and(|status| status.code() == Some(255));
    let line = telling_line(&ended.said);
    (complained && !line.is_empty()).then_some(DialError::Lost(line))
}

/// The last line that says something, without what could steer a terminal.
fn telling_line(said: &str) -> String {
    let line = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("");
    line.trim().chars().filter(|c| !c.is_control()).take(SHOWN_MAX).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    fn judged(said: &str, code: i32) -> String {
        let status = Some(ExitStatus::from_raw(code << 8));
        match judge(&Ended { said: said.into(), status }) {
            DialError::Ssh { problem, .. } => format!("{problem:?}"),
            DialError::Permission => "Permission".into(),
            DialError::Unreachable(why) => format!("unreachable: {why}"),
            other => other.to_string(),
        }
    }

    #[test]
    fn what_ssh_says_is_told_apart() {
        for (said, code, meant) in [
            (
                "No ED25519 host key is known for h\nHost key verification failed.\n",
                255,
                "UnknownKey",
            ),
            (
                "@ REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
                255,
                "ChangedKey",
            ),
            ("root@h: Permission denied (publickey,password).\r\n", 255, "Login"),
            ("sh: 1: docker: not found\n", 127, "NoDocker"),
            ("unknown command: docker system dial-stdio\n", 1, "OldDocker"),
            (
                "failed to open the raw stream connection: dial unix /s: permission denied",
                1,
                "Permission",
            ),
            (
                "failed to open the raw stream connection: dial unix /s: no such file or directory",
                1,
                "unreachable: failed to open the raw stream connection: dial unix /s: no such \
                 file or directory",
            ),
            (
                "ssh: connect to host h port 22: Connection refused\r\n\n",
                255,
                "unreachable: ssh: connect to host h port 22: Connection refused",
            ),
            ("a\x1b[2Jb", 255, "unreachable: a[2Jb"),
            ("", 255, "unreachable: ssh ended without a word"),
        ] {
            assert_eq!(judged(said, code), meant, "{said}");
        }
    }

    #[test]
    fn an_end_after_the_engine_was_heard_is_an_end_unless_ssh_complains() {
        let end = |said: &str, code: i32| {
            let status = Some(ExitStatus::from_raw(code << 8));
            lost(&Ended { said: said.into(), status }).map(|error| error.to_string())
        };
        assert_eq!(end("", 0), None);
        assert_eq!(end("Warning: something", 0), None);
        let broken = "client_loop: send disconnect: Broken pipe";
        assert_eq!(end(broken, 255).as_deref(), Some(broken));
    }

    #[test]
    fn the_socket_there_is_named_to_the_docker_command_there() {
        let mut place = SshPlace::named("h");
        let words = |place: &SshPlace| {
            let command = command(place, &BTreeMap::new());
            let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
            words.collect::<Vec<_>>().join(" ")
        };
        assert!(words(&place).ends_with("-- h docker system dial-stdio"));
        place.socket = Some("/run/user/1000/docker.sock".into());
        place.port = Some(22);
        place.user = Some("me".into());
        assert!(words(&place).ends_with(
            "-p 22 -l me -- h docker --host=unix:///run/user/1000/docker.sock system dial-stdio"
        ));
    }
}
