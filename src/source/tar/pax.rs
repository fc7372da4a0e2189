//! Extended headers: records of attributes that override those of the next header.
//!
//! Part of [`super::TarStream`]. Source: POSIX.1-2017 `pax`, "pax Extended Header"; GNU tar manual,
//! "Storing Sparse Files". The iterator of `tar_core` 0.1.0 is not used, as it takes a malformed
//! length for the end of the records.

use std::collections::BTreeMap;

use super::sparse;
use crate::clock::Time;

/// Attributes that cannot be kept, and the names people know them by.
const LOST: [(&[u8], &str); 5] = [
    (b"SCHILY.acl.access", "access control list in text form"),
    (b"SCHILY.acl.default", "default access control list in text form"),
    (b"SCHILY.acl.ace", "NFSv4 access control list"),
    (b"SCHILY.fflags", "file flags"),
    (b"RHT.security.selinux", "SELinux context in text form"),
];

/// What extended headers say about one entry.
#[derive(Debug, Default, Clone)]
pub(super) struct Attributes {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Time>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) sparse: Sparse,
    /// What the entry had and cannot be kept.
    pub(super) lost: Vec<&'static str>,
}

/// What extended headers say about a sparse file.
#[derive(Debug, Default, Clone)]
pub(super) struct Sparse {
    pub(super) version: (Option<u64>, Option<u64>),
    pub(super) name: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    /// Offsets and lengths in turn, from versions 0.0 and 0.1.
    pub(super) map: Option<Vec<u64>>,
}

impl Sparse {
    /// The map of version 0.0 or 0.1.
    pub(super) fn to_map(&self) -> Result<Option<sparse::Map>, String> {
        let Some(numbers) = &self.map else { return Ok(None) };
        let (pairs, rest) = numbers.as_chunks::<2>();
        if !rest.is_empty() {
            return Err("malformed sparse map: half a region".into());
        }
        let mut map = sparse::Map::default();
        pairs.iter().try_for_each(|[offset, len]| map.push(*offset, *len))?;
        Ok(Some(map))
    }
}

impl Attributes {
    /// Applies the records of an extended header to the next entry only.
    pub(super) fn apply(&mut self, data: &[u8]) -> Result<(), String> {
        Records(data).try_for_each(|record| {
            let (key, value) = record?;
            self.record(key, value)
        })
    }

    /// Applies the records of a global header, which stand for all entries to come.
    ///
    /// Errors: anything malformed, and attributes that can only be those of a single entry.
    pub(super) fn apply_global(&mut self, data: &[u8]) -> Result<(), String> {
        Records(data).try_for_each(|record| {
            let (key, value) = record?;
            let single = [&b"path"[..], b"linkpath", b"size"].contains(&key)
                || key.starts_with(b"GNU.sparse.")
                || key.starts_with(b"SCHILY.xattr.");
            if single {
                let key = key.escape_ascii();
                return Err(format!("`{key}` of single entries in a global header"));
            }
            self.record(key, value)
        })
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        // An empty value takes back what stood before; only attributes of files may be empty.
        let text = (!value.is_empty()).then_some(value);
        let malformed = || format!("malformed `{}` in an extended header", key.escape_ascii());
        let number = || text.map(|v| decimal(v).ok_or_else(malformed)).transpose();
        match key {
            b"path" => self.path = text.map(<[u8]>::to_vec),
            b"linkpath" => self.link = text.map(<[u8]>::to_vec),
            b"size" => self.size = number()?,
            b"uid" => self.uid = number()?,
            b"gid" => self.gid = number()?,
            b"mtime" => {
                self.mtime = text.map(|v| time(v).ok_or_else(malformed)).transpose()?;
            }
            b"GNU.sparse.major" => self.sparse.version.0 = number()?,
            b"GNU.sparse.minor" => self.sparse.version.1 = number()?,
            b"GNU.sparse.name" => self.sparse.name = text.map(<[u8]>::to_vec),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.size = number()?,
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                let map = self.sparse.map.get_or_insert_default();
                if map.len().is_multiple_of(2) != (key == b"GNU.sparse.offset") {
                    return Err(malformed());
                }
                map.push(decimal(value).ok_or_else(malformed)?);
            }
            b"GNU.sparse.map" => {
                let numbers = value.split(|b| *b == b',').map(decimal);
                self.sparse.map = Some(numbers.collect::<Option<_>>().ok_or_else(malformed)?);
            }
            _ => self.other(key, value)?,
        }
        Ok(())
    }

    fn other(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            if name.is_empty() || name.contains(&0) {
                return Err("extended attribute without a name".into());
            }
            let _ = self.xattrs.insert(decode_name(name), value.to_vec());
        } else if let Some((_, what)) = LOST.iter().find(|(lost, _)| *lost == key)
            && !self.lost.contains(what)
        {
            self.lost.push(what);
        }
        Ok(())
    }
}

