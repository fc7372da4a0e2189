//! The directory source finds just what an independent description of the same tree finds.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use volume_vault::clock::Clock;
use volume_vault::entry::{self, Entry};
use volume_vault::event::Recorder;
use volume_vault::source::{Directory, DirectoryOptions, Run, Selection, Source};

use crate::support::tree::plan::{plans, random_tree};
use crate::support::tree::{Aspect, Kind, Record, Tree, describe, diff_except, make_deep, remove};

/// What the source says about a directory, as the describer would put it.
fn walk(dir: &Path) -> Tree {
    let recorder = Arc::new(Recorder::default());
    let options = DirectoryOptions { clock: Clock::System, selection: Selection::all() };
    let mut source = Directory::open(dir, options, recorder.clone()).expect("opened");
    let mut tree = Tree::new();
    while let Some(found) = source.next().expect("the source goes on") {
        let path = found.path.to_slashed();
        let record = match &found.entry.link {
            None => record(&mut source, found.entry),
            Some(first) => {
                let first = first.to_slashed();
                let leader = tree.get_mut(&first).expect("the first name came before");
                leader.group = Some(first);
                let leader = leader.clone();
                // A further name has no content of its own, all else must be equal.
                Record { kind: leader.kind, group: leader.group, ..metadata(found.entry) }
            }
        };
        assert!(tree.insert(path, record).is_none(), "no path comes twice");
    }
    assert_eq!(recorder.warnings(), []);
    tree
}

fn record(source: &mut Directory, found: Entry) -> Record {
    let kind = match &found.kind {
        entry::Kind::File { size, .. } => {
            let hash = hash(source);
            let (finished, _) = source.finish().expect("finished");
            assert_eq!(finished, found, "nothing changed");
            Kind::File { size: *size, hash, holes: Vec::new() }
        }
        entry::Kind::Directory => Kind::Directory,
        entry::Kind::Symlink { target } => Kind::Symlink(target.clone()),
        entry::Kind::CharDevice { major, minor } => Kind::Char(*major, *minor),
        entry::Kind::BlockDevice { major, minor } => Kind::Block(*major, *minor),
        entry::Kind::Fifo => Kind::Fifo,
        entry::Kind::Socket => Kind::Socket,
    };
    Record { kind, ..metadata(found) }
}

fn metadata(found: Entry) -> Record {
    Record {
        kind: Kind::Fifo,
        mode: found.mode,
        uid: found.uid,
        gid: found.gid,
        mtime: (found.mtime.seconds, found.mtime.nanos.into()),
        xattrs: found.xattrs.into_iter().map(|x| (x.name, x.value)).collect::<BTreeMap<_, _>>(),
        group: None,
    }
}

/// The hash of the describer: over each cell that is not all zeros, and where it lies.
fn hash(source: &mut Directory) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 16];
    let mut position = 0u64;
    loop {
        match source.read(&mut buffer).expect("readable") {
            Run::Data(len) => {
                assert_eq!(position % 512, 0, "the buffer is filled unless data ends");
                for cell in buffer[..len].chunks(512) {
                    if cell.iter().any(|b| *b != 0) {
                        let _ = hasher.update(&position.to_le_bytes()).update(cell);
                    }
                    position += cell.len() as u64;
                }
            }
            Run::Hole(len) => position += len,
            Run::End => return hasher.finalize(),
        }
    }
}

fn assert_equal(dir: &Path) {
    let lines = diff_except(&describe(dir), &walk(dir), &[Aspect::Holes]);
    assert_eq!(lines, [""; 0]);
}

#[test]
fn a_large_random_tree_is_found_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    random_tree(dir.path(), 7, 1000);
    assert_equal(dir.path());
}

#[test]
fn a_tree_5000_deep_is_found_as_it_is_f110() {
    let dir = tempfile::tempdir().expect("a directory");
    make_deep(dir.path(), 5000);
    let [left, right] = [describe(dir.path()), walk(dir.path())];
    remove(dir.path());
    assert_eq!(diff_except(&left, &right, &[Aspect::Holes]), [""; 0]);
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_tree_is_found_as_it_is(plan in plans(40)) {
        let dir = tempfile::tempdir().expect("a directory");
        plan.make(dir.path());
        assert_equal(dir.path());
    }
}
