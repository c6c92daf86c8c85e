//! Subvolumes: create, snapshot, seal, describe.

#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd};

use linux_raw_sys::btrfs::{BTRFS_SUBVOL_RDONLY, BTRFS_SUBVOL_SPEC_BY_ID};
use rustix::io::Result;
use uuid::Uuid;

use super::abi::{
    self, FsInfoArgs, ReceivedSubvolArgs, SubvolInfoArgs, TimespecArgs, VolArgs, VolArgsV2,
    VolArgsV2Qgroup, VolArgsV2Target, field_bytes, name_field,
};

/// `BTRFS_SUBVOL_RDONLY`: a flag of a subvolume as the ioctls show it.
const RDONLY: u64 = BTRFS_SUBVOL_RDONLY as u64;

/// `BTRFS_ROOT_SUBVOL_RDONLY`: the same flag as the root item holds it, which
/// is what `GET_SUBVOL_INFO` shows.
const ROOT_RDONLY: u64 = 1;

/// `BTRFS_IOC_SUBVOL_CREATE`: an empty subvolume `name` in the directory
/// `parent`.
///
/// # Errors
/// `EEXIST` for a name that exists, and for `.` and `..`; `EINVAL` for a
/// slash or a NUL in the name; `ENAMETOOLONG` above 255 bytes; `EROFS`.
pub fn subvol_create(parent: impl AsFd, name: &[u8]) -> Result<()> {
    let args = VolArgs {
        fd: 0,
        name: name_field(name)?,
    };
    // SAFETY: SUBVOL_CREATE reads a `btrfs_ioctl_vol_args`, which holds no
    // pointers.
    unsafe { abi::write::<{ abi::SUBVOL_CREATE }, _>(parent.as_fd(), args) }
}

/// `BTRFS_IOC_SNAP_CREATE_V2`: a snapshot of the subvolume `source` as `name`
/// in the directory `parent`.
///
/// # Errors
/// Those of [`subvol_create`]; `EINVAL` if `source` is not the root of a
/// subvolume; `EXDEV` if it is on another filesystem; `EPERM` if it is owned
/// by someone else.
pub fn snap_create(
    parent: impl AsFd,
    name: &[u8],
    source: impl AsFd,
    read_only: bool,
) -> Result<()> {
    let mut args = vol_args_v2(VolArgsV2Target {
        name: name_field(name)?,
    });
    args.fd = source.as_fd().as_raw_fd().into();
    args.flags = if read_only { RDONLY } else { 0 };
    // SAFETY: SNAP_CREATE_V2 reads a `btrfs_ioctl_vol_args_v2`. Its pointer is
    // not looked at without BTRFS_SUBVOL_QGROUP_INHERIT; its descriptor is
    // open as long as `source` is borrowed.
    unsafe { abi::write::<{ abi::SNAP_CREATE_V2 }, _>(parent.as_fd(), args) }
}

/// `BTRFS_IOC_SNAP_DESTROY_V2`: deletes the subvolume `id`, wherever on the
/// filesystem of `mount` it lies. Linux 5.7.
///
/// # Errors
/// `ENOENT` if there is none; `EPERM` without `CAP_SYS_ADMIN`, unless the
/// mount has `user_subvol_rm_allowed`, and for the default subvolume;
/// `ENOTEMPTY` if another subvolume lies in it; `ENOTTY` on older kernels.
pub fn subvol_destroy(mount: impl AsFd, id: u64) -> Result<()> {
    let mut target = VolArgsV2Target {
        name: name_field(b"")?,
    };
    target.subvolid = id;
    let mut args = vol_args_v2(target);
    args.flags = BTRFS_SUBVOL_SPEC_BY_ID.into();
    // SAFETY: SNAP_DESTROY_V2 reads a `btrfs_ioctl_vol_args_v2` and looks at
    // no pointer in it.
    unsafe { abi::write::<{ abi::SNAP_DESTROY_V2 }, _>(mount.as_fd(), args) }
}

