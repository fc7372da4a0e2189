//! The program itself, watched while it runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A repository on disk, and whatever the program keeps elsewhere.
pub(super) struct Program {
    dir: TempDir,
}

/// What the program said and did.
pub(super) struct Outcome {
    pub(super) code: i32,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    /// Most memory it had in use, in bytes, as last seen before it ended.
    pub(super) memory_peak: u64,
}

impl Program {
    /// A new repository below `place`.
    pub(super) fn new(place: &Path) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir_in(place).expect("a directory");
        let password = dir.path().join("password");
        fs::write(&password, "correct horse battery").expect("written");
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).expect("set");
        let program = Self { dir };
        assert_eq!(program.run(&["init"], &[]).code, 0);
        program
    }

    /// A place of this program's own.
    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs `vault` with `arguments`, then `paths`.
    pub(super) fn run(&self, arguments: &[&str], paths: &[&Path]) -> Outcome {
        let (out, err) = (self.at("stdout"), self.at("stderr"));
        let file = |path: &Path| Stdio::from(fs::File::create(path).expect("made"));
        let child = Command::new(env!("CARGO_BIN_EXE_vault"))
            .env_clear()
            .env("HOME", self.at("home"))
            .env("XDG_CACHE_HOME", self.at("cache"))
            .env("XDG_STATE_HOME", self.at("state"))
            .env("XDG_CONFIG_HOME", self.at("config"))
            .arg("--repo")
            .arg(self.at("repository"))
            .arg("--password-file")
            .arg(self.at("password"))
            .args(arguments)
            .args(paths)
            .stdin(Stdio::null())
            .stdout(file(&out))
            .stderr(file(&err))
            .spawn()
            .expect("it starts");
        let (code, memory_peak) = watch(child);
        let read = |path: &Path| fs::read(path).expect("read");
        Outcome { code, stdout: read(&out), stderr: read(&err), memory_peak }
    }
}

impl Outcome {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).expect("one JSON document")
    }
}

/// Waits for the end; gives the exit code and the high-water mark of resident memory.
///
/// The mark only grows, so that looking at it now and then misses no peak but one right before the
/// end.
fn watch(mut child: Child) -> (i32, u64) {
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).map(str::parse::<u64>);
        if let Some(Ok(kib)) = kib {
            peak = peak.max(kib * 1024);
        }
        if let Some(status) = child.try_wait().expect("it can be waited for") {
            return (status.code().expect("it ended by itself"), peak);
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}
