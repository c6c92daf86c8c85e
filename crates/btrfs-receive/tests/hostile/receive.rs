//! Receiving on btrfs.

use btrfs_receive::{BtrfsDestination, ReceiveError, Receiver, Report};
use btrfs_testkit::Site;
use btrfs_testkit::raw::RawStream;

/// Receives with default options.
pub(crate) fn receive(site: &Site, stream: RawStream) -> Result<Report, ReceiveError> {
    let destination = BtrfsDestination::open(site.path()).unwrap();
    Receiver::new(destination).receive(&stream.into_bytes()[..], &mut ())
}
