//! The hostile streams of `testdata/hostile`, through the command.

use btrfs_testkit::corpus::{self, Case};
use btrfs_testkit::{LoopFilesystem, Site, Test, test};

use crate::support::{receive, text};

pub(crate) fn tests() -> Vec<Test> {
    vec![test!(every_hostile_stream_is_answered)]
}

/// Exit status 1, an error that says where, and nothing stamped.
fn every_hostile_stream_is_answered() {
    let filesystem = LoopFilesystem::new();
    let mut wrong = Vec::new();
    for case in corpus::load() {
        for what in check(&case, &filesystem) {
            wrong.push(format!("{}: {what}", case.name));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn check(case: &Case, filesystem: &LoopFilesystem) -> Vec<String> {
    let site = Site::new(filesystem.path(), &case.name);
    // Otherwise such data is handed to the kernel, which does not look into it.
    let options: &[&str] = match case.name.starts_with("encoded-") {
        true => &["--force-decompress"],
        false => &[],
    };
    let output = receive(&case.bytes, options, site.path());
    let mut wrong = site.damage();
    let (_, stderr) = text(&output);
    let expected = i32::from(case.error != "none");
    if output.status.code() != Some(expected) {
        wrong.push(format!("{}: {stderr}", output.status));
    }
    let place = format!("byte {})", case.at.offset);
    let error = stderr.lines().find(|line| line.starts_with("ERROR: "));
    // Of an empty input there is nothing to say but that.
    let has_place = expected == 1 && case.error != "Empty";
    if has_place && !error.is_some_and(|line| line.contains(&place)) {
        wrong.push(format!("no error with {place:?}: {stderr}"));
    }
    if site.subvolumes() != Ok((case.finished, case.partial.into())) {
        wrong.push(format!("{:?}", site.subvolumes()));
    }
    site.clear();
    wrong
}
