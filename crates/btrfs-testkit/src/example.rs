//! Examples run as the processes they are.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output};

use crate::process::output_with_input;

/// Runs an example of the crate under test with these arguments and input.
///
/// It has to be built: `cargo test` does that, unless it is told to build one
/// test program only (`--test`): then `cargo build --examples` has to come
/// before.
pub fn run_example<A: AsRef<OsStr>>(
    name: &str,
    arguments: impl IntoIterator<Item = A>,
    input: &[u8],
) -> Output {
    // target/debug/deps/test, target/debug/examples/name
    let test = std::env::current_exe().unwrap();
    let built = test.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(
        built.exists(),
        "{}: run cargo build --examples",
        built.display()
    );
    output_with_input(Command::new(&built).args(arguments), input)
}

/// The examples of the crate at `manifest_directory`, by name.
pub fn examples_of(manifest_directory: &str) -> BTreeSet<String> {
    let entries = Path::new(manifest_directory).join("examples");
    let entries = std::fs::read_dir(entries).unwrap();
    entries
        .map(|entry| entry.unwrap().path())
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect()
}
