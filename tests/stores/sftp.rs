//! SFTP, with OpenSSH's own server.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use volume_vault::store::{Access, Location, SftpStore, Store, StoreError, contract, probe};

use super::{access, fresh, name, payload, server, told};

fn open(url: &str, access: &Access) -> SftpStore {
    match Location::parse(url, Path::new("/")) {
        Ok(Location::Sftp(place)) => SftpStore::open(&place, access).expect("it opens"),
        other => panic!("{url} is {other:?}"),
    }
}

/// Words of a command that connects with another configuration than the account's.
fn ssh(config: &str) -> Access {
    let mut access = access(&[]);
    access.ssh_command = ["ssh", "-F", config].map(OsString::from).to_vec();
    let _ = access.ssh_environment.insert("PATH".into(), "/usr/bin:/bin".into());
    access
}

/// A new folder of the server, and where it is on this machine.
fn place() -> (SftpStore, PathBuf) {
    let url = format!("{}/{}", server("VAULT_TEST_SFTP"), fresh());
    let local = url.splitn(4, '/').nth(3).expect("a path");
    let path = PathBuf::from(format!("/{local}"));
    (open(&url, &ssh(&server("VAULT_TEST_SFTP_CONFIG"))), path)
}

#[test]
fn sftp_keeps_the_contract() {
    let (store, _) = place();
    contract::check(&store).expect("keeps the contract");
    let found = probe(&store, volume_vault::clock::Clock::System).expect("can be tried");
    assert!(found.is_sound() && found.clock_ahead.abs() < 60, "{found:?}");
}

#[test]
fn strays_and_links_are_no_objects() {
    let (store, path) = place();
    store.put(&name("f/a"), &payload(b"abc")).expect("puts");
    fs::write(path.join("f/.tmp-1"), "half").expect("written");
    fs::write(path.join("f/UPPER"), "stray").expect("written");
    std::os::unix::fs::symlink(path.join("f/a"), path.join("f/link")).expect("linked");
    std::os::unix::fs::symlink(&path, path.join("f/loop")).expect("linked");
    let listed = store.list("").expect("lists");
    assert_eq!(listed.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), ["f/a"]);
}

#[test]
fn what_is_there_is_replaced_whole_and_leaves_nothing_behind() {
    let (store, path) = place();
    store.put(&name("f/a"), &payload(b"abc")).expect("puts");
    store.put(&name("f/a"), &payload(&[7; 500_000])).expect("puts");
    assert_eq!(store.get(&name("f/a"), 500_000).expect("gets"), [7; 500_000]);
    assert_eq!(fs::read_dir(path.join("f")).expect("listed").count(), 1);
}

#[test]
fn a_connection_that_ends_is_made_again() {
    let (store, path) = place();
    store.put(&name("a"), &payload(b"abc")).expect("puts");
    // Other tests of this process may have children too, but what they run is no ssh, or made anew.
    let mut own = Vec::new();
    for task in fs::read_dir("/proc/self/task").expect("tasks are listed") {
        let children = task.expect("a task").path().join("children");
        let children = fs::read_to_string(children).unwrap_or_default();
        let is_ssh = |pid: &&str| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name.trim_end() == "ssh"
        };
        own.extend(children.split_whitespace().filter(is_ssh).map(str::to_owned));
    }
    assert!(!own.is_empty(), "an ssh runs");
    let killed = std::process::Command::new("kill").args(&own).status().expect("kill runs");
    assert!(killed.success());
    assert_eq!(store.get(&name("a"), 3).expect("gets"), b"abc");
    store.put(&name("b"), &payload(b"def")).expect("puts");
    assert!(path.join("b").is_file());
}

#[test]
fn a_login_that_is_refused_is_named_and_not_tried_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let url = format!("{}/x", server("VAULT_TEST_SFTP"));
    let good = fs::read_to_string(server("VAULT_TEST_SFTP_CONFIG")).expect("read");
    for (from, to, said) in [
        ("IdentityFile ", "IdentityFile /no/such", "Permission denied"),
        ("UserKnownHostsFile ", "UserKnownHostsFile /no/such", "Host key verification failed"),
    ] {
        let config = dir.path().join("config");
        fs::write(&config, good.replace(from, to)).expect("written");
        let store = open(&url, &ssh(config.to_str().expect("text")));
        let error = store.put(&name("a"), &payload(b"x")).expect_err("is refused");
        assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
        assert!(told(&error).contains(said), "{}", told(&error));
    }
}

#[test]
fn a_host_that_does_not_answer_is_given_up_after_a_while() {
    let mut access = ssh("/dev/null");
    access.patience.budget = Duration::from_millis(200);
    let store = open("sftp://127.0.0.1:9/x", &access);
    let error = store.list("").expect_err("does not answer");
    assert!(matches!(error, StoreError::Io { .. }), "{error:?}");
    assert!(told(&error).contains("refused"), "{}", told(&error));
}

#[test]
fn a_folder_that_may_not_be_written_is_named() {
    let url = server("VAULT_TEST_SFTP");
    let at = url.find("/tmp").or_else(|| url[7..].find('/').map(|at| at + 7)).expect("a path");
    let store = open(&format!("{}/proc/x", &url[..at]), &ssh(&server("VAULT_TEST_SFTP_CONFIG")));
    let error = store.put(&name("a"), &payload(b"x")).expect_err("cannot be written");
    assert!(told(&error).contains("write `a`") || told(&error).contains("made"), "{error}");
}
