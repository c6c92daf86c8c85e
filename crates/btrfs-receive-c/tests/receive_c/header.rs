//! The header that is checked in is the one that the sources give.

use std::path::Path;

use btrfs_testkit::Test;

use crate::program::CRATE;

pub(crate) fn tests() -> Vec<Test> {
    vec![Test::anywhere(
        "the_header_is_current",
        the_header_is_current,
    )]
}

/// Prints the header that it should be; with `UPDATE` in the environment,
/// writes it.
fn the_header_is_current() {
    let directory = Path::new(CRATE);
    let mut config = cbindgen::Config::from_file(directory.join("cbindgen.toml")).unwrap();
    config.sort_by = cbindgen::SortKey::None;
    let bindings = cbindgen::Builder::new()
        .with_config(config)
        .with_src(directory.join("src/types.rs"))
        .with_src(directory.join("src/handle.rs"))
        .with_src(directory.join("src/sys/mod.rs"))
        .generate()
        .unwrap();
    let mut header = Vec::new();
    bindings.write(&mut header);
    let header = String::from_utf8(header).unwrap();
    let path = directory.join("include/btrfs-receive.h");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &header).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        checked_in == header,
        "run with UPDATE=1 in the environment; it should be:\n{header}"
    );
}
