//! A sorted run of records in a file without a name, sealed block by block.
//!
//! The key lives in memory only, so that no name of an entry ever reaches a disk, whatever becomes
//! of the file. A block is `length u32 ‖ seal[key](records, offset)` and holds whole records.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::merge::Record;
use crate::codec::WireReader;
use crate::crypto::{Key, Plaintext, open_into, random_bytes, seal};
use crate::entry::escape;
use crate::id::hex;
use crate::ops::OpsError;

/// Bytes in front of a sealed block.
const LEN_LEN: u64 = 4;

const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

/// A finished run. The file is gone when the last of its readers is.
#[derive(Debug)]
pub(super) struct Run {
    file: File,
    key: Key,
    len: u64,
    dir: PathBuf,
}

impl Run {
    fn fail(&self, verb: &str, source: impl Into<io::Error>) -> OpsError {
        fail(verb, &self.dir, source)
    }
}

/// Writes a run.
#[derive(Debug)]
pub(super) struct RunWriter {
    run: Run,
    block_len: usize,
    block: Vec<u8>,
}

impl RunWriter {
    /// Units: `block_len` in bytes: a block ends with the record that reaches it.
    pub(super) fn create(dir: &Path, block_len: usize) -> Result<Self, OpsError> {
        let file = nameless(dir).map_err(|errno| fail("make", dir, errno))?;
        let key = Key::random().map_err(|error| fail("make", dir, io::Error::other(error)))?;
        let run = Run { file, key, len: 0, dir: dir.to_path_buf() };
        Ok(Self { run, block_len, block: Vec::new() })
    }

    /// Adds a record, which must not sort before the one before it.
    pub(super) fn push(&mut self, record: &Record) -> Result<(), OpsError> {
        record.encode(&mut self.block);
        if self.block.len() >= self.block_len { self.end_block() } else { Ok(()) }
    }

    pub(super) fn finish(mut self) -> Result<Run, OpsError> {
        if !self.block.is_empty() {
            self.end_block()?;
        }
        Ok(self.run)
    }

    fn end_block(&mut self) -> Result<(), OpsError> {
        let run = &mut self.run;
        let mut plaintext = Plaintext::with_capacity(self.block.len());
        plaintext.extend(&self.block);
        self.block.clear();
        let sealed = seal(&run.key, plaintext, &run.len.to_le_bytes())
            .map_err(|error| run.fail("write", io::Error::other(error)))?;
        let sealed = sealed.as_bytes();
        let len = u32::try_from(sealed.len())
            .map_err(|_| run.fail("write", io::ErrorKind::FileTooLarge))?;
        let mut write = |bytes: &[u8]| run.file.write_all(bytes);
        write(&len.to_le_bytes())
            .and_then(|()| write(sealed))
            .map_err(|error| fail("write", &run.dir, error))?;
        run.len += LEN_LEN + u64::from(len);
        Ok(())
    }
}

/// Reads a run from its start; a run can be read several times, also at once.
#[derive(Debug)]
pub(super) struct RunReader {
    run: Arc<Run>,
    offset: u64,
    block: Vec<u8>,
    at: usize,
}

impl RunReader {
    pub(super) fn new(run: Arc<Run>) -> Self {
        Self { run, offset: 0, block: Vec::new(), at: 0 }
    }

    /// The next record. Nothing is lost by an error: it comes again with each call.
    pub(super) fn next(&mut self) -> Result<Option<Record>, OpsError> {
        if self.at == self.block.len() {
            if self.offset == self.run.len {
                return Ok(None);
            }
            self.next_block()?;
        }
        let mut reader = WireReader::new(&self.block[self.at..]);
        let record = Record::decode(&mut reader)
            .map_err(|error| self.run.fail("read", io::Error::other(error)))?;
        self.at = self.block.len() - reader.remaining();
        Ok(Some(record))
    }

    fn next_block(&mut self) -> Result<(), OpsError> {
        let run = &self.run;
        self.block.clear();
        self.at = 0;
        let mut len = [0; 4];
        let read = |bytes: &mut [u8], at| {
            run.file.read_exact_at(bytes, at).map_err(|error| run.fail("read", error))
        };
        read(&mut len, self.offset)?;
        let len = u32::from_le_bytes(len);
        let end = self.offset + LEN_LEN + u64::from(len);
        let altered = || run.fail("read", io::Error::other("it was altered"));
        if end > run.len {
            return Err(altered());
        }
        let mut sealed = vec![0; len as usize];
        read(&mut sealed, self.offset + LEN_LEN)?;
        open_into(&run.key, &sealed, &self.offset.to_le_bytes(), &mut self.block)
            .map_err(|_| altered())?;
        self.offset = end;
        Ok(())
    }
}

