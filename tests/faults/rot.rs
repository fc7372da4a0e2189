//! What lies rotten in the store: a backup that comes upon it heals it or is not acknowledged, and
//! never takes away what was there before.

use std::fs;

use volume_vault::format::PackKind;
use volume_vault::store::StoreError;

use crate::support::repo::{Bench, assert_restores, backup, check, make_tree, open, scratch};
use crate::support::tree::describe;

/// Flips a byte in the middle of every pack of trees.
fn rot_trees(bench: &Bench) -> usize {
    let repo = bench.open();
    let index = repo.load_index().expect("the index loads");
    let trees: Vec<_> = index
        .packs()
        .into_iter()
        .filter(|(pack, _)| pack.kind == PackKind::Tree)
        .map(|(pack, _)| pack.id.to_string())
        .collect();
    let mut rotten = 0;
    for name in bench.names("packs") {
        if trees.iter().any(|id| name.base() == id) {
            assert!(bench.store.corrupt(&name, |bytes| bytes[1300] ^= 1), "{name} is there");
            rotten += 1;
        }
    }
    rotten
}

#[test]
fn f028_a_backup_after_a_tree_has_rotted_stores_the_tree_anew() {
    let (bench, dir) = (Bench::new(), scratch());
    make_tree(dir.path());
    let first = backup(&bench.open(), dir.path()).expect("acknowledged");
    let tree = describe(dir.path());
    assert_eq!(rot_trees(&bench), 1, "the fault is hit");
    let second = backup(&bench.open(), dir.path()).expect("acknowledged");
    assert_eq!(second.item.root, first.item.root, "nothing has changed but the store");
    assert_restores(&bench.open(), &second.snapshot, &tree);
    let _ = check(&bench.open());
}

#[test]
fn init_deletes_nothing_that_no_init_can_have_left() {
    let dir = scratch();
    for name in ["keys/server.key", "keys/0123456789abcdef0123456789abcdef.key", "config/app.json"]
    {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(&path, "precious").expect("written");
    }
    let store = volume_vault::store::LocalStore::open(dir.path()).expect("a folder");
    let made = volume_vault::repo::init(&store, &Default::default(), |_| {
        Err(volume_vault::repo::RepoError::Store(StoreError::Location("not asked".to_owned())))
    });
    let error = made.expect_err("refused").to_string();
    assert!(error.contains("nothing of a repository"), "{error}");
    assert_eq!(fs::read_dir(dir.path().join("keys")).expect("there").count(), 2);
    assert!(dir.path().join("config/app.json").exists());
    let home = scratch();
    let opened = open(std::sync::Arc::new(store), home.path());
    assert!(opened.is_err(), "no repository was made");
}
