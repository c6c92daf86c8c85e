//! Operations that failed.

use std::path::Path;

use btrfs_receive::{Cause, Conflict, Failure};
use rustix::fs::StatVfsMountFlags;
use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use super::resume::on_resume;
use super::source::{on_extraction, on_no_source, on_taken};
use super::space::{no_space, over_quota};
use super::{Advice, has, input};
use crate::digest::Problem;
use crate::tee::TeeError;

/// Returns the advice for a failed operation, if there is some. `destination`
/// is the directory that subvolumes are created in, `to_come` how many bytes of
/// the input remain, if that is known.
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
        Cause::NoSource(error) => on_no_source(failure, error),
        Cause::Resume(error) => return on_resume(error),
        Cause::NameTaken { by } => return on_taken(*by),
        Cause::BuildNameTaken {
            by: Conflict::Same, ..
        } => Advice::new(
            "a receive was stopped before it could rename the subvolume",
            "rename it (mv -nT); --status shows the command",
        ),
        Cause::BuildNameTaken { by, .. } => return on_taken(*by),
        Cause::NotRenamed { .. } => Advice::to_do(
            "move away what has the name, then rename the subvolume (mv -nT); --status shows the \
             command",
        ),
        Cause::SecondSubvolume => {
            Advice::to_do("receive the subvolumes one by one (-e), or without --name")
        }
        Cause::NoFileData => Advice::new(
            "the stream was sent with --no-data, which is for inspection only",
            "send it again without --no-data; --dump shows what it changes",
        ),
        Cause::NotRegularFile { .. } if failure.operation == "clone" => Advice::new(
            "the parent or clone source here does not have the content of the sender's",
            "send a full stream, or one against another parent",
        ),
        Cause::NotRegularFile { .. } | Cause::NoInodeFlags { .. } => other_parent(),
        Cause::SourceTooShort { .. } => other_parent(),
        Cause::NotExtracted { .. } => {
            Advice::to_do("extract the stream of that subvolume into this directory first")
        }
        Cause::BadExtraction { problem, .. } => return on_extraction(*problem),
        Cause::NameNotStored { .. } => Advice::to_do("extract onto another filesystem"),
        Cause::Undecodable(_) => Advice::new(
            "the data was damaged on the sender's disk, or before the checksum of the stream was \
             computed",
            "run btrfs scrub on the sender, then send again; if that does not help, send without \
             --compressed-data",
        ),
        Cause::Moved { .. } => Advice::new(
            "another process renamed, moved or deleted the subvolume during the receive",
            "delete the subvolume, then receive again, without changes to it by others",
        ),
        Cause::EnteredByOthers { .. } => Advice::new(
            "a process of a user who can enter the destination directory changes files of the \
             subvolume",
            "delete the subvolume, then receive again in a directory that only root can enter \
             (chmod 700)",
        ),
        Cause::StampStays { .. } => {
            Advice::to_do("delete the subvolume (btrfs subvolume delete), then receive again")
        }
        Cause::DataLost { .. } => Advice::new(
            "the disk failed or is full",
            "look at dmesg and btrfs device stats before receiving again",
        ),
        Cause::CheckFailed(error) if error.is::<TeeError>() => input::no_copy(),
        Cause::CheckFailed(error)
            if matches!(error.downcast_ref(), Some(Problem::NoDocument { .. })) =>
        {
            Advice::to_do(
                "compute it on the sender (btrfs-lineage digest --json SNAPSHOT), add it to that \
                 file, then receive again",
            )
        }
        Cause::CheckFailed(_) => Advice::new(
            "data was damaged on its way, something was excluded, the parent here differs from \
             the sender's, or the digest is of another state",
            "send and receive it again; btrfs-lineage digest --compare shows what differs",
        ),
        Cause::Refused(_) => Advice::to_do(
            "ask the administrator of this host, who decides what is accepted from this sender; \
             with --accept=FILE, that is the rule of this name in FILE",
        ),
        Cause::ModeNotSet { .. } if !has(CapabilitySet::FSETID) => permission("fsetid"),
        Cause::NoProc { .. } => Advice::to_do("mount the proc filesystem on /proc"),
        Cause::Escape { .. } => Advice::new(
            "the stream is malicious or damaged, or another process changes the subvolume",
            "keep other processes away from the subvolume; if it happens again, do not trust the \
             sender",
        ),
        _ => return None,
    })
}

