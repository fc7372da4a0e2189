//! The tree changes between two calls.

use super::mounts::Mounted;
use super::*;

/// A tree, and a secret outside of it.
fn with_secret() -> (Bench, TempDir) {
    let outside = tempfile::tempdir().expect("a directory");
    fs::write(outside.path().join("secret"), b"secret").expect("written");
    (Bench::new(), outside)
}

#[test]
fn a_file_replaced_before_it_is_read_is_lost_and_nothing_else_read() {
    let (bench, outside) = with_secret();
    bench.write("f", b"content");
    let replace: [&dyn Fn(); 4] = [
        &|| symlink(outside.path().join("secret"), bench.at("f")).expect("made"),
        &|| sys::mkfifoat(CWD, bench.at("f"), Mode::RUSR).expect("made"),
        &|| sys::mknodat(CWD, bench.at("f"), Type::Socket, Mode::RUSR, 0).expect("made"),
        &|| fs::hard_link(outside.path().join("secret"), bench.at("f")).expect("made"),
    ];
    for replace in replace {
        let mut source = bench.open();
        let _ = step_to(&mut source, "f");
        fs::rename(bench.at("f"), outside.path().join("kept")).expect("moved");
        replace();
        let outcome = message(source.read(&mut [0; 9]));
        assert_eq!(outcome, "was replaced before it was read");
        assert!(message(source.read(&mut [0; 9])).contains("could not be read"));
        assert!(source.finish().is_err());
        assert_eq!(step(&mut source), None, "the source goes on");
        fs::remove_file(bench.at("f")).expect("removed");
        fs::rename(outside.path().join("kept"), bench.at("f")).expect("moved");
    }
}

#[test]
fn a_file_that_vanishes_before_it_is_read_is_lost() {
    let bench = Bench::new();
    bench.write("f", b"content");
    let mut source = bench.open();
    let _ = step_to(&mut source, "f");
    fs::remove_file(bench.at("f")).expect("removed");
    assert_eq!(message(source.read(&mut [0; 9])), "vanished before it was read");
}

#[test]
fn what_vanishes_before_it_is_looked_at_is_warned_of() {
    let bench = Bench::new();
    bench.write("a", b"");
    bench.write("b", b"");
    let mut source = bench.open();
    let _ = step_to(&mut source, "");
    fs::remove_file(bench.at("a")).expect("removed");
    assert_eq!(paths(&mut source), ["b"]);
    assert_eq!(bench.warnings(), ["!a: vanished while it was read"]);
}

#[test]
fn a_directory_swapped_for_a_symlink_is_not_followed_f087() {
    let (bench, outside) = with_secret();
    bench.mkdir("d");
    bench.write("d/f", b"");
    bench.write("e", b"");
    let mut source = bench.open();
    let _ = step_to(&mut source, "d");
    fs::rename(bench.at("d"), outside.path().join("moved")).expect("moved");
    symlink(outside.path(), bench.at("d")).expect("made");
    assert_eq!(paths(&mut source), ["e"]);
    let expected = ["!d: the directory vanished or was replaced while it was read"];
    assert_eq!(bench.warnings(), expected);
}

#[test]
fn a_directory_swapped_for_another_or_removed_is_warned_of() {
    let (bench, outside) = with_secret();
    for replace in [true, false] {
        bench.mkdir("d");
        let mut source = bench.open();
        let _ = step_to(&mut source, "d");
        if replace {
            fs::rename(bench.at("d"), outside.path().join("moved")).expect("moved");
            bench.mkdir("d/secret");
        } else {
            fs::remove_dir_all(bench.at("d")).expect("removed");
        }
        assert_eq!(paths(&mut source), [""; 0]);
    }
    assert_eq!(bench.warnings().len(), 2);
}

#[test]
fn something_mounted_on_a_directory_meanwhile_is_not_entered() {
    let bench = Bench::new();
    bench.mkdir("d/e");
    let d = bench.at("d");
    let itself = ["--bind", d.to_str().expect("text")];
    for arguments in [&["-t", "tmpfs", "none"][..], &itself] {
        let mut source = bench.open();
        let _ = step_to(&mut source, "d");
        let _mounted = Mounted::new(arguments, d.clone());
        assert_eq!(paths(&mut source), [""; 0]);
    }
    assert_eq!(bench.warnings().len(), 2);
}

