//! Inode flags: FILEATTR, and files that may not be changed.
//!
//! Immutable and append-only files cannot be worked on, so these two flags
//! come last of all: what a FILEATTR asks for waits until the end, and what
//! a snapshot inherited from its parent is lifted when it first stands in
//! the way and put back at the end. Finding those beforehand would take a
//! scan of the whole tree.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};

use btrfs_sendstream::{Bytes, inode_flags};
use rustix::fs::{IFlags, XattrFlags, fgetxattr, fsetxattr, fstat, ioctl_getflags, ioctl_setflags};
use rustix::io::Errno;

use super::lock::lock;
use crate::error::{Cause, named};
use crate::report::Fallbacks;
use crate::xattr::COMPRESSION;
use btrfs_ioctl::ROOT_INODE;
use btrfs_ioctl::{self as sys, XFlags};

/// `FS_*_FL` (`linux/fs.h`).
const NOCOW_FL: u32 = 0x0080_0000;
const NOCOMP_FL: u32 = 0x0000_0400;
const COMPR_FL: u32 = 0x0000_0004;
const DIRSYNC_FL: u32 = 0x0001_0000;
const IMMUTABLE_FL: u32 = 0x0000_0010;

/// Flags that new inodes inherit from their directory.
pub(in crate::destination) const INHERITED_FL: u32 = NOCOW_FL | NOCOMP_FL | COMPR_FL;

/// Pairs of both notations, where setting the flag needs `FS_IOC_SETFLAGS`.
const BY_SETFLAGS: [(u64, u32); 3] = [
    (inode_flags::NODATACOW, NOCOW_FL),
    (inode_flags::NOCOMPRESS, NOCOMP_FL),
    (inode_flags::DIRSYNC, DIRSYNC_FL),
];

/// Pairs where `FS_IOC_FSSETXATTR` does it, which unlike the former leaves
/// `btrfs.compression` alone.
const BY_FSSETXATTR: [(u64, XFlags); 3] = [
    (inode_flags::SYNC, XFlags::SYNC),
    (inode_flags::NODUMP, XFlags::NODUMP),
    (inode_flags::NOATIME, XFlags::NOATIME),
];

const FORBIDDING: [(u64, XFlags); 2] = [
    (inode_flags::IMMUTABLE, XFlags::IMMUTABLE),
    (inode_flags::APPEND, XFlags::APPEND),
];

/// Inodes whose flags wait for the end, at most: 12 bytes each and the map's
/// own cost, about 15 MB when full.
const MAX_WAITING: usize = 1 << 19;

/// Values of `btrfs.compression` that wait for a FILEATTR, at most. It follows
/// soon, if at all.
const MAX_COMPRESSIONS: usize = 1024;

/// The longest value of `btrfs.compression` that is kept waiting.
const MAX_COMPRESSION_LEN: usize = 32;

/// The longest value of `btrfs.compression` that is read: the kernel takes an
/// algorithm and a level.
const MAX_PROPERTY_LEN: usize = 64;

/// What could not be set yet, and what could not be set at all.
///
/// Several threads change flags, of the same inode too. Flags can only be set
/// all at once, so whoever changes some holds the lock from reading them until
/// they are set and noted; or one thread would put back what the other has
/// just taken off.
#[derive(Clone, Debug, Default)]
pub(in crate::destination) struct SharedFlags(Arc<Mutex<Waiting>>);

/// A copy of what [`SharedFlags`] hold.
#[cfg(feature = "resume")]
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeferredFlags {
    /// Inode, generation, and its immutable and append-only flags
    /// (`FS_XFLAG_*`).
    pub(crate) forbidding: Vec<(u64, u32, u32)>,
    /// Inode, and the `btrfs.compression` that it refused so far.
    pub(crate) compression: Vec<(u64, Vec<u8>)>,
    /// Attributes, and flags, that were refused for good.
    pub(crate) refused: (u64, u64),
}

