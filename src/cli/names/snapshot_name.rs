//! SNAPSHOT: an id prefix, `latest`, or `[HOST/]SOURCE[@TIME]`, each with an optional `:ITEM`.
//!
//! A word of hex digits may be an id as well as a volume's name (Docker names anonymous volumes
//! so). It is kept as both; only who knows what exists can decide, or find it ambiguous.

use std::ffi::OsStr;
use std::fmt;
use std::path::Path;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use volume_vault::clock::Time;

use super::super::error::CliError;
use super::quantity::duration;
use super::source_name::{SourceName, kind_prefix, looks_like_path};

/// Shortest and longest prefix of an id, in hex digits.
const ID_DIGITS: std::ops::RangeInclusive<usize> = 4..=64;

/// Which snapshot of the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Selector {
    /// `latest`: the newest of all.
    Latest,
    /// The newest of a series.
    Series {
        /// The host; none for the current one, or the only one that has such a series.
        host: Option<String>,
        /// The source the series is of.
        source: SourceName,
        /// The same word as the prefix of an id, if it could be one.
        id_prefix: Option<String>,
    },
}

/// A snapshot as it was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SnapshotName {
    /// Which one.
    pub(crate) selector: Selector,
    /// Not later than this.
    pub(crate) not_after: Option<Time>,
    /// The item inside it.
    pub(crate) item: Option<String>,
}

/// `SNAPSHOT:PATH`, as `cp` takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SnapshotPath {
    /// The snapshot, perhaps with an item.
    pub(crate) snapshot: SnapshotName,
    /// The path inside the item.
    pub(crate) path: String,
}

impl SnapshotName {
    /// Reads a name. `now` and `zone` give relative times and bare dates their meaning.
    ///
    /// Errors: usage.
    pub(crate) fn parse(text: &str, now: Time, zone: &TimeZone) -> Result<Self, CliError> {
        let (host, rest) = split_host(text);
        // The kind's colon does not start an item.
        let kind_len = kind_prefix(rest).map_or(0, |kind| kind.len() + 1);
        let is_path = rest.starts_with("dir:") || looks_like_path(OsStr::new(rest));
        let split = split_time_and_item(&rest[kind_len..], is_path, now, zone)?;
        let (name, not_after, item) = (split.name, split.not_after, split.item);
        let name = &rest[..kind_len + name.len()];
        if item.is_some_and(str::is_empty) {
            return Err(CliError::usage(format!("`{text}` ends in `:` but names no item")));
        }
        let item = item.map(str::to_owned);
        let selector = match (host, name) {
            (None, "latest") => Selector::Latest,
            (host, name) => series(host, name, not_after.is_some())?,
        };
        Ok(Self { selector, not_after, item })
    }

    /// The same name with a directory's path made absolute from `base`.
    ///
    /// Errors: not found.
    pub(crate) fn absolute_in(self, base: &Path) -> Result<Self, CliError> {
        let selector = match self.selector {
            Selector::Latest => Selector::Latest,
            Selector::Series { host, source, id_prefix } => {
                Selector::Series { host, source: source.absolute_in(base)?, id_prefix }
            }
        };
        Ok(Self { selector, ..self })
    }
}

impl SnapshotPath {
    /// Reads `SNAPSHOT[:ITEM]:PATH`: the path begins at the first `:/`, and where there is none,
    /// at the first colon that belongs to nothing else.
    ///
    /// Errors: usage.
    pub(crate) fn parse(text: &str, now: Time, zone: &TimeZone) -> Result<Self, CliError> {
        let missing =
            || CliError::usage(format!("`{text}` names no path")).hint("write it as SNAPSHOT:PATH");
        let (_, rest) = split_host(text);
        let start = text.len() - rest.len() + kind_prefix(rest).map_or(0, |kind| kind.len() + 1);
        let tail = &text[start..];
        if let Some(at) = tail.find(":/") {
            let snapshot = SnapshotName::parse(&text[..start + at], now, zone)?;
            return Ok(Self { snapshot, path: tail[at + 1..].to_owned() });
        }
        let whole = SnapshotName::parse(text, now, zone)?;
        match whole.item {
            Some(path) => Ok(Self { snapshot: SnapshotName { item: None, ..whole }, path }),
            None => Err(missing()),
        }
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.selector {
            Selector::Latest => f.write_str("latest")?,
            Selector::Series { host, source, .. } => {
                if let Some(host) = host {
                    write!(f, "{host}/")?;
                }
                write!(f, "{source}")?;
            }
        }
        match &self.item {
            Some(item) => write!(f, ":{}", volume_vault::entry::escape(item.as_bytes())),
            None => Ok(()),
        }
    }
}

fn series(host: Option<&str>, name: &str, timed: bool) -> Result<Selector, CliError> {
    let is_id = host.is_none()
        && !timed
        && ID_DIGITS.contains(&name.len())
        && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if host == Some("") {
        return Err(CliError::usage(format!("`/{name}` names no host")));
    }
    // Every id prefix has the form of a volume's name, so none is refused here.
    let source = SourceName::parse(OsStr::new(name))?;
    let id_prefix = is_id.then(|| name.to_owned());
    Ok(Selector::Series { host: host.map(str::to_owned), source, id_prefix })
}

