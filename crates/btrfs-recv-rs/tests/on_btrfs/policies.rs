//! What the options say that `btrfs receive` does not have.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use btrfs_sendstream::{CloneRange, Command, StreamPath, SubvolumeName, Version};
use btrfs_testkit::{LoopFilesystem, Test, files, subvolume, test};
use uuid::Uuid;

use crate::support::{Sent, encode, names_in, receive, text};

/// The tests of this file.
pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(what_is_left_out_is_told_and_the_rest_is_complete),
        test!(the_name_is_chosen_for_one),
        test!(what_is_unfinished_is_deleted),
        test!(a_parent_that_is_vouched_for_is_warned_of),
        test!(a_writable_parent_is_warned_of_if_it_may_have_changed),
        test!(a_read_only_parent_is_warned_of_if_it_was_changed),
        test!(a_clone_source_is_warned_of_if_it_may_have_changed),
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
        rest.starts_with("WARNING: first: complete except for "),
        "{rest}"
    );
    assert!(
        rest.ends_with(" extended attributes (--exclude-xattr), ignored as requested\n"),
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
        stderr.contains("ERROR: creating snapshot second failed: the input contains a second"),
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
        "deleted: {} (incomplete)\ncomplete: first\n",
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
        text(&output).1.ends_with(
            "WARNING: --parent was not used: the input contains no incremental stream\n"
        ),
        "{output:?}"
    );
}

/// Marked as received again after it was made writable, as by Incus.
fn a_writable_parent_is_warned_of_if_it_may_have_changed() {
    let sent = Sent::small();
    let to = LoopFilesystem::new();
    assert!(receive(&sent.full, &[], to.path()).status.success());
    let parent = to.path().join("parent");
    subvolume::set_read_only(&to.path().join("first"), false);
    std::fs::rename(to.path().join("first"), &parent).unwrap();
    let uuid = subvolume::facts(&sent.from.path().join("first")).uuid;
    subvolume::stamp(&parent, &uuid, 0);
    for (round, warns) in [(1, false), (2, true)] {
        if warns {
            std::fs::write(parent.join("file"), b"other").unwrap();
            to.sync();
        }
        let warning = format!(
            "WARNING: second: its parent is parent (subvolume {}), which is writable and may have \
             changed since it was received; if more than access times changed, the subvolume is \
             wrong, but marked as received; \
             btrfs-lineage digest shows whether it is the same as the sender's\n",
            subvolume::facts(&parent).id
        );
        let expected = if warns { &*warning } else { "" };
        let output = receive(&sent.incremental, &["--dry-run"], to.path());
        assert!(output.status.success(), "{output:?}");
        assert_eq!(text(&output).1, expected);
        let output = receive(&sent.incremental, &["-q", "--json"], to.path());
        assert!(output.status.success(), "{output:?}");
        assert_eq!(text(&output).1, expected);
        let told = format!("\"writable\":true,\"may_have_changed\":{warns}}}");
        assert!(text(&output).0.contains(&told), "{output:?}");
        let second = to.path().join("second");
        assert!(is_complete(&second));
        std::fs::rename(second, to.path().join(format!("round-{round}"))).unwrap();
    }
}

