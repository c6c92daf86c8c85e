//! The attributes of the format, by number.

use std::fmt;

use super::Version;

macro_rules! attributes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal, $since:ident;)*) => {
        /// The attributes of the format (`BTRFS_SEND_A_*` in the kernel's
        /// `fs/btrfs/send.h`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum Attribute {
            $($(#[$doc])* $variant = $number,)*
        }

        impl Attribute {
            /// Every attribute, by number from 1 without a gap.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Lower-case name, as the kernel's constants have it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The first version whose streams may carry it.
            pub const fn since(self) -> Version {
                match self { $(Self::$variant => Version::$since,)* }
            }
        }
    };
}

attributes! {
    /// The subvolume's UUID: 16 bytes.
    Uuid = 1, "uuid", V1;
    /// The subvolume's ctransid on the sender: u64.
    Ctransid = 2, "ctransid", V1;
    /// Inode number on the sender: u64.
    Ino = 3, "ino", V1;
    /// Size of a file or of a range in bytes: u64.
    Size = 4, "size", V1;
    /// Permission bits of CHMOD; in MKNOD, MKFIFO and MKSOCK with type bits:
    /// u64.
    Mode = 5, "mode", V1;
    /// User id, of 32 bits from a kernel: u64.
    Uid = 6, "uid", V1;
    /// Group id, of 32 bits from a kernel: u64.
    Gid = 7, "gid", V1;
    /// Device number in the kernel's 32-bit encoding: u64.
    Rdev = 8, "rdev", V1;
    /// Last change of the inode: i64 seconds and u32 nanoseconds.
    Ctime = 9, "ctime", V1;
    /// Last change of the content, like `Ctime`.
    Mtime = 10, "mtime", V1;
    /// Last access, like `Ctime`.
    Atime = 11, "atime", V1;
    /// Creation, like `Ctime`. The number is as old as version 1, but only
    /// version 2 has it in a command.
    Otime = 12, "otime", V1;
    /// Name of an extended attribute, with its namespace.
    XattrName = 13, "xattr_name", V1;
    /// Value of an extended attribute; may be empty.
    XattrData = 14, "xattr_data", V1;
    /// The path a command is about; may be empty.
    Path = 15, "path", V1;
    /// The new path of RENAME.
    PathTo = 16, "path_to", V1;
    /// The existing path of LINK, the target of SYMLINK.
    PathLink = 17, "path_link", V1;
    /// Place in a file in bytes: u64.
    FileOffset = 18, "file_offset", V1;
    /// File data. From version 2 on without a length: it extends to the end
    /// of the command.
    Data = 19, "data", V1;
    /// UUID of the parent or of the clone source: 16 bytes.
    CloneUuid = 20, "clone_uuid", V1;
    /// ctransid of the parent or of the clone source on the sender: u64.
    CloneCtransid = 21, "clone_ctransid", V1;
    /// The file to clone from.
    ClonePath = 22, "clone_path", V1;
    /// Place in the file to clone from, in bytes: u64.
    CloneOffset = 23, "clone_offset", V1;
    /// Bytes to clone: u64.
    CloneLen = 24, "clone_len", V1;
    /// Mode of `fallocate(2)`, `FALLOC_FL_*` of `linux/falloc.h`: u32.
    FallocateMode = 25, "fallocate_mode", V2;
    /// Inode flags, `BTRFS_INODE_*` of `linux/btrfs_tree.h`: u64.
    FileAttr = 26, "fileattr", V2;
    /// Bytes of the file that an encoded extent covers: u64.
    UnencodedFileLen = 27, "unencoded_file_len", V2;
    /// Bytes of the decoded extent: u64.
    UnencodedLen = 28, "unencoded_len", V2;
    /// Where in the decoded extent the file's bytes begin: u64.
    UnencodedOffset = 29, "unencoded_offset", V2;
    /// How an extent is compressed: u32, 0 if absent.
    Compression = 30, "compression", V2;
    /// How an extent is encrypted: u32, 0 if absent.
    Encryption = 31, "encryption", V2;
    /// Hash algorithm of fs-verity: u8.
    VerityAlgorithm = 32, "verity_algorithm", V3;
    /// Merkle tree block size of fs-verity in bytes: u32.
    VerityBlockSize = 33, "verity_block_size", V3;
    /// Salt of fs-verity; may be empty.
    VeritySaltData = 34, "verity_salt_data", V3;
    /// Signature of fs-verity; may be empty.
    VeritySigData = 35, "verity_sig_data", V3;
}

impl Attribute {
    /// How many there are; also the highest number.
    pub(crate) const COUNT: usize = 35;

    /// The number in the stream.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The attribute with this number.
    #[inline]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.get(usize::from(number).wrapping_sub(1)).copied()
    }

    /// The bit of this attribute in a set of attributes.
    pub(crate) const fn bit(self) -> u64 {
        1 << self as u8
    }
}

impl fmt::Display for Attribute {
    /// Writes the name and the number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.number())
    }
}
