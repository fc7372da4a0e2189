//! Which packs a check reads, and what it remembers of that.
//!
//! In a round every pack is read once, whichever host's check it was that began it; packs that were
//! stored since take part. A pack that is gone is no longer asked for.

use super::{CheckOptions, ReadData};
use crate::clock::Time;
use crate::id::PackId;
use crate::ops::error::OpsError;
use crate::repo::{Inventory, KnownPack, ReadRound, Repository, note_read, read_round};

/// What share of the packs was read since when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coverage {
    /// When this host began to read them.
    pub since: Time,
    /// Packs that are there now and were read since.
    pub packs: u64,
    /// Packs that are there.
    pub packs_total: u64,
    /// Bytes of those that were read.
    pub bytes: u64,
    /// Bytes of all.
    pub bytes_total: u64,
}

impl Coverage {
    /// Percent of the packs that were read; 100 if there are none.
    #[must_use]
    pub fn percent(&self) -> f64 {
        match self.packs_total {
            0 => 100.0,
            total => self.packs as f64 * 100.0 / total as f64,
        }
    }

    /// Whether all were read.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.packs >= self.packs_total
    }
}

/// The packs that are read now, and the round they belong to.
pub(super) struct Share<'i> {
    pub(super) packs: Vec<&'i KnownPack>,
    /// When the round began; none if nothing is to be read.
    since: Option<Time>,
    all: Vec<&'i KnownPack>,
}

impl<'i> Share<'i> {
    /// Chooses among the packs that are there as the index names them.
    pub(super) fn choose(
        repo: &Repository,
        inventory: &'i Inventory,
        options: &CheckOptions,
    ) -> Self {
        let as_listed = |pack: &&KnownPack| inventory.listed.get(&pack.id) == Some(&pack.size);
        let all: Vec<_> = inventory.known.values().filter(as_listed).collect();
        let now = options.clock.now();
        let (packs, since) = match options.read {
            ReadData::Trees => (Vec::new(), None),
            ReadData::All => (all.clone(), Some(now)),
            ReadData::Percent(percent) => {
                let known = read_round(repo);
                let left = |round: &ReadRound| -> Vec<_> {
                    all.iter().copied().filter(|pack| !round.has(&pack.id)).collect()
                };
                // Ids are hashes: their order is as good as any drawn one.
                let begun = known.map(|round| (left(&round), round.since));
                let begun = begun.filter(|(left, _)| !left.is_empty());
                let (mut packs, since) = begun.unwrap_or((all.clone(), now));
                packs.truncate(share(all.len(), percent));
                (packs, Some(since))
            }
        };
        Self { packs, since, all }
    }

    /// Remembers the packs that were read; says what is covered now.
    pub(super) fn note(
        &self,
        repo: &Repository,
        read: Vec<PackId>,
    ) -> Result<Option<Coverage>, OpsError> {
        let Some(since) = self.since else { return Ok(None) };
        let round = note_read(repo, since, &read)?;
        let covered = self.all.iter().filter(|pack| round.has(&pack.id));
        Ok(Some(Coverage {
            since: round.since,
            packs: covered.clone().count() as u64,
            packs_total: self.all.len() as u64,
            bytes: covered.map(|pack| pack.size).sum(),
            bytes_total: self.all.iter().map(|pack| pack.size).sum(),
        }))
    }
}

/// So many percent of `count`, rounded up.
#[expect(clippy::cast_possible_truncation, reason = "the share is cut to the count")]
#[expect(clippy::cast_sign_loss, reason = "a share is above nothing")]
fn share(count: usize, percent: f64) -> usize {
    ((count as f64 * percent / 100.0).ceil() as usize).min(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_packs_is_rounded_up_and_never_more_than_all() {
        for (count, percent, expected) in
            [(0, 50.0, 0), (1, 0.1, 1), (10, 25.0, 3), (10, 100.0, 10), (7, 99.999, 7)]
        {
            assert_eq!(share(count, percent), expected, "{percent}% of {count}");
        }
    }

    #[test]
    fn what_is_covered_is_told_in_percent() {
        let of = |packs, packs_total| Coverage {
            since: Time::default(),
            packs,
            packs_total,
            bytes: 0,
            bytes_total: 0,
        };
        assert_eq!((of(1, 4).percent(), of(0, 0).percent()), (25.0, 100.0));
        assert!(of(4, 4).is_complete() && of(0, 0).is_complete() && !of(3, 4).is_complete());
    }
}
