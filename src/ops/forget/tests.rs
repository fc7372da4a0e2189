//! Policies on made-up times, as properties.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};
use proptest::{prop_assert, prop_assert_eq};

use super::plan::judge;
use super::{Dated, ForgetOptions, Kept, Policy, Row, Rule, Selection, SeriesFilter, Verdict};
use crate::clock::Time;
use crate::format::ItemKind;
use crate::id::SnapshotId;
use crate::ops::series::Series;

/// Clocks go forward on 2026-03-29 and back on 2026-10-25.
fn berlin() -> TimeZone {
    TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a zone")
}

fn at(text: &str) -> Time {
    let stamp: Timestamp = text.parse().expect("a time");
    Time::new(stamp.as_second(), 0)
}

fn series(name: &str) -> Series {
    Series { host: "h".to_owned(), kind: ItemKind::Volume, name: name.to_owned() }
}

fn row(number: usize, stored: Time, tags: &[&str], is_good: bool) -> Row {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&(number as u64).to_le_bytes());
    Row {
        id: SnapshotId::new(id),
        stored,
        made: Time::default(),
        series: vec![series("a")],
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        is_good,
        verdict: Verdict::Keep(Vec::new()),
    }
}

fn options(zone: TimeZone) -> ForgetOptions {
    let selection = Selection::Named(BTreeSet::new());
    ForgetOptions { selection, drilled: BTreeSet::new(), zone }
}

fn judged(rows: &[Row], policy: &Policy) -> Vec<Row> {
    judge(rows.to_vec(), &SeriesFilter::default(), policy, &options(berlin()))
}

fn kept(rows: &[Row]) -> BTreeSet<SnapshotId> {
    rows.iter().filter(|row| row.verdict.keeps()).map(|row| row.id).collect()
}

/// What each snapshot is kept for by the policy alone, of these times with the newest first.
fn rules(times: &[Time], policy: &Policy) -> Vec<Vec<Rule>> {
    let dated: Vec<_> = times.iter().map(|stored| Dated { stored: *stored, tags: &[] }).collect();
    policy.apply(&dated, &berlin())
}

/// Times over four years, many of them close together.
fn times() -> impl Strategy<Value = Vec<i64>> {
    let far = 1_700_000_000i64..1_830_000_000;
    let near = 1_792_890_000i64..1_793_000_000;
    prop::collection::vec(prop_oneof![far, near], 0..60)
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let one = (any::<bool>(), any::<bool>());
    (times(), prop::collection::vec(one, 60)).prop_map(|(times, more)| {
        let rows = times.iter().zip(more).enumerate();
        let row = |(number, (seconds, (good, tagged))): (usize, (&i64, _))| {
            let tags: &[&str] = if tagged { &["t"] } else { &[] };
            row(number, Time::new(*seconds, 0), tags, good)
        };
        rows.map(row).collect()
    })
}

fn policies() -> impl Strategy<Value = Policy> {
    let figure = || 0u32..5;
    let figures = (figure(), figure(), figure(), figure(), figure(), figure());
    let within = prop_oneof![Just(None), (1u64..40_000_000).prop_map(Some)];
    (figures, within, any::<bool>()).prop_map(|(figures, within, tagged)| {
        let (last, hourly, daily, weekly, monthly, yearly) = figures;
        let within = within.map(Duration::from_secs);
        let tags = if tagged { vec!["t".to_owned()] } else { Vec::new() };
        Policy { last, hourly, daily, weekly, monthly, yearly, within, tags }
    })
}

