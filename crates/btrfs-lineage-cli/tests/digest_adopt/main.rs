//! `btrfs-lineage digest` and `adopt` on a real btrfs.

mod adoptions;
mod changes;
mod crashes;
mod digests;
mod histories;
mod support;

use std::process::ExitCode;

fn main() -> ExitCode {
    let tests = [
        adoptions::tests(),
        changes::tests(),
        crashes::tests(),
        digests::tests(),
        histories::tests(),
    ];
    btrfs_testkit::main(tests.into_iter().flatten())
}
