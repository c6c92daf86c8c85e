//! Attributes: the numbered values in a command's payload.

use std::cell::Cell;
use std::fmt;

use crate::error::{Error, ErrorKind, Malformed, Unsupported};
use crate::wire::Version;
use crate::wire::cursor::Cursor;

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

/// An attribute as it stands in a command: a number and some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawAttribute<'a> {
    /// The number; may be unknown.
    pub number: u16,
    /// The value without its header.
    pub value: &'a [u8],
    /// Where the attribute begins, in bytes from the start of the input if
    /// that is known, else of the payload.
    pub offset: u64,
}

/// The attributes of a payload in their order, whatever their numbers.
///
/// Ends after the first error.
#[derive(Clone, Debug)]
pub struct RawAttributes<'a> {
    rest: Cursor<'a>,
    /// Offset of the payload's end.
    end: u64,
    data_is_rest: bool,
}

impl<'a> RawAttributes<'a> {
    pub(crate) fn new(payload: &'a [u8], version: Version, offset: u64) -> Self {
        Self {
            rest: Cursor::new(payload),
            end: offset.saturating_add(payload.len() as u64),
            data_is_rest: version >= Version::V2,
        }
    }

    #[inline]
    fn read(&mut self) -> Result<RawAttribute<'a>, Malformed> {
        let left = self.rest.remaining();
        let offset = self.end - left as u64;
        let trailing = Malformed::TrailingBytes { left, offset };
        let number = self.rest.u16().ok_or(trailing)?;
        let value = if self.data_is_rest && number == Attribute::Data.number() {
            self.rest.take_rest()
        } else {
            let len = usize::from(self.rest.u16().ok_or(trailing)?);
            self.rest.take(len).ok_or(Malformed::AttributeOverrun {
                number,
                len,
                left: self.rest.remaining(),
                offset,
            })?
        };
        Ok(RawAttribute {
            number,
            value,
            offset,
        })
    }
}

impl<'a> Iterator for RawAttributes<'a> {
    type Item = Result<RawAttribute<'a>, Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        Some(self.read().map_err(|error| {
            self.rest.take_rest();
            ErrorKind::from(error).into()
        }))
    }
}

/// The attributes of one command by number, each at most once.
pub(crate) struct AttributeTable<'a> {
    values: [&'a [u8]; Attribute::COUNT + 1],
    /// Bits of the attributes that are present.
    present: u64,
    /// Bits of the attributes that were asked for.
    used: Cell<u64>,
}

impl<'a> AttributeTable<'a> {
    /// A table without attributes.
    #[inline]
    pub(crate) fn new() -> Self {
        Self {
            values: [&[]; Attribute::COUNT + 1],
            present: 0,
            used: Cell::new(0),
        }
    }

    /// Sorts `attributes` by number, in place: moving the table about would
    /// cost more than filling it.
    ///
    /// # Errors
    /// Duplicates, broken framing, and numbers that `version` does not have;
    /// with `allow_unknown`, numbers over the highest known are left out.
    #[inline]
    pub(crate) fn fill(
        &mut self,
        attributes: RawAttributes<'a>,
        version: Version,
        allow_unknown: bool,
    ) -> Result<(), Error> {
        for raw in attributes {
            let RawAttribute {
                number,
                value,
                offset,
            } = raw?;
            let Some(attribute) = Attribute::from_number(number) else {
                if allow_unknown && number != 0 {
                    continue;
                }
                return Err(Unsupported::Attribute { number, offset }.into());
            };
            if attribute.since() > version {
                return Err(Unsupported::AttributeVersion {
                    attribute,
                    version,
                    offset,
                }
                .into());
            }
            if self.present & attribute.bit() != 0 {
                return Err(Malformed::DuplicateAttribute { attribute, offset }.into());
            }
            self.present |= attribute.bit();
            if let Some(slot) = self.values.get_mut(usize::from(number)) {
                *slot = value;
            }
        }
        Ok(())
    }

    /// The value of `attribute`, if it is present. Marks the attribute as
    /// used.
    #[inline]
    pub(crate) fn find(&self, attribute: Attribute) -> Option<&'a [u8]> {
        self.used.set(self.used.get() | attribute.bit());
        if self.present & attribute.bit() == 0 {
            return None;
        }
        self.values.get(usize::from(attribute.number())).copied()
    }

    /// Whether `attribute` was asked for.
    pub(crate) fn is_used(&self, attribute: Attribute) -> bool {
        self.used.get() & attribute.bit() != 0
    }

    /// The lowest attribute that is present and was not asked for, if there
    /// is one.
    #[inline]
    pub(crate) fn unexpected(&self) -> Option<Attribute> {
        let lowest = (self.present & !self.used.get()).trailing_zeros();
        Attribute::from_number(u16::try_from(lowest).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_no_gap() {
        for (index, attribute) in Attribute::ALL.iter().copied().enumerate() {
            assert_eq!(usize::from(attribute.number()), index + 1);
            assert_eq!(Attribute::from_number(attribute.number()), Some(attribute));
        }
        assert_eq!(Attribute::from_number(0), None);
        assert_eq!(Attribute::from_number(36), None);
    }

    #[test]
    fn highest_number_of_each_version() {
        for (&version, highest) in Version::ALL.iter().zip([24, 31, 35]) {
            let of_version = Attribute::ALL
                .iter()
                .copied()
                .filter(|a| a.since() <= version);
            assert_eq!(of_version.map(Attribute::number).max(), Some(highest));
        }
    }

    #[test]
    fn data_has_a_length_only_in_version_1() {
        let bytes = b"\x13\x00\x01\x00x\x12\x00\x00\x00";
        let read = |version| {
            RawAttributes::new(bytes, version, 100)
                .map(|raw| raw.map(|raw| (raw.number, raw.value, raw.offset)))
                .collect::<Result<Vec<_>, _>>()
                .unwrap()
        };
        assert_eq!(
            read(Version::V1),
            [(19, &b"x"[..], 100), (18, &b""[..], 105)]
        );
        assert_eq!(
            read(Version::V2),
            [(19, &b"\x01\x00x\x12\x00\x00\x00"[..], 100)]
        );
    }

    #[test]
    fn iteration_ends_after_an_error() {
        let mut attributes = RawAttributes::new(b"\x01\x00\x09\x00x", Version::V1, 0);
        assert!(attributes.next().unwrap().is_err());
        assert!(attributes.next().is_none());
    }
}