/// `HOST/…`: the part before the first slash, unless the text is a path or starts with a kind, or
/// a `:` or `@` comes before the slash.
fn split_host(text: &str) -> (Option<&str>, &str) {
    if looks_like_path(OsStr::new(text)) || kind_prefix(text).is_some() {
        return (None, text);
    }
    match text.find(['/', ':', '@']) {
        Some(at) if text.as_bytes()[at] == b'/' => (Some(&text[..at]), &text[at + 1..]),
        _ => (None, text),
    }
}

struct Split<'a> {
    name: &'a str,
    not_after: Option<Time>,
    item: Option<&'a str>,
}

/// Splits `NAME[@TIME][:ITEM]`. A time holds colons too, so the longest text that is a time counts
/// as one. Paths may hold `@` and `:` themselves: there `@` counts only before a time, and an item
/// can only follow a time.
fn split_time_and_item<'a>(
    text: &'a str,
    is_path: bool,
    now: Time,
    zone: &TimeZone,
) -> Result<Split<'a>, CliError> {
    let at = if is_path { text.rfind('@') } else { text.find('@') };
    let colon = text.find(':');
    let at = at.filter(|at| is_path || colon.is_none_or(|colon| *at < colon));
    if let Some(at) = at {
        let after = &text[at + 1..];
        let colons = after.rmatch_indices(':').map(|(end, _)| end);
        for end in std::iter::once(after.len()).chain(colons) {
            if let Some(time) = parse_time(&after[..end], now, zone) {
                let item = after.get(end + 1..);
                return Ok(Split { name: &text[..at], not_after: Some(time), item });
            }
        }
        if !is_path {
            return Err(CliError::usage(format!(
                "`{}` is no time",
                volume_vault::entry::escape(after.as_bytes())
            ))
            .hint("write 2026-11-19, 2026-11-19T08:30 or how long ago: 2h, 3d"));
        }
    }
    match text.split_once(':') {
        Some((name, item)) if !is_path => Ok(Split { name, not_after: None, item: Some(item) }),
        _ => Ok(Split { name: text, not_after: None, item: None }),
    }
}

/// A date (meaning its end), a date with a time of day, with or without an offset, or how long ago.
fn parse_time(text: &str, now: Time, zone: &TimeZone) -> Option<Time> {
    if let Some(ago) = duration(text) {
        let seconds = now.seconds.checked_sub(i64::try_from(ago.as_secs()).ok()?)?;
        return Some(Time::new(seconds, now.nanos));
    }
    // jiff reads more than is documented here (weeks, days of the year); the shape is checked.
    let day = text.get(..10)?;
    let dashed = day.bytes().enumerate().all(|(at, b)| match at {
        4 | 7 => b == b'-',
        _ => b.is_ascii_digit(),
    });
    if !dashed {
        return None;
    }
    let stamp = match &text[10..] {
        "" => end_of(day.parse().ok()?, zone)?,
        rest if !rest.starts_with(['T', 't', ' ']) || !rest.contains(':') => return None,
        _ => match text.parse::<Timestamp>() {
            Ok(stamp) => stamp,
            Err(_) => text.parse::<DateTime>().ok()?.to_zoned(zone.clone()).ok()?.timestamp(),
        },
    };
    let nanos = stamp.as_nanosecond();
    let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).ok()?;
    Some(Time::new(seconds, u32::try_from(nanos.rem_euclid(1_000_000_000)).ok()?))
}