/// The parent does not have the content that the stream was made for.
fn other_parent() -> Advice {
    Advice::new(
        "the parent here does not have the content of the sender's parent; one of them may have \
         been made writable and changed",
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
            "PATH is in a read-only subvolume, such as a received snapshot",
            "receive into a directory outside of that subvolume; leave the subvolume read-only, or \
             it cannot be the parent of incremental streams any more",
        ),
        Errno::ROFS if !is_creation(operation) && !is_mounted_read_only(destination) => {
            Advice::new(
                "another process made the subvolume read-only during the receive, or the one that \
                 PATH is in",
                "keep other processes away from the subvolume; btrfs property get SUBVOLUME ro \
                 shows whether it is read-only",
            )
        }
        Errno::ROFS => Advice::new(
            "the filesystem is mounted read-only, or the kernel made it read-only after an error",
            "look at dmesg; if there is no error, remount it writable (mount -o remount,rw)",
        ),
        Errno::DQUOT => over_quota(destination),
        Errno::IO => Advice::new(
            "the disk or the filesystem failed",
            "look at dmesg and btrfs device stats before receiving again",
        ),
        Errno::MFILE | Errno::NFILE => Advice::new(
            "too many files are open",
            "raise the limit (ulimit -n), to 4096 or more",
        ),
        Errno::OVERFLOW if operation == "finish" => Advice::new(
            "too many subvolumes on this filesystem have this received UUID",
            "delete copies that are not needed any more",
        ),
        _ if operation == "set_xattr" || operation == "remove_xattr" => xattr(errno)?,
        _ if operation == "enable_verity" => verity(errno)?,
        Errno::PERM | Errno::ACCESS => permission(operation),
        Errno::NOTEMPTY | Errno::BUSY if operation == "rmdir" => Advice::new(
            "the directory contains something that the sender's does not, such as a subvolume",
            "send a full stream, or one against another parent",
        ),
        Errno::EXIST if operation == "finish" => Advice::new(
            "another process gave the name to something else meanwhile",
            "move that away, then receive again",
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
            "the filesystem is full, or the value is too large for its node size",
            "look at btrfs filesystem usage, or receive without the attribute: \
             --exclude-xattr=NAME",
        ),
        Errno::OPNOTSUPP => Advice::new(
            "this kernel or mount does not support this kind of attribute: ACLs are disabled \
             (mount option noacl), or a security module is not loaded",
            "receive without the attribute: --exclude-xattr=NAME, where NAME may be a pattern such \
             as security.*",
        ),
        Errno::PERM | Errno::ACCESS | Errno::INVAL => Advice::new(
            "this process may not set the attribute, or not to this value: trusted.* needs \
             CAP_SYS_ADMIN, security.capability CAP_SETFCAP, security.selinux a policy that allows \
             it",
            "receive with that privilege, or without the attribute: --exclude-xattr=NAME",
        ),
        _ => return None,
    })
}

fn verity(errno: Errno) -> Option<Advice> {
    const WITHOUT: &str = "sendstream downgrade --drop-newer removes fs-verity from the stream";
    Some(match errno {
        Errno::NOTTY => Advice::new(
            "btrfs has fs-verity since Linux 5.15",
            format!("receive with a newer kernel; {WITHOUT}"),
        ),
        Errno::OPNOTSUPP => Advice::new(
            "this kernel was built without fs-verity (CONFIG_FS_VERITY)",
            format!("receive with another kernel; {WITHOUT}"),
        ),
        Errno::INVAL => Advice::new(
            "the kernel does not support the hash algorithm or the block size: before Linux 6.3, \
             blocks have the size of a page of memory; later, they are not larger than a page or a \
             sector of the filesystem",
            format!("receive with a newer kernel; {WITHOUT}"),
        ),
        Errno::NOKEY | Errno::KEYREJECTED | Errno::BADMSG => Advice::new(
            "the signature is not by a key in the .fs-verity keyring of this kernel",
            "add the certificate to that keyring (keyctl padd asymmetric), then receive again",
        ),
        Errno::PERM | Errno::ACCESS => permission("fileattr"),
        _ => return None,
    })
}

/// The capability that an operation needs on files of other users.
fn permission(operation: &str) -> Advice {
    let (name, capability) = match operation {
        "chown" => ("CAP_CHOWN", CapabilitySet::CHOWN),
        "mknod" => ("CAP_MKNOD", CapabilitySet::MKNOD),
        "chmod" | "utimes" | "snapshot" | "finish" => ("CAP_FOWNER", CapabilitySet::FOWNER),
        "fileattr" => ("CAP_LINUX_IMMUTABLE", CapabilitySet::LINUX_IMMUTABLE),
        "fsetid" => ("CAP_FSETID", CapabilitySet::FSETID),
        "encoded_write" => ("CAP_SYS_ADMIN", CapabilitySet::SYS_ADMIN),
        _ => ("CAP_DAC_OVERRIDE", CapabilitySet::DAC_OVERRIDE),
    };
    if has(capability) {
        Advice::new(
            "a file that is immutable or has fs-verity, a security module, or a container, where \
             capabilities count for less",
            "look at lsattr (i, V) and dmesg; receive outside of containers",
        )
    } else {
        Advice::new(
            format!("{name} is missing"),
            "receive as root, or with the capabilities that the manual page lists",
        )
    }
}
