//! The receiver on real btrfs: what arrives is what was sent.

mod fidelity;
mod flags;
mod inheritance;
mod receive;
mod support;

use std::process::ExitCode;

fn main() -> ExitCode {
    let tests = [
        receive::tests(),
        fidelity::tests(),
        inheritance::tests(),
        flags::tests(),
    ];
    btrfs_testkit::main(tests.into_iter().flatten())
}
