//! A tar stream as a sink: what is exported, or sent to an engine.
//!
//! Writes ustar headers, and PAX extended headers for whatever does not fit in them, so that GNU
//! tar, libarchive, Go and Python read every entry as it was. The end marker is only written by
//! [`TarWriter::finish`]: a stream that broke off can be told from a complete one.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use tar_core::builder::HeaderBuilder;
use tar_core::{EntryType, HeaderError};

use super::SinkError;
use crate::clock::Time;
use crate::entry::{Entry, EntryPath, Kind};
use crate::event::{Observer, Warning};

#[cfg(test)]
mod tests;

/// Length of a block, the unit of the format.
const BLOCK_LEN: u64 = 512;

/// Streams end at a multiple of this length, as tapes want it.
const RECORD_LEN: u64 = 20 * BLOCK_LEN;

/// Longest name a header has room for.
const NAME_LEN: usize = 100;

/// Largest owner, group and device number a header has room for.
const OCTAL_ID_MAX: u32 = 0o7_777_777;

/// Largest size and time a header has room for.
const OCTAL_MAX: u64 = 0o77_777_777_777;

/// Go and this program refuse extended headers longer than this.
const METADATA_LEN_MAX: usize = 1 << 20;

static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// How to write a tar stream.
#[derive(Debug, Clone)]
pub struct TarWriterOptions {
    /// What the stream is called in messages.
    pub name: String,
    /// The directory all names are put under: `v/`, `v/a` for `v`; `./`, `./a` for the root. An
    /// engine skips `./`, so only under a name can the root's mode and owner be set.
    pub root: EntryPath,
}

impl TarWriterOptions {
    /// A stream called `name` with names below `./`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), root: EntryPath::root() }
    }
}

/// Writes entries one after another, each with exactly as much content as it says.
///
/// A further name of a file ([`Entry::link`]) becomes a hard link without content, whatever its
/// kind. Sockets have no place in the format; all their names are left out with a warning, as a
/// link must not lead to what the stream does not have. After a failure to
/// write, or content of another length than announced, all further calls fail.
pub struct TarWriter<W: Write> {
    writer: BufWriter<W>,
    options: TarWriterOptions,
    observer: Arc<dyn Observer>,
    written: u64,
    failed: bool,
    /// The name of the entry whose content is being written, and what is missing of it.
    open: Vec<u8>,
    missing: u64,
}

impl<W: Write> TarWriter<W> {
    /// Writes to `writer`; nothing before the first entry.
    pub fn new(writer: W, options: TarWriterOptions, observer: Arc<dyn Observer>) -> Self {
        let writer = BufWriter::with_capacity(256 * 1024, writer);
        let (open, missing) = (Vec::new(), 0);
        Self { writer, options, observer, written: 0, failed: false, open, missing }
    }

    /// Begins an entry; [`Entry::content_len`] bytes of content must follow, holes as zeros.
    ///
    /// Errors: content of the entry before is missing; a device number the format has no room for,
    /// in which case nothing was written and the stream can go on; the stream failed.
    pub fn entry(&mut self, path: &EntryPath, entry: &Entry) -> Result<(), SinkError> {
        self.begin(path, entry, None)
    }

    /// Begins a regular file with holes; only the content of the regions must follow.
    ///
    /// Shape: `regions` are offsets and lengths in bytes, ascending, apart, within the size.
    /// Errors: as [`TarWriter::entry`]; regions of another shape, or not a regular file.
    /// Source: GNU tar manual, "Storing Sparse Files", PAX version 1.0. GNU tar, libarchive, Go and
    /// Python know it; other programs see the map in front of the data.
    pub fn entry_sparse(
        &mut self,
        path: &EntryPath,
        entry: &Entry,
        regions: &[(u64, u64)],
    ) -> Result<(), SinkError> {
        self.begin(path, entry, Some(regions))
    }

    fn begin(
        &mut self,
        path: &EntryPath,
        entry: &Entry,
        regions: Option<&[(u64, u64)]>,
    ) -> Result<(), SinkError> {
        self.complete()?;
        self.open = path.to_slashed();
        if matches!(entry.kind, Kind::Socket) {
            let message = "sockets cannot be in a tar stream";
            self.observer.warn(Warning::skipped(path.to_slashed(), message));
            return Ok(());
        }
        let mut name = self.name(path);
        if entry.is_directory() && entry.link.is_none() && !name.ends_with(b"/") {
            name.push(b'/');
        }
        let target = match (&entry.link, &entry.kind) {
            (Some(link), _) => self.name(link),
            (None, Kind::Symlink { target }) => target.clone(),
            (None, _) => Vec::new(),
        };
        let mut records = Vec::new();
        let (mut map, mut content) = (Vec::new(), entry.content_len());
        if let Some(regions) = regions {
            let shape = || self.refuse("its regions do not fit a regular file of its size");
            (map, content) = sparse_map(entry, regions).ok_or_else(shape)?;
            sparse_records(&mut records, &name, entry);
        }
        let size = map.len() as u64 + content;
        let header = header(&name, &target, entry, size).map_err(|e| self.impossible(&e))?;
        add_records(&mut records, &name, &target, entry, size);
        self.put_extended(&records)?;
        self.put(&header)?;
        self.put(&map)?;
        self.missing = content;
        self.pad_complete()
    }

