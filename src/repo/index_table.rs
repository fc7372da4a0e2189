//! A sorted table of chunk places in a file, read by page.
//!
//! The file holds keyed ids and places only. In memory stay a filter (about nine bits a record) and
//! the first key of every page; a look-up that the filter lets through costs one read of 4 KiB.
//! Everything carries a checksum: a file that fails one is thrown away and made again from the
//! store.
//!
//! Layout: blocks, each of pages of 4,096 bytes and the filter of their keys; the tail (fences,
//! blocks, segments, run seals, packs); a footer. `index_table_writer.rs` writes it.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use xorf::{BinaryFuse8, BinaryFuse8Ref, DmaSerializable, Filter, FilterRef};

use super::error::RepoError;
use super::index_table_writer::{MemoryShare, Written};
use crate::codec::{WireError, WireReader};
use crate::crypto::{RunSeal, digest};
use crate::format::PackKind;
use crate::id::{ChunkPrefix, PackId, SegmentId};

pub(super) const PAGE_LEN: usize = 4096;
pub(super) const RECORD_LEN: usize = 36;
/// Records in a page; behind them stand their number and the page's checksum.
pub(super) const PAGE_RECORDS: usize = 113;
pub(super) const MAGIC: [u8; 8] = *b"VVTABLE2";
pub(super) const DESCRIPTOR_LEN: usize = BinaryFuse8::DESCRIPTOR_LEN;
const FOOTER_LEN: usize = 56;

/// Where a chunk lies, in terms of one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) prefix: ChunkPrefix,
    /// Which of the table's packs.
    pub(super) pack: u32,
    pub(super) frame_offset: u32,
    pub(super) frame_len: u32,
    /// Where in the frame's content.
    pub(super) offset: u32,
    pub(super) len: u32,
}

/// A pack of a table. Packs of one run share their seal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TablePack {
    pub(super) id: PackId,
    pub(super) kind: PackKind,
    pub(super) size: u64,
    pub(super) salt: [u8; 32],
    pub(super) seal: Arc<RunSeal>,
}

/// A table that was opened.
pub(super) struct Table {
    path: PathBuf,
    file: File,
    records: u64,
    fences: Vec<u64>,
    blocks: Vec<Block>,
    fingerprints: Vec<u8>,
    segments: Vec<SegmentId>,
    packs: Vec<TablePack>,
    /// What it takes of the memory for tables, if it is no file of a directory.
    _share: Option<MemoryShare>,
}

/// Neighbouring pages and the filter of their keys. No key stands in two blocks.
struct Block {
    /// Which pages, and where in the file the first of them starts.
    pages: Range<usize>,
    at: u64,
    descriptor: [u8; DESCRIPTOR_LEN],
    /// Which of the table's fingerprints; none where there is no filter.
    fingerprints: Range<usize>,
}

/// The file is not a table, or no longer the one that was written.
#[derive(Debug, thiserror::Error)]
pub(super) enum TableError {
    #[error("the table is damaged")]
    Damaged,
    #[error("read the table")]
    Io(#[from] std::io::Error),
}

impl From<WireError> for TableError {
    fn from(_: WireError) -> Self {
        Self::Damaged
    }
}

impl AsRef<Self> for Table {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl Table {
    /// Opens a table and checks all of it but its pages.
    pub(super) fn open(path: &Path) -> Result<Self, TableError> {
        Self::open_file(path, File::open(path)?, None)
    }

    /// Opens a table that was written just now.
    pub(super) fn open_written(written: Written) -> Result<Self, TableError> {
        match written.memory {
            None => Self::open(&written.path),
            Some((file, share)) => Self::open_file(&written.path, file, Some(share)),
        }
    }

