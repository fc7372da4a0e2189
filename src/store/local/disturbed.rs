//! A local store whose system calls fail: each test runs [`child`] in a process of its own under
//! strace, which makes chosen calls fail and writes all of them down.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::Ordering;

use tempfile::TempDir;

use super::LocalStore;
use crate::crypto::Payload;
use crate::store::{ObjectName, Store as _, StoreError};

const TRACED: &str =
    "trace=openat,mkdirat,write,writev,pread64,fsync,fdatasync,linkat,renameat,renameat2,unlinkat";

fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).expect("a good name")
}

fn payload() -> Payload {
    Payload::public(vec![7; 10_000])
}

/// Not a test by itself: does what the file `scenario` says and writes down how it went.
#[test]
#[ignore = "is run under strace by the tests of this file"]
fn child() {
    let Ok(scenario) = fs::read_to_string("scenario") else { return };
    // strace counts calls by thread: this one has made none yet.
    let thread = std::thread::spawn(move || {
        let store = LocalStore::open(Path::new("store")).expect("opens");
        match scenario.as_str() {
            "put" => store.put(&name("object"), &payload()),
            "put below" => store.put(&name("packs/0a/object"), &payload()),
            "put named" => {
                store.unnamed.store(false, Ordering::Relaxed);
                store.put(&name("object"), &payload())
            }
            "get" => store.get(&name("object"), 10_000).map(|bytes| {
                assert_eq!(bytes, payload().to_vec());
            }),
            "get range" => {
                let mut buffer = [0; 100];
                store.get_range(&name("object"), 50, &mut buffer).map(|()| {
                    assert_eq!(buffer, [7; 100]);
                })
            }
            "get many ranges" => (0..60)
                .try_for_each(|n| store.get_range(&name(&format!("o/{n}")), 0, &mut [0; 1]))
                .and_then(|()| store.put(&name("o/new"), &payload()))
                .and_then(|()| store.list("o").map(|listed| assert_eq!(listed.len(), 61))),
            other => unreachable!("no scenario `{other}`"),
        }
    });
    let outcome = match thread.join().expect("the scenario does not panic") {
        Ok(()) => "ok".to_owned(),
        Err(StoreError::Io { action, source, .. }) => format!("{action}: {}", source.kind()),
        Err(other) => format!("{other:?}"),
    };
    fs::write("outcome", outcome).expect("writes");
}

/// What a child did.
struct Run {
    dir: TempDir,
    outcome: String,
    /// One system call a line, from the opening of the store on.
    calls: Vec<String>,
}

impl Run {
    /// How many calls were made to fail.
    fn injected(&self) -> usize {
        self.calls.iter().filter(|call| call.contains("(INJECTED)")).count()
    }

    /// How often `call` was made.
    fn count(&self, call: &str) -> usize {
        self.calls.iter().filter(|line| line.contains(&format!(" {call}("))).count()
    }

    /// Names of all files below the store, and whether the object is whole.
    fn stored(&self) -> Vec<(String, bool)> {
        let entries = fs::read_dir(self.dir.path().join("store")).expect("is listed");
        let files = entries.map(|entry| {
            let path = entry.expect("is listed").path();
            let whole = fs::read(&path).is_ok_and(|bytes| bytes == payload().to_vec());
            (path.file_name().expect("has a name").to_string_lossy().into_owned(), whole)
        });
        files.collect()
    }
}

fn prepare(scenario: &str) -> (TempDir, LocalStore) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::write(dir.path().join("scenario"), scenario).expect("writes");
    let store = LocalStore::create(&dir.path().join("store")).expect("is made");
    (dir, store)
}

fn start(dir: &TempDir, mut command: Command) -> Output {
    let exe = std::env::current_exe().expect("tests are a program");
    let command = command.arg(exe).args(["store::local::disturbed::child", "--exact", "--ignored"]);
    command.current_dir(dir.path()).output().expect("strace is installed")
}

fn run(dir: TempDir, command: Command) -> Run {
    let output = start(&dir, command);
    assert!(output.status.success(), "{output:?}");
    let outcome = fs::read_to_string(dir.path().join("outcome")).expect("the child wrote it");
    let log = fs::read_to_string(dir.path().join("log")).unwrap_or_default();
    let opened = |line: &&str| !line.contains(">, \"store\", O_RDONLY");
    let calls = log.lines().skip_while(opened).map(str::to_owned).collect();
    Run { dir, outcome, calls }
}

