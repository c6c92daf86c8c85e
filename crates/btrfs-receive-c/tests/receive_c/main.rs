//! The C interface on real btrfs, used by programs in C.

mod abi;
mod calls;
mod examples;
mod header;
mod memory;
mod program;

use std::process::ExitCode;

fn main() -> ExitCode {
    let tests = [
        header::tests(),
        abi::tests(),
        calls::tests(),
        examples::tests(),
        memory::tests(),
    ];
    btrfs_testkit::main(tests.into_iter().flatten())
}
