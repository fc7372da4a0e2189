//! Messages over a byte stream.
//!
//! A frame is: bytes of payload as sent (u32), bytes once unpacked (u32), kind (u8), packing (u8: 0
//! as it is, 1 zstd), check of these (8 bytes), payload, check of the payload (8 bytes). A check is
//! the head of BLAKE3 over the number of the frame and what it checks, so a stream that loses,
//! repeats or damages anything is noticed before a length that is wrong is waited for. It proves
//! nothing about who sent it; that is for the transport.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::{Mutex, PoisonError};

/// Largest payload in bytes, once unpacked: a batch of entries whose attributes are large.
pub(super) const PAYLOAD_MAX: usize = 16 << 20;

/// Shorter payloads are not worth packing, in bytes.
const PACKED_MIN: usize = 512;

/// Fast enough for any network that is slower than memory.
const LEVEL: i32 = 1;

const CHECK_LEN: usize = 8;
const FIELDS_LEN: usize = 10;
const HEADER_LEN: usize = FIELDS_LEN + CHECK_LEN;

/// Why the other side can no longer be understood.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The stream failed or ended.
    #[error("the connection to the agent broke off")]
    Io(#[source] io::Error),
    /// What came is not what was sent.
    #[error("the agent's answer is damaged: {0}")]
    Damaged(String),
    /// The other side gave up, and says why.
    #[error("{0}")]
    Failed(String),
    /// The agent refuses the place for what it holds.
    #[error("{0}")]
    Refused(String),
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Both directions of a stream to an agent that has been started.
pub struct AgentStreams {
    /// What the agent says.
    pub output: Box<dyn Read + Send>,
    /// What it is told.
    pub input: Box<dyn Write + Send>,
    /// Ends both streams at once, from any thread, and the agent with them.
    pub hang_up: Box<dyn Fn() + Send + Sync>,
    /// Whether packing what is sent is worth the time: not on one machine.
    pub is_far: bool,
    /// What is read or written, for messages: `volume NAME`.
    pub name: String,
}

impl fmt::Debug for AgentStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AgentStreams({})", self.name)
    }
}

/// Sends messages, from any thread.
pub(super) struct LinkWriter(Mutex<Outgoing>);

struct Outgoing {
    output: Box<dyn Write + Send>,
    number: u64,
    pack: bool,
}

impl LinkWriter {
    pub(super) fn new(output: Box<dyn Write + Send>, pack: bool) -> Self {
        Self(Mutex::new(Outgoing { output, number: 0, pack }))
    }

    /// From now on payloads are packed, or not.
    pub(super) fn set_pack(&self, pack: bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pack = pack;
    }

    /// Sends one message; blocks while the other side does not read.
    pub(super) fn send(&self, kind: u8, payload: &[u8]) -> Result<(), LinkError> {
        if payload.len() > PAYLOAD_MAX {
            return Err(LinkError::Damaged(format!("{} bytes are too many", payload.len())));
        }
        let mut out = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let packed = match out.pack && payload.len() >= PACKED_MIN {
            true => zstd::bulk::compress(payload, LEVEL).ok(),
            false => None,
        };
        let packed = packed.filter(|packed| packed.len() < payload.len());
        let sent = packed.as_deref().unwrap_or(payload);
        let mut header = [0; HEADER_LEN];
        header[..4].copy_from_slice(&len_of(sent).to_le_bytes());
        header[4..8].copy_from_slice(&len_of(payload).to_le_bytes());
        header[8] = kind;
        header[9] = u8::from(packed.is_some());
        let number = out.number;
        let fields = check(number, &header[..FIELDS_LEN]);
        header[FIELDS_LEN..].copy_from_slice(&fields);
        out.number += 1;
        out.output.write_all(&header)?;
        out.output.write_all(sent)?;
        out.output.write_all(&check(number, sent))?;
        Ok(out.output.flush()?)
    }
}

/// Receives messages.
pub(super) struct LinkReader {
    input: Box<dyn Read + Send>,
    number: u64,
}

impl LinkReader {
    pub(super) fn new(input: Box<dyn Read + Send>) -> Self {
        Self { input, number: 0 }
    }

