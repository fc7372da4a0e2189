//! `check` finds every damage of every kind of object, names it, and what it touches, exactly.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use volume_vault::clock::Clock;
use volume_vault::crypto::{KdfParams, Key};
use volume_vault::event::{Observer, Recorder};
use volume_vault::ops::check::{CheckOptions, CheckReport, Fault, ReadData, check};
use volume_vault::ops::{Interrupt, OpsError};
use volume_vault::repo::{RepoError, Repository, Secret, add_slot};
use volume_vault::store::{
    Call, CallKind, Fault as Disturbance, FaultPlan, FaultStore, LocalStore, RecordStore,
};

use crate::support::repository::{Bed, noise};

/// Two snapshots of three files each, of which two are common to both.
fn filled() -> Bed {
    let bed = Bed::new();
    let write = |name: &str, seed, len| {
        std::fs::write(bed.source().join(name), noise(seed, len)).expect("written");
    };
    write("large", 1, 1_300_000);
    write("small", 2, 10_000);
    write("old", 3, 400_000);
    let _ = bed.backup("v");
    std::fs::remove_file(bed.source().join("old")).expect("removed");
    write("new", 4, 400_000);
    let _ = bed.backup("v");
    let repo = bed.open_as("writer").expect("opens");
    let secret = Secret::KeyFile(Key::new([8; 32]));
    let (store, params) = (&**repo.store(), KdfParams::DEFAULT);
    let _ = add_slot(store, &repo.id(), repo.master(), &secret, params, "other", 0)
        .expect("another slot");
    bed
}

fn checked(repo: &Arc<Repository>, read: ReadData) -> CheckReport {
    let observer: Arc<dyn Observer> = Arc::new(Recorder::default());
    let options = CheckOptions { read, memory: 256 << 20, clock: Clock::System };
    check(repo, &options, &observer, &Interrupt::default()).expect("the check comes to an end")
}

/// What a check of a host that has never seen the repository says.
fn check_afresh(bed: &Bed, read: ReadData) -> Result<CheckReport, String> {
    let host = format!("host-{}", std::fs::read_dir(bed.dir.path()).expect("listed").count());
    match bed.open_as(&host) {
        Ok(repo) => Ok(checked(&repo, read)),
        Err(error) => Err(error.to_string()),
    }
}

/// One object of each kind, with another of its kind.
fn specimens(bed: &Bed) -> Vec<(&'static str, PathBuf, PathBuf)> {
    let pair = |paths: Vec<PathBuf>| {
        let mut paths = paths.into_iter();
        let first = paths.next().expect("there is one");
        (first, paths.next().expect("there are two"))
    };
    let with = |folder: &str, good: &dyn Fn(&Path) -> bool| {
        let objects = bed.objects(folder).into_iter();
        pair(objects.filter(|path| good(path)).collect())
    };
    let of_kind =
        |kind: u8| move |path: &Path| std::fs::read(path).expect("read").get(5) == Some(&kind);
    let ends = |end: &'static str| {
        move |path: &Path| path.extension().is_some_and(|extension| extension == end)
    };
    let all = |_: &Path| true;
    [
        ("data pack", with("packs", &of_kind(1))),
        ("tree pack", with("packs", &of_kind(2))),
        ("segment", with("index", &all)),
        ("pending", with("snapshots", &ends("pending"))),
        ("ok", with("snapshots", &ends("ok"))),
        ("slot", slots(bed)),
    ]
    .into_iter()
    .map(|(kind, (first, second))| (kind, first, second))
    .collect()
}

/// The slot that opens the repository, and another. Without its secret nothing can be said of that.
fn slots(bed: &Bed) -> (PathBuf, PathBuf) {
    let own = bed.open_as("writer").expect("opens").slot().to_string();
    let mut paths = bed.objects("keys");
    paths.sort_by_key(|path| !path.ends_with(&own));
    (paths.swap_remove(0), paths.swap_remove(0))
}

/// Damages `object` and demands that a full check finds and names it; then brings it back.
fn must_find(bed: &Bed, kind: &str, object: &Path, how: &str, damage: impl FnOnce(&Path)) {
    let before = std::fs::read(object).expect("read");
    damage(object);
    let found = check_afresh(bed, ReadData::All);
    let what = format!("{kind} {how}");
    match found {
        Ok(report) => {
            let name = bed.name_of(object);
            let stem = name.split('.').next().unwrap_or(&name);
            let named = report.damage.iter().any(|damage| damage.object.starts_with(stem));
            // A segment that is gone cannot be named: nothing else names it.
            let nameless = kind == "segment" && how == "missing";
            assert!(!report.is_clean(), "{what}: not found");
            assert!(named || nameless, "{what}: not named in {:?}", report.damage);
        }
        Err(message) => {
            assert!(kind == "slot" || kind == "config", "{what}: {message}");
        }
    }
    std::fs::write(object, before).expect("brought back");
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).expect("written");
}

