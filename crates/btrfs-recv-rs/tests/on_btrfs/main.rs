//! The command on a real btrfs.

mod chain;
mod digest;
mod errors;
mod hostile;
mod json;
mod messages;
mod needs;
mod old_kernel;
mod packed;
mod policies;
mod sandbox;
mod screens;
mod signals;
mod status;
mod support;
mod tee;

use std::process::ExitCode;

fn main() -> ExitCode {
    let tests = [
        chain::tests(),
        digest::tests(),
        errors::tests(),
        hostile::tests(),
        json::tests(),
        messages::tests(),
        needs::tests(),
        old_kernel::tests(),
        packed::tests(),
        policies::tests(),
        screens::tests(),
        sandbox::tests(),
        signals::tests(),
        status::tests(),
        tee::tests(),
    ];
    btrfs_testkit::main(tests.into_iter().flatten())
}
