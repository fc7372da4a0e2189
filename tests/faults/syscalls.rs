//! System calls that fail under the program, by strace, and a disk that turns read-only.

use std::io::Write as _;
use std::path::Path;
use std::process::{Output, Stdio};

use crate::support::machine::{Machine, arg, assert_success, feed, said, wait_until};
use crate::support::mount::Tmpfs;
use crate::support::repo::{assert_restores, check, list, make_tree, noise, scratch};
use crate::support::tree::{Tree, describe};

/// Runs `vault` under strace with these expressions and paths; gives its end and strace's log.
fn traced(machine: &Machine, strace: &[&str], args: &[&str]) -> (Output, String) {
    let log = machine.path("strace.log");
    let mut runner = vec!["strace", "-f", "-qq", "-y", "-o", arg(&log)];
    runner.extend(strace);
    let output = machine.under(&runner, args).output().expect("strace runs");
    let log = std::fs::read(&log).expect("a log");
    (output, String::from_utf8_lossy(&log).into_owned())
}

fn plain_tree() -> (tempfile::TempDir, Tree) {
    let dir = scratch();
    make_tree(dir.path());
    let tree = describe(dir.path());
    (dir, tree)
}

/// The next plain backup succeeds and restores. Attributes that only a volume's restore brings back
/// are compared, too.
fn assert_goes_on(machine: &Machine, dir: &Path, tree: &Tree) {
    let output = machine.vault(&["-q", "backup", arg(dir)]).output().expect("vault runs");
    assert_success(&output);
    let id = String::from_utf8(output.stdout).expect("text").trim().parse().expect("an id");
    let repo = machine.open();
    assert_restores(&repo, &id, tree);
    assert!(check(&repo) > 0);
}

#[test]
fn f021_a_file_that_cannot_be_read_is_named_and_all_others_are_saved() {
    let machine = Machine::new();
    let (dir, tree) = plain_tree();
    let bad = dir.path().join("bad");
    std::fs::write(&bad, noise(5, 3 << 20)).expect("written");
    for when in ["1", "2", "3+"] {
        let inject = format!("inject=pread64:error=EIO:when={when}");
        let strace = ["-P", arg(&bad), "-e", "trace=pread64", "-e", &inject];
        let (output, log) = traced(&machine, &strace, &["--json", "backup", arg(dir.path())]);
        assert!(log.contains("EIO (Input/output error) (INJECTED)"), "{log}");
        assert_eq!(output.status.code(), Some(3), "{}", said(&output));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let report = &report["backups"][0];
        assert_eq!(report["warnings"][0]["object"], "bad");
        assert_eq!(report["warnings"][0]["skipped"], true);
        assert!(said(&output).contains("bad"), "{}", said(&output));
        let id = report["snapshot"].as_str().expect("text").parse().expect("an id");
        assert_restores(&machine.open(), &id, &without_root_times(&tree, dir.path()));
    }
    assert!(check(&machine.open()) > 0);
    assert_goes_on(&machine, dir.path(), &describe(dir.path()));
}

/// The tree without the bad file, whose making has moved the time of the root.
fn without_root_times(tree: &Tree, dir: &Path) -> Tree {
    let mut tree = tree.clone();
    let now = describe(dir);
    let _ = tree.insert(Vec::new(), now[&Vec::new()].clone());
    tree
}

/// Runs `vault` while one file of the repository cannot be read, as a disk says of a bad sector.
fn unread(machine: &Machine, file: &Path, args: &[&str]) -> Output {
    let strace = ["-P", arg(file), "-e", "trace=pread64", "-e", "inject=pread64:error=EIO"];
    traced(machine, &strace, args).0
}

/// A file of a folder of the repository.
fn file_in(machine: &Machine, folder: &str, is_it: impl Fn(&str) -> bool) -> std::path::PathBuf {
    let folder = machine.repository.join(folder);
    let files = crate::support::repo::files_below(&folder);
    let found = files.iter().find(|file| is_it(file.to_str().expect("text")));
    folder.join(found.expect("there is one"))
}