/// `BTRFS_IOC_SUBVOL_SETFLAGS`: makes the subvolume read-only or writable.
/// A change commits a transaction.
///
/// # Errors
/// `EINVAL` if `root` is not the root of a subvolume; `EPERM` if it belongs to
/// someone else, or is being sent; `EROFS` on a read-only mount.
pub fn subvol_set_read_only(root: impl AsFd, read_only: bool) -> Result<()> {
    let flags = if read_only { RDONLY } else { 0 };
    // SAFETY: SUBVOL_SETFLAGS reads one 64-bit word.
    unsafe { abi::write::<{ abi::SUBVOL_SETFLAGS }, u64>(root.as_fd(), flags) }
}

/// `BTRFS_IOC_SNAP_DESTROY`: deletes the subvolume `name` in the directory
/// `parent`, whatever it holds.
///
/// # Errors
/// `EINVAL` if it is not a subvolume; `ENOTEMPTY` if another lies in it;
/// `EBUSY` if it is mounted; `EPERM` if it is being sent, or without
/// `CAP_SYS_ADMIN` on a mount without `user_subvol_rm_allowed`.
pub fn snap_destroy(parent: impl AsFd, name: &[u8]) -> Result<()> {
    let args = VolArgs {
        fd: 0,
        name: name_field(name)?,
    };
    // SAFETY: SNAP_DESTROY reads a `btrfs_ioctl_vol_args`, which holds no
    // pointers.
    unsafe { abi::write::<{ abi::SNAP_DESTROY }, _>(parent.as_fd(), args) }
}

/// What the kernel recorded with [`set_received_subvol`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The transaction in which the received UUID was set.
    pub rtransid: u64,
}

/// `BTRFS_IOC_SET_RECEIVED_SUBVOL`: stamps a subvolume with the UUID and
/// ctransid of what it was received from; a nil UUID takes the stamp back.
/// Commits a transaction, but does not write out dirty file data.
///
/// # Errors
/// `EINVAL` if `root` is not the root of a subvolume; `EPERM` if it belongs to
/// someone else; `EROFS` if it is read-only; `EOVERFLOW` if too many
/// subvolumes have that received UUID.
pub fn set_received_subvol(root: impl AsFd, uuid: Uuid, stransid: u64) -> Result<Received> {
    let unset = TimespecArgs { sec: 0, nsec: 0 };
    let mut args = ReceivedSubvolArgs {
        uuid: uuid
            .into_bytes()
            .map(|byte| std::ffi::c_char::from_ne_bytes([byte])),
        stransid,
        rtransid: 0,
        stime: unset,
        rtime: unset,
        flags: 0,
        reserved: [0; 16],
    };
    // SAFETY: SET_RECEIVED_SUBVOL reads and writes this structure, which is
    // made of integers.
    unsafe { abi::update::<{ abi::SET_RECEIVED_SUBVOL }, _>(root.as_fd(), &mut args) }?;
    Ok(Received {
        rtransid: args.rtransid,
    })
}

/// What `GET_SUBVOL_INFO` tells about a subvolume. Transaction ids are those
/// of this filesystem, except for `stransid`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubvolumeInfo {
    /// Id of the subvolume: that of its tree.
    pub id: u64,
    /// Its name in its directory; empty for the top level.
    pub name: Vec<u8>,
    /// Id of the subvolume it lies in; 0 for the top level.
    pub parent_id: u64,
    /// Inode of the directory it lies in; 0 for the top level.
    pub dir_id: u64,
    /// Transaction that last wrote the root of its tree: after a change, but also
    /// after a snapshot was taken of it, or a balance.
    pub generation: u64,
    /// Whether it is read-only.
    pub read_only: bool,
    /// Its own UUID.
    pub uuid: Uuid,
    /// UUID of the subvolume it is a snapshot of, else nil.
    pub parent_uuid: Uuid,
    /// UUID of what it was received from, else nil.
    pub received_uuid: Uuid,
    /// Transaction of the last change in it.
    pub ctransid: u64,
    /// Transaction that created it.
    pub otransid: u64,
    /// ctransid on the sender's filesystem of what was received.
    pub stransid: u64,
    /// Transaction in which the received UUID was set.
    pub rtransid: u64,
    /// When the last change in it was recorded.
    pub ctime: SubvolumeTime,
    /// When it was created.
    pub otime: SubvolumeTime,
    /// When it was sent; 0, as receivers do not set it.
    pub stime: SubvolumeTime,
    /// When the received UUID was set.
    pub rtime: SubvolumeTime,
}

