//! Entries, mounts and disks that mean ill.

use super::*;

#[test]
fn nothing_is_written_through_a_symbolic_link() {
    let scene = Scene::new();
    let directory = scene.create(RESTORE).expect("begun");
    directory.make_directory(&at("real")).expect("made");
    put(&directory, &at("real/file"), b"real").expect("put");
    let outside = scene.dir.path().join("outside");
    for (name, target) in [
        ("out", outside.as_os_str().as_bytes()),
        ("up", b"../outside"),
        ("in", b"real"),
        ("magic", b"/proc/self/root"),
        ("file", outside.join("sentinel").as_os_str().as_bytes()),
    ] {
        let kind = Kind::Symlink { target: target.to_vec() };
        directory.make_other(&at(name), &entry(kind)).expect("made");
    }
    for name in ["out/x", "up/x", "in/x", "magic/x", "file/x", "up/x/y"] {
        let path = at(name);
        let loops = errno(Errno::LOOP);
        assert_eq!(entry_error(put(&directory, &path, b"x")), loops, "{name}");
        assert_eq!(entry_error(directory.make_directory(&path)), loops);
        assert_eq!(entry_error(directory.make_other(&path, &entry(Kind::Fifo))), loops);
        assert_eq!(entry_error(directory.link(&path, &at("real/file"), &regular().kind)), loops);
        assert_eq!(entry_error(directory.remove(&path)), loops);
        assert_eq!(entry_error(directory.set_metadata(&path, &regular())), loops);
    }
    for first in ["out/sentinel", "up/sentinel", "in/file"] {
        let linked = directory.link(&at("hard"), &at(first), &regular().kind);
        assert_eq!(entry_error(linked), errno(Errno::LOOP), "{first}");
    }
    // The links themselves are neither followed nor taken for what they lead to.
    for name in ["out", "file"] {
        assert!(directory.open_file(&at(name), Holes::Fill).is_err());
        assert!(put(&directory, &at(name), b"x").is_err());
        assert!(directory.finish_directory(&at(name), &folder()).is_err());
        assert!(directory.set_metadata(&at(name), &regular()).is_err());
        assert!(directory.link(&at("hard"), &at(name), &regular().kind).is_err());
        directory.remove(&at(name)).expect("removed");
    }
    scene.assert_sentinel_untouched();
}

#[test]
fn entries_that_contradict_each_other_are_refused_one_by_one() {
    let scene = Scene::new();
    let directory = scene.create(RESTORE).expect("begun");
    put(&directory, &at("file"), b"once").expect("put");
    directory.make_directory(&at("dir")).expect("made");
    let exists = errno(Errno::EXIST);
    assert_eq!(entry_error(put(&directory, &at("file"), b"twice")), exists);
    assert_eq!(entry_error(directory.make_directory(&at("file"))), exists);
    assert_eq!(entry_error(directory.make_other(&at("dir"), &entry(Kind::Fifo))), exists);
    assert_eq!(entry_error(put(&directory, &at("file/x"), b"")), errno(Errno::NOTDIR));
    assert_eq!(entry_error(put(&directory, &at("none/x"), b"")), errno(Errno::NOENT));
    let link = |path: &str, first: &str, kind: &Kind| {
        entry_error(directory.link(&at(path), &at(first), kind))
    };
    let file = regular().kind;
    assert_eq!(link("hard", "later", &file), errno(Errno::NOENT));
    assert_eq!(link("hard", "dir", &Kind::Directory), errno(Errno::PERM));
    assert_eq!(link("hard", "dir", &file), None);
    assert_eq!(link("hard", "file", &Kind::Fifo), None);
    assert_eq!(link("file", "file", &file), exists);
    assert_eq!(link("hard", MARKER_NAME, &file), errno(Errno::PERM));
    assert_eq!(link("hard", "", &file), None);
    // The root is there and stays what it is; the marker is nobody's.
    for path in ["", MARKER_NAME] {
        assert_eq!(entry_error(put(&directory, &at(path), b"")), None);
        assert_eq!(entry_error(directory.make_other(&at(path), &entry(Kind::Fifo))), None);
        assert_eq!(entry_error(directory.remove(&at(path))), None);
        assert!(directory.open_file(&at(path), Holes::Fill).is_err());
    }
    for target in [&b""[..], b"nul\0", &[b'x'; 5000]] {
        let kind = Kind::Symlink { target: target.to_vec() };
        assert!(entry_error(directory.make_other(&at("link"), &entry(kind))).is_some());
    }
    let device = Kind::CharDevice { major: 1 << 12 | 1, minor: 3 };
    assert_eq!(entry_error(directory.make_other(&at("dev"), &entry(device))), errno(Errno::INVAL));
    let huge = directory.create_file(&at("huge"), u64::MAX, Holes::Make);
    assert!(entry_error(huge.map(drop)).is_some());
    let names: Vec<_> = removal::list(directory.target.beneath.root(), 99).expect("listed");
    assert_eq!(names, [MARKER_NAME.as_bytes(), b"dir", b"file"]);
    let file = directory.open_file(&at("file"), Holes::Fill).expect("open");
    assert!(entry_error(file.write_at(u64::MAX - 2, b"beyond")).is_some());
    assert!(entry_error(file.punch(u64::MAX, 9)).is_some());
    drop(file);
    Box::new(directory).complete(&folder()).expect("such entries do not spoil the others");
}