#[test]
fn f022_a_segment_that_cannot_be_read_is_stood_for_after_a_repair_and_then_goes() {
    let machine = Machine::new();
    let (dir, tree) = plain_tree();
    assert_goes_on(&machine, dir.path(), &tree);
    let bad = file_in(&machine, "index", |_| true);
    let prune = ["-q", "prune", "--grace", "0s"];
    let refused = unread(&machine, &bad, &prune);
    assert_eq!(refused.status.code(), Some(13), "{}", said(&refused));
    assert!(said(&refused).contains("vault repair index"), "{}", said(&refused));
    assert_success(&unread(&machine, &bad, &["-q", "repair", "index"]));
    assert_success(&unread(&machine, &bad, &["-q", "check", "--read-data"]));
    assert_success(&unread(&machine, &bad, &prune));
    assert!(!bad.exists(), "nobody needs it any more");
    assert_goes_on(&machine, dir.path(), &tree);
}

#[test]
fn f022_a_record_that_cannot_be_read_is_named_and_can_be_given_up() {
    let machine = Machine::new();
    let (dir, tree) = plain_tree();
    assert_goes_on(&machine, dir.path(), &tree);
    let bad = file_in(&machine, "snapshots", |name| name.ends_with(".pending"));
    std::fs::write(dir.path().join("new"), "new").expect("written");
    let tree = {
        drop(tree);
        describe(dir.path())
    };
    assert_goes_on(&machine, dir.path(), &tree);
    let prune = ["-q", "prune", "--grace", "0s"];
    let refused = unread(&machine, &bad, &prune);
    assert_eq!(refused.status.code(), Some(13), "{}", said(&refused));
    assert!(said(&refused).contains("vault repair snapshots"), "{}", said(&refused));
    let listed = unread(&machine, &bad, &["--no-cache", "snapshots"]);
    assert_eq!(listed.status.code(), Some(13), "{}", said(&listed));
    let lines = String::from_utf8_lossy(&listed.stdout).lines().count();
    assert!(lines > 1, "the other is listed: {}", String::from_utf8_lossy(&listed.stdout));
    let repaired = unread(&machine, &bad, &["repair", "snapshots", "--forget", "--yes"]);
    assert_success(&repaired);
    assert_success(&unread(&machine, &bad, &prune));
    assert_goes_on(&machine, dir.path(), &tree);
}

#[test]
fn f023_no_backup_is_acknowledged_whose_data_could_not_be_synced() {
    let machine = Machine::new();
    let (dir, tree) = plain_tree();
    let (output, log) =
        traced(&machine, &["-e", "trace=fsync,fdatasync"], &["-q", "backup", arg(dir.path())]);
    assert_success(&output);
    let calls = log.lines().filter(|line| line.contains("sync(")).count();
    assert!(calls > 8, "{log}");
    let before = list(&machine.open()).len();
    // Every sync fails.
    std::fs::write(dir.path().join("none"), noise(6, 100_000)).expect("written");
    let all = ["-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO"];
    let (output, log) = traced(&machine, &all, &["-q", "backup", arg(dir.path())]);
    assert!(log.contains("(INJECTED)"));
    assert_eq!(output.status.code(), Some(16), "{}", said(&output));
    assert!(output.stdout.is_empty());
    assert_eq!(list(&machine.open()).len(), before);
    machine.assert_tidy();
    let tree = {
        drop(tree);
        describe(dir.path())
    };
    assert_goes_on(&machine, dir.path(), &tree);
}

