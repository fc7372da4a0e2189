//! What the writer takes and what it refuses. That others read what it writes is shown with the
//! source.

use std::sync::Mutex;

use super::*;
use crate::entry::Xattr;
use crate::event::Recorder;

fn path(slashed: &str) -> EntryPath {
    EntryPath::from_slashed(slashed.as_bytes()).expect("a path")
}

fn entry(kind: Kind) -> Entry {
    let mtime = Time::default();
    Entry { kind, mode: 0o755, uid: 0, gid: 0, mtime, xattrs: Vec::new(), link: None }
}

fn file(size: u64) -> Entry {
    entry(Kind::File { size, sparse: false })
}

fn writer() -> TarWriter<Vec<u8>> {
    let options = TarWriterOptions::new("test.tar");
    TarWriter::new(Vec::new(), options, Arc::new(Recorder::default()))
}

/// Names and sizes, as the crate `tar` sees them.
fn list(bytes: &[u8]) -> Vec<(String, u64)> {
    let mut archive = tar::Archive::new(bytes);
    let entries = archive.entries().expect("an archive").map(|entry| {
        let entry = entry.expect("an entry");
        (String::from_utf8_lossy(&entry.path_bytes()).into_owned(), entry.size())
    });
    entries.collect()
}

#[test]
fn names_lie_under_the_chosen_root() {
    for (root, expected) in [("", ["./", "./d/", "./d/f"]), ("v", ["v/", "v/d/", "v/d/f"])] {
        let options = TarWriterOptions { name: "test.tar".into(), root: path(root) };
        let mut writer = TarWriter::new(Vec::new(), options, Arc::new(Recorder::default()));
        writer.entry(&path(""), &entry(Kind::Directory)).expect("the root");
        writer.entry(&path("d"), &entry(Kind::Directory)).expect("a directory");
        writer.entry(&path("d/f"), &file(0)).expect("a file");
        let names: Vec<_> =
            list(&writer.finish().expect("an end")).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, expected);
    }
}

#[test]
fn content_of_another_length_is_refused() {
    let mut writer = writer();
    writer.entry(&path("a"), &file(5)).expect("a file");
    writer.content(b"12").expect("content");
    writer.zeros(2).expect("content");
    let error = writer.entry(&path("b"), &file(0)).expect_err("content is missing");
    assert_eq!(error.to_string(), "write `a`");
    assert!(writer.finish().is_err(), "a failed writer writes no end marker");

    let mut writer = self::writer();
    writer.entry(&path("a"), &file(5)).expect("a file");
    assert!(writer.content(b"123456").is_err());
    assert!(writer.content(b"12345").is_err());

    let mut writer = self::writer();
    writer.entry(&path("a"), &file(5)).expect("a file");
    assert!(writer.finish().is_err());
    assert!(self::writer().content(b"1").is_err(), "content without an entry");
}

#[test]
fn a_stream_ends_with_two_zero_blocks_at_a_whole_record() {
    for (size, expected) in [(0, 10_240), (8_704, 10_240), (8_705, 20_480), (9_216, 20_480)] {
        let mut writer = writer();
        writer.entry(&path("a"), &file(size)).expect("a file");
        writer.zeros(size).expect("content");
        assert_eq!(writer.finish().expect("an end").len(), expected, "{size}");
    }
}

#[test]
fn sockets_are_left_out_with_a_warning() {
    let observer = Arc::new(Recorder::default());
    let options = TarWriterOptions::new("test.tar");
    let mut writer = TarWriter::new(Vec::new(), options, observer.clone());
    writer.entry(&path("s"), &entry(Kind::Socket)).expect("left out");
    writer.entry(&path("a"), &file(0)).expect("a file");
    assert_eq!(list(&writer.finish().expect("an end")), [("./a".to_owned(), 0)]);
    assert_eq!(observer.warnings().len(), 1);
    assert_eq!(
        (&observer.warnings()[0].object[..], observer.warnings()[0].skipped),
        (&b"s"[..], true)
    );
}

#[test]
fn a_device_number_without_room_is_refused_and_the_stream_goes_on() {
    let mut writer = writer();
    let device = entry(Kind::BlockDevice { major: 1, minor: OCTAL_ID_MAX + 1 });
    let error = writer.entry(&path("dev"), &device).expect_err("no room");
    assert_eq!(error.to_string(), "write `dev`");
    writer.entry(&path("a"), &file(0)).expect("a file");
    assert_eq!(list(&writer.finish().expect("an end")), [("./a".to_owned(), 0)]);
}

#[test]
fn regions_that_do_not_fit_are_refused() {
    for regions in [&[(0, 11)][..], &[(4, 4), (7, 1)], &[(u64::MAX, 1)]] {
        assert!(writer().entry_sparse(&path("a"), &file(10), regions).is_err(), "{regions:?}");
    }
    let directory = entry(Kind::Directory);
    assert!(writer().entry_sparse(&path("a"), &directory, &[]).is_err());
}

#[test]
fn records_count_themselves() {
    for len in (0..200).chain(980..1010).chain([99_980, 99_985, 99_990]) {
        let mut records = Vec::new();
        record(&mut records, b"key", &vec![b'v'; len]);
        let digits = records.iter().position(|b| *b == b' ').expect("a blank");
        assert_eq!(std::str::from_utf8(&records[..digits]), Ok(&*records.len().to_string()));
    }
}

#[test]
fn metadata_that_others_refuse_is_announced() {
    let observer = Arc::new(Recorder::default());
    let options = TarWriterOptions::new("test.tar");
    let mut writer = TarWriter::new(Vec::new(), options, observer.clone());
    let mut large = file(0);
    large.xattrs.push(Xattr { name: b"user.a".to_vec(), value: vec![0; METADATA_LEN_MAX] });
    writer.entry(&path("a"), &large).expect("written all the same");
    assert!(!observer.warnings()[0].skipped);
}

#[test]
fn a_failed_writer_stays_failed() {
    struct Full(Arc<Mutex<usize>>);
    impl Write for Full {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            let mut room = self.0.lock().expect("not poisoned");
            if *room == 0 {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            let len = data.len().min(*room);
            *room -= len;
            Ok(len)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let room = Arc::new(Mutex::new(1_000_000));
    let options = TarWriterOptions::new("test.tar");
    let observer = Arc::new(Recorder::default());
    let mut writer = TarWriter::new(Full(room.clone()), options, observer);
    writer.entry(&path("a"), &file(2_000_000)).expect("buffered");
    assert!(matches!(writer.zeros(2_000_000), Err(SinkError::Target { .. })));
    *room.lock().expect("not poisoned") = usize::MAX;
    assert!(writer.entry(&path("b"), &file(0)).is_err());
    assert!(writer.finish().is_err());
}
