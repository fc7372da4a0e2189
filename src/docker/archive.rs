//! A helper's volume as a tar stream, in both directions.
//!
//! Reading is lossy by the engine's nature, and a complete stream does not prove complete content:
//! files that cannot be read are left out without a word, and after a failure within a file the end
//! marker is missing. Writing is not atomic.

use std::io::{self, Read, Write};

use bollard::query_parameters::{
    DownloadFromContainerOptionsBuilder, UploadToContainerOptionsBuilder,
};

use super::bridge::{Incoming, Outgoing, PieceReader};
use super::error::DockerError;
use super::helper::{Access, Helper, MOUNT};

/// Bytes collected before they are sent.
const PIECE_LEN: usize = 256 * 1024;

/// Reads a volume as a tar stream whose first entry is `./`, the root.
///
/// A broken connection is an error of kind `ConnectionAborted`, and stays one; the end is only
/// reported when the engine ended the stream itself. The reader must still require the end marker.
pub struct ArchiveReader {
    // dropped in this order: the open stream locks the container
    stream: PieceReader,
    _helper: Helper,
}

/// Writes a tar stream into a volume; [`ArchiveWriter::finish`] completes it.
///
/// Names must begin with `v/` ([`super::MOUNT_NAME`]), and `v/` itself sets owner and mode of the
/// volume's root. Dropped without being finished, it breaks the stream off, which leaves in the
/// volume what the engine had unpacked by then.
pub struct ArchiveWriter {
    stream: Option<Outgoing>,
    piece: Vec<u8>,
    _helper: Helper,
}

impl Helper {
    /// Opens the volume for reading.
    ///
    /// Errors: [`DockerError::Unsupported`] with Podman, which gives all files one owner.
    pub fn read_archive(&self) -> Result<ArchiveReader, DockerError> {
        let engine = self.engine();
        if engine.info().podman {
            return Err(DockerError::Unsupported(
                "podman loses the owners of files when it is asked for an archive".into(),
            ));
        }
        let options =
            DownloadFromContainerOptionsBuilder::new().path(&format!("{MOUNT}/.")).build();
        let stream = engine.bulk().download_from_container(self.id(), Some(options));
        let action = format!("read volume `{}`", self.volume());
        let mut stream = PieceReader::new(Incoming::new(engine, action, stream));
        // a refusal comes as the first piece
        stream.wait()?;
        Ok(ArchiveReader { stream, _helper: self.clone() })
    }

    /// Opens the volume for writing.
    ///
    /// Errors: [`DockerError::Unsupported`] if the helper may only read.
    pub fn archive_writer(&self) -> Result<ArchiveWriter, DockerError> {
        if self.access() != Access::Write {
            return Err(DockerError::Unsupported(format!(
                "the helper of volume `{}` may only read it",
                self.volume()
            )));
        }
        // the parent of the volume, since the engine skips an entry that is the target itself
        let options =
            UploadToContainerOptionsBuilder::new().path("/").no_overwrite_dir_non_dir("1").build();
        let action = format!("write volume `{}`", self.volume());
        let stream = Outgoing::upload(self.engine(), action, self.id().to_owned(), options);
        let piece = Vec::with_capacity(PIECE_LEN);
        Ok(ArchiveWriter { stream: Some(stream), piece, _helper: self.clone() })
    }

    /// Writes all of `archive`, an uncompressed tar stream, into the volume.
    ///
    /// Errors: [`DockerError::Input`] if it cannot be read; the engine then sees a broken stream.
    pub fn write_archive(&self, mut archive: impl Read) -> Result<(), DockerError> {
        let mut writer = self.archive_writer()?;
        let action = format!("write volume `{}`", self.volume());
        loop {
            let room = writer.piece.capacity() - writer.piece.len();
            let taken = archive.by_ref().take(room as u64).read_to_end(&mut writer.piece);
            match taken.map_err(DockerError::Input)? {
                0 => return writer.finish(),
                _ => writer.send_piece().map_err(|e| DockerError::from_io(e, &action))?,
            }
        }
    }
}

impl Read for ArchiveReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl ArchiveWriter {
    /// Ends the stream and waits until the engine has unpacked all of it.
    ///
    /// Errors: what the engine says was wrong with it. The volume then holds a part.
    pub fn finish(mut self) -> Result<(), DockerError> {
        let sent = self.send_piece();
        match (sent, self.stream.take()) {
            (Ok(()), Some(stream)) => stream.finish(),
            (Err(error), _) => Err(DockerError::from_io(error, "write a volume")),
            (Ok(()), None) => Err(DockerError::from_io(failed_before(), "write a volume")),
        }
    }

    fn send_piece(&mut self) -> io::Result<()> {
        let stream = self.stream.as_mut().ok_or_else(failed_before)?;
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_LEN));
        stream.send(piece.into()).map_err(|error| {
            self.stream = None;
            error.into_io()
        })
    }
}

impl Write for ArchiveWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.piece.len() >= PIECE_LEN {
            self.send_piece()?;
        } else if self.stream.is_none() {
            return Err(failed_before());
        }
        let len = buffer.len().min(PIECE_LEN - self.piece.len());
        self.piece.extend_from_slice(&buffer[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send_piece()
    }
}

fn failed_before() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the archive had failed before")
}
