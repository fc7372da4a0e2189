//! The sorter against a plain model, and what its files show.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;

use proptest::prelude::*;

use super::*;
use crate::entry::{Extent, Xattr};
use crate::event::Recorder;
use crate::id::ChunkId;

const NOW: Time = Time::new(1_700_000_000, 5);
const PLENTY: usize = 1 << 20;

fn path(slashed: &str) -> EntryPath {
    path_of(slashed.as_bytes())
}

fn path_of(slashed: &[u8]) -> EntryPath {
    let key: Vec<_> = slashed.iter().map(|b| if *b == b'/' { 0 } else { *b }).collect();
    EntryPath::from_key(&key).expect("a path")
}

fn entry(kind: Kind) -> Stored {
    let entry = Entry {
        kind,
        mode: 0o640,
        uid: 1,
        gid: 2,
        mtime: Time::new(3, 4),
        xattrs: Vec::new(),
        link: None,
    };
    Stored { entry, content: Content::empty() }
}

fn file(number: u8) -> Stored {
    let len = u32::from(number) + 1;
    let mut stored = entry(Kind::File { size: len.into(), sparse: number.is_multiple_of(2) });
    stored.content = Content::Inline(vec![Extent::Chunk(ChunkId::new([number; 32]), len)]);
    stored.entry.uid = number.into();
    stored.entry.xattrs = vec![Xattr { name: b"user.n".to_vec(), value: vec![number] }];
    stored
}

fn link(target: &str) -> Stored {
    let mut stored = entry(Kind::File { size: 0, sparse: false });
    stored.entry.link = Some(path(target));
    stored
}

/// An entry that no tree can hold.
fn unfit() -> Stored {
    entry(Kind::Symlink { target: vec![b'x'; 5_000] })
}

type Entries = Vec<(EntryPath, Stored)>;

fn all(mut sorted: SortedEntries) -> Entries {
    std::iter::from_fn(|| sorted.next().expect("an entry or the end")).collect()
}

/// What comes out, and the paths that were told to be left out.
fn sort(pushes: &Entries, memory_max: usize) -> (Entries, BTreeSet<EntryPath>) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut sorter = EntrySorter::with_limits(memory_max, PLENTY, dir.path());
    for (path, stored) in pushes {
        sorter.push(path.clone(), stored.clone()).expect("taken");
    }
    let recorder = Recorder::default();
    let sorted = all(sorter.finish(&recorder, NOW).expect("finished"));
    let left_out = recorder.warnings().into_iter().map(|warning| {
        assert!(warning.skipped);
        path_of(&warning.object)
    });
    (sorted, left_out.collect())
}

fn sort_shown(pushes: &[(&str, Stored)]) -> (Vec<(String, String)>, Vec<String>) {
    let pushes = pushes.iter().map(|(at, stored)| (path(at), stored.clone())).collect();
    let (sorted, left_out) = sort(&pushes, PLENTY);
    let show = |stored: &Stored| match (&stored.entry.link, &stored.entry.kind) {
        (Some(first), _) => format!("= {first}"),
        (None, Kind::File { size, .. }) => format!("file {size}"),
        (None, Kind::Directory) => "directory".into(),
        (None, other) => format!("{other:?}"),
    };
    let shown = sorted.iter().map(|(path, stored)| (path.to_string(), show(stored)));
    (shown.collect(), left_out.iter().map(ToString::to_string).collect())
}

fn expect(pushes: &[(&str, Stored)], sorted: &[(&str, &str)], left_out: &[&str]) {
    let owned = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
    let sorted: Vec<_> = [("", "directory")].iter().chain(sorted).map(owned).collect();
    let left_out: Vec<_> = left_out.iter().map(|p| (*p).to_owned()).collect();
    assert_eq!(sort_shown(pushes), (sorted, left_out));
}