    fn open_file(path: &Path, file: File, share: Option<MemoryShare>) -> Result<Self, TableError> {
        let len = file.metadata()?.len();
        let footer_at = len.checked_sub(FOOTER_LEN as u64).ok_or(TableError::Damaged)?;
        let mut footer = [0; FOOTER_LEN];
        file.read_exact_at(&mut footer, footer_at)?;
        let mut reader = WireReader::new(&footer);
        let hash: [u8; 32] = reader.array()?;
        let tail_len = u64::from_le_bytes(reader.array()?);
        let records = u64::from_le_bytes(reader.array()?);
        let tail_at = footer_at.checked_sub(tail_len).ok_or(TableError::Damaged)?;
        if reader.array()? != MAGIC {
            return Err(TableError::Damaged);
        }
        let mut tail = vec![0; usize::try_from(tail_len).map_err(|_| TableError::Damaged)?];
        file.read_exact_at(&mut tail, tail_at)?;
        if digest(&tail) != hash {
            return Err(TableError::Damaged);
        }
        let mut reader = WireReader::new(&tail);
        let count = reader.len_max(tail.len() / 8, "fences")?;
        let fences = reader.bytes(8 * count)?.as_chunks::<8>().0.iter();
        let fences: Vec<u64> = fences.map(|fence| u64::from_le_bytes(*fence)).collect();
        let (blocks, fingerprints) = open_blocks(&file, &mut reader, fences.len(), tail_at)?;
        let mut segments = Vec::new();
        for _ in 0..reader.len_max(tail.len(), "segments")? {
            segments.push(SegmentId::new(reader.array()?));
        }
        let packs = open_packs(&mut reader, tail.len())?;
        reader.finish()?;
        let path = path.to_owned();
        let _share = share;
        Ok(Self { path, file, records, fences, blocks, fingerprints, segments, packs, _share })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// The stored segments whose chunks are all here.
    pub(super) fn segments(&self) -> &[SegmentId] {
        &self.segments
    }

    pub(super) fn packs(&self) -> &[TablePack] {
        &self.packs
    }

    /// Calls `found` with each record of this prefix until it returns true.
    pub(super) fn find(
        &self,
        prefix: &ChunkPrefix,
        mut found: impl FnMut(&Record) -> bool,
    ) -> Result<(), TableError> {
        let key = key_of(prefix);
        let upto = self.blocks.partition_point(|block| self.fences[block.pages.start] <= key);
        let Some(block) = upto.checked_sub(1).map(|at| &self.blocks[at]) else { return Ok(()) };
        if !block.fingerprints.is_empty() {
            let fingerprints = &self.fingerprints[block.fingerprints.clone()];
            let filter: BinaryFuse8Ref<'_> = FilterRef::from_dma(&block.descriptor, fingerprints);
            if !filter.contains(&key) {
                return Ok(());
            }
        }
        let fences = &self.fences[block.pages.clone()];
        // Records of one key may start in the page before the one that its fence names.
        let mut page = fences.partition_point(|fence| *fence < key).saturating_sub(1);
        let mut buffer = [0; PAGE_LEN];
        while page < fences.len() && fences[page] <= key {
            let records = self.page(block, page, &mut buffer)?;
            let before = records.partition_point(|r| prefix_of(r) < &prefix.as_bytes()[..]);
            for record in &records[before..] {
                if prefix_of(record) != &prefix.as_bytes()[..] || found(&decode(record)?) {
                    return Ok(());
                }
            }
            page += 1;
        }
        Ok(())
    }

    /// All records in order.
    pub(super) fn scan(
        &self,
        mut each: impl FnMut(Record) -> Result<(), RepoError>,
    ) -> Result<(), RepoError> {
        let mut page = 0;
        while let Some(records) = self.page_records(page)? {
            records.into_iter().try_for_each(&mut each)?;
            page += 1;
        }
        Ok(())
    }

    /// The records of one page; none behind the last.
    pub(super) fn page_records(&self, page: usize) -> Result<Option<Vec<Record>>, RepoError> {
        let Some(block) = self.blocks.get(self.blocks.partition_point(|b| b.pages.end <= page))
        else {
            return Ok(None);
        };
        let mut buffer = [0; PAGE_LEN];
        let records = self
            .page(block, page - block.pages.start, &mut buffer)
            .map_err(|error| self.failed(error))?;
        let decoded: Result<Vec<_>, TableError> = records.iter().map(decode).collect();
        decoded.map(Some).map_err(|error| self.failed(error))
    }

    pub(super) fn failed(&self, error: TableError) -> RepoError {
        let source = match error {
            TableError::Io(source) => source,
            TableError::Damaged => {
                // The next run makes it again from the store.
                let _ = std::fs::remove_file(&self.path);
                std::io::Error::other("it was damaged and is removed; run the same again")
            }
        };
        RepoError::local("read", &self.path)(source)
    }

    /// The records of a page, counted from the start of its block.
    fn page<'b>(
        &self,
        block: &Block,
        page: usize,
        buffer: &'b mut [u8; PAGE_LEN],
    ) -> Result<&'b [[u8; RECORD_LEN]], TableError> {
        self.file.read_exact_at(buffer, block.at + page as u64 * PAGE_LEN as u64)?;
        let (content, sum) = buffer.split_at(PAGE_LEN - 8);
        let count = usize::from(content[PAGE_LEN - 9]);
        if checksum(content).to_le_bytes() != *sum || !(1..=PAGE_RECORDS).contains(&count) {
            return Err(TableError::Damaged);
        }
        Ok(&content[..count * RECORD_LEN].as_chunks().0[..count])
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table({} records, {} packs)", self.records, self.packs.len())
    }
}

/// Reads where the blocks lie, which must fill the file up to its tail, and their filters.
fn open_blocks(
    file: &File,
    reader: &mut WireReader<'_>,
    pages: usize,
    tail_at: u64,
) -> Result<(Vec<Block>, Vec<u8>), TableError> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut digests: Vec<[u8; 32]> = Vec::new();
    let (mut page, mut at, mut len) = (0, 0, 0);
    for _ in 0..reader.len_max(pages, "blocks")? {
        let next = page + reader.len_max(pages - page, "pages")?;
        let descriptor = reader.array()?;
        let fingerprints = len..len + reader.len_max(usize::MAX >> 1, "filter")?;
        digests.push(reader.array()?);
        if next == page || fingerprints.end as u64 > tail_at {
            return Err(TableError::Damaged);
        }
        let block = Block { pages: page..next, at, descriptor, fingerprints };
        at += (block.pages.len() * PAGE_LEN + block.fingerprints.len()) as u64;
        (page, len) = (next, block.fingerprints.end);
        blocks.push(block);
    }
    if (page, at) != (pages, tail_at) {
        return Err(TableError::Damaged);
    }
    // All in one piece, which goes back to the system as one when the table is dropped.
    let mut fingerprints = vec![0; len];
    for (block, expected) in blocks.iter().zip(&digests) {
        let into = &mut fingerprints[block.fingerprints.clone()];
        file.read_exact_at(into, block.at + (block.pages.len() * PAGE_LEN) as u64)?;
        if digest(into) != *expected {
            return Err(TableError::Damaged);
        }
    }
    Ok((blocks, fingerprints))
}

