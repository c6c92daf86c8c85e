//! The C interface on real btrfs, used by programs in C.

mod abi;
mod calls;
mod examples;
mod memory;
mod program;
mod sources;

use std::process::ExitCode;

fn main() -> ExitCode {
    let tests = [
        abi::tests(),
        calls::tests(),
        examples::tests(),
        sources::tests(),
        memory::tests(),
    ];
    btrfs_testkit::main(tests.into_iter().flatten())
}
