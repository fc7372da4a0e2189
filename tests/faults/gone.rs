//! What is not there, or is something else: a source that refuses, a repository that is removed
//! under a run, reads that bring another object, a repository of a later program.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use volume_vault::crypto::Payload;
use volume_vault::ops::OpsError;
use volume_vault::repo::RepoError;
use volume_vault::store::{
    CallKind, Fault, FaultPlan, FaultStore, Listed, LocalStore, MemoryStore, ObjectName,
    RecordStore, Store, StoreError,
};

use crate::support::garden::{at_once, collect};
use crate::support::machine::{Machine, arg};
use crate::support::repo::{
    Bench, assert_restores, backup, copy, list, make, make_tree, open, restore_as, scratch,
};
use crate::support::tree::describe;

/// Whom nothing belongs to.
const NOBODY: &str = "65534";

#[test]
fn f026_a_directory_that_refuses_is_named_and_all_else_is_saved() {
    let machine = Machine::new();
    let dir = scratch();
    for name in ["open", "shut"] {
        std::fs::create_dir(dir.path().join(name)).expect("made");
        std::fs::write(dir.path().join(name).join("file"), name).expect("written");
    }
    for at in [machine.home.path(), dir.path()] {
        let owner = format!("{NOBODY}:{NOBODY}");
        let status = Command::new("chown").args(["-R", &owner]).arg(at).status();
        assert!(status.expect("chown runs").success());
    }
    let shut = std::fs::Permissions::from_mode(0o000);
    std::fs::set_permissions(dir.path().join("shut"), shut).expect("set");
    let nobody = ["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"];
    let output = machine.under(&nobody, &["--json", "backup", arg(dir.path())]).output();
    let output = output.expect("vault runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{told}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let warning = &report["backups"][0]["warnings"][0];
    assert_eq!((&warning["object"], &warning["skipped"]), (&"shut".into(), &true.into()));
    let names = ["ls", "latest"];
    let listed = machine.under(&nobody, &names).output().expect("vault runs").stdout;
    assert!(String::from_utf8_lossy(&listed).contains("open"), "{told}");
}

#[test]
fn f027_a_repository_that_is_removed_under_a_backup_fails_it_and_no_more() {
    let (dir, at) = (scratch(), scratch());
    make_tree(dir.path());
    let (place, spare) = (at.path().join("repository"), at.path().join("spare"));
    make(&LocalStore::create(&place).expect("a folder"));
    copy(&place, &spare);
    let mut refused = 0;
    for number in (1..).step_by(3) {
        let gone = place.clone();
        let remove = move |_: &_| std::fs::remove_dir_all(&gone).expect("it is there");
        let plan = FaultPlan::at(number, Fault::Delay(Arc::new(remove)));
        let store = LocalStore::open(&place).expect("a repository");
        let store = Arc::new(FaultStore::new(store, plan));
        let home = scratch();
        let saved = open(store.clone(), home.path()).map_err(OpsError::from);
        let saved = saved.and_then(|repo| backup(&repo, dir.path()));
        if store.hits().is_empty() {
            let _ = saved.expect("undisturbed");
            break;
        }
        refused += usize::from(saved.is_err());
        if place.exists() {
            std::fs::remove_dir_all(&place).expect("removed");
        }
        copy(&spare, &place);
        // What comes back is what was there before: this host knows of nothing newer.
        let home = scratch();
        let repo = open(Arc::new(LocalStore::open(&place).expect("there")), home.path());
        let last = backup(&repo.expect("it opens"), dir.path()).expect("the next plain backup");
        let repo = open(Arc::new(LocalStore::open(&place).expect("there")), home.path());
        assert_restores(&repo.expect("it opens"), &last.snapshot, &describe(dir.path()));
        std::fs::remove_dir_all(&place).expect("removed");
        copy(&spare, &place);
    }
    assert!(refused > 3, "{refused}");
}

/// A store that reads another object of the same folder and size class in place of one.
#[derive(Debug)]
struct Misdirected {
    inner: MemoryStore,
    from: ObjectName,
    to: ObjectName,
    hits: AtomicU32,
}

impl Misdirected {
    fn find<'a>(&'a self, name: &'a ObjectName) -> &'a ObjectName {
        if *name != self.from {
            return name;
        }
        let _ = self.hits.fetch_add(1, Ordering::SeqCst);
        &self.to
    }
}

impl Store for Misdirected {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn put(&self, name: &ObjectName, payload: &Payload) -> Result<(), StoreError> {
        self.inner.put(name, payload)
    }

    fn get(&self, name: &ObjectName, size_max: u64) -> Result<Vec<u8>, StoreError> {
        self.inner.get(self.find(name), size_max)
    }

    fn get_range(
        &self,
        name: &ObjectName,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StoreError> {
        self.inner.get_range(self.find(name), offset, buffer)
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        self.inner.list(folder)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.inner.delete(name)
    }
}

#[test]
fn f031_bytes_of_another_object_are_never_taken_for_those_that_were_asked_for() {
    let (bench, dir) = (Bench::new(), scratch());
    let mut saved = Vec::new();
    make_tree(dir.path());
    for number in 0..2 {
        let content = crate::support::repo::noise(80 + number, 600_000);
        std::fs::write(dir.path().join("mine"), content).expect("written");
        let id = backup(&bench.open(), dir.path()).expect("acknowledged").snapshot;
        saved.push((id, describe(dir.path())));
    }
    let names: Vec<ObjectName> = bench.store.names();
    let folder = |name: &ObjectName| name.as_str().split('/').next().map(str::to_owned);
    let mut hits = 0;
    for from in &names {
        for to in names.iter().filter(|to| *to != from && folder(to) == folder(from)) {
            let (inner, from, to) = (bench.store.clone(), from.clone(), to.clone());
            let store = Arc::new(Misdirected { inner, from, to, hits: AtomicU32::new(0) });
            let home = scratch();
            let Ok(repo) = open(store.clone(), home.path()) else { continue };
            let Ok(listed) = volume_vault::repo::SnapshotList::load(&repo) else { continue };
            let index_reads = repo.load_index().is_ok();
            for (id, tree) in saved.iter().filter(|_| index_reads) {
                let Some(snapshot) = listed.snapshots.iter().find(|s| s.id == *id) else {
                    continue;
                };
                let target = scratch();
                let (watcher, stop) =
                    (Arc::new(volume_vault::event::Recorder::default()), Default::default());
                let watcher: Arc<dyn volume_vault::event::Observer> = watcher;
                let done = restore_as(&repo, snapshot, target.path(), &watcher, &stop);
                if done.is_ok_and(|report| report.damaged == 0) {
                    let wrong = crate::support::tree::diff(tree, &describe(target.path()));
                    assert_eq!(wrong, [""; 0], "{} read as {}", store.from, store.to);
                }
            }
            hits += store.hits.load(Ordering::SeqCst);
        }
    }
    assert!(hits > 10, "{hits}");
}

#[test]
fn f081_a_program_that_does_not_know_a_feature_is_refused_before_it_writes() {
    let (bench, dir) = (Bench::new(), scratch());
    make_tree(dir.path());
    let _ = backup(&bench.open(), dir.path()).expect("acknowledged");
    let name = ObjectName::parse("vault.json").expect("a name");
    for (feature, reads) in [("\"write\": []", true), ("\"gc\": []", true), ("\"read\": []", false)]
    {
        let changed = bench.fork();
        let text = changed.store.get(&name, 1 << 16).expect("reads");
        let text = String::from_utf8(text).expect("text");
        let named = text.replace(feature, &feature.replace("[]", "[\"later\"]"));
        assert_ne!(named, text, "the fault is there");
        changed.store.insert_raw(name.clone(), named.into_bytes());
        let recorded = Arc::new(RecordStore::new(changed.store.clone()));
        let opened = open(recorded.clone(), changed.home.path());
        assert_eq!(opened.is_ok(), reads, "{feature}");
        if let Ok(repo) = opened {
            assert_eq!(list(&repo).len(), 1, "what is there can be read");
            for error in [
                backup(&repo, dir.path()).map(drop).expect_err("refused"),
                collect(&repo, &at_once()).map(drop).expect_err("refused"),
            ] {
                assert!(error.to_string().contains("later"), "{error}");
                assert!(!matches!(error, OpsError::Repo(RepoError::Worker)), "{error:?}");
            }
        }
        assert_eq!(recorded.count(CallKind::Put) + recorded.count(CallKind::Delete), 0);
    }
}
