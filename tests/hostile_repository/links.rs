//! Links that lead out of the target, in any order and of any kind.

use std::os::unix::fs::MetadataExt as _;

use volume_vault::entry::Kind;

use super::{Beside, restore, restore_beside, restore_with, text};
use crate::support::builder::{
    Builder, RawRecord, directory, empty_file, link, other, root, symlink,
};
use volume_vault::sink::Special;

/// Restores a tree that is made once it is known where the sentinel is.
fn restore_of(make: impl FnOnce(&mut Builder, &str) -> Vec<RawRecord>) -> super::Restored {
    let beside = Beside::new();
    let sentinel = beside.path("sentinel").into_os_string().into_string().expect("UTF-8");
    let mut builder = Builder::new();
    let records = make(&mut builder, &sentinel);
    let item = builder.tree_of(40_000, &records);
    let _ = builder.publish();
    restore_beside(&builder.open(), &item, Special::Restore, beside)
}

#[test]
fn f103_nothing_is_written_through_a_symbolic_link() {
    let restored = restore_of(|builder, sentinel| {
        vec![
            root(),
            symlink("abs", sentinel),
            builder.file("abs/file", b"through an absolute link"),
            directory("abs/made"),
            builder.file("abs/made/file", b"below it"),
            symlink("abs/sym", "x"),
            symlink("rel", "../sentinel"),
            builder.file("rel/file", b"through a relative link"),
            link("rel/hard", "abs", Kind::Symlink { target: Vec::new() }),
            symlink("to-file", &format!("{sentinel}/file")),
            builder.file("z", b"z"),
        ]
    });
    let _ = restored.left_out(&[
        "abs/file",
        "abs/made",
        "abs/made/file",
        "abs/sym",
        "rel/file",
        "rel/hard",
    ]);
    assert_eq!(restored.paths(), ["abs", "rel", "to-file", "z"]);
}

#[test]
fn f103_nothing_is_written_through_a_link_that_is_there_by_then() {
    // So many links that the first is made before what should lie below it is read.
    let restored = restore_of(|builder, sentinel| {
        let mut records = vec![root(), symlink("x", sentinel)];
        records.extend((0..17_000).map(|number| symlink(&format!("x/{number:05}"), "y")));
        records.push(builder.file("x/file", b"through the link"));
        records.push(directory("x/zz"));
        records.push(builder.file("x/zz/file", b"through the link"));
        records
    });
    let named = restored.named();
    assert_eq!(named.len(), 17_003);
    assert!(named.contains(&"x/file".to_owned()) && named.contains(&"x/zz".to_owned()));
    assert!(restored.outcome.is_ok());
    assert_eq!(restored.paths(), ["x"]);
}

#[test]
fn f103_loops_of_links_are_brought_back_and_not_followed() {
    let restored = restore_of(|builder, _| {
        vec![
            root(),
            symlink("a", "b"),
            builder.file("a/below", b"x"),
            symlink("b", "a"),
            symlink("self", "self"),
            builder.file("self/self", b"x"),
            symlink("up", "../target/up"),
        ]
    });
    let _ = restored.left_out(&["a/below", "self/self"]);
    assert_eq!(restored.paths(), ["a", "b", "self", "up"]);
    let target = std::fs::read_link(restored.beside.target().join("a")).expect("a link");
    assert_eq!(target, std::path::Path::new("b"));
}

#[test]
fn f103_a_directory_does_not_take_the_place_of_a_link() {
    // The same name twice is refused as a whole; a tree made earlier cannot help either.
    let mut builder = Builder::new();
    let item = builder.tree(&[root(), symlink("a", "../sentinel"), directory("a")]);
    restore(&mut builder, &item).refused("do not ascend");
    let beside = Beside::new();
    let target = beside.target();
    std::fs::create_dir(&target).expect("made");
    std::os::unix::fs::symlink("../sentinel", target.join("a")).expect("made");
    let item = builder.tree(&[root(), directory("a")]);
    let _ = builder.publish();
    let restored = restore_beside(&builder.open(), &item, Special::LeaveOut, beside);
    let error = restored.outcome.as_ref().expect_err("it is not empty").to_string();
    assert!(error.contains("is not empty"), "{error}");
}