/// What must come out, said as plainly as possible.
fn model(pushes: &Entries) -> (Entries, BTreeSet<EntryPath>) {
    let mut present: BTreeMap<_, _> = pushes.iter().cloned().collect();
    let mut left_out: BTreeSet<EntryPath> = BTreeSet::new();
    present.retain(|path, stored| {
        let fits = !matches!(&stored.entry.kind, Kind::Symlink { target } if target.len() > 4_096);
        if !fits {
            let _ = left_out.insert(path.clone());
        }
        fits
    });
    let ancestors =
        |path: &EntryPath| std::iter::successors(path.parent(), EntryPath::parent).collect();
    let reachable = |path: &EntryPath| {
        let ancestors: Vec<EntryPath> = ancestors(path);
        ancestors.iter().filter_map(|a| present.get(a)).all(|a| a.entry.is_directory())
    };
    let end = |path: &EntryPath| -> Option<EntryPath> {
        let mut at = path;
        for _ in 0..=present.len() {
            let stored = present.get(at)?;
            match &stored.entry.link {
                Some(target) => at = target,
                None if reachable(at) && !stored.entry.is_directory() => return Some(at.clone()),
                None => return None,
            }
        }
        None
    };
    let mut groups: BTreeMap<EntryPath, BTreeSet<&EntryPath>> = BTreeMap::new();
    let mut sorted = BTreeMap::new();
    for (path, stored) in &present {
        match end(path) {
            Some(end) if reachable(path) => {
                let _ = groups.entry(end).or_default().insert(path);
            }
            _ if reachable(path) && stored.entry.is_directory() => {
                let _ = sorted.insert(path.clone(), stored.clone());
            }
            _ => {
                let _ = left_out.insert(path.clone());
            }
        }
    }
    for (end, members) in groups {
        for member in &members {
            let mut stored = present[&end].clone();
            if Some(member) != members.first() {
                stored.entry.link = members.first().map(|first| (*first).clone());
                stored.content = Content::empty();
            }
            let _ = sorted.insert((*member).clone(), stored);
        }
    }
    let mut made_up = entry(Kind::Directory);
    made_up.entry.mode = 0o755;
    (made_up.entry.uid, made_up.entry.gid, made_up.entry.mtime) = (0, 0, NOW);
    let paths: Vec<_> = sorted.keys().cloned().collect();
    for parent in paths.iter().flat_map(|path| -> Vec<EntryPath> { ancestors(path) }) {
        let _ = sorted.entry(parent).or_insert_with(|| made_up.clone());
    }
    let _ = sorted.entry(EntryPath::root()).or_insert(made_up);
    (sorted.into_iter().collect(), left_out)
}

fn any_path(shortest: usize) -> impl Strategy<Value = EntryPath> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "a-", "c"]), shortest..4)
        .prop_map(|names| path(&names.join("/")))
}

fn any_push() -> impl Strategy<Value = (EntryPath, Stored)> {
    let linked = |target: EntryPath| {
        let mut stored = entry(Kind::File { size: 0, sparse: false });
        stored.entry.link = Some(target);
        stored
    };
    let below_root = prop_oneof![
        4 => any::<u8>().prop_map(file),
        4 => Just(entry(Kind::Directory)),
        6 => any_path(0).prop_map(linked),
        1 => Just(entry(Kind::Symlink { target: b"/etc".to_vec() })),
        1 => Just(entry(Kind::Fifo)),
        1 => Just(entry(Kind::CharDevice { major: 1, minor: 3 })),
        1 => Just(unfit()),
    ];
    prop_oneof![
        30 => (any_path(1), below_root),
        1 => Just((EntryPath::root(), entry(Kind::Directory))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn entries_come_out_as_the_model_says(
        pushes in prop::collection::vec(any_push(), 0..40),
        memory_max in prop::sample::select(vec![0, 500, 2_000, PLENTY]),
    ) {
        let (sorted, left_out) = sort(&pushes, memory_max);
        prop_assert!(sorted.is_sorted_by(|(a, _), (b, _)| a < b));
        prop_assert_eq!((sorted, left_out), model(&pushes));
    }
}

#[test]
fn an_empty_stream_is_an_empty_root() {
    expect(&[], &[], &[]);
}

#[test]
fn the_last_push_of_a_path_counts_whether_link_or_not() {
    let pushes = [("a", file(1)), ("b", file(2)), ("a", file(3)), ("b", link("a"))];
    expect(&pushes, &[("a", "file 4"), ("b", "= a")], &[]);
    let pushes = [("a", file(1)), ("b", link("a")), ("b", file(2))];
    expect(&pushes, &[("a", "file 2"), ("b", "file 3")], &[]);
}

#[test]
fn the_first_name_in_walk_order_holds_the_content_wherever_it_came() {
    let pushes = [("x/b", file(6)), ("y", link("x/b")), ("a", link("y"))];
    let sorted = [("a", "file 7"), ("x", "directory"), ("x/b", "= a"), ("y", "= a")];
    expect(&pushes, &sorted, &[]);
    let later = [pushes[2].clone(), pushes[1].clone(), pushes[0].clone()];
    expect(&later, &sorted, &[]);
    let (sorted, _) = sort(&later.map(|(at, stored)| (path(at), stored)).into(), 0);
    assert_eq!(sorted[1], (path("a"), file(6)));
    let mut further = file(6);
    (further.entry.link, further.content) = (Some(path("a")), Content::empty());
    assert_eq!(sorted[3], (path("x/b"), further));
}

#[test]
fn links_to_nothing_to_directories_and_in_circles_are_left_out() {
    let pushes = [
        ("a", link("gone")),
        ("b", link("dir")),
        ("c", link("d")),
        ("d", link("c")),
        ("deep/e", link("a")),
        ("dir", entry(Kind::Directory)),
        ("f", link("g/below")),
        ("g", entry(Kind::Fifo)),
        ("g/below", file(1)),
    ];
    let left_out = ["a", "b", "c", "d", "deep/e", "f", "g/below"];
    expect(&pushes, &[("dir", "directory"), ("g", "Fifo")], &left_out);
}

#[test]
fn what_lies_below_anything_but_a_directory_is_left_out() {
    let pushes = [("a/b/c", file(1)), ("a", file(2)), ("a-", file(3)), ("l/x", file(4))];
    let pushes = [&pushes[..], &[("l", link("a-"))]].concat();
    expect(&pushes, &[("a", "file 3"), ("a-", "file 4"), ("l", "= a-")], &["a/b/c", "l/x"]);
}

#[test]
fn an_unfit_directory_does_not_take_its_content_along() {
    let mut directory = entry(Kind::Directory);
    let value = vec![0; 70_000];
    directory.entry.xattrs = vec![Xattr { name: b"user.big".to_vec(), value }];
    expect(&[("d", directory), ("d/f", file(1))], &[("d", "directory"), ("d/f", "file 2")], &["d"]);
}

#[test]
fn a_name_of_a_megabyte_does_not_become_half_a_million_directories() {
    let deep = vec!["a"; 400_000].join("/");
    let (sorted, left_out) = sort(&vec![(path(&deep), file(1)), (path("b"), file(2))], 0);
    assert_eq!(sorted.len(), 2);
    assert_eq!(left_out, [path(&deep)].into());
}

#[test]
fn more_links_than_may_be_held_are_an_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut sorter = EntrySorter::new(10_000, dir.path());
    let mut push = |at: u32| sorter.push(path(&format!("l{at}")), link("target"));
    let error = (0..1_000).find_map(|at| push(at).err()).expect("an error");
    assert!(error.to_string().contains("hard links in 10000 bytes of memory, at `l"), "{error}");
    // The same links again and again take no more memory.
    let mut sorter = EntrySorter::new(10_000, dir.path());
    for at in 0..1_000 {
        sorter.push(path(&format!("l{}", at % 3)), link("target")).expect("taken");
    }
}

#[test]
fn entries_that_links_lead_to_count_against_the_memory_for_links() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut sorter = EntrySorter::new(20_000, dir.path());
    for at in 0..20 {
        let mut big = file(1);
        big.entry.xattrs[0].value = vec![1; 2_000];
        sorter.push(path(&format!("f{at}")), big).expect("taken");
        sorter.push(path(&format!("l{at}")), link(&format!("f{at}"))).expect("taken");
    }
    let error = sorter.finish(&Recorder::default(), NOW).expect_err("too much");
    assert!(error.to_string().contains("hard links"), "{error}");
}

