//! What `Directory` promises, on real file systems. Needs root.

mod begin;
mod hostile;
mod rights;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;

use super::*;
use crate::clock::Time;
use crate::entry::Xattr;
use crate::event::Recorder;

const RESTORE: DirectoryOptions = DirectoryOptions { special: Special::Restore };
const LEAVE_OUT: DirectoryOptions = DirectoryOptions { special: Special::LeaveOut };

/// A directory to restore into, and a sentinel beside it that nothing may touch.
struct Scene {
    dir: tempfile::TempDir,
    seen: Arc<Recorder>,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("outside")).expect("made");
        fs::write(dir.path().join("outside/sentinel"), "untouched").expect("written");
        Self { dir, seen: Arc::new(Recorder::default()) }
    }

    fn target(&self) -> PathBuf {
        self.dir.path().join("target")
    }

    fn path(&self, below: &str) -> PathBuf {
        self.target().join(below)
    }

    fn create(&self, options: DirectoryOptions) -> Result<Directory, SinkError> {
        self.create_as(options, "snapshot 1")
    }

    fn create_as(&self, options: DirectoryOptions, text: &str) -> Result<Directory, SinkError> {
        Directory::create(&self.target(), options, text, self.observer())
    }

    fn existing(&self, text: &str) -> Result<Directory, SinkError> {
        Directory::existing(&self.target(), RESTORE, text, self.observer())
    }

    fn observer(&self) -> Arc<dyn Observer> {
        Arc::<Recorder>::clone(&self.seen)
    }

    fn warnings(&self) -> Vec<String> {
        let warnings = self.seen.warnings();
        assert!(warnings.iter().all(|warning| warning.skipped));
        warnings.iter().map(|w| format!("{}: {}", escape(&w.object), w.message)).collect()
    }

    fn assert_sentinel_untouched(&self) {
        let outside = self.dir.path().join("outside");
        assert_eq!(fs::read_dir(&outside).expect("read").count(), 1);
        let sentinel = outside.join("sentinel");
        assert_eq!(fs::read(&sentinel).expect("read"), b"untouched");
        let known = fs::metadata(&sentinel).expect("known");
        assert_eq!((known.nlink(), known.uid(), known.mode() & 0o7777), (1, 0, 0o644));
    }
}

/// A small file system of its own.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(at: PathBuf, options: &str) -> Self {
        fs::create_dir_all(&at).expect("made");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&at));
        Self(at)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run(Command::new("umount").arg(&self.0));
    }
}

fn run(command: &mut Command) {
    assert!(command.status().expect("started").success(), "{command:?}");
}

fn at(slashed: &str) -> EntryPath {
    EntryPath::from_slashed(slashed.as_bytes()).expect("a path")
}

fn entry(kind: Kind) -> Entry {
    let mtime = Time::new(1_700_000_000, 123_456_789);
    Entry { kind, mode: 0o640, uid: 0, gid: 0, mtime, xattrs: Vec::new(), link: None }
}

fn regular() -> Entry {
    entry(Kind::File { size: 4, sparse: false })
}

fn folder() -> Entry {
    Entry { mode: 0o755, ..entry(Kind::Directory) }
}

fn xattr(name: &str, value: &[u8]) -> Xattr {
    Xattr { name: name.as_bytes().to_vec(), value: value.to_vec() }
}

fn put(directory: &Directory, path: &EntryPath, content: &[u8]) -> Result<(), SinkError> {
    let file = directory.create_file(path, content.len() as u64, Holes::Fill)?;
    file.write_at(0, content)?;
    file.finish(&regular())
}

fn get_xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 1 << 16];
    let len = rustix::fs::lgetxattr(path, name, value.as_mut_slice()).ok()?;
    value.truncate(len);
    Some(value)
}

fn assert_metadata(path: &Path, entry: &Entry) {
    let found = fs::symlink_metadata(path).expect("known");
    if !found.is_symlink() {
        assert_eq!(found.mode() & 0o7777, entry.mode, "{}", path.display());
    }
    assert_eq!((found.uid(), found.gid()), (entry.uid, entry.gid), "{}", path.display());
    let mtime = Time::new(found.mtime(), u32::try_from(found.mtime_nsec()).expect("small"));
    assert_eq!(mtime, entry.mtime, "{}", path.display());
    for wanted in &entry.xattrs {
        let name = std::str::from_utf8(&wanted.name).expect("text");
        assert_eq!(get_xattr(path, name), Some(wanted.value.clone()), "{name}");
    }
}

