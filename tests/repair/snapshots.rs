//! What can be had of damaged snapshots becomes new ones, and the way is free for collectors.

use std::collections::BTreeSet;

use volume_vault::format::PackKind;
use volume_vault::id::SnapshotId;
use volume_vault::ops::repair::{OldOnes, plan_snapshots, run_snapshots};
use volume_vault::ops::{Interrupt, OpsError};
use volume_vault::repo::{RepoError, pack_name};
use volume_vault::store::{ObjectName, Store};

use crate::support::damage::{
    checked, observer, options, pack_of_file, packs_of, repair_packs, repair_snapshots, rot,
};
use crate::support::garden::{Garden, assert_tidy, at_once, collect, forget};
use crate::support::repo::{Bench, assert_restores, backup, list, listed, noise, scratch};
use crate::support::tree::{Tree, describe};

/// Six large files in packs of about one each, a few small ones, and a second name of a large one.
struct Six {
    bench: Bench,
    dir: tempfile::TempDir,
    tree: Tree,
    snapshot: SnapshotId,
}

fn six() -> Six {
    let (bench, dir) = (Bench::new(), scratch());
    for number in 0..6 {
        let content = noise(number, 1_000_000);
        std::fs::write(dir.path().join(format!("file-{number}")), content).expect("written");
    }
    std::fs::create_dir(dir.path().join("below")).expect("made");
    std::fs::write(dir.path().join("below/small"), "small").expect("written");
    std::fs::hard_link(dir.path().join("file-2"), dir.path().join("twin")).expect("linked");
    let snapshot = backup(&bench.open(), dir.path()).expect("acknowledged").snapshot;
    let tree = describe(dir.path());
    Six { bench, dir, tree, snapshot }
}

impl Six {
    /// Loses a pack that holds content of a file for good; says which files are hit.
    fn lose(&self, path: &str) -> BTreeSet<String> {
        let pack = pack_of_file(&self.bench.open(), &self.snapshot, path);
        rot(&self.bench.store, &volume_vault::repo::pack_name(&pack));
        let report = checked(&self.bench.open());
        assert_eq!(report.damage.len(), 1, "the fault is hit: {report:?}");
        report.touched[0].files.iter().map(|file| file.path.to_string()).collect()
    }

    fn without(&self, paths: &BTreeSet<String>) -> Tree {
        // A pack can hold parts of neighbours, too; the other name of a file is lost with it.
        let is_lost = |path: &str| paths.contains(if path == "twin" { "file-2" } else { path });
        let mut tree = self.tree.clone();
        tree.retain(|path, _| !is_lost(&String::from_utf8_lossy(path)));
        tree
    }
}

#[test]
fn f028_what_can_be_had_of_a_damaged_snapshot_is_a_new_one_and_what_is_left_out_is_told() {
    let six = six();
    let mut hit = six.lose("file-2");
    assert!(hit.contains("file-2") && hit.len() <= 3, "{hit:?}");
    let report = repair_snapshots(&six.bench.open(), OldOnes::Keep).expect("it repairs");
    // The other name of the file is lost with it.
    let _ = hit.insert("twin".to_owned());
    let [done] = report.salvaged[..] else { panic!("one: {report:?}") };
    assert_eq!((done.from, done.left_out), (six.snapshot, hit.len() as u64));
    assert_eq!((report.forgotten.len(), &report.left[..]), (0, &[six.snapshot][..]));

    let repo = six.bench.open();
    let mut expected = six.without(&hit);
    // It is a file with one name now.
    for record in expected.values_mut() {
        record.group = record.group.take().filter(|first| first != b"file-2");
    }
    assert_restores(&repo, &done.snapshot, &expected);
    let (old, new) = (listed(&repo, &six.snapshot), listed(&repo, &done.snapshot));
    let (old, new) = (old.expect("the old one stays"), new.expect("the new one is there"));
    assert_eq!((new.time(), &new.body.host), (old.time(), &old.body.host));
    assert_eq!((new.body.salvaged, old.body.salvaged), (Some(six.snapshot), None));
    let item = &new.items()[0];
    assert_eq!((item.kind, &item.name), (old.items()[0].kind, &old.items()[0].name));
    assert!(item.is_partial());
    let told: BTreeSet<_> =
        item.warnings.iter().map(|w| String::from_utf8_lossy(&w.object).into_owned()).collect();
    assert_eq!(told, hit);
    // The next in the series is compared with what is whole.
    assert_eq!(list(&repo).last().map(|snapshot| snapshot.id), Some(done.snapshot));

    let again = repair_snapshots(&six.bench.open(), OldOnes::Keep).expect("it repairs");
    assert_eq!((again.salvaged.len(), &again.left[..]), (0, &[six.snapshot][..]));
}

