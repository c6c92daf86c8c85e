//! What the options say that `btrfs receive` does not have.

use std::path::Path;

use btrfs_testkit::{LoopFilesystem, Test, subvolume, test};

use crate::support::{Sent, names_in, receive, text};

/// The tests of this file.
pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(what_is_left_out_is_told_and_the_rest_is_complete),
        test!(the_name_is_chosen_for_one),
        test!(what_is_unfinished_is_deleted),
        test!(a_parent_that_is_vouched_for_is_warned_of),
        test!(a_source_that_is_none_is_refused),
    ]
}

fn is_complete(path: &Path) -> bool {
    let facts = subvolume::facts(path);
    facts.read_only && facts.received_uuid.is_some()
}

fn what_is_left_out_is_told_and_the_rest_is_complete() {
    let sent = Sent::new();
    let to = LoopFilesystem::new();
    let options = [
        "--exclude-xattr=user.*",
        "--exclude-xattr",
        "system.posix_acl_*",
    ];
    let output = receive(&sent.full, &options, to.path());
    assert!(output.status.success(), "{output:?}");
    let stderr = text(&output).1;
    let (first, rest) = stderr.split_once('\n').unwrap();
    assert_eq!(first, "At subvol first");
    assert!(
        rest.starts_with("WARNING: first: complete but for "),
        "{rest}"
    );
    assert!(
        rest.ends_with(" extended attributes (--exclude-xattr), left out as asked\n"),
        "{rest}"
    );
    assert!(is_complete(&to.path().join("first")));
    // What has nothing of that is complete, and nothing is said.
    let sent = Sent::small();
    let to = LoopFilesystem::new();
    let options = ["--exclude-xattr=*", "--no-fileattr", "--allow-unknown"];
    let output = receive(&sent.full, &options, to.path());
    assert_eq!(text(&output).1, "At subvol first\n");
}

fn the_name_is_chosen_for_one() {
    let sent = Sent::small();
    let to = LoopFilesystem::new();
    let output = receive(&sent.full, &["--name", "mine"], to.path());
    assert!(output.status.success(), "{output:?}");
    // The name that callers read is the one they find.
    assert_eq!(text(&output).1, "At subvol mine\n");
    assert!(is_complete(&to.path().join("mine")));
    subvolume::delete(&to.path().join("mine"));
    let both = [&sent.full[..], &sent.incremental].concat();
    let output = receive(&both, &["--name=mine"], to.path());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let stderr = text(&output).1;
    assert!(
        stderr.contains("ERROR: creating snapshot second failed: the input holds a second"),
        "{stderr}"
    );
    assert!(stderr.ends_with("complete: mine\n"), "{stderr}");
    assert_eq!(names_in(to.path()), ["mine"]);
}

fn what_is_unfinished_is_deleted() {
    let sent = Sent::small();
    let to = LoopFilesystem::new();
    let both = [
        &sent.full[..],
        &sent.incremental[..sent.incremental.len() - 10],
    ]
    .concat();
    let output = receive(&both, &["--on-error=delete"], to.path());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let deleted = format!(
        "deleted: {}, which was incomplete\ncomplete: first\n",
        to.path().join("second").display()
    );
    assert!(text(&output).1.ends_with(&deleted), "{output:?}");
    assert_eq!(names_in(to.path()), ["first"]);
    // What is in the way is not ours.
    let output = receive(&sent.full, &["--on-error=delete"], to.path());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(is_complete(&to.path().join("first")));
}

fn a_parent_that_is_vouched_for_is_warned_of() {
    let sent = Sent::small();
    let to = LoopFilesystem::new();
    assert!(receive(&sent.full, &[], to.path()).status.success());
    let first = to.path().join("first");
    let parent = subvolume::snapshot_writable(&first, &to.path().join("parent"));
    subvolume::delete(&first);
    assert!(!receive(&sent.incremental, &[], to.path()).status.success());
    let option = format!("--parent={}", parent.display());
    let output = receive(&sent.incremental, &[&option], to.path());
    assert!(output.status.success(), "{output:?}");
    let stderr = text(&output).1;
    assert!(
        stderr.starts_with("WARNING: second: its parent is parent (subvolume "),
        "{stderr}"
    );
    assert!(is_complete(&to.path().join("second")));
    let output = receive(&sent.full, &[&option], to.path());
    assert!(
        text(&output)
            .1
            .ends_with("WARNING: --parent was not used: the input has no incremental subvolume\n"),
        "{output:?}"
    );
}

fn a_source_that_is_none_is_refused() {
    let sent = Sent::small();
    let to = LoopFilesystem::new();
    std::fs::create_dir(to.path().join("plain")).unwrap();
    let plain = to.path().join("plain").display().to_string();
    for option in ["--parent", "--clone-source"] {
        let output = receive(&sent.full, &[option, &plain], to.path());
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(
            text(&output).1,
            format!(
                "ERROR: {plain} cannot be a parent or clone source: \
                 what was named as a source is not the root of a subvolume\n"
            )
        );
    }
}