/// Splits `<length> <key>=<value>\n` records; the length counts the whole record.
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let record = split(self.0);
        self.0 = record.map_or(&[], |(_, _, rest)| rest);
        Some(match record {
            Some((key, value, _)) => Ok((key, value)),
            None => Err("malformed record in an extended header".into()),
        })
    }
}

fn split(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().position(|b| *b == b' ')?;
    let len = usize::try_from(decimal(&data[..space])?).ok()?;
    let (record, rest) = data.split_at_checked(len)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|b| *b == b'=')?;
    let (key, value) = (&record[..equals], &record[equals + 1..]);
    (!key.is_empty()).then_some((key, value, rest))
}

/// Reads digits, nothing else, up to `i64::MAX`.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let number = text.iter().try_fold(0_i64, |n, b| match b {
        b'0'..=b'9' => n.checked_mul(10)?.checked_add(i64::from(b - b'0')),
        _ => None,
    })?;
    u64::try_from(number).ok()
}

/// Reads seconds with an optional sign and fraction, rounded down to nanoseconds.
fn time(text: &[u8]) -> Option<Time> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(text) => (true, text),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |b| *b == b'.');
    let whole = parts.next()?;
    let fraction = parts.next().unwrap_or_default();
    if whole.is_empty() || !fraction.iter().chain(whole).all(u8::is_ascii_digit) {
        return None;
    }
    let whole = whole.iter().try_fold(0_i128, |n, b| {
        let n = n * 10 + i128::from(b - b'0');
        (n <= 1 << 64).then_some(n)
    })?;
    let digit = |at: usize| i128::from(fraction.get(at).map_or(0, |b| b - b'0'));
    let mut nanos = whole * 1_000_000_000 + (0..9).fold(0, |n, at| n * 10 + digit(at));
    if negative {
        let more = fraction.iter().skip(9).any(|b| *b != b'0');
        nanos = -nanos - i128::from(more);
    }
    Some(Time {
        seconds: i64::try_from(nanos.div_euclid(1_000_000_000)).ok()?,
        nanos: u32::try_from(nanos.rem_euclid(1_000_000_000)).ok()?,
    })
}

/// Undoes how GNU tar writes `=` and `%` in names of extended attributes.
fn decode_name(name: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&first, tail)) = rest.split_first() {
        let (byte, tail) = match (first, tail) {
            (b'%', [b'3', b'D', tail @ ..]) => (b'=', tail),
            (b'%', [b'2', b'5', tail @ ..]) => (b'%', tail),
            _ => (first, tail),
        };
        decoded.push(byte);
        rest = tail;
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_down() {
        for (text, seconds, nanos) in [
            ("0", 0, 0),
            ("1700000000.5", 1_700_000_000, 500_000_000),
            ("1.000000001999", 1, 1),
            ("-1", -1, 0),
            ("-0.5", -1, 500_000_000),
            ("-1.5", -2, 500_000_000),
            ("-1.0000000001", -2, 999_999_999),
            ("-9223372036854775808", i64::MIN, 0),
            ("7.", 7, 0),
        ] {
            assert_eq!(time(text.as_bytes()), Some(Time::new(seconds, nanos)), "{text}");
        }
        for bad in ["", "-", ".5", "+1", "1e3", "1.5.5", " 1", "9223372036854775808", "--1"] {
            assert_eq!(time(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_malformed_record_is_no_end_of_the_records() {
        for bad in [
            &b"x path=a\n"[..],
            b"path=a\n",
            b"10 path=a\n\0",
            b"8 path=a\n",
            b"99 path=a\n",
            b"+9 path=a\n",
            b"3 \n",
            b"5 =a\n",
            b"0 ",
            b"\0",
        ] {
            let applied = Attributes::default().apply(bad);
            assert!(applied.is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn values_may_hold_anything() {
        let mut attributes = Attributes::default();
        attributes.apply(b"29 SCHILY.xattr.user.a=\n=\0\xff\n\n").expect("well-formed");
        assert_eq!(attributes.xattrs[&b"user.a"[..]], b"\n=\0\xff\n");
        attributes.apply(b"10 path=a\n8 path=\n").expect("well-formed");
        assert_eq!(attributes.path, None);
    }

    #[test]
    fn names_of_attributes_are_decoded_as_gnu_tar_does() {
        assert_eq!(decode_name(b"user.a%3Db%253D%41%"), b"user.a=b%3D%41%");
    }
}
