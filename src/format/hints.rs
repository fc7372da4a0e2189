//! What tells whether files changed, kept beside a tree: one record per entry, in the tree's order.
//!
//! Records differ little from one to the next, so only differences are written; a block starts
//! afresh wherever a leaf of the tree ends, so that a change touches one block.

use super::{FormatError, within};
use crate::clock::Time;
use crate::codec::{WireReader, put_signed, put_varint};
use crate::entry::Hint;

const WHAT: &str = "hints";

/// Writes blocks of hints.
#[derive(Debug, Default)]
pub struct HintsWriter {
    block: Vec<u8>,
    before: Before,
}

#[derive(Debug, Clone, Copy, Default)]
struct Before {
    inode: u64,
    seconds: i64,
    nanos: i64,
}

impl HintsWriter {
    /// Adds the hint of the next entry: 0 for none, or 1, inode, seconds and nanoseconds as
    /// differences to the hint before.
    pub fn push(&mut self, hint: Option<Hint>) {
        let Some(Hint { inode, ctime }) = hint else {
            self.block.push(0);
            return;
        };
        let nanos = i64::from(ctime.nanos);
        put_varint(&mut self.block, 1);
        put_signed(&mut self.block, inode.wrapping_sub(self.before.inode).cast_signed());
        put_signed(&mut self.block, ctime.seconds.wrapping_sub(self.before.seconds));
        put_signed(&mut self.block, nanos - self.before.nanos);
        self.before = Before { inode, seconds: ctime.seconds, nanos };
    }

    /// Ends the block: its bytes, to be stored as a chunk of kind tree. Empty if nothing was added.
    #[must_use]
    pub fn take_block(&mut self) -> Vec<u8> {
        self.before = Before::default();
        std::mem::take(&mut self.block)
    }
}

/// Reads a block of hints.
#[derive(Debug)]
pub struct HintsReader {
    block: Vec<u8>,
    at: usize,
    before: Before,
}

impl HintsReader {
    /// Starts with the first hint of a block.
    #[must_use]
    pub fn new(block: Vec<u8>) -> Self {
        Self { block, at: 0, before: Before::default() }
    }

    /// Whether the block is used up.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.at == self.block.len()
    }

    /// The hint of the next entry.
    ///
    /// Errors: [`FormatError::Damaged`].
    pub fn next(&mut self) -> Result<Option<Hint>, FormatError> {
        let wire = within(WHAT);
        let mut reader = WireReader::new(&self.block[self.at..]);
        let hint = match reader.u8().map_err(&wire)? {
            0 => None,
            1 => {
                let inode = reader.signed().map_err(&wire)?.cast_unsigned();
                let seconds = reader.signed().map_err(&wire)?;
                let nanos = reader.signed().map_err(&wire)?;
                self.before.inode = self.before.inode.wrapping_add(inode);
                self.before.seconds = self.before.seconds.wrapping_add(seconds);
                self.before.nanos = self.before.nanos.wrapping_add(nanos);
                let nanos = u32::try_from(self.before.nanos)
                    .map_err(|_| FormatError::damaged(WHAT, "a time makes no sense"))?;
                let ctime = Time::new(self.before.seconds, nanos);
                Some(Hint { inode: self.before.inode, ctime })
            }
            _ => return Err(FormatError::damaged(WHAT, "it holds an unknown record")),
        };
        self.at = self.block.len() - reader.remaining();
        Ok(hint)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn hints_read_back(
            hints in prop::collection::vec(
                prop::option::of((any::<u64>(), any::<i64>(), 0u32..1_000_000_000)), 0..50)
        ) {
            let hints: Vec<_> = hints
                .into_iter()
                .map(|h| h.map(|(inode, s, n)| Hint { inode, ctime: Time::new(s, n) }))
                .collect();
            let mut writer = HintsWriter::default();
            hints.iter().for_each(|hint| writer.push(*hint));
            let mut reader = HintsReader::new(writer.take_block());
            for hint in &hints {
                prop_assert_eq!(reader.next().expect("it reads"), *hint);
            }
            prop_assert!(reader.is_done());
        }

        #[test]
        fn hostile_hints_are_errors_at_most(bytes: Vec<u8>) {
            let mut reader = HintsReader::new(bytes);
            while !reader.is_done() && reader.next().is_ok() {}
        }
    }
}
