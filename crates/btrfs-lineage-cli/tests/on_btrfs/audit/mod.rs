//! `btrfs-lineage audit` on real btrfs.

mod command;
mod json;
mod since;
mod stored;
mod support;

use btrfs_testkit::Test;

pub(crate) fn tests() -> Vec<Test> {
    let tests = [
        command::tests(),
        json::tests(),
        since::tests(),
        stored::tests(),
    ];
    tests.into_iter().flatten().collect()
}
