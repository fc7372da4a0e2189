//! What comes back depending on rights, asked for and held.

use super::*;

#[test]
fn special_things_come_back_only_when_asked_for() {
    let capability = [&[1, 0, 0, 2, 0, 0x20, 0, 0][..], &[0; 12]].concat();
    let xattrs = vec![xattr("security.capability", &capability), xattr("trusted.t", b"")];
    let program = Entry { mode: 0o6755, uid: 7, xattrs, ..regular() };
    let device = entry(Kind::CharDevice { major: 1, minor: 3 });
    let shared = Entry { mode: 0o2775, ..folder() };
    for (options, warnings) in [(RESTORE, 0), (LEAVE_OUT, 2)] {
        let scene = Scene::new();
        let directory = scene.create(options).expect("begun");
        let file = directory.create_file(&at("program"), 0, Holes::Fill).expect("made");
        file.finish(&program).expect("finished");
        directory.make_other(&at("device"), &device).expect("made or left out");
        directory.make_directory(&at("shared")).expect("made");
        directory.finish_directory(&at("shared"), &shared).expect("finished");
        // One warning for each entry, however much of it is missing.
        assert_eq!(scene.warnings().len(), warnings, "{:?}", scene.warnings());
        let restored = options == RESTORE;
        let mode = fs::metadata(scene.path("program")).expect("known").mode() & 0o7777;
        assert_eq!(mode, if restored { 0o6755 } else { 0o755 });
        for name in ["security.capability", "trusted.t"] {
            assert_eq!(get_xattr(&scene.path("program"), name).is_some(), restored, "{name}");
        }
        assert_eq!(scene.path("device").exists(), restored);
        // On a directory the bit gives nobody any right.
        assert_metadata(&scene.path("shared"), &shared);
    }
}

#[test]
fn what_a_target_would_hand_on_to_its_content_does_not_reach_it() {
    for (begin, mode) in [
        (Scene::create as fn(&Scene, DirectoryOptions) -> Result<Directory, SinkError>, 0o700),
        (|scene, _| scene.existing("snapshot 1"), 0o2777),
    ] {
        let scene = Scene::new();
        fs::create_dir(scene.target()).expect("made");
        let list = access_list();
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(scene.target(), "system.posix_acl_default", &list, flags)
            .expect("set");
        std::os::unix::fs::chown(scene.target(), Some(7), Some(8)).expect("set");
        fs::set_permissions(scene.target(), fs::Permissions::from_mode(0o2777)).expect("set");
        let directory = begin(&scene, RESTORE).expect("begun");
        // Nobody else sees into a new target before it is whole.
        let seen = fs::metadata(scene.target()).expect("known");
        assert_eq!(seen.mode() & 0o7777, mode);
        put(&directory, &at("file"), b"mine").expect("put");
        directory.make_directory(&at("dir")).expect("made");
        directory.finish_directory(&at("dir"), &folder()).expect("finished");
        directory.make_other(&at("pipe"), &entry(Kind::Fifo)).expect("made");
        Box::new(directory).complete(&folder()).expect("complete");
        assert_eq!(scene.warnings(), Vec::<String>::new());
        assert_metadata(&scene.path("file"), &regular());
        assert_metadata(&scene.path("dir"), &folder());
        assert_metadata(&scene.path("pipe"), &entry(Kind::Fifo));
        assert_metadata(&scene.target(), &folder());
        for name in ["file", "dir", "pipe", ""] {
            for list in ["system.posix_acl_access", "system.posix_acl_default"] {
                assert_eq!(get_xattr(&scene.path(name), list), None, "{name} {list}");
            }
        }
    }
}

/// Not run by itself: [`without_root_what_is_denied_is_named`] runs it as somebody else.
#[test]
#[ignore = "run by another test, as another user"]
fn restores_as_another_user() {
    if rustix::process::geteuid().is_root() {
        return;
    }
    let target = PathBuf::from("target");
    let seen = Arc::new(Recorder::default());
    let observer = Arc::<Recorder>::clone(&seen);
    let directory = Directory::create(&target, RESTORE, "mine", observer).expect("begun");
    let file = directory.create_file(&at("file"), 0, Holes::Fill).expect("made");
    file.finish(&Entry { mode: 0o4755, uid: 7, ..regular() }).expect("finished");
    directory.make_directory(&at("sealed")).expect("made");
    put(&directory, &at("sealed/file"), b"x").expect("put");
    directory.finish_directory(&at("sealed"), &Entry { mode: 0o555, ..folder() }).expect("set");
    drop(directory);
    assert_eq!(seen.warnings().len(), 3, "{:?}", seen.warnings());
    let observer = Arc::new(Recorder::default());
    let again = Directory::create(&target, RESTORE, "mine", observer).expect("begun again");
    Box::new(again).complete(&Entry { mode: 0o555, ..folder() }).expect("complete");
    let target = fs::metadata(&target).expect("known");
    assert_eq!((target.mode() & 0o7777, target.mtime_nsec()), (0o555, 123_456_789));
}

#[test]
fn without_root_what_is_denied_is_named() {
    let scene = Scene::new();
    let name = "sink::directory::tests::rights::restores_as_another_user";
    let program = std::env::current_exe().expect("known");
    let copy = scene.dir.path().join("tests");
    let _ = fs::copy(program, &copy).expect("copied");
    std::os::unix::fs::chown(scene.dir.path(), Some(65534), Some(65534)).expect("set");
    let ids = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    run(Command::new("setpriv")
        .args(ids)
        .arg("./tests")
        .args([name, "--exact", "--ignored", "--quiet"])
        .current_dir(scene.dir.path()));
    assert!(scene.target().exists());
}
