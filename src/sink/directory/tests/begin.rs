//! Which targets a restore takes, and what marks them.

use super::*;

#[test]
fn only_a_new_or_empty_directory_is_taken() {
    let scene = Scene::new();
    fs::create_dir(scene.target()).expect("made");
    fs::write(scene.path("kept\n"), "").expect("written");
    let why = refusal(scene.create(RESTORE));
    assert!(why.contains("not empty") && why.contains("kept\\n"), "{why}");
    assert!(!scene.path(MARKER_NAME).exists());
    fs::remove_file(scene.path("kept\n")).expect("removed");
    drop(scene.create(RESTORE).expect("an empty one"));

    let below = Directory::create(&scene.path("a/b/c"), RESTORE, "x", scene.observer());
    drop(below.expect("directories on the way are made"));
    assert_eq!(fs::metadata(scene.path("a/b")).expect("known").mode() & 0o7777, 0o700);
    fs::write(scene.path("file"), "").expect("written");
    let why = refusal(Directory::create(&scene.path("file"), RESTORE, "x", scene.observer()));
    assert!(why.contains("not a directory"), "{why}");
    let missing = Directory::existing(&scene.path("none"), RESTORE, "x", scene.observer());
    assert!(matches!(missing, Err(SinkError::Target { .. })));
    assert!(!scene.path("none").exists());
}

#[test]
fn lost_and_found_of_a_fresh_file_system_is_no_content() {
    let scene = Scene::new();
    fs::create_dir_all(scene.path("lost+found")).expect("made");
    fs::set_permissions(scene.path("lost+found"), fs::Permissions::from_mode(0o2777)).expect("set");
    let directory = scene.create(RESTORE).expect("begun");
    directory.make_directory(&at("lost+found")).expect("taken over");
    assert_eq!(entry_error(directory.make_directory(&at("lost+found"))), errno(Errno::EXIST));
    put(&directory, &at("lost+found/piece"), b"#123").expect("put");
    directory.finish_directory(&at("lost+found"), &folder()).expect("finished");
    assert_metadata(&scene.path("lost+found"), &folder());
    Box::new(directory).complete(&folder()).expect("complete");

    let other = Scene::new();
    fs::create_dir_all(other.path("lost+found/full")).expect("made");
    assert!(refusal(other.create(RESTORE)).contains("lost+found"));
}

#[test]
fn the_same_restore_begins_again_and_another_is_refused() {
    let scene = Scene::new();
    let first = scene.create_as(RESTORE, "snapshot 1").expect("begun");
    let marker = fs::metadata(scene.path(MARKER_NAME)).expect("known");
    assert_eq!(marker.mode() & 0o7777, 0o600);
    assert!(refusal(scene.create_as(RESTORE, "snapshot 1")).contains("under way"));
    first.make_directory(&at("dir")).expect("made");
    put(&first, &at("dir/file"), b"half").expect("put");
    let outside = scene.dir.path().join("outside");
    symlink(&outside, scene.path("dir/link")).expect("made");
    drop(first);
    assert!(refusal(scene.create_as(RESTORE, "snapshot 2")).contains("snapshot 1"));
    assert!(refusal(scene.existing("snapshot 2")).contains("snapshot 1"));
    assert!(scene.path("dir/file").exists());

    let second = scene.create_as(RESTORE, "snapshot 1").expect("begun again");
    assert_eq!(fs::read_dir(scene.target()).expect("read").count(), 1);
    put(&second, &at("dir"), b"whole").expect("put");
    Box::new(second).complete(&folder()).expect("complete");
    assert!(refusal(scene.create_as(RESTORE, "snapshot 1")).contains("not empty"));
    scene.assert_sentinel_untouched();
}

#[test]
fn a_restore_into_existing_content_never_lets_that_be_removed() {
    let scene = Scene::new();
    fs::create_dir(scene.target()).expect("made");
    fs::write(scene.path("old"), "old").expect("written");
    drop(scene.existing("snapshot 1").expect("begun"));
    assert!(refusal(scene.create_as(RESTORE, "snapshot 1")).contains("interrupted"));
    assert!(scene.path("old").exists());
    let again = scene.existing("snapshot 1").expect("begun again");
    Box::new(again).complete(&folder()).expect("complete");
    assert_eq!(fs::read(scene.path("old")).expect("read"), b"old");
    assert!(!scene.path(MARKER_NAME).exists());
}

#[test]
fn a_marker_that_could_not_be_written_stops_nobody_but_a_forged_one_does() {
    let scene = Scene::new();
    fs::create_dir(scene.target()).expect("made");
    fs::write(scene.path(MARKER_NAME), [0; 12]).expect("written");
    scene.create(RESTORE).map(Box::new).expect("begun").complete(&folder()).expect("complete");

    fs::write(scene.path(MARKER_NAME), "").expect("written");
    fs::write(scene.path("content"), "").expect("written");
    assert!(refusal(scene.create(RESTORE)).contains("not empty"));
    fs::write(scene.path(MARKER_NAME), "snapshot 1\nnew\n").expect("written");
    std::os::unix::fs::chown(scene.path(MARKER_NAME), Some(7), None).expect("set");
    assert!(refusal(scene.create(RESTORE)).contains("somebody else"));
    fs::remove_file(scene.path(MARKER_NAME)).expect("removed");
    symlink("content", scene.path(MARKER_NAME)).expect("made");
    assert!(refusal(scene.create(RESTORE)).contains("somebody else"));
    assert!(scene.path("content").exists());
}
