//! Numbers drawn from a seed and from where they are used, so that one decision more or less
//! leaves all others as they are.

/// What a number is drawn for.
#[derive(Debug, Clone, Copy)]
pub(super) enum For {
    Plan = 1,
    Round,
    Tree,
    Turn,
    Call,
    Damage,
}

/// A stream of numbers.
#[derive(Debug, Clone)]
pub(super) struct Draw(u64);

impl Draw {
    /// The numbers of a seed for one use at one place.
    pub(super) fn new(seed: u64, what: For, place: [u64; 3]) -> Self {
        let mut draw = Self(seed);
        for part in [what as u64, place[0], place[1], place[2]] {
            draw.0 = draw.next() ^ part.wrapping_mul(0xd134_2543_de82_ef95);
        }
        draw
    }

    /// Source: Steele, Lea, Flood, OOPSLA 2014.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of 0..`count`.
    pub(super) fn below(&mut self, count: u64) -> u64 {
        self.next() % count
    }

    /// One of the things given.
    pub(super) fn of<T: Clone>(&mut self, things: &[T]) -> T {
        things[usize::try_from(self.below(things.len() as u64)).expect("small")].clone()
    }

    /// Whether something comes about that does so once in `many`.
    pub(super) fn once_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}
