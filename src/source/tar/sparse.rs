//! Where the data of a sparse file lies.
//!
//! Part of [`super::TarStream`]. The three forms GNU tar writes end up as one checked map.

use std::collections::VecDeque;

use super::header::{self, Descriptors};
use super::input::{BLOCK_LEN, Input, padding};
use crate::source::SourceError;

/// Most regions a file may have: 16 MiB of map.
const REGIONS_MAX: usize = 1 << 20;

/// Regions of data, ascending and apart; what lies between them is a hole.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Map {
    regions: VecDeque<(u64, u64)>,
    last_end: u64,
    data_len: u64,
}

impl Map {
    /// A file without holes.
    pub(super) fn dense(len: u64) -> Self {
        let regions = if len > 0 { VecDeque::from([(0, len)]) } else { VecDeque::new() };
        Self { regions, last_end: len, data_len: len }
    }

    /// Adds the next region.
    ///
    /// Errors: too many of them, or one that overlaps, goes back or ends beyond all limits.
    pub(super) fn push(&mut self, offset: u64, len: u64) -> Result<(), String> {
        let end = offset.checked_add(len).filter(|end| i64::try_from(*end).is_ok());
        let Some(end) = end.filter(|_| offset >= self.last_end) else {
            return Err("malformed sparse map: regions overlap".into());
        };
        if self.regions.len() >= REGIONS_MAX {
            return Err(format!("sparse map of more than {REGIONS_MAX} regions"));
        }
        self.last_end = end;
        if len > 0 {
            self.data_len += len;
            self.regions.push_back((offset, len));
        }
        Ok(())
    }

    /// Checks that the map fits a file of `size` bytes stored as `stored` bytes.
    pub(super) fn check(&self, size: u64, stored: u64) -> Result<(), String> {
        if self.last_end > size || i64::try_from(size).is_err() {
            return Err("malformed sparse map: ends beyond the file".into());
        }
        if self.data_len != stored {
            let held = self.data_len;
            return Err(format!("sparse map of {held} bytes for {stored} stored bytes"));
        }
        Ok(())
    }

    /// The first region that has not been used up.
    pub(super) fn front(&self) -> Option<(u64, u64)> {
        self.regions.front().copied()
    }

    /// Uses up `len` bytes of the first region.
    pub(super) fn advance(&mut self, len: u64) {
        if let Some(front) = self.regions.front_mut() {
            front.0 += len;
            front.1 = front.1.saturating_sub(len);
            if front.1 == 0 {
                let _ = self.regions.pop_front();
            }
        }
    }
}

/// Reads the blocks of descriptors that follow a header of type `S`.
pub(super) fn read_old(input: &mut Input, mut found: Descriptors) -> Result<Map, SourceError> {
    let mut map = Map::default();
    let mut blocks = 0;
    loop {
        for (offset, len) in found.regions {
            map.push(offset, len).map_err(|e| input.fail(e))?;
        }
        if !found.more {
            return Ok(map);
        }
        blocks += 1;
        if blocks > REGIONS_MAX / 21 + 1 {
            return Err(input.fail("endless sparse map"));
        }
        let block = input.block()?.ok_or_else(|| input.fail("the stream broke off"))?;
        found = header::gnu_sparse_more(&block).map_err(|e| input.fail(e))?;
    }
}

/// Reads the map that stands in front of the data in version 1.0, and what it takes of `stored`.
pub(super) fn read_v1(input: &mut Input, stored: u64) -> Result<(Map, u64), SourceError> {
    let mut lines = Lines { input, block: [0; BLOCK_LEN], at: BLOCK_LEN, used: 0, stored };
    let count = lines.next()?;
    if count > REGIONS_MAX as u64 {
        return Err(lines.input.fail(format!("sparse map of {count} regions")));
    }
    let mut map = Map::default();
    for _ in 0..count {
        let (offset, len) = (lines.next()?, lines.next()?);
        map.push(offset, len).map_err(|e| lines.input.fail(e))?;
    }
    let used = lines.used;
    Ok((map, used))
}

/// Decimal numbers, one to a line, in whole blocks.
struct Lines<'a> {
    input: &'a mut Input,
    block: [u8; BLOCK_LEN],
    at: usize,
    used: u64,
    stored: u64,
}

impl Lines<'_> {
    fn next(&mut self) -> Result<u64, SourceError> {
        let mut number: Option<u64> = None;
        loop {
            let digit = match self.byte()? {
                b'\n' if number.is_some() => return Ok(number.unwrap_or_default()),
                digit @ b'0'..=b'9' => u64::from(digit - b'0'),
                _ => return Err(self.input.fail("malformed sparse map")),
            };
            // Leading zeros would let a line go on without end.
            number = match number {
                None => Some(digit),
                Some(0) => return Err(self.input.fail("malformed sparse map")),
                Some(n) => n.checked_mul(10).and_then(|n| n.checked_add(digit)),
            };
            if number.is_none() {
                return Err(self.input.fail("malformed sparse map: number too large"));
            }
        }
    }

    fn byte(&mut self) -> Result<u8, SourceError> {
        if self.at == BLOCK_LEN {
            let padded = self.stored + padding(self.stored);
            if self.used + BLOCK_LEN as u64 > padded {
                return Err(self.input.fail("sparse map longer than its entry"));
            }
            self.block =
                self.input.block()?.ok_or_else(|| self.input.fail("the stream broke off"))?;
            self.used += BLOCK_LEN as u64;
            self.at = 0;
        }
        self.at += 1;
        Ok(self.block[self.at - 1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v1(text: &[u8], stored: u64) -> Result<(Map, u64), SourceError> {
        let mut data = text.to_vec();
        data.resize(text.len() + usize::try_from(padding(text.len() as u64)).expect("small"), 0);
        let mut input = Input::new(Box::new(std::io::Cursor::new(data)), "test".into());
        read_v1(&mut input, stored)
    }

    #[test]
    fn regions_that_overlap_are_refused() {
        let mut map = Map::default();
        assert!(map.push(10, 5).is_ok());
        assert!(map.push(14, 1).is_err());
        assert!(map.push(u64::MAX, 1).is_err());
        assert!(map.push(15, 1).is_ok());
        assert!(map.check(16, 6).is_ok());
        assert!(map.check(15, 6).is_err());
        assert!(map.check(16, 7).is_err());
    }

    #[test]
    fn a_map_in_front_of_the_data_is_bounded() {
        let (map, used) = v1(b"1\n4096\n3\n", 515).expect("a map");
        assert_eq!((map.front(), used), (Some((4096, 3)), 512));
        assert!(v1(b"1\n4096\n3\n", 0).is_err());
        assert!(v1(b"99999999999\n", 1 << 40).is_err());
        assert!(v1(b"99999999999999999999999\n", 1 << 40).is_err());
        assert!(v1(&[b'0'; 4096], 1 << 40).is_err());
        assert!(v1(b"1\n-1\n3\n", 1024).is_err());
        assert!(v1(b"2\n1\n", 512).is_err());
    }
}
