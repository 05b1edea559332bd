//! Bounded random numbers from 64 uniform bits.
//!
//! It is for the draws of the balancer and the jitter of back-offs. It is not a generator: the bits come from the
//! caller. Called by `replicas` and `backoff`.

/// A number in `[0, bound)`; 0 when `bound` is 0. The bias is at most `bound / 2^64`.
pub(crate) fn below(bits: u64, bound: u64) -> u64 {
    ((u128::from(bits) * u128::from(bound)) >> 64) as u64
}

/// A number in `[0, 1)` with 53 bits.
pub(crate) fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// Two distinct indices below `count`, in random order, from one draw: 32 bits each. `count` must be at least 2.
pub(crate) fn distinct_pair(bits: u64, count: usize) -> (usize, usize) {
    let first = half_below(bits >> 32, count as u64);
    let second = half_below(bits & 0xffff_ffff, count as u64 - 1);
    (first, if second >= first { second + 1 } else { second })
}

/// A number in `[0, bound)` from 32 bits.
fn half_below(bits: u64, bound: u64) -> usize {
    ((bits * bound) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_at_the_edges() {
        assert_eq!(below(u64::MAX, 0), 0);
        assert_eq!(below(u64::MAX, 7), 6);
        assert_eq!(below(0, 7), 0);
        assert!(unit(u64::MAX) < 1.0);
    }

    #[test]
    fn a_pair_is_always_distinct_and_inside() {
        let mut bits = 1u64;
        for count in 2..40 {
            for _ in 0..500 {
                bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let (first, second) = distinct_pair(bits, count);
                assert!(first != second && first < count && second < count);
            }
            let (first, second) = distinct_pair(u64::MAX, count);
            assert!(first != second && first < count && second < count);
        }
    }
}
