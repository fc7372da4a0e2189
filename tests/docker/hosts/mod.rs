//! Engines as if on other machines (`tests/parts/host.sh`), reached in every way there is, and
//! Podman's (`tests/parts/podman.sh`).
//!
//! All of them share this machine's file system: that a path exists here proves nothing, and what
//! reads the path of a volume of another host would not even notice.

mod doctor;
mod links;
mod podman;
mod refusals;
mod ways;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use volume_vault::docker::{Engine, Host};

use super::vault::Machine;
use super::{TestVolume, fresh_name, noise};
use crate::support::tree::plan::random_tree;
use crate::support::tree::{self, Aspect};

/// One of the engines that `tests/parts/host.sh` starts.
#[derive(Clone, Copy)]
struct Far(u8);

/// The distribution's engine.
const FAR: Far = Far(2);

/// A current one.
const NEW: Far = Far(3);

/// A setting that `tests/run.sh` makes.
fn setting(name: &str) -> String {
    let found = std::env::vars().find(|(found, _)| found == name);
    found.expect("tests/run.sh sets it; or see `tests/parts/host.sh env`").1
}

impl Far {
    fn setting(self, what: &str) -> String {
        setting(&format!("VAULT_TEST_HOST_{}_{what}", self.0))
    }

    /// The path of its socket on this machine.
    fn socket(self) -> PathBuf {
        self.setting("UNIX").strip_prefix("unix://").expect("a unix socket").into()
    }

    /// The address of its machine.
    fn address(self) -> String {
        let tcp = self.setting("TCP");
        let address = tcp.strip_prefix("tcp://").and_then(|rest| rest.split_once(':'));
        address.expect("an address").0.to_owned()
    }

    fn certificates(self) -> PathBuf {
        self.setting("CERTS").into()
    }

    /// A file of the folder of keys.
    fn key(self, name: &str) -> PathBuf {
        Path::new(&self.setting("KEYS")).join(name)
    }

    /// The engine, not by the way under test.
    fn engine(self) -> Engine {
        Engine::connect(&Host::unix(self.socket())).expect("tests/parts/host.sh has started it")
    }

    /// A machine that logs in to this host with a key, and knows the keys of hosts in a file. It
    /// names no engine. Every `ssh` of it has its folder in its command line.
    fn machine(self, key: &str, known_hosts: &Path) -> Machine {
        let mut machine = Machine::new();
        machine.unset("DOCKER_HOST");
        let (home, bin) = (machine.path("home"), machine.path("bin"));
        fs::create_dir_all(home.join(".ssh")).expect("made");
        fs::create_dir_all(&bin).expect("made");
        let config = home.join(".ssh/config");
        let (address, key) = (self.address(), self.key(key));
        let text = format!(
            "Host far\n  HostName {address}\n  Port 2222\n  User root\nHost {address} far\n  \
             IdentityFile {}\n  IdentitiesOnly yes\n  UserKnownHostsFile {}\n",
            key.display(),
            known_hosts.display()
        );
        fs::write(&config, text).expect("written");
        // the real one asks the system for the home of the account, whatever HOME says
        let ssh = bin.join("ssh");
        let text = format!("#!/bin/sh\nexec /usr/bin/ssh -F {} \"$@\"\n", config.display());
        fs::write(&ssh, text).expect("written");
        fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).expect("set");
        machine.set("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.display()));
        machine
    }

    /// A machine that may log in.
    fn known_machine(self) -> Machine {
        self.machine("id", &self.key("known_hosts"))
    }
}

/// A volume of an engine with a bit of everything.
fn filled_volume(engine: &Engine) -> TestVolume {
    let volume = TestVolume::with(engine, |spec| {
        let _ = spec.labels.insert("mark".into(), spec.name.clone());
    });
    let root = engine.host_path(volume.info()).expect("the engine runs on this machine");
    random_tree(&root, 11, 40);
    fs::create_dir_all(root.join("sub")).expect("made");
    fs::write(root.join("file"), noise(300_000)).expect("written");
    fs::write(root.join("sub/other"), "other").expect("written");
    fs::hard_link(root.join("file"), root.join("sub/linked")).expect("made");
    symlink("../file", root.join("sub/soft")).expect("made");
    chown(root.join("file"), Some(70), Some(71)).expect("root may");
    chown(&root, Some(70), Some(70)).expect("root may");
    fs::set_permissions(root.join("sub"), fs::Permissions::from_mode(0o2750)).expect("set");
    volume
}

/// The volume that a restore has made; it goes with this.
fn made_volume(engine: &Engine, name: &str) -> TestVolume {
    let info = engine.volume(name).expect("it was restored");
    TestVolume { engine: engine.clone(), info }
}

/// That two volumes of engines on this machine hold the same.
#[track_caller]
fn assert_same(left: (&Engine, &TestVolume), right: (&Engine, &TestVolume)) {
    let tree = |(engine, volume): (&Engine, &TestVolume)| {
        tree::describe(&engine.host_path(volume.info()).expect("it runs on this machine"))
    };
    assert_eq!(tree::diff_except(&tree(left), &tree(right), &[Aspect::Holes]), [""; 0]);
}

/// How many processes there are whose command line has `part` in it.
fn processes_with(part: &Path) -> usize {
    let part = part.to_str().expect("text");
    let entries = fs::read_dir("/proc").expect("it lists").flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(part)).count()
}
