//! Whatever goes wrong, nothing incomplete counts as received, and memory
//! stays bounded.

mod bounded;
mod damaged;
mod failing;
mod support;

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = bounded::child() {
        return code;
    }
    let tests = [failing::tests(), damaged::tests(), bounded::tests()];
    btrfs_testkit::main(tests.into_iter().flatten())
}
