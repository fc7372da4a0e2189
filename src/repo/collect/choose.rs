//! Which packs go and which are emptied first. Pure: what is known of packs in, a choice out.

use crate::format::PackKind;

/// Packs below these sizes are small: data and tree, in bytes.
const SMALL_DATA: u64 = 4 << 20;
const SMALL_TREE: u64 = 1 << 20;

/// So many small packs of a kind are borne before they are merged.
const SMALL_PACKS_MAX: usize = 24;

/// How much space may stay unused.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MaxUnused {
    /// So many percent of what is stored in packs.
    Percent(f64),
    /// So many bytes.
    Bytes(u64),
    /// Any amount: packs go only when nothing in them is needed.
    Unlimited,
}

/// What may be done to save space.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    pub(super) max_unused: MaxUnused,
    /// Most bytes to store anew.
    pub(super) max_repack: Option<u64>,
}

/// What is known of a pack that is listed and that no record condemns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PackUse {
    pub(super) kind: PackKind,
    /// Bytes in the store.
    pub(super) size: u64,
    /// Bytes of all its chunks before compression.
    pub(super) content: u64,
    /// Of these, the chunks that are needed and that no better holder has.
    pub(super) needed: u64,
    /// Whether it is left alone: a backup that made it may still be under way.
    pub(super) young: bool,
}

impl PackUse {
    /// Bytes of the store that its needed chunks take, about: frames are compressed as one.
    pub(super) fn used(&self) -> u64 {
        match self.content {
            0 => 0,
            content => {
                let used = u128::from(self.size) * u128::from(self.needed) / u128::from(content);
                u64::try_from(used).unwrap_or(self.size).min(self.size)
            }
        }
    }

    pub(super) fn unused(&self) -> u64 {
        self.size - self.used()
    }

    fn is_small(&self) -> bool {
        self.size < if self.kind == PackKind::Tree { SMALL_TREE } else { SMALL_DATA }
    }
}

/// What is to happen to packs, by their places in what was given.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Choice {
    /// Nothing in them is needed.
    pub(super) free: Vec<usize>,
    /// What is needed of them is stored anew first.
    pub(super) repack: Vec<usize>,
}

/// Chooses the packs that go; `must_move` bytes are moved in any case and count against the budget.
pub(super) fn choose(packs: &[PackUse], must_move: u64, budget: Budget) -> Choice {
    let mut choice = Choice::default();
    let mut candidates = Vec::new();
    let (mut used, mut unused) = (must_move, 0u64);
    for (at, pack) in packs.iter().enumerate() {
        if !pack.young && pack.needed == 0 {
            choice.free.push(at);
            continue;
        }
        used += pack.used();
        if !pack.young {
            unused += pack.unused();
            candidates.push(at);
        }
    }
    let allowed = allowed(budget.max_unused, used);
    // Emptiest first: they give the most space for the least work.
    candidates.sort_by_key(|at| {
        let pack = &packs[*at];
        std::cmp::Reverse(u128::from(pack.unused()) * (1 << 32) / u128::from(pack.size.max(1)))
    });
    let mut taken = vec![false; packs.len()];
    let mut moved = must_move;
    let mut takes = |pack: &PackUse| {
        let fits = budget.max_repack.is_none_or(|most| moved + pack.used() <= most);
        if fits {
            moved += pack.used();
        }
        fits
    };
    for at in candidates.iter().copied() {
        if unused <= allowed || packs[at].unused() == 0 {
            break;
        }
        if takes(&packs[at]) {
            unused -= packs[at].unused();
            taken[at] = true;
        }
    }
    for kind in [PackKind::Data, PackKind::Tree] {
        let is_small = |at: &usize| packs[*at].kind == kind && packs[*at].is_small();
        let small: Vec<usize> =
            candidates.iter().copied().filter(|at| !taken[*at]).filter(is_small).collect();
        if small.len() > SMALL_PACKS_MAX {
            small.into_iter().for_each(|at| taken[at] = takes(&packs[at]));
        }
    }
    choice.repack = (0..packs.len()).filter(|at| taken[*at]).collect();
    choice
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a size")]
fn allowed(max_unused: MaxUnused, used: u64) -> u64 {
    match max_unused {
        MaxUnused::Unlimited => u64::MAX,
        MaxUnused::Bytes(bytes) => bytes,
        // Of used and unused together.
        MaxUnused::Percent(percent) if percent < 100.0 => {
            (used as f64 * percent.max(0.0) / (100.0 - percent.max(0.0))) as u64
        }
        MaxUnused::Percent(_) => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn pack(size: u64, needed_percent: u64) -> PackUse {
        let content = size * 3;
        let needed = content * needed_percent / 100;
        PackUse { kind: PackKind::Data, size, content, needed, young: false }
    }

    fn budget(max_unused: MaxUnused) -> Budget {
        Budget { max_unused, max_repack: None }
    }

    #[test]
    fn what_nothing_needs_goes_and_what_is_young_stays() {
        let young = PackUse { young: true, ..pack(32 * MIB, 0) };
        let packs = [pack(32 * MIB, 0), young, pack(32 * MIB, 100)];
        let choice = choose(&packs, 0, budget(MaxUnused::Percent(0.0)));
        assert_eq!(choice, Choice { free: vec![0], repack: vec![] });
    }

    #[test]
    fn the_emptiest_packs_are_emptied_until_little_enough_is_unused() {
        let packs = [90, 20, 99, 60].map(|percent| pack(32 * MIB, percent));
        let repacked = |max_unused| choose(&packs, 0, budget(max_unused)).repack;
        assert_eq!(repacked(MaxUnused::Unlimited), [0; 0]);
        assert_eq!(repacked(MaxUnused::Percent(100.0)), [0; 0]);
        assert_eq!(repacked(MaxUnused::Percent(25.0)), [1]);
        assert_eq!(repacked(MaxUnused::Percent(5.0)), [1, 3]);
        assert_eq!(repacked(MaxUnused::Percent(0.0)), [0, 1, 2, 3]);
        assert_eq!(repacked(MaxUnused::Bytes(4 * MIB)), [1, 3]);
    }

    #[test]
    fn no_more_is_moved_than_allowed() {
        let packs = [50, 50, 50].map(|percent| pack(32 * MIB, percent));
        let limit = |most, must| {
            let budget = Budget { max_unused: MaxUnused::Percent(0.0), max_repack: Some(most) };
            choose(&packs, must, budget).repack.len()
        };
        assert_eq!(limit(0, 0), 0);
        assert_eq!(limit(33 * MIB, 0), 2);
        assert_eq!(limit(33 * MIB, 20 * MIB), 0);
        assert_eq!(limit(1 << 40, 0), 3);
    }

    #[test]
    fn small_packs_are_merged_once_there_are_many() {
        let few = vec![pack(MIB, 100); SMALL_PACKS_MAX];
        assert_eq!(choose(&few, 0, budget(MaxUnused::Percent(5.0))).repack, [0; 0]);
        let many = vec![pack(MIB, 100); SMALL_PACKS_MAX + 1];
        assert_eq!(choose(&many, 0, budget(MaxUnused::Percent(5.0))).repack.len(), many.len());
    }
}
