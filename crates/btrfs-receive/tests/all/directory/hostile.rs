//! The hostile streams of `testdata/hostile`, extracted: the error of the
//! manifest, no record that should not be, nothing changed outside.

use std::path::Path;

use btrfs_testkit::corpus::{self, Case};
use btrfs_testkit::{Mount, Site, Test};

use super::answer::describe;
use super::support::{USER, as_user, names, records, try_extract};

/// Where a receiver lands that takes paths from the root of the machine.
const OUTSIDE: &str = "/run/btrfs-testkit/escaped";

/// Streams whose defect is an attribute that filesystems refuse: it is left
/// out, and listed, and the extraction is complete.
const LEFT_OUT: [&str; 7] = [
    "xattr-acl-garbage",
    "xattr-capability-garbage",
    "xattr-compression-unknown",
    "xattr-name-256-bytes",
    "xattr-name-empty",
    "xattr-namespace-unknown",
    "at-link-set-xattr",
];

/// An attribute larger than btrfs takes.
const LARGE: &str = "xattr-value-60-kib";

/// What differs from the manifest.
fn check(case: &Case, into: &Path) -> Vec<String> {
    let result = try_extract(&case.bytes, into);
    let mut wrong = Vec::new();
    let excludes = LEFT_OUT.contains(&case.name.as_str());
    match &result {
        Ok(extracted) if case.error == "none" || excludes => {
            if excludes == extracted.losses.is_empty() {
                wrong.push(format!("left out: {:?}", extracted.losses));
            }
        }
        // Not every filesystem refuses it.
        Ok(_) if case.name == LARGE => return wrong,
        Ok(_) => wrong.push("no error".to_owned()),
        Err(error) => {
            let (found, at) = describe(error);
            let expected = match case.layer.is_codec() {
                true => "stream",
                false => &case.error,
            };
            if found != expected || at != case.at {
                wrong.push(format!(
                    "expected {expected} at {:?}, found {found} at {at:?}: {error}",
                    case.at
                ));
            }
        }
    }
    let finished = case.finished + u64::from(excludes);
    let complete = records(into).len() as u64;
    if complete != finished {
        wrong.push(format!("{complete} finished"));
    }
    let partial = names(into)
        .iter()
        .filter(|n| n.ends_with(".incomplete"))
        .count();
    if partial != usize::from(case.partial && !excludes) {
        wrong.push(format!("{partial} partial"));
    }
    wrong
}

fn check_all(user: bool) {
    let mount = Mount::tmpfs(256 << 20);
    let mut failures = Vec::new();
    for case in corpus::load() {
        let site = Site::new(mount.path(), &case.name);
        std::os::unix::fs::chown(site.path(), Some(USER), Some(USER)).unwrap();
        let mut wrong = match user {
            true => as_user(|| check(&case, site.path())),
            false => check(&case, site.path()),
        };
        wrong.extend(site.damage());
        if Path::new(OUTSIDE).symlink_metadata().is_ok() {
            wrong.push(format!("{OUTSIDE} was made"));
        }
        failures.extend(
            wrong
                .into_iter()
                .map(|wrong| format!("{}: {wrong}", case.name)),
        );
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

fn the_corpus_as_root() {
    check_all(false);
}

fn the_corpus_as_an_ordinary_user() {
    check_all(true);
}

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::on_btrfs("the_corpus_as_root", the_corpus_as_root),
        Test::on_btrfs(
            "the_corpus_as_an_ordinary_user",
            the_corpus_as_an_ordinary_user,
        ),
    ]
}
