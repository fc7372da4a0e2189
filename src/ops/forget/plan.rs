//! What is about to be forgotten, and why everything else is kept.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;

use super::policy::{Dated, Policy, Rule};
use crate::clock::Time;
use crate::format::{ForgetRecord, ItemKind};
use crate::id::SnapshotId;
use crate::ops::error::OpsError;
use crate::ops::series::Series;
use crate::repo::{Repository, Snapshot, SnapshotList};
use crate::store::ObjectName;

/// Asked first if more of a series than this would go, in percent.
const SHARE_MAX: usize = 30;

/// A store time this far from what the backup's own host said makes both doubtful, in seconds.
const SKEW_MAX: u64 = 2 * 86_400;

/// What is to be forgotten.
#[derive(Debug, Clone)]
pub struct ForgetOptions {
    /// Which snapshots.
    pub selection: Selection,
    /// Snapshots that were drilled: the latest of each series is kept, as its last good one is.
    pub drilled: BTreeSet<SnapshotId>,
    /// Where days and weeks begin and end.
    pub zone: TimeZone,
}

/// Which snapshots are to be forgotten.
#[derive(Debug, Clone)]
pub enum Selection {
    /// Just these, whatever would keep them. Those whose records cannot be read, too.
    Named(BTreeSet<SnapshotId>),
    /// Of these series, what the policy does not keep.
    Series(SeriesFilter, Policy),
}

/// Which series a policy is applied to, and to which of their snapshots.
#[derive(Debug, Clone, Default)]
pub struct SeriesFilter {
    /// Kinds and names; all of them if empty.
    pub sources: Vec<(ItemKind, String)>,
    /// The host; none for all of them.
    pub host: Option<String>,
    /// Only snapshots that carry all of these; others stay as they are.
    pub tags: Vec<String>,
}

impl SeriesFilter {
    fn wants(&self, series: &Series) -> bool {
        let named =
            |(kind, name): &(ItemKind, String)| *kind == series.kind && *name == series.name;
        self.host.as_ref().is_none_or(|host| *host == series.host)
            && (self.sources.is_empty() || self.sources.iter().any(named))
    }
}

/// Why a snapshot is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// The policy keeps it.
    Rule(Rule),
    /// It is the latest of its series in which nothing is missing.
    LastGood,
    /// In every snapshot of its series something is missing; it is the latest.
    LastOfPartial,
    /// It is the latest of its series that was drilled.
    LastDrilled,
    /// The policy is for other tags.
    OtherTags,
    /// It also holds this, which the policy is not for.
    Holds(String),
}

/// What becomes of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It stays, for each of these reasons.
    Keep(Vec<Kept>),
    /// It goes: no rule keeps it.
    GoUnkept,
    /// It goes: it was named.
    GoNamed,
}

impl Verdict {
    /// Whether it stays.
    #[must_use]
    pub fn keeps(&self) -> bool {
        matches!(self, Self::Keep(_))
    }
}

/// A snapshot, as far as a plan is about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The snapshot.
    pub id: SnapshotId,
    /// When it was stored, by the store's clock; of a copy, when it was stored where it was first
    /// made; of what was salvaged, when its backup started. So these take the place of what they
    /// were made of.
    pub stored: Time,
    /// When its backup started, by its host's clock; counts between those stored at one time.
    pub made: Time,
    /// What it belongs to: the series of each of its items.
    pub series: Vec<Series>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Whether nothing is missing in it.
    pub is_good: bool,
    /// What becomes of it.
    pub verdict: Verdict,
}

impl Row {
    /// What newer and older go by.
    fn age(&self) -> (Time, Time, SnapshotId) {
        (self.stored, self.made, self.id)
    }
}

/// How much of a series goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesShare {
    /// The series.
    pub series: Series,
    /// Its snapshots.
    pub total: usize,
    /// Those that go.
    pub going: usize,
    /// Whether nothing that stays is good, and something that goes is.
    pub loses_last_good: bool,
}

impl SeriesShare {
    /// Whether so much goes that somebody should look first.
    #[must_use]
    pub fn is_alarming(&self) -> bool {
        self.going * 100 > self.total * SHARE_MAX
    }
}

/// What is about to be forgotten.
#[derive(Debug)]
pub struct Plan {
    /// Snapshots the plan is about, by series, newest first.
    pub rows: Vec<Row>,
    /// The series of these.
    pub series: Vec<SeriesShare>,
    /// Named snapshots whose records cannot be read: nobody knows what they hold. They go.
    pub blind: Vec<SnapshotId>,
    /// Records that cannot be read and stay: a series may have more than the plan shows.
    pub unreadable: Vec<ObjectName>,
    /// Snapshots that a policy judges though their store times and own times are days apart: the
    /// repository was copied without its times, or a clock was wrong.
    pub doubtful_times: usize,
    tombstones: Vec<ForgetRecord>,
}

impl Plan {
    /// What is to be stored, oldest snapshots first.
    pub(super) fn tombstones(&self) -> &[ForgetRecord] {
        &self.tombstones
    }

