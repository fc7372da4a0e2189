//! What holds for every stream: what is written comes back, and no damage passes for content.

use std::io::{self, Cursor};
use std::sync::Arc;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tar_core::Header;

use super::*;
use crate::clock::Time;
use crate::event::Recorder;
use crate::sink::{TarWriter, TarWriterOptions};

/// An entry with its path and its content, holes filled with zeros.
pub(super) type Item = (EntryPath, Entry, Vec<u8>);

pub(super) fn path(slashed: &str) -> EntryPath {
    EntryPath::from_slashed(slashed.as_bytes()).expect("a path")
}

/// Reads a stream to its end.
pub(super) fn read_from(
    reader: impl Read + Send + 'static,
    options: TarOptions,
) -> Result<(Vec<Item>, Vec<Warning>), SourceError> {
    let observer = Arc::new(Recorder::default());
    let mut stream = TarStream::new(Box::new(reader), options, observer.clone());
    let mut items = Vec::new();
    let mut buffer = vec![0; 100_000];
    while let Some(found) = stream.next()? {
        let mut content = Vec::new();
        loop {
            match stream.read(&mut buffer) {
                Ok(Run::Data(len)) => content.extend_from_slice(&buffer[..len]),
                Ok(Run::Hole(len)) => {
                    content.resize(content.len() + usize::try_from(len).expect("small"), 0);
                }
                Ok(Run::End) => break,
                Err(error) => return Err(source_error(error)),
            }
        }
        let (entry, hint) = stream.finish().expect("an entry is open");
        assert_eq!((&entry, hint), (&found.entry, None));
        items.push((found.path, found.entry, content));
    }
    assert!(matches!(stream.next(), Ok(None)), "the end stays the end");
    Ok((items, observer.warnings()))
}

/// No failure is that of an entry alone.
fn source_error(error: ReadError) -> SourceError {
    assert!(matches!(error, ReadError::Source(_)), "{error}");
    match error {
        ReadError::Source(error) => error,
        ReadError::Entry(message, _) => {
            SourceError::Stream { name: "entry".into(), message, source: None }
        }
    }
}

pub(super) fn read(bytes: &[u8]) -> Result<(Vec<Item>, Vec<Warning>), SourceError> {
    read_from(Cursor::new(bytes.to_vec()), TarOptions::new("test.tar"))
}

pub(super) fn write(items: &[Item]) -> Vec<u8> {
    let options = TarWriterOptions::new("test.tar");
    let mut writer = TarWriter::new(Vec::new(), options, Arc::new(Recorder::default()));
    for (path, entry, content) in items {
        writer.entry(path, entry).expect("an entry");
        writer.content(content).expect("its content");
    }
    writer.finish().expect("an end")
}

pub(super) fn entry(kind: Kind) -> Entry {
    let mtime = Time::new(1_700_000_000, 0);
    Entry { kind, mode: 0o644, uid: 0, gid: 0, mtime, xattrs: Vec::new(), link: None }
}

pub(super) fn file(name: &str, content: &[u8]) -> Item {
    let kind = Kind::File { size: content.len() as u64, sparse: false };
    (path(name), entry(kind), content.to_vec())
}

/// A header block of any kind, with the fields as given and the right checksum.
pub(super) fn raw(kind: u8, name: &[u8], size: &[u8]) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.set_path(name).expect("a short name");
    header.set_mode_small(0o644);
    let fields = header.as_ustar_mut();
    fields.size[..size.len()].copy_from_slice(size);
    fields.typeflag[0] = kind;
    sealed(header)
}

pub(super) fn sealed(mut header: Header) -> Vec<u8> {
    header.set_checksum();
    header.as_bytes().to_vec()
}

/// A member of any kind with its data.
pub(super) fn member(kind: u8, name: &[u8], data: &[u8]) -> Vec<u8> {
    let mut bytes = raw(kind, name, format!("{:011o}\0", data.len()).as_bytes());
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

pub(super) fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar_core::builder::PaxBuilder::new();
    for (key, value) in records {
        let _ = builder.add(key, value);
    }
    member(b'x', b"x", &builder.finish())
}