proptest! {
    #[test]
    fn keep_last_keeps_so_many_or_all(times in times(), last in 0u32..70) {
        let mut times: Vec<_> = times.into_iter().map(|seconds| Time::new(seconds, 0)).collect();
        times.sort_by_key(|time| std::cmp::Reverse(*time));
        let policy = Policy { last, ..Policy::default() };
        let rules = rules(&times, &policy);
        let kept = rules.iter().take_while(|rules| !rules.is_empty()).count();
        prop_assert_eq!(kept, times.len().min(last as usize));
        prop_assert!(rules[kept..].iter().all(Vec::is_empty), "the newest are kept");
    }

    #[test]
    fn a_policy_that_asks_for_more_keeps_no_less(
        rows in rows(),
        policy in policies(),
        more in policies(),
    ) {
        let sum = Policy {
            last: policy.last + more.last,
            hourly: policy.hourly + more.hourly,
            daily: policy.daily + more.daily,
            weekly: policy.weekly + more.weekly,
            monthly: policy.monthly + more.monthly,
            yearly: policy.yearly + more.yearly,
            within: policy.within.max(more.within),
            tags: policy.tags.iter().chain(&more.tags).cloned().collect(),
        };
        prop_assert!(kept(&judged(&rows, &policy)).is_subset(&kept(&judged(&rows, &sum))));
    }

    #[test]
    fn what_a_policy_kept_it_keeps_again(rows in rows(), policy in policies()) {
        let first = judged(&rows, &policy);
        let left: Vec<_> = first.iter().filter(|row| row.verdict.keeps()).cloned().collect();
        prop_assert_eq!(kept(&first), kept(&judged(&left, &policy)));
    }

    #[test]
    fn the_order_in_which_snapshots_come_is_of_no_account(rows in rows(), policy in policies()) {
        let reversed: Vec<_> = rows.iter().rev().cloned().collect();
        prop_assert_eq!(judged(&rows, &policy), judged(&reversed, &policy));
    }

    #[test]
    fn the_last_good_one_is_always_kept(rows in rows(), policy in policies()) {
        let kept = kept(&judged(&rows, &policy));
        let newest = |rows: &mut dyn Iterator<Item = &Row>| {
            rows.max_by_key(|row| (row.stored, row.id)).map(|row| row.id)
        };
        let good = newest(&mut rows.iter().filter(|row| row.is_good));
        if let Some(last) = good.or_else(|| newest(&mut rows.iter())) {
            prop_assert!(kept.contains(&last));
        }
    }

    #[test]
    fn no_time_at_all_makes_it_fail(
        times in prop::collection::vec((any::<i64>(), any::<u32>()), 0..20),
        policy in policies(),
    ) {
        let time = |(number, (seconds, nanos)): (usize, (i64, u32))| {
            row(number, Time::new(seconds, nanos), &[], true)
        };
        let rows: Vec<_> = times.into_iter().enumerate().map(time).collect();
        prop_assert_eq!(kept(&judged(&rows, &policy)).is_empty(), rows.is_empty());
    }
}

/// Every so many seconds from `first` to `last`, newest first.
fn every(seconds: i64, first: &str, last: &str) -> Vec<Time> {
    let (first, last) = (at(first).seconds, at(last).seconds);
    let steps = 0..=(last - first) / seconds;
    steps.rev().map(|step| Time::new(first + step * seconds, 0)).collect()
}

#[test]
fn f126_days_are_those_of_the_zone_also_when_they_have_23_or_25_hours() {
    for (first, last, days) in [
        ("2026-03-27T23:00:00Z", "2026-03-30T21:30:00Z", ["28", "29", "30"]),
        ("2026-10-23T22:00:00Z", "2026-10-26T22:30:00Z", ["24", "25", "26"]),
    ] {
        let times = every(1800, first, last);
        let policy = Policy { daily: 10, ..Policy::default() };
        let rules = rules(&times, &policy);
        let kept: Vec<_> = times.iter().zip(&rules).filter(|(_, r)| !r.is_empty()).collect();
        assert_eq!(kept.len(), 3, "{kept:?}");
        for ((time, rules), day) in kept.into_iter().zip(days.iter().rev()) {
            let zoned = Timestamp::new(time.seconds, 0).expect("a time").to_zoned(berlin());
            assert_eq!((zoned.hour(), zoned.minute()), (23, 30), "the last of its day");
            let [Rule::Daily(name)] = &rules[..] else { panic!("{rules:?}") };
            assert!(name.ends_with(day), "{name} is not the {day}th");
        }
    }
}

