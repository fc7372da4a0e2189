//! `copy`: two repositories with passwords of their own, its messages, its JSON, its exit codes.

use std::path::PathBuf;

use serde_json::Value;

use crate::support::program::{Ended, Program};
use crate::support::repository::noise;

/// Two repositories, in one of them two snapshots of a directory and one of a stream.
struct Bench {
    home: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { home: tempfile::tempdir().expect("a directory") };
        let private = || std::os::unix::fs::PermissionsExt::from_mode(0o600);
        for name in ["here-key", "there-key", "wrong-key"] {
            std::fs::write(bench.at(name), format!("{name}\n")).expect("written");
            std::fs::set_permissions(bench.at(name), private()).expect("made private");
        }
        std::fs::create_dir(bench.at("source")).expect("made");
        bench.write("same", 1);
        let _ = bench.run(&["init"]).expect(0);
        let _ = bench.there(&["init"]).expect(0);
        let source = bench.source();
        let _ = bench.run(&["backup", &source, "--tag", "first"]).expect(0);
        bench.write("other", 2);
        let _ = bench.run(&["backup", &source]).expect(0);
        let dump = ["backup", "stdin:dump"];
        let _ = bench.program().run_with(&bench.with(&dump, "here"), b"a dump").expect(0);
        bench
    }

    fn at(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.at(name).display().to_string()
    }

    fn source(&self) -> String {
        format!("dir:{}", self.text("source"))
    }

    fn write(&self, name: &str, seed: u64) {
        std::fs::write(self.at("source").join(name), noise(seed, 600_000)).expect("written");
    }

    fn program(&self) -> Program<'_> {
        Program::at(self.home.path())
    }

    fn with<'a>(&self, arguments: &[&'a str], which: &str) -> Vec<&'a str> {
        let leak = |text: String| -> &'static str { text.leak() };
        let global = [
            "-r",
            leak(self.text(which)),
            "--password-file",
            leak(self.text(&format!("{which}-key"))),
        ];
        [&global[..], arguments].concat()
    }

    /// With the repository that is copied from.
    fn run(&self, arguments: &[&str]) -> Ended {
        self.program().run(&self.with(arguments, "here"))
    }

    /// With the repository that is copied to.
    fn there(&self, arguments: &[&str]) -> Ended {
        self.program().run(&self.with(arguments, "there"))
    }

    fn copy(&self, arguments: &[&str]) -> Ended {
        let (to, key) = (self.text("there"), self.text("there-key"));
        let copy = ["copy", "--to-repo", &to, "--to-password-file", &key];
        self.run(&[&copy[..], arguments].concat())
    }
}

fn count(document: &Value, list: &str) -> usize {
    document[list].as_array().expect("a list").len()
}

#[test]
fn what_was_copied_restores_from_the_other_repository_with_its_own_password() {
    let bench = Bench::new();
    let done = bench.copy(&[]).expect(0);
    assert!(done.stdout.contains("3 copied, 0 there already"), "{}", done.stdout);
    assert_eq!(done.stdout.matches("  head ").count(), 3);
    let target = bench.text("target");
    let _ = bench.there(&["restore", &bench.source(), "--target", &target]).expect(0);
    for (name, seed) in [("same", 1), ("other", 2)] {
        let content = std::fs::read(bench.at("target").join(name)).expect("it is back");
        assert!(content == noise(seed, 600_000), "{name}");
    }
    let listed = bench.there(&["snapshots", "--json"]).expect(0).json();
    let original = bench.run(&["snapshots", "--json"]).expect(0).json();
    for (at, snapshot) in original["snapshots"].as_array().expect("a list").iter().enumerate() {
        let copy = &listed["snapshots"][at];
        assert_eq!(copy["copied_from"]["snapshot"], snapshot["id"]);
        assert_eq!(snapshot["copied_from"], Value::Null);
        for field in ["time", "host", "tags", "bytes", "entries", "bytes_stored"] {
            assert_eq!(copy[field], snapshot[field], "{field}");
        }
    }
    let id = listed["snapshots"][0]["id"].as_str().expect("an id");
    let told = bench.there(&["inspect", id]).expect(0);
    assert!(told.stdout.contains("copied      from snapshot"), "{}", told.stdout);
    let _ = bench.there(&["check", "--read-data"]).expect(0);
    let again = bench.copy(&[]).expect(0);
    assert_eq!(again.stdout, "0 copied, 3 there already\n");
}

