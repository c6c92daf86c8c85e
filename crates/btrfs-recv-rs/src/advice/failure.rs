//! Operations that failed.

use std::path::Path;

use btrfs_receive::resume::ResumeError;
use btrfs_receive::{Cause, Failure};
use rustix::fs::StatVfsMountFlags;
use rustix::io::Errno;
use rustix::thread::CapabilitySet;
use sendstream_common::text::bytes;

use super::{Advice, has};

/// What to say about a failed operation. `destination` is the directory that
/// subvolumes are created in, `to_come` how many bytes of the input are known
/// to follow.
pub(crate) fn on_failure(
    failure: &Failure,
    destination: &Path,
    to_come: Option<u64>,
) -> Option<Advice> {
    let mut cause = &*failure.cause;
    while let Cause::LeftIncomplete { cause: inner } = cause {
        cause = inner;
    }
    match cause {
        Cause::System { error, .. } => {
            let errno = Errno::from_raw_os_error(error.raw_os_error()?);
            match errno {
                Errno::NOSPC if failure.operation != "set_xattr" => {
                    Some(no_space(destination, to_come))
                }
                errno => on_errno(failure, errno, destination),
            }
        }
        other => on_cause(failure, other),
    }
}

fn on_cause(failure: &Failure, cause: &Cause) -> Option<Advice> {
    Some(match cause {
        Cause::NoFileData => Advice::new(
            "the stream was made to be looked at",
            "list what it changes with --dump, and send without --no-data to receive it",
        ),
        Cause::NotRegularFile { .. } if failure.operation == "clone" => Advice::new(
            "the file to clone from, or to clone to, is another kind of file than on the sender's \
             side: the parent or clone source here does not hold what the sender's holds",
            "send a full stream, or one against another parent",
        ),
        Cause::NotRegularFile { .. } | Cause::NoInodeFlags { .. } => other_parent(),
        Cause::SourceTooShort { .. } => other_parent(),
        Cause::Undecodable(_) => Advice::new(
            "the data was damaged on the sender's disk, or before the checksum of the stream was \
             made",
            "run btrfs scrub on the sender's side, then send again; without compressed data if it \
             stays",
        ),
        Cause::Moved { .. } => Advice::new(
            "another process renamed or moved the subvolume during the receive",
            "leave subvolumes alone while they are received; delete that one, then receive again",
        ),
        Cause::EnteredByOthers { .. } => Advice::new(
            "a user who can enter the destination directory is after the files of the subvolume",
            "delete the subvolume, then receive again in a directory that only root can enter \
             (chmod 700)",
        ),
        Cause::DataLost { .. } => Advice::new(
            "the disk failed, or is full",
            "look at dmesg and btrfs device stats before receiving again",
        ),
        Cause::Resume(error) => return on_resume(error),
        Cause::Escape { .. } => Advice::new(
            "the stream is hostile or damaged, or another process changes the subvolume meanwhile",
            "keep others away from it; if it happens again, do not trust the sender",
        ),
        _ => return None,
    })
}

/// What to say about a state that cannot be used.
pub(crate) fn on_resume(error: &ResumeError) -> Option<Advice> {
    match error {
        ResumeError::FolderTaken { .. } => Some(Advice::new(
            "a subvolume of this name was received, or somebody else made the directory",
            "move it away, or name another directory for the state with --state-dir",
        )),
        _ => None,
    }
}

/// An incremental stream met a tree that it was not made for.
fn other_parent() -> Advice {
    Advice::new(
        "the parent here does not hold what the sender's parent holds, as when one of them was \
         made writable and changed",
        "send a full stream, or one against another parent",
    )
}

fn is_creation(operation: &str) -> bool {
    operation == "subvol" || operation == "snapshot"
}

/// Whether the filesystem or its mount is read-only; also if that is not known.
fn is_mounted_read_only(path: &Path) -> bool {
    let facts = rustix::fs::statvfs(path);
    facts.map_or(true, |facts| {
        facts.f_flag.contains(StatVfsMountFlags::RDONLY)
    })
}