    /// Of each series that loses something to a policy, what is relied on to stay: the newest, and
    /// the last good one.
    pub(super) fn relied_on(&self) -> Vec<SnapshotId> {
        let mut relied = BTreeSet::new();
        for share in self.series.iter().filter(|share| share.going > 0) {
            let of_series = self.rows.iter().filter(|row| row.series.contains(&share.series));
            let stays: Vec<&Row> = of_series.filter(|row| row.verdict.keeps()).collect();
            let newest = stays.iter().max_by_key(|row| row.age());
            let good = stays.iter().filter(|row| row.is_good).max_by_key(|row| row.age());
            relied.extend(newest.into_iter().chain(good).map(|row| row.id));
        }
        relied.into_iter().collect()
    }

    /// The snapshots that go.
    pub fn going(&self) -> impl Iterator<Item = SnapshotId> {
        self.tombstones.iter().map(|tombstone| tombstone.snapshot)
    }
}

/// Plans what is to be forgotten of a repository.
///
/// Errors: as [`plan_in`]; those of listing snapshots.
pub fn plan(repo: &Repository, options: &ForgetOptions) -> Result<Plan, OpsError> {
    plan_in(&SnapshotList::load(repo)?, options)
}

/// As [`plan`], of snapshots that were listed before.
///
/// Errors: [`OpsError::Refused`] for a policy that keeps nothing; [`OpsError::NotFound`] for a
/// named snapshot that is not there.
pub fn plan_in(list: &SnapshotList, options: &ForgetOptions) -> Result<Plan, OpsError> {
    let all: Vec<Row> = list.snapshots.iter().map(row).collect();
    let (rows, blind) = match &options.selection {
        Selection::Named(ids) => named(list, all, ids)?,
        Selection::Series(_, policy) if policy.keeps_nothing() => {
            return Err(OpsError::Refused("the policy keeps nothing".to_owned()));
        }
        Selection::Series(filter, policy) => (judge(all, filter, policy, options), Vec::new()),
    };
    let going: BTreeSet<SnapshotId> =
        rows.iter().filter(|row| !row.verdict.keeps()).map(|row| row.id).collect();
    let mut leaving: Vec<&Snapshot> =
        list.snapshots.iter().filter(|snapshot| going.contains(&snapshot.id)).collect();
    leaving.sort_by_key(|snapshot| (snapshot.stored, snapshot.time(), snapshot.id));
    let unreadable = list.damaged.iter().map(|(name, _)| name);
    let stays = |name: &&ObjectName| !blind.iter().any(|id| is_of(name, id));
    Ok(Plan {
        series: shares(list, &rows, &going),
        unreadable: unreadable.filter(stays).cloned().collect(),
        doubtful_times: match &options.selection {
            Selection::Named(_) => 0,
            Selection::Series(..) => doubtful_times(list, &rows),
        },
        tombstones: leaving
            .into_iter()
            .map(|snapshot| list.tombstone_of(snapshot))
            .chain(blind.iter().map(|id| list.tombstone_of_unreadable(id)))
            .collect(),
        rows,
        blind,
    })
}

/// Whether an object is the record, commit or tombstone of a snapshot.
fn is_of(name: &ObjectName, id: &SnapshotId) -> bool {
    name.base().split('.').next().is_some_and(|base| base == id.to_string())
}

fn row(snapshot: &Snapshot) -> Row {
    let mut series: Vec<Series> =
        snapshot.items().iter().map(|item| Series::of(snapshot, item)).collect();
    series.sort();
    series.dedup();
    Row {
        id: snapshot.id,
        stored: stored(snapshot),
        made: snapshot.time(),
        series,
        tags: snapshot.body.tags.clone(),
        is_good: !snapshot.items().iter().any(crate::format::Item::is_partial),
        verdict: Verdict::Keep(Vec::new()),
    }
}

/// When a snapshot was stored; a copy or a salvage takes the place of what it was made of.
fn stored(snapshot: &Snapshot) -> Time {
    let body = &snapshot.body;
    let there = body.copied.map_or(snapshot.stored, |origin| origin.stored());
    let made = body.salvaged.map_or(snapshot.stored, |_| snapshot.time());
    snapshot.stored.min(there).min(made)
}

/// Rows in the order of a table.
fn sort(rows: &mut [Row]) {
    rows.sort_by(|a, b| (&a.series, b.age()).cmp(&(&b.series, a.age())));
}

fn named(
    list: &SnapshotList,
    all: Vec<Row>,
    ids: &BTreeSet<SnapshotId>,
) -> Result<(Vec<Row>, Vec<SnapshotId>), OpsError> {
    let mut rows: Vec<Row> = all
        .into_iter()
        .filter(|row| ids.contains(&row.id))
        .map(|row| Row { verdict: Verdict::GoNamed, ..row })
        .collect();
    sort(&mut rows);
    let mut blind = Vec::new();
    for id in ids.iter().filter(|id| !rows.iter().any(|row| row.id == **id)) {
        match list.damaged.iter().any(|(name, _)| is_of(name, id)) {
            true => blind.push(*id),
            false => {
                let message = format!("the repository has no snapshot {}", id.short());
                return Err(OpsError::NotFound(message));
            }
        }
    }
    Ok((rows, blind))
}

