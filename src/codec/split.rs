//! Cutting content into chunks and zero runs.
//!
//! The cut is a function of the content alone: however it is handed over in buffers, the same
//! content gives the same pieces. Zero runs are found first, in whole aligned blocks; what lies
//! between two of them is cut on its own by FastCDC with a keyed Gear table.

use super::gear::Gear;

/// Zero runs are looked for in blocks of this many bytes, aligned to the file's start.
const BLOCK: usize = 4096;

/// Fewer zero blocks than this in a row are ordinary content: they compress to almost nothing,
/// and cutting at each of them would break chunks that dedup.
const ZERO_BLOCKS_MIN: usize = 16;

/// Sizes of chunks in bytes, kept in the repository's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkerParams {
    /// No chunk but the last of a region is smaller.
    pub min: u32,
    /// The size aimed at.
    pub average: u32,
    /// No chunk is larger.
    pub max: u32,
}

impl ChunkerParams {
    /// What new repositories are made with.
    pub const DEFAULT: Self = Self { min: 8 << 10, average: 32 << 10, max: 128 << 10 };

    /// Largest chunk any repository may have.
    pub const MAX: u32 = 1 << 20;

    /// Whether the chunker works with these sizes: even, ascending, powers of two on average.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        (64..=1 << 18).contains(&self.min)
            && self.min < self.average
            && self.average < self.max
            && self.max <= Self::MAX
            && self.average.is_power_of_two()
            && self.average >= 256
            && self.min.is_multiple_of(2)
            && self.max.is_multiple_of(2)
    }
}

/// A piece of content, `len` bytes from the end of the piece before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// A chunk to be named and stored.
    Chunk(usize),
    /// Zeros. Two such pieces may follow one another and are then one run.
    Zeros(usize),
}

impl Piece {
    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match *self {
            Self::Chunk(len) | Self::Zeros(len) => len,
        }
    }

    /// Whether it covers nothing; no splitter makes such a piece.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Cuts content of one repository.
pub struct Splitter {
    gear: Gear,
}

impl std::fmt::Debug for Splitter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Splitter({:?})", self.gear.params())
    }
}

impl Splitter {
    /// Longest rest that [`Splitter::split`] leaves for the next call, in bytes.
    pub const REST_MAX: usize = ChunkerParams::MAX as usize + (ZERO_BLOCKS_MIN + 1) * BLOCK;

    /// A splitter for sizes that are valid, with the repository's Gear table.
    ///
    /// The table is keyed; whoever knows it can predict cuts, so no cut is ever visible in a store.
    #[must_use]
    pub fn new(params: ChunkerParams, gear: [u64; 256]) -> Self {
        debug_assert!(params.is_valid(), "sizes are checked where they are read");
        Self { gear: Gear::new(params, gear) }
    }

    /// Cuts the start of `buffer`, which lies at `offset` of the content, right behind a piece.
    ///
    /// Appends to `pieces`, each from the end of the one before; returns how many bytes they cover.
    /// What is left over (at most [`Splitter::REST_MAX`] bytes) must stand at the start of the next
    /// call's buffer; with `end` nothing is left over. `in_zeros` tells whether the piece before
    /// was a zero run, which then goes on in this buffer.
    pub fn split(
        &self,
        buffer: &[u8],
        offset: u64,
        mut in_zeros: bool,
        end: bool,
        pieces: &mut Vec<Piece>,
    ) -> usize {
        let mut at = 0;
        while at < buffer.len() {
            if in_zeros {
                let len = zeros_ahead(buffer, at, offset, end);
                if len > 0 {
                    pieces.push(Piece::Zeros(len));
                    at += len;
                }
                in_zeros = false;
                continue;
            }
            let (region, next) = next_zero_run(buffer, at, offset, end);
            let cut_all = end || matches!(next, Next::Zeros);
            let done = self.cut_region(&buffer[at..region], cut_all, pieces);
            at += done;
            if at < region || matches!(next, Next::Unknown) {
                return at;
            }
            in_zeros = matches!(next, Next::Zeros);
        }
        at
    }

    /// Cuts a region free of zero runs; keeps back what could still grow unless it is `whole`.
    fn cut_region(&self, region: &[u8], whole: bool, pieces: &mut Vec<Piece>) -> usize {
        let max = self.gear.params().max as usize;
        let mut at = 0;
        while at < region.len() && (whole || region.len() - at >= max) {
            let len = self.gear.cut(&region[at..]);
            pieces.push(Piece::Chunk(len));
            at += len;
        }
        at
    }
}

/// What follows a region.
enum Next {
    /// A zero run.
    Zeros,
    /// The end of the buffer; more content comes or not, either way it is no zero run yet.
    End,
    /// Zero blocks at the end of the buffer, too few to tell.
    Unknown,
}

fn is_zero(block: &[u8]) -> bool {
    block.iter().all(|b| *b == 0)
}

/// The end of the block that `at` lies in, as an index into a buffer at `offset`.
fn block_end(at: usize, offset: u64) -> usize {
    let within = usize::try_from((offset + at as u64) % BLOCK as u64).unwrap_or(0);
    at + BLOCK - within
}