fn end_of(day: Date, zone: &TimeZone) -> Option<Timestamp> {
    let last = day.at(23, 59, 59, 999_999_999);
    Some(last.to_zoned(zone.clone()).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-20T12:00:00Z.
    const NOW: Time = Time::new(1_795_176_000, 0);
    const DAY: i64 = 86_400;

    fn parse(text: &str) -> Result<SnapshotName, CliError> {
        SnapshotName::parse(text, NOW, &TimeZone::UTC)
    }

    /// The parts as text: host, source, id prefix, seconds before now, item.
    fn parts(text: &str) -> String {
        let name = parse(text).expect(text);
        let ago = name.not_after.map_or("-".to_owned(), |t| (NOW.seconds - t.seconds).to_string());
        let item = name.item.unwrap_or("-".to_owned());
        match name.selector {
            Selector::Latest => format!("latest {ago} {item}"),
            Selector::Series { host, source, id_prefix } => format!(
                "{} {}={source} {} {ago} {item}",
                host.unwrap_or("-".to_owned()),
                source.kind(),
                id_prefix.unwrap_or("-".to_owned())
            ),
        }
    }

    #[test]
    fn names_that_are_snapshots() {
        for (text, expected) in [
            ("latest", "latest - -"),
            ("latest:db", "latest - db"),
            ("my-data", "- volume=my-data - - -"),
            ("my-data:db", "- volume=my-data - - db"),
            ("volume:my-data", "- volume=my-data - - -"),
            ("volume:my-data:db", "- volume=my-data - - db"),
            ("volume:latest", "- volume=latest - - -"),
            ("host1/my-data", "host1 volume=my-data - - -"),
            ("host1/latest", "host1 volume=latest - - -"),
            ("host1/volume:my-data@2h", "host1 volume=my-data - 7200 -"),
            ("my-data@2h", "- volume=my-data - 7200 -"),
            ("my-data@1d12h:db", "- volume=my-data - 129600 db"),
            ("my-data@2026-11-20T11:00Z", "- volume=my-data - 3600 -"),
            ("my-data@2026-11-20T11:00", "- volume=my-data - 3600 -"),
            ("my-data@2026-11-20 11:00:30", "- volume=my-data - 3570 -"),
            ("my-data@2026-11-20T11:00:db", "- volume=my-data - 3600 db"),
            ("my-data@2026-11-20T13:00+02:00", "- volume=my-data - 3600 -"),
            ("stdin:dump.sql@3d", "- stdin=stdin:dump.sql - 259200 -"),
            ("dir:/srv/www", "- dir=/srv/www - - -"),
            ("/srv/www@2h", "- dir=/srv/www - 7200 -"),
            ("/srv/www@2h:x", "- dir=/srv/www - 7200 x"),
            ("host1//srv/www", "host1 dir=/srv/www - - -"),
            ("host1/dir:/srv/www", "host1 dir=/srv/www - - -"),
        ] {
            assert_eq!(parts(text), expected, "{text}");
        }
    }

    #[test]
    fn ambiguous_words_keep_both_meanings() {
        let full = "ab".repeat(32);
        for (text, expected) in [
            ("cafe".to_owned(), "- volume=cafe cafe - -".to_owned()),
            ("1a2b3c4d:db".to_owned(), "- volume=1a2b3c4d 1a2b3c4d - db".to_owned()),
            (full.clone(), format!("- volume={full} {full} - -")),
            // Too short, too long, upper case, with host or time: no id.
            ("abc".to_owned(), "- volume=abc - - -".to_owned()),
            ("a".repeat(65), format!("- volume={} - - -", "a".repeat(65))),
            ("CAFE".to_owned(), "- volume=CAFE - - -".to_owned()),
            ("h/cafe".to_owned(), "h volume=cafe - - -".to_owned()),
            ("cafe@2h".to_owned(), "- volume=cafe - 7200 -".to_owned()),
            ("volume:cafe".to_owned(), "- volume=cafe - - -".to_owned()),
            // Seconds win over an item called 30; a path keeps `@` and `:` that start nothing.
            ("x@2026-11-20T11:00:30".to_owned(), "- volume=x - 3570 -".to_owned()),
            ("/srv/a@b:c".to_owned(), "- dir=/srv/a@b:c - - -".to_owned()),
            ("/srv/me@home@2h".to_owned(), "- dir=/srv/me@home - 7200 -".to_owned()),
        ] {
            assert_eq!(parts(&text), expected, "{text}");
        }
    }

    #[test]
    fn a_bare_date_means_its_end() {
        let day = parse("x@2026-11-19").expect("a date").not_after.expect("a time");
        let midnight = NOW.seconds - NOW.seconds.rem_euclid(DAY);
        assert_eq!(day, Time::new(midnight - 1, 999_999_999));
    }

    #[test]
    fn names_that_are_none() {
        for text in [
            "",
            "latest:",
            "my-data:",
            "my-data@",
            "my-data@x",
            "my-data@2026-13-01",
            "a/b/c",
            "my-data@2026-11-20T11",
            "my-data@20261120",
            "my-data@-2h",
            "vol ume",
            "container:web",
            "host/",
            "@2h",
            ":db",
            "my-data@2h:",
        ] {
            assert_eq!(parse(text).expect_err(text).code(), 2, "{text}");
        }
    }

    #[test]
    fn a_path_in_a_snapshot() {
        for (text, snapshot, path) in [
            ("my-data:/etc/x", "my-data", "/etc/x"),
            ("my-data:etc/x", "my-data", "etc/x"),
            ("my-data:/", "my-data", "/"),
            ("shop:db:/var/a:b", "shop:db", "/var/a:b"),
            ("host1/volume:my-data:/x", "host1/my-data", "/x"),
            ("my-data@2026-11-20T11:00:/x", "my-data", "/x"),
            ("dir:/srv/www:/x", "/srv/www", "/x"),
            ("/srv/www:/x", "/srv/www", "/x"),
            ("cafe1234:/x", "cafe1234", "/x"),
        ] {
            let parsed = SnapshotPath::parse(text, NOW, &TimeZone::UTC).expect(text);
            assert_eq!(
                (parsed.snapshot.to_string().as_str(), parsed.path.as_str()),
                (snapshot, path)
            );
        }
        for text in ["my-data", "my-data@2h", "/srv/www", "my-data:"] {
            assert!(SnapshotPath::parse(text, NOW, &TimeZone::UTC).is_err(), "{text}");
        }
    }
}
