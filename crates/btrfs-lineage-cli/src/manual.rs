//! The manual page, made by a test.

use btrfs_testkit::Manual;
use clap::CommandFactory;

#[test]
fn the_page_in_the_repository_is_current() {
    let manual = Manual {
        command: crate::args::Args::command(),
        template: include_str!("manual.8"),
        version: env!("CARGO_PKG_VERSION"),
        typical: None,
    };
    manual.check(env!("CARGO_MANIFEST_DIR"), "btrfs-lineage.8");
}