/// Applies a policy to each series on its own. A snapshot that belongs to several goes only if
/// none of them keeps it.
pub(super) fn judge(
    mut all: Vec<Row>,
    filter: &SeriesFilter,
    policy: &Policy,
    options: &ForgetOptions,
) -> Vec<Row> {
    sort(&mut all);
    let mut members: BTreeMap<Series, Vec<usize>> = BTreeMap::new();
    for (at, row) in all.iter().enumerate() {
        for series in &row.series {
            members.entry(series.clone()).or_default().push(at);
        }
    }
    let mut kept: Vec<Vec<Kept>> = vec![Vec::new(); all.len()];
    let mut concerned: Vec<bool> = vec![false; all.len()];
    for (series, mut places) in members {
        if !filter.wants(&series) {
            let name = &series.name;
            places.iter().for_each(|at| kept[*at].push(Kept::Holds(name.clone())));
            continue;
        }
        // Rows are sorted by all the series they belong to, and only then by time.
        places.sort_by_key(|at| std::cmp::Reverse(all[*at].age()));
        places.iter().for_each(|at| concerned[*at] = true);
        judge_series(&all, &places, filter, policy, options, &mut kept);
    }
    let verdict = |reasons: Vec<Kept>| match reasons.is_empty() {
        true => Verdict::GoUnkept,
        false => Verdict::Keep(reasons),
    };
    all.into_iter()
        .zip(kept)
        .zip(concerned)
        .filter(|(_, concerned)| *concerned)
        .map(|((row, reasons), _)| Row { verdict: verdict(reasons), ..row })
        .collect()
}

/// Adds the reasons for which one series keeps its snapshots, which come newest first.
fn judge_series(
    all: &[Row],
    newest_first: &[usize],
    filter: &SeriesFilter,
    policy: &Policy,
    options: &ForgetOptions,
    kept: &mut [Vec<Kept>],
) {
    let tagged = |at: &usize| filter.tags.iter().all(|tag| all[*at].tags.contains(tag));
    let (ours, others): (Vec<usize>, Vec<usize>) = newest_first.iter().partition(|at| tagged(at));
    others.iter().for_each(|at| kept[*at].push(Kept::OtherTags));
    let dated: Vec<_> =
        ours.iter().map(|at| Dated { stored: all[*at].stored, tags: &all[*at].tags }).collect();
    for (at, rules) in ours.iter().zip(policy.apply(&dated, &options.zone)) {
        kept[*at].extend(rules.into_iter().map(Kept::Rule));
    }
    // Of the whole series, whatever the policy is for.
    let good = newest_first.iter().find(|at| all[**at].is_good);
    match (good, newest_first.first()) {
        (Some(at), _) => kept[*at].push(Kept::LastGood),
        (None, Some(at)) => kept[*at].push(Kept::LastOfPartial),
        (None, None) => {}
    }
    if let Some(at) = newest_first.iter().find(|at| options.drilled.contains(&all[**at].id)) {
        kept[*at].push(Kept::LastDrilled);
    }
}

fn shares(list: &SnapshotList, rows: &[Row], going: &BTreeSet<SnapshotId>) -> Vec<SeriesShare> {
    /// Snapshots, those that go, and whether one that stays or goes is good.
    #[derive(Default)]
    struct Count {
        total: usize,
        going: usize,
        good_stays: bool,
        good_goes: bool,
    }
    let concerned = rows.iter().flat_map(|row| &row.series);
    let mut counts: BTreeMap<&Series, Count> =
        concerned.map(|series| (series, Count::default())).collect();
    for row in list.snapshots.iter().map(row) {
        let goes = going.contains(&row.id);
        for series in &row.series {
            let Some(count) = counts.get_mut(series) else { continue };
            count.total += 1;
            count.going += usize::from(goes);
            count.good_stays |= row.is_good && !goes;
            count.good_goes |= row.is_good && goes;
        }
    }
    let share = |(series, count): (&Series, Count)| SeriesShare {
        series: series.clone(),
        total: count.total,
        going: count.going,
        loses_last_good: count.good_goes && !count.good_stays,
    };
    counts.into_iter().map(share).collect()
}

fn doubtful_times(list: &SnapshotList, rows: &[Row]) -> usize {
    let ids: BTreeSet<SnapshotId> = rows.iter().map(|row| row.id).collect();
    let ours = list.snapshots.iter().filter(|snapshot| ids.contains(&snapshot.id));
    let apart = |snapshot: &&Snapshot| {
        let seconds = stored(snapshot).seconds.abs_diff(snapshot.time().seconds);
        seconds > SKEW_MAX && snapshot.body.salvaged.is_none()
    };
    ours.filter(apart).count()
}
