//! A machine on which nothing is configured.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use volume_vault::clock::Clock;

use super::vault::{Machine, acknowledged, wait_until};
use super::{TestVolume, engine, fresh_name};
use crate::support::tree::plan::random_tree;
use crate::support::tree::{self, Aspect};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o7777
}

/// The files with this ending in a folder.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("it lists");
    let paths = entries.map(|entry| entry.expect("listed").path());
    paths.filter(|path| path.extension().is_some_and(|found| found == ending)).collect()
}

#[test]
fn first_backup_makes_a_private_repository_and_restore_brings_the_volume_back_whole() {
    let engine = engine();
    let machine = Machine::new();
    let volume = TestVolume::with(&engine, |spec| {
        let _ = spec.labels.insert("com.example.owner".into(), "the \"web\" team, grün".into());
    });
    let place = engine.host_path(&volume.info).expect("root on the same machine");
    random_tree(&place, 11, 300);
    chown(&place, Some(70), Some(71)).expect("root may");
    fs::set_permissions(&place, fs::Permissions::from_mode(0o1750)).expect("set");
    let before = tree::describe(&place);

    let first = machine.run(&["backup", volume.name()]).expect(0);
    let repository = machine.repository();
    let keys = machine.path("config/vault/keys");
    let key = files(&keys, "key");
    assert_eq!(key.len(), 1, "{key:?}");
    for said in [&*repository.to_string_lossy(), &*key[0].to_string_lossy(), "disaster"] {
        assert!(first.stderr.contains(said), "{said} in {}", first.stderr);
    }
    assert_eq!((mode(&repository), mode(&key[0])), (0o700, 0o600));
    assert_eq!(mode(&keys), 0o700);
    assert!(mode(&machine.path("state/vault")) & 0o077 == 0);
    assert_eq!(machine.acknowledged().len(), 1);

    let copy = Removed(fresh_name("copy"));
    let _ = machine.run(&["restore", volume.name(), "--as", &copy.0]).expect(0);
    let restored = engine.volume(&copy.0).expect("it was made");
    assert_eq!(restored.labels, volume.info.labels);
    assert_eq!((&restored.driver, &restored.options), (&volume.info.driver, &volume.info.options));
    let after = tree::describe(&engine.host_path(&restored).expect("a path"));
    assert_eq!(tree::diff_except(&before, &after, &[Aspect::MoreHoles]), [""; 0]);
    assert_eq!(tree::diff(&before, &tree::describe(&place)), [""; 0], "the original was changed");

    // A file that is too young may change again without its times showing it; it is read again.
    wait_until("all files are old", || {
        let now = Clock::System.now().seconds;
        let changed = |path: &Path| fs::symlink_metadata(path).expect("it is there").ctime();
        now > changed(&place) + 3
    });
    let _ = machine.run(&["backup", volume.name()]).expect(0);
    // Nothing changed, so nothing is read and nothing counts as new.
    let again = &machine.json(&["backup", volume.name()], 0)["backups"][0];
    assert_eq!((&again["bytes_read"], &again["bytes_new"]), (&0.into(), &0.into()), "{again}");
    assert_eq!((&again["entries_new"], &again["entries_changed"]), (&0.into(), &0.into()));
    assert_eq!(again["entries_unchanged"], again["entries"]);
    assert!(again["parent"].is_string() && again["live"] == false, "{again}");
    assert_eq!(machine.acknowledged().len(), 3);
}

/// A volume made by the code under test.
struct Removed(String);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = engine().remove_volume(&self.0);
    }
}

#[test]
fn cron_job_that_lost_its_setting_fails_and_makes_no_fresh_repository() {
    let engine = engine();
    let volume = TestVolume::new(&engine);
    let mut machine = Machine::new();
    let elsewhere = machine.path("elsewhere");
    machine.set("VAULT_REPO", &elsewhere);
    let _ = machine.run(&["init"]).expect(0);
    let _ = machine.run(&["backup", volume.name()]).expect(0);
    assert_eq!(acknowledged(&elsewhere).len(), 1);

    machine.unset("VAULT_REPO");
    for arguments in [vec!["backup", volume.name()], vec!["restore", volume.name()]] {
        let _ = machine.run(&arguments).expect_error(10, &["no repository is named", "VAULT_REPO"]);
        assert!(!machine.repository().exists());
    }
    // a setting that is left over is a trace as well, on a machine without any other
    let mut other = Machine::new();
    other.set("VAULT_PASSWORD", "left over");
    let _ = other.run(&["backup", volume.name()]).expect_error(10, &["VAULT_PASSWORD"]);
    assert!(!other.repository().exists() && !other.path("config").exists());
}

#[test]
fn embedded_repository_that_is_gone_is_not_made_anew() {
    let engine = engine();
    let volume = TestVolume::new(&engine);
    let machine = Machine::new();
    let _ = machine.run(&["backup", volume.name()]).expect(0);
    fs::remove_dir_all(machine.repository()).expect("removed");
    let _ = machine.run(&["backup", volume.name()]).expect_error(10, &["is gone"]);
    // what a disk that is not mounted looks like
    fs::create_dir(machine.repository()).expect("made");
    let _ = machine.run(&["backup", volume.name()]).expect_error(10, &["is gone"]);
    assert_eq!(fs::read_dir(machine.repository()).expect("it lists").count(), 0);
}
