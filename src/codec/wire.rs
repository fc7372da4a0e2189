//! Bounded little-endian reading and writing.
//!
//! Varints are LEB128: seven bits a byte, low bits first, at most ten bytes, shortest form only.

/// Bytes that are not what the format says they must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// They end too early.
    #[error("ends too early")]
    TooShort,
    /// Something follows that should not be there.
    #[error("has {0} bytes too many")]
    TooLong(usize),
    /// A number is beyond what is allowed there.
    #[error("{what} is {value}, beyond {max}")]
    TooLarge {
        /// What was read.
        what: &'static str,
        /// What it was.
        value: u64,
        /// What it may be at most.
        max: u64,
    },
    /// A value that has no meaning.
    #[error("{0}")]
    Invalid(&'static str),
}

/// Reads from a slice, never past its end.
#[derive(Debug, Clone)]
pub struct WireReader<'a> {
    rest: &'a [u8],
}

impl<'a> WireReader<'a> {
    /// Starts at the first byte.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(WireError::TooShort)?;
        self.rest = rest;
        Ok(head)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        self.bytes(N)?.try_into().map_err(|_| WireError::TooShort)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.array::<1>()?[0])
    }

    /// Two bytes, low byte first.
    pub fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_le_bytes)
    }

    /// Four bytes, low byte first.
    pub fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_le_bytes)
    }

    /// A varint.
    pub fn varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 || shift > 0 && byte == 0 {
                return Err(WireError::Invalid("varint is not in its shortest form"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireError::Invalid("varint is too long"))
    }

    /// A varint of at most `max`; `what` names it in the error.
    pub fn varint_max(&mut self, max: u64, what: &'static str) -> Result<u64, WireError> {
        match self.varint()? {
            value if value > max => Err(WireError::TooLarge { what, value, max }),
            value => Ok(value),
        }
    }

    /// A varint of at most `max` as a length or count.
    pub fn len_max(&mut self, max: usize, what: &'static str) -> Result<usize, WireError> {
        let value = self.varint_max(max as u64, what)?;
        Ok(usize::try_from(value).expect("because it is at most a usize"))
    }

    /// A varint as a 32-bit number.
    pub fn varint_u32(&mut self, what: &'static str) -> Result<u32, WireError> {
        let value = self.varint_max(u64::from(u32::MAX), what)?;
        Ok(u32::try_from(value).expect("because it is at most u32::MAX"))
    }

    /// A signed number, zigzag in a varint.
    pub fn signed(&mut self) -> Result<i64, WireError> {
        let value = self.varint()?;
        Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    /// A varint length of at most `max`, and so many bytes.
    pub fn sized(&mut self, max: usize, what: &'static str) -> Result<&'a [u8], WireError> {
        let len = self.len_max(max, what)?;
        self.bytes(len)
    }

    /// How many bytes are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// All bytes that are left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Demands that nothing is left.
    pub fn finish(self) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(WireError::TooLong(self.rest.len())) }
    }
}

/// Writes a varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Writes a signed number, zigzag in a varint.
pub fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, (value << 1 ^ value >> 63).cast_unsigned());
}

/// Writes a varint length and the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_and_bytes_read_back(a: u64, b: i64, c: Vec<u8>) {
            let mut out = Vec::new();
            put_varint(&mut out, a);
            put_signed(&mut out, b);
            put_bytes(&mut out, &c);
            let mut reader = WireReader::new(&out);
            prop_assert_eq!(reader.varint(), Ok(a));
            prop_assert_eq!(reader.signed(), Ok(b));
            prop_assert_eq!(reader.sized(c.len(), "bytes"), Ok(&c[..]));
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let mut reader = WireReader::new(&bytes);
            while reader.varint().is_ok() && reader.sized(1000, "bytes").is_ok() {}
        }
    }

    #[test]
    fn long_forms_and_overflows_are_refused() {
        assert!(WireReader::new(&[0x80, 0]).varint().is_err());
        assert!(WireReader::new(&[0xff; 11]).varint().is_err());
        assert!(
            WireReader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2])
                .varint()
                .is_err()
        );
        assert_eq!(
            WireReader::new(&[5]).varint_max(4, "x"),
            Err(WireError::TooLarge { what: "x", value: 5, max: 4 })
        );
    }
}
