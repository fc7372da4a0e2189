//! A machine that `vault` is installed on: the program itself, with folders of its own.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tempfile::TempDir;
use volume_vault::repo::{Dirs, Repository, Secret, read_key_file};
use volume_vault::store::LocalStore;

use super::repo::{files_below, noise, scratch};

/// A machine with a repository and the key to it.
pub(crate) struct Machine {
    pub(crate) home: TempDir,
    pub(crate) repository: PathBuf,
}

impl Machine {
    /// Installs `vault` and makes a repository.
    pub(crate) fn new() -> Self {
        let home = scratch();
        let repository = home.path().join("repository");
        let machine = Self { home, repository };
        let made = machine.vault(&["init", machine.repository.to_str().expect("text")]).output();
        assert_success(&made.expect("vault runs"));
        machine
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The program with these arguments and this machine's folders.
    pub(crate) fn vault(&self, args: &[&str]) -> Command {
        self.under(&[], args)
    }

    /// As [`Machine::vault`], run by another program such as strace.
    pub(crate) fn under(&self, runner: &[&str], args: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_vault");
        let mut words = runner.iter().copied().chain([program]).chain(args.iter().copied());
        let mut command = Command::new(words.next().expect("a program"));
        let _ = command.args(words).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        for name in ["DATA", "CONFIG", "CACHE", "STATE"] {
            let folder = self.path(&name.to_lowercase());
            let _ = command.env(format!("XDG_{name}_HOME"), folder);
        }
        let _ = command.env("VAULT_REPO", &self.repository).current_dir(self.home.path());
        let _ = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The repository, opened through the library as this host.
    pub(crate) fn open(&self) -> Arc<Repository> {
        let keys = self.path("config/vault/keys");
        let key = keys.join(files_below(&keys).pop().expect("one key file"));
        let key = read_key_file(&std::fs::read(key).expect("reads")).expect("a key");
        let dirs = Dirs { cache: self.path("cache/vault"), state: self.path("state/vault") };
        let store = Arc::new(LocalStore::open(&self.repository).expect("the store opens"));
        let repo = Repository::open(store, &Secret::KeyFile(key), &dirs);
        Arc::new(repo.expect("the repository opens"))
    }

    /// How many packs the repository holds, by the names of files.
    pub(crate) fn packs(&self) -> usize {
        let packs = self.repository.join("packs");
        if packs.exists() { files_below(&packs).len() } else { 0 }
    }

    /// Nothing lies about that is no object, no table and no state.
    pub(crate) fn assert_tidy(&self) {
        let is_hex = |name: &str| name.len() >= 32 && name.bytes().all(|b| b.is_ascii_hexdigit());
        for file in files_below(&self.repository) {
            let text = file.to_str().expect("text");
            let base = text.rsplit('/').next().expect("a name");
            let stem = base.split('.').next().expect("a stem");
            let is_config = text.starts_with("config/") && base.bytes().all(|b| b.is_ascii_digit());
            assert!(is_hex(stem) || is_config || text == "vault.json", "{text} is in the way");
        }
        for folder in ["cache", "state"].map(|folder| self.path(folder)) {
            let files = if folder.exists() { files_below(&folder) } else { Vec::new() };
            for file in files {
                let text = file.to_str().expect("text");
                let ours = text.ends_with("/heads") || text.ends_with("/lock");
                let cached = ["/index/", "/records/"].iter().any(|folder| text.contains(folder));
                assert!(ours || cached, "{text} is in the way");
                let temporary = [".new", ".tmp", "/tmp-", ".spill", "no-cache"];
                assert!(!temporary.iter().any(|end| text.contains(end)), "{text} is in the way");
            }
        }
    }
}

/// Waits until something is so; gives up after a minute.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let soon = (0..30_000).any(|_| {
        let now = is_so();
        if !now {
            std::thread::park_timeout(Duration::from_millis(2));
        }
        now
    });
    assert!(soon, "{what}: not so within a minute");
}

/// Sends a signal.
pub(crate) fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).expect("a process");
    rustix::process::kill_process(pid, signal).expect("it is there");
}

/// The one child of a process.
pub(crate) fn child_of(pid: u32) -> Option<u32> {
    let children = format!("/proc/{pid}/task/{pid}/children");
    std::fs::read_to_string(children).ok()?.split_whitespace().next()?.parse().ok()
}

/// Feeds so many bytes that never repeat to a child, or as many as it takes; then closes the pipe
/// unless `hold` says otherwise, in which case the thread gives the pipe back.
pub(crate) fn feed(
    child: &mut Child,
    len: u64,
    hold: bool,
) -> JoinHandle<Option<std::process::ChildStdin>> {
    let mut pipe = child.stdin.take().expect("a pipe");
    std::thread::spawn(move || {
        let mut left = len;
        for seed in 0.. {
            let block = noise(seed, usize::try_from(left.min(1 << 18)).expect("small"));
            if block.is_empty() || pipe.write_all(&block).is_err() {
                break;
            }
            left -= block.len() as u64;
        }
        hold.then_some(pipe)
    })
}

/// What [`feed`] writes.
pub(crate) fn fed(len: usize) -> Vec<u8> {
    let blocks = (0..).map(|seed| noise(seed, 1 << 18));
    let mut bytes: Vec<u8> = blocks.take(len.div_ceil(1 << 18)).flatten().collect();
    bytes.truncate(len);
    bytes
}

pub(crate) fn assert_success(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
}

/// The standard error of a program.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The path as an argument.
pub(crate) fn arg(path: &Path) -> &str {
    path.to_str().expect("text")
}