/// Made writable by the ioctl alone, so that it has its received UUID still.
fn a_read_only_parent_is_warned_of_if_it_was_changed() {
    let sent = Sent::small();
    let to = LoopFilesystem::new();
    assert!(receive(&sent.full, &[], to.path()).status.success());
    let parent = to.path().join("first");
    for changes in [false, true] {
        subvolume::flip(&parent, false);
        if changes {
            std::fs::write(parent.join("other"), b"other").unwrap();
        }
        subvolume::flip(&parent, true);
        let inode = std::fs::metadata(&parent).unwrap().ino();
        let warning = format!(
            "WARNING: second: its parent is first (subvolume {}), which was made writable and \
             changed after it was received (inode {inode}), and is read-only again; unless the \
             sender's has the same changes, the subvolume is wrong, but marked as received; \
             btrfs-lineage digest shows whether it is the same as the sender's\n",
            subvolume::facts(&parent).id
        );
        let expected = if changes { &*warning } else { "" };
        let output = receive(&sent.incremental, &["--dry-run"], to.path());
        assert!(output.status.success(), "{output:?}");
        let end = if changes {
            "a receive would succeed, but see the WARNING\n"
        } else {
            "no problem was found\n"
        };
        assert!(text(&output).0.ends_with(end), "{output:?}");
        assert_eq!(text(&output).1, expected);
        let output = receive(&sent.incremental, &["-q", "--json"], to.path());
        assert!(output.status.success(), "{output:?}");
        assert_eq!(text(&output).1, expected);
        let key = format!("\"may_have_changed\":false,\"changed_inode\":{inode}}}");
        assert_eq!(text(&output).0.contains(&key), changes, "{output:?}");
        subvolume::delete(&to.path().join("second"));
    }
    // Data that is not on disk yet: it is, in the snapshot.
    subvolume::delete(&parent);
    assert!(receive(&sent.full, &[], to.path()).status.success());
    subvolume::flip(&parent, false);
    files::write(&parent.join("file"), 0, &[b'x'; 65_536]).unwrap();
    subvolume::flip(&parent, true);
    let output = receive(&sent.incremental, &["-q"], to.path());
    assert!(output.status.success(), "{output:?}");
    assert!(
        text(&output).1.contains("changed after it was received"),
        "{output:?}"
    );
    subvolume::delete(&to.path().join("second"));
    // There is an equal of it that was not changed.
    assert!(
        receive(&sent.full, &["--name=copy"], to.path())
            .status
            .success()
    );
    let output = receive(&sent.incremental, &["-q"], to.path());
    assert!(output.status.success(), "{output:?}");
    assert_eq!(text(&output).1, "");
}

fn a_clone_source_is_warned_of_if_it_may_have_changed() {
    let from = Uuid::from_u128(77);
    let to = LoopFilesystem::new();
    let source = subvolume::create(&to.path().join("source"));
    std::fs::write(source.join("file"), vec![b'x'; 65_536]).unwrap();
    to.sync();
    subvolume::stamp(&source, &from.to_string(), 0);
    let path = |path: &'static str| StreamPath::parse(path.as_bytes()).unwrap();
    let stream = encode(
        Version::V2,
        &[
            Command::Subvol {
                name: SubvolumeName::parse(&b"clone"[..]).unwrap(),
                uuid: Uuid::from_u128(78),
                ctransid: 7,
            },
            Command::Mkfile {
                path: path("file"),
                ino: 257,
            },
            Command::Clone(CloneRange {
                path: path("file"),
                offset: 0,
                len: 65_536,
                source_uuid: from,
                source_ctransid: 7,
                source_path: path("file"),
                source_offset: 0,
            }),
            Command::End,
        ],
    );
    let warning = format!(
        "WARNING: clone: cloned from source (subvolume {}), which is writable and may have changed \
         since it was received; if its data changed, the subvolume is wrong, but marked as \
         received; btrfs-lineage digest shows whether it is the same as the sender's\n",
        subvolume::facts(&source).id
    );
    for expected in ["", &*warning] {
        let output = receive(&stream, &["--dry-run"], to.path());
        assert!(output.status.success(), "{output:?}");
        assert_eq!(text(&output).1, expected);
        let output = receive(&stream, &["-q"], to.path());
        assert!(output.status.success(), "{output:?}");
        assert_eq!(text(&output).1, expected);
        subvolume::delete(&to.path().join("clone"));
        std::fs::write(source.join("another"), b"").unwrap();
    }
    // Read-only, and changed.
    subvolume::flip(&source, true);
    let id = subvolume::facts(&source).id;
    let inode = std::fs::metadata(&source).unwrap().ino();
    let warning = format!(
        "WARNING: clone: cloned from source (subvolume {id}), which was made writable and changed \
         after it was received (inode {inode}), and is read-only again; unless the sender's has the \
         same changes, the subvolume is wrong, but marked as received; \
             btrfs-lineage digest shows whether it is the same as the sender's\n"
    );
    for options in [["--dry-run"], ["-q"]] {
        let output = receive(&stream, &options, to.path());
        assert!(output.status.success(), "{output:?}");
        assert_eq!(text(&output).1, warning);
    }
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
                "ERROR: {plain} cannot be used as parent or clone source: \
                 what was named as a source is not the root of a subvolume\n"
            )
        );
    }
}
