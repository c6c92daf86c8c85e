//! Every file of the fuzz corpus, and every input that once crashed, through
//! the body of its target.

use std::fs;
use std::path::Path;

use btrfs_sendstream::fuzzing;

/// Runs a body over the files of a target.
fn over_files(target: &str, body: impl Fn(&[u8])) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    if !fuzz.is_dir() {
        // A published crate comes without the corpus.
        return;
    }
    let mut files = 0;
    for directory in ["corpus", "regressions"] {
        let Ok(entries) = fs::read_dir(fuzz.join(directory).join(target)) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            body(&fs::read(&path).unwrap());
            files += 1;
        }
    }
    assert!(files > 0, "no corpus for {target}");
}

#[test]
fn deframe() {
    over_files("deframe", fuzzing::deframe);
}

#[test]
fn split() {
    over_files("split", fuzzing::split);
}

#[test]
fn roundtrip() {
    over_files("roundtrip", fuzzing::roundtrip);
}

#[test]
fn decompress() {
    over_files("decompress", fuzzing::decompress);
}
