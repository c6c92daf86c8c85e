//! The typed commands of the send stream.

pub(crate) mod codec;
mod kind;
mod owned;
mod path;
mod subvolume;
mod values;

use bytes::Bytes;
use uuid::Uuid;

pub use kind::CommandKind;
pub use path::{PathError, StreamPath, SubvolumeName};
pub use subvolume::{NewSubvolume, SourceId};
pub use values::ValueError;

/// A point in time as the stream carries it (`struct btrfs_timespec`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timespec {
    /// Seconds since 1970-01-01 00:00 UTC, negative before.
    pub seconds: i64,
    /// Nanoseconds to add, also to negative seconds: 0 to 999,999,999. The
    /// decoder and the encoder refuse other values.
    pub nanoseconds: u32,
}

/// How the data of an [`EncodedWrite`] is compressed
/// (`BTRFS_ENCODED_IO_COMPRESSION_*` in `linux/btrfs.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// Not compressed (0).
    None,
    /// One zlib stream (1).
    Zlib,
    /// One zstd frame, window of at most 128 KiB (2).
    Zstd,
    /// btrfs's LZO segments (3 to 7), for sectors of this many bytes.
    Lzo {
        /// 4,096, 8,192, 16,384, 32,768 or 65,536.
        sector_size: u32,
    },
}

impl Compression {
    /// The meaning of a number from the stream, if it has one.
    pub fn from_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::None),
            1 => Some(Self::Zlib),
            2 => Some(Self::Zstd),
            3..=7 => Some(Self::Lzo {
                sector_size: 4096 << (number - 3),
            }),
            _ => None,
        }
    }
}

/// Data copied by reference from a file of another or of the same subvolume
/// (command 16).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(bound = "B: AsRef<[u8]>"))]
pub struct CloneRange<B: AsRef<[u8]> = Bytes> {
    /// The file that receives the range.
    pub path: StreamPath<B>,
    /// Where in `path` the range goes, in bytes.
    pub offset: u64,
    /// Bytes to clone.
    pub len: u64,
    /// The subvolume that holds the source file. The source is the subvolume
    /// under construction if this and `source_ctransid` are the stream's own:
    /// see [`NewSubvolume::is_source_of`].
    pub source_uuid: Uuid,
    /// ctransid of the source subvolume on the sender's filesystem.
    pub source_ctransid: u64,
    /// The file to clone from, as it is called in the source subvolume.
    pub source_path: StreamPath<B>,
    /// Where in `source_path` the range begins, in bytes.
    pub source_offset: u64,
}

/// Data in the form in which the sender's disk holds it (command 25, since
/// version 2).
///
/// Meaning: decode `data`, pad it with zeros or cut it to `unencoded_len`,
/// take `unencoded_file_len` bytes from `unencoded_offset`, place them at
/// `offset`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(bound = "B: AsRef<[u8]>"))]
pub struct EncodedWrite<B: AsRef<[u8]> = Bytes> {
    /// The file to write to.
    pub path: StreamPath<B>,
    /// Where in the file the data goes, in bytes.
    pub offset: u64,
    /// Bytes of the file that this extent covers.
    pub unencoded_file_len: u64,
    /// Bytes of the whole decoded extent; at most 131,072 from a kernel.
    pub unencoded_len: u64,
    /// Where in the decoded extent the file's bytes begin.
    pub unencoded_offset: u64,
    /// Raw compression number; [`Compression::from_number`] gives its
    /// meaning. `None`: attribute absent, which means 0.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub compression: Option<u32>,
    /// Raw encryption number; only 0 has a meaning. `None`: attribute
    /// absent, as kernels send it for inline extents.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub encryption: Option<u32>,
    /// The encoded bytes; kernels append zeros up to the sector size.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "len", serialize_with = "crate::serial::len")
    )]
    pub data: B,
}

/// Turns a file into a verity file (command 26, since version 3).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(bound = "B: AsRef<[u8]>"))]
pub struct EnableVerity<B: AsRef<[u8]> = Bytes> {
    /// The file.
    pub path: StreamPath<B>,
    /// `FS_VERITY_HASH_ALG_*` of `linux/fsverity.h`: 1 SHA-256, 2 SHA-512.
    pub algorithm: u8,
    /// Size of a Merkle tree block in bytes.
    pub block_size: u32,
    /// Salt, at most 32 bytes; may be empty.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "salt_hex", serialize_with = "crate::serial::hex")
    )]
    pub salt: B,
    /// Signature, at most 16,128 bytes; may be empty.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "signature_hex", serialize_with = "crate::serial::hex")
    )]
    pub signature: B,
}

