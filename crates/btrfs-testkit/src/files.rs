//! Making and changing files of every kind: thin calls by path, none of which
//! follows a symlink at the last component.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Gid, IFlags, Mode, OFlags, RenameFlags, Timespec,
    Timestamps, Uid, XattrFlags,
};

use crate::{Time, tool};

/// Opens a regular file for reading and writing, making it if need be.
pub fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
}

/// Makes an empty file that must not exist yet.
pub fn make_file(path: &Path) -> io::Result<()> {
    File::create_new(path).map(drop)
}

/// Makes a device node, FIFO or socket; `device` counts for device nodes.
pub fn make_node(path: &Path, kind: FileType, device: (u32, u32)) -> io::Result<()> {
    let device = rustix::fs::makedev(device.0, device.1);
    Ok(rustix::fs::mknodat(
        CWD,
        path,
        kind,
        Mode::from(0o640),
        device,
    )?)
}

/// Writes bytes at an offset.
pub fn write(path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
    open(path)?.write_all_at(bytes, offset)
}

/// Sets the size.
pub fn truncate(path: &Path, size: u64) -> io::Result<()> {
    open(path)?.set_len(size)
}

/// Makes a hole without changing the size.
pub fn punch(path: &Path, offset: u64, length: u64) -> io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(rustix::fs::fallocate(open(path)?, flags, offset, length)?)
}

/// Preallocates a range, growing the file unless told to keep the size.
pub fn preallocate(path: &Path, offset: u64, length: u64, keep_size: bool) -> io::Result<()> {
    let flags = match keep_size {
        true => FallocateFlags::KEEP_SIZE,
        false => FallocateFlags::empty(),
    };
    Ok(rustix::fs::fallocate(open(path)?, flags, offset, length)?)
}

/// Makes two files share a range, given as (offset, offset, length).
///
/// `copy_file_range` on one btrfs clones what is aligned and copies the rest.
pub fn share(from: &Path, to: &Path, range: (u64, u64, u64)) -> io::Result<()> {
    let (source, target) = (open(from)?, open(to)?);
    let (mut read_at, mut write_at, mut left) = range;
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(usize::MAX);
        let copied = rustix::fs::copy_file_range(
            &source,
            Some(&mut read_at),
            &target,
            Some(&mut write_at),
            length,
        )?;
        if copied == 0 {
            break;
        }
        left = left.saturating_sub(copied as u64);
    }
    Ok(())
}

/// Makes `to` a reflink copy of `from`, as `cp --reflink=always` does.
pub fn reflink(from: &Path, to: &Path) -> io::Result<()> {
    Ok(rustix::fs::ioctl_ficlone(open(to)?, open(from)?)?)
}

/// Exchanges two names.
pub fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    Ok(rustix::fs::renameat_with(
        CWD,
        a,
        CWD,
        b,
        RenameFlags::EXCHANGE,
    )?)
}

/// Adds a name for an inode; for a symlink, for the link itself.
pub fn link(existing: &Path, new: &Path) -> io::Result<()> {
    Ok(rustix::fs::linkat(
        CWD,
        existing,
        CWD,
        new,
        AtFlags::empty(),
    )?)
}

/// Sets the owner and the group.
pub fn set_owner(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    Ok(rustix::fs::chownat(CWD, path, Some(uid), Some(gid), flags)?)
}

/// Sets permission bits; refuses symlinks, which have none of their own.
pub fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    if std::fs::symlink_metadata(path)?.is_symlink() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(rustix::fs::chmodat(
        CWD,
        path,
        Mode::from(mode),
        AtFlags::empty(),
    )?)
}

/// Sets access and modification time.
pub fn set_times(path: &Path, atime: Time, mtime: Time) -> io::Result<()> {
    let convert = |time: Time| Timespec {
        tv_sec: time.seconds,
        tv_nsec: time.nanoseconds.into(),
    };
    let times = Timestamps {
        last_access: convert(atime),
        last_modification: convert(mtime),
    };
    Ok(rustix::fs::utimensat(
        CWD,
        path,
        &times,
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

/// Sets an xattr, new or replaced.
pub fn set_xattr(path: &Path, name: &str, value: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::lsetxattr(
        path,
        name,
        value,
        XattrFlags::empty(),
    )?)
}

/// Removes an xattr.
pub fn remove_xattr(path: &Path, name: &str) -> io::Result<()> {
    Ok(rustix::fs::lremovexattr(path, name)?)
}

/// Sets and clears inode flags (`chattr`) of a file or directory.
pub fn change_flags(path: &Path, set: IFlags, clear: IFlags) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())?;
    let old = rustix::fs::ioctl_getflags(&file)?;
    Ok(rustix::fs::ioctl_setflags(&file, (old | set) - clear)?)
}

/// Writes a file's data out, so that what follows goes to new extents.
pub fn sync(path: &Path) -> io::Result<()> {
    open(path)?.sync_all()
}

/// An ACL as the kernel stores it in `system.posix_acl_*`, with one named user.
pub fn acl(named_user: u32, permissions: u16) -> Vec<u8> {
    const NO_ID: u32 = u32::MAX;
    // Tags: owner, named user, group, mask, other.
    let entries = [
        (0x01, 7, NO_ID),
        (0x02, permissions, named_user),
        (0x04, 5, NO_ID),
        (0x10, 7, NO_ID),
        (0x20, 0, NO_ID),
    ];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend_from_slice(&u16::to_le_bytes(tag));
        bytes.extend_from_slice(&u16::to_le_bytes(permissions));
        bytes.extend_from_slice(&u32::to_le_bytes(id));
    }
    bytes
}

/// A `security.capability` value, revision 2, effective, with these permitted bits.
pub fn capability(permitted: u32) -> Vec<u8> {
    let words = [0x0200_0001, permitted, 0, 0, 0];
    words.into_iter().flat_map(u32::to_le_bytes).collect()
}

/// Bytes that repeat, or bytes that no compressor shortens; both follow from
/// the seed alone.
pub fn pattern(seed: u8, length: usize, compressible: bool) -> Vec<u8> {
    if compressible {
        let line = format!("line of pattern {seed}\n");
        return line.bytes().cycle().take(length).collect();
    }
    let mut state = 0x9E37_79B9_7F4A_7C15_u64 ^ (u64::from(seed) << 17);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(&mut next).take(length).collect()
}

/// The digest that fs-verity has measured, as hexadecimal digits; `None` if
/// the file has no fs-verity. Perl asks, as no command of Debian does.
///
/// # Panics
///
/// If Perl is not there.
pub fn verity_digest(path: &Path) -> Option<String> {
    // FS_IOC_MEASURE_VERITY
    const PROGRAM: &str = "\
        open(my $file, '<', $ARGV[0]) or die \"$ARGV[0]: $!\"; \
        my $digest = pack('S S x64', 0, 64); \
        ioctl($file, 0xC0046686, $digest) or exit 0; \
        my (undef, $size) = unpack('S S', $digest); \
        print unpack('H*', substr($digest, 4, $size));";
    let arguments = ["-e".as_ref(), PROGRAM.as_ref(), path.as_os_str()];
    let output = tool::run("perl", arguments).unwrap_or_else(|error| panic!("{error}"));
    let digest = String::from_utf8_lossy(&output).into_owned();
    Some(digest).filter(|digest| !digest.is_empty())
}
