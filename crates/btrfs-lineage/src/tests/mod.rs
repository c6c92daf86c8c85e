//! Finding sources on real btrfs.

mod asked;
mod choice;
mod last_resort;
mod places;
mod privilege;
mod survey;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;

use ::uuid::Uuid;
use btrfs_testkit::{LoopFilesystem, subvolume};
use rustix::fs::{Mode, OFlags, openat};

use super::*;
use btrfs_ioctl::SubvolumeInfo;
use btrfs_testkit::unit::on_btrfs;

/// The UUID of a subvolume on some other filesystem.
const FAR: Uuid = Uuid::from_u128(0x1111_2222_3333_4444_5555_6666_7777_8888);

fn open(path: &Path) -> OwnedFd {
    File::open(path).unwrap().into()
}

fn info(path: &Path) -> SubvolumeInfo {
    sys::subvolume_info(open(path)).unwrap()
}

/// A subvolume as if received from `uuid` at `stransid`, with a file that
/// holds its name; read-only.
fn received(path: &Path, uuid: Uuid, stransid: u64) -> PathBuf {
    subvolume::create(path);
    std::fs::write(
        path.join("file"),
        path.file_name().unwrap().as_encoded_bytes(),
    )
    .unwrap();
    seal(path, uuid, stransid);
    path.to_owned()
}

/// Does what the end of a receive does.
fn seal(path: &Path, uuid: Uuid, stransid: u64) {
    let root = open(path);
    rustix::fs::syncfs(&root).unwrap();
    sys::set_received_subvol(&root, uuid, stransid).unwrap();
    sys::subvol_set_read_only(&root, true).unwrap();
}

fn wanted(uuid: Uuid, ctransid: u64) -> SourceId {
    SourceId { uuid, ctransid }
}

/// Checks that a source is the subvolume at `path`, and that its files can be
/// opened.
#[track_caller]
fn assert_is(source: &Source, path: &Path) {
    assert_eq!(source.id(), info(path).id, "{}", path.display());
    assert_eq!(source.state().uuid, info(path).uuid);
    let file = openat(source, "file", OFlags::RDONLY, Mode::empty()).unwrap();
    let name = path.file_name().unwrap().as_encoded_bytes();
    let mut content = vec![0; 64];
    let read = rustix::io::read(file.as_fd(), &mut content).unwrap();
    assert_eq!(&content[..read], name);
}

/// The verdict about the subvolume with this id.
fn verdict_on(candidates: &[Candidate], id: u64) -> Option<Verdict> {
    let found = candidates.iter().find(|candidate| candidate.id == id);
    found.map(|candidate| candidate.verdict)
}
