//! `btrfs-lineage digest` and `adopt` on a real btrfs.

mod adoptions;
mod changes;
mod crashes;
mod digests;
mod histories;
mod support;

use btrfs_testkit::Test;

pub(crate) fn tests() -> Vec<Test> {
    let tests = [
        adoptions::tests(),
        changes::tests(),
        crashes::tests(),
        digests::tests(),
        histories::tests(),
    ];
    tests.into_iter().flatten().collect()
}