#[test]
fn a_sound_repository_is_clean_and_nothing_is_written_to_its_store() {
    let bed = filled();
    let store = Arc::new(RecordStore::new(LocalStore::open(&bed.repository()).expect("opens")));
    let repo = bed.open_store(store.clone(), "reader").expect("opens");
    store.clear();
    let report = checked(&repo, ReadData::All);
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.notices, []);
    assert_eq!((report.snapshots, report.packs_read), (2, report.packs));
    assert!(report.bytes_read > 2_000_000);
    let writes = |call: &Call| matches!(call.kind, CallKind::Put | CallKind::Delete);
    assert!(!store.calls().iter().any(writes));
    let packs = store
        .calls()
        .into_iter()
        .filter(|call| call.kind == CallKind::GetRange && call.bytes > 300_000);
    let names: Vec<_> = packs.map(|call| call.target).collect();
    let distinct: BTreeSet<_> = names.iter().collect();
    assert_eq!(names.len(), distinct.len(), "every pack is read once");
}

#[test]
fn flipped_bits_in_every_kind_of_object_are_found_and_named_f028() {
    let bed = filled();
    for (kind, object, _) in specimens(&bed) {
        let len = std::fs::metadata(&object).expect("there").len();
        for step in 0..20 {
            let at = usize::try_from(step * (len - 1) / 19).expect("small");
            must_find(&bed, kind, &object, &format!("flipped at {at}"), |path| {
                let mut bytes = std::fs::read(path).expect("read");
                bytes[at] ^= 1 << (step % 8);
                write(path, &bytes);
            });
        }
    }
    assert!(check_afresh(&bed, ReadData::All).expect("opens").is_clean());
}

#[test]
fn truncated_and_missing_objects_of_every_kind_are_found_and_named_f029() {
    let bed = filled();
    for (kind, object, _) in specimens(&bed) {
        let bytes = std::fs::read(&object).expect("read");
        let header = if kind.ends_with("pack") { 1256 } else { 24 };
        for len in [0, 1, header - 1, header, bytes.len() / 2, bytes.len() - 1] {
            let how = format!("truncated to {len}");
            must_find(&bed, kind, &object, &how, |path| write(path, &bytes[..len]));
        }
        // That of a slot is a key removed; that of a commit, a backup that was never finished.
        if kind != "slot" && kind != "ok" {
            must_find(&bed, kind, &object, "missing", |path| {
                std::fs::remove_file(path).expect("removed");
            });
        }
    }
}

#[test]
fn zeroed_swapped_and_duplicated_objects_of_every_kind_are_found_and_named_f030() {
    let bed = filled();
    for (kind, object, other) in specimens(&bed) {
        let len = std::fs::metadata(&object).expect("there").len();
        let zeros = vec![0; usize::try_from(len).expect("small")];
        must_find(&bed, kind, &object, "zeroed", |path| write(path, &zeros));
        // Slots are not bound to their names: a copy under another name is a key like any other.
        if kind == "slot" {
            continue;
        }
        let twin = std::fs::read(&other).expect("read");
        must_find(&bed, kind, &object, "a copy of another", |path| write(path, &twin));
        let own = std::fs::read(&object).expect("read");
        must_find(&bed, kind, &object, "swapped with another", |path| {
            write(path, &twin);
            write(&other, &own);
        });
        write(&other, &twin);
    }
    assert!(check_afresh(&bed, ReadData::All).expect("opens").is_clean());
}

#[test]
fn damage_of_what_opens_a_repository_is_never_taken_for_a_clean_one_f028_f029_f030() {
    let bed = filled();
    let config = bed.objects("config").remove(0);
    for object in [bed.repository().join("vault.json"), config] {
        let whole = std::fs::read(&object).expect("read");
        let mut variants = vec![Vec::new(), whole[..1].to_vec(), vec![0; whole.len()]];
        variants.push(whole[..whole.len() - 1].to_vec());
        for step in 0..40 {
            let mut flipped = whole.clone();
            flipped[step * (whole.len() - 1) / 39] ^= 1 << (step % 8);
            variants.push(flipped);
        }
        for variant in variants {
            write(&object, &variant);
            let found = check_afresh(&bed, ReadData::Trees);
            let silent = found.is_ok_and(|found| found.is_clean() && found.notices.is_empty());
            assert!(!silent, "{}", object.display());
        }
        std::fs::remove_file(&object).expect("removed");
        assert!(check_afresh(&bed, ReadData::Trees).is_err());
        write(&object, &whole);
    }
}

