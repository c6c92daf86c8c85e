//! Stored streams: what they need that is gone.

use std::fs;
use std::path::Path;

use btrfs_testkit::raw::{RawStream, attr};
use btrfs_testkit::{LoopFilesystem, Sender, Test, files, subvolume, test};

use super::support::{By, Sent, audit, outcome, receive};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(a_parent_that_is_gone),
        test!(a_clone_source_that_is_gone),
        test!(streams_that_wait_for_one_another),
        test!(streams_that_cannot_be_read),
    ]
}

/// Audits the filesystem, and the streams in a directory.
fn with_stored(to: &LoopFilesystem, stored: &Path, options: &[&str]) -> (i32, String, String) {
    let arguments = [
        to.path().as_os_str(),
        "--stored".as_ref(),
        stored.as_os_str(),
    ];
    outcome(&audit(
        arguments
            .into_iter()
            .chain(options.iter().map(AsRef::as_ref)),
    ))
}

fn a_parent_that_is_gone() {
    let sent = Sent::new();
    let (to, archive) = (LoopFilesystem::new(), tempfile::tempdir().unwrap());
    let archive = archive.path();
    fs::write(archive.join("tuesday.stream"), sent.incremental()).unwrap();
    for options in [&[][..], &["--quick"]] {
        let (status, printed, stderr) = with_stored(&to, archive, options);
        assert_eq!((status, &*stderr), (1, ""));
        let expected = format!(
            "{}: the parent of tuesday is in no stream before it, and not on the filesystem: ",
            archive.join("tuesday.stream").display()
        );
        assert!(printed.starts_with(&expected), "{printed}");
    }
    // It is on the filesystem: also beside what is looked at.
    let monday = receive(By::Ours, &sent.full, to.path());
    let other = to.path().join("other");
    fs::create_dir(&other).unwrap();
    for path in [to.path(), &other] {
        let arguments = [path.as_os_str(), "--below".as_ref(), "--stored".as_ref()];
        let (status, _, stderr) = outcome(&audit(arguments.into_iter().chain([archive.as_ref()])));
        assert_eq!((status, &*stderr), (0, ""));
    }
    // There is one that cannot serve.
    subvolume::flip(&monday, false);
    subvolume::stamp(
        &monday,
        &subvolume::facts(&sent.from.path().join("work")).uuid,
        1,
    );
    let (status, printed, _) = with_stored(&to, archive, &[]);
    assert!(
        status == 1 && printed.contains("The stream cannot be received."),
        "{printed}"
    );
    // It is among the streams.
    fs::write(archive.join("monday.stream"), &sent.full).unwrap();
    subvolume::delete(&monday);
    assert_eq!(with_stored(&to, archive, &[]).0, 0);
    assert_eq!(with_stored(&to, archive, &["--quick"]).0, 0);
}

fn a_clone_source_that_is_gone() {
    let from = LoopFilesystem::new();
    let at = |name: &str| from.path().join(name);
    let work = subvolume::create(&at("work"));
    let base = subvolume::snapshot_read_only(&work, &at("base"));
    fs::write(work.join("file"), files::pattern(1, 1 << 20, false)).unwrap();
    let source = subvolume::snapshot_read_only(&work, &at("source"));
    let clone = subvolume::snapshot_read_only(&work, &at("clone"));
    let (to, archive) = (LoopFilesystem::new(), tempfile::tempdir().unwrap());
    let stream = Sender::new(&clone).parent(&base).clone_source(&source);
    fs::write(archive.path().join("clone.stream"), stream.to_vec()).unwrap();
    let base = Sender::new(&base).to_vec();
    fs::write(archive.path().join("base.stream"), base).unwrap();
    let (status, printed, _) = with_stored(&to, archive.path(), &[]);
    assert!(
        status == 1 && printed.contains("the clone source of clone is in no"),
        "{printed}"
    );
    assert_eq!(with_stored(&to, archive.path(), &["--quick"]).0, 0);
    let source = Sender::new(&source).to_vec();
    fs::write(archive.path().join("source.stream"), source).unwrap();
    assert_eq!(with_stored(&to, archive.path(), &[]).0, 0);
}

/// The streams of two subvolumes, each with the other as parent.
fn streams_that_wait_for_one_another() {
    let (to, archive) = (LoopFilesystem::new(), tempfile::tempdir().unwrap());
    let archive = archive.path();
    let [one, other, last] = [1_u8, 2, 3].map(|byte| [byte; 16]);
    for (name, uuid, parent) in [
        ("one", one, other),
        ("other", other, one),
        ("last", last, one),
    ] {
        let stream = RawStream::header(1)
            .command(
                2,
                [
                    attr::path(name),
                    attr::uuid(uuid),
                    attr::ctransid(7),
                    attr::clone_uuid(parent),
                    attr::clone_ctransid(7),
                ],
            )
            .end();
        fs::write(archive.join(name), stream.into_bytes()).unwrap();
    }
    for options in [&[][..], &["--quick"]] {
        let (status, printed, stderr) = with_stored(&to, archive, options);
        assert_eq!((status, &*stderr), (1, ""));
        for name in ["one", "other", "last"] {
            let line = format!("the parent of {name} is in no stream before it");
            assert!(printed.contains(&line), "{printed}");
        }
    }
    // One parent is on the filesystem: the others come one after another.
    let made = subvolume::create(&to.path().join("other"));
    let uuid = "02020202-0202-0202-0202-020202020202";
    subvolume::stamp(&made, uuid, 7);
    subvolume::set_read_only(&made, true);
    for options in [&[][..], &["--quick"]] {
        let (status, printed, stderr) = with_stored(&to, archive, options);
        assert_eq!((status, &*stderr), (0, ""), "{printed}");
    }
}

fn streams_that_cannot_be_read() {
    let sent = Sent::new();
    let (to, archive) = (LoopFilesystem::new(), tempfile::tempdir().unwrap());
    let (status, _, stderr) = with_stored(&to, archive.path(), &[]);
    assert!(
        status == 3 && stderr.contains("no send stream in "),
        "{stderr}"
    );
    fs::write(archive.path().join("full"), &sent.full).unwrap();
    fs::write(archive.path().join("packed"), b"\x1f\x8b\x08").unwrap();
    let (status, _, stderr) = with_stored(&to, archive.path(), &[]);
    assert!(
        status == 3 && stderr.contains("packed: gzip: the compressed data is cut off"),
        "{stderr}"
    );
    fs::remove_file(archive.path().join("packed")).unwrap();
    fs::write(archive.path().join("cut"), &sent.full[..1000]).unwrap();
    let (status, printed, stderr) = with_stored(&to, archive.path(), &[]);
    assert!(
        status == 1 && printed.ends_with("1 problem was found\n"),
        "{printed}"
    );
    assert!(stderr.contains("cut: "), "{stderr}");
    // What is damaged brings nothing.
    fs::remove_file(archive.path().join("full")).unwrap();
    fs::write(archive.path().join("tuesday"), sent.incremental()).unwrap();
    let (status, printed, _) = with_stored(&to, archive.path(), &[]);
    assert!(
        status == 1 && printed.ends_with("2 problems were found\n"),
        "{printed}"
    );
}
