//! Trees deeper than a path can be, and than descriptors last.

use super::*;

/// Removes what the library that made the temporary directory cannot.
struct Deep(Bench);

impl Drop for Deep {
    fn drop(&mut self) {
        let _ = Command::new("rm").arg("-rf").arg(self.0.dir.path()).status();
    }
}

/// `levels` directories `name` in each other, each with a file `z` beside it.
fn deep(levels: usize, name: &CStr) -> Deep {
    let bench = Bench::new();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut dir: OwnedFd = sys::open(bench.dir.path(), flags, Mode::empty()).expect("opened");
    for _ in 0..levels {
        sys::mkdirat(&dir, name, Mode::RWXU).expect("made");
        let created = OFlags::CREATE | OFlags::WRONLY;
        let file = sys::openat(&dir, c"z", created, Mode::RUSR).expect("made");
        assert_eq!(rustix::io::write(&file, b"x").expect("written"), 1);
        dir = sys::openat(&dir, name, flags, Mode::empty()).expect("opened");
    }
    Deep(bench)
}

#[test]
fn a_tree_5000_deep_is_walked_with_few_descriptors_f110() {
    let tree = deep(5000, c"directory");
    let mut source = tree.0.open();
    let mut files = 0;
    let mut directories = 0;
    while let Some(found) = step(&mut source) {
        assert!(source.walk.open_count() <= OPEN_MAX);
        if found.entry.is_directory() {
            directories += 1;
        } else {
            files += 1;
            assert_eq!(read_all(&mut source), [Run::Data(1)], "{files}");
        }
    }
    assert_eq!((directories, files), (5001, 5000));
    assert_eq!(tree.0.warnings(), [""; 0]);
}

#[test]
fn an_upper_directory_replaced_meanwhile_costs_only_what_it_hides() {
    for replace_by_symlink in [true, false] {
        let tree = deep(2 * OPEN_MAX, c"d");
        let other = deep(2 * OPEN_MAX, c"d");
        let mut source = tree.0.open();
        let deepest = vec!["d"; 2 * OPEN_MAX].join("/");
        let _ = step_to(&mut source, &deepest);
        let elsewhere = tempfile::tempdir().expect("a directory");
        fs::rename(tree.0.at("d"), elsewhere.path().join("d")).expect("moved");
        if replace_by_symlink {
            symlink(elsewhere.path().join("d"), tree.0.at("d")).expect("made");
        } else {
            fs::rename(other.0.at("d"), tree.0.at("d")).expect("moved");
        }
        let rest = paths(&mut source);
        let warnings = tree.0.warnings();
        assert_eq!(rest.last().map(String::as_str), Some("z"), "the root is still read");
        assert!(warnings.iter().all(|w| w.contains("vanished or was replaced")), "{warnings:?}");
        assert_eq!(rest.len() + warnings.len(), 2 * OPEN_MAX, "each `z` comes or is warned of");
        assert!(warnings.len() > OPEN_MAX / 2);
    }
}

#[test]
fn a_path_too_long_for_the_format_is_warned_of() {
    let name = std::ffi::CString::new(vec![b'n'; 255]).expect("a name");
    let levels = crate::entry::PATH_LEN_MAX / 256;
    let tree = deep(levels + 1, &name);
    let mut source = tree.0.open();
    let mut directories = 0;
    while let Some(found) = step(&mut source) {
        directories += usize::from(found.entry.is_directory());
    }
    assert_eq!(directories, levels + 1, "the root and all that fit");
    let warnings = tree.0.recorder.warnings();
    assert!(!warnings.is_empty());
    assert!(warnings.iter().all(|w| w.skipped && w.message.contains("too long")));
}
