//! Figures, times and tables as people read them.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use volume_vault::clock::Time;

/// A size in binary units, three digits at least: `512 B`, `1.50 KiB`, `340 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // Hundredths in whole numbers, so that no rounding shows `1024 KiB` for one more unit.
    let mut unit = 0;
    let mut hundredths = u128::from(bytes) * 100 / 1024;
    while hundredths >= 1024 * 100 && unit + 1 < UNITS.len() {
        hundredths /= 1024;
        unit += 1;
    }
    let (whole, part) = (hundredths / 100, hundredths % 100);
    match whole {
        0..=9 => format!("{whole}.{part:02} {}", UNITS[unit]),
        10..=99 => format!("{whole}.{} {}", part / 10, UNITS[unit]),
        _ => format!("{whole} {}", UNITS[unit]),
    }
}

/// Bytes per second: `12.0 MiB/s`; a dash for no time at all.
pub(crate) fn rate(bytes: u64, time: Duration) -> String {
    match u64::try_from(u128::from(bytes) * 1_000_000 / time.as_micros().max(1)) {
        Ok(rate) if !time.is_zero() => format!("{}/s", size(rate)),
        _ => "-".to_owned(),
    }
}

/// A count with a thin grouping people can read: `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time of day in the zone, which is named: `2026-11-20 13:05:09 CET`.
pub(crate) fn time(time: Time, zone: &TimeZone) -> String {
    let nanos = i32::try_from(time.nanos).unwrap_or(0);
    match Timestamp::new(time.seconds, nanos) {
        Ok(stamp) => stamp.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string(),
        Err(_) => format!("{} s since 1970", time.seconds),
    }
}

/// How long something took or is ago, in its two largest units: `850 ms`, `3.2 s`, `2m 05s`,
/// `3d 04h`.
pub(crate) fn short_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..=59 => format!("{seconds}.{} s", duration.subsec_millis() / 100),
        60..=3_599 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3_600..=86_399 => format!("{}h {:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// To which side a column's cells are pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    /// Texts.
    Left,
    /// Figures.
    Right,
}

/// Rows under headings, columns aligned. Cells must be escaped by whoever fills them in.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these headings.
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; missing cells stay empty.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().take(self.columns.len()).collect());
    }

    /// The lines, headings first, without spaces at their ends.
    pub(crate) fn lines(&self) -> Vec<String> {
        let cell = |row: &[String], at: usize| row.get(at).cloned().unwrap_or_default();
        let headings: Vec<String> =
            self.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        let rows = || std::iter::once(&headings).chain(&self.rows);
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|at| rows().map(|row| cell(row, at).chars().count()).max().unwrap_or(0))
            .collect();
        let line = |row: &Vec<String>| {
            let cells: Vec<String> = self
                .columns
                .iter()
                .zip(&widths)
                .enumerate()
                .map(|(at, ((_, align), width))| match align {
                    Align::Left => format!("{:<width$}", cell(row, at)),
                    Align::Right => format!("{:>width$}", cell(row, at)),
                })
                .collect();
            cells.join("  ").trim_end().to_owned()
        };
        rows().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary_and_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (1536, "1.50 KiB"),
            (10 << 10, "10.0 KiB"),
            ((1 << 20) - 1, "1023 KiB"),
            (1 << 20, "1.00 MiB"),
            (340 << 20, "340 MiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn rates_counts_and_durations() {
        assert_eq!(rate(24 << 20, Duration::from_secs(2)), "12.0 MiB/s");
        assert_eq!(rate(1, Duration::ZERO), "-");
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        for (millis, text) in [
            (850, "850 ms"),
            (3_250, "3.2 s"),
            (125_000, "2m 05s"),
            (3_660_000, "1h 01m"),
            (273_600_000, "3d 04h"),
        ] {
            assert_eq!(short_duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn times_name_their_zone() {
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a zone");
        assert_eq!(time(Time::new(1_795_176_309, 5), &berlin), "2026-11-20 13:05:09 CET");
        assert_eq!(time(Time::new(i64::MAX, 0), &berlin), format!("{} s since 1970", i64::MAX));
    }

    #[test]
    fn columns_are_aligned_by_characters() {
        let mut table =
            Table::new(&[("ID", Align::Left), ("SIZE", Align::Right), ("X", Align::Left)]);
        table.row(["grün".to_owned(), "1 B".to_owned(), "y".to_owned()]);
        table.row(["a".to_owned(), "1000 B".to_owned()]);
        assert_eq!(table.lines(), ["ID      SIZE  X", "grün     1 B  y", "a     1000 B"]);
    }
}
