//! Sizes (`512MiB`) and durations (`3d`).

use std::time::Duration;

use super::super::error::CliError;

/// Reads a size in bytes. `K M G T`, alone or as `KiB MiB GiB TiB`, count in 1024; `kB MB GB TB`
/// count in 1000; case counts for nothing.
pub(crate) fn parse_size(text: &str) -> Result<u64, CliError> {
    let wrong =
        || CliError::usage(format!("`{text}` is no size")).hint("write it as 64MiB, 2GiB or 500MB");
    let (digits, unit) = split_number(text).ok_or_else(wrong)?;
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(wrong()),
    };
    digits.checked_mul(factor).ok_or_else(wrong)
}

/// Reads a duration as [`duration`] does.
///
/// Errors: usage.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, CliError> {
    duration(text).ok_or_else(|| {
        let shown = volume_vault::entry::escape(text.as_bytes());
        CliError::usage(format!("`{shown}` is no duration")).hint("write it as 36h, 30d or 1y")
    })
}

/// Reads a rate in bytes a second: a size, perhaps with `/s` behind it.
pub(crate) fn parse_rate(text: &str) -> Result<u64, CliError> {
    match parse_size(text.strip_suffix("/s").unwrap_or(text)) {
        Ok(rate) if rate > 0 => Ok(rate),
        _ => Err(CliError::usage(format!("`{text}` is no rate")).hint("write it as 2MiB or 500kB")),
    }
}

/// Reads a duration: numbers with `s m h d w y` (365 days), largest first: `90m`, `1d12h`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds: u64 = 0;
    let mut smaller_than = u64::MAX;
    while !rest.is_empty() {
        let (number, after) = split_number(rest)?;
        let unit = after.chars().next()?;
        let factor: u64 = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            'w' => 7 * 86_400,
            'y' => 365 * 86_400,
            _ => return None,
        };
        if factor >= smaller_than {
            return None;
        }
        smaller_than = factor;
        seconds = seconds.checked_add(number.checked_mul(factor)?)?;
        rest = &after[unit.len_utf8()..];
    }
    (smaller_than < u64::MAX).then(|| Duration::from_secs(seconds))
}

fn split_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    Some((digits.parse().ok()?, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("1024", 1024),
            ("7b", 7),
            ("1k", 1 << 10),
            ("512MiB", 512 << 20),
            ("512M", 512 << 20),
            ("512MB", 512_000_000),
            ("2g", 2 << 30),
            ("3TiB", 3 << 40),
        ] {
            assert_eq!(parse_size(text).expect(text), bytes, "{text}");
        }
        for text in ["", "MiB", "-1", "1.5G", "1 G", "1X", "99999999999999999999", "99999999999T"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, seconds) in [
            ("0s", 0),
            ("90m", 5_400),
            ("2h", 7_200),
            ("3d", 259_200),
            ("1d12h", 129_600),
            ("1w", 604_800),
            ("1y", 31_536_000),
        ] {
            assert_eq!(duration(text).expect(text).as_secs(), seconds, "{text}");
        }
        for text in ["", "h", "2", "2x", "12h1d", "1d1d", "1d2", "-1d", "99999999999999999y"] {
            assert!(duration(text).is_none(), "{text}");
        }
    }
}
