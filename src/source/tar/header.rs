//! One header block: its numbers and its names.
//!
//! Part of [`super::TarStream`]. Built on the field layout and the checksum of `tar_core`. Numbers
//! are read here, as `tar_core` 0.1.0 takes neither negative ones nor notices that one overflows.

use tar_core::Header;

use super::input::BLOCK_LEN;

/// Which extensions the rest of the block may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// No magic: nothing but the fields of 1979.
    Old,
    /// POSIX: a prefix for the name.
    Ustar,
    /// GNU: the space of the prefix is used otherwise.
    Gnu,
}

/// Regions of a sparse file, as offsets and lengths, from one block.
pub(super) struct Descriptors {
    pub(super) regions: Vec<(u64, u64)>,
    /// Whether another block with more of them follows.
    pub(super) more: bool,
}

/// A header block whose checksum is right.
pub(super) struct Block<'a> {
    header: &'a Header,
}

impl<'a> Block<'a> {
    /// Errors: a checksum that is not that of the block.
    pub(super) fn check(bytes: &'a [u8; BLOCK_LEN]) -> Result<Self, String> {
        let header = Header::from_bytes(bytes);
        header.verify_checksum().map_err(|e| format!("not a tar header: {e}"))?;
        Ok(Self { header })
    }

    pub(super) fn format(&self) -> Format {
        // The version is not looked at: GNU tar and libarchive do not either.
        match &self.header.as_ustar().magic {
            b"ustar\0" => Format::Ustar,
            b"ustar " => Format::Gnu,
            _ => Format::Old,
        }
    }

    pub(super) fn type_byte(&self) -> u8 {
        self.header.as_ustar().typeflag[0]
    }

    /// How many bytes of data follow.
    pub(super) fn size(&self) -> Result<u64, String> {
        let field = &self.header.as_ustar().size;
        // Readers disagree about what follows a NUL; in this field that would be another framing.
        let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
        if field[0] & 0x80 == 0 && field[end..].iter().any(|b| *b != 0 && *b != b' ') {
            return Err("malformed size in a header".into());
        }
        let size = number(field).ok_or("malformed size in a header")?;
        u64::try_from(size)
            .ok()
            .filter(|size| i64::try_from(*size).is_ok())
            .ok_or_else(|| format!("impossible size {size} in a header"))
    }

    pub(super) fn mode(&self) -> Result<u32, String> {
        let mode = number(&self.header.as_ustar().mode).ok_or("malformed mode in a header")?;
        // The mask keeps it far below the limits of the type.
        u32::try_from(mode & 0o7777).map_err(|e| e.to_string())
    }

    pub(super) fn uid(&self) -> Result<i128, String> {
        number(&self.header.as_ustar().uid).ok_or_else(|| "malformed owner in a header".into())
    }

    pub(super) fn gid(&self) -> Result<i128, String> {
        number(&self.header.as_ustar().gid).ok_or_else(|| "malformed group in a header".into())
    }

    pub(super) fn mtime(&self) -> Result<i128, String> {
        number(&self.header.as_ustar().mtime).ok_or_else(|| "malformed time in a header".into())
    }

    /// Major and minor number.
    pub(super) fn device(&self) -> Result<(u32, u32), String> {
        let read = |field: &[u8]| number(field).and_then(|n| u32::try_from(n).ok());
        let fields = self.header.as_ustar();
        if self.format() == Format::Old {
            return Err("a device without device numbers".into());
        }
        read(&fields.dev_major)
            .zip(read(&fields.dev_minor))
            .ok_or_else(|| "malformed device number in a header".into())
    }

    pub(super) fn path(&self) -> Vec<u8> {
        let fields = self.header.as_ustar();
        let mut path = Vec::new();
        if self.format() == Format::Ustar {
            path.extend_from_slice(until_nul(&fields.prefix));
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(until_nul(&fields.name));
        path
    }

    pub(super) fn link(&self) -> Vec<u8> {
        until_nul(&self.header.as_ustar().linkname).to_vec()
    }

    /// Size of a file with a header of type `S`, holes included.
    pub(super) fn gnu_sparse_size(&self) -> Result<u64, String> {
        let size = unsigned(&self.header.as_gnu().realsize);
        size.ok_or_else(|| "malformed sparse file size in a header".into())
    }

    /// The regions named in a header of type `S`.
    pub(super) fn gnu_sparse(&self) -> Result<Descriptors, String> {
        let gnu = self.header.as_gnu();
        let pairs = gnu.sparse.iter().map(|d| (&d.offset[..], &d.numbytes[..]));
        Ok(Descriptors { regions: descriptors(pairs)?, more: gnu.isextended[0] != 0 })
    }
}

/// The regions named in a block behind a header of type `S`.
pub(super) fn gnu_sparse_more(block: &[u8; BLOCK_LEN]) -> Result<Descriptors, String> {
    const PAIRS: usize = 21;
    let pairs = block.chunks_exact(24).take(PAIRS).map(|pair| pair.split_at(12));
    Ok(Descriptors { regions: descriptors(pairs)?, more: block[PAIRS * 24] != 0 })
}

fn descriptors<'a>(
    pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<Vec<(u64, u64)>, String> {
    pairs
        .take_while(|(_, len)| len[0] != 0)
        .map(|(offset, len)| unsigned(offset).zip(unsigned(len)))
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| "malformed sparse map in a header".into())
}

fn unsigned(field: &[u8]) -> Option<u64> {
    number(field).and_then(|n| u64::try_from(n).ok())
}

/// Reads a number: octal digits ended by blanks, or GNU's big-endian form with its high bit set.
///
/// An empty field counts as 0. Fields have at most 12 bytes, so nothing overflows.
fn number(field: &[u8]) -> Option<i128> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        // Bit 6 is the sign.
        let head = i128::from(first & 0x3f) - i128::from(first & 0x40);
        return Some(rest.iter().fold(head, |n, b| n << 8 | i128::from(*b)));
    }
    let digits = until_nul(field).trim_ascii();
    digits.iter().try_fold(0, |n, b| match b {
        b'0'..=b'7' => Some(n << 3 | i128::from(b - b'0')),
        _ => None,
    })
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|b| *b == 0).next().unwrap_or(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_signed_big_endian() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 1, 2]), Some(258));
        assert_eq!(number(&[0xff; 12]), Some(-1));
        assert_eq!(number(b"77777777777\0"), Some(0o77_777_777_777));
        for bad in [&b"00008\0"[..], b"+644\0", b"-1\0", b"6 4\0", b"0x1\0"] {
            assert_eq!(number(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn big_endian_numbers_do_not_wrap() {
        let mut field = [0; 12];
        (field[0], field[3], field[11]) = (0x80, 1, 7);
        assert_eq!(number(&field), Some((1 << 64) + 7));
    }
}
