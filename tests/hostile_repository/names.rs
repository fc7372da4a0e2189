//! Names that would lead out of the target, or nowhere.

use volume_vault::format::Stored;

use super::{restore, text};
use crate::support::builder::{
    Builder, RawRecord, directory, empty_file, key_of, link, other, root, symlink,
};

/// Keys that no path has.
fn bad_keys() -> Vec<Vec<u8>> {
    vec![
        b"..".to_vec(),
        b".".to_vec(),
        b"..\0sentinel\0file".to_vec(),
        b"a\0..\0..\0sentinel".to_vec(),
        b"a\0.".to_vec(),
        b"/".to_vec(),
        b"/etc/vault-was-here".to_vec(),
        b"../sentinel/file".to_vec(),
        b"a/b".to_vec(),
        b"\0".to_vec(),
        b"\0a".to_vec(),
        b"a\0".to_vec(),
        b"a\0\0b".to_vec(),
        vec![b'x'; 256],
        [&b"a\0"[..], &[b'x'; 256]].concat(),
        vec![b'x'; (1 << 20) + 1],
        vec![&b"x"[..]; (1 << 19) + 2].join(&0),
    ]
}

#[test]
fn f102_an_item_with_a_name_that_cannot_be_is_refused() {
    for key in bad_keys() {
        for value in [directory("").1, other("", empty_file()).1, symlink("", "x").1] {
            let mut builder = Builder::new();
            let shown = key[..key.len().min(20)].escape_ascii().to_string();
            let mut records: Vec<RawRecord> = vec![root(), (key.clone(), value)];
            records.sort();
            let item = builder.tree(&records);
            let restored = restore(&mut builder, &item);
            let error = restored.outcome.as_ref().expect_err(&shown).to_string();
            assert!(error.contains("is damaged"), "{shown}: {error}");
            assert_eq!(restored.paths(), [".vault-restore-in-progress"], "{shown}");
        }
    }
}

#[test]
fn f102_a_first_name_that_cannot_be_is_refused() {
    for key in bad_keys().iter().filter(|key| key.len() < 1000) {
        let (_, mut value) = link("b", "a", empty_file());
        // The last bytes are the length of the first name, that name and a size of no bytes.
        value.truncate(value.len() - 3);
        volume_vault::codec::put_bytes(&mut value, key);
        value.push(0);
        let shown = key.escape_ascii().to_string();
        assert!(Stored::decode(&value).is_err(), "{shown}");
        let mut builder = Builder::new();
        let records = [root(), builder.file("a", b"x"), (b"b".to_vec(), value)];
        let item = builder.tree(&records);
        restore(&mut builder, &item).refused("is damaged");
    }
}

#[test]
fn f102_names_of_255_bytes_and_of_any_other_byte_are_brought_back() {
    let mut builder = Builder::new();
    let long = "x".repeat(255);
    let odd: Vec<u8> = (1..=255).filter(|b| *b != b'/').take(120).collect();
    let mut records = vec![root(), builder.file(&long, b"long")];
    let (_, value) = builder.file("", b"odd");
    records.push((odd.clone(), value));
    records.push((b"...".to_vec(), directory("").1));
    records.push((b"..a".to_vec(), directory("").1));
    records.sort();
    let item = builder.tree(&records);
    let restored = restore(&mut builder, &item);
    let _ = restored.left_out(&[]);
    let target = restored.beside.target();
    assert_eq!(text(&target.join(&long)), "long");
    use std::os::unix::ffi::OsStrExt as _;
    assert_eq!(text(&target.join(std::ffi::OsStr::from_bytes(&odd))), "odd");
    assert_eq!(restored.paths().len(), 4);
}

#[test]
fn f102_an_entry_with_the_name_of_the_marker_is_left_out_and_named() {
    let mut builder = Builder::new();
    let marker = volume_vault::sink::MARKER_NAME;
    let records = [
        root(),
        builder.file(marker, b"forged"),
        builder.file(&format!("{marker}/below"), b"forged"),
        builder.file("a", b"a"),
        link("b", marker, empty_file()),
        directory("c"),
        builder.file(&format!("c/{marker}"), b"only in the root is it special"),
    ];
    let item = builder.tree(&records);
    let restored = restore(&mut builder, &item);
    let below = format!("{marker}/below");
    let _ = restored.left_out(&[marker, &below, "b"]);
    assert_eq!(restored.paths(), ["a".to_owned(), "c".to_owned(), format!("c/{marker}")]);
}

#[test]
fn f102_absolute_keys_are_read_as_what_they_are() {
    // No part of a key is ever handed on as a path.
    assert_eq!(key_of("/etc/passwd"), b"\0etc\0passwd");
    let mut builder = Builder::new();
    let item = builder.tree(&[root(), directory("/etc")]);
    restore(&mut builder, &item).refused("cannot be a file name");
}
