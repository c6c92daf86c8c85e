//! Transformed streams give the same tree, or the part that was asked for.
//! The fuzz target `transforms` runs the same body.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngSeed, TestRunner};

fn choices() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..1500)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn transformed_streams_give_the_same_tree(choices in choices()) {
        btrfs_fuzzing::transforms(&choices);
    }
}

/// Programs that are refused, or fail by themselves, would prove nothing.
#[test]
fn most_are_compared() {
    let config = ProptestConfig {
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    };
    let mut runner = TestRunner::new(config);
    let runs = 300;
    let mut compared = 0;
    for _ in 0..runs {
        let choices = choices().new_tree(&mut runner).unwrap().current();
        compared += btrfs_fuzzing::transforms(&choices);
    }
    println!("{compared} comparisons in {runs} programs");
    assert!(compared > 3 * runs);
}
