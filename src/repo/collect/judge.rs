//! G4: which of what is condemned may be deleted. Pure: what was listed in, a verdict out.
//!
//! A holder of a chunk counts only if the lists show it and *no* condemn record names it, nor
//! every segment through which it is known: not ours, not those of other collectors, not old ones.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::id::{PackId, SegmentId};

/// How a pack stands in lists that all began after the condemn record was durable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// The list of packs shows it, with the size that its segment says.
    pub(super) present: bool,
    /// It is present, no condemn record names it, and a segment that none names either knows it.
    pub(super) usable: bool,
    /// A condemn record whose time has come names it.
    pub(super) doomed: bool,
}

/// What follows for a needed chunk from where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No list shows a copy: something is not accounted for, and nothing at all may be deleted.
    Lost,
    /// No copy of it is doomed.
    Untouched,
    /// Doomed packs hold it, and nothing that counts does: they are spared.
    Spared,
    /// Doomed packs hold it, and so does a pack that stays.
    Covered,
}

/// Judges a needed chunk by the packs that hold a copy.
pub(super) fn judge(holders: impl IntoIterator<Item = Standing>) -> Verdict {
    let (mut present, mut usable, mut doomed) = (false, false, false);
    for holder in holders {
        present |= holder.present;
        usable |= holder.present && holder.usable && !holder.doomed;
        doomed |= holder.present && holder.doomed;
    }
    match (present, doomed, usable) {
        (false, ..) => Verdict::Lost,
        (true, false, _) => Verdict::Untouched,
        (true, true, false) => Verdict::Spared,
        (true, true, true) => Verdict::Covered,
    }
}

/// The condemned segments that may be deleted: every pack that one names is gone, or another
/// segment, listed and condemned by nobody, names it too. Nobody knows anything through one that
/// cannot be read: it goes, too, as all that is needed was found without it.
pub(super) fn deletable_segments(
    doomed: &BTreeSet<SegmentId>,
    listed: &BTreeSet<SegmentId>,
    condemned: &HashSet<SegmentId>,
    contents: &BTreeMap<SegmentId, (u64, Vec<PackId>)>,
    gone: impl Fn(&PackId) -> bool,
) -> Vec<SegmentId> {
    let vouched: HashSet<&PackId> = contents
        .iter()
        .filter(|(id, _)| !condemned.contains(*id))
        .flat_map(|(_, (_, packs))| packs)
        .collect();
    let dispensable = |id: &&SegmentId| {
        let packs = contents.get(*id).map(|(_, packs)| packs);
        listed.contains(*id)
            && condemned.contains(*id)
            && packs.is_none_or(|p| p.iter().all(|pack| gone(pack) || vouched.contains(pack)))
    };
    doomed.iter().filter(dispensable).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Standing = Standing { present: true, usable: true, doomed: false };
    /// Condemned, by us or by anybody, and its time has not come.
    const WAITING: Standing = Standing { present: true, usable: false, doomed: false };
    const DOOMED: Standing = Standing { present: true, usable: false, doomed: true };
    const ABSENT: Standing = Standing { present: false, usable: false, doomed: false };

    #[test]
    fn a_chunk_is_given_up_in_one_pack_only_for_a_copy_that_counts() {
        for (holders, verdict) in [
            (&[][..], Verdict::Lost),
            (&[ABSENT], Verdict::Lost),
            (&[Standing { doomed: true, ..ABSENT }], Verdict::Lost),
            (&[GOOD], Verdict::Untouched),
            (&[GOOD, ABSENT], Verdict::Untouched),
            (&[WAITING], Verdict::Untouched),
            (&[DOOMED], Verdict::Spared),
            (&[DOOMED, DOOMED], Verdict::Spared),
            (&[DOOMED, WAITING], Verdict::Spared),
            (&[DOOMED, ABSENT], Verdict::Spared),
            (&[DOOMED, GOOD], Verdict::Covered),
            (&[WAITING, DOOMED, GOOD], Verdict::Covered),
        ] {
            assert_eq!(judge(holders.iter().copied()), verdict, "{holders:?}");
        }
    }

    /// A chunk in packs A and B; each of two collectors condemns one of them and counts what it
    /// takes for condemned. Gives the packs that are left.
    fn two_collectors(sees_others: bool) -> usize {
        let condemned = |by: usize, pack: usize| sees_others || by == pack;
        let mut left = BTreeSet::from([0, 1]);
        for collector in 0..2 {
            // Both had taken their lists before either deleted.
            let standing = |pack: usize| Standing {
                present: true,
                usable: !condemned(collector, pack),
                doomed: pack == collector,
            };
            if judge([standing(0), standing(1)]) == Verdict::Covered {
                let _ = left.remove(&collector);
            }
        }
        left.len()
    }

    #[test]
    fn two_collectors_that_condemn_one_copy_each_leave_one() {
        assert_eq!(two_collectors(true), 2);
    }

    #[test]
    fn counting_only_its_own_condemn_records_would_lose_both_copies() {
        assert_eq!(two_collectors(false), 0, "the losing variant of the model must lose");
    }

    fn pack(n: u8) -> PackId {
        PackId::new([n; 32])
    }

    fn segment(n: u8) -> SegmentId {
        SegmentId::new([n; 32])
    }

    fn deletable(
        doomed: &[u8],
        condemned: &[u8],
        contents: &[(u8, &[u8])],
        gone: &[u8],
    ) -> Vec<u8> {
        let contents = contents
            .iter()
            .map(|(id, packs)| (segment(*id), (0, packs.iter().map(|n| pack(*n)).collect())))
            .collect();
        let ids = deletable_segments(
            &doomed.iter().map(|n| segment(*n)).collect(),
            &[1, 2].map(segment).into(),
            &condemned.iter().map(|n| segment(*n)).collect(),
            &contents,
            |id| gone.iter().any(|n| pack(*n) == *id),
        );
        ids.iter().map(|id| id.as_bytes()[0]).collect()
    }

    #[test]
    fn a_segment_goes_only_with_its_packs_or_when_another_names_them() {
        assert_eq!(deletable(&[1], &[1], &[(1, &[7, 8])], &[7, 8]), [1]);
        assert_eq!(deletable(&[1], &[1], &[(1, &[7, 8])], &[7]), [0; 0], "a pack was spared");
        assert_eq!(deletable(&[1], &[1], &[(1, &[7, 8]), (2, &[8])], &[7]), [1], "merged");
        assert_eq!(
            deletable(&[1], &[1, 2], &[(1, &[8]), (2, &[8])], &[]),
            [0; 0],
            "both condemned"
        );
        assert_eq!(deletable(&[1, 2], &[1, 2], &[(1, &[8]), (2, &[8])], &[]), [0; 0]);
        assert_eq!(deletable(&[1], &[1], &[], &[]), [1], "it could not be read");
        assert_eq!(deletable(&[3], &[3], &[], &[]), [0; 0], "it is not there");
        assert_eq!(deletable(&[1], &[], &[(1, &[7])], &[7]), [0; 0], "no record names it");
    }
}
