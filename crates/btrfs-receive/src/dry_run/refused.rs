//! Commands that btrfs refuses whatever there is, by what they ask for.

use btrfs_sendstream::{Command, CommandBuf};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::error::Cause;
use crate::xattr::{ACCESS_ACL, DEFAULT_ACL};

/// Longest name of an extended attribute (`XATTR_NAME_MAX`).
const XATTR_NAME_MAX: usize = 255;

/// What name and value of an extended attribute leave of a tree node: its
/// header, the item and the entry.
const XATTR_OVERHEAD: usize = 101 + 25 + 30;

/// Attributes that btrfs takes, by the beginning of their names.
const NAMESPACES: [&[u8]; 4] = [b"user.", b"trusted.", b"security.", b"btrfs."];

/// What a receive would say on a filesystem with tree nodes of `node_size`
/// bytes; `None` if nothing speaks against the command.
pub(super) fn refusal(command: &CommandBuf, node_size: u32) -> Option<Cause> {
    match command {
        Command::Mknod { rdev, .. } if u32::try_from(*rdev).is_err() => Some(Cause::OutOfRange {
            what: "device number",
            value: (*rdev).into(),
        }),
        Command::SetXattr { name, data, .. } => {
            let errno = xattr(name, data.len(), node_size)?;
            Some(Cause::system("fsetxattr", errno))
        }
        Command::Fallocate { mode, len, .. } if *len > 0 && !takes_mode(*mode) => {
            Some(Cause::system("fallocate", Errno::OPNOTSUPP))
        }
        Command::Subvol { .. }
        | Command::Snapshot { .. }
        | Command::Mkfile { .. }
        | Command::Mkdir { .. }
        | Command::Mknod { .. }
        | Command::Mkfifo { .. }
        | Command::Mksock { .. }
        | Command::Symlink { .. }
        | Command::Rename { .. }
        | Command::Link { .. }
        | Command::Unlink { .. }
        | Command::Rmdir { .. }
        | Command::RemoveXattr { .. }
        | Command::Write { .. }
        | Command::Clone(_)
        | Command::EncodedWrite(_)
        | Command::Truncate { .. }
        | Command::Chmod { .. }
        | Command::Chown { .. }
        | Command::Utimes { .. }
        | Command::UpdateExtent { .. }
        | Command::Fallocate { .. }
        | Command::FileAttr { .. }
        | Command::EnableVerity(_)
        | Command::End => None,
    }
}

fn xattr(name: &[u8], len: usize, node_size: u32) -> Option<Errno> {
    if name.is_empty() || name.len() > XATTR_NAME_MAX {
        return Some(Errno::RANGE);
    }
    let known = [ACCESS_ACL, DEFAULT_ACL].contains(&name)
        || NAMESPACES.iter().any(|it| name.starts_with(it));
    if !known {
        return Some(Errno::OPNOTSUPP);
    }
    let most = (node_size as usize).saturating_sub(XATTR_OVERHEAD);
    (name.len() + len > most).then_some(Errno::NOSPC)
}

fn takes_mode(mode: u32) -> bool {
    let (keep, punch) = (FallocateFlags::KEEP_SIZE, FallocateFlags::PUNCH_HOLE);
    let zero = FallocateFlags::ZERO_RANGE;
    let taken = [
        FallocateFlags::empty(),
        keep,
        punch | keep,
        zero,
        zero | keep,
    ];
    taken.iter().any(|it| it.bits() == mode)
}