/// Runs a scenario while strace makes calls fail.
fn disturbed(scenario: &str, injections: &[&str]) -> Run {
    let (dir, store) = prepare(scenario);
    let mut strace = Command::new("strace");
    let _ = strace.args(["-f", "-y", "-o", "log", "-e", TRACED]);
    if scenario.starts_with("get") {
        store.put(&name("object"), &payload()).expect("puts");
        // The loader of the program reads with the same call: only these two files.
        let object = dir.path().join("store/object");
        let _ = strace.args(["-P", "store", "-P"]).arg(object);
    }
    for injection in injections {
        let _ = strace.args(["-e", &format!("inject={injection}")]);
    }
    run(dir, strace)
}

fn whole() -> Vec<(String, bool)> {
    vec![("object".to_owned(), true)]
}

#[test]
fn a_put_syncs_the_bytes_then_names_them_then_syncs_the_folder() {
    let run = disturbed("put below", &[]);
    assert_eq!(run.outcome, "ok");
    let steps: Vec<_> = run
        .calls
        .iter()
        .filter_map(|line| {
            let call = line.split_once(' ')?.1.trim_start();
            let (call, arguments) = call.split_once('(')?;
            let on = |folder: &str| arguments.contains(&format!("/store{folder}>)"));
            Some(match call {
                "fsync" if on("") => "sync /",
                "fsync" if on("/packs") => "sync packs",
                "fsync" if on("/packs/0a") => "sync packs/0a",
                "openat" | "pread64" | "write" => return None,
                other => other,
            })
        })
        .collect();
    let expected = [
        "mkdirat",
        "sync /",
        "mkdirat",
        "sync packs",
        "writev",
        "fdatasync",
        "linkat",
        "sync packs/0a",
    ];
    assert_eq!(steps, expected, "{:#?}", run.calls);
}

#[test]
fn f_023_a_file_that_cannot_be_synced_is_thrown_away_and_written_once_more() {
    for scenario in ["put", "put named"] {
        let run = disturbed(scenario, &["fdatasync:error=EIO:when=1"]);
        assert_eq!(run.outcome, "ok", "{scenario}");
        assert_eq!(run.injected(), 1, "{scenario}");
        assert_eq!((run.count("writev"), run.count("fdatasync")), (2, 2), "{:#?}", run.calls);
        assert_eq!(run.stored(), whole());

        let run = disturbed(scenario, &["fdatasync:error=EIO"]);
        assert_eq!(run.outcome, "write `object`: uncategorized error", "{scenario}");
        assert_eq!(run.injected(), 2, "{:#?}", run.calls);
        assert!(run.stored().is_empty(), "{:?}", run.stored());
    }
}

#[test]
fn f_023_a_folder_that_cannot_be_synced_gets_a_new_file_under_the_name() {
    for scenario in ["put", "put named"] {
        let run = disturbed(scenario, &["fsync:error=EIO:when=1"]);
        assert_eq!(run.outcome, "ok", "{scenario}");
        assert_eq!(run.injected(), 1, "{scenario}");
        assert_eq!((run.count("writev"), run.count("fsync")), (2, 2), "{:#?}", run.calls);
        assert_eq!(run.stored(), whole());

        let run = disturbed(scenario, &["fsync:error=EIO"]);
        assert_eq!(run.outcome, "write `object`: uncategorized error", "{scenario}");
        assert_eq!(run.injected(), 2, "{:#?}", run.calls);
        assert_eq!(run.stored(), whole(), "may be there, but only whole");
    }
}

#[test]
fn a_new_folder_that_cannot_be_synced_fails_the_put_and_is_removed() {
    let run = disturbed("put below", &["fsync:error=EIO:when=1"]);
    assert_eq!(run.outcome, "write `packs/0a/object`: uncategorized error");
    assert_eq!(run.injected(), 1);
    assert!(run.stored().is_empty(), "{:?}", run.stored());
}

