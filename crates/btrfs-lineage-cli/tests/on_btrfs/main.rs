//! The command on real btrfs.

mod audit;
mod digest_adopt;
mod inventory;
mod json;
mod plan;
mod support;
mod topologies;
mod transfers;

use std::process::ExitCode;

fn main() -> ExitCode {
    let tests = [
        audit::tests(),
        digest_adopt::tests(),
        inventory::tests(),
        json::tests(),
        plan::tests(),
        topologies::tests(),
        transfers::tests(),
    ];
    btrfs_testkit::main(tests.into_iter().flatten())
}
