//! The program killed at every system call that changes something.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;

use super::met;
use crate::support::machine::{Machine, arg, assert_success, said};
use crate::support::repo::{assert_restores, change_tree, check, copy, list, make_tree, scratch};
use crate::support::tree::describe;

/// What changes a file, a folder or a name, as x86-64 calls it.
const CALLS: [&str; 16] = [
    "mkdir",
    "mkdirat",
    "write",
    "writev",
    "pwrite64",
    "ftruncate",
    "fchmod",
    "fsync",
    "fdatasync",
    "link",
    "linkat",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
];

/// Folders of a repository, and itself. Those of packs have names that nobody knows before.
const FOLDERS: [&str; 8] = ["", "config", "keys", "packs", "index", "snapshots", "forget", "gc"];

/// More calls of a kind than a thread of the program makes here.
const CALLS_MAX: u32 = 500;

/// The same machine again, sharing nothing.
fn copied(machine: &Machine) -> Machine {
    let home = scratch();
    copy(machine.home.path(), home.path());
    let repository = home.path().join("repository");
    Machine { home, repository }
}

fn vault(machine: &Machine, args: &[&str]) -> String {
    let output = machine.vault(args).output().expect("vault runs");
    assert_success(&output);
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

/// Runs a verb once for each call of each kind, killed when a thread makes it, and once more for
/// each that touches a folder of the repository, whichever thread makes that; `judge` looks at what
/// is left. Says how many were killed, by call.
fn kill_everywhere(
    machine: &Machine,
    args: &[&str],
    judge: impl Fn(&Machine),
) -> BTreeMap<&'static str, u32> {
    let mut kills = BTreeMap::new();
    for folder in [None].into_iter().chain(FOLDERS.map(Some)) {
        for call in CALLS {
            let killed = kill_at(machine, args, call, folder, &judge);
            *kills.entry(call).or_default() += killed;
        }
    }
    kills
}

/// As [`kill_everywhere`], for one kind of call and perhaps one folder.
fn kill_at(
    machine: &Machine,
    args: &[&str],
    call: &str,
    folder: Option<&str>,
    judge: impl Fn(&Machine),
) -> u32 {
    for number in 1..=CALLS_MAX {
        let machine = copied(machine);
        let (trace, kill) =
            (format!("trace={call}"), format!("inject={call}:signal=KILL:when={number}"));
        let mut runner = vec!["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &kill];
        let folder = folder.map(|folder| match folder {
            "" => machine.repository.clone(),
            below => machine.repository.join(below),
        });
        if let Some(folder) = &folder {
            runner.extend(["-P", arg(folder)]);
        }
        let output = machine.under(&runner, args).output().expect("strace runs");
        if output.status.signal() != Some(9) {
            assert_success(&output);
            return number - 1;
        }
        judge(&machine);
    }
    panic!("{call} is called too often");
}

#[test]
#[ignore = "minutes; needs strace"]
fn f003_killed_at_every_system_call_that_changes_something_no_verb_loses_anything() {
    let machine = Machine::new();
    let dir = scratch();
    make_tree(dir.path());
    let kept = vault(&machine, &["-q", "backup", arg(dir.path())]).parse().expect("an id");
    let kept_tree = describe(dir.path());
    change_tree(dir.path());
    let given_up = vault(&machine, &["-q", "backup", arg(dir.path())]);
    std::fs::write(dir.path().join("newer"), "newer").expect("written");
    let tree = describe(dir.path());
    let judge = |machine: &Machine| {
        let repo = machine.open();
        assert_restores(&repo, &kept, &kept_tree);
        let _ = check(&repo);
        drop(repo);
        let next = vault(machine, &["-q", "backup", arg(dir.path())]).parse().expect("an id");
        let repo = machine.open();
        assert_restores(&repo, &next, &tree);
        let all = list(&repo).len();
        assert!((2..=4).contains(&all), "{all} are listed");
    };
    let mut told = Vec::new();
    let mut kill = |verb: &str, machine: &Machine, args: &[&str]| {
        let kills = kill_everywhere(machine, args, judge);
        let sum: u32 = kills.values().sum();
        assert!(sum > 10, "{verb}: {kills:?}");
        told.push(format!("{verb} {sum} times"));
    };
    kill("backup", &machine, &["-q", "backup", arg(dir.path())]);
    kill("forget", &machine, &["-q", "forget", &given_up]);
    let _ = vault(&machine, &["-q", "forget", &given_up]);
    kill("prune", &machine, &["-q", "prune", "--grace", "0s", "--max-unused", "0%"]);
    let sum = killed_in_init();
    met(&format!("killed: {}, init {sum} times", told.join(", ")));
}

/// A repository that is being made is there with its key, or `init` is done again.
fn killed_in_init() -> u32 {
    let machine = Machine::new();
    std::fs::remove_dir_all(&machine.repository).expect("removed");
    let dir = scratch();
    std::fs::write(dir.path().join("file"), "content").expect("written");
    let kills = kill_everywhere(&machine, &["-q", "init"], |machine| {
        let again = machine.vault(&["-q", "init"]).output().expect("vault runs");
        let is_there = said(&again).contains("there is a repository");
        assert!(again.status.success() || is_there, "{}", said(&again));
        let _ = vault(machine, &["-q", "backup", arg(dir.path())]);
        let _ = vault(machine, &["-q", "check", "--read-data"]);
    });
    let sum = kills.values().sum();
    assert!(sum > 10, "{kills:?}");
    sum
}