#[test]
fn f_020_a_full_quota_is_no_space_and_is_not_tried_again() {
    for (call, error) in [
        ("writev", "EDQUOT"),
        ("writev", "ENOSPC"),
        ("fdatasync", "EDQUOT"),
        ("fdatasync", "ENOSPC"),
        ("linkat", "ENOSPC"),
    ] {
        let run = disturbed("put", &[&format!("{call}:error={error}:when=1")]);
        assert!(run.outcome.starts_with("NoSpace"), "{call} {error}: {}", run.outcome);
        assert_eq!(run.injected(), 1, "{:#?}", run.calls);
        assert!(run.stored().is_empty(), "{:?}", run.stored());
    }
}

#[test]
fn f_022_a_read_error_is_tried_again_once() {
    for scenario in ["get", "get range"] {
        let run = disturbed(scenario, &["pread64:error=EIO:when=1"]);
        assert_eq!((run.outcome.as_str(), run.injected()), ("ok", 1), "{scenario}");
        let run = disturbed(scenario, &["pread64:error=EIO"]);
        assert_eq!(run.outcome, "read `object`: uncategorized error", "{scenario}");
        assert_eq!(run.injected(), 2, "{:#?}", run.calls);
    }
}

#[test]
fn f_024_interrupted_calls_are_not_noticed() {
    for (scenario, call) in [("put", "writev"), ("get", "pread64"), ("get range", "pread64")] {
        let run = disturbed(scenario, &[&format!("{call}:error=EINTR:when=1..3")]);
        assert_eq!((run.outcome.as_str(), run.injected()), ("ok", 3), "{scenario}");
        assert_eq!(run.stored(), whole());
    }
}

#[test]
fn f_033_a_file_system_without_some_calls_still_stores() {
    for (injections, last) in [
        (&["renameat2:error=EINVAL"][..], "linkat"),
        (&["renameat2:error=EINVAL", "linkat:error=EPERM"][..], "renameat"),
    ] {
        let run = disturbed("put named", injections);
        assert_eq!((run.outcome.as_str(), run.injected()), ("ok", injections.len()));
        assert_eq!(run.count(last), 1, "{:#?}", run.calls);
        assert_eq!(run.stored(), whole());
    }
    // Neither /proc nor linking by descriptor: back to a file with a name.
    let run = disturbed("put", &["linkat:error=ENOENT:when=1..2"]);
    assert_eq!((run.outcome.as_str(), run.injected()), ("ok", 2));
    assert_eq!(run.count("renameat2"), 1, "{:#?}", run.calls);
    assert_eq!(run.stored(), whole());
    // A folder that cannot be synced because the file system knows no such thing.
    let run = disturbed("put", &["fsync:error=EINVAL"]);
    assert_eq!((run.outcome.as_str(), run.injected()), ("ok", 1));
}

#[test]
fn f_003_a_put_killed_at_any_call_leaves_the_whole_object_or_nothing() {
    let mut kills = 0;
    for scenario in ["put below", "put named"] {
        for call in ["mkdirat", "writev", "fdatasync", "linkat", "renameat2", "unlinkat", "fsync"] {
            for when in 1..=3 {
                let (dir, store) = prepare(scenario);
                let mut strace = Command::new("strace");
                let kill = format!("inject={call}:signal=KILL:when={when}");
                let _ = strace.args(["-f", "-o", "log", "-e", TRACED, "-e", &kill]);
                let status = start(&dir, strace).status;
                kills += usize::from(!status.success());

                let object = match scenario {
                    "put below" => name("packs/0a/object"),
                    _ => name("object"),
                };
                for listed in store.list("").expect("lists") {
                    assert_eq!((&listed.name, listed.size), (&object, 10_000), "{kill}");
                }
                store.put(&object, &payload()).expect("the next put needs no repair");
                let bytes = store.get(&object, 10_000).expect("gets");
                assert_eq!(bytes, payload().to_vec(), "{kill}");
            }
        }
    }
    // mkdirat 2, writev, fdatasync, linkat, fsync 3; writev, fdatasync, renameat2, unlinkat, fsync.
    assert_eq!(kills, 13);
}

#[test]
fn f_124_too_few_descriptors_to_keep_objects_open_are_enough() {
    let (dir, store) = prepare("get many ranges");
    for n in 0..60 {
        store.put(&name(&format!("o/{n}")), &payload()).expect("puts");
    }
    let mut shell = Command::new("sh");
    let _ = shell.args(["-c", "ulimit -n 32; exec \"$0\" \"$@\""]);
    assert_eq!(run(dir, shell).outcome, "ok");
}
