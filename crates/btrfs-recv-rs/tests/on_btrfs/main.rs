//! The command on a real btrfs.

mod hostile;
mod messages;
mod signals;
mod support;

use std::process::ExitCode;

fn main() -> ExitCode {
    let tests = [hostile::tests(), messages::tests(), signals::tests()];
    btrfs_testkit::main(tests.into_iter().flatten())
}