    /// Writes an extended header, if there is anything to be said in it.
    fn put_extended(&mut self, records: &[u8]) -> Result<(), SinkError> {
        if records.is_empty() {
            return Ok(());
        }
        if records.len() > METADATA_LEN_MAX {
            let message = format!("{} bytes of metadata: not all programs read it", records.len());
            self.observer.warn(Warning::notice(self.open.clone(), message));
        }
        let header = extended_header(records).map_err(|e| self.impossible(&e))?;
        self.put(&header)?;
        self.put(records)?;
        self.pad(BLOCK_LEN)
    }

    /// Writes the next part of the entry's content.
    ///
    /// Errors: more than the entry said; the stream failed.
    pub fn content(&mut self, data: &[u8]) -> Result<(), SinkError> {
        self.take(data.len() as u64)?;
        self.put(data)?;
        self.pad_complete()
    }

    /// Writes zero bytes as the next part of the entry's content.
    ///
    /// Errors: more than the entry said; the stream failed.
    pub fn zeros(&mut self, len: u64) -> Result<(), SinkError> {
        self.take(len)?;
        self.put_zeros(len)?;
        self.pad_complete()
    }

    /// Ends the stream: marks its end, fills the last record, flushes.
    ///
    /// Errors: content of the last entry is missing; the stream failed.
    pub fn finish(mut self) -> Result<W, SinkError> {
        self.complete()?;
        self.put_zeros(2 * BLOCK_LEN)?;
        self.pad(RECORD_LEN)?;
        let target = self.options.name;
        let fail = |source| SinkError::Target { target: target.clone(), source };
        let mut writer = self.writer.into_inner().map_err(|e| fail(e.into_error()))?;
        writer.flush().map_err(fail)?;
        Ok(writer)
    }

    /// The name in the stream: that of a directory only for the root.
    fn name(&self, path: &EntryPath) -> Vec<u8> {
        let root = &self.options.root;
        let mut name = if root.is_root() { b".".to_vec() } else { root.to_slashed() };
        name.push(b'/');
        name.extend_from_slice(&path.to_slashed());
        name
    }

    fn complete(&mut self) -> Result<(), SinkError> {
        if self.missing > 0 {
            return Err(self.fail(format!("{} bytes of its content are missing", self.missing)));
        }
        Ok(())
    }

    fn take(&mut self, len: u64) -> Result<(), SinkError> {
        match self.missing.checked_sub(len) {
            Some(missing) => self.missing = missing,
            None => return Err(self.fail("more content than its size".into())),
        }
        Ok(())
    }

    fn pad_complete(&mut self) -> Result<(), SinkError> {
        if self.missing == 0 { self.pad(BLOCK_LEN) } else { Ok(()) }
    }

    /// Fills up to a multiple of `unit`.
    fn pad(&mut self, unit: u64) -> Result<(), SinkError> {
        self.put_zeros((unit - self.written % unit) % unit)
    }

    fn put_zeros(&mut self, mut len: u64) -> Result<(), SinkError> {
        while len > 0 {
            let step = usize::try_from(len).map_or(ZEROS.len(), |len| len.min(ZEROS.len()));
            self.put(&ZEROS[..step])?;
            len -= step as u64;
        }
        Ok(())
    }

    fn put(&mut self, data: &[u8]) -> Result<(), SinkError> {
        let fail = |source| SinkError::Target { target: self.options.name.clone(), source };
        if self.failed {
            return Err(fail(io::Error::other("it has failed before")));
        }
        if let Err(error) = self.writer.write_all(data) {
            self.failed = true;
            return Err(fail(error));
        }
        self.written += data.len() as u64;
        Ok(())
    }

    /// The failure of the open entry, after which the stream cannot be continued.
    fn fail(&mut self, message: String) -> SinkError {
        self.failed = true;
        self.refuse(&message)
    }

    fn impossible(&self, error: &HeaderError) -> SinkError {
        self.refuse(&error.to_string())
    }

    fn refuse(&self, message: &str) -> SinkError {
        let source = io::Error::new(io::ErrorKind::InvalidInput, message);
        SinkError::Entry { path: self.open.clone(), source }
    }
}

