//! `btrfs-lineage audit` on real btrfs.

mod command;
mod json;
mod since;
mod stored;
mod support;

use std::process::ExitCode;

fn main() -> ExitCode {
    let tests = [
        command::tests(),
        json::tests(),
        since::tests(),
        stored::tests(),
    ];
    btrfs_testkit::main(tests.into_iter().flatten())
}
