//! Writes a table of chunk places, in memory that does not grow with the number of chunks.
//!
//! Records come sorted, so keys do: a filter is made whenever a block of keys is full and written
//! behind its pages. One filter over all keys would need some thirty bytes a key while it is made.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use xorf::{BinaryFuse8, DmaSerializable};

use super::cache_files::create_private;
use super::error::RepoError;
use super::index_table::{
    DESCRIPTOR_LEN, MAGIC, PAGE_LEN, PAGE_RECORDS, RECORD_LEN, Record, TablePack, checksum, key_of,
};
use crate::codec::put_varint;
use crate::crypto::{RunSeal, digest, fresh_salt};
use crate::format::PackKind;
use crate::id::{ChunkPrefix, SegmentId, hex};

/// Keys in a block; filters of fewer take more room for each key, those of more none less.
const BLOCK_KEYS: usize = 1 << 20;

/// Below so many keys a filter costs more than it saves.
const FILTER_KEYS_MIN: usize = 256;

/// Writes records that come in ascending order of their prefix.
pub(super) struct TableWriter {
    path: PathBuf,
    /// What the file is called until it is whole; none for one that has no name.
    temporary: Option<PathBuf>,
    share: Option<MemoryShare>,
    file: BufWriter<File>,
    block_keys: usize,
    page: Vec<u8>,
    records: u64,
    fences: Vec<u64>,
    /// The keys of the block that is being filled.
    keys: Vec<u64>,
    block_pages: u64,
    /// The blocks that are full, as the tail names them.
    blocks: Vec<u8>,
    block_count: u64,
    last: Option<ChunkPrefix>,
}

impl TableWriter {
    /// Starts a table at `path`, which is replaced when it is finished.
    pub(super) fn create(path: &Path) -> Result<Self, RepoError> {
        Self::with_block_keys(path, BLOCK_KEYS)
    }

    /// Starts a table of so many records that is kept in memory, since no file could be written
    /// at `path`; none if such tables would take too much of it.
    pub(super) fn create_in_memory(path: &Path, records: u64) -> Option<Self> {
        // Filters, fences and packs come on top: a third at most.
        let share = MemoryShare::take(records * RECORD_LEN as u64 / 3 * 4)?;
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let file = rustix::fs::memfd_create("vault-index", flags).ok()?;
        let mut writer = Self::start(path, None, file.into(), BLOCK_KEYS);
        writer.share = Some(share);
        Some(writer)
    }

    /// As [`TableWriter::create`], with blocks of so many keys.
    pub(super) fn with_block_keys(path: &Path, block_keys: usize) -> Result<Self, RepoError> {
        let temporary = path.with_extension(format!("tmp-{}", hex(&fresh_salt()?[..8])));
        let file = create_private(&temporary).map_err(RepoError::local("create", &temporary))?;
        Ok(Self::start(path, Some(temporary), file, block_keys))
    }

    fn start(path: &Path, temporary: Option<PathBuf>, file: File, block_keys: usize) -> Self {
        Self {
            path: path.to_owned(),
            temporary,
            share: None,
            file: BufWriter::with_capacity(1 << 18, file),
            block_keys,
            page: Vec::with_capacity(PAGE_LEN),
            records: 0,
            fences: Vec::new(),
            keys: Vec::new(),
            block_pages: 0,
            blocks: Vec::new(),
            block_count: 0,
            last: None,
        }
    }