#[test]
fn f023_a_file_whose_sync_failed_is_never_synced_again_but_written_anew() {
    let (dir, tree) = plain_tree();
    let mut acked = 0;
    // Numbers count by thread: each of them meets a failure.
    for (call, number) in [("fdatasync", 1), ("fdatasync", 2), ("fsync", 1), ("fsync", 3)] {
        let machine = Machine::new();
        let inject = format!("inject={call}:error=EIO:when={number}");
        let strace = ["-e", "trace=fsync,fdatasync,openat,linkat", "-e", &inject];
        let (output, log) = traced(&machine, &strace, &["-q", "backup", arg(dir.path())]);
        let lines: Vec<&str> = log.lines().collect();
        let failed = lines.iter().position(|line| line.contains("(INJECTED)"));
        let failed = failed.expect("a sync failed");
        if output.status.success() {
            acked += 1;
            // Until its number is given to another file, nothing syncs the one that failed.
            let file = descriptor(&lines[..=failed]);
            for line in &lines[failed + 1..] {
                if line.contains(&format!("= {file}<")) {
                    break;
                }
                assert!(!line.contains(&format!("sync({file}<")), "{file}: {line}");
            }
        } else {
            assert_eq!(list(&machine.open()).len(), 0, "{}", said(&output));
        }
        assert_goes_on(&machine, dir.path(), &tree);
    }
    assert!(acked >= 2, "{acked} acknowledged");
}

/// The descriptor of the sync that the last of these lines ends, whose start may stand before it.
fn descriptor(lines: &[&str]) -> String {
    let thread = lines.last().and_then(|line| line.split(' ').next()).expect("a thread");
    let mut starts = lines.iter().rev().filter(|line| line.starts_with(thread));
    let start = starts.find_map(|line| line.split_once("sync(")).expect("a start").1;
    start.split('<').next().expect("a number").to_owned()
}

#[test]
fn f024_calls_interrupted_by_signals_are_made_again_and_nobody_sees_it() {
    let machine = Machine::new();
    let (dir, tree) = plain_tree();
    // The first reads of a thread may be those of the loader, which does not try again.
    let read = "inject=pread64:error=EINTR:when=12+3";
    let write = "inject=write,writev,pwrite64,fdatasync:error=EINTR:when=1+3";
    let trace = "trace=pread64,write,writev,pwrite64,fdatasync";
    let strace = ["-e", trace, "-e", read, "-e", write];
    let (output, log) = traced(&machine, &strace, &["-q", "backup", arg(dir.path())]);
    let hits = |log: &str, call: &str| {
        log.lines().filter(|line| line.contains(call) && line.contains("EINTR")).count()
    };
    assert!(hits(&log, "writev(") > 1 && hits(&log, "EINTR") > 3, "{log}");
    assert_success(&output);
    let id = String::from_utf8(output.stdout).expect("text");
    assert_restores(&machine.open(), &id.trim().parse().expect("an id"), &tree);
    let target = machine.path("target");
    let args = ["restore", id.trim(), "--target", arg(&target)];
    let (output, log) = traced(&machine, &strace, &args);
    assert!(hits(&log, "pwrite64(") > 5);
    assert!([Some(0), Some(3)].contains(&output.status.code()), "{}", said(&output));
    assert_eq!(
        std::fs::read(target.join("big")).expect("reads"),
        std::fs::read(dir.path().join("big")).expect("reads")
    );
}

#[test]
fn f025_a_repository_that_turns_read_only_fails_the_backup_and_no_more() {
    let mut machine = Machine::new();
    let (dir, tree) = plain_tree();
    let disk = Tmpfs::new("size=128m");
    let made = machine.repository.clone();
    crate::support::repo::copy(&made, &disk.join("r"));
    machine.repository = disk.join("r");
    let args = ["--memory", "64MiB", "--no-progress", "backup", "stdin:stream"];
    let mut child = machine.vault(&args).stdin(Stdio::piped()).spawn().expect("vault runs");
    let pipe = feed(&mut child, 10 << 20, true).join().expect("fed");
    wait_until("a pack is stored", || machine.packs() > 0);
    wait_until("nothing is open for writing", || disk.remount("ro"));
    let mut pipe = pipe.expect("held");
    for seed in 1000..1100 {
        if pipe.write_all(&noise(seed, 1 << 18)).is_err() {
            break;
        }
    }
    drop(pipe);
    let output = child.wait_with_output().expect("ended");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("refuses to write"), "{}", said(&output));
    assert_eq!(list(&machine.open()).len(), 0);
    assert!(disk.remount("rw"));
    machine.assert_tidy();
    assert_goes_on(&machine, dir.path(), &tree);
}
