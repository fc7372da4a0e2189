//! Keys come and go, and at no point is the last way in lost.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::program::Program;

/// A default repository that a key file in its usual place opens.
fn with_key_file() -> tempfile::TempDir {
    let home = tempfile::tempdir().expect("a directory");
    let _ = Program::at(home.path()).run(&["init"]).expect(0);
    home
}

fn secret_file(home: &Path, name: &str, content: &str) -> String {
    let path = home.join(name);
    std::fs::write(&path, content).expect("written");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&path, private).expect("made private");
    path.display().to_string()
}

fn slots(program: &Program<'_>) -> Vec<Value> {
    let listed = program.run(&["key", "list", "--json"]).expect(0).json();
    listed["keys"].as_array().expect("an array").clone()
}

fn key_files(home: &Path) -> Vec<PathBuf> {
    let folder = std::fs::read_dir(home.join("CONFIG/vault/keys")).expect("listed");
    folder.map(|entry| entry.expect("listed").path()).collect()
}

#[test]
fn a_password_is_added_tested_and_removed() {
    let home = with_key_file();
    let program = Program::at(home.path());
    let file = secret_file(home.path(), "p", "hunter2\n");
    let arguments = ["key", "add", "--new-password-file", &file, "--name", "ops", "--json"];
    let added = program.run(&arguments).expect(0).json();
    let slot = added["slot"].as_str().expect("text").to_owned();
    let tested = program.run(&["key", "test", "--password-file", &file, "--json"]).expect(0);
    assert_eq!((&tested.json()["slot"], &tested.json()["name"]), (&added["slot"], &"ops".into()));
    let tested = program.run(&["key", "test"]).expect(0);
    assert!(tested.stdout.starts_with("the key file opens key slot "), "{}", tested.stdout);

    let refused = program.run(&["key", "remove", &slot[..8]]).expect(14);
    assert!(refused.stderr.contains("--yes"), "{}", refused.stderr);
    let _ = program.run(&["key", "remove", &slot[..8], "--dry-run"]).expect(0);
    assert_eq!(slots(&program).len(), 2);
    let _ = program.run(&["key", "remove", &slot[..8], "--yes"]).expect(0);
    let _ = program.run(&["key", "test", "--password-file", &file]).expect(12);
    assert_eq!(slots(&program).len(), 1);
}

#[test]
fn the_last_key_is_never_removed_and_a_wrong_prefix_is_told() {
    let home = with_key_file();
    let program = Program::at(home.path());
    let slot = slots(&program)[0]["slot"].as_str().expect("text").to_owned();
    let _ = program.run(&["key", "remove", &slot, "--yes"]).expect(14);
    let _ = program.run(&["key", "remove", "zz", "--yes"]).expect(15);
    let _ = program.run(&["key", "test"]).expect(0);
}

#[test]
fn a_key_file_is_replaced_by_another_in_its_usual_place() {
    let home = with_key_file();
    let program = Program::at(home.path());
    let before = slots(&program);
    let changed = program.run(&["key", "passwd", "--json"]).expect(0).json();
    assert_eq!(changed["removed"], before[0]["slot"]);
    let after = slots(&program);
    assert_eq!((after.len(), &after[0]["slot"]), (1, &changed["slot"]));
    assert_eq!(after[0]["name"], before[0]["name"]);
    let _ = program.run(&["key", "test"]).expect(0);
    // The old file is kept: an old copy of the repository opens with nothing else.
    let replaced: Vec<_> = key_files(home.path())
        .into_iter()
        .filter(|path| path.extension().is_none_or(|extension| extension != "key"))
        .collect();
    assert_eq!(replaced.len(), 1, "{replaced:?}");
    let old = replaced[0].display().to_string();
    let _ = program.run(&["key", "test", "--key-file", &old]).expect(12);
}

#[test]
fn a_password_that_replaces_a_key_file_is_not_stopped_by_that_file() {
    let home = with_key_file();
    let program = Program::at(home.path());
    let file = secret_file(home.path(), "p", "hunter2\n");
    let _ = program.run(&["key", "passwd", "--new-password-file", &file]).expect(0);
    let mut other = Program::at(home.path());
    other.variables.push(("VAULT_PASSWORD", "hunter2".to_owned()));
    let _ = other.run(&["key", "test"]).expect(0);
    // With nothing named and nobody to ask, it is the password that is missed.
    let missed = program.run(&["key", "test"]).expect(12);
    assert!(missed.stderr.contains("no password or key"), "{}", missed.stderr);
}

