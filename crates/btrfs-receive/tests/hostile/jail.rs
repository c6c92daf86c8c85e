//! `-C`: only subvolumes inside a directory serve as sources.

use std::fs;
use std::path::{Path, PathBuf};

use btrfs_receive::{BtrfsDestination, ReceiveError, Receiver, Report};
use btrfs_testkit::raw::RawStream;
use btrfs_testkit::{LoopFilesystem, Site, Test, subvolume, test};

use crate::answer::describe;
use crate::confine::{incremental, uuid_of};

/// A read-only subvolume with a file `f`.
fn source(directory: &Path, content: u8) -> PathBuf {
    let work = subvolume::create(&directory.join("work"));
    fs::write(work.join("f"), [content; 4096]).unwrap();
    let snapshot = subvolume::snapshot_read_only(&work, &directory.join("source"));
    subvolume::delete(&work);
    snapshot
}

fn receive(site: &Site, jailed: bool, stream: &RawStream) -> Result<Report, ReceiveError> {
    let mut destination = BtrfsDestination::builder();
    if jailed {
        destination = destination.jail(site.path());
    }
    let destination = destination.open(site.path()).unwrap();
    let bytes = stream.clone().into_bytes();
    Receiver::new(destination).receive(&bytes[..], &mut ())
}

fn sources_outside_are_refused_with_a_jail() {
    let filesystem = LoopFilesystem::new();
    let site = Site::new(filesystem.path(), "jail");
    let outside = uuid_of(&source(filesystem.path(), b'o'));
    let clone = RawStream::new(1)
        .mkfile("f")
        .clone_block("f", outside, "f")
        .end();
    for stream in [&clone, &incremental(1, "s", outside).end()] {
        let error = receive(&site, true, stream).unwrap_err();
        assert_eq!(describe(&error).0, "NoSource", "{error}");
        let (finished, _) = site.subvolumes().unwrap();
        assert_eq!(finished, 0);
        site.clear();
        receive(&site, false, stream).unwrap();
        assert_eq!(fs::read(site.path().join("s/f")).unwrap(), [b'o'; 4096]);
        site.clear();
    }
    site.assert_untouched();
}

fn sources_inside_serve_with_a_jail() {
    let filesystem = LoopFilesystem::new();
    let site = Site::new(filesystem.path(), "jail");
    let inside = uuid_of(&source(site.path(), b'i'));
    let clone = RawStream::new(1)
        .mkfile("f")
        .clone_block("f", inside, "f")
        .end();
    receive(&site, true, &clone).unwrap();
    assert_eq!(fs::read(site.path().join("s/f")).unwrap(), [b'i'; 4096]);
}

/// `btrfs receive -C` opened clone sources by paths that symbolic links on
/// the way could lead anywhere.
fn links_in_a_source_are_not_followed() {
    let filesystem = LoopFilesystem::new();
    let site = Site::new(filesystem.path(), "jail");
    let work = subvolume::create(&site.path().join("work"));
    std::os::unix::fs::symlink("../canary", work.join("out")).unwrap();
    let source = subvolume::snapshot_read_only(&work, &site.path().join("source"));
    let stream = RawStream::new(1)
        .mkfile("f")
        .clone_block("f", uuid_of(&source), "out/file")
        .end();
    for jailed in [true, false] {
        let error = receive(&site, jailed, &stream).unwrap_err();
        assert_eq!(describe(&error).0, "Escape", "{error}");
        subvolume::delete(&site.path().join("s"));
    }
}

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(sources_outside_are_refused_with_a_jail),
        test!(sources_inside_serve_with_a_jail),
        test!(links_in_a_source_are_not_followed),
    ]
}
