//! A repository made through the library, and the program run against it, away from whatever the
//! machine has.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use serde_json::Value;
use tempfile::TempDir;
use volume_vault::clock::{Clock, Time};
use volume_vault::crypto::Key;
use volume_vault::event::{Observer, Recorder};
use volume_vault::format::{HostFacts, ItemKind, Method};
use volume_vault::ops::Interrupt;
use volume_vault::ops::backup::{BackupOptions, NewItem, backup};
use volume_vault::repo::{Dirs, InitOptions, Repository, Secret, init, write_key_file};
use volume_vault::source::{Directory, DirectoryOptions, Selection};
use volume_vault::store::{Location, create};

/// 2026-11-20T12:00:00Z.
pub(super) const START: i64 = 1_795_176_000;

/// A repository and a folder for everything else, gone when dropped.
pub(super) struct World {
    dir: TempDir,
    repo: Arc<Repository>,
    saved: std::cell::Cell<i64>,
}

/// What the program did.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) code: i32,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: String,
}

impl World {
    /// With an empty repository.
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let store = create(&Location::Local(dir.path().join("repository"))).expect("a store");
        let key = Key::random().expect("randomness");
        let key_path = dir.path().join("key");
        let made = init(&*store, &InitOptions::default(), |id| {
            std::fs::write(&key_path, write_key_file(&key, id).as_bytes()).expect("written");
            Ok(Secret::KeyFile(key.clone()))
        });
        let _ = made.expect("a repository");
        private(&key_path);
        let place = |name: &str| dir.path().join(name);
        let dirs = Dirs { cache: place("writer-cache"), state: place("writer-state") };
        let repo = Repository::open(store, &Secret::KeyFile(key), &dirs).expect("opened");
        Self { dir, repo: Arc::new(repo), saved: std::cell::Cell::new(0) }
    }

    /// A path in the folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a folder of that name.
    pub(super) fn folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).expect("made");
        path
    }

    /// An item to be saved as a volume of this name.
    pub(super) fn item(name: &str) -> NewItem {
        NewItem {
            kind: ItemKind::Volume,
            name: name.to_owned(),
            method: Method::HostPath,
            degraded: Vec::new(),
            volume: None,
            in_use_by: Vec::new(),
        }
    }

    /// Saves `dir` as the volume `name` of the host `h`; returns the snapshot's id. Each snapshot
    /// is an hour younger than the one before.
    pub(super) fn save(&self, name: &str, dir: &Path) -> String {
        self.save_as(&Self::item(name), dir, "h", &[])
    }

    /// Sets when a snapshot was stored, as if the clock of its store had said so.
    pub(super) fn set_stored(&self, id: &str, seconds: i64) {
        let path = self.path("repository").join(format!("snapshots/{id}.ok"));
        let at = std::time::Duration::from_secs(u64::try_from(seconds).expect("after 1970"));
        let file = std::fs::File::options().write(true).open(path).expect("opened");
        file.set_modified(std::time::UNIX_EPOCH + at).expect("set");
    }

    /// As [`World::save`], with everything chosen.
    pub(super) fn save_as(&self, item: &NewItem, dir: &Path, host: &str, tags: &[&str]) -> String {
        let at = self.saved.get();
        self.saved.set(at + 1);
        let options = BackupOptions {
            host: HostFacts {
                name: host.to_owned(),
                engine_id: Some("engine-id".to_owned()),
                engine_version: Some("20.10".to_owned()),
            },
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            level: 3,
            verify: true,
            read_all: false,
            memory: 128 << 20,
            clock: Clock::Fixed(Time::new(START + 3600 * at, 0)),
            program: "vault test".to_owned(),
        };
        let recorder: Arc<dyn Observer> = Arc::new(Recorder::default());
        let read = DirectoryOptions { clock: Clock::System, selection: Selection::all() };
        let open = |observer| Ok(Box::new(Directory::open(dir, read, observer)?) as Box<_>);
        let interrupt = Interrupt::default();
        let done = backup(&self.repo, item, open, || Ok(()), &options, &recorder, &interrupt);
        done.expect("a backup").snapshot.to_string()
    }

    /// The program, to be run with nothing of this machine's but where programs are.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vault"));
        let _ = command.env_clear().current_dir(self.folder("cwd")).stdin(Stdio::null());
        for name in ["PATH", "LLVM_PROFILE_FILE"] {
            if let Some((_, value)) = std::env::vars_os().find(|(found, _)| found == name) {
                let _ = command.env(name, value);
            }
        }
        let _ = command
            .env("TZ", "UTC")
            .env("HOME", self.path("home"))
            .env("XDG_DATA_HOME", self.path("data"))
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("XDG_STATE_HOME", self.path("state"))
            .env("VAULT_REPO", self.path("repository"))
            .env("VAULT_KEY_FILE", self.path("key"));
        command
    }

    /// Runs it to its end.
    pub(super) fn vault<S: AsRef<OsStr>>(&self, args: &[S]) -> Ran {
        let Output { status, stdout, stderr } =
            self.command().args(args).output().expect("it runs");
        let stderr = String::from_utf8(stderr).expect("what is for people is text");
        Ran { code: status.code().expect("it ends by itself"), stdout, stderr }
    }

    /// Runs it with `--json`, which must give one document whatever happens.
    pub(super) fn json<S: AsRef<OsStr>>(&self, args: &[S], code: i32) -> Value {
        let mut all: Vec<&OsStr> = args.iter().map(AsRef::as_ref).collect();
        all.push(OsStr::new("--json"));
        let ran = self.vault(&all);
        assert_eq!(ran.code, code, "{}", ran.stderr);
        let document: Value = serde_json::from_slice(&ran.stdout).expect("one JSON document");
        assert_eq!(document["schema"], 1, "{document}");
        document
    }
}

impl Ran {
    /// What went to standard output, which must have ended with this code and be harmless on a
    /// terminal.
    pub(super) fn text(&self, code: i32) -> &str {
        assert_eq!(self.code, code, "{}", self.stderr);
        let text = std::str::from_utf8(&self.stdout).expect("what is for people is text");
        for text in [text, &self.stderr] {
            let steers = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
            assert!(!text.contains(steers), "{text:?}");
        }
        text
    }

    /// The lines of [`Ran::text`].
    pub(super) fn lines(&self) -> Vec<&str> {
        self.text(0).lines().collect()
    }
}

fn private(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, mode).expect("set");
}

/// Bytes without a pattern, always the same for one seed.
pub(super) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_le_bytes()[7]
    };
    std::iter::repeat_with(next).take(len).collect()
}
