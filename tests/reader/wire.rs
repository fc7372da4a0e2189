//! Numbers, lengths and CBOR maps: section 1 of the document.

use minicbor::Decoder;

use super::{Fault, Result, damaged, ensure};

/// Bytes that are read from the front. All of them must be used up.
pub(crate) struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8]> {
        let Some((front, rest)) = self.0.split_at_checked(len) else {
            return damaged("bytes end early");
        };
        self.0 = rest;
        Ok(front)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.bytes(N)?.try_into().expect("so many bytes were asked for"))
    }

    pub(crate) fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn varint(&mut self) -> Result<u64> {
        let mut value = 0u128;
        for place in 0..10 {
            let byte = self.u8()?;
            value |= u128::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                ensure(byte != 0 || place == 0, "a number has a longer form than it needs")?;
                return u64::try_from(value).or_else(|_| damaged("a number is beyond 64 bits"));
            }
        }
        damaged("a number is longer than ten bytes")
    }

    /// A number of at most `most`.
    pub(crate) fn at_most<T: TryFrom<u64>>(&mut self, most: u64) -> Result<T> {
        let value = self.varint()?;
        ensure(value <= most, "a number is beyond its limit")?;
        T::try_from(value).or_else(|_| damaged("a number is beyond its type"))
    }

    pub(crate) fn signed(&mut self) -> Result<i64> {
        let value = self.varint()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    pub(crate) fn sized(&mut self, most: u64) -> Result<&'a [u8]> {
        let len = self.at_most(most)?;
        self.bytes(len)
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub(crate) fn finish(self) -> Result<()> {
        ensure(self.0.is_empty(), "bytes are left over")
    }
}

impl From<minicbor::decode::Error> for Fault {
    fn from(error: minicbor::decode::Error) -> Self {
        Self::Damaged(format!("cbor: {error}"))
    }
}

/// Reads one map that fills `bytes`; see [`fields`].
pub(crate) fn document<'a>(
    bytes: &'a [u8],
    field: impl FnMut(u64, &mut Decoder<'a>) -> Result<bool>,
) -> Result<()> {
    let mut decoder = Decoder::new(bytes);
    fields(&mut decoder, field)?;
    ensure(decoder.position() == bytes.len(), "bytes follow a document")
}

/// Reads one map. `field` takes the value and returns true, or leaves it alone and returns false.
pub(crate) fn fields<'a>(
    decoder: &mut Decoder<'a>,
    mut field: impl FnMut(u64, &mut Decoder<'a>) -> Result<bool>,
) -> Result<()> {
    let Some(len) = decoder.map()? else { return damaged("a map without a length") };
    for _ in 0..len {
        let key = decoder.u64()?;
        if !field(key, decoder)? {
            decoder.skip()?;
        }
    }
    Ok(())
}

/// Reads an array, one call per element.
pub(crate) fn elements<'a, T>(
    decoder: &mut Decoder<'a>,
    mut element: impl FnMut(&mut Decoder<'a>) -> Result<T>,
) -> Result<Vec<T>> {
    let Some(len) = decoder.array()? else { return damaged("an array without a length") };
    // Not with a capacity of `len`, which nobody checked.
    let mut all = Vec::new();
    for _ in 0..len {
        all.push(element(decoder)?);
    }
    Ok(all)
}

pub(crate) fn array<const N: usize>(decoder: &mut Decoder<'_>) -> Result<[u8; N]> {
    decoder.bytes()?.try_into().or_else(|_| damaged("a byte string has another length"))
}

/// A field that must be there.
pub(crate) fn need<T>(field: Option<T>, what: &str) -> Result<T> {
    field.map_or_else(|| damaged(format!("a document lacks its {what}")), Ok)
}

/// The bytes that lower-case hex digits stand for.
pub(crate) fn unhex<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let digits = digits.as_bytes();
    let mut bytes = [0; N];
    if digits.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
