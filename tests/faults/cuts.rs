//! Content that comes in awkward pieces is saved whole.

use std::path::Path;
use std::sync::Arc;

use volume_vault::clock::Clock;
use volume_vault::codec::ChunkerParams;
use volume_vault::entry::{Entry, Hint};
use volume_vault::ops::OpsError;
use volume_vault::repo::{InitOptions, init};
use volume_vault::source::{Found, Order, ReadError, Run, Source, SourceError};
use volume_vault::store::MemoryStore;

use crate::support::repo::{
    Bench, assert_restores, backup, backup_from, make_tree, noise, open, scratch, secret, walk,
};
use crate::support::tree::describe;

/// Reads so many bytes at once at most.
struct Dripping {
    inner: Box<dyn Source>,
    len: usize,
}

impl Source for Dripping {
    fn order(&self) -> Order {
        self.inner.order()
    }

    fn next(&mut self) -> Result<Option<Found>, SourceError> {
        self.inner.next()
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<Run, ReadError> {
        let len = self.len.min(buffer.len());
        self.inner.read(&mut buffer[..len])
    }

    fn finish(&mut self) -> Result<(Entry, Option<Hint>), ReadError> {
        self.inner.finish()
    }
}

fn dripping(
    dir: &Path,
    len: usize,
) -> impl FnOnce(Arc<dyn volume_vault::event::Observer>) -> Opened {
    let dir = dir.to_owned();
    move |observer| Ok(Box::new(Dripping { inner: walk(&dir, observer)?, len }))
}

type Opened = Result<Box<dyn Source>, OpsError>;

#[test]
fn f024_short_reads_of_a_source_change_nothing_of_what_is_saved() {
    let (bench, dir) = (Bench::new(), scratch());
    make_tree(dir.path());
    let whole = backup(&bench.open(), dir.path()).expect("acknowledged");
    for len in [4096, 10_000, 65_537] {
        let other = bench.fork();
        let repo = open(Arc::new(other.store.clone()), scratch().path()).expect("opens");
        let mut options = crate::support::repo::options();
        options.read_all = true;
        let observer: Arc<dyn volume_vault::event::Observer> =
            Arc::new(volume_vault::event::Recorder::default());
        let report = volume_vault::ops::backup::backup(
            &repo,
            &crate::support::repo::item(),
            dripping(dir.path(), len),
            || Ok(()),
            &options,
            &observer,
            &volume_vault::ops::Interrupt::default(),
        )
        .expect("acknowledged");
        assert!(report.item.facts.bytes_read > 2 << 20, "it was read");
        assert_eq!((report.item.root, report.packs), (whole.item.root, 0), "{len} bytes at once");
    }
}

#[test]
fn content_without_a_cut_in_a_whole_batch_is_saved_whole() {
    let (store, home, dir) = (MemoryStore::new(Clock::System), scratch(), scratch());
    let chunker = ChunkerParams { min: 1 << 18, average: 1 << 19, max: 1 << 20 };
    let options = InitOptions { chunker, ..InitOptions::default() };
    let _ = init(&store, &options, |_| Ok(secret())).expect("made");
    // Zeros too few to be left out, across the end of the batch.
    let content = [noise(1, (1 << 20) - 4096), vec![0; 15 << 12], noise(2, 100_000)].concat();
    std::fs::write(dir.path().join("file"), content).expect("written");
    let repo = open(Arc::new(store), home.path()).expect("opens");
    for len in [4096, 10_000, 1 << 20] {
        let report = backup_from(&repo, dripping(dir.path(), len)).expect("acknowledged");
        assert_restores(&repo, &report.snapshot, &describe(dir.path()));
        std::fs::rename(dir.path().join("file"), dir.path().join(format!("file-{len}")))
            .expect("moved");
        let _ = std::fs::copy(dir.path().join(format!("file-{len}")), dir.path().join("file"))
            .expect("copied");
    }
}
