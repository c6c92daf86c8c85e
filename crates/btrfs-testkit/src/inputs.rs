//! The inputs of the fuzz targets.

use std::fs;
use std::path::{Path, PathBuf};

/// The inputs of a fuzz target, with their paths: its corpus, and every input
/// that once failed.
///
/// # Panics
/// If there is none.
pub fn fuzz_inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let mut inputs = Vec::new();
    for directory in ["corpus", "regressions"] {
        let Ok(entries) = fs::read_dir(fuzz.join(directory).join(target)) else {
            continue;
        };
        for entry in entries {
            let path = entry.expect("a directory that can be read").path();
            let input = fs::read(&path).expect("a file that can be read");
            inputs.push((path, input));
        }
    }
    assert!(!inputs.is_empty(), "no corpus for {target}");
    inputs
}