#[test]
fn memory_held_never_exceeds_the_maximum() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut sorter = EntrySorter::new(50_000, dir.path());
    for at in 0..5_000_u32 {
        sorter.push(path(&format!("{}", at * 7919 % 5_000)), file(1)).expect("taken");
        assert!(sorter.memory <= 50_000);
    }
    let runs = sorter.spill.runs().len();
    assert!(runs > 4, "{runs} runs");
    assert_eq!(all(sorter.finish(&Recorder::default(), NOW).expect("finished")).len(), 5_001);
}

#[test]
fn a_directory_that_cannot_hold_spill_files_is_named() {
    let mut sorter = EntrySorter::new(0, Path::new("/nonexistent"));
    let error = sorter.push(path("a"), file(1)).expect_err("nowhere to spill");
    assert_eq!(error.to_string(), "make a temporary file in `/nonexistent`");
}

/// All bytes of this process's open files that were made in `dir`.
fn spilled_bytes(dir: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for own in std::fs::read_dir("/proc/self/fd").expect("listed") {
        let own = own.expect("listed").path();
        // Descriptors of tests beside this one come and go.
        let Ok(target) = std::fs::read_link(&own) else { continue };
        if target.starts_with(dir) {
            let _ = File::open(&own).expect("opened").read_to_end(&mut bytes).expect("read");
        }
    }
    bytes
}

#[test]
fn spill_files_show_no_name_target_or_attribute() {
    let canary = "distinctive-canary-name";
    let dir = tempfile::tempdir().expect("a directory");
    let mut sorter = EntrySorter::new(1_000, dir.path());
    for at in 0..200 {
        let target = format!("{canary}{at}").into_bytes();
        let mut stored = entry(Kind::Symlink { target: target.clone() });
        stored.entry.xattrs = vec![Xattr { name: b"user.canary".to_vec(), value: target }];
        sorter.push(path(&format!("{canary}/{canary}{at}")), stored).expect("taken");
    }
    let shows = || {
        let bytes = spilled_bytes(dir.path());
        assert!(bytes.len() > 10_000, "only {} bytes were found", bytes.len());
        bytes.windows(6).any(|window| window == b"canary")
    };
    assert!(!shows(), "while pushing");
    let mut sorted = sorter.finish(&Recorder::default(), NOW).expect("finished");
    let _ = sorted.next().expect("an entry");
    assert!(!shows(), "while reading");
    assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 0);
    assert_eq!(all(sorted).len(), 201);
    assert!(spilled_bytes(dir.path()).is_empty(), "a file stayed open");
}
