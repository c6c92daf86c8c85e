//! The library from outside, and its destinations against each other and
//! against the model of btrfs.

mod call;
mod compare;
mod destinations;
mod directory;
mod examples;
mod memory_model;
mod model_send;
mod names_model;
mod operation;
mod own_destination;
mod serial;
mod threads;
mod transforms;

use std::process::ExitCode;

fn main() -> ExitCode {
    // The model knows no mask.
    rustix::process::umask(rustix::fs::Mode::empty());
    let tests = [
        destinations::tests(),
        directory::tests(),
        examples::tests(),
        memory_model::tests(),
        model_send::tests(),
        names_model::tests(),
        own_destination::tests(),
        serial::tests(),
        threads::tests(),
        transforms::tests(),
    ];
    btrfs_testkit::main(tests.into_iter().flatten())
}
