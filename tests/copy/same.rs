//! A copy says and holds what its original does, and is made once.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;
use volume_vault::clock::{Clock, Time};
use volume_vault::event::{Observer, Recorder};
use volume_vault::format::{ItemKind, SnapshotBody, VolumeFacts};
use volume_vault::ops::backup::{self, BackupOptions, NewItem};
use volume_vault::ops::copy::{Fate, ForgottenThere};
use volume_vault::ops::forget::{ForgetOptions, Policy, Selection, SeriesFilter, plan_in};
use volume_vault::ops::{Interrupt, OpsError};
use volume_vault::repo::{Repository, Snapshot, SnapshotList};
use volume_vault::store::{MemoryStore, ObjectName, Store};

use super::{copy, copy_as, options, planned};
use crate::support::builder::{self, Builder, directory, root};
use crate::support::far::Far;
use crate::support::garden::forget;
use crate::support::repo::{
    Bench, Scene, assert_restores, backup as save, check, list, listed, make_tree, noise, open,
    scratch, walk,
};
use crate::support::tree::describe;

/// A body without what must differ in a copy.
fn told(snapshot: &Snapshot) -> SnapshotBody {
    let mut body = snapshot.body.clone();
    body.copied = None;
    for item in &mut body.items {
        item.root = volume_vault::id::ChunkId::new([0; 32]);
        item.hints =
            item.hints.map(|(_, len, level)| (volume_vault::id::ChunkId::new([0; 32]), len, level));
    }
    body
}

#[test]
fn a_copy_keeps_everything_that_its_original_says() {
    let (from, to, dir) = (Bench::new(), Bench::new(), scratch());
    make_tree(dir.path());
    let (from, to) = (from.open(), to.open());
    let item = NewItem {
        kind: ItemKind::Volume,
        name: "data".to_owned(),
        degraded: vec!["it was read badly".to_owned()],
        volume: Some(VolumeFacts {
            driver: "local".to_owned(),
            options: BTreeMap::from([("o".to_owned(), "uid=7".to_owned())]),
            labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            scope: "local".to_owned(),
        }),
        in_use_by: vec!["web".to_owned()],
        ..crate::support::repo::item()
    };
    let saving = BackupOptions {
        tags: vec!["weekly".to_owned()],
        clock: Clock::Fixed(Time::new(1_700_000_000, 7)),
        program: "a program of old".to_owned(),
        ..crate::support::repo::options()
    };
    let observer: Arc<dyn Observer> = Arc::new(Recorder::default());
    let open = |watched| walk(dir.path(), watched);
    let interrupt = Interrupt::default();
    let saved = backup::backup(&from, &item, open, || Ok(()), &saving, &observer, &interrupt);
    let original = listed(&from, &saved.expect("saved").snapshot).expect("listed");
    let done = copy(&from, &to).expect("copied");
    let copied = listed(&to, &done.copied[0].snapshot).expect("listed");
    assert_ne!(copied.id, original.id);
    assert_eq!(told(&copied), told(&original));
    let origin = copied.body.copied.expect("it says where it is from");
    assert_eq!((origin.repository, origin.snapshot), (from.id(), original.id));
    assert_eq!(origin.stored(), original.stored);
    // Other keys: nothing has the same name.
    assert_ne!(copied.items()[0].root, original.items()[0].root);
    assert_restores(&to, &copied.id, &describe(dir.path()));
}

#[test]
fn a_snapshot_of_several_items_is_copied_as_one() {
    let mut b = Builder::new();
    let file = b.file("a/b", &noise(5, 70_000));
    let one = b.tree(&[root(), directory("a"), file]);
    let file = b.file("c", b"other");
    let two = b.tree(&[root(), file]);
    let two = volume_vault::format::Item { name: "/two".to_owned(), ..two };
    let _ = b.publish();
    let _ = b.snapshot(vec![one, two]);
    let (from, to) = (b.open(), Bench::new().open());
    let done = copy(&from, &to).expect("copied");
    let copied = listed(&to, &done.copied[0].snapshot).expect("listed");
    let names: Vec<_> = copied.items().iter().map(|item| item.name.as_str()).collect();
    assert_eq!(names, ["/data", "/two"]);
    assert!(check(&to) > 3, "all of it reads");
    let _ = builder::len_of(b"");
}

#[test]
fn what_was_copied_is_copied_once_whichever_way_it_comes() {
    let scene = Scene::new();
    let a = scene.bench.open();
    let second = save(&a, scene.dir.path()).expect("saved").snapshot;
    let (b, c) = (Bench::new(), Bench::new());
    let (b, c) = (b.open(), c.open());
    assert_eq!(copy(&a, &b).expect("copied").copied.len(), 2);
    let again = copy(&a, &b).expect("nothing to copy");
    assert_eq!((again.copied.len(), again.passed), (0, 2));
    assert_eq!(copy(&b, &c).expect("copied on").copied.len(), 2);
    for (from, to) in [(&a, &c), (&c, &a), (&b, &a), (&c, &b)] {
        let again = copy(from, to).expect("nothing to copy");
        assert_eq!((again.copied.len(), again.passed), (0, 2));
    }
    let last = list(&c).pop().expect("listed");
    let origin = last.body.copied.expect("a copy");
    assert_eq!((origin.repository, origin.snapshot), (a.id(), second));
    assert_restores(&c, &last.id, &scene.tree);
}

