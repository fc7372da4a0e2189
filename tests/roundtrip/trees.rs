//! Any tree comes back, after any change; trees are canonical.

use proptest::collection::vec;

use super::mutation::mutations;
use super::{Bench, check, root, shown, write};
use crate::support::tree::describe;
use crate::support::tree::plan::{plans, random_tree};

#[test]
fn any_tree_comes_back_as_it_was_after_any_change() {
    let cases = (plans(30), vec(mutations(), 1..14));
    check(20, &cases, |(plan, changes)| {
        let bench = Bench::on_tmpfs();
        plan.make(&bench.tree());
        let old = describe(&bench.tree());
        let first = bench.save();
        assert_eq!(shown(&first.warnings), [""; 0]);
        bench.let_the_clock_tick();
        changes.iter().for_each(|change| change.apply(&bench.tree()));
        let new = describe(&bench.tree());
        let second = bench.save();
        assert_eq!(shown(&second.warnings), [""; 0]);
        assert_eq!(second.report.parent, Some(first.report.snapshot));
        // What was taken over unread is what reading would have found.
        let scratch = bench.save_as("scratch");
        assert_eq!(scratch.report.parent, None);
        assert_eq!(root(&second), root(&scratch));
        bench.assert_comes_back(&second, &new);
        bench.assert_comes_back(&first, &old);
    });
}

#[test]
fn a_large_tree_comes_back_and_its_copy_has_the_same_root() {
    let bench = Bench::new();
    random_tree(&bench.tree(), 11, 3000);
    // While data is on its way to a disk, the blocks in use waver, and with them what is sparse.
    rustix::fs::syncfs(std::fs::File::open(bench.tree()).expect("opens")).expect("synced");
    let tree = describe(&bench.tree());
    let saved = bench.save();
    bench.assert_comes_back(&saved, &tree);
    // Restored beside: other inodes, the same tree. Sparse files may have more holes, not fewer.
    let (target, _) = bench.restore(&saved);
    assert_eq!(root(&bench.save_dir("copy", &target)), root(&saved));
}

#[test]
fn a_second_backup_of_20000_unchanged_files_reads_and_stores_nothing() {
    use rustix::fs::inotify;
    let bench = Bench::new();
    for dir in 0..20 {
        let dir = bench.at(&format!("d{dir:02}"));
        std::fs::create_dir(&dir).expect("made");
        for file in 0..1000 {
            write(&dir.join(format!("f{file:03}")), format!("{file} in {dir:?}"));
        }
    }
    let first = bench.save();
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK).expect("inotify");
    for dir in 0..20 {
        let dir = bench.at(&format!("d{dir:02}"));
        let flags = inotify::WatchFlags::OPEN | inotify::WatchFlags::ACCESS;
        let _ = inotify::add_watch(&watch, &dir, flags).expect("watched");
    }
    let second = bench.save();
    let facts = &second.report.item.facts;
    assert_eq!((facts.bytes_read, facts.entries_unchanged, facts.entries), (0, 20_021, 20_021));
    assert_eq!((second.report.packs, facts.bytes_new), (0, 0));
    assert_eq!(root(&second), root(&first));
    assert_eq!(files_seen(&watch), 0);
    // The watch sees what it is there for.
    let _ = std::fs::read(bench.at("d00/f000")).expect("read");
    assert!(files_seen(&watch) > 0);
}

/// Events about what a watched directory holds, not about itself.
fn files_seen(watch: &std::os::fd::OwnedFd) -> usize {
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut reader = rustix::fs::inotify::Reader::new(watch, &mut buffer);
    let mut seen = 0;
    while let Ok(event) = reader.next() {
        assert!(!event.events().contains(rustix::fs::inotify::ReadFlags::QUEUE_OVERFLOW));
        seen += usize::from(event.file_name().is_some());
    }
    seen
}
