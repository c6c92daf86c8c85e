//! What a receive that was interrupted leaves.

use std::os::fd::AsFd;

use rustix::fs::fgetxattr;

use crate::candidate::SubvolumeState;

/// The name of an extended attribute. On the root of a writable subvolume that has a received UUID: its receive
/// was interrupted before it was made read-only. What it holds is complete,
/// except for the owner, the mode and the ACL of the root.
pub const UNFINISHED: &[u8] = b"user.btrfs-receive.unfinished";

/// What follows the name of a subvolume while an atomic receive builds it. While it
/// is made read-only, a hyphen and 16 hexadecimal digits follow too.
pub const RECEIVING: &[u8] = b".receiving";

/// The directory with the state of resumable receives, in the directory that
/// subvolumes are received in or in another. It has a directory for each receive, by
/// the name of the subvolume, in which the checkpoints lie.
pub const STATE_DIRECTORY: &str = "btrfs-recv-rs.unfinished";

/// What a subvolume is called while it has a directory of its own, which has such a
/// name.
pub const INSIDE: &[u8] = b"subvolume";

/// The name that a subvolume is to have whose name says that it is being received.
pub(super) fn final_name(name: &[u8]) -> Option<&[u8]> {
    let digits = |end: &[u8]| end.len() == 16 && end.iter().all(u8::is_ascii_hexdigit);
    let hyphen = name.len().checked_sub(17);
    let name = match hyphen.and_then(|at| name.split_at_checked(at)) {
        Some((before, [b'-', end @ ..])) if digits(end) && before.ends_with(RECEIVING) => before,
        _ => name,
    };
    name.strip_suffix(RECEIVING).filter(|name| !name.is_empty())
}

/// Whether the receive of the subvolume was interrupted after it got its
/// received UUID.
pub(crate) fn is_unfinished(root: impl AsFd, state: &SubvolumeState) -> bool {
    !state.read_only
        && !state.received_uuid.is_nil()
        && fgetxattr(root, UNFINISHED, &mut [0_u8; 0]).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_receives_in_progress() {
        let of = |name: &'static str| final_name(name.as_bytes()).map(|it| it.to_vec());
        assert_eq!(of("a.receiving"), Some(b"a".to_vec()));
        assert_eq!(of("a-b.receiving-0123456789abcdef"), Some(b"a-b".to_vec()));
        for other in [
            "a",
            ".receiving",
            "a.receiving-",
            "a.receiving-0123456789abcdeg",
            "a.receiving-0123456789abcdef0",
            "a.receiving.",
            "-0123456789abcdef",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
