//! The receiver on real btrfs: what arrives is what was sent.

mod atomic;
mod dry_run;
mod fallbacks;
mod fidelity;
mod flags;
mod inheritance;
mod lanes;
mod last_resort;
mod policies;
mod privileges;
mod receive;
mod resume;
mod resume_places;
mod resume_tampered;
mod seal;
mod sources;
mod still_writing;
mod support;
mod verity;

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(status) = privileges::helper() {
        return status;
    }
    let tests = [
        receive::tests(),
        atomic::tests(),
        resume::tests(),
        resume_places::tests(),
        resume_tampered::tests(),
        fidelity::tests(),
        inheritance::tests(),
        lanes::tests(),
        flags::tests(),
        fallbacks::tests(),
        sources::tests(),
        last_resort::tests(),
        privileges::tests(),
        policies::tests(),
        seal::tests(),
        still_writing::tests(),
        dry_run::tests(),
        verity::tests(),
    ];
    btrfs_testkit::main(tests.into_iter().flatten())
}
