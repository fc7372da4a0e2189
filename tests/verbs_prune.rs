//! `prune`: its plan, its report, its exit codes.

use serde_json::Value;

use crate::support::program::{Ended, Program};

/// A repository of the program's own with two snapshots of one directory, half of which changed.
struct Bench {
    home: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { home: tempfile::tempdir().expect("a directory") };
        bench.write("same", 1);
        bench.write("other", 2);
        std::fs::write(bench.home.path().join("key"), "a password\n").expect("written");
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(bench.home.path().join("key"), private).expect("made private");
        let _ = bench.run(&["init"]).expect(0);
        let _ = bench.backup().expect(0);
        bench.write("other", 3);
        let _ = bench.backup().expect(0);
        bench
    }

    fn write(&self, name: &str, seed: u64) {
        let source = self.home.path().join("source");
        std::fs::create_dir_all(&source).expect("made");
        let bytes = crate::support::repository::noise(seed, 600_000);
        std::fs::write(source.join(name), bytes).expect("written");
    }

    fn backup(&self) -> Ended {
        self.run(&["backup", &format!("dir:{}", self.home.path().join("source").display())])
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        let (home, repository) = (self.home.path(), self.home.path().join("repository"));
        let key = home.join("key");
        let places = [repository.display().to_string(), key.display().to_string()];
        let global = ["-r", &places[0], "--password-file", &places[1]];
        Program::at(home).run(&[&global[..], arguments].concat())
    }

    fn stored(&self) -> Vec<std::path::PathBuf> {
        crate::support::repo::files_below(&self.home.path().join("repository"))
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

#[test]
fn prune_without_anything_forgotten_frees_nothing_and_says_so() {
    let bench = Bench::new();
    let before = bench.stored();
    let report = bench.run(&["prune", "--json"]).expect(0).json();
    assert_eq!((number(&report["freed_bytes"]), number(&report["freed_later_bytes"])), (0, 0));
    assert_eq!(report["dry_run"], false);
    assert_eq!(number(&report["plan"]["snapshots"]), 2);
    assert_eq!(report["plan"]["grace_seconds"], 0, "nobody else writes here");
    assert_eq!(bench.stored(), before);
    let told = bench.run(&["prune"]).expect(0);
    assert!(told.stdout.contains("freed 0 B"), "{}", told.stdout);
}

#[test]
fn prune_gives_up_unfinished_backups_and_a_dry_run_only_tells() {
    let bench = Bench::new();
    // As a backup that was killed before its commit leaves it.
    let is_ok = |path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "ok");
    let oks: Vec<_> = bench.stored().into_iter().filter(is_ok).collect();
    assert_eq!(oks.len(), 2);
    for ok in &oks {
        std::fs::remove_file(bench.home.path().join("repository").join(ok)).expect("removed");
    }
    // The host that made them would take it for a rollback.
    std::fs::remove_dir_all(bench.home.path().join("STATE")).expect("removed");
    let before = bench.stored();
    let flags = ["prune", "--grace", "0s", "--expire-pending", "0s"];
    let plan = bench.run(&[&flags[..], &["--dry-run", "--json"]].concat()).expect(0).json();
    assert_eq!((plan["dry_run"].clone(), number(&plan["unfinished_expired"])), (true.into(), 2));
    assert!(number(&plan["free"]["bytes"]) > 1_700_000, "{plan}");
    assert_eq!(plan["freed_now_bytes"], plan["free"]["bytes"]);
    let told = bench.run(&[&flags[..], &["--dry-run"]].concat()).expect(0).stdout;
    for word in ["needed by nothing", "freed now", "requests"] {
        assert!(told.contains(word), "{told}");
    }
    assert_eq!(bench.stored(), before, "nothing was done");
    let report = bench.run(&[&flags[..], &["--json"]].concat()).expect(0).json();
    assert_eq!(report["packs_deleted"], plan["free"]);
    assert_eq!(number(&report["unfinished_expired"]), 2);
    let left = bench.stored();
    assert!(!left.iter().any(|path| path.starts_with("packs") || path.starts_with("index")));
    let _ = bench.run(&["check", "--read-data"]).expect(0);
    let _ = bench.backup().expect(0);
}

#[test]
fn prune_with_a_grace_says_what_is_freed_when() {
    let bench = Bench::new();
    let is_ok = |path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "ok");
    for ok in bench.stored().into_iter().filter(is_ok) {
        std::fs::remove_file(bench.home.path().join("repository").join(ok)).expect("removed");
    }
    std::fs::remove_dir_all(bench.home.path().join("STATE")).expect("removed");
    let flags = ["prune", "--grace", "2h", "--expire-pending", "0s", "--json"];
    let report = bench.run(&flags).expect(0).json();
    assert_eq!(
        (number(&report["freed_bytes"]), report["plan"]["grace_seconds"].clone()),
        (0, 7200.into())
    );
    assert!(number(&report["freed_later_bytes"]) > 1_700_000, "{report}");
    assert!(report["freed_later_from"].is_string());
    let told = bench.run(&["prune", "--grace", "2h"]).expect(0).stdout;
    assert!(told.contains("condemned: `vault prune` frees them from"), "{told}");
}

#[test]
fn prune_of_a_damaged_repository_refuses_and_names_the_object() {
    let bench = Bench::new();
    let segment = bench.stored().into_iter().find(|path| path.starts_with("index")).expect("one");
    let path = bench.home.path().join("repository").join(&segment);
    let mut bytes = std::fs::read(&path).expect("read");
    bytes[100] ^= 1;
    std::fs::write(&path, bytes).expect("written");
    let before = bench.stored();
    let report = bench.run(&["prune", "--json"]).expect(13).json();
    assert_eq!(report["error"]["kind"], "damaged");
    assert_eq!(report["error"]["object"], segment.display().to_string());
    assert_eq!(bench.stored(), before);
    let told = bench.run(&["prune"]).expect(13).stderr;
    assert!(told.contains("nothing is deleted while `index/"), "{told}");
}

#[test]
fn prune_refuses_amounts_that_are_none() {
    let bench = Bench::new();
    for flags in [["--max-unused", "200%"], ["--max-repack", "much"], ["--grace", "soon"]] {
        let _ = bench.run(&[&["prune"], &flags[..]].concat()).expect(2);
    }
}
