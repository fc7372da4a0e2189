//! What gives power beyond the target: brought back into volumes, left out of directories.

use std::collections::BTreeMap;

use volume_vault::entry::{Kind, Xattr};
use volume_vault::format::Content;
use volume_vault::sink::Special;

use super::{Restored, restore_with};
use crate::support::builder::{Builder, RawRecord, empty_file, entry, key_of, other, root, value};
use crate::support::tree::{self, Record, describe};

/// A file with a mode and attributes.
fn with(path: &str, kind: Kind, mode: u32, xattrs: &[(&str, &[u8])]) -> RawRecord {
    let mut whole = entry(kind);
    whole.mode = mode;
    let xattr = |(name, value): &(&str, &[u8])| Xattr {
        name: name.as_bytes().to_vec(),
        value: value.to_vec(),
    };
    whole.xattrs = xattrs.iter().map(xattr).collect();
    whole.xattrs.sort();
    (key_of(path), value(whole, Content::empty()))
}

/// `CAP_NET_RAW`, version 2.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn records() -> Vec<RawRecord> {
    vec![
        root(),
        other("block", Kind::BlockDevice { major: 7, minor: 200 }),
        other("char", Kind::CharDevice { major: 1, minor: 5 }),
        with("capable", empty_file(), 0o755, &[("security.capability", &CAPABILITY)]),
        with("dir", Kind::Directory, 0o3777, &[("trusted.d", b"1"), ("user.d", b"2")]),
        other("fifo", Kind::Fifo),
        with("setgid", empty_file(), 0o2755, &[]),
        with("setuid", empty_file(), 0o4755, &[]),
        other("socket", Kind::Socket),
        with("trusted", empty_file(), 0o644, &[("trusted.t", b"1"), ("user.t", b"2")]),
    ]
}

fn restored(special: Special) -> (Restored, BTreeMap<String, Record>) {
    let mut builder = Builder::new();
    let mut records = records();
    records.sort();
    let item = builder.tree(&records);
    let restored = restore_with(&mut builder, &item, special);
    let found = describe(&restored.beside.target());
    let found =
        found.into_iter().map(|(path, record)| (String::from_utf8(path).expect("UTF-8"), record));
    (restored, found.collect())
}

fn names(record: &Record) -> Vec<String> {
    record.xattrs.keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

#[test]
fn f105_a_plain_directory_gets_nothing_that_gives_power_and_each_is_named() {
    let (restored, found) = restored(Special::LeaveOut);
    let _ = restored.left_out(&["block", "capable", "char", "dir", "setgid", "setuid", "trusted"]);
    let paths: Vec<_> = found.keys().map(String::as_str).collect();
    let there = ["", "capable", "dir", "fifo", "setgid", "setuid", "socket", "trusted"];
    assert_eq!(paths, there);
    assert_eq!((found["setuid"].mode, found["setgid"].mode), (0o755, 0o755));
    assert_eq!(found["capable"].xattrs, BTreeMap::new());
    assert_eq!(names(&found["trusted"]), ["user.t"]);
    // On a directory the bit only says which group new files get.
    assert_eq!((found["dir"].mode, names(&found["dir"])), (0o3777, vec!["user.d".to_owned()]));
    assert_eq!(
        (&found["fifo"].kind, &found["socket"].kind),
        (&tree::Kind::Fifo, &tree::Kind::Socket)
    );
    for (path, what) in [
        ("block", "device left out"),
        ("char", "device left out"),
        ("capable", "security.capability"),
        ("setuid", "set-id bits"),
        ("setgid", "set-id bits"),
        ("trusted", "trusted.t"),
        ("dir", "trusted.d"),
    ] {
        let of = |w: &&volume_vault::event::Warning| w.object == path.as_bytes();
        let warning = restored.warnings.iter().find(of).expect("it is named");
        assert!(warning.message.contains(what), "{path}: {}", warning.message);
        assert!(warning.message.contains("not asked for"), "{path}: {}", warning.message);
    }
}

#[test]
fn f105_a_volume_gets_everything() {
    let (restored, found) = restored(Special::Restore);
    let _ = restored.left_out(&[]);
    assert_eq!(found.len(), records().len());
    assert_eq!(found["block"].kind, tree::Kind::Block(7, 200));
    assert_eq!(found["char"].kind, tree::Kind::Char(1, 5));
    assert_eq!((found["setuid"].mode, found["setgid"].mode), (0o4755, 0o2755));
    assert_eq!(found["capable"].xattrs[&b"security.capability"[..]], CAPABILITY);
    assert_eq!(names(&found["trusted"]), ["trusted.t", "user.t"]);
    assert_eq!(names(&found["dir"]), ["trusted.d", "user.d"]);
}

#[test]
fn f105_a_device_of_numbers_the_kernel_has_not_is_left_out_and_named() {
    let mut builder = Builder::new();
    let numbers = [(u32::MAX, 0), (0, u32::MAX), (1 << 12, 3), (1, 1 << 20)];
    let mut records = vec![root()];
    for (at, (major, minor)) in numbers.into_iter().enumerate() {
        records.push(other(&format!("c{at}"), Kind::CharDevice { major, minor }));
    }
    let item = builder.tree(&records);
    let restored = restore_with(&mut builder, &item, Special::Restore);
    let _ = restored.left_out(&["c0", "c1", "c2", "c3"]);
}

#[test]
fn f105_labels_of_the_machine_are_neither_brought_back_nor_an_error() {
    let mut builder = Builder::new();
    let labels = [("security.ima", &b"x"[..]), ("security.selinux", b"x")];
    let item = builder.tree(&[root(), with("a", empty_file(), 0o644, &labels)]);
    let restored = restore_with(&mut builder, &item, Special::Restore);
    let _ = restored.left_out(&[]);
}

#[test]
fn f105_attributes_that_no_system_takes_are_named_and_the_file_stays() {
    let mut builder = Builder::new();
    let large = vec![b'x'; 64 << 10];
    let odd: [(&str, &[u8]); 3] = [("nowhere.a", b"x"), ("system.nothing", b"x"), ("user.", b"x")];
    let records = [
        root(),
        with("a", empty_file(), 0o600, &odd),
        with("b", empty_file(), 0o600, &[("user.large", &large)]),
    ];
    let item = builder.tree(&records);
    let restored = restore_with(&mut builder, &item, Special::Restore);
    assert!(restored.outcome.is_ok());
    assert_eq!(restored.paths(), ["a", "b"]);
    assert!(restored.named().contains(&"a".to_owned()), "{:?}", restored.warnings);
}
