//! The differential test, with the reference receiver in the place of ours.

use btrfs_testkit::history::{Differential, Features};
use btrfs_testkit::{Compared, Test, reference_receive, test};

fn the_reference_receives_what_it_can() {
    // An incremental stream that leaves the root alone brings no times for it,
    // but receiving creates new files there first, which moves them.
    let compared = Compared {
        atime: true,
        root_times: false,
        ..Compared::default()
    };
    Differential::new(reference_receive)
        .features(Features::for_reference())
        .compared(compared)
        .run();
}

pub(crate) fn tests() -> Vec<Test> {
    vec![test!(the_reference_receives_what_it_can)]
}
