//! The describer sees each difference it is there for.

use super::plan::{plans, random_tree};
use super::*;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

fn tree(change: impl FnOnce(&Path)) -> Tree {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("d")).expect("made");
    fs::write(at("d/f"), vec![1; 100_000]).expect("written");
    fs::write(at("a"), b"a").expect("written");
    fs::hard_link(at("a"), at("b")).expect("linked");
    fs::write(at("c"), b"a").expect("written");
    symlink("target", at("l")).expect("made");
    let file = File::create(at("s")).expect("made");
    file.set_len(1 << 20).expect("sized");
    file.write_all_at(b"x", 500_000).expect("written");
    let made = sys::mknodat(sys::CWD, at("n"), sys::FileType::Socket, Mode::RUSR, 0);
    made.expect("made");
    change(dir.path());
    let settled = sys::Timespec { tv_sec: 1, tv_nsec: 2 };
    let times = sys::Timestamps { last_access: settled, last_modification: settled };
    for name in [".", "d", "d/f", "a", "b", "c", "l", "s", "n"] {
        let flags = sys::AtFlags::SYMLINK_NOFOLLOW;
        // What the change removed needs no time.
        let _ = sys::utimensat(sys::CWD, at(name), &times, flags);
    }
    describe(dir.path())
}

#[test]
fn equal_trees_do_not_differ() {
    let left = tree(|_| {});
    assert_eq!(left.len(), 9, "the root, too");
    assert_eq!(diff(&left, &tree(|_| {})), [""; 0]);
}

#[test]
fn each_difference_is_named_and_can_be_left_out() {
    type Change = fn(&Path);
    let changes: [(&str, Aspect, Change); 8] = [
        ("d/f: content", Aspect::Content, |d| {
            fs::write(d.join("d/f"), vec![2; 100_000]).expect("written");
        }),
        ("c: mode", Aspect::Mode, |d| {
            fs::set_permissions(d.join("c"), fs::Permissions::from_mode(0o4711)).expect("set");
        }),
        ("l: owner", Aspect::Owner, |d| {
            std::os::unix::fs::lchown(d.join("l"), Some(1), None).expect("owned");
        }),
        ("d: xattr user.x nothing", Aspect::Xattrs, |d| {
            sys::setxattr(d.join("d"), "user.x", b"1", sys::XattrFlags::empty()).expect("set");
        }),
        ("b: links \"a\" became nothing", Aspect::Links, |d| {
            fs::remove_file(d.join("b")).expect("removed");
            fs::write(d.join("b"), b"a").expect("written");
        }),
        ("s: holes", Aspect::Holes, |d| {
            let file = File::options().write(true).open(d.join("s")).expect("opened");
            file.write_all_at(&[0; 4096], 0).expect("written");
        }),
        ("n: missing", Aspect::Sockets, |d| fs::remove_file(d.join("n")).expect("removed")),
        (": mode", Aspect::Root, |d| {
            fs::set_permissions(d, fs::Permissions::from_mode(0o711)).expect("set");
        }),
    ];
    let left = tree(|_| {});
    for (expected, aspect, change) in changes {
        let right = tree(change);
        let lines = diff(&left, &right);
        assert!(lines.iter().any(|line| line.starts_with(expected)), "{expected}: {lines:?}");
        assert_eq!(diff_except(&left, &right, &[aspect]), [""; 0], "{aspect:?}");
    }
    let moved = tree(|d| fs::rename(d.join("l"), d.join("m")).expect("moved"));
    let lines = diff_except(&left, &moved, &[Aspect::Mtime]);
    assert_eq!(lines, ["l: missing", "m: unexpected"]);
    let mut later = left.clone();
    later.values_mut().for_each(|record| record.mtime.1 += 1);
    assert_eq!(diff(&left, &later).len(), left.len());
}

#[test]
fn more_holes_are_not_fewer() {
    let zeros = tree(|d| {
        let file = File::options().write(true).open(d.join("s")).expect("opened");
        file.write_all_at(&[0; 4096], 0).expect("written");
    });
    let holes = tree(|_| {});
    assert_eq!(diff_except(&zeros, &holes, &[Aspect::MoreHoles]), [""; 0]);
    assert_eq!(diff_except(&holes, &zeros, &[Aspect::MoreHoles]).len(), 1);
}

#[test]
fn a_seed_always_makes_the_same_tree_and_it_holds_everything() {
    let make = |seed| {
        let dir = tempfile::tempdir().expect("a directory");
        random_tree(dir.path(), seed, 300);
        describe(dir.path())
    };
    let one = make(1);
    assert_eq!(diff(&one, &make(1)), [""; 0]);
    assert_ne!(diff(&one, &make(2)), [""; 0]);
    let has = |what: &dyn Fn(&Record) -> bool| one.values().any(what);
    assert!(has(&|r| matches!(&r.kind, Kind::File { holes, .. } if !holes.is_empty())));
    assert!(has(&|r| matches!(&r.kind, Kind::File { size: 0, .. })));
    assert!(has(&|r| r.kind == Kind::Fifo) && has(&|r| r.kind == Kind::Socket));
    assert!(
        has(&|r| matches!(r.kind, Kind::Char(..))) && has(&|r| matches!(r.kind, Kind::Block(..)))
    );
    assert!(has(&|r| matches!(r.kind, Kind::Symlink(_))));
    assert!(has(&|r| r.group.is_some()) && has(&|r| r.mode & 0o6000 != 0));
    assert!(has(&|r| r.mtime.0 < 0) && has(&|r| r.mtime.0 > 1 << 32));
    assert!(has(&|r| r.uid == u32::MAX - 1));
    for name in [&b"system.posix_acl_access"[..], b"security.capability"] {
        assert!(has(&|r| r.xattrs.contains_key(name)), "{}", name.escape_ascii());
    }
}

#[test]
fn every_plan_can_be_made() {
    let mut runner = TestRunner::deterministic();
    for _ in 0..10 {
        let plan = plans(60).new_tree(&mut runner).expect("a plan").current();
        let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
        dirs.iter().for_each(|dir| plan.make(dir.path()));
        let [left, right] = dirs.each_ref().map(|dir| describe(dir.path()));
        assert_eq!(diff(&left, &right), [""; 0]);
    }
}

#[test]
fn depth_beyond_any_path_is_described() {
    let dir = tempfile::tempdir().expect("a directory");
    make_deep(dir.path(), 5000);
    let tree = describe(dir.path());
    remove(dir.path());
    assert_eq!(tree.len(), 1 + 2 * 5000);
}
