//! A stream of bytes as the only file of an item: what a dump command writes, or standard input.
//!
//! Floor 5. The stream must end well: a broken one fails the source, never yields a short file.

use std::io::{ErrorKind, Read};

use super::{Found, Order, ReadError, Run, Source, SourceError};
use crate::clock::{Clock, Time};
use crate::entry::{Entry, EntryPath, Hint, Kind, PathError};

const ROOT_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;

/// Bytes read at once where content is only skipped.
const SKIP_LEN: usize = 64 << 10;

/// Who owns what has no owner of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Numeric user.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
}

enum Step {
    Root,
    File,
    Content,
    Done,
    Broken,
}

/// Yields a root directory and one file in it, the size of which is only known at its end: 0 when
/// it is found, right when it is finished.
pub struct SingleFile {
    path: EntryPath,
    name: String,
    stream: Box<dyn Read + Send>,
    owner: Owner,
    now: Time,
    size: u64,
    step: Step,
}

impl SingleFile {
    /// The bytes of `stream` as the file `name`, modified now.
    ///
    /// Errors: [`PathError`] if `name` is no single component.
    pub fn new(
        name: &[u8],
        stream: Box<dyn Read + Send>,
        owner: Owner,
        clock: Clock,
    ) -> Result<Self, PathError> {
        Ok(Self {
            path: EntryPath::root().child(name)?,
            name: crate::entry::escape(name),
            stream,
            owner,
            now: clock.now(),
            size: 0,
            step: Step::Root,
        })
    }

    fn entry(&self, kind: Kind, mode: u32) -> Entry {
        let Owner { uid, gid } = self.owner;
        Entry { kind, mode, uid, gid, mtime: self.now, xattrs: Vec::new(), link: None }
    }

    fn file(&self) -> Entry {
        self.entry(Kind::File { size: self.size, sparse: false }, FILE_MODE)
    }

    /// Fills the buffer unless the stream ends before that; gives how much there was.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.stream.read(&mut buffer[filled..]) {
                Ok(0) => {
                    self.step = Step::Done;
                    break;
                }
                Ok(len) => filled += len,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.step = Step::Broken;
                    return Err(self.broken(Some(Box::new(error))));
                }
            }
        }
        self.size += filled as u64;
        Ok(filled)
    }

    fn broken(&self, source: Option<Box<dyn std::error::Error + Send + Sync>>) -> SourceError {
        let message = "the stream broke off".to_owned();
        SourceError::Stream { name: self.name.clone(), message, source }
    }
}

impl Source for SingleFile {
    fn order(&self) -> Order {
        Order::Sorted
    }

    fn next(&mut self) -> Result<Option<Found>, SourceError> {
        match self.step {
            Step::Root => {
                self.step = Step::File;
                let entry = self.entry(Kind::Directory, ROOT_MODE);
                Ok(Some(Found { path: EntryPath::root(), entry, hint: None }))
            }
            Step::File => {
                self.step = Step::Content;
                let entry = self.file();
                Ok(Some(Found { path: self.path.clone(), entry, hint: None }))
            }
            Step::Content => {
                let mut rest = vec![0; SKIP_LEN];
                while matches!(self.step, Step::Content) {
                    let _ = self.fill(&mut rest)?;
                }
                Ok(None)
            }
            Step::Done => Ok(None),
            Step::Broken => Err(self.broken(None)),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<Run, ReadError> {
        match self.step {
            Step::Content => {}
            Step::Done => return Ok(Run::End),
            Step::Broken => return Err(self.broken(None).into()),
            Step::Root | Step::File => {
                return Err(ReadError::Entry("has no content of its own".to_owned(), None));
            }
        }
        Ok(match self.fill(buffer)? {
            0 => Run::End,
            len => Run::Data(len),
        })
    }

    fn finish(&mut self) -> Result<(Entry, Option<Hint>), ReadError> {
        match self.step {
            Step::Done => Ok((self.file(), None)),
            Step::Broken => Err(self.broken(None).into()),
            _ => Err(ReadError::Entry("was not read to its end".to_owned(), None)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn source(stream: impl Read + Send + 'static) -> SingleFile {
        let owner = Owner { uid: 7, gid: 8 };
        let clock = Clock::Fixed(Time::new(5, 6));
        SingleFile::new(b"dump.sql", Box::new(stream), owner, clock).expect("a name")
    }

    #[test]
    fn the_size_is_right_at_the_end() {
        let mut source = source(&b"0123456789"[..]);
        let root = source.next().expect("no error").expect("the root");
        assert!(root.path.is_root() && root.entry.is_directory());
        assert_eq!((root.entry.mode, root.entry.uid, root.entry.gid), (0o755, 7, 8));
        let file = source.next().expect("no error").expect("the file");
        assert_eq!(file.path.to_string(), "dump.sql");
        assert_eq!(file.entry.content_len(), 0);
        let mut buffer = [0; 4];
        let mut read = Vec::new();
        while let Run::Data(len) = source.read(&mut buffer).expect("no error") {
            read.extend_from_slice(&buffer[..len]);
        }
        assert_eq!(read, b"0123456789");
        let (entry, hint) = source.finish().expect("no error");
        assert_eq!((entry.content_len(), entry.mtime, hint), (10, Time::new(5, 6), None));
        assert_eq!(source.next().expect("no error"), None);
    }

    struct Breaks(usize);

    impl Read for Breaks {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0 {
                0 => Err(io::ErrorKind::ConnectionReset.into()),
                _ => {
                    self.0 -= 1;
                    buffer[0] = b'x';
                    Ok(1)
                }
            }
        }
    }

    #[test]
    fn a_broken_stream_fails_the_source_for_good() {
        for is_read in [true, false] {
            let mut source = source(Breaks(5));
            let _ = source.next().expect("the root");
            let _ = source.next().expect("the file");
            if is_read {
                let failed = source.read(&mut [0; 100]);
                assert!(matches!(failed, Err(ReadError::Source(SourceError::Stream { .. }))));
                assert!(source.finish().is_err());
            }
            assert!(source.next().is_err());
            assert!(source.next().is_err(), "never a clean end");
        }
    }

    #[test]
    fn a_name_is_one_component() {
        let owner = Owner { uid: 0, gid: 0 };
        for name in [&b""[..], b"a/b", b".."] {
            let made = SingleFile::new(name, Box::new(io::empty()), owner, Clock::System);
            assert!(made.is_err());
        }
    }
}