fn open_packs(reader: &mut WireReader<'_>, count_max: usize) -> Result<Vec<TablePack>, TableError> {
    let mut seals = Vec::new();
    for _ in 0..reader.len_max(count_max, "run seals")? {
        let seal = RunSeal::from_slice(reader.bytes(RunSeal::LEN)?);
        seals.push(Arc::new(seal.ok_or(TableError::Damaged)?));
    }
    let mut packs = Vec::new();
    for _ in 0..reader.len_max(count_max, "packs")? {
        packs.push(TablePack {
            id: PackId::new(reader.array()?),
            kind: if reader.u8()? == 1 { PackKind::Data } else { PackKind::Tree },
            size: reader.varint()?,
            salt: reader.array()?,
            seal: {
                let number = reader.len_max(seals.len(), "run seal")?;
                seals.get(number).ok_or(TableError::Damaged)?.clone()
            },
        });
    }
    Ok(packs)
}

pub(super) fn key_of(prefix: &ChunkPrefix) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&prefix.as_bytes()[..8]);
    // Big end first, so that numbers sort as prefixes do.
    u64::from_le_bytes(first).swap_bytes()
}

fn prefix_of(record: &[u8; RECORD_LEN]) -> &[u8] {
    &record[..16]
}

fn decode(record: &[u8; RECORD_LEN]) -> Result<Record, TableError> {
    let mut reader = WireReader::new(record);
    Ok(Record {
        prefix: ChunkPrefix::new(reader.array()?),
        pack: reader.u32()?,
        frame_offset: reader.u32()?,
        frame_len: reader.u32()?,
        offset: reader.u32()?,
        len: reader.u32()?,
    })
}

