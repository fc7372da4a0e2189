//! `repair` and `check --scrub`: their documents, words and exit codes.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::program::{Ended, Program};
use crate::support::repository::{Bed, noise};

/// A repository with one snapshot of three files, and a folder for the program's own things.
struct World {
    bed: Bed,
    snapshot: String,
}

impl World {
    fn new() -> Self {
        let bed = Bed::new();
        for (name, seed) in [("a", 1), ("b", 2), ("c", 3)] {
            std::fs::write(bed.source().join(name), noise(seed, 1_200_000)).expect("written");
        }
        let snapshot = bed.backup("v").to_string();
        Self { bed, snapshot }
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        let repository = self.bed.repository().display().to_string();
        let key = self.bed.key_file().display().to_string();
        let global = ["-r", &repository, "--key-file", &key];
        Program::at(self.bed.dir.path()).run(&[&global[..], arguments].concat())
    }

    /// Without any key or password.
    fn run_keyless(&self, arguments: &[&str]) -> Ended {
        let repository = self.bed.repository().display().to_string();
        Program::at(self.bed.dir.path()).run(&[&["-r", &repository], arguments].concat())
    }

    fn data_packs(&self) -> Vec<PathBuf> {
        let is_data = |path: &PathBuf| std::fs::read(path).expect("read")[5] == 1;
        self.bed.objects("packs").into_iter().filter(is_data).collect()
    }
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).expect("read");
    bytes[2000] ^= 1;
    std::fs::write(path, bytes).expect("written");
}