#[test]
fn f078_a_collector_is_stopped_by_lost_chunks_until_damaged_snapshots_are_forgotten() {
    let six = six();
    let hit = six.lose("file-4");
    let _ = repair_packs(&six.bench.open()).expect("it repairs");
    // The source has nothing of it any more.
    hit.iter().for_each(|path| std::fs::remove_file(six.dir.path().join(path)).expect("removed"));
    let next = backup(&six.bench.open(), six.dir.path()).expect("acknowledged").snapshot;
    let error = collect(&six.bench.open(), &at_once()).expect_err("it refuses");
    assert!(matches!(error, OpsError::Repo(RepoError::NotCollected { .. })), "{error:?}");

    let report = repair_snapshots(&six.bench.open(), OldOnes::Forget).expect("it repairs");
    let [done] = report.salvaged[..] else { panic!("one: {report:?}") };
    assert_eq!((&report.forgotten[..], report.left.len()), (&[six.snapshot][..], 0));
    let _ = collect(&six.bench.open(), &at_once()).expect("it collects");
    let checked = checked(&six.bench.open());
    assert!(checked.is_clean() && checked.notices.is_empty(), "{checked:?}");
    assert_eq!(checked.snapshots, 2);
    assert_restores(&six.bench.open(), &done.snapshot, &six.without(&hit));
    assert_restores(&six.bench.open(), &next, &describe(six.dir.path()));
    assert_tidy(&six.bench.open());
}

#[test]
fn what_may_have_been_moved_by_a_collection_meanwhile_is_not_forgotten() {
    let six = six();
    let _ = six.lose("file-2");
    let (options, interrupt) = (options(), Interrupt::default());
    let (repo, forget) = (six.bench.open(), OldOnes::Forget);
    let plan = plan_snapshots(&repo, &options, forget, &observer(), &interrupt).expect("a plan");
    let _ = repair_packs(&six.bench.open()).expect("a condemn record is stored");
    let error = run_snapshots(&repo, &plan, &options, forget, &observer(), &interrupt);
    assert!(matches!(&error, Err(OpsError::Refused(why)) if why.contains("collected meanwhile")));
    assert!(listed(&six.bench.open(), &six.snapshot).is_some(), "it is still there");
    let again = repair_snapshots(&six.bench.open(), forget).expect("it repairs");
    assert_eq!((again.salvaged.len(), again.forgotten.len()), (1, 1));
}

#[test]
fn nothing_is_forgotten_for_the_sake_of_what_was_salvaged_when_less_could_be_had() {
    let six = six();
    let pack = |path| pack_name(&pack_of_file(&six.bench.open(), &six.snapshot, path));
    let (first, second) = (pack("file-1"), pack("file-4"));
    assert_ne!(first, second);
    let sound = six.bench.store.copied();
    rot(&six.bench.store, &first);
    rot(&six.bench.store, &second);
    let poor = repair_snapshots(&six.bench.open(), OldOnes::Keep).expect("it repairs");
    // Somebody brings one of them back.
    let bytes = sound.get(&first, 64 << 20).expect("read");
    assert!(six.bench.store.corrupt(&first, |rotten| *rotten = bytes.clone()));
    let better = repair_snapshots(&six.bench.open(), OldOnes::Forget).expect("it repairs");
    let [done] = better.salvaged[..] else { panic!("anew: {better:?}") };
    assert!(done.left_out < poor.salvaged[0].left_out, "{done:?}");
    assert_eq!(better.forgotten, [six.snapshot]);
    let restored = listed(&six.bench.open(), &done.snapshot).expect("listed");
    assert!(restored.items()[0].warnings.iter().all(|told| told.object != b"file-1"));
}

#[test]
fn f029_of_a_snapshot_whose_tree_is_lost_nothing_can_be_had_and_it_can_be_forgotten() {
    let six = six();
    packs_of(&six.bench, PackKind::Tree)
        .iter()
        .for_each(|name| six.bench.store.delete(name).expect("deleted"));
    let report = repair_snapshots(&six.bench.open(), OldOnes::Keep).expect("it repairs");
    assert_eq!((report.salvaged.len(), &report.left[..]), (0, &[six.snapshot][..]));
    let report = repair_snapshots(&six.bench.open(), OldOnes::Forget).expect("it repairs");
    assert_eq!((report.salvaged.len(), &report.forgotten[..]), (0, &[six.snapshot][..]));
    assert!(list(&six.bench.open()).is_empty());
    let _ = collect(&six.bench.open(), &at_once()).expect("it collects");
    let _ = backup(&six.bench.open(), six.dir.path()).expect("acknowledged");
}

