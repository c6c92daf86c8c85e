//! The command under faults that its destination has no part in: failing
//! system calls, full and failing filesystems, signals, power cuts.

mod full;
mod injected;
mod killed;
mod no_space;
mod power_cut;
mod replaced;
mod resume_stopped;
mod resumed;
mod support;

use std::process::ExitCode;

fn main() -> ExitCode {
    let tests = [
        full::tests(),
        injected::tests(),
        killed::tests(),
        no_space::tests(),
        power_cut::tests(),
        replaced::tests(),
        resumed::tests(),
        resume_stopped::tests(),
    ];
    btrfs_testkit::main(tests.into_iter().flatten())
}
