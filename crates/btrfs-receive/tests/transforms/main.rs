//! Transformed streams on real btrfs: what is received of them is what is
//! received of the original, field by field.

mod names;
mod support;
mod versions;

use std::process::ExitCode;

fn main() -> ExitCode {
    btrfs_testkit::main([versions::tests(), names::tests()].into_iter().flatten())
}
