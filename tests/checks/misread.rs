//! A disk that answers with the bytes of another place.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use volume_vault::crypto::Payload;
use volume_vault::store::{Listed, MemoryStore, ObjectName, Store, StoreError};

use crate::support::damage::checked;
use crate::support::repo::{Bench, backup, list, make_tree, open, reader, scratch};

/// Answers reads of one object with the bytes of another, or of another place in it.
#[derive(Debug)]
struct Misdirected {
    inner: MemoryStore,
    of: ObjectName,
    with: ObjectName,
    shift: u64,
    hits: AtomicU64,
}

impl Misdirected {
    fn turn(&self, name: &ObjectName) -> Option<&ObjectName> {
        (*name == self.of).then(|| {
            let _ = self.hits.fetch_add(1, Ordering::Relaxed);
            &self.with
        })
    }
}

impl Store for Misdirected {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn put(&self, name: &ObjectName, payload: &Payload) -> Result<(), StoreError> {
        self.inner.put(name, payload)
    }

    fn get(&self, name: &ObjectName, size_max: u64) -> Result<Vec<u8>, StoreError> {
        self.inner.get(self.turn(name).unwrap_or(name), size_max)
    }

    fn get_range(&self, name: &ObjectName, at: u64, buffer: &mut [u8]) -> Result<(), StoreError> {
        match self.turn(name) {
            None => self.inner.get_range(name, at, buffer),
            // What the other has there, and zeros behind its end.
            Some(other) => {
                let bytes = self.inner.get(other, u64::MAX)?;
                let from = usize::try_from(at + self.shift).expect("small").min(bytes.len());
                let part = &bytes[from..(from + buffer.len()).min(bytes.len())];
                buffer[..part.len()].copy_from_slice(part);
                buffer[part.len()..].fill(0);
                Ok(())
            }
        }
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        self.inner.list(folder)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.inner.delete(name)
    }
}

#[test]
fn f031_reads_that_bring_the_bytes_of_another_place_are_found_in_every_kind_of_object() {
    let (bench, dir) = (Bench::new(), scratch());
    make_tree(dir.path());
    let _ = backup(&bench.open(), dir.path()).expect("acknowledged");
    std::fs::write(dir.path().join("new"), vec![7; 90_000]).expect("written");
    let _ = backup(&bench.open(), dir.path()).expect("acknowledged");
    let names = bench.store.names();
    let in_folder = |folder: &str, end: &str| -> Vec<ObjectName> {
        let ours = names
            .iter()
            .filter(|name| name.as_str().starts_with(folder) && name.as_str().ends_with(end));
        ours.cloned().collect()
    };
    let mut tried = 0;
    for (folder, end) in
        [("packs/", ""), ("index/", ""), ("snapshots/", ".pending"), ("snapshots/", ".ok")]
    {
        let all = in_folder(folder, end);
        for (at, of) in all.iter().enumerate() {
            let with = all[(at + 1) % all.len()].clone();
            for (with, shift) in [(with, 0), (of.clone(), 512)] {
                if shift > 0 && folder != "packs/" {
                    continue;
                }
                let hits = AtomicU64::new(0);
                let (inner, of) = (bench.store.clone(), of.clone());
                let store = Arc::new(Misdirected { inner, of: of.clone(), with, shift, hits });
                let repo = open(store.clone(), scratch().path()).expect("opens");
                let report = checked(&repo);
                assert!(store.hits.load(Ordering::Relaxed) > 0, "{of} is read");
                let stem = of.as_str().split('.').next().expect("a part");
                let named = report.damage.iter().any(|damage| damage.object.starts_with(stem));
                assert!(named, "{of}: {report:?}");
                tried += 1;
            }
        }
    }
    assert!(tried > 8);
    // And no read gives the wrong bytes for right ones.
    let packs = in_folder("packs/", "");
    for (of, with) in packs.iter().zip(packs.iter().cycle().skip(1)) {
        let (inner, hits) = (bench.store.clone(), AtomicU64::new(0));
        let (of, with) = (of.clone(), with.clone());
        let store = Arc::new(Misdirected { inner, of, with, shift: 0, hits });
        let repo = open(store.clone(), scratch().path()).expect("opens");
        let reader = reader(&repo);
        let mut lost = 0;
        for snapshot in list(&repo) {
            let walked = volume_vault::repo::reach(
                &reader,
                &snapshot.items()[0],
                &mut Default::default(),
                &mut |kind, id| {
                    lost += u64::from(reader.read(kind, id).is_err());
                    Ok(())
                },
            );
            lost += u64::from(walked.is_err());
        }
        assert!(lost > 0 && store.hits.load(Ordering::Relaxed) > 0);
    }
}
