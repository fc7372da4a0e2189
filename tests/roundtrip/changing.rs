//! A tree that changes while it is read: what is saved is what was read, and is said to be partial.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use volume_vault::entry::{Entry, Hint};
use volume_vault::source::{
    Directory, Found, Order, ReadError, Run, Selection, Source, SourceError,
};

use super::mutation::set_mtime;
use super::{Bench, Saved, noise, root, shown, write};

/// When something is done to the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// The entry was found, and nothing more.
    Found,
    /// So many reads of the file that was found last are done; its end counts as one.
    Read(usize),
}

/// A directory that is changed while it is read, always at the same moments.
struct Meddled<F> {
    inner: Directory,
    meddle: F,
    path: String,
    reads: usize,
}

impl<F: FnMut(&str, Moment) + Send> Source for Meddled<F> {
    fn order(&self) -> Order {
        self.inner.order()
    }

    fn next(&mut self) -> Result<Option<Found>, SourceError> {
        let found = self.inner.next()?;
        self.reads = 0;
        if let Some(found) = &found {
            self.path = found.path.to_string();
            (self.meddle)(&self.path, Moment::Found);
        }
        Ok(found)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<Run, ReadError> {
        // In small steps, so that there is something between them.
        let len = buffer.len().min(64 << 10);
        let run = self.inner.read(&mut buffer[..len])?;
        self.reads += 1;
        (self.meddle)(&self.path, Moment::Read(self.reads));
        Ok(run)
    }

    fn finish(&mut self) -> Result<(Entry, Option<Hint>), ReadError> {
        self.inner.finish()
    }
}

fn save_meddled(bench: &Bench, meddle: impl FnMut(&str, Moment) + Send + 'static) -> Saved {
    bench.save_from("tree", |watched| {
        let inner = Directory::open(&bench.tree(), bench.walk(Selection::all()), watched)?;
        Ok(Box::new(Meddled { inner, meddle, path: String::new(), reads: 0 }))
    })
}

/// 300,000 bytes: five reads.
fn content() -> Vec<u8> {
    noise(1, 300_000)
}

/// Meddles with `f` once, at a moment; gives what came back of it and the warnings. Whatever it is,
/// its neighbours are whole and the next backup finds the new state.
fn meddle_once(
    at: Moment,
    act: impl FnOnce(&Path) -> io::Result<()> + Send + 'static,
) -> (Option<Vec<u8>>, Vec<String>) {
    let bench = Bench::on_tmpfs();
    for name in ["a", "f", "z"] {
        write(&bench.at(name), content());
    }
    let path = bench.at("f");
    let mut act = Some(act);
    let saved = save_meddled(&bench, move |name, moment| {
        if name == "f"
            && moment == at
            && let Some(act) = act.take()
        {
            act(&path).expect("it can be done");
        }
    });
    let warnings = shown(&saved.warnings);
    assert_eq!(saved.report.is_partial(), warnings.iter().any(|w| w.starts_with('!')));
    let (target, restored) = bench.restore(&saved);
    assert_eq!(shown(&restored.warnings), [""; 0]);
    for name in ["a", "z"] {
        assert_eq!(fs::read(target.join(name)).expect("there"), content());
    }
    // No hint was kept of what was read in between.
    let again = bench.save();
    assert_eq!(shown(&again.warnings), [""; 0]);
    assert_eq!(root(&again), root(&bench.save_as("scratch")));
    (fs::read(target.join("f")).ok(), warnings)
}

#[test]
fn f086_a_file_that_grows_is_saved_as_long_as_it_was() {
    let (found, warnings) = meddle_once(Moment::Read(2), |path| {
        File::options().append(true).open(path)?.write_all_at(&[7; 50_000], 300_000)
    });
    assert_eq!(found, Some(content()));
    assert_eq!(warnings, ["!f: changed while it was read"]);
}

#[test]
fn f086_a_file_that_shrinks_is_saved_as_far_as_it_was_read() {
    for (len, saved) in [(0, 131_072), (200_000, 200_000), (131_072, 131_072)] {
        let (found, warnings) = meddle_once(Moment::Read(2), move |path| {
            File::options().write(true).open(path)?.set_len(len)
        });
        assert_eq!(found.as_deref(), Some(&content()[..saved]));
        assert_eq!(warnings, ["!f: changed while it was read"]);
    }
}

#[test]
fn f086_a_file_that_vanishes_while_it_is_read_is_saved() {
    let (found, warnings) = meddle_once(Moment::Read(2), |path| fs::remove_file(path));
    assert_eq!(found, Some(content()));
    assert_eq!(warnings, ["!f: changed while it was read"]);
}

#[test]
fn f086_a_file_that_vanishes_before_it_is_read_is_named() {
    let (found, warnings) = meddle_once(Moment::Found, |path| fs::remove_file(path));
    assert_eq!(found, None);
    assert_eq!(warnings, ["!f: vanished before it was read"]);
}

#[test]
fn f086_a_file_that_is_replaced_before_it_is_read_is_named() {
    let by: [fn(&Path) -> io::Result<()>; 4] = [
        |path| symlink("/etc/passwd", path),
        |path| fs::create_dir(path),
        |path| {
            use rustix::fs::{CWD, FileType, Mode, mknodat};
            Ok(mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0)?)
        },
        |path| fs::write(path, b"another"),
    ];
    for make in by {
        let (found, warnings) = meddle_once(Moment::Found, move |path| {
            // The old inode stays in use, so that its number is not used again.
            fs::rename(path, path.with_file_name("zz"))?;
            make(path)
        });
        assert_eq!(found, None);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert_eq!(warnings[0], "!f: was replaced before it was read");
    }
}