    /// The next message; none if the stream ended between two.
    pub(super) fn receive(&mut self) -> Result<Option<(u8, Vec<u8>)>, LinkError> {
        let mut header = [0; HEADER_LEN];
        if !self.fill(&mut header)? {
            return Ok(None);
        }
        if check(self.number, &header[..FIELDS_LEN])[..] != header[FIELDS_LEN..] {
            return Err(LinkError::Damaged("a message does not begin as it should".to_owned()));
        }
        let number = |at: usize| {
            let bytes = [header[at], header[at + 1], header[at + 2], header[at + 3]];
            usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(usize::MAX)
        };
        let (len, payload_len) = (number(0), number(4));
        if len > payload_len || payload_len > PAYLOAD_MAX {
            return Err(LinkError::Damaged("a message is too long".to_owned()));
        }
        let mut sent = vec![0; len + CHECK_LEN];
        if !self.fill(&mut sent)? {
            return Err(LinkError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        let found = sent.split_off(len);
        if check(self.number, &sent)[..] != found[..] {
            return Err(LinkError::Damaged("a message does not have its check".to_owned()));
        }
        self.number += 1;
        let payload = match header[9] {
            0 if len == payload_len => sent,
            1 => zstd::bulk::decompress(&sent, payload_len)?,
            _ => return Err(LinkError::Damaged("a message is packed otherwise".to_owned())),
        };
        match payload.len() == payload_len {
            true => Ok(Some((header[8], payload))),
            false => Err(LinkError::Damaged("a message has another length".to_owned())),
        }
    }

    /// Fills the buffer; false if the stream ended right before it.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<bool, LinkError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.input.read(&mut buffer[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(LinkError::Io(io::ErrorKind::UnexpectedEof.into())),
                Ok(len) => filled += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}

fn len_of(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

fn check(number: u64, bytes: &[u8]) -> [u8; CHECK_LEN] {
    let mut hasher = blake3::Hasher::new();
    let _ = hasher.update(&number.to_le_bytes()).update(bytes);
    let mut check = [0; CHECK_LEN];
    check.copy_from_slice(&hasher.finalize().as_bytes()[..CHECK_LEN]);
    check
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    /// Keeps what is written to it.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no writer panics").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn sent(messages: &[(u8, Vec<u8>)], pack: bool) -> Vec<u8> {
        let kept = Kept::default();
        let writer = LinkWriter::new(Box::new(kept.clone()), pack);
        for (kind, payload) in messages {
            writer.send(*kind, payload).expect("short");
        }
        kept.0.lock().expect("no writer panics").clone()
    }

    fn received(bytes: Vec<u8>) -> Result<Vec<(u8, Vec<u8>)>, LinkError> {
        let mut reader = LinkReader::new(Box::new(io::Cursor::new(bytes)));
        let mut messages = Vec::new();
        while let Some(message) = reader.receive()? {
            messages.push(message);
        }
        Ok(messages)
    }

    proptest! {
        #[test]
        fn what_is_sent_is_received(messages: Vec<(u8, Vec<u8>)>, pack: bool) {
            prop_assert_eq!(received(sent(&messages, pack)).expect("whole"), messages);
        }

        #[test]
        fn a_stream_that_differs_anywhere_is_refused(
            payload: Vec<u8>,
            at: prop::sample::Index,
            bit in 0..8,
        ) {
            let messages = [(1, payload), (2, vec![7; 2000])];
            let mut bytes = sent(&messages, true);
            let at = at.index(bytes.len());
            bytes[at] ^= 1u8 << bit;
            prop_assert!(received(bytes).is_err());
        }

        #[test]
        fn a_stream_that_is_cut_off_is_refused_or_ends_between_messages(
            payload: Vec<u8>,
            at: prop::sample::Index,
        ) {
            let messages = [(1, payload), (2, vec![7; 10])];
            let bytes = sent(&messages, true);
            let at = at.index(bytes.len());
            if let Ok(found) = received(bytes[..at].to_vec()) {
                prop_assert!(found.len() < 2 && found[..] == messages[..found.len()]);
            }
        }
    }

    #[test]
    fn messages_that_change_places_are_refused() {
        let bytes = sent(&[(1, vec![1; 5]), (1, vec![2; 5])], false);
        let (first, second) = bytes.split_at(bytes.len() / 2);
        assert!(received([second, first].concat()).is_err());
    }
}
