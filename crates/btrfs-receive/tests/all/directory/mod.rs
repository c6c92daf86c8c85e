//! Streams extracted into plain directories.

#[path = "../../hostile/answer.rs"]
mod answer;
mod fidelity;
mod hostile;
mod life;
mod names;
mod property;
mod support;

use btrfs_testkit::Test;

pub(crate) fn tests() -> Vec<Test> {
    let all = [
        fidelity::tests(),
        life::tests(),
        names::tests(),
        hostile::tests(),
        property::tests(),
    ];
    all.into_iter().flatten().collect()
}