fn fail(verb: &str, dir: &Path, source: impl Into<io::Error>) -> OpsError {
    let dir = escape(dir.as_os_str().as_encoded_bytes());
    OpsError::Io { action: format!("{verb} a temporary file in `{dir}`"), source: source.into() }
}

/// Makes a file that no name leads to.
fn nameless(dir: &Path) -> Result<File, Errno> {
    // With EXCL it can never be given a name.
    let flags = OFlags::TMPFILE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
    match retry_on_intr(|| rustix::fs::openat(CWD, dir, flags, PRIVATE)) {
        // EISDIR: how kernels and file systems answer that do not know the flag.
        Err(Errno::OPNOTSUPP | Errno::ISDIR) => unnamed_again(dir),
        made => Ok(File::from(made?)),
    }
}

/// Makes a file and takes its name away before anything is in it.
fn unnamed_again(dir: &Path) -> Result<File, Errno> {
    let random: [u8; 16] = random_bytes().map_err(|_| Errno::IO)?;
    let path = dir.join(format!(".tmp-{}", hex(&random)));
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDWR | OFlags::CLOEXEC;
    let file = retry_on_intr(|| rustix::fs::openat(CWD, &path, flags, PRIVATE))?;
    rustix::fs::unlink(&path)?;
    Ok(File::from(file))
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom};
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::entry::EntryPath;

    fn record(number: u32) -> Record {
        let path = EntryPath::root().child(format!("{number:05}").as_bytes()).expect("a path");
        Record::new(path, number.into(), vec![7; 50])
    }

    fn run_of(dir: &Path, records: u32) -> Run {
        let mut writer = RunWriter::create(dir, 256).expect("a file");
        (0..records).for_each(|number| writer.push(&record(number)).expect("written"));
        writer.finish().expect("written")
    }

    #[test]
    fn a_run_reads_back_twice() {
        let dir = tempfile::tempdir().expect("a directory");
        let run = Arc::new(run_of(dir.path(), 100));
        for _ in 0..2 {
            let mut reader = RunReader::new(Arc::clone(&run));
            for number in 0..100 {
                assert_eq!(reader.next().expect("read"), Some(record(number)));
            }
            assert_eq!(reader.next().expect("read"), None);
        }
    }

    #[test]
    fn an_altered_cut_or_swapped_block_is_an_error_that_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let errors = |run: Run| {
            let mut reader = RunReader::new(Arc::new(run));
            let error = (0..100).find_map(|_| reader.next().err()).expect("an error");
            assert!(reader.next().is_err(), "the error went away");
            assert!(matches!(error, OpsError::Io { action, .. } if action.contains("read")));
        };
        let bytes_of = |run: &Run| {
            let mut bytes = vec![0; usize::try_from(run.len).expect("short")];
            run.file.read_exact_at(&mut bytes, 0).expect("read");
            bytes
        };
        for at in [0, 3, 4, 40, 200] {
            let run = run_of(dir.path(), 100);
            let byte = bytes_of(&run)[at];
            run.file.write_all_at(&[byte ^ 0x10], at as u64).expect("written");
            errors(run);
        }
        let run = run_of(dir.path(), 100);
        run.file.set_len(run.len - 1).expect("cut");
        errors(run);
        let run = run_of(dir.path(), 100);
        let bytes = bytes_of(&run);
        let len = 4 + u32::from_le_bytes(bytes[..4].try_into().expect("four")) as usize;
        run.file.write_all_at(&bytes[len..2 * len], 0).expect("written");
        run.file.write_all_at(&bytes[..len], len as u64).expect("written");
        errors(run);
    }

    #[test]
    fn a_spill_file_is_private_and_has_no_name() {
        let dir = tempfile::tempdir().expect("a directory");
        for make in [nameless, unnamed_again] {
            let mut file = make(dir.path()).expect("a file");
            let metadata = file.metadata().expect("metadata");
            assert_eq!((metadata.mode() & 0o7777, metadata.nlink()), (0o600, 0));
            assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 0);
            file.write_all(b"content").expect("written");
            assert_eq!(file.seek(SeekFrom::End(0)).expect("sought"), 7);
        }
    }
}