/// A time that the kernel keeps of a subvolume. Both are 0 if it has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SubvolumeTime {
    /// Seconds since 1970-01-01 UTC.
    pub seconds: i64,
    /// Nanoseconds after that.
    pub nanoseconds: u32,
}

impl SubvolumeTime {
    fn of(time: TimespecArgs) -> Self {
        Self {
            // What the kernel has as a signed number goes out as an unsigned.
            seconds: time.sec.cast_signed(),
            nanoseconds: time.nsec,
        }
    }
}

/// `BTRFS_IOC_GET_SUBVOL_INFO`: describes the subvolume that `fd` lies in.
/// Linux 4.18.
///
/// # Errors
/// `ENOENT` if it was deleted meanwhile.
pub fn subvolume_info(fd: impl AsFd) -> Result<SubvolumeInfo> {
    // SAFETY: GET_SUBVOL_INFO writes the whole structure, made of integers. It
    // returns 1 where other calls return 0; only negative values are errors.
    let args = unsafe { abi::read::<{ abi::GET_SUBVOL_INFO }, SubvolInfoArgs>(fd.as_fd()) }?;
    Ok(SubvolumeInfo {
        id: args.treeid,
        name: field_bytes(&args.name),
        parent_id: args.parent_id,
        dir_id: args.dirid,
        generation: args.generation,
        read_only: args.flags & ROOT_RDONLY != 0,
        uuid: Uuid::from_bytes(args.uuid),
        parent_uuid: Uuid::from_bytes(args.parent_uuid),
        received_uuid: Uuid::from_bytes(args.received_uuid),
        ctransid: args.ctransid,
        otransid: args.otransid,
        stransid: args.stransid,
        rtransid: args.rtransid,
        ctime: SubvolumeTime::of(args.ctime),
        otime: SubvolumeTime::of(args.otime),
        stime: SubvolumeTime::of(args.stime),
        rtime: SubvolumeTime::of(args.rtime),
    })
}

/// What `FS_INFO` tells about a filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FsInfo {
    /// UUID of the filesystem.
    pub fsid: Uuid,
    /// Bytes in a metadata block.
    pub node_size: u32,
    /// Bytes in a data block; clones and encoded writes are aligned to it.
    pub sector_size: u32,
}

/// `BTRFS_IOC_FS_INFO`: describes the filesystem.
///
/// # Errors
/// `ENOTTY` if it is not btrfs.
pub fn fs_info(fd: impl AsFd) -> Result<FsInfo> {
    let args = fs_info_args(fd)?;
    Ok(FsInfo {
        fsid: Uuid::from_bytes(args.fsid),
        node_size: args.nodesize,
        sector_size: args.sectorsize,
    })
}

pub(crate) fn fs_info_args(fd: impl AsFd) -> Result<FsInfoArgs> {
    let mut args = FsInfoArgs {
        max_id: 0,
        num_devices: 0,
        fsid: [0; 16],
        nodesize: 0,
        sectorsize: 0,
        clone_alignment: 0,
        csum_type: 0,
        csum_size: 0,
        flags: 0,
        generation: 0,
        metadata_uuid: [0; 16],
        reserved: [0; 944],
    };
    // SAFETY: FS_INFO reads and writes this structure, made of integers; the
    // direction in its number is only a convention.
    unsafe { abi::update::<{ abi::FS_INFO }, _>(fd.as_fd(), &mut args) }?;
    Ok(args)
}

fn vol_args_v2(target: VolArgsV2Target) -> VolArgsV2 {
    VolArgsV2 {
        fd: 0,
        transid: 0,
        flags: 0,
        __bindgen_anon_1: VolArgsV2Qgroup { unused: [0; 4] },
        __bindgen_anon_2: target,
    }
}