#[test]
fn f086_a_file_that_is_replaced_while_it_is_read_is_saved_as_it_was() {
    let (found, warnings) = meddle_once(Moment::Read(2), |path| {
        let new = path.with_file_name("b");
        fs::write(&new, b"another")?;
        fs::rename(new, path)
    });
    assert_eq!(found, Some(content()));
    assert_eq!(warnings, ["!f: changed while it was read"]);
}

#[test]
fn f086_content_that_is_disguised_while_it_is_read_is_told() {
    let (found, warnings) = meddle_once(Moment::Read(4), |path| {
        use std::os::unix::fs::MetadataExt as _;
        let before = path.metadata()?;
        File::options().write(true).open(path)?.write_all_at(b"changed", 290_000)?;
        set_mtime(path, before.mtime(), before.mtime_nsec())
    });
    let mut expected = content();
    expected[290_000..290_007].copy_from_slice(b"changed");
    assert_eq!(found, Some(expected));
    assert_eq!(warnings, ["!f: changed while it was read"]);
}

#[test]
fn f119_a_file_that_grows_at_every_read_comes_to_an_end() {
    let bench = Bench::on_tmpfs();
    write(&bench.at("f"), content());
    write(&bench.at("g"), content());
    let path = bench.at("f");
    let saved = save_meddled(&bench, move |name, _| {
        if name == "f" {
            let file = File::options().append(true).open(&path).expect("opens");
            let _ = io::Write::write(&mut &file, &noise(2, 100_000)).expect("written");
        }
    });
    assert_eq!(shown(&saved.warnings), ["!f: changed while it was read"]);
    assert!(saved.report.is_partial());
    let (target, _) = bench.restore(&saved);
    let found = fs::read(target.join("f")).expect("there");
    // As long as it was when it was opened, after the first meddling.
    assert_eq!(found, [content(), noise(2, 100_000)].concat());
    assert_eq!(fs::read(target.join("g")).expect("there"), content());
}

#[test]
fn f119_a_file_that_is_written_all_the_time_comes_to_an_end() {
    let bench = Bench::on_tmpfs();
    write(&bench.at("f"), noise(1, 8 << 20));
    write(&bench.at("g"), content());
    let stop = AtomicBool::new(false);
    let saved = std::thread::scope(|scope| {
        let antagonist = scope.spawn(|| {
            let file = File::options().write(true).open(bench.at("f")).expect("opens");
            let (blocks, mut at) = ([noise(3, 4096), noise(4, 4096)], 0);
            while !stop.load(Ordering::Relaxed) {
                let offset = at * 7 % 2048 * 4096;
                file.write_all_at(&blocks[at % 2], offset as u64).expect("written");
                at += 1;
            }
        });
        let saved = bench.save();
        stop.store(true, Ordering::Relaxed);
        antagonist.join().expect("it ends well");
        saved
    });
    let (target, _) = bench.restore(&saved);
    assert_eq!(target.join("f").metadata().expect("there").len(), 8 << 20);
    assert_eq!(fs::read(target.join("g")).expect("there"), content());
    let again = bench.save();
    assert_eq!(root(&again), root(&bench.save_as("scratch")));
}

/// A directory with a file outside the tree, that nothing of may be seen.
fn make_outside(bench: &Bench) -> std::path::PathBuf {
    let outside = bench.dir.path().join("outside");
    fs::create_dir(&outside).expect("made");
    for name in ["f", "only-outside"] {
        write(&outside.join(name), b"secret");
    }
    outside
}

#[test]
fn f087_a_directory_that_becomes_a_link_is_not_followed() {
    let bench = Bench::on_tmpfs();
    let outside = make_outside(&bench);
    fs::create_dir(bench.at("d")).expect("made");
    write(&bench.at("d/f"), b"inside");
    let path = bench.at("d");
    let saved = save_meddled(&bench, move |name, moment| {
        if name == "d" && moment == Moment::Found {
            fs::rename(&path, path.with_file_name("e")).expect("renamed");
            symlink(&outside, &path).expect("made");
        }
    });
    let expected = "!d: the directory vanished or was replaced while it was read";
    assert_eq!(shown(&saved.warnings), [expected]);
    let (target, _) = bench.restore(&saved);
    assert_eq!(fs::read_dir(target.join("d")).expect("lists").count(), 0);
}

#[test]
fn f087_a_directory_swapped_with_a_link_again_and_again_never_leads_outside() {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let bench = Bench::on_tmpfs();
    let outside = make_outside(&bench);
    fs::create_dir_all(bench.at("a/d")).expect("made");
    for number in 0..50 {
        write(&bench.at(&format!("a/d/{number}")), b"inside");
    }
    write(&bench.at("a/d/f"), b"inside");
    symlink(&outside, bench.at("z-link")).expect("made");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let racer = scope.spawn(|| {
            let (dir, link) = (bench.at("a/d"), bench.at("z-link"));
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, &dir, CWD, &link, RenameFlags::EXCHANGE).expect("swapped");
            }
        });
        for _ in 0..40 {
            let saved = bench.save();
            let (target, _) = bench.restore(&saved);
            for path in crate::support::tree::describe(&target).keys() {
                assert!(!path.ends_with(b"only-outside"));
                if path.ends_with(b"/f") {
                    use std::os::unix::ffi::OsStrExt as _;
                    let path = target.join(std::ffi::OsStr::from_bytes(path));
                    assert_eq!(fs::read(path).expect("there"), b"inside");
                }
            }
            fs::remove_dir_all(target).expect("removed");
        }
        stop.store(true, Ordering::Relaxed);
        racer.join().expect("it ends well");
    });
}