fn refusal(result: Result<Directory, SinkError>) -> String {
    match result {
        Err(SinkError::Refused(why)) => why,
        other => panic!("not refused but {other:?}"),
    }
}

fn entry_error(result: Result<(), SinkError>) -> Option<i32> {
    match result {
        Err(SinkError::Entry { source, .. }) => source.raw_os_error(),
        other => panic!("no entry error but {other:?}"),
    }
}

fn errno(errno: Errno) -> Option<i32> {
    Some(errno.raw_os_error())
}

/// `user::rw- user:7:rw- group::r-- mask::rw- other::---` as the kernel keeps it.
fn access_list() -> Vec<u8> {
    let mut list = vec![2, 0, 0, 0];
    let none = u32::MAX;
    for (tag, bits, id) in
        [(1u16, 6u16, none), (2, 6, 7), (4, 4, none), (16, 6, none), (32, 0, none)]
    {
        list.extend(tag.to_le_bytes());
        list.extend(bits.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    list
}

#[test]
fn every_kind_comes_back_with_its_metadata() {
    let scene = Scene::new();
    let directory = scene.create(RESTORE).expect("begun");
    let before_epoch = Time::new(-2, 999_999_999);
    let acl = xattr("system.posix_acl_access", &access_list());
    let xattrs = vec![acl.clone(), xattr("trusted.t", b"t"), xattr("user.u", b"\0\xff")];
    let file = Entry { mode: 0o6660, uid: 7, gid: 8, mtime: before_epoch, xattrs, ..regular() };
    let default = xattr("system.posix_acl_default", &access_list());
    let sub = Entry { mode: 0o3555, uid: 9, xattrs: vec![default], ..folder() };
    let others = [
        ("link", Kind::Symlink { target: b"../../outside/sentinel".to_vec() }),
        ("pipe", Kind::Fifo),
        ("socket", Kind::Socket),
        ("char", Kind::CharDevice { major: 1, minor: 3 }),
        ("block", Kind::BlockDevice { major: 4095, minor: 1_048_575 }),
    ];
    directory.make_directory(&at("sub")).expect("made");
    let open = directory.create_file(&at("sub/file"), 4, Holes::Fill).expect("made");
    open.write_at(2, b"cd").expect("written");
    open.write_at(0, b"ab").expect("written");
    open.finish(&file).expect("finished");
    for (name, kind) in &others {
        let xattrs = vec![xattr("trusted.t", name.as_bytes())];
        let other = Entry { uid: 11, mtime: before_epoch, xattrs, ..entry(kind.clone()) };
        directory.make_other(&at(name), &other).expect("made");
        directory.link(&at(&format!("{name}2")), &at(name), kind).expect("linked");
    }
    directory.link(&at("sub/second"), &at("sub/file"), &file.kind).expect("linked");
    directory.finish_directory(&at("sub"), &sub).expect("finished");
    let root = Entry { mode: 0o1777, uid: 12, mtime: before_epoch, ..folder() };
    Box::new(directory).complete(&root).expect("complete");

    assert_eq!(scene.warnings(), Vec::<String>::new());
    assert_metadata(&scene.target(), &root);
    assert_metadata(&scene.path("sub"), &sub);
    assert_metadata(&scene.path("sub/file"), &file);
    assert_eq!(fs::read(scene.path("sub/second")).expect("read"), b"abcd");
    assert_eq!(fs::metadata(scene.path("sub/file")).expect("known").nlink(), 2);
    for (name, kind) in &others {
        let xattrs = vec![xattr("trusted.t", name.as_bytes())];
        let other = Entry { uid: 11, mtime: before_epoch, xattrs, ..entry(kind.clone()) };
        assert_metadata(&scene.path(name), &other);
        let found = fs::symlink_metadata(scene.path(&format!("{name}2"))).expect("known");
        assert_eq!(found.nlink(), 2, "{name}");
        let right = match kind {
            Kind::Symlink { .. } => found.file_type().is_symlink(),
            Kind::Fifo => found.file_type().is_fifo(),
            Kind::Socket => found.file_type().is_socket(),
            Kind::CharDevice { .. } => found.rdev() == rustix::fs::makedev(1, 3),
            _ => found.rdev() == rustix::fs::makedev(4095, 1_048_575),
        };
        assert!(right, "{name}");
    }
    assert!(!scene.path(MARKER_NAME).exists());
    scene.assert_sentinel_untouched();
}

#[test]
fn long_names_and_paths_longer_than_the_kernel_takes_come_back() {
    let scene = Scene::new();
    let directory = scene.create(RESTORE).expect("begun");
    let long = EntryPath::root().child(&[0xff; 255]).expect("a name");
    put(&directory, &long, b"long").expect("put");
    let mut path = EntryPath::root();
    let mut parents = Vec::new();
    for depth in 0..3000 {
        path = path.child(format!("d{depth}").as_bytes()).expect("a path");
        directory.make_directory(&path).expect("made");
        parents.push(path.clone());
    }
    let deep = path.child(b"file").expect("a path");
    put(&directory, &deep, b"deep").expect("put");
    // From a thread that has nothing open on the way.
    std::thread::scope(|scope| {
        let again = scope.spawn(|| directory.open_file(&deep, Holes::Fill).map(drop));
        again.join().expect("no panic").expect("open");
    });
    for path in parents.iter().rev() {
        directory.finish_directory(path, &folder()).expect("finished");
    }
    directory.link(&at("hard"), &deep, &regular().kind).expect("linked");
    assert_eq!(fs::read(scene.path("hard")).expect("read"), b"deep");
    assert_metadata(&scene.path("d0/d1/d2"), &folder());
    directory.remove(&parents[0]).expect("removed");
    Box::new(directory).complete(&folder()).expect("complete");
    assert_eq!(fs::read_dir(scene.target()).expect("read").count(), 2);
}

#[test]
fn a_sparse_file_stays_sparse_and_another_does_not_become_so() {
    let scene = Scene::new();
    let directory = scene.create(RESTORE).expect("begun");
    let mut content = vec![0; 3 << 20];
    content[5000..5003].copy_from_slice(b"one");
    content[2 << 20..(2 << 20) + 10_000].fill(7);
    for (name, holes) in [("sparse", Holes::Make), ("full", Holes::Fill)] {
        let file = directory.create_file(&at(name), content.len() as u64, holes).expect("made");
        // Pieces that begin and end anywhere, last one first.
        for (index, piece) in content.chunks(33_333).enumerate().rev() {
            file.write_at(index as u64 * 33_333, piece).expect("written");
        }
        file.finish(&regular()).expect("finished");
        assert!(fs::read(scene.path(name)).expect("read") == content, "{name}");
    }
    let blocks = |name: &str| fs::metadata(scene.path(name)).expect("known").blocks() * 512;
    assert!(blocks("sparse") <= 5 * 4096, "{}", blocks("sparse"));
    assert!(blocks("full") >= content.len() as u64);
    let file = directory.create_file(&at("longer"), 5000, Holes::Make).expect("made");
    file.write_at(4096, &[0; 4096]).expect("zeros beyond the expected size count");
    drop(file);
    assert_eq!(fs::metadata(scene.path("longer")).expect("known").len(), 8192);
    let file = directory.create_file(&at("empty"), 1 << 40, Holes::Make).expect("made");
    file.finish(&regular()).expect("finished");
    assert_eq!(
        (fs::metadata(scene.path("empty")).expect("known").len(), blocks("empty")),
        (1 << 40, 0)
    );
}

#[test]
fn sixteen_threads_restore_into_many_directories_at_once() {
    const fn shared<T: Send + Sync>() {}
    const { shared::<Directory>() };
    const { shared::<File>() };
    let scene = Scene::new();
    let directory = scene.create(RESTORE).expect("begun");
    std::thread::scope(|scope| {
        for thread in 0..20 {
            let directory = &directory;
            let _ = scope.spawn(move || {
                for index in 0..40 {
                    let dir = at(&format!("{thread}-{index}"));
                    directory.make_directory(&dir).expect("made");
                    let sub = dir.child(b"sub").expect("a path");
                    directory.make_directory(&sub).expect("made");
                    for parent in [&dir, &sub, &dir] {
                        for file in 0..3 {
                            let name = format!("{}{file}", parent.as_key().len());
                            let path = parent.child(name.as_bytes()).expect("a path");
                            let _ = put(directory, &path, path.as_key());
                        }
                    }
                    if index % 10 == 9 {
                        directory.remove(&dir).expect("removed");
                    }
                }
            });
        }
    });
    for thread in 0..20 {
        for index in (0..40).filter(|index| index % 10 != 9) {
            for parent in [format!("{thread}-{index}"), format!("{thread}-{index}/sub")] {
                for file in 0..3 {
                    let path = at(&format!("{parent}/{}{file}", parent.len()));
                    let slashed = String::from_utf8(path.to_slashed()).expect("text");
                    assert_eq!(fs::read(scene.path(&slashed)).expect("read"), path.as_key());
                }
            }
        }
    }
    Box::new(directory).complete(&folder()).expect("complete");
}

#[test]
fn existing_content_is_patched_replaced_and_removed() {
    let scene = Scene::new();
    fs::create_dir_all(scene.path("tree/a/b")).expect("made");
    fs::write(scene.path("tree/a/b/file"), "x").expect("written");
    fs::write(scene.path("patched"), [7; 20_000]).expect("written");
    fs::set_permissions(scene.path("patched"), fs::Permissions::from_mode(0o4777)).expect("set");
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(scene.path("patched"), "user.old", b"", flags).expect("set");
    fs::hard_link(scene.path("patched"), scene.dir.path().join("elsewhere")).expect("linked");
    run(Command::new("mkfifo").arg(scene.path("pipe")));
    let directory = scene.existing("snapshot 1").expect("begun");

    let file = directory.open_file(&at("patched"), Holes::Make).expect("open");
    assert_eq!(file.links(), 2);
    let mode = fs::metadata(scene.path("patched")).expect("known").mode() & 0o7777;
    assert_eq!(mode, 0o600, "old rights must not hold for new content");
    file.write_at(10, b"new").expect("written");
    file.write_at(4096, &[0; 4096]).expect("zeros replace what was there");
    file.punch(9000, 100).expect("punched");
    file.truncate(16_384).expect("cut");
    file.finish(&regular()).expect("finished");
    let mut expected = vec![7; 16_384];
    expected[10..13].copy_from_slice(b"new");
    expected[4096..8192].fill(0);
    expected[9000..9100].fill(0);
    assert!(fs::read(scene.path("patched")).expect("read") == expected);
    assert_eq!(fs::metadata(scene.path("patched")).expect("known").blocks() * 512, 3 * 4096);
    assert_metadata(&scene.path("patched"), &regular());
    assert_eq!(get_xattr(&scene.path("patched"), "user.old"), None);

    // A directory becomes a file, and a file a directory; what was open of them is forgotten.
    put(&directory, &at("tree/a/b/more"), b"").expect("put");
    directory.remove(&at("tree")).expect("removed");
    put(&directory, &at("tree"), b"file").expect("put");
    directory.remove(&at("tree")).expect("removed");
    directory.make_directory(&at("tree")).expect("made");
    put(&directory, &at("tree/x"), b"").expect("put");
    directory.remove(&at("tree")).expect("removed");
    directory.make_directory(&at("tree")).expect("made");
    put(&directory, &at("tree/y"), b"").expect("not put into the one that is gone");
    directory.make_directory(&at("tree/a")).expect("made");
    directory.make_directory(&at("tree/a/b")).expect("made");
    put(&directory, &at("tree/a/b/file"), b"anew").expect("put");
    assert_eq!(fs::read(scene.path("tree/a/b/file")).expect("read"), b"anew");

    assert!(directory.open_file(&at("pipe"), Holes::Fill).is_err());
    let pipe = Entry { mode: 0o622, uid: 5, ..entry(Kind::Fifo) };
    directory.set_metadata(&at("pipe"), &pipe).expect("set");
    assert_metadata(&scene.path("pipe"), &pipe);
    assert!(directory.set_metadata(&at("pipe"), &regular()).is_err());
    directory.set_metadata(&at("tree"), &folder()).expect("set");
    assert_metadata(&scene.path("tree"), &folder());
    Box::new(directory).complete(&folder()).expect("complete");
}
