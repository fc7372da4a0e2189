//! Memory has a ceiling, whatever there is to be saved.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use super::noise;
use super::program::Program;

/// Beside what `--memory` limits: the program, the index, names, buffers of the stages, and before
/// any data is on its way the 64 MiB of the passphrase.
const BESIDE_MEMORY: u64 = 96 << 20;

/// So many files of 32 MiB that compress to about half, and 32 MiB of small ones.
fn make_data(dir: &Path, large: u8) {
    let noise = noise(3, 4 << 20);
    let mut at = 0;
    for number in 0..large {
        let mut file = fs::File::create(dir.join(format!("large-{number}"))).expect("made");
        for _ in 0..1024 {
            // Unlike all before it, and a half that compresses.
            let block = &noise[at..at + 16_384];
            file.write_all(block).expect("written");
            file.write_all(&[b'0' + number % 10; 16_384]).expect("written");
            at = (at + 16_421) % (noise.len() - 16_384);
        }
    }
    for number in 0..8192 {
        let start = number * 31 % 4_000_000;
        let content = &noise[start..start + 4096];
        fs::write(dir.join(format!("small-{number}")), content).expect("written");
    }
}

#[test]
fn a_backup_of_one_gib_keeps_to_its_memory() {
    let place = std::env::temp_dir();
    let dir = tempfile::tempdir_in(&place).expect("a directory");
    make_data(dir.path(), 31);
    let mut peaks = Vec::new();
    for (memory, limit) in [("64MiB", 64 << 20), ("256MiB", 256 << 20)] {
        let program = Program::new(&place);
        let outcome = program.run(&["--json", "--memory", memory, "backup"], &[dir.path()]);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr.escape_ascii());
        let bytes = &outcome.json()["backups"][0]["bytes_read"];
        assert_eq!(bytes.as_u64(), Some((31 << 25) + (8192 << 12)));
        assert!(
            outcome.memory_peak < limit + BESIDE_MEMORY,
            "{} MiB with {memory}",
            outcome.memory_peak >> 20
        );
        peaks.push(outcome.memory_peak >> 20);
    }
    assert!(peaks.iter().all(|peak| *peak > 30), "they were measured: {peaks:?}");
}

#[test]
fn a_copy_keeps_to_its_memory() {
    let place = std::env::temp_dir();
    let dir = tempfile::tempdir_in(&place).expect("a directory");
    make_data(dir.path(), 11);
    let (program, other) = (Program::new(&place), Program::new(&place));
    let saved = program.run(&["--json", "--memory", "64MiB", "backup"], &[dir.path()]);
    assert_eq!(saved.code, 0, "{}", saved.stderr.escape_ascii());
    let (to, password) = (other.at("repository"), other.at("password"));
    let arguments = ["--json", "--memory", "64MiB", "copy", "--to-repo"];
    let copied = program.run(&arguments, &[&to, Path::new("--to-password-file"), &password]);
    assert_eq!(copied.code, 0, "{}", copied.stderr.escape_ascii());
    let bytes = &copied.json()["copied"][0]["bytes_read"];
    assert_eq!(bytes.as_u64(), Some((11 << 25) + (8192 << 12)));
    let peak = copied.memory_peak;
    assert!(peak > 30 << 20 && peak < (64 << 20) + BESIDE_MEMORY, "{} MiB", peak >> 20);
}

#[test]
fn f111_a_directory_of_100000_files_keeps_to_its_memory() {
    let place = std::env::temp_dir();
    let dir = tempfile::tempdir_in(&place).expect("a directory");
    for number in 0..100_000 {
        fs::write(dir.path().join(format!("file-{number}")), b"").expect("written");
    }
    let program = Program::new(&place);
    let saved = program.run(&["--json", "--memory", "64MiB", "backup"], &[dir.path()]);
    assert_eq!(saved.code, 0, "{}", saved.stderr.escape_ascii());
    assert_eq!(saved.json()["backups"][0]["entries"].as_u64(), Some(100_001));
    let target = program.at("back");
    let arguments = ["--json", "--memory", "64MiB", "restore", "latest", "--target"];
    let restored = program.run(&arguments, &[&target]);
    assert_eq!(restored.code, 0, "{}", restored.stderr.escape_ascii());
    assert_eq!(fs::read_dir(&target).expect("lists").count(), 100_000);
    for (verb, outcome) in [("backup", saved), ("restore", restored)] {
        let peak = outcome.memory_peak;
        assert!(peak > 20 << 20 && peak < 160 << 20, "{verb} took {} MiB", peak >> 20);
    }
}
