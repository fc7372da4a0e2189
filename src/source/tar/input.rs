//! The bytes of a tar stream, in order and counted.
//!
//! Part of [`super::TarStream`]. Knows blocks but not what they mean. A stream that ends anywhere
//! but where the caller allows it is a failure here, so no cut can pass for an end.

use std::io::{self, Read};

use crate::source::SourceError;

/// Length of a block, the unit of the format.
pub(super) const BLOCK_LEN: usize = 512;

/// Length of the buffer in front of the reader. Larger reads go past it.
const BUFFER_LEN: usize = 256 * 1024;

/// Reads of at least this length go straight into the caller's buffer.
const DIRECT_LEN: usize = 32 * 1024;

pub(super) struct Input {
    reader: Box<dyn Read + Send>,
    name: String,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    position: u64,
}

impl Input {
    pub(super) fn new(reader: Box<dyn Read + Send>, name: String) -> Self {
        let buffer = vec![0; BUFFER_LEN].into_boxed_slice();
        Self { reader, name, buffer, start: 0, end: 0, position: 0 }
    }

    /// How many bytes have been handed out.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The failure that ends the stream.
    pub(super) fn fail(&self, message: impl Into<String>) -> SourceError {
        SourceError::Stream { name: self.name.clone(), message: message.into(), source: None }
    }

    /// The next block; none if the stream ends right before it.
    pub(super) fn block(&mut self) -> Result<Option<[u8; BLOCK_LEN]>, SourceError> {
        if self.start == self.end && self.refill()? == 0 {
            return Ok(None);
        }
        let mut block = [0; BLOCK_LEN];
        self.fill(&mut block)?;
        Ok(Some(block))
    }

    /// The next `len` bytes, and whatever pads them to whole blocks is skipped.
    ///
    /// The caller has bounded `len`.
    pub(super) fn padded(&mut self, len: usize) -> Result<Vec<u8>, SourceError> {
        let mut data = vec![0; len];
        self.fill(&mut data)?;
        self.skip(padding(len as u64))?;
        Ok(data)
    }

    /// Reads at least one byte, at most the buffer, which is not empty.
    pub(super) fn some(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError> {
        if self.start == self.end {
            let len = if buffer.len() >= DIRECT_LEN {
                let len = read(&mut *self.reader, buffer).map_err(|e| self.transport(e))?;
                self.position += len as u64;
                return if len == 0 { Err(self.broke_off()) } else { Ok(len) };
            } else {
                self.refill()?
            };
            if len == 0 {
                return Err(self.broke_off());
            }
        }
        let len = buffer.len().min(self.end - self.start);
        buffer[..len].copy_from_slice(&self.buffer[self.start..self.start + len]);
        self.start += len;
        self.position += len as u64;
        Ok(len)
    }

    /// Passes over `len` bytes.
    pub(super) fn skip(&mut self, mut len: u64) -> Result<(), SourceError> {
        while len > 0 {
            if self.start == self.end && self.refill()? == 0 {
                return Err(self.broke_off());
            }
            let held = self.end - self.start;
            let step = usize::try_from(len).map_or(held, |len| len.min(held));
            self.start += step;
            self.position += step as u64;
            len -= step as u64;
        }
        Ok(())
    }

    /// Reads to the end of the stream, which must hold nothing but zeros.
    pub(super) fn drain_zeros(&mut self) -> Result<(), SourceError> {
        loop {
            let held = &self.buffer[self.start..self.end];
            if let Some(at) = held.iter().position(|b| *b != 0) {
                let at = self.position + at as u64;
                return Err(self.fail(format!("data after the end marker, at byte {at}")));
            }
            self.position += held.len() as u64;
            self.start = self.end;
            if self.refill()? == 0 {
                return Ok(());
            }
        }
    }

    fn fill(&mut self, mut buffer: &mut [u8]) -> Result<(), SourceError> {
        while !buffer.is_empty() {
            let len = self.some(buffer)?;
            buffer = &mut buffer[len..];
        }
        Ok(())
    }

    /// Reads into the empty buffer; 0 at the end of the stream.
    fn refill(&mut self) -> Result<usize, SourceError> {
        let len = read(&mut *self.reader, &mut self.buffer).map_err(|e| self.transport(e))?;
        (self.start, self.end) = (0, len);
        Ok(len)
    }

    fn broke_off(&self) -> SourceError {
        self.fail(format!("the stream broke off after {} bytes", self.position))
    }

    fn transport(&self, error: io::Error) -> SourceError {
        SourceError::Stream {
            name: self.name.clone(),
            message: format!("reading failed after {} bytes", self.position),
            source: Some(Box::new(error)),
        }
    }
}

/// How many bytes fill the last block of `len` bytes.
pub(super) fn padding(len: u64) -> u64 {
    let block = BLOCK_LEN as u64;
    (block - len % block) % block
}

fn read(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match reader.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
