//! What the probe finds out about real servers, and what of it is kept; uploads are single puts.

use std::collections::BTreeMap;
use std::sync::Arc;

use volume_vault::clock::Clock;
use volume_vault::store::{Store, probe, probe_many};

use super::proxy::{Fault, Proxy};
use super::{azure_access, fresh, open, s3_access, s3_behind, server};
use crate::support::repo::{
    assert_restores, backup, check, make, make_tree, noise, open as open_repo, scratch,
};
use crate::support::tree::describe;

/// More requests than any test makes.
const ALL: u32 = 1 << 20;

#[test]
fn servers_that_keep_conditions_and_list_all_are_found_to_and_left_as_they_were() {
    let (s3, azure) = (server("VAULT_TEST_S3"), server("VAULT_TEST_AZURE"));
    for (url, access) in [("s3", s3_access(&s3)), ("az", azure_access(&azure))] {
        let store = open(&format!("{url}://vault/{}", fresh()), &access);
        let found = probe(&store, Clock::System).expect("answers");
        assert!(found.is_sound(), "{url} {found:?}");
        assert_eq!(found.creates_once, Some(true), "{url}");
        if url == "s3" {
            assert_eq!(probe_many(&store).expect("answers"), Some(true));
        }
        assert_eq!(store.list("").expect("lists"), [], "{url}");
    }
}

#[test]
fn f052_a_server_that_ignores_conditions_is_found_out_and_what_it_holds_is_as_safe() {
    let proxy = Proxy::before(&server("VAULT_TEST_S3"));
    proxy.next(ALL, "PUT", "", Fault::HideCondition);
    let store = Arc::new(s3_behind(&proxy));
    let found = probe(&*store, Clock::System).expect("answers");
    assert_eq!(found.creates_once, Some(false), "all of them win");
    assert!(found.is_sound(), "nothing rests on it");
    let conditional = |proxy: &Proxy| proxy.seen().iter().filter(|seen| seen.conditional).count();
    assert_eq!(conditional(&proxy), 16, "the condition was there to be ignored");
    proxy.clear();
    // Two hosts at once.
    make(&*store);
    let (dir, homes) = (scratch(), [scratch(), scratch()]);
    make_tree(dir.path());
    let saved = std::thread::scope(|scope| {
        let save = |home: &tempfile::TempDir| {
            let repo = open_repo(store.clone(), home.path()).expect("opens");
            backup(&repo, dir.path()).expect("acknowledged").snapshot
        };
        let threads = homes.each_ref().map(|home| scope.spawn(move || save(home)));
        threads.map(|thread| thread.join().expect("saved"))
    });
    let repo = open_repo(store.clone(), homes[0].path()).expect("opens");
    saved.iter().for_each(|id| assert_restores(&repo, id, &describe(dir.path())));
    assert!(check(&repo) > 0);
    assert_eq!(conditional(&proxy), 0, "no put of a repository asks for one");
}

#[test]
fn f056_every_object_is_one_put_whatever_its_size() {
    let proxy = Proxy::before(&server("VAULT_TEST_S3"));
    let store = Arc::new(s3_behind(&proxy));
    make(&*store);
    let (dir, home) = (scratch(), scratch());
    std::fs::write(dir.path().join("large"), noise(1, 40 << 20)).expect("written");
    let repo = open_repo(store.clone(), home.path()).expect("opens");
    let options = volume_vault::ops::backup::BackupOptions {
        memory: 256 << 20,
        ..crate::support::repo::options()
    };
    let observer: Arc<dyn volume_vault::event::Observer> =
        Arc::new(volume_vault::event::Recorder::default());
    let walk = |observer| crate::support::repo::walk(dir.path(), observer);
    let (item, stop) = (crate::support::repo::item(), volume_vault::ops::Interrupt::default());
    let saved = volume_vault::ops::backup::backup(
        &repo,
        &item,
        walk,
        || Ok(()),
        &options,
        &observer,
        &stop,
    );
    let _ = saved.expect("acknowledged");
    let packs = store.list("packs").expect("lists");
    let largest = packs.iter().map(|pack| pack.size).max().expect("packs");
    assert!(largest > 12 << 20, "parts of S3 have 5 MiB at least: {largest} is several");
    let mut puts = BTreeMap::<String, u32>::new();
    for seen in proxy.seen() {
        assert!(["PUT", "GET", "HEAD", "DELETE"].contains(&seen.method.as_str()), "{seen:?}");
        if seen.method == "PUT" {
            assert!(!seen.path.contains('?'), "a part: {}", seen.path);
            *puts.entry(seen.path).or_default() += 1;
        }
    }
    for pack in &packs {
        let of_pack = puts.iter().find(|(path, _)| path.ends_with(pack.name.as_str()));
        assert_eq!(of_pack.map(|(_, times)| *times), Some(1), "{}", pack.name);
    }
}