#[test]
fn only_what_is_asked_for_is_copied_and_a_dry_run_copies_nothing() {
    let bench = Bench::new();
    let plan = bench.copy(&["--tag", "first", "--dry-run"]).expect(0);
    assert!(plan.stdout.starts_with("would copy "), "{}", plan.stdout);
    assert!(plan.stdout.ends_with("1 to be copied, 0 there already\n"), "{}", plan.stdout);
    assert_eq!(count(&bench.there(&["snapshots", "--json"]).expect(0).json(), "snapshots"), 0);
    let done = bench.copy(&["stdin:dump", "--json"]).expect(0).json();
    assert_eq!((count(&done, "copied"), count(&done, "snapshots")), (1, 1));
    assert_eq!(done["copied"][0]["bytes"], 6);
    let plan = bench.copy(&["--dry-run", "--json"]).expect(0).json();
    let fates = plan["snapshots"].as_array().expect("a list").iter();
    let fates: Vec<_> = fates.map(|row| row["fate"].as_str().expect("text")).collect();
    assert_eq!(fates, ["copy", "copy", "there"]);
    assert_eq!(plan["snapshots"][2]["there"], done["copied"][0]["snapshot"]);
    assert_eq!((&plan["dry_run"], count(&plan, "copied")), (&true.into(), 0));
    let ids = bench.copy(&["--tag", "first", "-q"]).expect(0).stdout;
    assert_eq!(ids.trim_end().len(), 64, "{ids}");
    let missing = bench.copy(&["no-such-volume"]).expect(15);
    assert!(missing.stderr.contains("no-such-volume"), "{}", missing.stderr);
    let missing = bench.copy(&["--from", "nowhere"]).expect(15);
    assert!(missing.stderr.contains("no snapshot of host `nowhere`"), "{}", missing.stderr);
}

#[test]
fn what_cannot_be_copied_to_is_named_with_what_to_do() {
    let bench = Bench::new();
    let (here, there) = (bench.text("here"), bench.text("there"));
    let key = |name: &str| bench.text(name);
    let run = |to: &str, rest: &[&str], code: i32, expected: &str| {
        let ended = bench.run(&[&["copy", "--to-repo", to], rest].concat()).expect(code);
        assert!(ended.stderr.contains(expected), "{}", ended.stderr);
    };
    run(&here, &[], 14, "both are the same repository");
    run(&bench.text("nothing"), &[], 10, "make it first: `vault init");
    // The password of one is never tried on the other.
    run(&there, &[], 12, "give --to-password-file");
    run(&there, &["--to-password-file", &key("wrong-key")], 12, "those without `to`");
    run(&there, &["--to-password-file", &key("no-key")], 12, "no-key");
    let _ = bench.run(&["copy"]).expect(2);
    let failed = bench.run(&["copy", "--to-repo", &here, "--json"]).expect(14).json();
    assert_eq!(failed["error"]["kind"], "refused");
    let mut program = bench.program();
    program.variables.push(("VAULT_TO_PASSWORD", "there-key".to_owned()));
    let done = program.run(&bench.with(&["copy", "--to-repo", &there], "here")).expect(0);
    assert!(done.stdout.contains("3 copied"), "{}", done.stdout);
}

#[test]
fn what_was_forgotten_there_is_copied_again_only_if_asked() {
    let bench = Bench::new();
    let done = bench.copy(&["stdin:dump", "--json"]).expect(0).json();
    let copied = done["copied"][0]["snapshot"].as_str().expect("an id").to_owned();
    let _ = bench.there(&["forget", &copied]).expect(0);
    let again = bench.copy(&["stdin:dump"]).expect(0);
    let expected = "0 copied, 0 there already, 1 forgotten there (`--again` copies them)\n";
    assert_eq!(again.stdout, expected);
    let again = bench.copy(&["stdin:dump", "--again"]).expect(0);
    assert!(again.stdout.contains("1 copied"), "{}", again.stdout);
}

#[test]
fn a_damaged_snapshot_is_not_copied_unless_its_damaged_files_are_left_out() {
    let bench = Bench::new();
    // The pack of the first backup, which holds `same`.
    let mut packs: Vec<_> = crate::support::repo::files_below(&bench.at("here/packs"))
        .into_iter()
        .map(|file| bench.at("here/packs").join(file))
        .filter(|file| std::fs::metadata(file).expect("there").len() > 500_000)
        .collect();
    packs.sort_by_key(|file| std::fs::metadata(file).and_then(|m| m.modified()).expect("there"));
    let mut bytes = std::fs::read(&packs[0]).expect("read");
    bytes[1300] ^= 1;
    std::fs::remove_file(&packs[0]).expect("removed");
    std::fs::write(&packs[0], bytes).expect("written");
    let ended = bench.copy(&[]).expect(13);
    assert!(ended.stdout.contains("copied ") && ended.stdout.contains("1 copied"));
    assert!(ended.stderr.contains("is not copied: `same` in "), "{}", ended.stderr);
    assert!(ended.stderr.contains("2 snapshots are not copied"), "{}", ended.stderr);
    assert!(ended.stderr.contains("`--leave-out-damaged`"), "{}", ended.stderr);
    let failed = bench.copy(&["--json"]).expect(13).json();
    assert_eq!((count(&failed, "refused"), &failed["error"]["kind"]), (2, &"damaged".into()));
    assert_eq!(failed["refused"][0]["path"], "same");
    let ended = bench.copy(&["--leave-out-damaged"]).expect(3);
    assert!(ended.stdout.contains("  left out 1: damaged"), "{}", ended.stdout);
    let listed = bench.there(&["snapshots", "--json"]).expect(0).json();
    let partial = listed["snapshots"].as_array().expect("a list").iter();
    assert_eq!(partial.filter(|snapshot| snapshot["partial"] == true).count(), 2);
}