#[derive(Debug, Default)]
struct Waiting {
    /// Immutable and append-only flags that wait for the end, by inode
    /// number; with the generation, without which kernels before 6.2 do not
    /// open an inode by number.
    forbidding: BTreeMap<u64, (u32, XFlags)>,
    /// `btrfs.compression` that an inode has refused, by inode number: the
    /// FILEATTR that takes NOCOW off comes after the attribute.
    compression: BTreeMap<u64, Bytes>,
    /// Attributes that were refused and wait no longer.
    compression_refused: u64,
    flags_refused: u64,
}

impl Waiting {
    /// Keeps immutable and append-only flags of an inode for the end, instead
    /// of what was kept before.
    fn note(&mut self, fd: impl AsFd, inode: u64, flags: XFlags) -> Result<(), Cause> {
        if flags.is_empty() {
            self.forbidding.remove(&inode);
        } else if self.forbidding.len() < MAX_WAITING || self.forbidding.contains_key(&inode) {
            // 0 is "any" to later kernels.
            let generation = sys::inode_generation(fd).unwrap_or(0);
            self.forbidding.insert(inode, (generation, flags));
        } else {
            return Err(Cause::Limit {
                what: "immutable or append-only files in one stream",
                limit: MAX_WAITING as u64,
            });
        }
        Ok(())
    }
}

impl SharedFlags {
    /// Remembers a value of `btrfs.compression` that an inode refused, until
    /// a FILEATTR takes NOCOW off.
    pub(in crate::destination) fn compression_refused(&self, fd: impl AsFd, value: &Bytes) {
        let inode = fstat(fd).map(|stat| stat.st_ino);
        let mut waiting = lock(&self.0);
        match inode {
            Ok(inode)
                if waiting.compression.len() < MAX_COMPRESSIONS
                    && value.len() <= MAX_COMPRESSION_LEN =>
            {
                // Copied, so as not to keep the buffer alive it was read into.
                let value = Bytes::copy_from_slice(value);
                waiting.compression.insert(inode, value);
            }
            _ => waiting.compression_refused += 1,
        }
    }

    /// What was refused for good since the last call.
    pub(in crate::destination) fn take_fallbacks(&self) -> Fallbacks {
        let mut waiting = lock(&self.0);
        let compressions = std::mem::take(&mut waiting.compression).len() as u64;
        Fallbacks {
            compression_refused: std::mem::take(&mut waiting.compression_refused) + compressions,
            flags_refused: std::mem::take(&mut waiting.flags_refused),
            ..Fallbacks::default()
        }
    }

    /// A copy of what waits.
    #[cfg(feature = "resume")]
    pub(in crate::destination) fn export(&self) -> DeferredFlags {
        let waiting = lock(&self.0);
        let forbidding = waiting.forbidding.iter();
        let compression = waiting.compression.iter();
        DeferredFlags {
            forbidding: forbidding
                .map(|(inode, (generation, flags))| (*inode, *generation, flags.bits()))
                .collect(),
            compression: compression
                .map(|(inode, value)| (*inode, value.to_vec()))
                .collect(),
            refused: (waiting.compression_refused, waiting.flags_refused),
        }
    }

    /// Adds what [`export`](Self::export) returned to what waits already; for
    /// an inode in both the former counts.
    #[cfg(feature = "resume")]
    pub(in crate::destination) fn import(&self, deferred: DeferredFlags) {
        let mut waiting = lock(&self.0);
        for (inode, generation, flags) in deferred.forbidding {
            let flags = XFlags::from_bits_retain(flags);
            waiting.forbidding.insert(inode, (generation, flags));
        }
        let compression = deferred.compression.into_iter();
        waiting
            .compression
            .extend(compression.map(|(inode, value)| (inode, Bytes::from(value))));
        (waiting.compression_refused, waiting.flags_refused) = deferred.refused;
    }

    /// Takes out what waits for the root.
    pub(in crate::destination) fn take_root(&self) -> XFlags {
        let waiting = lock(&self.0).forbidding.remove(&ROOT_INODE);
        waiting.map_or(XFlags::empty(), |(_, flags)| flags)
    }