pub(super) fn stream(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = parts.concat();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

#[track_caller]
pub(super) fn assert_refused(bytes: &[u8], why: &str) {
    let error = read(bytes).expect_err("must be refused");
    assert!(error.to_string().contains(why), "{error}");
}

/// A reader that gives its bytes in pieces of a few lengths in turn.
struct Pieces(Cursor<Vec<u8>>, usize);

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1 += 1;
        let len = [1, 511, 513, 7, 70_000][self.1 % 5].min(buffer.len());
        self.0.read(&mut buffer[..len])
    }
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let any_byte = any::<u8>().prop_map(|b| if b == 0 || b == b'/' { b'\n' } else { b });
    let ascii = "[a-z =%\n]{1,255}".prop_map(String::into_bytes);
    prop_oneof![vec(any_byte, 1..=255), ascii, "[a-z]{1,4}".prop_map(String::into_bytes)]
        .prop_filter("no component", |name| name != b"." && name != b"..")
}

fn any_path() -> impl Strategy<Value = EntryPath> {
    vec(name(), 1..12).prop_map(|names| {
        names.iter().try_fold(EntryPath::root(), |at, name| at.child(name)).expect("valid names")
    })
}

fn any_kind() -> impl Strategy<Value = (Kind, Vec<u8>)> {
    let number = 0..=0o7_777_777_u32;
    let device = (number.clone(), number);
    prop_oneof![
        vec(any::<u8>(), 0..3000)
            .prop_map(|c| (Kind::File { size: c.len() as u64, sparse: false }, c)),
        Just((Kind::Directory, vec![])),
        Just((Kind::Fifo, vec![])),
        vec(1..=255_u8, 1..300).prop_map(|target| (Kind::Symlink { target }, vec![])),
        device.clone().prop_map(|(major, minor)| (Kind::CharDevice { major, minor }, vec![])),
        device.prop_map(|(major, minor)| (Kind::BlockDevice { major, minor }, vec![])),
    ]
}

fn any_item() -> impl Strategy<Value = Item> {
    let mtime = (any::<i64>(), prop_oneof![Just(0), 0..1_000_000_000_u32]);
    let mtime = prop_oneof![mtime, (-9..9_i64, 0..1_000_000_000_u32), (0..1_i64 << 34, Just(0))];
    let xattrs = btree_map(vec(1..=255_u8, 1..40), vec(any::<u8>(), 0..100), 0..4);
    let owner = || prop_oneof![any::<u32>(), 0..2_000_u32];
    let link = proptest::option::weighted(0.1, any_path());
    let parts = (any_path(), any_kind(), 0..0o10000_u32, owner(), owner(), mtime, xattrs, link);
    parts.prop_map(|(path, (kind, content), mode, uid, gid, (seconds, nanos), xattrs, link)| {
        let xattrs = xattrs.into_iter().map(|(name, value)| Xattr { name, value }).collect();
        let (kind, content) = match link {
            Some(_) => (Kind::File { size: 0, sparse: false }, vec![]),
            None => (kind, content),
        };
        let mtime = Time::new(seconds, nanos);
        (path, Entry { kind, mode, uid, gid, mtime, xattrs, link }, content)
    })
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(192))]

    #[test]
    fn what_is_written_is_read_back(items in vec(any_item(), 0..8)) {
        let bytes = write(&items);
        prop_assert_eq!(bytes.len() % 10_240, 0);
        let (back, warnings) = read(&bytes).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(&back, &items);
        prop_assert_eq!(warnings, vec![]);
        let (back, _) = read_from(Pieces(Cursor::new(bytes), 0), TarOptions::new("test.tar"))
            .map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(back, items);
    }

    /// Whether the mutated stream is refused does not matter here, only that nothing panics; the
    /// checksums are made right again so that the mutation gets beyond them.
    #[test]
    fn no_mutation_panics(
        items in vec(any_item(), 1..4),
        edits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        repair in any::<bool>(),
    ) {
        let mut bytes = write(&items);
        for (at, value) in &edits {
            let at = at.index(bytes.len());
            bytes[at] = *value;
        }
        if repair {
            for block in bytes.chunks_exact_mut(512) {
                let array: &mut [u8; 512] = block.try_into().expect("a block");
                if &array[257..262] == b"ustar" {
                    let mut header = *Header::from_bytes(array);
                    header.set_checksum();
                    array.copy_from_slice(header.as_bytes());
                }
            }
        }
        let _ = read_holes_unfilled(&bytes);
    }

    #[test]
    fn no_garbage_in_extended_headers_panics(
        kind in prop::sample::select(vec![b'x', b'g', b'L', b'K']),
        data in vec(any::<u8>(), 0..600),
    ) {
        let bytes = stream(&[&member(kind, b"x", &data), &member(b'0', b"a", b"")]);
        let _ = read_holes_unfilled(&bytes);
    }

    #[test]
    fn no_sparse_map_panics(numbers in vec(prop_oneof![0..2000_u64, any::<u64>()], 0..9)) {
        let lines: String = numbers.iter().map(|n| format!("{n}\n")).collect();
        let mut data = lines.into_bytes();
        data.resize(512 + 700, 0);
        let version = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0")];
        let head = pax(&[version[0], version[1], ("GNU.sparse.realsize", "5000")]);
        let _ = read_holes_unfilled(&stream(&[&head, &member(b'0', b"a", &data)]));
        let joined = numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        let head = pax(&[("GNU.sparse.map", &joined), ("GNU.sparse.size", "5000")]);
        let _ = read_holes_unfilled(&stream(&[&head, &member(b'0', b"a", &data)]));
    }
}