#[test]
fn f103_targets_of_links_are_bytes_and_nothing_else() {
    let restored = restore_of(|_, _| {
        vec![
            root(),
            symlink("a", &"t".repeat(4095)),
            symlink("b", "/proc/self/root/etc"),
            symlink("c", &"t".repeat(4096)),
            symlink("d", ""),
            symlink("e", "nul\0inside"),
        ]
    });
    let _ = restored.left_out(&["c", "d", "e"]);
    assert_eq!(restored.paths(), ["a", "b"]);
}

#[test]
fn f104_a_hard_link_reaches_nothing_outside_nor_through_a_symbolic_link() {
    let restored = restore_of(|builder, sentinel| {
        vec![
            root(),
            directory("d"),
            symlink("d/out", sentinel),
            link("e1", "d/out/file", empty_file()),
            link("e2", "sentinel/file", empty_file()),
            symlink("f", "../sentinel/file"),
            link("f1", "f", empty_file()),
            link("f2", "f", Kind::Symlink { target: b"x".to_vec() }),
            builder.file("z", b"z"),
        ]
    });
    let _ = restored.left_out(&["e1", "e2", "f1"]);
    assert_eq!(restored.paths(), ["d", "d/out", "f", "f2", "z"]);
    // A further name of the link itself, not of what it points to.
    let path = restored.beside.target().join("f2");
    assert!(path.symlink_metadata().expect("there").is_symlink());
    let outside = restored.beside.path("sentinel/file").metadata().expect("there");
    assert_eq!(outside.nlink(), 1);
}

#[test]
fn f104_a_hard_link_to_a_directory_a_device_or_nothing_is_left_out_and_named() {
    let mut builder = Builder::new();
    let null = Kind::CharDevice { major: 1, minor: 3 };
    let records = [
        root(),
        directory("dir"),
        other("dir/null", null.clone()),
        link("l1", "dir", empty_file()),
        link("l2", "dir/null", empty_file()),
        link("l3", "nothing", empty_file()),
        link("l4", "l4", empty_file()),
        link("l5", "dir/null", Kind::BlockDevice { major: 1, minor: 3 }),
        link("l6", "dir/null", null),
        builder.file("z", b"z"),
    ];
    let item = builder.tree(&records);
    let restored = restore_with(&mut builder, &item, Special::Restore);
    let _ = restored.left_out(&["l1", "l2", "l3", "l4", "l5"]);
    assert_eq!(restored.paths(), ["dir", "dir/null", "l6", "z"]);
    let restored = restore_with(&mut builder, &item, Special::LeaveOut);
    let _ = restored.left_out(&["dir/null", "l1", "l2", "l3", "l4", "l5", "l6"]);
    assert_eq!(restored.paths(), ["dir", "z"]);
}

#[test]
fn f104_a_hard_link_as_a_directory_is_refused() {
    let mut builder = Builder::new();
    let item = builder.tree(&[root(), directory("a"), link("b", "a", Kind::Directory)]);
    restore(&mut builder, &item).refused("a directory cannot be a hard link");
}

#[test]
fn f104_a_hard_link_to_a_later_entry_stays_within_the_target() {
    let mut builder = Builder::new();
    let records = [root(), link("a", "b", empty_file()), builder.file("b", b"content")];
    let item = builder.tree(&records);
    let restored = restore(&mut builder, &item);
    assert!(restored.outcome.is_ok());
    let target = restored.beside.target();
    assert_eq!(text(&target.join("b")), "content");
    // Either it is a name of that very file or it is named as left out.
    match target.join("a").exists() {
        true => {
            let inode = |name| target.join(name).metadata().expect("there").ino();
            assert_eq!(inode("a"), inode("b"));
        }
        false => assert_eq!(restored.named(), ["a"]),
    }
}

#[test]
fn f104_a_hard_link_to_a_damaged_file_is_left_out_with_it() {
    let mut builder = Builder::new();
    let lost = volume_vault::entry::Extent::Chunk(volume_vault::id::ChunkId::new([1; 32]), 9);
    let records = [
        root(),
        crate::support::builder::file_of("a", vec![lost]),
        link("b", "a", empty_file()),
        builder.file("z", b"z"),
    ];
    let item = builder.tree(&records);
    let restored = restore(&mut builder, &item);
    let _ = restored.left_out(&["a", "b"]);
    assert_eq!(restored.paths(), ["z"]);
}
