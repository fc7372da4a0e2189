//! The real `vault` binary, on a machine of its own as far as it can tell: own home, own places, no
//! setting but what a test gives.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use volume_vault::clock::Stopwatch;

use super::socket;

/// Longest wait for something that is bound to happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// A machine on which `vault` is run.
pub(super) struct Machine {
    folder: tempfile::TempDir,
    variables: BTreeMap<OsString, OsString>,
}

/// How a run of `vault` ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) code: Option<i32>,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: String,
}

impl Machine {
    /// A fresh one beside the engine for tests.
    pub(super) fn new() -> Self {
        Self::beside(&socket())
    }

    /// A fresh one beside the engine at a socket.
    pub(super) fn beside(socket: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut machine = Self { folder, variables: BTreeMap::new() };
        // others than root pass through it in one test
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(machine.path(""), open).expect("set");
        fs::create_dir(machine.path("work")).expect("made");
        machine.set("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        machine.set("TZ", "UTC");
        machine.set("HOME", machine.path("home"));
        for place in ["data", "config", "cache", "state"] {
            machine.set(&format!("XDG_{}_HOME", place.to_uppercase()), machine.path(place));
        }
        machine.set_engine(socket);
        machine
    }

    pub(super) fn set_engine(&mut self, socket: &Path) {
        self.set("DOCKER_HOST", format!("unix://{}", socket.display()));
    }

    /// Sets a variable of the environment for all runs from now on.
    pub(super) fn set(&mut self, name: &str, value: impl AsRef<OsStr>) {
        let _ = self.variables.insert(name.into(), value.as_ref().to_owned());
    }

    pub(super) fn unset(&mut self, name: &str) {
        let _ = self.variables.remove(OsStr::new(name));
    }

    /// A path in this machine's own folder.
    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    /// The repository that is made where none is named.
    pub(super) fn repository(&self) -> PathBuf {
        self.path("data/vault/repository")
    }

    /// `vault` with arguments, not yet started.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vault"));
        let _ = command.args(arguments);
        self.furnish(&mut command);
        command
    }

    /// Gives a command this machine's environment, and nothing to read.
    pub(super) fn furnish(&self, command: &mut Command) {
        let _ = command.env_clear().envs(&self.variables).current_dir(self.path("work"));
        let _ = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    }

    /// Runs `vault` to its end.
    pub(super) fn run(&self, arguments: &[&str]) -> Ended {
        self.command(arguments).output().expect("vault runs").into()
    }

    /// Runs `vault` with something to read.
    pub(super) fn run_with(&self, arguments: &[&str], input: &[u8]) -> Ended {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).spawn().expect("vault runs");
        let mut stdin = child.stdin.take().expect("it is piped");
        let input = input.to_vec();
        let feeder = std::thread::spawn(move || stdin.write_all(&input));
        let ended = child.wait_with_output().expect("vault ends").into();
        // whether all was read is up to vault
        let _ = feeder.join().expect("the feeder ends");
        ended
    }

    /// Runs `vault` with `--json` and returns its document; it has to end with this code.
    pub(super) fn json(&self, arguments: &[&str], code: i32) -> Value {
        let arguments = [arguments, &["--json"]].concat();
        self.run(&arguments).expect(code).json()
    }

    /// Ids of the acknowledged snapshots in the repository, read without the code under test.
    pub(super) fn acknowledged(&self) -> Vec<String> {
        acknowledged(&self.repository())
    }
}

/// Ids of the acknowledged snapshots in a repository.
pub(super) fn acknowledged(repository: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(repository.join("snapshots")) else { return Vec::new() };
    let names = entries.map(|entry| entry.expect("listed").file_name().into_string());
    let mut ids: Vec<_> = names
        .filter_map(|name| Some(name.expect("text").strip_suffix(".ok")?.to_owned()))
        .collect();
    ids.sort();
    ids
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ended {
    /// Itself, if it ended with this code.
    #[track_caller]
    pub(super) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.text(), self.stderr);
        self
    }

    /// Itself, if it ended with this code and standard error holds all of `parts`.
    #[track_caller]
    pub(super) fn expect_error(self, code: i32, parts: &[&str]) -> Self {
        let ended = self.expect(code);
        for part in parts {
            assert!(ended.stderr.contains(part), "no `{part}` in:\n{}", ended.stderr);
        }
        assert!(ended.stderr.contains("error: "), "{}", ended.stderr);
        assert!(!ended.stderr.contains("internal error"), "{}", ended.stderr);
        ended
    }

    /// Standard output as text.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The one document on standard output.
    #[track_caller]
    pub(super) fn json(&self) -> Value {
        let value: Value = serde_json::from_slice(&self.stdout).expect("one JSON document");
        assert_eq!(value["schema"], 1, "{value}");
        value
    }
}

/// The id of the only snapshot that a backup's document names.
pub(super) fn snapshot_of(document: &Value) -> String {
    let backups = document["backups"].as_array().expect("backups");
    assert_eq!(backups.len(), 1, "{document}");
    backups[0]["snapshot"].as_str().expect("an id").to_owned()
}

/// Waits until `happened`, which something else brings about.
#[track_caller]
pub(super) fn wait_until(what: &str, mut happened: impl FnMut() -> bool) {
    let watch = Stopwatch::start();
    while !happened() {
        assert!(watch.elapsed() < PATIENCE, "it never came that {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
