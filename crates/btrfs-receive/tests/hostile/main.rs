//! What streams, trees and other processes try against a receiver, and the
//! field's past failures.

mod answer;
mod confine;
mod corpus;
mod jail;
mod pains;
mod races;
mod receive;

use std::process::ExitCode;

fn main() -> ExitCode {
    let all = [
        corpus::tests(),
        confine::tests(),
        jail::tests(),
        races::tests(),
        pains::tests(),
    ];
    btrfs_testkit::main(all.into_iter().flatten())
}