/// How many bytes from `at` on are whole zero blocks; the last block of the content may be short.
fn zeros_ahead(buffer: &[u8], at: usize, offset: u64, end: bool) -> usize {
    let mut to = at;
    loop {
        let next = block_end(to, offset);
        let next = if end { next.min(buffer.len()) } else { next };
        if to == buffer.len() || next > buffer.len() || !is_zero(&buffer[to..next]) {
            return to - at;
        }
        to = next;
    }
}

/// Finds the next zero run at or behind `at`: where the region before it ends, and what follows.
fn next_zero_run(buffer: &[u8], at: usize, offset: u64, end: bool) -> (usize, Next) {
    let aligned = (offset + at as u64).is_multiple_of(BLOCK as u64);
    let mut block = if aligned { at } else { block_end(at, offset) };
    while block < buffer.len() {
        // One look at the first byte settles most blocks.
        if buffer[block] != 0 {
            block = block_end(block, offset);
            continue;
        }
        let len = zeros_ahead(buffer, block, offset, end);
        if len >= ZERO_BLOCKS_MIN * BLOCK {
            return (block, Next::Zeros);
        }
        let stop = block + len;
        if !end && buffer.len() - stop < BLOCK && is_zero(&buffer[stop..]) {
            return (block, Next::Unknown);
        }
        block = block_end(stop, offset);
    }
    (buffer.len(), Next::End)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with_table(seed: u64) -> Splitter {
        let mut gear = [0; 256];
        for (word, bytes) in gear.iter_mut().zip(noise(seed, 2048).as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        Splitter::new(ChunkerParams { min: 256, average: 1024, max: 4096 }, gear)
    }

    fn splitter() -> Splitter {
        with_table(3)
    }

    /// Content and zero runs as (start, len, is zeros), adjacent zero runs joined.
    fn pieces(splitter: &Splitter, content: &[u8], steps: &[usize]) -> Vec<(usize, usize, bool)> {
        let mut found: Vec<(usize, usize, bool)> = Vec::new();
        let (mut start, mut filled, mut in_zeros, mut turn) = (0, 0, false, 0);
        while start < content.len() {
            filled = (filled + steps[turn % steps.len()]).min(content.len());
            turn += 1;
            let end = filled == content.len();
            let mut out = Vec::new();
            let buffer = &content[start..filled];
            let done = splitter.split(buffer, start as u64, in_zeros, end, &mut out);
            assert_eq!(done, out.iter().map(Piece::len).sum::<usize>());
            assert!(!end || start + done == content.len(), "nothing is left over at the end");
            assert!(buffer.len() - done <= Splitter::REST_MAX);
            for piece in out {
                let zeros = matches!(piece, Piece::Zeros(_));
                match found.last_mut() {
                    Some(last) if zeros && last.2 => last.1 += piece.len(),
                    _ => found.push((start, piece.len(), zeros)),
                }
                start += piece.len();
                in_zeros = zeros;
            }
        }
        found
    }

    fn content() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            3 => (any::<u64>(), 0usize..30_000).prop_map(|(seed, len)| noise(seed, len)),
            2 => (0usize..40).prop_map(|blocks| vec![0; blocks * BLOCK]),
            1 => (0usize..100_000).prop_map(|len| vec![0; len]),
        ];
        prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
    }

    /// Pseudo-random bytes by splitmix64.
    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut word = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ z >> 31).to_le_bytes()
        };
        (0..len.div_ceil(8)).flat_map(|_| word()).take(len).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_cut_depends_on_the_content_alone(
            content in content(),
            steps in prop::collection::vec(1usize..60_000, 1..8),
        ) {
            let splitter = splitter();
            let whole = pieces(&splitter, &content, &[usize::MAX / 2]);
            prop_assert_eq!(&pieces(&splitter, &content, &steps), &whole);
            for (start, len, zeros) in whole {
                prop_assert!(!zeros || is_zero(&content[start..start + len]));
                prop_assert!(zeros || len <= 4096);
            }
        }
    }

    #[test]
    fn long_zero_runs_are_found_and_short_ones_are_content() {
        let long = [noise(1, 5000), vec![0; 200_000], noise(2, 10)].concat();
        let found = pieces(&splitter(), &long, &[usize::MAX / 2]);
        assert!(found.contains(&(8192, 196_608, true)), "{found:?}");
        let short = [noise(1, 4096), vec![0; 15 * BLOCK], noise(2, 10)].concat();
        assert!(pieces(&splitter(), &short, &[usize::MAX / 2]).iter().all(|p| !p.2));
    }

    #[test]
    fn an_insertion_moves_only_the_chunks_around_it() {
        let splitter = splitter();
        let old = noise(9, 400_000);
        let new = [&old[..100_000], b"inserted", &old[100_000..]].concat();
        let lens = |c: &[u8]| -> std::collections::HashSet<Vec<u8>> {
            pieces(&splitter, c, &[50_000]).iter().map(|p| c[p.0..p.0 + p.1].to_vec()).collect()
        };
        let fresh = lens(&new).difference(&lens(&old)).count();
        assert!(fresh <= 8, "{fresh} chunks changed");
    }

    #[test]
    fn tables_differ_between_repositories() {
        let other = with_table(4);
        let content = noise(5, 200_000);
        let at = usize::MAX / 2;
        assert_ne!(pieces(&splitter(), &content, &[at]), pieces(&other, &content, &[at]));
    }
}
