//! What the tests share.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use btrfs_lineage::digest::{DigestDocument, DigestOptions, digest};
use btrfs_receive::{BtrfsDestination, Receiver};
use btrfs_testkit::{LoopFilesystem, Sample, subvolume};

/// The command under test.
pub(crate) const COMMAND: &str = env!("CARGO_BIN_EXE_btrfs-lineage");

/// Runs the command.
pub(crate) fn run(args: &[&str], paths: &[&Path]) -> Output {
    let mut command = Command::new(COMMAND);
    command.args(args).args(paths).stdin(Stdio::null());
    command.output().unwrap()
}

/// Standard output and standard error.
pub(crate) fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// The digest of a subvolume, by the library.
pub(crate) fn document(path: &Path) -> DigestDocument {
    document_with(path, |_| {})
}

pub(crate) fn document_with(path: &Path, set: impl Fn(&mut DigestOptions)) -> DigestDocument {
    let mut options = DigestOptions::default();
    options.allow_writable = true;
    set(&mut options);
    digest(File::open(path).unwrap(), options)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A subvolume with every kind of file, and a read-only snapshot of it.
pub(crate) fn sample(filesystem: &LoopFilesystem) -> (PathBuf, PathBuf) {
    let work = subvolume::create(&filesystem.path().join("work"));
    Sample::default().build(&work);
    let snapshot = filesystem.path().join("first");
    subvolume::snapshot_read_only(&work, &snapshot);
    (work, snapshot)
}

pub(crate) fn receive(stream: &[u8], directory: &Path) -> Result<(), String> {
    let destination = BtrfsDestination::open(directory).map_err(|error| error.to_string())?;
    let received = Receiver::new(destination).receive(stream, &mut ());
    received.map(drop).map_err(|error| error.to_string())
}

/// Runs a program that has to succeed.
pub(crate) fn program(name: &str, args: &[&str], paths: &[&Path]) {
    let status = Command::new(name).args(args).args(paths).status();
    assert!(status.unwrap().success(), "{name} {args:?} {paths:?}");
}