/// One command of a send stream (`enum btrfs_send_cmd` in the kernel's
/// `fs/btrfs/send.h`).
///
/// `B` holds names and data: `&[u8]` while decoding ([`CommandRef`]),
/// [`Bytes`] for keeping and for crossing threads ([`CommandBuf`]).
///
/// The list is complete on purpose: who applies commands must not pass over
/// one unawares. One that a kernel adds brings another major version of this
/// crate.
///
/// With the feature `serde` a command is an object: `type`, its name, and its
/// fields. Modes are octal digits and times are UTC. Of file data there is
/// only the length, `len`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(
    feature = "serde",
    serde(tag = "type", rename_all = "snake_case", bound = "B: AsRef<[u8]>")
)]
pub enum Command<B: AsRef<[u8]> = Bytes> {
    /// 1: a new, empty subvolume; a full stream begins.
    Subvol {
        /// Name of the subvolume on the sender.
        name: SubvolumeName<B>,
        /// The sender's received UUID if it has one, else its UUID.
        uuid: Uuid,
        /// ctransid of the subvolume on the sender's filesystem.
        ctransid: u64,
    },
    /// 2: a writable snapshot of the parent; an incremental stream begins.
    Snapshot {
        /// Name of the subvolume on the sender.
        name: SubvolumeName<B>,
        /// The sender's received UUID if it has one, else its UUID.
        uuid: Uuid,
        /// ctransid of the subvolume on the sender's filesystem.
        ctransid: u64,
        /// The parent, named like `uuid`.
        parent_uuid: Uuid,
        /// ctransid of the parent on the sender's filesystem.
        parent_ctransid: u64,
    },
    /// 3: a new regular file, no mode yet.
    Mkfile {
        /// Its first, temporary name.
        path: StreamPath<B>,
        /// Inode number on the sender; for information.
        ino: u64,
    },
    /// 4: a new directory, no mode yet.
    Mkdir {
        /// Its first, temporary name.
        path: StreamPath<B>,
        /// Inode number on the sender; for information.
        ino: u64,
    },
    /// 5: a new character or block device.
    Mknod {
        /// Its first, temporary name.
        path: StreamPath<B>,
        /// Inode number on the sender; for information.
        ino: u64,
        /// Device number in the kernel's 32-bit encoding: minor bits 0 to 7
        /// and 20 to 31, major bits 8 to 19.
        rdev: u64,
        /// Mode with type bits.
        #[cfg_attr(
            feature = "serde",
            serde(serialize_with = "crate::serial::special_mode")
        )]
        mode: u64,
    },
    /// 6: a new FIFO.
    Mkfifo {
        /// Its first, temporary name.
        path: StreamPath<B>,
        /// Inode number on the sender; for information.
        ino: u64,
        /// 0 from a kernel.
        rdev: u64,
        /// Mode with type bits.
        #[cfg_attr(
            feature = "serde",
            serde(serialize_with = "crate::serial::special_mode")
        )]
        mode: u64,
    },
    /// 7: a new socket.
    Mksock {
        /// Its first, temporary name.
        path: StreamPath<B>,
        /// Inode number on the sender; for information.
        ino: u64,
        /// 0 from a kernel.
        rdev: u64,
        /// Mode with type bits.
        #[cfg_attr(
            feature = "serde",
            serde(serialize_with = "crate::serial::special_mode")
        )]
        mode: u64,
    },
    /// 8: a new symbolic link.
    Symlink {
        /// Its first, temporary name.
        path: StreamPath<B>,
        /// Inode number on the sender; for information.
        ino: u64,
        /// What the link holds: any bytes but NUL.
        #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serial::text"))]
        target: B,
    },
    /// 9: a new name for something.
    Rename {
        /// The old name.
        path: StreamPath<B>,
        /// The new name.
        to: StreamPath<B>,
    },
    /// 10: a further name for a file.
    Link {
        /// The new name.
        path: StreamPath<B>,
        /// A name the file already has.
        existing: StreamPath<B>,
    },
    /// 11: removes a name of anything but a directory.
    Unlink {
        /// The name.
        path: StreamPath<B>,
    },
    /// 12: removes an empty directory.
    Rmdir {
        /// The directory.
        path: StreamPath<B>,
    },
    /// 13: creates or replaces an extended attribute.
    SetXattr {
        /// The inode.
        path: StreamPath<B>,
        /// Name with its namespace: any bytes but NUL.
        #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serial::text"))]
        name: B,
        /// Value; may be empty.
        #[cfg_attr(
            feature = "serde",
            serde(rename = "value", serialize_with = "crate::serial::text")
        )]
        data: B,
    },
    /// 14: removes an extended attribute.
    RemoveXattr {
        /// The inode.
        path: StreamPath<B>,
        /// Name with its namespace: any bytes but NUL.
        #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serial::text"))]
        name: B,
    },
    /// 15: file data.
    Write {
        /// The file.
        path: StreamPath<B>,
        /// Where the data goes, in bytes.
        offset: u64,
        /// The data.
        #[cfg_attr(
            feature = "serde",
            serde(rename = "len", serialize_with = "crate::serial::len")
        )]
        data: B,
    },
    /// 16: file data by reference.
    Clone(CloneRange<B>),
    /// 17: sets the size of a file.
    Truncate {
        /// The file.
        path: StreamPath<B>,
        /// The new size in bytes.
        size: u64,
    },
    /// 18: sets the permission bits.
    Chmod {
        /// The inode; never a symbolic link.
        path: StreamPath<B>,
        /// Permission bits, 0 to 0o7777 from a kernel; more is for the
        /// receiver to refuse.
        #[cfg_attr(
            feature = "serde",
            serde(serialize_with = "crate::serial::permissions")
        )]
        mode: u64,
    },
    /// 19: sets the owner.
    Chown {
        /// The inode, not followed if a symbolic link.
        path: StreamPath<B>,
        /// User id; of 32 bits from a kernel, which is for the receiver to
        /// check.
        uid: u64,
        /// Group id; the same.
        gid: u64,
    },
    /// 20: sets the times.
    Utimes {
        /// The inode, not followed if a symbolic link.
        path: StreamPath<B>,
        /// Last access.
        atime: Timespec,
        /// Last change of the content.
        mtime: Timespec,
        /// Last change of the inode; for information, cannot be set.
        ctime: Timespec,
        /// Creation, since version 2; for information, cannot be set.
        #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
        otime: Option<Timespec>,
    },
    /// 21: the end of the stream.
    End,
    /// 22: a range changed, in a stream without file data.
    UpdateExtent {
        /// The file.
        path: StreamPath<B>,
        /// Where the range begins, in bytes.
        offset: u64,
        /// Bytes in the range.
        len: u64,
    },
    /// 23: `fallocate(2)`, since version 2.
    Fallocate {
        /// The file.
        path: StreamPath<B>,
        /// `FALLOC_FL_*`; kernels send 3, punch a hole and keep the size.
        mode: u32,
        /// Where the range begins, in bytes.
        offset: u64,
        /// Bytes in the range.
        len: u64,
    },
    /// 24: inode flags, since version 2.
    #[cfg_attr(feature = "serde", serde(rename = "fileattr"))]
    FileAttr {
        /// The inode.
        path: StreamPath<B>,
        /// `BTRFS_INODE_*` as in the sender's inode item, not `FS_*_FL`.
        #[cfg_attr(
            feature = "serde",
            serde(rename = "fileattr", serialize_with = "crate::serial::flags")
        )]
        attributes: u64,
    },
    /// 25: file data as the sender's disk holds it, since version 2.
    EncodedWrite(EncodedWrite<B>),
    /// 26: turns a file into a verity file, since version 3.
    EnableVerity(EnableVerity<B>),
}

/// A command that borrows names and data from the decoder's buffer.
pub type CommandRef<'a> = Command<&'a [u8]>;

/// A command that holds names and data in [`Bytes`]: cheap to clone, can
/// cross threads, shares the buffer it was decoded from.
pub type CommandBuf = Command<Bytes>;