fn object(id: &SnapshotId, end: &str) -> ObjectName {
    ObjectName::parse(&format!("snapshots/{id}.{end}")).expect("a name")
}

#[test]
fn f078_a_snapshot_whose_record_is_lost_stops_collectors_until_it_is_forgotten() {
    let garden = Garden::new();
    let (id, _) = garden.live[0];
    for how in ["flipped", "cut", "missing"] {
        let mut garden = garden.fork();
        let name = object(&id, "pending");
        match how {
            "flipped" => assert!(garden.bench.store.corrupt(&name, |bytes| bytes[40] ^= 1)),
            "cut" => assert!(garden.bench.store.corrupt(&name, |bytes| bytes.truncate(10))),
            _ => garden.bench.store.delete(&name).expect("deleted"),
        }
        // Of the host that made it a record that is missing is a rollback, too.
        for host in [garden.bench.other_host(), garden.bench.fork()] {
            assert!(collect(&host.open(), &at_once()).is_err(), "the fault is hit");
            match repair_snapshots(&host.open(), OldOnes::Keep) {
                Ok(report) => assert_eq!(report.left, [id]),
                Err(error) => {
                    assert!(how == "missing", "{error}");
                    assert!(matches!(error, OpsError::Repo(RepoError::RolledBack(_))));
                }
            }
        }
        let report = repair_snapshots(&garden.bench.open(), OldOnes::Forget).expect("it repairs");
        assert_eq!((&report.forgotten[..], report.salvaged.len()), (&[id][..], 0));
        let _ = garden.live.remove(0);
        garden.assert_collects();
    }
}

#[test]
fn f078_a_snapshot_whose_commit_is_damaged_is_stored_as_a_new_one_whole() {
    let mut garden = Garden::new();
    let (id, tree) = garden.live.remove(0);
    assert!(garden.bench.store.corrupt(&object(&id, "ok"), |bytes| bytes[40] ^= 1));
    assert!(collect(&garden.bench.open(), &at_once()).is_err(), "the fault is hit");
    let report = repair_snapshots(&garden.bench.open(), OldOnes::Forget).expect("it repairs");
    let [done] = report.salvaged[..] else { panic!("one: {report:?}") };
    assert_eq!((done.from, done.left_out, &report.forgotten[..]), (id, 0, &[id][..]));
    garden.live.push((done.snapshot, tree));
    garden.assert_whole();
    garden.assert_collects();
}

#[test]
fn a_commit_of_another_record_is_not_made_up_for() {
    // Somebody put an older record in the place of the one that was committed.
    let garden = Garden::new();
    let [(first, _), (second, _)] = &garden.live[..] else { panic!("two") };
    let bytes = garden.bench.store.get(&object(second, "ok"), 1 << 20).expect("it reads");
    assert!(garden.bench.store.corrupt(&object(first, "ok"), |there| *there = bytes));
    let report = repair_snapshots(&garden.bench.open(), OldOnes::Keep).expect("it repairs");
    assert_eq!((report.salvaged.len(), &report.left[..]), (0, &[*first][..]));
}

#[test]
fn f078_an_unreadable_record_without_a_commit_is_given_up_alone() {
    let garden = Garden::new();
    let id: SnapshotId = "ab".repeat(32).parse().expect("an id");
    garden.bench.store.insert_raw(object(&id, "pending"), vec![0; 100]);
    assert!(collect(&garden.bench.open(), &at_once()).is_err(), "the fault is hit");
    let report = repair_snapshots(&garden.bench.open(), OldOnes::Forget).expect("it repairs");
    assert_eq!((&report.expired[..], report.forgotten.len()), (&[id][..], 0));
    garden.assert_collects();
}

#[test]
fn f078_of_a_whole_snapshot_whose_tombstone_cannot_be_read_it_is_said_again_that_it_stays() {
    let mut garden = Garden::new();
    let (id, tree) = garden.live[1].clone();
    forget(&garden.bench.store, &garden.bench.open(), &id);
    let name = ObjectName::parse(&format!("forget/{id}")).expect("a name");
    assert!(garden.bench.store.corrupt(&name, |bytes| bytes[40] ^= 1));
    assert!(collect(&garden.bench.open(), &at_once()).is_err(), "the fault is hit");
    let report = repair_snapshots(&garden.bench.open(), OldOnes::Forget).expect("it repairs");
    assert_eq!((&report.kept[..], report.forgotten.len()), (&[id][..], 0));
    garden.live[1] = (id, tree);
    garden.assert_collects();
}