fn on_errno(failure: &Failure, errno: Errno, destination: &Path) -> Option<Advice> {
    let operation = failure.operation;
    Some(match errno {
        Errno::ROFS if is_creation(operation) && !is_mounted_read_only(destination) => Advice::new(
            "PATH lies inside a read-only subvolume, such as a snapshot that was received",
            "receive into a directory beside that subvolume; leave the subvolume read-only, or no \
             incremental stream can be received on top of it any more",
        ),
        Errno::ROFS => Advice::new(
            "the filesystem is mounted read-only, or the kernel made it read-only after an error",
            "look at dmesg; if there is no error, mount it writable (mount -o remount,rw)",
        ),
        Errno::DQUOT => Advice::new(
            "a quota is used up",
            "look at btrfs qgroup show, and raise the limit or delete subvolumes",
        ),
        Errno::IO => Advice::new(
            "the disk or the filesystem failed",
            "look at dmesg and btrfs device stats before receiving again",
        ),
        Errno::MFILE | Errno::NFILE => Advice::new(
            "too many files are open",
            "raise the limit (ulimit -n), to 4096 or more",
        ),
        Errno::OVERFLOW if operation == "finish" => Advice::new(
            "too many subvolumes here have that received UUID",
            "delete copies of it that are not needed any more",
        ),
        _ if operation == "set_xattr" || operation == "remove_xattr" => xattr(errno)?,
        Errno::PERM | Errno::ACCESS => permission(operation),
        Errno::NOTEMPTY | Errno::BUSY if operation == "rmdir" => Advice::new(
            "something lies in the directory that the sender did not have there, such as a \
             subvolume",
            "send a full stream, or one against another parent",
        ),
        Errno::NOENT | Errno::EXIST | Errno::NOTDIR | Errno::ISDIR | Errno::NOTEMPTY
            if operation != "subvol" && operation != "snapshot" =>
        {
            other_parent()
        }
        _ => return None,
    })
}

fn xattr(errno: Errno) -> Option<Advice> {
    Some(match errno {
        Errno::NOSPC => Advice::new(
            "no space, or a value that is too large for the nodes of this filesystem",
            "look at btrfs filesystem usage; --exclude-xattr=NAME receives without it",
        ),
        Errno::OPNOTSUPP => Advice::new(
            "this kernel or mount does not have this kind of attribute: ACLs can be off \
             (mount option noacl), a security module absent",
            "receive without it: --exclude-xattr=NAME, which may be a pattern such as security.*",
        ),
        Errno::PERM | Errno::ACCESS | Errno::INVAL => Advice::new(
            "the kernel refuses this attribute or its value to this process: trusted.* takes \
             CAP_SYS_ADMIN, security.capability CAP_SETFCAP, security.selinux the right policy",
            "receive with the privilege, or without the attribute: --exclude-xattr=NAME",
        ),
        _ => return None,
    })
}

/// The capability that an operation takes on files of others.
fn permission(operation: &str) -> Advice {
    let (name, capability) = match operation {
        "chown" => ("CAP_CHOWN", CapabilitySet::CHOWN),
        "mknod" => ("CAP_MKNOD", CapabilitySet::MKNOD),
        "chmod" | "utimes" | "snapshot" | "finish" => ("CAP_FOWNER", CapabilitySet::FOWNER),
        "fileattr" => ("CAP_LINUX_IMMUTABLE", CapabilitySet::LINUX_IMMUTABLE),
        "encoded_write" => ("CAP_SYS_ADMIN", CapabilitySet::SYS_ADMIN),
        _ => ("CAP_DAC_OVERRIDE", CapabilitySet::DAC_OVERRIDE),
    };
    match has(capability) {
        false => Advice::new(
            format!("{name} is missing"),
            "receive as root, or with the capabilities that the manual page lists",
        ),
        true => Advice::new(
            "an immutable file or a security module is in the way, or a container: there a \
             capability counts for less",
            "look at lsattr and dmesg; receive outside of the container",
        ),
    }
}

fn no_space(destination: &Path, to_come: Option<u64>) -> Advice {
    let free = rustix::fs::statvfs(destination)
        .map(|facts| facts.f_bavail.saturating_mul(facts.f_frsize))
        .ok();
    let mut likely = "the filesystem is full".to_owned();
    if let Some(free) = free {
        likely += &format!(", with {} free", bytes(free));
    }
    if let Some(left) = to_come {
        likely += &format!("; {} of the input were still to come", bytes(left));
    }
    Advice::new(
        likely,
        "look at btrfs filesystem usage: space may be free and allocated to the wrong kind of \
         data; delete snapshots or add a device, remove what is incomplete, receive again",
    )
}