    /// Sets what has waited. `open` opens an inode of the subvolume by its
    /// number and generation; `None` if it is gone.
    pub(in crate::destination) fn restore(
        &self,
        mut open: impl FnMut(u64, u32) -> Result<Option<OwnedFd>, Cause>,
    ) -> Result<(), Cause> {
        let mut waiting = lock(&self.0);
        for (inode, (generation, wanted)) in std::mem::take(&mut waiting.forbidding) {
            if let Some(fd) = open(inode, generation)? {
                change_xflags(&fd, XFlags::empty(), wanted)?;
            }
        }
        Ok(())
    }
}

/// Takes immutable and append-only off an inode, to be put back at the end.
///
/// Does not tell whether there was anything to take off: another thread may
/// have done so a moment ago, so what was forbidden is worth another try in
/// any case. That try also fails as it should where these flags may not be
/// changed, without CAP_LINUX_IMMUTABLE.
///
/// # Errors
/// [`Cause::Limit`] for more such inodes than can be remembered.
pub(in crate::destination) fn lift(fd: impl AsFd, waiting: &SharedFlags) -> Result<(), Cause> {
    let forbidding = XFlags::IMMUTABLE | XFlags::APPEND;
    let mut waiting = lock(&waiting.0);
    let (Ok(flags), Ok(stat)) = (sys::fs_get_xflags(&fd), fstat(&fd)) else {
        return Ok(());
    };
    let found = flags & forbidding;
    if found.is_empty() {
        return Ok(());
    }
    // A FILEATTR that came before says what the end is to be.
    if !waiting.forbidding.contains_key(&stat.st_ino) {
        waiting.note(&fd, stat.st_ino, found)?;
    }
    let _ = set_xflags(&fd, flags - forbidding);
    Ok(())
}

/// Whether these flags (`FS_*_FL`) keep names out of a directory.
pub(in crate::destination) fn forbid_names(flags: u32) -> bool {
    flags & IMMUTABLE_FL != 0
}

/// Whether a refusal (`EINVAL`) of this value of `btrfs.compression` is the
/// inode's doing: NOCOW ones take none, nor do those without checksums, which
/// a mount option makes and no call tells. The rest are values that no inode
/// takes.
pub(in crate::destination) fn is_algorithm(value: &[u8]) -> bool {
    // The level may follow.
    let known = [&b"zlib"[..], b"lzo", b"zstd"];
    known.iter().any(|name| value.starts_with(name)) || matches!(value, b"no" | b"none")
}

/// Applies FILEATTR as far as an inode's flags can be set; immutable and
/// append-only are noted for the end. Counted as refused where the kernel
/// leaves a flag as it is, as it does for NOCOW on a file that has content.
pub(in crate::destination) fn apply(
    fd: impl AsFd,
    attributes: u64,
    waiting: &SharedFlags,
) -> Result<(), Cause> {
    let stat = fstat(&fd).map_err(named("fstat"))?;
    let forbidding = pick(&FORBIDDING, attributes);
    let mut waiting = lock(&waiting.0);
    // Taken off even where it is to stay: more may be done to this inode.
    change_xflags(
        &fd,
        XFlags::IMMUTABLE | XFlags::APPEND | XFlags::SYNC | XFlags::NODUMP | XFlags::NOATIME,
        pick(&BY_FSSETXATTR, attributes),
    )?;
    waiting.note(&fd, stat.st_ino, forbidding)?;
    if !set_flags(&fd, attributes)? {
        waiting.flags_refused += 1;
    }
    let Some(value) = waiting.compression.remove(&stat.st_ino) else {
        return Ok(());
    };
    match fsetxattr(&fd, COMPRESSION, &value, XattrFlags::empty()) {
        Ok(()) => Ok(()),
        Err(Errno::INVAL) => {
            waiting.compression_refused += 1;
            Ok(())
        }
        Err(errno) => Err(Cause::system("fsetxattr", errno)),
    }
}

fn pick(pairs: &[(u64, XFlags)], attributes: u64) -> XFlags {
    pairs
        .iter()
        .filter(|(bit, _)| attributes & bit != 0)
        .fold(XFlags::empty(), |flags, (_, flag)| flags | *flag)
}

