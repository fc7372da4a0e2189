//! Which snapshots of a series a retention policy keeps, and by which rule.
//!
//! Rules only ever add to what is kept. None of them asks what time it is: a series that nobody
//! adds to any more loses nothing by getting old.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::clock::Time;

/// How many snapshots of a series are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// The newest so many.
    pub last: u32,
    /// The newest of each of the latest so many hours that have one.
    pub hourly: u32,
    /// The same of days.
    pub daily: u32,
    /// The same of weeks, which begin on Monday.
    pub weekly: u32,
    /// The same of months.
    pub monthly: u32,
    /// The same of years.
    pub yearly: u32,
    /// All that are not older than the newest by more than this.
    pub within: Option<Duration>,
    /// All that carry one of these tags.
    pub tags: Vec<String>,
}

/// Why a policy keeps a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// It is the how manieth of the newest, from 1.
    Last(u32),
    /// It is the newest of an hour, such as `2026-11-20T13+01`.
    Hourly(String),
    /// It is the newest of a day, such as `2026-11-20`.
    Daily(String),
    /// It is the newest of a week, such as `2026-W47`.
    Weekly(String),
    /// It is the newest of a month, such as `2026-11`.
    Monthly(String),
    /// It is the newest of a year, such as `2026`.
    Yearly(String),
    /// It is new enough.
    Within,
    /// It carries this tag.
    Tag(String),
}

/// What a policy looks at.
#[derive(Debug, Clone, Copy)]
pub struct Dated<'s> {
    /// When it was stored, by the store's clock.
    pub stored: Time,
    /// Its tags.
    pub tags: &'s [String],
}

impl Policy {
    /// Whether it has no rule that could keep anything.
    #[must_use]
    pub fn keeps_nothing(&self) -> bool {
        let counts = [self.last, self.hourly, self.daily, self.weekly, self.monthly, self.yearly];
        counts.iter().all(|count| *count == 0)
            && self.within.is_none_or(|within| within.is_zero())
            && self.tags.is_empty()
    }

    /// The rules that keep each snapshot of one series; none for those that go.
    ///
    /// `newest_first` must be in that order. Hours, days and so on are those of `zone`.
    #[must_use]
    pub fn apply(&self, newest_first: &[Dated<'_>], zone: &TimeZone) -> Vec<Vec<Rule>> {
        let mut periods = [
            Period::new(self.hourly, hour, Rule::Hourly),
            Period::new(self.daily, day, Rule::Daily),
            Period::new(self.weekly, week, Rule::Weekly),
            Period::new(self.monthly, month, Rule::Monthly),
            Period::new(self.yearly, year, Rule::Yearly),
        ];
        let newest = newest_first.first().map_or(Time::default(), |dated| dated.stored);
        let mut place = 0u32;
        let judge = |dated: &Dated<'_>| {
            let mut rules = Vec::new();
            place = place.saturating_add(1);
            if place <= self.last {
                rules.push(Rule::Last(place));
            }
            let zoned = timestamp(dated.stored).to_zoned(zone.clone());
            rules.extend(periods.iter_mut().filter_map(|period| period.take(&zoned)));
            if self.within.is_some_and(|within| is_within(dated.stored, newest, within)) {
                rules.push(Rule::Within);
            }
            let tag = self.tags.iter().find(|tag| dated.tags.contains(tag));
            rules.extend(tag.cloned().map(Rule::Tag));
            rules
        };
        newest_first.iter().map(judge).collect()
    }
}

/// One rule over a calendar: the newest of each of the latest so many periods.
struct Period {
    left: u32,
    name: fn(&Zoned) -> String,
    rule: fn(String) -> Rule,
    last: Option<String>,
}

impl Period {
    fn new(left: u32, name: fn(&Zoned) -> String, rule: fn(String) -> Rule) -> Self {
        Self { left, name, rule, last: None }
    }

    /// The rule, if the next snapshot is the first one seen of its period and not too many were
    /// seen before.
    fn take(&mut self, zoned: &Zoned) -> Option<Rule> {
        if self.left == 0 {
            return None;
        }
        let name = (self.name)(zoned);
        if self.last.as_ref() == Some(&name) {
            return None;
        }
        self.left -= 1;
        self.last = Some(name.clone());
        Some((self.rule)(name))
    }
}

/// With the offset: the hour that comes twice when clocks are set back is two hours.
fn hour(at: &Zoned) -> String {
    format!("{}T{:02}{}", at.date(), at.hour(), at.offset())
}

fn day(at: &Zoned) -> String {
    at.date().to_string()
}

fn week(at: &Zoned) -> String {
    let week = at.date().iso_week_date();
    format!("{}-W{:02}", week.year(), week.week())
}

fn month(at: &Zoned) -> String {
    format!("{}-{:02}", at.year(), at.month())
}

fn year(at: &Zoned) -> String {
    at.year().to_string()
}

/// A time the calendar knows; one beyond it counts as its end.
fn timestamp(time: Time) -> Timestamp {
    let nanos = i32::try_from(time.nanos).unwrap_or(0);
    Timestamp::new(time.seconds, nanos).unwrap_or(match time.seconds < 0 {
        true => Timestamp::MIN,
        false => Timestamp::MAX,
    })
}

fn is_within(time: Time, newest: Time, within: Duration) -> bool {
    let nanos = |time: Time| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    let age = nanos(newest) - nanos(time);
    age <= i128::try_from(within.as_nanos()).unwrap_or(i128::MAX)
}
