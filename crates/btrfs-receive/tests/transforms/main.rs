//! Transformed streams on real btrfs: what is received of them is what is
//! received of the original, field by field.

mod names;
mod settings;
mod support;
mod versions;

use std::process::ExitCode;

fn main() -> ExitCode {
    let tests = [versions::tests(), settings::tests(), names::tests()];
    btrfs_testkit::main(tests.into_iter().flatten())
}