    /// Adds a record.
    pub(super) fn push(&mut self, record: &Record) -> Result<(), RepoError> {
        debug_assert!(self.last.is_none_or(|last| last <= record.prefix), "records ascend");
        self.last = Some(record.prefix);
        let key = key_of(&record.prefix);
        if self.keys.last() != Some(&key) {
            // Only between keys, so that all records of one are in one block.
            if self.keys.len() >= self.block_keys {
                self.end_block()?;
            }
            self.keys.push(key);
        }
        if self.page.is_empty() {
            self.fences.push(key);
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
        self.block_pages += 1;
        written.map_err(RepoError::local("write", &self.path))
    }

    fn end_block(&mut self) -> Result<(), RepoError> {
        if !self.page.is_empty() {
            self.end_page()?;
        }
        // Without a filter nothing is lost but time.
        let filter = match self.keys.len() >= FILTER_KEYS_MIN {
            true => BinaryFuse8::try_from(&self.keys).ok(),
            false => None,
        };
        let mut descriptor = [0; DESCRIPTOR_LEN];
        if let Some(filter) = &filter {
            filter.dma_copy_descriptor_to(&mut descriptor);
        }
        let fingerprints = filter.as_ref().map_or(&[][..], |filter| filter.dma_fingerprints());
        put_varint(&mut self.blocks, self.block_pages);
        self.blocks.extend(descriptor);
        put_varint(&mut self.blocks, fingerprints.len() as u64);
        self.blocks.extend(digest(fingerprints));
        self.block_count += 1;
        self.block_pages = 0;
        self.keys.clear();
        self.file.write_all(fingerprints).map_err(RepoError::local("write", &self.path))
    }

    /// Ends the table: `segments` are the stored segments whose chunks are all in it.
    pub(super) fn finish(
        mut self,
        segments: &[SegmentId],
        packs: &[TablePack],
    ) -> Result<Written, RepoError> {
        if self.block_pages > 0 || !self.page.is_empty() {
            self.end_block()?;
        }
        let mut tail = Vec::new();
        put_varint(&mut tail, self.fences.len() as u64);
        for fence in &self.fences {
            tail.extend(fence.to_le_bytes());
        }
        put_varint(&mut tail, self.block_count);
        tail.extend(&self.blocks);
        put_varint(&mut tail, segments.len() as u64);
        for id in segments {
            tail.extend(id.as_bytes());
        }
        put_packs(&mut tail, packs);
        let mut footer = digest(&tail).to_vec();
        footer.extend((tail.len() as u64).to_le_bytes());
        footer.extend(self.records.to_le_bytes());
        footer.extend(MAGIC);
        let done = (|| {
            self.file.write_all(&tail)?;
            self.file.write_all(&footer)?;
            self.file.flush()?;
            let Some(temporary) = &self.temporary else {
                return Ok(Some(self.file.get_ref().try_clone()?));
            };
            self.file.get_ref().sync_data()?;
            std::fs::rename(temporary, &self.path).map(|()| None)
        })();
        let file = done.map_err(RepoError::local("write", &self.path))?;
        let memory = file.zip(self.share.take());
        Ok(Written { path: self.path.clone(), memory })
    }
}

/// A table that was written: a file at a path, or one in memory that stands for it.
pub(super) struct Written {
    /// Where it lies, or should.
    pub(super) path: PathBuf,
    /// The file that has no name.
    pub(super) memory: Option<(File, MemoryShare)>,
}

/// Memory that tables of this process take, in bytes.
static IN_MEMORY: AtomicU64 = AtomicU64::new(0);

/// So much may they take: three million chunks.
const IN_MEMORY_MAX: u64 = 128 << 20;

/// The part of one table, given back when the table is dropped.
pub(super) struct MemoryShare(u64);

impl MemoryShare {
    fn take(len: u64) -> Option<Self> {
        let taken = IN_MEMORY.fetch_add(len, Ordering::Relaxed);
        let share = Self(len);
        (taken + len <= IN_MEMORY_MAX).then_some(share)
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        let _ = IN_MEMORY.fetch_sub(self.0, Ordering::Relaxed);
    }
}

impl Drop for TableWriter {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = std::fs::remove_file(temporary);
        }
    }
}

/// Run seals, each once, then the packs.
fn put_packs(tail: &mut Vec<u8>, packs: &[TablePack]) {
    let mut numbers: HashMap<&Arc<RunSeal>, u64> = HashMap::new();
    let mut seals = Vec::new();
    for pack in packs {
        let _ = numbers.entry(&pack.seal).or_insert_with(|| {
            seals.push(&pack.seal);
            seals.len() as u64 - 1
        });
    }
    put_varint(tail, seals.len() as u64);
    seals.iter().for_each(|seal| tail.extend(seal.as_bytes()));
    put_varint(tail, packs.len() as u64);
    for pack in packs {
        tail.extend(pack.id.as_bytes());
        tail.push(match pack.kind {
            PackKind::Data => 1,
            PackKind::Tree => 2,
        });
        put_varint(tail, pack.size);
        tail.extend(pack.salt);
        put_varint(tail, numbers[&pack.seal]);
    }
}