fn objects(value: &Value) -> Vec<String> {
    let list = value.as_array().expect("a list").iter();
    list.map(|entry| entry["object"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn packs_are_set_aside_and_the_next_backup_heals_them() {
    let world = World::new();
    let pack = world.data_packs().remove(0);
    flip(&pack);
    let name = world.bed.name_of(&pack);
    let planned = world.run(&["repair", "packs", "--dry-run", "--json"]).expect(0).json();
    assert_eq!(
        (planned["dry_run"].clone(), objects(&planned["set_aside"])),
        (true.into(), vec![name.clone()])
    );
    assert!(!world.bed.repository().join("gc").exists(), "a dry run writes nothing");
    let done = world.run(&["repair", "packs"]).expect(0);
    assert!(done.stdout.contains(&format!("damaged {name}")), "{}", done.stdout);
    assert!(done.stdout.contains("1 pack set aside"), "{}", done.stdout);
    assert!(done.stderr.contains("run the backups again"), "{}", done.stderr);
    let _ = world.run(&["check", "--read-data"]).expect(13);
    let _ = world.bed.backup("v");
    let checked = world.run(&["check", "--read-data", "--json"]).expect(0).json();
    assert_eq!((checked["clean"].clone(), objects(&checked["notices"])), (true.into(), vec![name]));
    let again = world.run(&["repair", "packs", "--json"]).expect(0).json();
    assert_eq!(objects(&again["set_aside"]).len(), 0);
}

#[test]
fn a_store_that_hides_most_of_its_packs_is_asked_about_first() {
    let world = World::new();
    for number in 0..12 {
        let path = world.bed.source().join(format!("more-{number}"));
        std::fs::write(path, noise(100 + number, 50_000)).expect("written");
        let _ = world.bed.backup("v");
    }
    std::fs::remove_dir_all(world.bed.repository().join("packs")).expect("removed");
    let told = world.run(&["repair", "packs"]).expect(14);
    assert!(told.stderr.contains("would be set aside"), "{}", told.stderr);
    assert!(!world.bed.repository().join("gc").exists());
    let _ = world.run(&["repair", "packs", "--yes"]).expect(0);
    assert!(world.bed.repository().join("gc").exists());
}

#[test]
fn a_damaged_segment_is_named_by_prune_with_its_way_out() {
    let world = World::new();
    let segment = world.bed.objects("index").remove(0);
    flip(&segment);
    let name = world.bed.name_of(&segment);
    let refused = world.run(&["prune", "--json"]).expect(13).json();
    assert_eq!(refused["error"]["object"], name);
    let hint = refused["error"]["hint"].as_str().expect("a hint");
    assert!(hint.contains("`vault repair index`"), "{hint}");
    let planned = world.run(&["repair", "index", "--dry-run", "--json"]).expect(0).json();
    assert_eq!(objects(&planned["segments_unreadable"]), [name]);
    let done = world.run(&["repair", "index", "--json"]).expect(0).json();
    assert_eq!(
        (done["dry_run"].clone(), done["segments_stored"]["objects"].clone()),
        (false.into(), 1.into())
    );
    assert_eq!(done["packs_named"], planned["packs_unnamed"]);
    let _ = world.run(&["check", "--read-data"]).expect(0);
    let _ = world.run(&["prune", "--grace", "0s"]).expect(0);
    assert!(!segment.exists());
    let told = world.run(&["repair", "index"]).expect(0);
    assert!(told.stdout.contains("nothing to repair"), "{}", told.stdout);
}

#[test]
fn what_can_be_had_of_a_damaged_snapshot_is_marked_wherever_it_is_shown() {
    let world = World::new();
    flip(&world.data_packs()[0]);
    let planned = world.run(&["repair", "snapshots", "--dry-run", "--json"]).expect(0).json();
    assert_eq!(planned["damaged"][0]["snapshot"], world.snapshot);
    assert_eq!(planned["damaged"][0]["way"], "salvage");
    let lost = planned["damaged"][0]["touched"][0]["files_total"].as_u64().expect("a number");
    assert!(lost == 1 || lost == 2, "{planned}");
    let done = world.run(&["repair", "snapshots", "--json"]).expect(3).json();
    let new = done["salvaged"][0]["snapshot"].as_str().expect("an id").to_owned();
    assert_eq!(
        (done["salvaged"][0]["left_out"].clone(), done["left"][0].clone()),
        (lost.into(), world.snapshot.clone().into())
    );
    let shown = world.run(&["inspect", &new, "--json"]).expect(0).json();
    assert_eq!(
        (shown["salvaged_from"].clone(), shown["partial"].clone()),
        (world.snapshot.clone().into(), true.into())
    );
    let told = world.run(&["inspect", &new]).expect(0).stdout;
    assert!(told.contains("what could be had of the damaged snapshot"), "{told}");
    let told = world.run(&["snapshots"]).expect(0).stdout;
    assert!(told.contains("salvaged, partial"), "{told}");
    let told = world.run(&["repair", "snapshots", "--forget"]).expect(0).stdout;
    assert!(told.contains(&format!("forgot {}", &world.snapshot[..8])), "{told}");
    let listed = world.run(&["snapshots", "--json"]).expect(0).json();
    assert_eq!(listed["snapshots"].as_array().map(Vec::len), Some(1));
    // Nothing needs what was lost: the way is free.
    let _ = world.run(&["repair", "packs"]).expect(0);
    let _ = world.run(&["prune"]).expect(0);
    let _ = world.run(&["check", "--read-data"]).expect(0);
}

#[test]
fn a_snapshot_of_which_nothing_can_be_had_is_damage_until_it_is_forgotten() {
    let world = World::new();
    let record = world.bed.objects("snapshots").into_iter();
    let record = record.filter(|path| path.extension().is_some_and(|end| end == "pending"));
    record.for_each(|path| std::fs::write(path, "").expect("written"));
    let done = world.run(&["repair", "snapshots", "--json"]).expect(13).json();
    assert_eq!(
        (done["lost"][0]["snapshot"].clone(), done["error"]["kind"].clone()),
        (world.snapshot.clone().into(), "damaged".into())
    );
    let _ = world.run(&["prune"]).expect(13);
    let _ = world.run(&["repair", "snapshots", "--forget"]).expect(0);
    let _ = world.run(&["prune"]).expect(0);
}

#[test]
fn a_scrub_needs_no_key_and_names_what_a_check_with_a_key_names() {
    let world = World::new();
    let sound = world.run_keyless(&["check", "--scrub", "--json"]).expect(0).json();
    let hashed = world.bed.objects("packs").len() + world.bed.objects("index").len();
    assert_eq!((sound["objects"].clone(), sound["clean"].clone()), (hashed.into(), true.into()));
    let damaged = [world.data_packs().remove(0), world.bed.objects("index").remove(0)];
    damaged.iter().for_each(|path| flip(path));
    let scrubbed = world.run_keyless(&["check", "--scrub", "--json"]).expect(13).json();
    let mut names: Vec<_> = damaged.iter().map(|path| world.bed.name_of(path)).collect();
    names.sort();
    assert_eq!(
        (objects(&scrubbed["damage"]), scrubbed["error"]["kind"].clone()),
        (names.clone(), "damaged".into())
    );
    let told = world.run_keyless(&["check", "--scrub"]).expect(13).stdout;
    assert!(names.iter().all(|name| told.contains(name)), "{told}");
    let keyed = world.run(&["check", "--read-data", "--json"]).expect(13).json();
    let keyed = objects(&keyed["damage"]);
    // With the only segment gone, no key helps to know what packs hold.
    assert!(keyed.contains(&names[0]), "{keyed:?}");
    let _ = world.run(&["repair", "packs"]).expect(0);
    let _ = world.run(&["repair", "index"]).expect(0);
    let aside = world.run(&["repair", "packs", "--dry-run", "--json"]).expect(0).json();
    assert_eq!(objects(&aside["set_aside"]).len(), 0, "it is set aside by now");
}

#[test]
fn a_scrub_finds_each_kind_of_damage_and_leaves_other_objects_alone() {
    let world = World::new();
    let packs = world.bed.objects("packs");
    std::fs::write(&packs[0], "").expect("emptied");
    let other = std::fs::read(&packs[2]).expect("read");
    std::fs::write(&packs[1], other).expect("swapped");
    let stray = world.bed.repository().join("packs/notes.txt");
    std::fs::write(stray, "no object").expect("written");
    let scrubbed = world.run_keyless(&["check", "--scrub", "--json"]).expect(13).json();
    let names: Vec<_> = packs[..2].iter().map(|path| world.bed.name_of(path)).collect();
    assert_eq!(objects(&scrubbed["damage"]), names);
    std::fs::write(world.bed.repository().join("vault.json"), "{").expect("written");
    let scrubbed = world.run_keyless(&["check", "--scrub", "--json"]).expect(13).json();
    assert_eq!(objects(&scrubbed["damage"]), [&names[..], &["vault.json".to_owned()]].concat());
    let elsewhere = world.bed.dir.path().join("nothing");
    std::fs::create_dir(&elsewhere).expect("made");
    let nothing = ["-r", &elsewhere.display().to_string(), "check", "--scrub"];
    let _ = Program::at(world.bed.dir.path()).run(&nothing).expect(10);
}

#[test]
fn shares_come_around_to_every_pack_and_say_how_far_they_are() {
    let world = World::new();
    let packs = world.bed.objects("packs").len() as u64;
    assert!(packs >= 4);
    let share = ["check", "--read-data=1%", "--json"];
    let mut since = None;
    for number in 1..=packs {
        let told = world.run(&share).expect(0).json();
        let coverage = &told["coverage"];
        assert_eq!(
            (told["packs_read"].clone(), coverage["packs"].clone()),
            (1.into(), number.into())
        );
        assert_eq!(coverage["complete"], number == packs);
        assert_eq!(since.get_or_insert(coverage["since"].clone()), &coverage["since"]);
    }
    let told = world.run(&["check", "--read-data=1%"]).expect(0).stdout;
    assert!(told.contains("this host has read") && told.contains("1 of"), "a new round: {told}");
    let told = world.run(&["check", "--read-data"]).expect(0).stdout;
    assert!(told.contains("this host has read every pack since"), "{told}");
    assert_eq!(world.run(&["check", "--json"]).expect(0).json()["coverage"], Value::Null);
}
