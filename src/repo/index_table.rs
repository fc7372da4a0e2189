//! A sorted table of chunk places in a file, read by page.
//!
//! The file holds keyed ids and places only. In memory stay a filter (about nine bits a record) and
//! the first key of every page; a look-up that the filter lets through costs one read of 4 KiB.
//! Every page and the rest of the file carry a checksum: a file that fails one is thrown away and
//! made again from the store.
//!
//! Layout: pages of 4,096 bytes, then the tail (fences, filter, segments, packs), then a footer.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use xorf::{BinaryFuse8, BinaryFuse8Ref, DmaSerializable, Filter, FilterRef};

use super::error::RepoError;
use crate::codec::{WireError, WireReader, put_bytes, put_varint};
use crate::crypto::{RunSeal, digest, fresh_salt};
use crate::format::PackKind;
use crate::id::{ChunkPrefix, PackId, SegmentId, hex};

const PAGE_LEN: usize = 4096;
const RECORD_LEN: usize = 36;
/// Records in a page; behind them stand their number and the page's checksum.
const PAGE_RECORDS: usize = 113;
const FOOTER_LEN: usize = 56;
const MAGIC: [u8; 8] = *b"VVTABLE1";
/// Below so many records a filter costs more than it saves.
const FILTER_RECORDS_MIN: usize = 256;

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

/// A pack of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TablePack {
    pub(super) id: PackId,
    pub(super) kind: PackKind,
    pub(super) size: u64,
    pub(super) salt: [u8; 32],
    pub(super) seal: RunSeal,
}

/// A table that was opened.
pub(super) struct Table {
    path: PathBuf,
    file: File,
    records: u64,
    fences: Vec<u64>,
    filter: Option<(Vec<u8>, Vec<u8>)>,
    segments: Vec<SegmentId>,
    packs: Vec<TablePack>,
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

/// Writes records that come in ascending order of their prefix.
pub(super) struct TableWriter {
    path: PathBuf,
    temporary: PathBuf,
    file: BufWriter<File>,
    page: Vec<u8>,
    records: u64,
    fences: Vec<u64>,
    keys: Vec<u64>,
    last: Option<ChunkPrefix>,
}

impl TableWriter {
    /// Starts a table at `path`, which is replaced when it is finished.
    pub(super) fn create(path: &Path) -> Result<Self, RepoError> {
        let temporary = path.with_extension(format!("tmp-{}", hex(&fresh_salt()?[..8])));
        let file = File::create_new(&temporary).map_err(RepoError::local("create", &temporary))?;
        Ok(Self {
            path: path.to_owned(),
            temporary,
            file: BufWriter::with_capacity(1 << 18, file),
            page: Vec::with_capacity(PAGE_LEN),
            records: 0,
            fences: Vec::new(),
            keys: Vec::new(),
            last: None,
        })
    }

    /// Adds a record.
    pub(super) fn push(&mut self, record: &Record) -> Result<(), RepoError> {
        debug_assert!(self.last.is_none_or(|last| last <= record.prefix), "records ascend");
        self.last = Some(record.prefix);
        let key = key_of(&record.prefix);
        if self.page.is_empty() {
            self.fences.push(key);
        }
        if self.keys.last() != Some(&key) {
            self.keys.push(key);
        }
        self.page.extend(record.prefix.as_bytes());
        for number in
            [record.pack, record.frame_offset, record.frame_len, record.offset, record.len]
        {
            self.page.extend(number.to_le_bytes());
        }
        self.records += 1;
        if self.page.len() == PAGE_RECORDS * RECORD_LEN { self.end_page() } else { Ok(()) }
    }

    fn end_page(&mut self) -> Result<(), RepoError> {
        let count = self.page.len() / RECORD_LEN;
        self.page.resize(PAGE_LEN - 8, 0);
        self.page[PAGE_LEN - 9] = u8::try_from(count).unwrap_or(0);
        let sum = checksum(&self.page);
        self.page.extend(sum.to_le_bytes());
        let written = self.file.write_all(&self.page);
        self.page.clear();
        written.map_err(RepoError::local("write", &self.path))
    }

