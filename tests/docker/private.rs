//! An engine that a test may break: its own daemon, and a wire that trips while it sends.
//!
//! It lies in the folder of the engine for tests and carries its label, so that
//! `tests/parts/engine.sh down` also finds what a killed test left running.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use volume_vault::docker::{Engine, Host};

use super::socket;
use super::vault::wait_until;

/// A daemon of a test's own.
pub(super) struct PrivateEngine {
    folder: tempfile::TempDir,
    daemon: Option<Child>,
}

impl PrivateEngine {
    pub(super) fn start() -> Self {
        let above = socket().parent().expect("a folder").to_owned();
        let folder = tempfile::Builder::new().prefix("own-").tempdir_in(above).expect("a folder");
        let mut engine = Self { folder, daemon: None };
        engine.start_again();
        engine
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    pub(super) fn engine(&self) -> Engine {
        Engine::connect(&Host::unix(self.socket())).expect("it answers")
    }

    /// The process of the daemon.
    pub(super) fn pid(&self) -> Pid {
        Pid::from_child(self.daemon.as_ref().expect("it runs"))
    }

    /// Starts the daemon, on what an earlier one may have left.
    pub(super) fn start_again(&mut self) {
        self.end(Signal::KILL);
        let at = self.folder.path();
        let name = format!("vault-{}", at.file_name().expect("a name").display());
        let log = File::create(at.join("log")).expect("a log");
        let mut command = Command::new("dockerd");
        let _ = command.arg("--host").arg(format!("unix://{}", self.socket().display()));
        for (flag, below) in
            [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")]
        {
            let _ = command.arg(flag).arg(at.join(below));
        }
        let _ = command
            .args(["--containerd-namespace", &name])
            .args(["--containerd-plugins-namespace", &format!("{name}-plugins")])
            .args(["--exec-opt", "native.cgroupdriver=cgroupfs"])
            .args(["--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false"])
            .args(["--shutdown-timeout=2", "--group=0"])
            .env("VAULT_PART", socket().parent().expect("a folder"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .process_group(0);
        let mut daemon = command.spawn().expect("dockerd starts");
        wait_until("the daemon answers", || {
            let ended = daemon.try_wait().expect("it is ours");
            let log = || fs::read_to_string(at.join("log")).unwrap_or_default();
            assert!(ended.is_none(), "dockerd ended: {}", log());
            Engine::connect(&Host::unix(self.socket())).is_ok()
        });
        self.daemon = Some(daemon);
    }

    /// Sends the daemon a signal that ends it, and waits for that; also for its containerd.
    pub(super) fn end(&mut self, signal: Signal) {
        if let Some(mut daemon) = self.daemon.take() {
            kill_process(Pid::from_child(&daemon), signal).expect("it is ours");
            let _ = daemon.wait().expect("it ends");
        }
        end_containerd(self.folder.path());
        let _ = fs::remove_file(self.folder.path().join("pid"));
    }
}

/// A killed daemon leaves its containerd running.
fn end_containerd(folder: &Path) {
    let file = folder.join("exec/containerd/containerd.pid");
    let Ok(text) = fs::read_to_string(&file) else { return };
    let pid = text.trim().parse().ok().and_then(Pid::from_raw).expect("a pid");
    let environment = PathBuf::from(format!("/proc/{}/environ", pid.as_raw_nonzero()));
    let ours = || {
        let text = fs::read(&environment).unwrap_or_default();
        let wanted = format!("VAULT_PART={}", socket().parent().expect("a folder").display());
        text.split(|b| *b == 0).any(|variable| variable == wanted.as_bytes())
    };
    if ours() {
        let _ = kill_process(pid, Signal::KILL);
        wait_until("containerd ended", || !ours());
    }
    let _ = fs::remove_file(file);
}

impl Drop for PrivateEngine {
    fn drop(&mut self) {
        self.end(Signal::TERM);
    }
}

/// What happens when a wire trips.
type Act = Box<dyn FnOnce() + Send>;

/// Stands before an engine; in the first archive that the engine sends, after `bytes` of it, it
/// calls `act` before any more is passed on. Returns the folder of its socket, `docker.sock`.
pub(super) fn trip_wire(
    engine: &Path,
    bytes: u64,
    act: impl FnOnce() + Send + 'static,
) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("docker.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let act: Arc<Mutex<Option<Act>>> = Arc::new(Mutex::new(Some(Box::new(act))));
    let engine = engine.to_owned();
    let _ = thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.expect("a connection");
            // every request has a connection of its own
            let mut start = [0; 512];
            let len = client.read(&mut start).unwrap_or(0);
            let request = String::from_utf8_lossy(&start[..len]).into_owned();
            let Ok(mut engine) = UnixStream::connect(&engine) else { continue };
            let _ = engine.write_all(&start[..len]);
            let is_archive = request.starts_with("GET ")
                && request.lines().next().is_some_and(|line| line.contains("/archive?"));
            let (sent, back) = (client.try_clone(), engine.try_clone());
            let (sent, back) = (sent.expect("a stream"), back.expect("a stream"));
            let _ = thread::spawn(move || pass(sent, back));
            let act = act.clone();
            let _ = thread::spawn(move || {
                if is_archive {
                    let _ = std::io::copy(&mut (&engine).take(bytes), &mut client);
                    if let Some(act) = act.lock().expect("no panic before").take() {
                        act();
                    }
                }
                pass(engine, client);
            });
        }
    });
    (folder, path)
}

fn pass(mut from: UnixStream, mut to: UnixStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