/// Reads and sets; the caller keeps others from doing so in between.
fn change_xflags(fd: impl AsFd, remove: XFlags, add: XFlags) -> Result<(), Cause> {
    let old = sys::fs_get_xflags(&fd).map_err(named("FS_IOC_FSGETXATTR"))?;
    let new = (old - remove) | add;
    if new != old {
        set_xflags(&fd, new).map_err(named("FS_IOC_FSSETXATTR"))?;
    }
    Ok(())
}

/// Sets the flags, also where write-back marked a file as not compressible
/// while its compression property was being set. The kernel refuses to set any
/// flag beside that pair (`check_fsflags` in `fs/btrfs/ioctl.c`), until the
/// property is set again, which takes the mark off.
fn set_xflags(fd: impl AsFd, flags: XFlags) -> Result<(), Errno> {
    match sys::fs_set_xflags(&fd, flags) {
        Err(Errno::INVAL) => {}
        result => return result,
    }
    let mut value = [0; MAX_PROPERTY_LEN];
    let Some(value) = compression(&fd, &mut value)? else {
        return Err(Errno::INVAL);
    };
    fsetxattr(&fd, COMPRESSION, value, XattrFlags::empty())?;
    sys::fs_set_xflags(&fd, flags)
}

/// The compression property, if there is one.
fn compression(fd: impl AsFd, value: &mut [u8]) -> Result<Option<&[u8]>, Errno> {
    match fgetxattr(fd, COMPRESSION, &mut *value) {
        Ok(len) => Ok(value.get(..len)),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Sets the flags that only `FS_IOC_SETFLAGS` sets. That call rewrites
/// `btrfs.compression`, which is therefore read before and set again.
/// `false`: the kernel left a flag as it was.
///
/// COMPRESS, and NOCOMPRESS on a file with that attribute, are left to the
/// attribute: the kernel derives the first from it, and sets the second by
/// itself when a file does not compress.
fn set_flags(fd: impl AsFd, attributes: u64) -> Result<bool, Cause> {
    let old = ioctl_getflags(&fd)
        .map_err(named("FS_IOC_GETFLAGS"))?
        .bits();
    let mut value = [0; MAX_PROPERTY_LEN];
    let compression = compression(&fd, &mut value).map_err(named("fgetxattr"))?;
    let compresses = compression.is_some() || attributes & inode_flags::COMPRESS != 0;
    let mut mask = NOCOW_FL | DIRSYNC_FL;
    if !compresses {
        mask |= NOCOMP_FL;
    }
    let wanted = BY_SETFLAGS
        .iter()
        .filter(|(bit, _)| attributes & bit != 0)
        .fold(0, |flags, (_, flag)| flags | flag)
        & mask;
    if old & mask == wanted {
        return Ok(true);
    }
    let new = IFlags::from_bits_retain(old & !mask | wanted);
    match ioctl_setflags(&fd, new) {
        Ok(()) => {}
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(false),
        Err(errno) => return Err(Cause::system("FS_IOC_SETFLAGS", errno)),
    }
    if let Some(value) = compression {
        match fsetxattr(&fd, COMPRESSION, value, XattrFlags::empty()) {
            // NOCOW and compression exclude each other.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(errno) => return Err(Cause::system("fsetxattr", errno)),
        }
    }
    let kept = ioctl_getflags(&fd)
        .map_err(named("FS_IOC_GETFLAGS"))?
        .bits();
    Ok(kept & mask == wanted)
}

/// Inode flags in the notation of FILEATTR.
pub(in crate::destination) fn to_attributes(flags: u32, xflags: XFlags) -> u64 {
    let by_flags = BY_SETFLAGS
        .iter()
        .chain(&[(inode_flags::COMPRESS, COMPR_FL)])
        .filter(|(_, flag)| flags & flag != 0)
        .fold(0, |bits, (bit, _)| bits | bit);
    BY_FSSETXATTR
        .iter()
        .chain(&FORBIDDING)
        .filter(|(_, flag)| xflags.contains(*flag))
        .fold(by_flags, |bits, (bit, _)| bits | bit)
}
