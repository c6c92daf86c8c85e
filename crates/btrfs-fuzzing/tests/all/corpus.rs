//! Every file of the fuzz corpus, and every input that once failed, through
//! the body of its target. (That of `confine` is in `btrfs-receive`.)

use btrfs_testkit::fuzz_inputs;

fn over_files(target: &str, body: impl Fn(&[u8])) {
    for (path, input) in fuzz_inputs(target) {
        println!("{}", path.display());
        body(&input);
    }
}

#[test]
fn deframe() {
    over_files("deframe", btrfs_fuzzing::deframe);
}

#[test]
fn split() {
    over_files("split", btrfs_fuzzing::split);
}

#[test]
fn roundtrip() {
    over_files("roundtrip", btrfs_fuzzing::roundtrip);
}

#[test]
fn decompress() {
    over_files("decompress", btrfs_fuzzing::decompress);
}

#[test]
fn unpack() {
    over_files("unpack", btrfs_fuzzing::unpack);
}

#[test]
fn plan() {
    over_files("plan", |input| {
        btrfs_fuzzing::plan(input);
    });
}

#[test]
fn transforms() {
    over_files("transforms", |input| {
        btrfs_fuzzing::transforms(input);
    });
}
