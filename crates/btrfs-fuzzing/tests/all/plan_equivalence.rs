//! Fused equals unfused: the proof that the planner's rules change nothing
//! but the speed. The fuzz target `plan` runs the same body.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngSeed, TestRunner};

fn choices() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..1500)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 3_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn fused_equals_one_by_one(choices in choices()) {
        btrfs_fuzzing::plan(&choices);
    }
}

/// Programs that fail at once would prove nothing.
#[test]
fn programs_get_far() {
    let config = ProptestConfig {
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    };
    let mut runner = TestRunner::new(config);
    let (mut commands, mut complete) = (0, 0);
    let runs = 1000;
    for _ in 0..runs {
        let choices = choices().new_tree(&mut runner).unwrap().current();
        let (reached, whole) = btrfs_fuzzing::plan(&choices);
        commands += reached;
        complete += u64::from(whole);
    }
    println!("{commands} commands in {runs} programs, {complete} without a failure");
    // Less than one in a hundred commands fails.
    assert!(commands > 100 * (runs - complete) && complete > runs / 4);
}