/// The header proper. What it has no room for stands in the records and is 0 or cut short here.
fn header(name: &[u8], target: &[u8], entry: &Entry, size: u64) -> Result<[u8; 512], HeaderError> {
    let id = |id: u32| u64::from(if id > OCTAL_ID_MAX { 0 } else { id });
    let mut header = HeaderBuilder::new_ustar();
    let _ = header
        .path(&name[..name.len().min(NAME_LEN)])?
        .link_name(&target[..target.len().min(NAME_LEN)])?
        .mode(entry.mode & 0o7777)?
        .uid(id(entry.uid))?
        .gid(id(entry.gid))?
        .size(if size > OCTAL_MAX { 0 } else { size })?
        .mtime(whole_seconds(entry.mtime).unwrap_or(0))?
        .entry_type(match (&entry.link, &entry.kind) {
            (Some(_), _) => EntryType::Link,
            (_, Kind::File { .. } | Kind::Socket) => EntryType::Regular,
            (_, Kind::Directory) => EntryType::Directory,
            (_, Kind::Symlink { .. }) => EntryType::Symlink,
            (_, Kind::CharDevice { .. }) => EntryType::Char,
            (_, Kind::BlockDevice { .. }) => EntryType::Block,
            (_, Kind::Fifo) => EntryType::Fifo,
        });
    let _ = match &entry.kind {
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
            header.device(*major, *minor)?
        }
        _ => header.device(0, 0)?,
    };
    Ok(*header.finish().as_bytes())
}

/// The header of an extended header, without its records.
fn extended_header(records: &[u8]) -> Result<[u8; 512], HeaderError> {
    let mut header = HeaderBuilder::new_ustar();
    let _ = header
        .path("././@PaxHeader")?
        .mode(0o644)?
        .uid(0)?
        .gid(0)?
        .size(records.len() as u64)?
        .mtime(0)?
        .entry_type(EntryType::XHeader)
        .device(0, 0)?;
    Ok(*header.finish().as_bytes())
}

/// Adds the records of what the header has no room for.
fn add_records(records: &mut Vec<u8>, name: &[u8], target: &[u8], entry: &Entry, size: u64) {
    let long: Vec<_> = [(&b"path"[..], name), (b"linkpath", target)]
        .into_iter()
        .filter(|(_, value)| value.len() > NAME_LEN)
        .collect();
    if long.iter().any(|(_, value)| std::str::from_utf8(value).is_err()) {
        // Without it, readers may take the bytes for UTF-8 and refuse them.
        record(records, b"hdrcharset", b"BINARY");
    }
    for (key, value) in long {
        record(records, key, value);
    }
    if size > OCTAL_MAX {
        record(records, b"size", size.to_string().as_bytes());
    }
    for (key, id) in [(b"uid", entry.uid), (b"gid", entry.gid)] {
        if id > OCTAL_ID_MAX {
            record(records, key, id.to_string().as_bytes());
        }
    }
    if whole_seconds(entry.mtime).is_none() {
        record(records, b"mtime", decimal(entry.mtime).as_bytes());
    }
    for xattr in &entry.xattrs {
        let mut key = b"SCHILY.xattr.".to_vec();
        for byte in &xattr.name {
            // As GNU tar writes and reads it; the format has no way of its own.
            match byte {
                b'=' => key.extend_from_slice(b"%3D"),
                b'%' => key.extend_from_slice(b"%25"),
                byte => key.push(*byte),
            }
        }
        record(records, &key, &xattr.value);
    }
}

/// Adds the records that say that a map of regions stands in front of the data.
fn sparse_records(records: &mut Vec<u8>, name: &[u8], entry: &Entry) {
    let size = entry.content_len().to_string();
    record(records, b"GNU.sparse.major", b"1");
    record(records, b"GNU.sparse.minor", b"0");
    record(records, b"GNU.sparse.name", name);
    record(records, b"GNU.sparse.realsize", size.as_bytes());
}

/// The map of the regions in whole blocks, and the length of their data; none if they do not fit.
fn sparse_map(entry: &Entry, regions: &[(u64, u64)]) -> Option<(Vec<u8>, u64)> {
    let size = entry.content_len();
    let (mut end, mut data_len) = (0, 0);
    // Readers need a region at the end to see that a hole is there.
    let mut map = format!("{}\n", regions.len() + 1);
    for (offset, len) in regions {
        if *offset < end {
            return None;
        }
        end = offset.checked_add(*len)?;
        data_len += len;
        map.push_str(&format!("{offset}\n{len}\n"));
    }
    map.push_str(&format!("{size}\n0\n"));
    let mut map = map.into_bytes();
    map.resize(map.len().next_multiple_of(512), 0);
    let fits = matches!(entry.kind, Kind::File { .. }) && entry.link.is_none() && end <= size;
    fits.then_some((map, data_len))
}

/// Adds `<length> <key>=<value>\n`; the length counts the whole record, itself included.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while rest + len.to_string().len() != len {
        len += 1;
    }
    records.extend_from_slice(len.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// The time as a header can hold it, if it can.
fn whole_seconds(time: Time) -> Option<u64> {
    u64::try_from(time.seconds).ok().filter(|s| time.nanos == 0 && *s <= OCTAL_MAX)
}

/// Seconds with their fraction; the sign stands for both.
fn decimal(time: Time) -> String {
    let (sign, whole, nanos) = if time.seconds < 0 && time.nanos > 0 {
        ("-", -(time.seconds + 1), 1_000_000_000 - time.nanos)
    } else {
        ("", time.seconds, time.nanos)
    };
    let text = format!("{sign}{whole}.{nanos:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