    /// Ends the table: `segments` are the stored segments whose chunks are all in it.
    pub(super) fn finish(
        mut self,
        segments: &[SegmentId],
        packs: &[TablePack],
    ) -> Result<Table, RepoError> {
        if !self.page.is_empty() {
            self.end_page()?;
        }
        let mut tail = Vec::new();
        put_varint(&mut tail, self.fences.len() as u64);
        for fence in &self.fences {
            tail.extend(fence.to_le_bytes());
        }
        let filter = match self.keys.len() >= FILTER_RECORDS_MIN {
            true => BinaryFuse8::try_from(std::mem::take(&mut self.keys)).ok(),
            false => None,
        };
        let mut descriptor = vec![0; BinaryFuse8::DESCRIPTOR_LEN];
        if let Some(filter) = &filter {
            filter.dma_copy_descriptor_to(&mut descriptor);
        }
        put_bytes(&mut tail, &descriptor);
        put_bytes(&mut tail, filter.as_ref().map_or(&[], |f| f.dma_fingerprints()));
        put_varint(&mut tail, segments.len() as u64);
        for id in segments {
            tail.extend(id.as_bytes());
        }
        put_varint(&mut tail, packs.len() as u64);
        for pack in packs {
            tail.extend(pack.id.as_bytes());
            tail.push(match pack.kind {
                PackKind::Data => 1,
                PackKind::Tree => 2,
            });
            put_varint(&mut tail, pack.size);
            tail.extend(pack.salt);
            tail.extend(pack.seal.as_bytes());
        }
        let mut footer = digest(&tail).to_vec();
        footer.extend((tail.len() as u64).to_le_bytes());
        footer.extend(self.records.to_le_bytes());
        footer.extend(MAGIC);
        let at = self.path.clone();
        let done = (|| {
            self.file.write_all(&tail)?;
            self.file.write_all(&footer)?;
            self.file.flush()?;
            self.file.get_ref().sync_data()?;
            std::fs::rename(&self.temporary, &at)
        })();
        done.map_err(RepoError::local("write", &at))?;
        Table::open(&at).map_err(|error| match error {
            TableError::Io(source) => RepoError::local("read", &at)(source),
            TableError::Damaged => {
                RepoError::local("read", &at)(std::io::Error::other("it does not read back"))
            }
        })
    }
}

impl Drop for TableWriter {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.temporary);
    }
}

