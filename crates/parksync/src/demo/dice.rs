//! Numbers that look random and are the same for the same seed (splitmix64).

/// Thrown again and again.
#[derive(Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) const fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn index(&mut self, below: usize) -> usize {
        usize::try_from(self.number() % below as u64).unwrap_or(0)
    }

    pub(crate) fn up_to(&mut self, below: i64) -> i64 {
        i64::try_from(self.number() % below.unsigned_abs()).unwrap_or(0)
    }

    pub(crate) const fn one_in(&mut self, many: u64) -> bool {
        self.number().is_multiple_of(many)
    }
}
