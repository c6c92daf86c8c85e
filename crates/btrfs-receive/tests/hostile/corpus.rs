//! The hostile streams of `testdata/hostile`, received in memory and on
//! btrfs: the error of the manifest, nothing stamped that should not be,
//! nothing changed outside.

use std::path::Path;

use crate::answer::describe;
use btrfs_model::MemoryDestination;
use btrfs_receive::dry_run::DryRun;
use btrfs_receive::{BtrfsDestination, BtrfsDestinationBuilder, ReceiveError, Receiver, Report};
use btrfs_testkit::corpus::{self, Case, Place};
use btrfs_testkit::{LoopFilesystem, Site, Test, test};

/// Where a receiver lands that takes paths from the root of the machine.
const OUTSIDE: &str = "/run/btrfs-testkit/escaped";

/// What differs from the manifest.
fn check(case: &Case, result: &Result<Report, ReceiveError>) -> Vec<String> {
    let (found, at) = match result {
        Ok(_) if case.error == "none" => return Vec::new(),
        Ok(_) => return vec!["no error".to_owned()],
        Err(error) => describe(error),
    };
    let expected = match case.layer.is_codec() {
        true => "stream",
        false => &case.error,
    };
    let mut wrong = Vec::new();
    if found != expected {
        let error = result.as_ref().unwrap_err();
        wrong.push(format!("expected {expected}, found {found}: {error}"));
    }
    if at != case.at {
        wrong.push(format!("expected at {:?}, found at {at:?}", case.at));
    }
    wrong
}

fn check_memory(case: &Case) -> Vec<String> {
    let mut receiver = Receiver::new(MemoryDestination::new());
    let result = receiver.receive(&case.bytes[..], &mut ());
    let mut wrong = check(case, &result);
    let destination = receiver.into_destination();
    let all = destination.subvolumes();
    let finished = all.iter().filter(|s| s.received().is_some());
    let finished = finished.filter(|s| s.is_read_only()).count() as u64;
    let writable = all.iter().filter(|s| s.received().is_none());
    let partial = writable.filter(|s| !s.is_read_only()).count() as u64;
    if (finished, partial) != (case.finished, case.partial.into()) {
        wrong.push(format!("{finished} finished, {partial} partial"));
    }
    if finished + partial != all.len() as u64 {
        wrong.push("a subvolume between finished and not".to_owned());
    }
    wrong
}

fn check_btrfs(
    case: &Case,
    filesystem: &LoopFilesystem,
    destination: BtrfsDestinationBuilder,
) -> Vec<String> {
    let site = Site::new(filesystem.path(), &case.name);
    let destination = destination.open(site.path()).unwrap();
    let mut receiver = Receiver::new(destination);
    let mut wrong = check(case, &receiver.receive(&case.bytes[..], &mut ()));
    drop(receiver);
    match site.subvolumes() {
        Ok(found) if found == (case.finished, case.partial.into()) => {}
        found => wrong.push(format!("(finished, partial): {found:?}")),
    }
    wrong.extend(site.damage());
    if Path::new(OUTSIDE).symlink_metadata().is_ok() {
        wrong.push(format!("{OUTSIDE} was made"));
    }
    site.clear();
    wrong
}

#[track_caller]
fn assert_all(check: impl Fn(&Case) -> Vec<String>) {
    let mut failures = Vec::new();
    for case in corpus::load() {
        for wrong in check(&case) {
            failures.push(format!("{}: {wrong}", case.name));
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

fn in_memory() {
    assert_all(check_memory);
}

/// Encoded data is decoded first: by default the kernel stores what it is
/// given, and garbage is found when the file is read.
fn on_btrfs() {
    let filesystem = LoopFilesystem::new();
    assert_all(|case| {
        let destination = BtrfsDestination::builder().check_encoded(true);
        check_btrfs(case, &filesystem, destination)
    });
}

/// What a dry run cannot know: how large files are at that point, what the
/// kernel thinks of a value, and what user attributes are on.
const NOT_FORETOLD: [&str; 7] = [
    "at-link-set-xattr",
    "clone-huge",
    "clone-onto-itself",
    "clone-past-source",
    "xattr-acl-garbage",
    "xattr-capability-garbage",
    "xattr-compression-unknown",
];

/// A dry run finds the first error where the receive does.
fn a_dry_run_foretells() {
    let filesystem = LoopFilesystem::new();
    assert_all(|case| {
        let site = Site::new(filesystem.path(), &case.name);
        let forecast = DryRun::open(site.path()).unwrap().run(&case.bytes[..]);
        let mut wrong = site.damage();
        if site.subvolumes().ok() != Some((0, 0)) {
            wrong.push("a subvolume was made".to_owned());
        }
        site.clear();
        let expected = match case.error.as_str() {
            _ if NOT_FORETOLD.contains(&case.name.as_str()) => None,
            "none" => None,
            _ => Some(case.at),
        };
        let (findings, failures) = (&forecast.stream.findings, &forecast.failures);
        let found = findings.first().map(|it| it.at);
        let failed = failures.first().map(|it| it.at);
        let found = found.into_iter().chain(failed).min().map(|at| Place {
            stream: at.stream,
            command: at.command,
            offset: at.offset,
        });
        if found != expected {
            wrong.push(format!(
                "expected {expected:?}, found {findings:?}, {failures:?}"
            ));
        }
        wrong
    });
}

/// Encoded data is decoded by the receiver, which nothing hostile survives.
fn on_btrfs_decompressing() {
    let filesystem = LoopFilesystem::new();
    assert_all(|case| match case.name.starts_with("encoded-") {
        true => {
            let destination = BtrfsDestination::builder().force_decompress(true);
            check_btrfs(case, &filesystem, destination)
        }
        false => Vec::new(),
    });
}

/// With an error budget, too, nothing that had an error is finished.
fn going_on_after_errors_finishes_nothing() {
    for max_errors in [0, 5] {
        assert_all(|case| {
            let mut options = btrfs_receive::Options::default();
            options.max_errors = max_errors;
            let mut receiver = Receiver::with_options(MemoryDestination::new(), options);
            let result = receiver.receive(&case.bytes[..], &mut ());
            let destination = receiver.into_destination();
            let finished = destination
                .subvolumes()
                .iter()
                .filter(|s| s.received().is_some() || s.is_read_only())
                .count() as u64;
            let mut wrong = Vec::new();
            if result.is_ok() != (case.error == "none") {
                wrong.push(format!("{result:?}"));
            }
            if finished != case.finished {
                wrong.push(format!("{finished} finished"));
            }
            wrong
        });
    }
}

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::anywhere("in_memory", in_memory),
        Test::anywhere(
            "going_on_after_errors_finishes_nothing",
            going_on_after_errors_finishes_nothing,
        ),
        test!(on_btrfs),
        test!(a_dry_run_foretells),
        test!(on_btrfs_decompressing),
    ]
}