/// Reads without making memory of holes, whose lengths may be anything here.
pub(super) fn read_holes_unfilled(bytes: &[u8]) -> Result<(), SourceError> {
    let observer = Arc::new(Recorder::default());
    let reader = Box::new(Cursor::new(bytes.to_vec()));
    let mut stream = TarStream::new(reader, TarOptions::new("test.tar"), observer);
    let mut buffer = vec![0; 1000];
    while let Some(found) = stream.next()? {
        let mut len = 0;
        loop {
            match stream.read(&mut buffer) {
                Ok(Run::Data(n)) => len += n as u64,
                Ok(Run::Hole(n)) => len += n,
                Ok(Run::End) => break,
                Err(error) => return Err(source_error(error)),
            }
        }
        assert_eq!(len, found.entry.content_len());
    }
    Ok(())
}

#[test]
fn global_headers_stand_for_all_entries_to_come() {
    let global = member(b'g', b"g", b"9 uid=77\n17 mtime=1000.25\n");
    let own = pax(&[("uid", "5"), ("mtime", "")]);
    let bytes = stream(&[
        &global,
        &member(b'0', b"a", b""),
        &own,
        &member(b'0', b"b", b""),
        &member(b'0', b"c", b""),
    ]);
    let (items, _) = read(&bytes).expect("a stream");
    let seen: Vec<_> = items.iter().map(|(_, e, _)| (e.uid, e.mtime)).collect();
    let time = Time::new(1000, 250_000_000);
    assert_eq!(seen, [(77, time), (5, Time::default()), (77, time)]);
    let path = member(b'g', b"g", b"10 path=a\n");
    assert_refused(&stream(&[&path, &member(b'0', b"a", b"")]), "global header");
}

#[test]
fn what_cannot_be_saved_is_named_and_left_out() {
    let bytes = stream(&[
        &member(b'0', b"a/../b", b"gone"),
        &member(b'Q', b"odd", &[1; 700]),
        &pax(&[("uid", "5000000000")]),
        &member(b'0', b"owner", b""),
        &member(b'0', b"", b""),
        &pax(&[("GNU.sparse.major", "2"), ("GNU.sparse.minor", "0")]),
        &member(b'0', b"sparse", &[1; 700]),
        &pax(&[("path", "nul\0nul")]),
        &member(b'0', b"nul", b""),
        &member(b'2', b"symlink", b""),
        &member(b'1', b"link", b""),
        &member(b'0', b"kept", b"k"),
    ]);
    let (items, warnings) = read(&bytes).expect("a stream");
    assert_eq!(items.len(), 1);
    assert_eq!((&items[0].0, &items[0].2[..]), (&path("kept"), &b"k"[..]));
    let named: Vec<_> = warnings.iter().map(|w| &w.object[..]).collect();
    let expected =
        [&b"a/../b"[..], b"odd", b"owner", b"", b"sparse", b"nul\0nul", b"symlink", b"link"];
    assert_eq!(named, expected);
    assert!(warnings.iter().all(|w| w.skipped));
}

#[test]
fn lost_attributes_are_reported_once() {
    let acl = pax(&[("SCHILY.acl.access", "user::rw-"), ("comment", "x"), ("atime", "1.5")]);
    let a = member(b'0', b"a", b"");
    let (items, warnings) = read(&stream(&[&acl, &a, &acl, &a])).expect("a stream");
    assert_eq!((items.len(), warnings.len()), (2, 1));
    assert!(warnings[0].skipped);
}