impl Table {
    /// Opens a table and checks all of it but its pages.
    pub(super) fn open(path: &Path) -> Result<Self, TableError> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        let footer_at = len.checked_sub(FOOTER_LEN as u64).ok_or(TableError::Damaged)?;
        let mut footer = [0; FOOTER_LEN];
        file.read_exact_at(&mut footer, footer_at)?;
        let mut reader = WireReader::new(&footer);
        let hash: [u8; 32] = reader.array()?;
        let tail_len = u64::from_le_bytes(reader.array()?);
        let records = u64::from_le_bytes(reader.array()?);
        let tail_at = footer_at.checked_sub(tail_len).ok_or(TableError::Damaged)?;
        let pages = records.div_ceil(PAGE_RECORDS as u64);
        if reader.array()? != MAGIC || Some(tail_at) != pages.checked_mul(PAGE_LEN as u64) {
            return Err(TableError::Damaged);
        }
        let mut tail = vec![0; usize::try_from(tail_len).map_err(|_| TableError::Damaged)?];
        file.read_exact_at(&mut tail, tail_at)?;
        if digest(&tail) != hash {
            return Err(TableError::Damaged);
        }
        let mut reader = WireReader::new(&tail);
        let count = reader.len_max(tail.len() / 8, "fences")?;
        if count as u64 != pages {
            return Err(TableError::Damaged);
        }
        let fences = reader.bytes(8 * count)?.as_chunks::<8>().0.iter();
        let fences = fences.map(|fence| u64::from_le_bytes(*fence)).collect();
        let descriptor = reader.sized(tail.len(), "descriptor")?.to_vec();
        let fingerprints = reader.sized(tail.len(), "filter")?.to_vec();
        let filter = (!fingerprints.is_empty()).then_some((descriptor, fingerprints));
        let mut segments = Vec::new();
        for _ in 0..reader.len_max(tail.len(), "segments")? {
            segments.push(SegmentId::new(reader.array()?));
        }
        let mut packs = Vec::new();
        for _ in 0..reader.len_max(tail.len(), "packs")? {
            packs.push(TablePack {
                id: PackId::new(reader.array()?),
                kind: if reader.u8()? == 1 { PackKind::Data } else { PackKind::Tree },
                size: reader.varint()?,
                salt: reader.array()?,
                seal: RunSeal::from_slice(reader.bytes(RunSeal::LEN)?)
                    .ok_or(TableError::Damaged)?,
            });
        }
        reader.finish()?;
        Ok(Self { path: path.to_owned(), file, records, fences, filter, segments, packs })
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
        if let Some((descriptor, fingerprints)) = &self.filter {
            let filter: BinaryFuse8Ref<'_> = FilterRef::from_dma(descriptor, fingerprints);
            if !filter.contains(&key) {
                return Ok(());
            }
        }
        // Records of one key may start in the page before the one that its fence names.
        let mut page = self.fences.partition_point(|fence| *fence < key).saturating_sub(1);
        let mut buffer = [0; PAGE_LEN];
        while page < self.fences.len() && self.fences[page] <= key {
            for record in self.page(page, &mut buffer)? {
                let at = prefix_of(record);
                if at > &prefix.as_bytes()[..] {
                    return Ok(());
                }
                if at == &prefix.as_bytes()[..] && found(&decode(record)?) {
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
        let mut buffer = [0; PAGE_LEN];
        for page in 0..self.fences.len() {
            for record in self.page(page, &mut buffer).map_err(|error| self.failed(error))? {
                each(decode(record).map_err(|error| self.failed(error))?)?;
            }
        }
        Ok(())
    }

    /// The records of one page; none behind the last.
    pub(super) fn page_records(&self, page: usize) -> Result<Option<Vec<Record>>, RepoError> {
        if page >= self.fences.len() {
            return Ok(None);
        }
        let mut buffer = [0; PAGE_LEN];
        let records = self.page(page, &mut buffer).map_err(|error| self.failed(error))?;
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

    fn page<'b>(
        &self,
        page: usize,
        buffer: &'b mut [u8; PAGE_LEN],
    ) -> Result<&'b [[u8; RECORD_LEN]], TableError> {
        self.file.read_exact_at(buffer, page as u64 * PAGE_LEN as u64)?;
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

fn key_of(prefix: &ChunkPrefix) -> u64 {
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
fn checksum(bytes: &[u8]) -> u64 {
    bytes.as_chunks::<8>().0.iter().fold(0x9e37_79b9_7f4a_7c15, |sum, word| {
        (sum.rotate_left(5) ^ u64::from_le_bytes(*word)).wrapping_mul(0x517c_c1b7_2722_0a95)
    })
}

#[cfg(test)]
mod tests {
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

    fn table(dir: &Path, count: u32) -> Table {
        let mut records: Vec<_> = (0..count).map(record).collect();
        // One chunk in several places.
        records.extend((0..count.min(5)).map(|n| Record { pack: 7, ..record(n) }));
        records.sort_by_key(|r| r.prefix);
        let mut writer = TableWriter::create(&dir.join("a.table")).expect("a file");
        records.iter().for_each(|r| writer.push(r).expect("room"));
        let seal = RunSeal::from_slice(&[1; RunSeal::LEN]).expect("a seal");
        let (id, kind, salt) = (PackId::new([2; 32]), PackKind::Tree, [4; 32]);
        let pack = TablePack { id, kind, size: 9, salt, seal };
        writer.finish(&[SegmentId::new([3; 32])], &[pack]).expect("it finishes")
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
        for count in [1, 113, 114, 300, 5000] {
            let table = table(dir.path(), count);
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
        let good = table(dir.path(), 300);
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
}
