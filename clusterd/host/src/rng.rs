//! Randomness.

use rand::Rng as _;

/// The only source of randomness. Object-safe and usable from many threads.
pub trait Rng: Send + Sync + 'static {
    /// 64 uniformly random bits.
    fn next_u64(&self) -> u64;

    /// Fills `dest` with random bytes.
    fn fill(&self, dest: &mut [u8]) {
        for chunk in dest.chunks_mut(8) {
            let bytes = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }

    /// A uniformly random number in `0..bound`; zero for a bound of zero.
    fn below(&self, bound: u64) -> u64 {
        // The bias of a 64x64->128 multiplication is below bound/2^64, which nothing here can notice.
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }
}

/// The operating system's generator behind a per-thread CSPRNG: good enough for secrets.
#[derive(Debug, Default)]
pub struct RealRng;

impl Rng for RealRng {
    fn next_u64(&self) -> u64 {
        rand::rng().next_u64()
    }

    fn fill(&self, dest: &mut [u8]) {
        rand::rng().fill_bytes(dest);
    }
}