#[test]
fn two_repairs_at_once_lose_nothing() {
    use std::sync::Arc;

    use volume_vault::event::{Observer, Recorder};
    use volume_vault::ops::Interrupt;
    use volume_vault::ops::repair::{plan_snapshots, run_snapshots};

    let six = six();
    let hit = six.lose("file-1");
    let observer: Arc<dyn Observer> = Arc::new(Recorder::default());
    let (options, interrupt) = (crate::support::damage::options(), Interrupt::default());
    let repos = [six.bench.open(), six.bench.other_host().open()];
    let plan = |repo| {
        plan_snapshots(repo, &options, OldOnes::Forget, &observer, &interrupt).expect("looks")
    };
    let plans = [plan(&repos[0]), plan(&repos[1])];
    for (repo, plan) in repos.iter().zip(&plans) {
        let old = OldOnes::Forget;
        let done = run_snapshots(repo, plan, &options, old, &observer, &interrupt);
        let done = done.expect("it repairs");
        assert_eq!((done.salvaged.len(), &done.forgotten[..]), (1, &[six.snapshot][..]));
        assert_restores(&six.bench.open(), &done.salvaged[0].snapshot, &six.without(&hit));
    }
    let _ = repair_packs(&six.bench.open()).expect("it repairs");
    let _ = collect(&six.bench.open(), &at_once()).expect("it collects");
    assert!(checked(&six.bench.open()).is_clean());
    assert_eq!(list(&six.bench.open()).len(), 2);
}

#[test]
fn what_was_salvaged_does_not_push_newer_snapshots_out_of_a_policy() {
    use volume_vault::ops::forget::{ForgetOptions, Policy, Selection, SeriesFilter, plan};

    let six = six();
    let hit = six.lose("file-2");
    let _ = repair_packs(&six.bench.open()).expect("it repairs");
    hit.iter().for_each(|path| std::fs::remove_file(six.dir.path().join(path)).expect("removed"));
    let next = backup(&six.bench.open(), six.dir.path()).expect("acknowledged").snapshot;
    let report = repair_snapshots(&six.bench.open(), OldOnes::Keep).expect("it repairs");
    assert_eq!(report.salvaged.len(), 1);
    let policy = Policy { last: 1, ..Policy::default() };
    let options = ForgetOptions {
        selection: Selection::Series(SeriesFilter::default(), policy),
        drilled: BTreeSet::new(),
        zone: jiff::tz::TimeZone::UTC,
    };
    let plan = plan(&six.bench.open(), &options).expect("it plans");
    let kept: Vec<_> =
        plan.rows.iter().filter(|row| row.verdict.keeps()).map(|row| row.id).collect();
    assert_eq!(kept, [next]);
}

#[test]
fn f022_what_cannot_be_read_just_now_is_never_taken_for_lost() {
    use volume_vault::store::{CallKind, Fault, FaultPlan};

    let six = six();
    let data: Vec<_> = packs_of(&six.bench, PackKind::Data);
    let trees = packs_of(&six.bench, PackKind::Tree);
    for name in data.iter().chain(&trees) {
        let plan = FaultPlan::none().and(
            Some(CallKind::GetRange),
            name.as_str(),
            1..=u64::MAX,
            Fault::FailBefore,
        );
        let store = six.bench.disturbed(plan);
        let repo = crate::support::repo::open(store.clone(), six.bench.home.path());
        let error = repair_snapshots(&repo.expect("opens"), OldOnes::Forget).expect_err("refused");
        assert!(!store.hits().is_empty());
        assert!(
            matches!(&error, OpsError::Refused(why) if why.contains(name.as_str())),
            "{error:?}"
        );
        assert_restores(&six.bench.open(), &six.snapshot, &six.tree);
    }
}

#[test]
fn f077_chunks_that_a_lost_segment_named_are_never_taken_for_lost() {
    let six = six();
    assert_eq!(crate::support::damage::delete_all(&six.bench.store, "index"), 1);
    let error = repair_snapshots(&six.bench.open(), OldOnes::Forget).expect_err("refused");
    assert!(matches!(&error, OpsError::Refused(why) if why.contains("repair index")), "{error:?}");
    let _ = crate::support::damage::repair_index(&six.bench.open()).expect("it repairs");
    let report = repair_snapshots(&six.bench.open(), OldOnes::Forget).expect("it repairs");
    assert_eq!(report, Default::default());
    assert_restores(&six.bench.open(), &six.snapshot, &six.tree);
}
