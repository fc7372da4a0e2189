//! What `check`, `stats` and `doctor` print, and how they end.

use crate::support::program::Program;
use crate::support::repository::{Bed, noise};

fn filled() -> Bed {
    let bed = Bed::new();
    std::fs::write(bed.source().join("a"), noise(1, 300_000)).expect("written");
    std::fs::write(bed.source().join("b"), noise(1, 300_000)).expect("written");
    let _ = bed.backup("v");
    let _ = bed.backup("v");
    bed
}

fn arguments<'a>(bed: &'a Bed, verb: &[&'a str]) -> Vec<String> {
    let [repository, key] = [bed.repository(), bed.key_file()].map(|p| p.display().to_string());
    let places = ["-r".to_owned(), repository, "--key-file".to_owned(), key];
    verb.iter().map(|word| (*word).to_owned()).chain(places).collect()
}

fn run(bed: &Bed, verb: &[&str]) -> crate::support::program::Ended {
    let arguments = arguments(bed, verb);
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    Program::at(bed.dir.path()).run(&words)
}

#[test]
fn check_ends_with_13_and_names_object_snapshots_and_files() {
    let bed = filled();
    let sound = run(&bed, &["check", "--read-data"]).expect(0);
    assert!(sound.stdout.starts_with("no damage found (2 snapshots"), "{}", sound.stdout);
    assert_eq!(run(&bed, &["check", "--json"]).expect(0).json()["clean"], true);

    let data = |path: &&std::path::PathBuf| std::fs::read(path).expect("read")[5] == 1;
    let packs = bed.objects("packs");
    let pack = packs.iter().find(data).expect("a data pack");
    let mut bytes = std::fs::read(pack).expect("read");
    bytes[5000] ^= 1;
    std::fs::write(pack, bytes).expect("written");
    let _ = run(&bed, &["check"]).expect(0);
    let found = run(&bed, &["check", "--read-data", "--json"]).expect(13).json();
    assert_eq!(found["error"]["kind"], "damaged");
    assert_eq!(found["error"]["exit_code"], 13);
    assert_eq!(found["damage"][0]["object"], bed.name_of(pack));
    assert_eq!(found["touched"].as_array().map(Vec::len), Some(2));
    assert_eq!(found["touched"][0]["files"][0]["path"], "a");
    assert_eq!(found["touched"][0]["files_total"], 2);
    let told = run(&bed, &["check", "--read-data"]).expect(13);
    assert!(told.stdout.contains("cannot be brought back whole:\n  a\n  b\n"), "{}", told.stdout);
    assert!(told.stdout.contains("1 object damaged, touching 2 snapshots"), "{}", told.stdout);
}

#[test]
fn stats_add_up_what_is_stored() {
    let bed = filled();
    let stats = run(&bed, &["stats", "--json"]).expect(0).json();
    let on_disk: u64 =
        bed.objects("").iter().map(|path| std::fs::metadata(path).expect("there").len()).sum();
    assert_eq!(stats["stored_bytes"], on_disk);
    assert_eq!((&stats["snapshots"], &stats["series"]), (&2.into(), &1.into()));
    assert_eq!(stats["logical_bytes"], 1_200_000);
    assert_eq!(stats["latest_bytes"], 600_000);
    assert_eq!(stats["data_chunks"]["bytes"], 300_000);
    assert_eq!(stats["data_chunks"]["copies"], 0);
    let one = run(&bed, &["stats", "h/v", "--json"]).expect(0).json();
    assert_eq!(one["logical_bytes"], 600_000);
    assert_eq!(one["data_chunks"]["bytes"], 300_000);
    assert_eq!(one["entries"], 3);
    let table = run(&bed, &["stats"]).expect(0).stdout;
    assert!(table.contains("deduplication"), "{table}");
}

#[test]
fn doctor_works_without_engine_and_fails_without_repository() {
    let bed = filled();
    let found = run(&bed, &["doctor", "--json"]).expect(0).json();
    let findings = found["findings"].as_array().expect("an array");
    let state = |what: &str| {
        let of = findings.iter().find(|finding| finding["what"] == what);
        of.map(|finding| finding["state"].as_str().expect("text").to_owned())
    };
    assert_eq!(state("engine").as_deref(), Some("warn"));
    assert_eq!(state("repository").as_deref(), Some("ok"));
    assert_eq!(state("recovery").as_deref(), Some("warn"));
    let _ = run(&bed, &["key", "recovery"]).expect(0);
    let told = run(&bed, &["doctor"]).expect(0).stdout;
    assert!(told.contains("1 recovery code"), "{told}");

    let empty = tempfile::tempdir().expect("a directory");
    let missing = Program::at(empty.path()).run(&["doctor", "-r", "/no/such/place"]).expect(1);
    assert!(missing.stdout.contains("fail"), "{}", missing.stdout);
    // Where nothing was ever made, the first backup makes it.
    let _ = Program::at(empty.path()).run(&["doctor"]).expect(0);
}