#[test]
fn f126_the_hour_that_comes_twice_is_two_and_the_one_left_out_is_none() {
    let policy = Policy { hourly: 100, ..Policy::default() };
    let hours = |first, last| {
        let times = every(600, first, last);
        rules(&times, &policy).into_iter().filter(|rules| !rules.is_empty()).count()
    };
    // From 00:00 to 05:50 by the clock on the wall.
    assert_eq!(hours("2026-10-24T22:00:00Z", "2026-10-25T04:50:00Z"), 7);
    assert_eq!(hours("2026-03-28T23:00:00Z", "2026-03-29T03:50:00Z"), 5);
    let named = rules(&[at("2026-10-25T01:30:00Z"), at("2026-10-25T00:30:00Z")], &policy);
    let name = |at: usize| match &named[at][..] {
        [Rule::Hourly(name)] => name.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!((&*name(0), &*name(1)), ("2026-10-25T02+01", "2026-10-25T02+02"));
}

#[test]
fn f126_weeks_begin_on_monday_and_belong_to_the_year_of_their_thursday() {
    let policy = Policy { weekly: 10, ..Policy::default() };
    let times = ["2027-01-04T12:00:00Z", "2027-01-03T12:00:00Z", "2026-12-28T12:00:00Z"].map(at);
    let rules = rules(&times, &policy);
    assert_eq!(rules[0], [Rule::Weekly("2027-W01".to_owned())]);
    assert_eq!(rules[1], [Rule::Weekly("2026-W53".to_owned())]);
    assert_eq!(rules[2], [], "the same week");
}

#[test]
fn f126_times_beyond_2038_and_at_the_end_of_the_calendar_are_judged() {
    let policy = Policy { yearly: 10, ..Policy::default() };
    let times = [Time::new(i64::MAX, 0), at("9999-12-01T00:00:00Z"), at("2039-01-01T00:00:00Z")];
    let names: Vec<_> = rules(&times, &policy).concat();
    let year = |year: &str| Rule::Yearly(year.to_owned());
    // A time that no calendar holds counts as its end, which is in the same year.
    assert_eq!(names, [year("9999"), year("2039")]);
}

#[test]
fn periods_without_a_snapshot_do_not_count() {
    let policy = Policy { daily: 2, monthly: 2, ..Policy::default() };
    let times = ["2026-11-20T12:00:00Z", "2026-11-20T11:00:00Z", "2026-08-01T12:00:00Z"].map(at);
    let kept: Vec<_> = rules(&times, &policy).iter().map(Vec::len).collect();
    assert_eq!(kept, [2, 0, 2]);
}

#[test]
fn within_counts_back_from_the_newest_and_not_from_now() {
    let policy = Policy { within: Some(Duration::from_secs(3600)), ..Policy::default() };
    let times = ["2001-01-01T12:00:00Z", "2001-01-01T11:00:00Z", "2001-01-01T10:59:59Z"].map(at);
    let kept: Vec<_> = rules(&times, &policy).iter().map(Vec::len).collect();
    assert_eq!(kept, [1, 1, 0]);
}

#[test]
fn a_policy_for_a_tag_leaves_others_alone_and_keeps_the_last_good_of_all() {
    let rows = [
        row(1, Time::new(1, 0), &["t"], true),
        row(2, Time::new(2, 0), &["t"], true),
        row(3, Time::new(3, 0), &["t"], false),
        row(4, Time::new(4, 0), &[], false),
    ];
    let filter = SeriesFilter { tags: vec!["t".to_owned()], ..SeriesFilter::default() };
    let policy = Policy { last: 1, ..Policy::default() };
    let rows = judge(rows.to_vec(), &filter, &policy, &options(TimeZone::UTC));
    let verdicts: Vec<_> = rows.into_iter().map(|row| row.verdict).collect();
    let expected = [
        Verdict::Keep(vec![Kept::OtherTags]),
        Verdict::Keep(vec![Kept::Rule(Rule::Last(1))]),
        Verdict::Keep(vec![Kept::LastGood]),
        Verdict::GoUnkept,
    ];
    assert_eq!(verdicts, expected);
}

#[test]
fn the_last_drilled_one_is_kept() {
    let rows: Vec<_> = (1..5).map(|n| row(n, Time::new(n as i64, 0), &[], true)).collect();
    let drilled = rows[..2].iter().map(|row| row.id).collect();
    let options = ForgetOptions { drilled, ..options(TimeZone::UTC) };
    let policy = Policy { last: 1, ..Policy::default() };
    let judged = judge(rows.clone(), &SeriesFilter::default(), &policy, &options);
    assert_eq!(kept(&judged), BTreeSet::from([rows[1].id, rows[3].id]));
    assert_eq!(judged[2].verdict, Verdict::Keep(vec![Kept::LastDrilled]));
}

#[test]
fn series_are_judged_on_their_own_and_others_not_at_all() {
    let with = |name: &str, row: Row| Row { series: vec![series(name)], ..row };
    let rows: Vec<_> = (1..9)
        .map(|n| {
            let name = ["a", "b", "c"][n % 3];
            with(name, row(n, Time::new(n as i64, 0), &[], true))
        })
        .collect();
    let sources = ["a", "b"].map(|name| (ItemKind::Volume, name.to_owned())).to_vec();
    let filter = SeriesFilter { sources, ..SeriesFilter::default() };
    let policy = Policy { last: 1, ..Policy::default() };
    let judged = judge(rows, &filter, &policy, &options(TimeZone::UTC));
    assert!(judged.iter().all(|row| row.series != [series("c")]));
    let kept: Vec<_> = judged.iter().filter(|row| row.verdict.keeps()).collect();
    assert_eq!(kept.len(), 2);
    let other = SeriesFilter { host: Some("other".to_owned()), ..SeriesFilter::default() };
    assert!(judge(judged, &other, &policy, &options(TimeZone::UTC)).is_empty());
}

#[test]
fn a_snapshot_of_several_series_goes_only_if_none_of_them_keeps_it() {
    let both = |number: usize| Row {
        series: vec![series("a"), series("b")],
        ..row(number, Time::new(number as i64, 0), &[], true)
    };
    let alone = Row { series: vec![series("a")], ..row(3, Time::new(3, 0), &[], true) };
    let rows = vec![both(1), both(2), alone];
    let policy = Policy { last: 1, ..Policy::default() };
    let judged = judge(rows.clone(), &SeriesFilter::default(), &policy, &options(TimeZone::UTC));
    assert_eq!(kept(&judged), BTreeSet::from([rows[1].id, rows[2].id]));
    // A policy for one of them does not take the other's.
    let sources = vec![(ItemKind::Volume, "a".to_owned())];
    let filter = SeriesFilter { sources, ..SeriesFilter::default() };
    let judged = judge(rows, &filter, &policy, &options(TimeZone::UTC));
    assert!(judged.iter().all(|row| row.verdict.keeps()), "{judged:?}");
}

#[test]
fn a_policy_without_a_rule_keeps_nothing_and_says_so() {
    assert!(Policy::default().keeps_nothing());
    let zero = Policy { within: Some(Duration::ZERO), ..Policy::default() };
    assert!(zero.keeps_nothing());
    assert!(!Policy { yearly: 1, ..Policy::default() }.keeps_nothing());
    assert!(!Policy { tags: vec!["t".to_owned()], ..Policy::default() }.keeps_nothing());
}
