//! Finds the end of a chunk: FastCDC with a keyed Gear table, three stretches at once.
//!
//! The Gear hash of a place depends on the 64 bytes up to it alone, so places that lie apart can be
//! hashed side by side: each step waits for the one before, and a processor has room for three such
//! chains. Cuts are those of `fastcdc::v2020`, byte for byte (decision 0015).

use fastcdc::v2020;

use super::split::ChunkerParams;

/// Stretches that are hashed side by side, and their length in bytes, by measurement.
const LANES: usize = 3;
const LANE_LEN: usize = 512;

/// Bytes that a Gear hash of 64 bits remembers.
const WINDOW: usize = 64;

/// Cuts chunks of one repository.
pub(super) struct Gear {
    params: ChunkerParams,
    table: Box<[u64; 256]>,
    /// A cut ahead of the average size needs more zero bits, one behind it fewer.
    mask_small: u64,
    mask_large: u64,
}

impl Gear {
    pub(super) fn new(params: ChunkerParams, table: [u64; 256]) -> Self {
        let bits = params.average.ilog2() as usize;
        let (mask_small, mask_large) = (v2020::MASKS[bits + 1], v2020::MASKS[bits - 1]);
        Self { params, table: Box::new(table), mask_small, mask_large }
    }

    pub(super) fn params(&self) -> &ChunkerParams {
        &self.params
    }

    /// Length of the chunk that `source` starts with.
    ///
    /// Source: FastCDC, Xia et al., IEEE TPDS 2020, normalisation level 1.
    pub(super) fn cut(&self, source: &[u8]) -> usize {
        let min = self.params.min as usize;
        if source.len() <= min {
            return source.len();
        }
        let source = &source[..source.len().min(self.params.max as usize)];
        // Places are tested in pairs: the last one of an odd length never is.
        let end = source.len() & !1;
        let average = (self.params.average as usize).min(end);
        let mut hash = 0;
        self.scan(&source[..average], min, &mut hash, self.mask_small)
            .or_else(|| self.scan(&source[..end], average, &mut hash, self.mask_large))
            .unwrap_or(source.len())
    }

    /// The first place at or behind `at` whose hash has no bit of the mask; `hash` is that of the
    /// bytes before, and afterwards that of all bytes.
    fn scan(&self, source: &[u8], mut at: usize, hash: &mut u64, mask: u64) -> Option<usize> {
        while at >= WINDOW && source.len() - at >= LANES * LANE_LEN {
            let (lanes, _) = source[at..].as_chunks::<LANE_LEN>();
            let lanes: [&[u8; LANE_LEN]; LANES] = std::array::from_fn(|lane| &lanes[lane]);
            let mut hashes: [u64; LANES] = std::array::from_fn(|lane| match lane {
                0 => *hash,
                _ => self.warm(&lanes[lane - 1][LANE_LEN - WINDOW..]),
            });
            if let Some(place) = self.scan_lanes(lanes, &mut hashes, mask) {
                return Some(at + place);
            }
            *hash = hashes[LANES - 1];
            at += LANES * LANE_LEN;
        }
        for (place, byte) in source.iter().enumerate().skip(at) {
            *hash = self.step(*hash, *byte);
            if *hash & mask == 0 {
                return Some(place);
            }
        }
        None
    }

    /// The first place in neighbouring lanes whose hash has no bit of the mask.
    fn scan_lanes(
        &self,
        lanes: [&[u8; LANE_LEN]; LANES],
        hashes: &mut [u64; LANES],
        mask: u64,
    ) -> Option<usize> {
        let mut first: Option<usize> = None;
        for step in 0..LANE_LEN {
            let mut found = false;
            for (hash, lane) in hashes.iter_mut().zip(lanes) {
                *hash = self.step(*hash, lane[step]);
                found |= *hash & mask == 0;
            }
            if found {
                let hit = hashes.iter().position(|hash| hash & mask == 0);
                let place = hit.map(|lane| lane * LANE_LEN + step);
                first = first.into_iter().chain(place).min();
                // Nothing comes before what the first lane finds.
                if hit == Some(0) {
                    break;
                }
            }
        }
        first
    }

    fn warm(&self, window: &[u8]) -> u64 {
        window.iter().fold(0, |hash, byte| self.step(hash, *byte))
    }

    fn step(&self, hash: u64, byte: u8) -> u64 {
        (hash << 1).wrapping_add(self.table[usize::from(byte)])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gear(params: ChunkerParams, seed: u64) -> Gear {
        let mut words = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
        Gear::new(
            params,
            std::array::from_fn(|_| {
                let mut word = [0; 8];
                words.fill(&mut word);
                u64::from_le_bytes(word)
            }),
        )
    }

    fn reference(gear: &Gear, source: &[u8]) -> usize {
        let shifted = gear.table.map(|word| word << 1);
        let ChunkerParams { min, average, max } = gear.params;
        let (small, large) = (gear.mask_small, gear.mask_large);
        v2020::cut_gear(
            source,
            min as usize,
            average as usize,
            max as usize,
            small,
            large,
            small << 1,
            large << 1,
            &gear.table[..],
            &shifted,
        )
        .1
    }

    fn assert_same_cuts(gear: &Gear, content: &[u8]) {
        let mut at = 0;
        while at < content.len() {
            let len = gear.cut(&content[at..]);
            assert_eq!(len, reference(gear, &content[at..]), "at {at} of {}", content.len());
            at += len;
        }
    }

    fn params() -> impl Strategy<Value = ChunkerParams> {
        (8u32..16, 32u32..4000, 2u32..9).prop_map(|(bits, min, factor)| {
            let average = 1 << bits;
            let min = (2 * min).clamp(64, average - 2);
            ChunkerParams { min, average, max: average * factor }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn cuts_are_those_of_the_reference(
            params in params(), seed: u64, len in 0usize..300_000, alphabet in 1u8..=255,
        ) {
            let mut content = vec![0; len];
            blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut content);
            // A small alphabet makes the same windows come again and again.
            content.iter_mut().for_each(|byte| *byte %= alphabet);
            assert_same_cuts(&gear(params, seed), &content);
        }
    }

    #[test]
    fn the_nearest_of_many_cuts_in_one_stretch_counts() {
        // Every window of zeros has the same hash: with a table whose word for zero cuts, each
        // place is a cut, and the first allowed one must be taken.
        let mut all = gear(ChunkerParams { min: 64, average: 4096, max: 8192 }, 1);
        all.table[0] = 0;
        assert_same_cuts(&all, &vec![0; 20_000]);
        assert_eq!(all.cut(&vec![0; 20_000]), 64);
    }
}
