//! What a volume can hold to be a nuisance. Each row of the fault catalogue by its number.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, lchown};
use std::process::Command;

use rustix::fs::inotify;
use rustix::fs::{self as sys, AtFlags, CWD, FileType, Mode, XattrFlags};

use super::mutation::set_mtime;
use super::{Bench, assert_same, shown, write};
use crate::support::tree::{Aspect, Kind, describe, diff_except, make_deep, remove};

#[test]
fn f110_a_tree_5000_deep_comes_back() {
    let bench = Bench::on_tmpfs();
    make_deep(&bench.tree(), 5000);
    let tree = describe(&bench.tree());
    let saved = bench.save();
    let (target, restored) = bench.restore(&saved);
    let lines = diff_except(&tree, &describe(&target), &[Aspect::MoreHoles]);
    let again = bench.save();
    let facts = again.report.item.facts;
    remove(&bench.tree());
    remove(&target);
    assert_eq!(shown(&saved.warnings), [""; 0]);
    assert_eq!(shown(&restored.warnings), [""; 0]);
    assert_eq!(lines, [""; 0]);
    assert_eq!((facts.entries, facts.bytes_read), (10_001, 0));
}

#[test]
fn f112_eight_tib_of_holes_come_back_at_once() {
    let bench = Bench::new();
    let file = |name: &str, len: u64, data: &[(u64, usize)]| {
        let file = File::create(bench.at(name)).expect("made");
        for (offset, len) in data {
            file.write_all_at(&vec![b'd'; *len], *offset).expect("written");
        }
        file.set_len(len).expect("sized");
    };
    const TIB: u64 = 1 << 40;
    file("only-a-hole", 8 * TIB, &[]);
    file("at-the-start", 8 * TIB, &[(8 * TIB - 1, 1)]);
    file("at-the-end", 8 * TIB - 1, &[(0, 1)]);
    file(
        "odd",
        8 * TIB - 777,
        &[(12_345, 777), (TIB + 1, 100_001), (4 * TIB - 1, 2), (8 * TIB - 5000, 13)],
    );
    file("short", 5000, &[]);
    let tree = describe(&bench.tree());
    let saved = bench.save();
    assert_eq!(shown(&saved.warnings), [""; 0]);
    let facts = &saved.report.item.facts;
    assert_eq!(facts.bytes, 8 * TIB + 8 * TIB + (8 * TIB - 1) + (8 * TIB - 777) + 5000);
    assert!(facts.bytes_read < 1 << 20, "{}", facts.bytes_read);
    assert!(saved.report.bytes_stored < 1 << 20, "{}", saved.report.bytes_stored);
    bench.assert_comes_back(&saved, &tree);
    // Making room for the holes again costs nothing either.
    file("odd", 3, &[]);
    let changed = bench.restore_into_tree(
        &saved,
        volume_vault::ops::restore::Extra::Remove,
        volume_vault::source::Selection::all(),
    );
    assert_eq!(shown(&changed.warnings), [""; 0]);
    assert_same(&tree, &bench.tree());
}

#[test]
fn f113_what_is_no_file_is_never_opened() {
    let bench = Bench::new();
    let nodes = [
        ("fifo", FileType::Fifo, 0),
        ("socket", FileType::Socket, 0),
        ("null", FileType::CharacterDevice, sys::makedev(1, 3)),
        ("tape", FileType::CharacterDevice, sys::makedev(9, 0)),
        ("disk", FileType::BlockDevice, sys::makedev(7, 99)),
    ];
    for (name, kind, device) in nodes {
        sys::mknodat(CWD, bench.at(name), kind, Mode::RUSR, device).expect("made");
    }
    let tree = describe(&bench.tree());
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK).expect("inotify");
    for (name, ..) in nodes {
        let flags = inotify::WatchFlags::OPEN | inotify::WatchFlags::ACCESS;
        let _ = inotify::add_watch(&watch, bench.at(name), flags).expect("watched");
    }
    let saved = bench.save();
    let _ = bench.save();
    assert_eq!(shown(&saved.warnings), [""; 0]);
    let mut buffer = [std::mem::MaybeUninit::uninit(); 1024];
    let mut reader = inotify::Reader::new(&watch, &mut buffer);
    assert!(reader.next().is_err(), "nothing was opened");
    let _ = File::open(bench.at("null")).expect("opens");
    assert!(reader.next().is_ok(), "the watch sees what it is there for");
    bench.assert_comes_back(&saved, &tree);
}

#[test]
fn f114_attributes_of_all_kinds_come_back() {
    let bench = Bench::new();
    write(&bench.at("f"), b"content");
    fs::create_dir(bench.at("d")).expect("made");
    let run = |program: &str, arguments: &[&str], name: &str| {
        let done = Command::new(program).args(arguments).arg(bench.at(name)).status();
        assert!(done.expect("it runs").success(), "{program} {arguments:?}");
    };
    for name in ["f", "d"] {
        run("setfacl", &["-m", "u:1000:rw,g:7:x,m::rwx"], name);
        let set = |key: &str, value: &[u8]| {
            sys::setxattr(bench.at(name), key, value, XattrFlags::empty()).expect(key);
        };
        set("user.empty", b"");
        set("user.binary", &(0..=255).collect::<Vec<u8>>());
        set("user.\u{1b}[2J", b"x");
        set("trusted.t", b"t");
        set("security.own", b"kept");
    }
    run("setfacl", &["-d", "-m", "u:1000:rx"], "d");
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let flags = XattrFlags::empty();
    sys::setxattr(bench.at("f"), "security.capability", capability, flags).expect("set");
    let tree = describe(&bench.tree());
    let saved = bench.save();
    assert_eq!(shown(&saved.warnings), [""; 0]);
    bench.assert_comes_back(&saved, &tree);
}

