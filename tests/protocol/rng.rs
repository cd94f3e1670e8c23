//! Chance, from a seed: SplitMix64 (Steele, Lea, Flood, *Fast splittable pseudorandom number generators*, 2014).

/// A stream of numbers that one seed fixes.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 if that is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.draw() % end.max(1)
    }

    /// A number from `from` up to, not including, `to`.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from))
    }

    /// True this many times out of a thousand.
    pub fn permille(&mut self, n: u64) -> bool {
        self.below(1000) < n
    }

    pub fn pick<T: Clone>(&mut self, of: &[T]) -> Option<T> {
        of.get(self.below(of.len() as u64) as usize).cloned()
    }

    /// A time in microseconds that is short as often as long: its magnitude is drawn first.
    pub fn spread_us(&mut self, from: u64, to: u64) -> u64 {
        let steps = (to / from.max(1)).max(1).ilog2() as u64;
        let at = from << self.below(steps + 1);
        self.between(at, (2 * at).min(to.max(at + 1)))
    }

    pub fn bytes(&mut self) -> [u8; 16] {
        let (a, b) = (self.draw(), self.draw());
        (u128::from(a) << 64 | u128::from(b)).to_be_bytes()
    }
}