#[test]
fn a_recovery_code_brings_back_who_lost_everything_else() {
    let home = with_key_file();
    let program = Program::at(home.path());
    let made = program.run(&["key", "recovery"]).expect(0);
    let words = made.stdout.trim().to_owned();
    assert_eq!(words.split('-').count(), 12, "{words}");
    for path in key_files(home.path()) {
        std::fs::remove_file(path).expect("removed");
    }
    let _ = program.run(&["key", "test"]).expect(12);
    let typed = words.to_uppercase().replace('-', " ");
    let _ = program.run_with(&["key", "test", "--recovery"], typed.as_bytes()).expect(0);
    let added = program.run_with(&["key", "passwd", "--recovery"], typed.as_bytes()).expect(0);
    assert!(added.stderr.contains("stays good"), "{}", added.stderr);
    let _ = program.run(&["key", "test"]).expect(0);
    let _ = program.run_with(&["key", "test", "--recovery"], words.as_bytes()).expect(0);
    assert_eq!(slots(&program).len(), 3);
}

#[test]
fn slips_in_a_recovery_code_are_told_by_their_word() {
    let home = with_key_file();
    let program = Program::at(home.path());
    let made = program.run(&["key", "recovery", "--json"]).expect(0).json();
    let words = made["recovery_code"].as_str().expect("text");
    let test = |input: &str| program.run_with(&["key", "test", "--recovery"], input.as_bytes());
    let misspelt = words.replacen(&words[6..11], "quail", 1);
    let told = test(&misspelt).expect(2);
    assert!(told.stderr.contains("word 2"), "{}", told.stderr);
    assert!(test("lusab").expect(2).stderr.contains("12 words"));
    let _ = test("").expect(2);
    // A good code of another repository opens nothing.
    let other = with_key_file();
    let made = Program::at(other.path()).run(&["key", "recovery", "--json"]).expect(0).json();
    let _ = test(made["recovery_code"].as_str().expect("text")).expect(12);
}

#[test]
fn a_damaged_slot_hinders_no_other_and_can_be_removed() {
    let home = with_key_file();
    let program = Program::at(home.path());
    let file = secret_file(home.path(), "p", "hunter2\n");
    let added = program.run(&["key", "add", "--new-password-file", &file, "--json"]).expect(0);
    let slot = added.json()["slot"].as_str().expect("text").to_owned();
    let path = home.path().join("DATA/vault/repository/keys").join(&slot);
    std::fs::write(&path, b"VVLT").expect("written");
    let _ = program.run(&["key", "test"]).expect(0);
    let listed = slots(&program);
    let damaged = listed.iter().find(|key| key["slot"] == slot.as_str()).expect("listed");
    assert!(damaged["damaged"].is_string() && damaged["kind"].is_null(), "{damaged}");
    let found = program.run(&["check", "--json"]).expect(13).json();
    assert_eq!(found["damage"][0]["object"], format!("keys/{slot}"));
    let sound = listed.iter().find(|key| key["slot"] != slot.as_str()).expect("listed");
    let sound = sound["slot"].as_str().expect("text");
    let _ = program.run(&["key", "remove", sound, "--yes"]).expect(14);
    let _ = program.run(&["key", "remove", &slot, "--yes"]).expect(0);
    let _ = program.run(&["check"]).expect(0);
}

#[test]
fn a_second_key_file_is_made_where_it_is_wanted_and_never_over_one_in_use() {
    let home = with_key_file();
    let program = Program::at(home.path());
    let refused = program.run(&["key", "add"]).expect(14);
    assert!(refused.stderr.contains("--new-key-file"), "{}", refused.stderr);
    let _ = program.run(&["key", "add", "--new-key-file", "second.key"]).expect(0);
    let second = home.path().join("second.key").display().to_string();
    let _ = program.run(&["key", "test", "--key-file", &second]).expect(0);
    // There now, it is used and not made again.
    let content = std::fs::read(&second).expect("read");
    let _ = program.run(&["key", "add", "--new-key-file", "second.key"]).expect(0);
    assert_eq!(std::fs::read(&second).expect("read"), content);
}
