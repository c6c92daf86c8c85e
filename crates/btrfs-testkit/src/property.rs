//! Property tests that need more than the `proptest!` macro gives.

use std::hash::{BuildHasher, RandomState};

use proptest::test_runner::{Config, RngSeed, TestRunner};

/// Runs `PROPTEST_CASES` cases, and `cases` if that is not set. A case is a
/// subvolume or more, so failures are shrunk no longer than they are worth.
/// Prints the seed; with the same one in `PROPTEST_RNG_SEED`, the cases are the
/// same.
pub fn property_runner(cases: u32) -> TestRunner {
    let asked = std::env::var("PROPTEST_CASES").ok();
    let asked = asked.and_then(|text| text.parse().ok());
    let mut config = Config::default();
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(RandomState::new().hash_one(0));
    }
    if let RngSeed::Fixed(seed) = config.rng_seed {
        println!("PROPTEST_RNG_SEED={seed}");
    }
    TestRunner::new(Config {
        cases: asked.unwrap_or(cases),
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..config
    })
}
