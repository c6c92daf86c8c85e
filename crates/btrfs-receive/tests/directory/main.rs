//! Streams extracted into plain directories.

#[path = "../hostile/answer.rs"]
mod answer;
#[path = "../memory_model/call.rs"]
mod call;
#[path = "../memory_model/compare.rs"]
mod compare;
mod fidelity;
mod hostile;
mod life;
mod names;
#[path = "../destinations/operation.rs"]
mod operation;
mod property;
mod support;

use std::process::ExitCode;

fn main() -> ExitCode {
    let all = [
        fidelity::tests(),
        life::tests(),
        names::tests(),
        hostile::tests(),
        property::tests(),
    ];
    btrfs_testkit::main(all.into_iter().flatten())
}
