//! Transformed streams on real btrfs: what is received of them is what is
//! received of the original, field by field.

mod names;
mod settings;
mod support;
mod versions;

use btrfs_testkit::Test;

pub(crate) fn tests() -> Vec<Test> {
    let tests = [versions::tests(), settings::tests(), names::tests()];
    tests.into_iter().flatten().collect()
}