#[test]
fn old_archives_are_understood() {
    let old = |name: &[u8], kind, size: &[u8]| {
        let mut header = Header::new_old();
        header.set_path(name).expect("short");
        let fields = header.as_ustar_mut();
        fields.mode[..6].copy_from_slice(b"   755");
        fields.size[..size.len()].copy_from_slice(size);
        fields.typeflag[0] = kind;
        fields.linkname[..4].copy_from_slice(b"./f\0");
        sealed(header)
    };
    let mut data = b"old".to_vec();
    data.resize(512, 0);
    let link = old(b"l", b'1', b"3 ");
    let bytes = stream(&[&old(b"d/", 0, b""), &old(b"f", 0, b"         3 "), &data, &link]);
    let (items, _) = read(&bytes).expect("a stream");
    assert_eq!(items[0].1.kind, Kind::Directory);
    assert_eq!((&items[1].2[..], items[1].1.mode), (&b"old"[..], 0o755));
    assert_eq!(items[2].1.link, Some(path("f")));
    assert_refused(&stream(&[&old(b"x", b'x', b"")]), "a format that has none");
    assert_refused(&stream(&[&old(b"d", b'5', b"3 "), &data]), "an entry that has none");
}

#[test]
fn all_spellings_of_the_root_are_the_root() {
    let spell = |names: [&str; 4], root: &str| {
        let a = format!("{}a", names[1]);
        let mut linked = Header::new_ustar();
        linked.set_path(b"").expect("short");
        let fields = linked.as_ustar_mut();
        fields.name[..names[2].len()].copy_from_slice(names[2].as_bytes());
        fields.linkname[..names[3].len()].copy_from_slice(names[3].as_bytes());
        fields.typeflag[0] = b'1';
        let bytes = stream(&[
            &member(b'5', names[0].as_bytes(), b""),
            &member(b'0', a.as_bytes(), b"1"),
            &sealed(linked),
        ]);
        let options = TarOptions { name: "test.tar".into(), root: path(root) };
        let (items, warnings) = read_from(Cursor::new(bytes), options).expect("a stream");
        assert_eq!(warnings, []);
        let paths: Vec<_> = items.iter().map(|(path, ..)| path.to_string()).collect();
        assert_eq!(paths, ["", "a", "l"], "{names:?}");
        assert_eq!(items[2].1.link, Some(path("a")), "{names:?}");
    };
    spell(["./", "./", "./l", "./a"], "");
    spell([".", "", "l", "a"], "");
    spell(["/", "/", "/l", "//a"], "");
    spell(["v/", "v/", "v/l", "v/a"], "v");
    spell(["./v", "/v/", "v/./l", "./v//a"], "v");
}

#[test]
fn what_lies_beside_the_root_is_left_out() {
    let bytes = stream(&[
        &member(b'5', b"up/", b""),
        &member(b'5', b"up/v/", b""),
        &member(b'0', b"up/w", b"1"),
        &member(b'0', b"up/v/a", b"2"),
    ]);
    let options = TarOptions { name: "test.tar".into(), root: path("up/v") };
    let (items, warnings) = read_from(Cursor::new(bytes), options).expect("a stream");
    assert_eq!(items.iter().map(|i| i.0.to_string()).collect::<Vec<_>>(), ["", "a"]);
    assert_eq!(warnings.iter().map(|w| &w.object[..]).collect::<Vec<_>>(), [b"up/w"]);
}

#[test]
fn content_that_was_not_read_is_skipped() {
    let items = [file("a", &[1; 300_000]), file("b", b""), file("c", b"3")];
    let reader = Box::new(Cursor::new(write(&items)));
    let mut stream =
        TarStream::new(reader, TarOptions::new("test.tar"), Arc::new(Recorder::default()));
    let _ = stream.next().expect("a");
    assert!(matches!(stream.read(&mut [0; 1000]), Ok(Run::Data(1000))));
    let _ = stream.next().expect("b");
    assert!(matches!(stream.read(&mut [0; 1000]), Ok(Run::End)));
    let found = stream.next().expect("c").expect("an entry");
    assert_eq!(found.path, path("c"));
    assert!(stream.next().expect("the end").is_none());
}
