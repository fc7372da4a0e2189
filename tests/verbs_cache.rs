//! `vault cache`: what it shows and what it removes.

use crate::support::program::Program;

#[test]
fn the_cache_is_shown_and_emptied_and_nothing_is_lost_by_it() {
    let home = tempfile::tempdir().expect("a directory");
    let program = Program::at(home.path());
    let shown = program.run(&["cache", "--json"]).expect(0).json();
    assert_eq!((&shown["bytes"], &shown["repositories"]), (&0.into(), &serde_json::json!([])));
    let source = home.path().join("source");
    std::fs::create_dir(&source).expect("made");
    std::fs::write(source.join("a"), "content").expect("written");
    let source = format!("dir:{}", source.display());
    let _ = program.run(&["backup", &source]).expect(0);
    let shown = program.run(&["cache", "--json"]).expect(0).json();
    let repository = &shown["repositories"][0];
    let parts = ["index_bytes", "record_bytes", "tree_bytes", "other_bytes"];
    let bytes: u64 = parts.iter().map(|part| repository[part].as_u64().expect("a number")).sum();
    assert!(repository["index_bytes"].as_u64() > Some(0), "{shown}");
    assert!(repository["record_bytes"].as_u64() > Some(0), "{shown}");
    assert_eq!((&shown["bytes"], &repository["bytes"]), (&bytes.into(), &bytes.into()));
    let id = repository["repository"].as_str().expect("text").to_owned();
    let told = program.run(&["cache"]).expect(0).stdout;
    assert!(told.contains(&id[..8]) && told.contains("RECORDS"), "{told}");

    let dry = program.run(&["cache", "clear", "--dry-run", "--json"]).expect(0).json();
    assert_eq!((&dry["freed_bytes"], &dry["dry_run"]), (&bytes.into(), &true.into()));
    assert_eq!(program.run(&["cache", "--json"]).expect(0).json(), shown);
    let told = program.run(&["cache", "clear"]).expect(0).stdout;
    assert!(told.starts_with("freed "), "{told}");
    assert_eq!(program.run(&["cache", "--json"]).expect(0).json()["bytes"], 0);
    let listed = program.run(&["snapshots", "--json"]).expect(0).json();
    assert_eq!(listed["snapshots"].as_array().map(Vec::len), Some(1));
}

#[test]
fn without_a_cache_there_is_none_to_look_at_and_none_is_left() {
    let home = tempfile::tempdir().expect("a directory");
    let program = Program::at(home.path());
    let _ = program.run(&["init"]).expect(0);
    let error = program.run(&["cache", "--no-cache", "--json"]).expect(2).json();
    assert_eq!(error["error"]["kind"], "usage");
    let other = home.path().join("elsewhere");
    let other = other.to_str().expect("text");
    let _ = program.run(&["snapshots", "--no-cache"]).expect(0);
    assert_eq!(program.run(&["cache", "--json"]).expect(0).json()["bytes"], 0);
    let _ = program.run(&["snapshots", "--cache-dir", other]).expect(0);
    assert_eq!(program.run(&["cache", "--json"]).expect(0).json()["bytes"], 0);
    let there = program.run(&["cache", "--cache-dir", other, "--json"]).expect(0).json();
    assert!(there["bytes"].as_u64() > Some(0), "{there}");
}