fn paths(report: &CheckReport) -> BTreeSet<(String, String)> {
    let touched = report.touched.iter();
    let file = |snapshot: String| move |path: String| (snapshot.clone(), path);
    touched
        .flat_map(|touched| {
            let files = touched.files.iter().map(|file| file.path.to_string());
            files.map(file(touched.snapshot.to_string())).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn exactly_the_files_and_snapshots_that_need_a_damaged_frame_are_named_f028() {
    let bed = Bed::new();
    std::fs::write(bed.source().join("old"), noise(1, 300_000)).expect("written");
    std::fs::write(bed.source().join("stays"), noise(2, 300_000)).expect("written");
    let first = bed.backup("v").to_string();
    let packs = bed.objects("packs");
    std::fs::remove_file(bed.source().join("old")).expect("removed");
    std::fs::write(bed.source().join("new"), noise(3, 300_000)).expect("written");
    let second = bed.backup("v").to_string();
    let data = |path: &&PathBuf| std::fs::read(path).expect("read")[5] == 1;
    let all = bed.objects("packs");
    let of_second = all.iter().filter(|path| !packs.contains(path)).find(data).expect("a pack");
    let of_first = packs.iter().find(data).expect("a pack");

    let damage = |path: &Path| {
        let mut bytes = std::fs::read(path).expect("read");
        bytes[2000] ^= 1;
        write(path, &bytes);
    };
    // Without a look at the data nothing is seen.
    damage(of_second);
    assert!(check_afresh(&bed, ReadData::Trees).expect("opens").is_clean());
    let report = check_afresh(&bed, ReadData::All).expect("opens");
    let named = |snapshot: &str, path: &str| (snapshot.to_owned(), path.to_owned());
    assert_eq!(paths(&report), BTreeSet::from([named(&second, "new")]));
    let file = &report.touched[0].files[0];
    assert_eq!(file.objects, BTreeSet::from([bed.name_of(of_second)]));
    damage(of_second);

    // `old` and `stays` lie in one frame.
    damage(of_first);
    let report = check_afresh(&bed, ReadData::All).expect("opens");
    let expected = [named(&first, "old"), named(&first, "stays"), named(&second, "stays")];
    assert_eq!(paths(&report), BTreeSet::from(expected));
    assert_eq!(report.damage.len(), 1);
}

#[test]
fn a_lost_tree_pack_names_the_whole_branch_and_only_its_snapshot_f029() {
    let bed = Bed::new();
    std::fs::write(bed.source().join("a"), noise(1, 10)).expect("written");
    let _ = bed.backup("v");
    let before = bed.objects("packs");
    std::fs::write(bed.source().join("b"), noise(2, 10)).expect("written");
    let second = bed.backup("v");
    let tree = |path: &&PathBuf| {
        !before.contains(path) && std::fs::read(path).expect("read").get(5) == Some(&2)
    };
    let packs = bed.objects("packs");
    let pack = packs.iter().find(tree).expect("a tree pack");
    std::fs::remove_file(pack).expect("removed");
    let report = check_afresh(&bed, ReadData::Trees).expect("opens");
    let [damage] = &report.damage[..] else { panic!("one object: {:?}", report.damage) };
    assert_eq!((&damage.object, damage.fault), (&bed.name_of(pack), Fault::Missing));
    let [touched] = &report.touched[..] else { panic!("one snapshot: {:?}", report.touched) };
    assert_eq!((touched.snapshot, touched.files_total), (second, 3));
    assert_eq!(touched.files[0].entries, Some(3));
}

#[test]
fn a_lost_segment_is_told_by_the_chunks_and_packs_it_named_f029() {
    let bed = filled();
    let segment = bed.objects("index").remove(0);
    std::fs::remove_file(&segment).expect("removed");
    let report = check_afresh(&bed, ReadData::Trees).expect("opens");
    assert!(report.damage.iter().all(|damage| damage.object.starts_with("chunk ")));
    assert!(!report.touched.is_empty());
    assert!(report.notices.iter().any(|(object, _)| object == "packs"), "{:?}", report.notices);
}

#[test]
fn a_damaged_segment_is_found_though_the_cache_still_knows_its_chunks_f028() {
    let bed = filled();
    let repo = bed.open_as("writer").expect("opens");
    let _ = repo.load_index().expect("loads");
    let segment = bed.objects("index").remove(0);
    let mut bytes = std::fs::read(&segment).expect("read");
    bytes[100] ^= 4;
    write(&segment, &bytes);
    let report = checked(&repo, ReadData::Trees);
    assert_eq!(report.damage[0].object, bed.name_of(&segment));
    assert!(repo.load_index().is_ok(), "what the cache knows still serves this host");
}

#[test]
fn a_rolled_back_store_is_told_from_a_sound_one() {
    let bed = filled();
    let repo = bed.open_as("writer").expect("opens");
    let before = bed.objects("snapshots");
    let last = bed.backup("v").to_string();
    for path in bed.objects("snapshots").iter().filter(|path| !before.contains(path)) {
        std::fs::remove_file(path).expect("removed");
    }
    let report = checked(&repo, ReadData::Trees);
    assert_eq!(report.damage[0].fault, Fault::RolledBack);
    assert!(report.damage[0].why.contains(&last[..8]), "{:?}", report.damage);
    // A host that never saw it cannot know.
    assert!(check_afresh(&bed, ReadData::Trees).expect("opens").is_clean());
}

#[test]
fn what_an_interrupted_run_leaves_is_noted_and_is_no_damage() {
    let bed = filled();
    let commit = specimens(&bed).swap_remove(4).1;
    std::fs::remove_file(&commit).expect("removed");
    let report = check_afresh(&bed, ReadData::All).expect("opens");
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.snapshots, 1);
    assert!(report.notices[0].1.contains("not finished"), "{:?}", report.notices);
}

#[test]
fn a_read_that_fails_once_is_noted_and_one_that_keeps_failing_names_the_pack_f022() {
    let bed = filled();
    let disturbed = |numbers, fault| {
        let plan = FaultPlan::none().and(Some(CallKind::GetRange), "packs/", numbers, fault);
        let inner = LocalStore::open(&bed.repository()).expect("opens");
        let store = Arc::new(FaultStore::new(inner, plan));
        let repo = bed.open_store(store.clone(), "reader").expect("opens");
        let report = checked(&repo, ReadData::All);
        (report, store.hits())
    };
    // The first read of a pack ends in zeros, the second is good.
    let (report, hits) = disturbed(1..=1, Disturbance::Truncate(1000));
    assert_eq!(hits.len(), 1);
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.notices[0].0, hits[0].call.target);

    let target = hits[0].call.target.clone();
    let plan = FaultPlan::none().and(None, &target, 1..=u64::MAX, Disturbance::FailBefore);
    let inner = LocalStore::open(&bed.repository()).expect("opens");
    let store = Arc::new(FaultStore::new(inner, plan));
    let repo = bed.open_store(store.clone(), "reader").expect("opens");
    let report = checked(&repo, ReadData::All);
    assert!(!store.hits().is_empty());
    let [damage] = &report.damage[..] else { panic!("one object: {:?}", report.damage) };
    assert_eq!((&damage.object, damage.fault), (&target, Fault::Unreadable));
    assert!(!report.touched.is_empty());
}

#[test]
fn a_store_that_fails_as_a_whole_is_not_called_damaged() {
    let bed = filled();
    let plan = FaultPlan::at_kind(CallKind::GetRange, 1, Disturbance::StopBefore);
    let store = FaultStore::new(LocalStore::open(&bed.repository()).expect("opens"), plan);
    let repo = bed.open_store(Arc::new(store), "reader").expect("opens");
    let observer: Arc<dyn Observer> = Arc::new(Recorder::default());
    let options = CheckOptions { read: ReadData::All, memory: 256 << 20, clock: Clock::System };
    let error = check(&repo, &options, &observer, &Interrupt::default()).expect_err("it failed");
    assert!(matches!(error, OpsError::Repo(RepoError::Store(_))), "{error}");
}

#[test]
fn an_interrupted_check_stops() {
    let bed = filled();
    let repo = bed.open_as("reader").expect("opens");
    let observer: Arc<dyn Observer> = Arc::new(Recorder::default());
    let interrupt = Interrupt::default();
    interrupt.request();
    let options = CheckOptions { read: ReadData::All, memory: 256 << 20, clock: Clock::System };
    let error = check(&repo, &options, &observer, &interrupt).expect_err("it stopped");
    assert!(matches!(error, OpsError::Interrupted), "{error}");
}

#[test]
fn a_share_of_the_packs_is_read_when_a_share_is_asked_for() {
    let bed = filled();
    let report = check_afresh(&bed, ReadData::Percent(1.0)).expect("opens");
    assert!(report.is_clean());
    assert_eq!(report.packs_read, 1);
    let half = check_afresh(&bed, ReadData::Percent(50.0)).expect("opens");
    assert_eq!(half.packs_read, half.packs.div_ceil(2));
}

#[test]
fn a_check_leaves_no_folder_in_the_cache() {
    let bed = filled();
    let repo = bed.open_as("reader").expect("opens");
    let _ = checked(&repo, ReadData::Trees);
    let left = std::fs::read_dir(&repo.dirs().cache).expect("listed");
    let left: Vec<_> = left.map(|entry| entry.expect("listed").file_name()).collect();
    assert_eq!(left, ["records"]);
}