#[test]
fn a_full_disk_ends_the_restore_and_leaves_the_marker() {
    let scene = Scene::new();
    let _mounted = Mounted::tmpfs(scene.target(), "size=2m");
    let target_error = |result: Result<(), SinkError>| match result {
        Err(SinkError::Target { target, source }) => {
            assert!(target.contains("target"), "{target}");
            assert_eq!(source.kind(), io::ErrorKind::StorageFull);
        }
        other => panic!("no target error but {other:?}"),
    };
    let directory = scene.create(RESTORE).expect("begun");
    // Found before any content is there.
    target_error(directory.create_file(&at("large"), 8 << 20, Holes::Fill).map(drop));
    let file = directory.create_file(&at("small"), 4, Holes::Fill).expect("made");
    target_error(file.write_at(0, &vec![1; 8 << 20]));
    drop(file);
    assert!(matches!(Box::new(directory).complete(&folder()), Err(SinkError::Target { .. })));
    assert!(scene.path(MARKER_NAME).exists());
    let again = scene.create(RESTORE).expect("begun again");
    put(&again, &at("small"), b"fits").expect("put");
    Box::new(again).complete(&folder()).expect("complete");
}

#[test]
fn a_read_only_target_is_an_error_of_the_target() {
    let scene = Scene::new();
    let _mounted = Mounted::tmpfs(scene.target(), "ro");
    for begun in [scene.create(RESTORE), scene.existing("any")] {
        match begun {
            Err(SinkError::Target { source, .. }) => {
                assert_eq!(source.kind(), io::ErrorKind::ReadOnlyFilesystem);
            }
            other => panic!("no target error but {other:?}"),
        }
    }
}

#[test]
fn a_mount_inside_the_target_is_not_entered() {
    let scene = Scene::new();
    let _mounted = Mounted::tmpfs(scene.path("mount"), "size=1m");
    fs::write(scene.path("mount/file"), "other").expect("written");
    let directory = scene.existing("snapshot 1").expect("begun");
    assert_eq!(entry_error(put(&directory, &at("mount/x"), b"")), errno(Errno::XDEV));
    let finished = directory.finish_directory(&at("mount"), &folder());
    assert_eq!(entry_error(finished), errno(Errno::XDEV));
    assert_eq!(entry_error(directory.remove(&at("mount"))), errno(Errno::BUSY));
    assert!(scene.path("mount/file").exists());
}