#[test]
fn the_next_backup_to_the_other_repository_goes_on_from_the_copy() {
    let scene = Scene::new();
    let (from, to) = (scene.bench.open(), Bench::new().open());
    let _ = save(&from, scene.dir.path()).expect("saved");
    let done = copy(&from, &to).expect("copied");
    let next = save(&to, scene.dir.path()).expect("saved");
    assert_eq!(next.parent, Some(done.copied[1].snapshot));
    assert_eq!((next.item.facts.bytes_read, next.item.facts.bytes_new), (0, 0));
    let copied = listed(&to, &done.copied[1].snapshot).expect("listed");
    assert_eq!(
        (next.item.root, next.item.hints),
        (copied.items()[0].root, copied.items()[0].hints)
    );
}

#[test]
fn a_repository_is_not_copied_into_itself_nor_into_a_copy_of_its_objects() {
    let scene = Scene::new();
    let repo = scene.bench.open();
    for other in [scene.bench.open(), scene.bench.fork().open()] {
        let refused = planned(&repo, &other, ForgottenThere::Skip).expect_err("refused");
        assert!(matches!(refused, OpsError::Refused(_)), "{refused}");
        assert!(refused.to_string().contains("the same repository"), "{refused}");
    }
}

#[test]
fn what_was_forgotten_is_not_copied_and_what_was_forgotten_there_only_if_asked() {
    let scene = Scene::new();
    let (there, from) = (Bench::new(), scene.bench.open());
    let _ = save(&from, scene.dir.path()).expect("saved");
    forget(&scene.bench.store, &from, &scene.old);
    let to = there.open();
    let done = copy(&from, &to).expect("copied");
    assert_eq!((done.copied.len(), done.passed), (1, 0));
    let copied = done.copied[0].snapshot;
    forget(&there.store, &to, &copied);
    let plan = planned(&from, &to, ForgottenThere::Skip).expect("planned");
    assert_eq!(plan.rows[0].fate, Fate::Forgotten(copied));
    let plan = planned(&from, &to, ForgottenThere::Copy).expect("planned");
    assert_eq!(plan.rows[0].fate, Fate::Copy);
    let observer: Arc<dyn Observer> = Arc::new(Recorder::default());
    let done = copy_as(&from, &to, plan, options(), &observer, &Interrupt::default());
    assert_restores(&to, &done.expect("copied").copied[0].snapshot, &scene.tree);
}

/// The times a policy goes by, oldest first.
fn judged(repo: &Repository, policy: Policy) -> Vec<(Time, bool)> {
    let options = ForgetOptions {
        selection: Selection::Series(SeriesFilter::default(), policy),
        drilled: Default::default(),
        zone: TimeZone::UTC,
    };
    let list = SnapshotList::load(repo).expect("lists");
    let plan = plan_in(&list, &options).expect("planned");
    let mut rows: Vec<_> = plan.rows.iter().map(|row| (row.stored, row.verdict.keeps())).collect();
    rows.sort();
    rows
}

#[test]
fn a_policy_takes_copies_for_as_old_as_their_originals() {
    let (bench, dir) = (Bench::new(), scratch());
    let from = bench.open();
    for day in 1..=4 {
        std::fs::write(dir.path().join("file"), [day]).expect("written");
        let saved = save(&from, dir.path()).expect("saved").snapshot;
        let name = ObjectName::parse(&format!("snapshots/{saved}.ok")).expect("a name");
        let stored = Time::new(1_700_000_000 + 86_400 * i64::from(day), 5);
        assert!(bench.store.set_modified(&name, stored), "it is there");
    }
    let policy = || Policy { daily: 2, ..Policy::default() };
    let original = judged(&from, policy());
    assert_eq!(original.iter().map(|row| row.1).collect::<Vec<_>>(), [false, false, true, true]);
    let (middle, to) = (Bench::new().open(), Bench::new().open());
    assert_eq!(copy(&from, &middle).expect("copied").copied.len(), 4);
    assert_eq!(copy(&middle, &to).expect("copied").copied.len(), 4);
    assert_eq!(judged(&middle, policy()), original);
    assert_eq!(judged(&to, policy()), original);
}

#[test]
fn a_copy_between_stores_that_are_far_is_whole() {
    let scene = Scene::new();
    let _ = save(&scene.bench.open(), scene.dir.path()).expect("saved");
    let far = |bench: &Bench| {
        let store: Arc<dyn Store> = Arc::new(Far(bench.store.clone()));
        open(store, bench.home.path()).expect("opens")
    };
    let there = Bench { home: scratch(), store: MemoryStore::new(Clock::System) };
    crate::support::repo::make(&there.store);
    let done = copy(&far(&scene.bench), &far(&there)).expect("copied");
    let to = there.open();
    assert_restores(&to, &done.copied[0].snapshot, &scene.old_tree);
    assert_restores(&to, &done.copied[1].snapshot, &scene.tree);
}
