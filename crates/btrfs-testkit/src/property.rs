//! Property tests that need more than the `proptest!` macro gives.

use proptest::test_runner::{Config, TestRunner};

/// Runs `PROPTEST_CASES` cases, and `cases` if that is not set. A case is a
/// subvolume or more, so failures are shrunk no longer than they are worth.
pub fn property_runner(cases: u32) -> TestRunner {
    let asked = std::env::var("PROPTEST_CASES").ok();
    let asked = asked.and_then(|text| text.parse().ok());
    TestRunner::new(Config {
        cases: asked.unwrap_or(cases),
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    })
}
