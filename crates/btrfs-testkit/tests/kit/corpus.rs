//! The files of the corpus are what the generator makes.

use std::collections::HashSet;

use btrfs_testkit::Test;
use btrfs_testkit::corpus::{self, cases};

const HINT: &str = "run: cargo run -p btrfs-testkit --example make-hostile";

fn files_and_manifest_are_those_of_the_generator() {
    let (made, read) = (cases(), corpus::load());
    assert_eq!(made.len(), read.len(), "{HINT}");
    for (made, read) in made.iter().zip(&read) {
        assert_eq!(made, read, "{HINT}");
    }
    let files = std::fs::read_dir(corpus::directory()).unwrap();
    assert_eq!(files.count(), made.len() + 1, "{HINT}");
}

fn names_and_streams_are_unique() {
    let cases = cases();
    let names: HashSet<_> = cases.iter().map(|case| &case.name).collect();
    assert_eq!(names.len(), cases.len());
    let streams: HashSet<_> = cases.iter().map(|case| &case.bytes).collect();
    assert_eq!(streams.len(), cases.len());
}

fn the_corpus_is_small() {
    let bytes: usize = cases().iter().map(|case| case.bytes.len()).sum();
    assert!(bytes < 1 << 20, "{bytes}");
}

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::anywhere(
            "files_and_manifest_are_those_of_the_generator",
            files_and_manifest_are_those_of_the_generator,
        ),
        Test::anywhere("names_and_streams_are_unique", names_and_streams_are_unique),
        Test::anywhere("the_corpus_is_small", the_corpus_is_small),
    ]
}