#[test]
fn f114_the_largest_attributes_come_back_or_are_named() {
    let bench = Bench::on_tmpfs();
    write(&bench.at("f"), b"content");
    let flags = XattrFlags::empty();
    sys::setxattr(bench.at("f"), "user.large", &vec![b'x'; 65_536], flags).expect("set");
    let tree = describe(&bench.tree());
    let saved = bench.save();
    assert_eq!(shown(&saved.warnings), [""; 0]);
    bench.assert_comes_back(&saved, &tree);
    // On a disk there is often no room for it.
    let elsewhere = tempfile::tempdir_in("/var/tmp").expect("a directory");
    let target = elsewhere.path().join("target");
    let restored = bench.restore_selected(&saved, &target, Default::default());
    let is_there = sys::getxattr(target.join("f"), "user.large", &mut [0u8; 65_536][..]).is_ok();
    assert_eq!(restored.warnings.len(), usize::from(!is_there), "{:?}", restored.warnings);
    assert_eq!(fs::read(target.join("f")).expect("there"), b"content");
}

#[test]
fn f114_inode_flags_that_are_not_kept_are_named() {
    let bench = Bench::new();
    for (name, flag) in [("append", "+a"), ("immutable", "+i")] {
        write(&bench.at(name), b"content");
        let chattr = Command::new("chattr").arg(flag).arg(bench.at(name)).status();
        assert!(chattr.expect("it runs").success());
    }
    let saved = bench.save();
    for name in ["append", "immutable"] {
        let chattr = Command::new("chattr").arg("-ai").arg(bench.at(name)).status();
        assert!(chattr.expect("it runs").success());
    }
    let expected =
        ["append: its append-only flag is not kept", "immutable: its immutable flag is not kept"];
    assert_eq!(shown(&saved.warnings), expected);
    assert!(!saved.report.is_partial());
    let (target, _) = bench.restore(&saved);
    assert_eq!(fs::read(target.join("immutable")).expect("there"), b"content");
}

#[test]
fn f115_a_file_with_66000_names_comes_back_as_one() {
    // More than ext4 allows.
    let bench = Bench::on_tmpfs();
    write(&bench.at("first"), b"content");
    for number in 0..66_000 {
        let dir = bench.at(&format!("d{}", number % 60));
        if number < 60 {
            fs::create_dir(&dir).expect("made");
        }
        fs::hard_link(bench.at("first"), dir.join(number.to_string())).expect("linked");
    }
    let saved = bench.save();
    assert_eq!(shown(&saved.warnings), [""; 0]);
    let facts = &saved.report.item.facts;
    assert_eq!((facts.entries, facts.bytes, facts.bytes_read), (66_062, 7, 7));
    let (target, restored) = bench.restore(&saved);
    assert_eq!(shown(&restored.warnings), [""; 0]);
    assert_eq!(target.join("first").metadata().expect("there").nlink(), 66_001);
    let again = bench.save_dir("again", &target);
    assert_eq!(super::root(&again), super::root(&saved));
}

#[test]
fn f116_times_and_owners_at_the_edges_come_back() {
    let bench = Bench::on_tmpfs();
    let year_2500 = 16_725_225_600;
    let times =
        [(-1, 999_999_999), (-2_208_988_800, 1), (0, 0), (year_2500, 123_456_789), (1, 999)];
    for (number, (seconds, nanos)) in times.into_iter().enumerate() {
        let path = bench.at(&number.to_string());
        write(&path, b"content");
        lchown(&path, Some(u32::MAX - 1), Some(u32::MAX - 1)).expect("set");
        set_mtime(&path, seconds, nanos).expect("set");
    }
    std::os::unix::fs::symlink("target", bench.at("link")).expect("made");
    lchown(bench.at("link"), Some(1 << 31), Some(65_536)).expect("set");
    set_mtime(&bench.at("link"), year_2500, 1).expect("set");
    set_mtime(&bench.tree(), -5, 5).expect("set");
    let tree = describe(&bench.tree());
    let found = |name: &[u8]| tree[name].mtime;
    assert_eq!(
        (found(b"3"), found(b"link"), found(b"1")),
        ((year_2500, 123_456_789), (year_2500, 1), times[1])
    );
    let saved = bench.save();
    bench.assert_comes_back(&saved, &tree);
    bench.let_the_clock_tick();
    let again = bench.save();
    assert_eq!(again.report.item.facts.bytes_read, 0);
    assert_eq!(super::root(&again), super::root(&saved));
}

#[test]
fn f113_a_device_is_left_out_and_named_unless_asked_for() {
    let bench = Bench::new();
    let device = sys::makedev(1, 3);
    sys::mknodat(CWD, bench.at("null"), FileType::CharacterDevice, Mode::RUSR, device)
        .expect("made");
    sys::mknodat(CWD, bench.at("fifo"), FileType::Fifo, Mode::RUSR, 0).expect("made");
    sys::chmodat(CWD, bench.at("fifo"), Mode::from(0o640), AtFlags::empty()).expect("set");
    let saved = bench.save();
    let target = bench.beside();
    let report = &saved.report;
    let options = volume_vault::sink::DirectoryOptions::default();
    let restored = bench.run(Default::default(), |run| {
        let (snapshot, item) = (&report.snapshot, &report.item);
        volume_vault::ops::restore::restore_directory(run, snapshot, item, &target, options)
    });
    let expected = ["!null: device left out (not asked for, or not root)"];
    assert_eq!(shown(&restored.warnings), expected);
    let kinds: Vec<_> = describe(&target).into_values().map(|record| record.kind).collect();
    assert_eq!(kinds, [Kind::Directory, Kind::Fifo]);
}