#[test]
fn a_file_that_grows_is_read_up_to_the_size_it_was_opened_with() {
    let bench = Bench::new();
    bench.write("f", &[1; 1000]);
    let mut source = bench.open();
    let _ = step_to(&mut source, "f");
    let mut buffer = [0; 600];
    assert_eq!(source.read(&mut buffer).expect("read"), Run::Data(600));
    let mut file = fs::File::options().append(true).open(bench.at("f")).expect("opened");
    file.write_all(&[2; 5000]).expect("written");
    assert_eq!(source.read(&mut buffer).expect("read"), Run::Data(400));
    assert_eq!(source.read(&mut buffer).expect("read"), Run::End);
    let (entry, hint) = source.finish().expect("finished");
    assert_eq!((entry.content_len(), hint), (1000, None));
    assert_eq!(bench.warnings(), ["!f: changed while it was read"]);
}

#[test]
fn a_file_that_becomes_shorter_has_the_size_that_was_read() {
    let bench = Bench::new();
    bench.write("f", &[1; 1000]);
    sparse(&bench, "g", 1 << 20, &[0]);
    let mut source = bench.open();
    let mut buffer = [0; 600];
    for (name, cut, left) in [("f", 700, Run::Data(100)), ("g", 600, Run::End)] {
        let _ = step_to(&mut source, name);
        assert_eq!(source.read(&mut buffer).expect("read"), Run::Data(600));
        let file = fs::File::options().write(true).open(bench.at(name)).expect("opened");
        file.set_len(cut).expect("cut");
        assert_eq!(source.read(&mut buffer).expect("read"), left);
        assert_eq!(source.read(&mut buffer).expect("read"), Run::End);
        let (entry, hint) = source.finish().expect("finished");
        assert_eq!((entry.content_len(), hint), (cut, None), "{name}");
    }
    assert_eq!(bench.warnings().len(), 2);
}

#[test]
fn a_file_overwritten_while_it_is_read_is_warned_of() {
    let bench = Bench::new();
    bench.write("f", &[1; 1000]);
    let mut source = bench.open();
    let _ = step_to(&mut source, "f");
    assert_eq!(source.read(&mut [0; 600]).expect("read"), Run::Data(600));
    let file = fs::File::options().write(true).open(bench.at("f")).expect("opened");
    file.write_all_at(&[2; 1000], 0).expect("written");
    // Not left to the tick of the file system's clock.
    let mtime = sys::Timespec { tv_sec: 77, tv_nsec: 0 };
    let times = sys::Timestamps { last_access: mtime, last_modification: mtime };
    sys::futimens(&file, &times).expect("set");
    assert_eq!(read_all(&mut source), [Run::Data(400)]);
    assert_eq!(source.finish().expect("finished").1, None);
    assert_eq!(bench.warnings(), ["!f: changed while it was read"]);
}

#[test]
fn a_change_before_the_reading_is_what_is_finished_with() {
    let bench = Bench::new();
    bench.write("f", b"old");
    let mut source = bench.open();
    let _ = step_to(&mut source, "f");
    bench.write("f", b"newer");
    fs::set_permissions(bench.at("f"), fs::Permissions::from_mode(0o711)).expect("set");
    sys::setxattr(bench.at("f"), "user.new", b"1", XattrFlags::empty()).expect("set");
    assert_eq!(read_all(&mut source), [Run::Data(5)]);
    let (entry, hint) = source.finish().expect("finished");
    assert_eq!((entry.content_len(), entry.mode, entry.xattrs.len()), (5, 0o711, 1));
    assert!(hint.is_some());
    assert_eq!(bench.warnings(), [""; 0]);
}

#[test]
fn if_the_first_name_is_lost_the_next_one_holds_the_content() {
    let bench = Bench::new();
    bench.write("a", b"content");
    for name in ["b", "c", "d"] {
        fs::hard_link(bench.at("a"), bench.at(name)).expect("linked");
    }
    let mut source = bench.open();
    let _ = step_to(&mut source, "a");
    fs::remove_file(bench.at("a")).expect("removed");
    assert!(source.read(&mut [0; 9]).is_err());
    assert_eq!(step_to(&mut source, "b").entry.link, None);
    assert_eq!(read_all(&mut source), [Run::Data(7)]);
    let link = step_to(&mut source, "c").entry.link;
    assert_eq!(link.map(|l| l.to_string()).as_deref(), Some("b"));
}