/// Finds flipped bits and torn pages; the file's owner needs no defence against himself.
///
/// Four sums, so that none waits for another: it is made at every look-up.
pub(super) fn checksum(bytes: &[u8]) -> u64 {
    let mix = |sum: u64, word: u64| (sum.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    let mut sums = [0x9e37_79b9_7f4a_7c15_u64; 4];
    let (fours, rest) = bytes.as_chunks::<32>();
    for four in fours {
        for (sum, word) in sums.iter_mut().zip(four.as_chunks::<8>().0) {
            *sum = mix(*sum, u64::from_le_bytes(*word));
        }
    }
    for (sum, word) in sums.iter_mut().zip(rest.as_chunks::<8>().0) {
        *sum = mix(*sum, u64::from_le_bytes(*word));
    }
    sums.into_iter().fold(0, mix)
}

#[cfg(test)]
mod tests {
    use super::super::index_table_writer::TableWriter;
    use super::*;

    fn record(n: u32) -> Record {
        let prefix = digest(&n.to_le_bytes())[..16].try_into().expect("16 bytes");
        Record {
            prefix: ChunkPrefix::new(prefix),
            pack: n % 3,
            frame_offset: n,
            frame_len: 100 + n,
            offset: n / 2,
            len: 1 + n,
        }
    }

    /// A table of so many chunks, with a filter for so many of them at a time.
    fn table(dir: &Path, count: u32, block: usize) -> Table {
        let mut records: Vec<_> = (0..count).map(record).collect();
        // One chunk in several places.
        records.extend((0..count.min(5)).map(|n| Record { pack: 7, ..record(n) }));
        records.sort_by_key(|r| r.prefix);
        let path = dir.join("a.table");
        let mut writer = TableWriter::with_block_keys(&path, block).expect("a file");
        records.iter().for_each(|r| writer.push(r).expect("room"));
        let seal = RunSeal::from_slice(&[1; RunSeal::LEN]).expect("a seal");
        let (id, kind, salt) = (PackId::new([2; 32]), PackKind::Tree, [4; 32]);
        let pack = TablePack { id, kind, size: 9, salt, seal: Arc::new(seal) };
        let packs = vec![pack; 3];
        let _ = writer.finish(&[SegmentId::new([3; 32])], &packs).expect("it finishes");
        let table = Table::open(&path).expect("it reads back");
        assert_eq!(table.packs(), packs);
        table
    }

    fn places(table: &Table, prefix: &ChunkPrefix) -> Vec<Record> {
        let mut found = Vec::new();
        table
            .find(prefix, |r| {
                found.push(*r);
                false
            })
            .expect("a sound table");
        found
    }

    #[test]
    fn every_record_is_found_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let blocks = [1, 113, 256, 300, 1 << 20];
        for (count, block) in
            [1, 113, 114, 300, 5000].into_iter().flat_map(|n| blocks.map(|b| (n, b)))
        {
            let table = table(dir.path(), count, block);
            for n in 0..count {
                let found = places(&table, &record(n).prefix);
                assert_eq!(found.len(), if n < 5 { 2 } else { 1 }, "record {n} of {count}");
                assert!(found.contains(&record(n)));
            }
            for n in count..count + 500 {
                assert_eq!(places(&table, &record(n).prefix), []);
            }
            let mut scanned = 0;
            table
                .scan(|_| {
                    scanned += 1;
                    Ok(())
                })
                .expect("a sound table");
            assert_eq!(scanned, table.records());
            assert_eq!(table.segments(), [SegmentId::new([3; 32])]);
        }
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        let dir = tempfile::tempdir().expect("a directory");
        let good = table(dir.path(), 700, 300);
        assert_eq!(good.blocks.len(), 3);
        assert!(good.fingerprints.len() > 600, "two blocks have filters");
        let path = good.path().to_owned();
        let bytes = std::fs::read(&path).expect("the file");
        for at in (0..bytes.len()).step_by(41) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 4;
            std::fs::write(&path, &flipped).expect("the file");
            let noticed = match Table::open(&path) {
                Err(_) => true,
                Ok(table) => table.scan(|_| Ok(())).is_err(),
            };
            assert!(noticed, "byte {at}");
        }
    }

    #[test]
    fn a_filter_lets_few_through_that_are_not_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let table = table(dir.path(), 5000, 600);
        let passes = |n: &u32| {
            let key = key_of(&record(*n).prefix);
            let of = |b: &Block| table.fences[b.pages.start] <= key;
            let block = &table.blocks[table.blocks.partition_point(of).saturating_sub(1)];
            let fingerprints = &table.fingerprints[block.fingerprints.clone()];
            let filter: BinaryFuse8Ref<'_> = FilterRef::from_dma(&block.descriptor, fingerprints);
            !fingerprints.is_empty() && filter.contains(&key)
        };
        let passed = (5000..15_000).filter(passes).count();
        assert!(passed < 100, "{passed} of 10000");
    }

    #[test]
    fn packs_of_one_run_have_one_seal_in_memory() {
        let dir = tempfile::tempdir().expect("a directory");
        let table = table(dir.path(), 10, 10);
        assert!(Arc::ptr_eq(&table.packs()[0].seal, &table.packs()[2].seal));
    }
}
