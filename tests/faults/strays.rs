//! Files in a repository that are none of ours.

use std::sync::Arc;

use volume_vault::store::LocalStore;

use crate::support::repo::{
    assert_restores, backup, change_tree, check, list, make, make_tree, open, scratch,
};
use crate::support::tree::describe;

#[test]
fn f032_stray_files_and_folders_in_a_repository_are_ignored() {
    let (place, home, dir) = (scratch(), scratch(), scratch());
    let store = || Arc::new(LocalStore::open(place.path()).expect("opens"));
    make(&*store());
    make_tree(dir.path());
    let repo = open(store(), home.path()).expect("opens");
    let old = backup(&repo, dir.path()).expect("acknowledged").snapshot;
    let old_tree = describe(dir.path());
    let mut folders = vec![place.path().to_owned()];
    for name in ["packs", "index", "snapshots", "keys", "config", "gc", "forget"] {
        std::fs::create_dir_all(place.path().join(name)).expect("made");
        folders.push(place.path().join(name));
    }
    let pack_folder = std::fs::read_dir(place.path().join("packs")).expect("lists").next();
    folders.push(pack_folder.expect("one").expect("reads").path());
    let mut strays = Vec::new();
    for folder in &folders {
        let names = [".DS_Store", ".tmp-0011223344556677", "name#1", ".nfs000000000abc", "x.tmp"];
        for name in names.iter().chain(&["Thumbs.db", "desktop.ini", "README", "~"]) {
            std::fs::write(folder.join(name), "stray").expect("written");
            strays.push(folder.join(name));
        }
        std::fs::create_dir(folder.join("lost+found")).expect("made");
        std::fs::write(folder.join("lost+found/#123"), "stray").expect("written");
        std::os::unix::fs::symlink("/etc", folder.join("link")).expect("made");
    }
    change_tree(dir.path());
    for host in [home.path(), scratch().path()] {
        let repo = open(store(), host).expect("opens");
        let new = backup(&repo, dir.path()).expect("acknowledged").snapshot;
        assert!(list(&repo).len() >= 2);
        assert_restores(&repo, &old, &old_tree);
        assert_restores(&repo, &new, &describe(dir.path()));
        assert!(check(&repo) > 0);
    }
    assert!(strays.iter().all(|stray| stray.exists()), "what is not ours is left alone");
}
