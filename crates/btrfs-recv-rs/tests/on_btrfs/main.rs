//! The command on a real btrfs.

mod accept;
mod chain;
mod digest;
mod errors;
mod hostile;
mod json;
mod messages;
mod moved;
mod needs;
mod old_kernel;
mod packed;
mod policies;
mod restore;
mod sandbox;
mod screens;
mod serve;
mod signals;
mod status;
mod support;
mod tee;
mod zeros;

use std::process::ExitCode;

fn main() -> ExitCode {
    let tests = [
        accept::tests(),
        chain::tests(),
        digest::tests(),
        errors::tests(),
        hostile::tests(),
        json::tests(),
        messages::tests(),
        moved::tests(),
        needs::tests(),
        old_kernel::tests(),
        packed::tests(),
        policies::tests(),
        restore::tests(),
        screens::tests(),
        serve::tests(),
        sandbox::tests(),
        signals::tests(),
        status::tests(),
        tee::tests(),
        zeros::tests(),
    ];
    btrfs_testkit::main(tests.into_iter().flatten())
}
