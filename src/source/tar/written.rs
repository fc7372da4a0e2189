//! What we write comes out of other programs the same.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::sync::Mutex;

use tempfile::TempDir;

use super::foreign::{
    Fidelity, add_xattrs, assert_is_tree, assert_reads_as, gnu_tar, real_path, run, tree,
};
use super::tests::{Item, entry, path, read, write};
use super::*;
use crate::event::Recorder;
use crate::sink::{TarWriter, TarWriterOptions};

/// A tree of everything, as an archive of GNU tar holds it, to be written again.
fn everything() -> Vec<Item> {
    let dir = tree(Fidelity::Full);
    add_xattrs(dir.path());
    let bytes = gnu_tar(dir.path(), &["--format=pax", "-S", "--xattrs", "--xattrs-include=*"]);
    let mut items = assert_reads_as(&bytes, dir.path(), Fidelity::Full);
    let long = OsStr::from_bytes(&[0xe4; 255]).as_bytes().to_vec();
    let mut item = items.iter().find(|i| i.0 == path("dir/file")).expect("a file").clone();
    item.0 = path("dir").child(&long).and_then(|p| p.child(&long)).expect("a path");
    let parent = items.iter().find(|i| i.0 == path("dir")).expect("a directory").clone();
    items.push((item.0.parent().expect("a parent"), parent.1, parent.2));
    (item.1.link, item.1.xattrs) = (None, Vec::new());
    (item.2, item.1.kind) = (b"1".to_vec(), Kind::File { size: 1, sparse: false });
    items.push(item);
    items
}

#[test]
fn gnu_tar_extracts_what_we_write() {
    let items = everything();
    let dir = TempDir::new().expect("a directory");
    let archive = dir.path().join("archive");
    fs::write(&archive, write(&items)).expect("written");
    let target = dir.path().join("target");
    fs::create_dir(&target).expect("a directory");
    let mut command = Command::new("tar");
    let options = ["--numeric-owner", "--same-owner", "--xattrs", "--xattrs-include=*", "-xpf"];
    let _ = run(command.args(options).arg(&archive).arg("-C").arg(&target));
    assert_is_tree(&items, &target, Fidelity::Full);
    for (at, entry, _) in &items {
        for xattr in &entry.xattrs {
            let mut value = vec![0; 1000];
            let name = OsStr::from_bytes(&xattr.name);
            let len = rustix::fs::lgetxattr(real_path(&target, at), name, &mut value[..])
                .expect("an attribute");
            assert_eq!(value[..len], xattr.value, "{at}");
        }
    }
}

#[test]
fn python_extracts_what_we_write() {
    let items = everything();
    let dir = TempDir::new().expect("a directory");
    let archive = dir.path().join("archive");
    fs::write(&archive, write(&items)).expect("written");
    let target = dir.path().join("target");
    // Python gives symbolic links no time of its own accord.
    let script = "import os, sys, tarfile\n\
        t = tarfile.open(sys.argv[1])\n\
        t.extractall(sys.argv[2], numeric_owner=True)\n\
        for m in t:\n\
        \x20 if m.issym():\n\
        \x20   os.utime(os.path.join(sys.argv[2], m.name), (m.mtime, m.mtime), \
        follow_symlinks=False)\n";
    let _ = run(Command::new("python3").args(["-c", script]).arg(&archive).arg(&target));
    assert_is_tree(&items, &target, Fidelity::Float);
}

#[test]
fn the_tar_crate_reads_what_we_write() {
    let items = everything();
    let bytes = write(&items);
    let mut archive = tar::Archive::new(&bytes[..]);
    let mut seen = 0;
    for (found, (at, entry, content)) in archive.entries().expect("an archive").zip(&items) {
        let mut found = found.expect("an entry");
        let name = EntryPath::from_slashed(&found.path_bytes()).expect("a path");
        assert_eq!((&name, found.size()), (at, entry.content_len()));
        let header = found.header();
        assert_eq!(header.mode().expect("a mode"), entry.mode, "{at}");
        if let Kind::Symlink { target } = &entry.kind {
            assert_eq!(*found.link_name_bytes().expect("a target"), target[..]);
        }
        let mut read = Vec::new();
        let _ = found.read_to_end(&mut read).expect("content");
        assert!(read == *content, "content of {at}");
        seen += 1;
    }
    assert_eq!(seen, items.len());
}

#[test]
fn sparse_files_we_write_keep_their_holes() {
    let many: Vec<_> = (0..100).map(|at| (at * 9000 + 4096, 4096)).collect();
    let cases = [
        (&many[..], 2_000_000),
        (&[], 1 << 20),
        (&[], 0),
        (&[(0, 1)], 1),
        (&[(0, 0), (7, 0), (8, 2)], 100_000),
    ];
    let options = TarWriterOptions::new("test.tar");
    let mut writer = TarWriter::new(Vec::new(), options, Arc::new(Recorder::default()));
    let mut items = vec![(path(""), entry(Kind::Directory), Vec::new())];
    for (number, (regions, size)) in cases.iter().enumerate() {
        let at = path(&format!("{}{number}", "s".repeat(40 * number)));
        let kind = Kind::File { size: *size, sparse: true };
        let mut content = vec![0; usize::try_from(*size).expect("small")];
        writer.entry_sparse(&at, &entry(kind.clone()), regions).expect("an entry");
        for (offset, len) in *regions {
            let offset = usize::try_from(*offset).expect("small");
            let data = vec![7; usize::try_from(*len).expect("small")];
            writer.content(&data).expect("content");
            content[offset..offset + data.len()].copy_from_slice(&data);
        }
        items.push((at, entry(kind), content));
    }
    writer.entry(&path(""), &items[0].1).expect("the root");
    let bytes = writer.finish().expect("an end");
    let (mut back, warnings) = read(&bytes).expect("a sound archive");
    back.rotate_right(1);
    assert!(back == items && warnings.is_empty());

    let dir = TempDir::new().expect("a directory");
    let archive = dir.path().join("archive");
    fs::write(&archive, &bytes).expect("written");
    for program in ["tar", "python3"] {
        let target = dir.path().join(program);
        fs::create_dir(&target).expect("a directory");
        let mut command = Command::new(program);
        let _ = match program {
            "tar" => run(command.arg("-xpf").arg(&archive).arg("-C").arg(&target)),
            _ => run(command.args(["-m", "tarfile", "-e"]).arg(&archive).arg(&target)),
        };
        assert_is_tree(&items, &target, Fidelity::Full);
        let metadata = fs::metadata(real_path(&target, &items[2].0)).expect("exists");
        assert!(metadata.blocks() * 512 < metadata.len(), "{program}");
    }
}

#[test]
fn a_size_beyond_octal_digits_is_read_back() {
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Shared {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").write(data)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for size in [(8 << 30) - 1, 8 << 30, 1 << 40, i64::MAX as u64] {
        let shared = Shared::default();
        let options = TarWriterOptions::new("test.tar");
        let observer = Arc::new(Recorder::default());
        let mut writer = TarWriter::new(shared.clone(), options, observer.clone());
        let large = entry(Kind::File { size, sparse: false });
        writer.entry(&path("a"), &large).expect("an entry");
        drop(writer);
        let bytes = shared.0.lock().expect("not poisoned").clone();
        let reader = Box::new(io::Cursor::new(bytes));
        let mut stream = TarStream::new(reader, TarOptions::new("test.tar"), observer);
        let found = stream.next().expect("an entry").expect("an entry");
        assert_eq!(found.entry, large);
        let error = stream.next().expect_err("its content is missing");
        assert!(error.to_string().contains("broke off"), "{error}");
    }
}
