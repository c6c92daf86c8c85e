//! The command in the place of `btrfs receive`: called as `btrfs`, and by
//! the programs that call it.

mod btrbk;
mod daemon;
mod incus;
mod serve;
mod shells;
mod shim;
mod ssh;

use std::process::ExitCode;

fn main() -> ExitCode {
    let tests = [
        shells::tests(),
        shim::tests(),
        btrbk::tests(),
        ssh::tests(),
        serve::tests(),
        incus::tests(),
    ];
    btrfs_testkit::main(tests.into_iter().flatten())
}
