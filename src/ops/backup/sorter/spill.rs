//! The runs that were spilled, kept few by merging.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::merge::{Merge, Record, last_pushes};
use super::run::{Run, RunWriter};
use crate::ops::OpsError;

/// So many runs of one level become one of the next: a record is rewritten once per level only.
const FAN_IN: usize = 8;
/// The highest level takes its merged runs back.
const LEVELS_MAX: usize = 8;
/// Most files open at a time.
const RUNS_MAX: usize = 64;

// Every level but the one that is full has a run less, and the merged run is beside them.
const _: () = assert!((FAN_IN - 1) * LEVELS_MAX + 2 <= RUNS_MAX);

/// Spilled runs by level: a run of level `n` holds what [`FAN_IN`] runs of level `n - 1` held.
#[derive(Debug)]
pub(super) struct Spill {
    dir: PathBuf,
    block_len: usize,
    levels: Vec<Vec<Arc<Run>>>,
}

impl Spill {
    pub(super) fn new(dir: &Path, block_len: usize) -> Self {
        Self { dir: dir.to_path_buf(), block_len, levels: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }

    pub(super) fn runs(&self) -> Vec<Arc<Run>> {
        self.levels.iter().flatten().cloned().collect()
    }

    /// Writes records in any order to a run.
    pub(super) fn add(&mut self, records: Vec<Record>) -> Result<(), OpsError> {
        if records.is_empty() {
            return Ok(());
        }
        let run = self.write(Merge::new(&[], &last_pushes(records))?)?;
        self.put(0, run);
        for level in 0..LEVELS_MAX {
            if self.levels.get(level).is_none_or(|runs| runs.len() < FAN_IN) {
                break;
            }
            let merged = self.write(Merge::new(&self.levels[level], &Arc::default())?)?;
            self.levels[level].clear();
            self.put((level + 1).min(LEVELS_MAX - 1), merged);
        }
        Ok(())
    }

    fn put(&mut self, level: usize, run: Run) {
        if self.levels.len() == level {
            self.levels.push(Vec::new());
        }
        self.levels[level].push(Arc::new(run));
    }

    fn write(&self, mut records: Merge) -> Result<Run, OpsError> {
        let mut writer = RunWriter::create(&self.dir, self.block_len)?;
        while let Some(record) = records.next()? {
            writer.push(&record)?;
        }
        writer.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::EntryPath;

    #[test]
    fn many_spills_keep_few_files_open_and_lose_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut spill = Spill::new(dir.path(), 256);
        let path = |at: u64| EntryPath::root().child(format!("{at:04}").as_bytes()).expect("path");
        for pushed in 0..2_000 {
            // 1,500 paths in scattered order, the first 500 of them twice.
            let record = Record::new(path(pushed * 7 % 1_500), pushed, pushed.to_string().into());
            spill.add(vec![record]).expect("spilled");
            assert!(spill.levels.iter().all(|runs| runs.len() < FAN_IN));
        }
        assert!(spill.runs().len() <= 4 * (FAN_IN - 1), "{} runs", spill.runs().len());
        let mut merge = Merge::new(&spill.runs(), &Arc::default()).expect("read");
        let mut last = std::collections::BTreeMap::new();
        (0..2_000_u64).for_each(|n| drop(last.insert(path(n * 7 % 1_500), n.to_string())));
        for (path, value) in last {
            let record = merge.next().expect("read").expect("a record");
            assert_eq!((record.path, record.value), (path, value.into_bytes()));
        }
        assert_eq!(merge.next().expect("read"), None);
    }
}
