//! Every file of the fuzz corpus, and every input that once crashed, through
//! the body of its target.

use std::fs;
use std::path::Path;

use btrfs_receive::fuzzing;

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
fn plan() {
    over_files("plan", |data| {
        let _ = fuzzing::plan(data);
    });
}

#[test]
fn confine() {
    over_files("confine", fuzzing::confine);
}

#[test]
fn transforms() {
    over_files("transforms", |data| {
        fuzzing::transforms(data);
    });
}
