//! How many instructions a fixed small backup takes: counted, not timed, and compared with what is
//! written down in `counts.txt`, so that a change that makes it dearer (or cheaper) is seen.
//!
//! Everything that decides about work is fixed: content, repository, keys, one processor thread.
//! What is left is random bytes and the system's answers. The program is the one the other tests
//! run, with its own code hardly optimised and its libraries fully: this tells how much work is
//! done, not how fast a release does it. Callgrind shows no AVX-512, so AVX2 paths are counted. It
//! cannot run a restore into a directory: valgrind 3.19 does not know `openat2`.

mod counts;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use volume_vault::codec::ChunkerParams;
use volume_vault::crypto::{KdfParams, Key, Payload};
use volume_vault::crypto::{Purpose, Signer};
use volume_vault::format::{Bootstrap, Config, ObjectKind, seal_object};
use volume_vault::id::RepositoryId;
use volume_vault::repo::{Secret, add_slot, write_key_file};
use volume_vault::store::{LocalStore, ObjectName, Store as _};

use self::counts::{Counts, Tools};
use crate::support::repo::{noise, scratch};

const REPOSITORY: RepositoryId = RepositoryId::new([3; 16]);

/// A host with a repository whose keys are always the same, and with something to save.
struct Host {
    home: TempDir,
}

impl Host {
    fn new() -> Self {
        let host = Self { home: scratch() };
        host.make_repository();
        host.make_data();
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// As `vault init` does, but with a master key that decides the same cuts in every run.
    fn make_repository(&self) {
        let (master, key) = (Key::new([4; 32]), Key::new([5; 32]));
        let path = self.path("repository");
        std::fs::create_dir(&path).expect("a directory");
        let store = LocalStore::create(&path).expect("a store");
        let text = write_key_file(&key, &REPOSITORY);
        std::fs::write(self.path("key"), text.as_bytes()).expect("the key is written");
        let own = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(self.path("key"), own).expect("the key is its owner's");
        let secret = Secret::KeyFile(key);
        let _ = add_slot(&store, &REPOSITORY, &master, &secret, KdfParams::DEFAULT, "key", 0)
            .expect("a slot");
        let config = Config {
            sequence: 1,
            chunker: ChunkerParams::DEFAULT,
            features: Vec::new(),
            store: None,
        }
        .encode();
        let derive = |purpose| master.derive(purpose, b"");
        let signer = Signer::from_seed(&derive(Purpose::OwnerSigningSeed));
        let shared = derive(Purpose::SharedObject);
        let sealed = seal_object(ObjectKind::Config, &REPOSITORY, &shared, &signer, &config);
        let name = |text| ObjectName::parse(text).expect("a name");
        store.put(&name("config/0000000000000001"), &sealed.expect("sealed")).expect("stored");
        let bootstrap = Bootstrap { repository: REPOSITORY, read_only_because: None };
        let bootstrap = Payload::public(bootstrap.encode());
        store.put(&name("vault.json"), &bootstrap).expect("stored");
    }

    /// Files that compress, a file that does not, the same once more, and many small ones: 6 MiB.
    fn make_data(&self) {
        let write = |name: &str, content: &[u8]| {
            let path = self.path("data").join(name);
            std::fs::create_dir_all(path.parent().expect("in a folder")).expect("a folder");
            std::fs::write(path, content).expect("written");
        };
        let noise = noise(9, 1 << 20);
        write("noise", &noise);
        write("again/noise", &noise);
        for file in 0..8u32 {
            let lines = noise.as_chunks::<4>().0.iter().skip(file as usize * 9000).take(9000);
            let line = |[a, b, c, d]: &[u8; 4]| {
                let (part, item, bytes) = (a % 4, b % 100, u32::from(*c) * u32::from(*d));
                format!("10.0.{part}.{a} GET /item/{item} 200 {bytes}\n")
            };
            write(&format!("logs/{file}"), lines.map(line).collect::<String>().as_bytes());
        }
        for file in 0..400u32 {
            let value = &noise[file as usize..][..16];
            write(&format!("small/{file}.json"), format!("{{\"value\": {value:?}}}\n").as_bytes());
        }
    }

    /// Runs the program under callgrind; returns how many instructions it took.
    fn count(&self, arguments: &[&str]) -> u64 {
        let profile = self.path("profile");
        let mut command = Command::new("valgrind");
        let _ = command
            .arg("--tool=callgrind")
            .arg(format!("--callgrind-out-file={}", profile.display()))
            .arg(env!("CARGO_BIN_EXE_vault"))
            .args(["--quiet", "--key-file"])
            .arg(self.path("key"))
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("RAYON_NUM_THREADS", "1")
            .env("VAULT_REPO", self.path("repository"))
            .current_dir(self.home.path());
        for name in ["DATA", "CONFIG", "CACHE", "STATE"] {
            let folder = self.path(&name.to_lowercase());
            let _ = command.env(format!("XDG_{name}_HOME"), folder.join("of-vault"));
        }
        let output = command.output().expect("valgrind runs; tests/run.sh installs it");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {}: {said}", output.status);
        total_of(&profile)
    }
}

/// The total in what callgrind wrote.
fn total_of(profile: &Path) -> u64 {
    let text = std::fs::read_to_string(profile).expect("callgrind wrote it");
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    total.expect("a total").trim().parse().expect("a number")
}

fn count_all() -> Counts {
    let host = Host::new();
    let mut counts = Counts { tools: Tools::present(), verbs: Vec::new() };
    for (name, arguments) in
        [("backup", &["backup", "./data"][..]), ("check", &["check", "--read-data"])]
    {
        counts.verbs.push((name.to_owned(), host.count(arguments)));
    }
    counts
}

#[test]
fn a_fixed_backup_takes_the_instructions_that_are_written_down() {
    if !counts::has_avx2() {
        // There is no figure for the paths that such a processor takes.
        return;
    }
    let (written, now) = (Counts::read(), count_all());
    let verdicts = written.compare(&now);
    assert!(verdicts.is_ok(), "{}", verdicts.unwrap_err());
}

#[test]
#[ignore = "writes tests/instructions/counts.txt anew"]
fn write_the_counts() {
    assert!(counts::has_avx2(), "this processor takes other paths than the figures are for");
    count_all().write();
}
