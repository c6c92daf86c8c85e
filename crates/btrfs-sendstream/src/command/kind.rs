//! The commands' numbers and names.

use std::fmt;

use crate::wire::Version;

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal, $since:ident;)*) => {
        /// Which command it is (`enum btrfs_send_cmd` in the kernel's
        /// `fs/btrfs/send.h`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum CommandKind {
            $($(#[$doc])* $variant = $number,)*
        }

        impl CommandKind {
            /// Every command, by number from 1 without a gap.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Lower-case name, as `btrfs receive --dump` prints it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The first version that has the command.
            pub const fn since(self) -> Version {
                match self { $(Self::$variant => Version::$since,)* }
            }
        }
    };
}

kinds! {
    /// A new, empty subvolume.
    Subvol = 1, "subvol", V1;
    /// A snapshot of the parent.
    Snapshot = 2, "snapshot", V1;
    /// A new regular file.
    Mkfile = 3, "mkfile", V1;
    /// A new directory.
    Mkdir = 4, "mkdir", V1;
    /// A new device.
    Mknod = 5, "mknod", V1;
    /// A new FIFO.
    Mkfifo = 6, "mkfifo", V1;
    /// A new socket.
    Mksock = 7, "mksock", V1;
    /// A new symbolic link.
    Symlink = 8, "symlink", V1;
    /// A new name for something.
    Rename = 9, "rename", V1;
    /// A further name for a file.
    Link = 10, "link", V1;
    /// Removes a name.
    Unlink = 11, "unlink", V1;
    /// Removes a directory.
    Rmdir = 12, "rmdir", V1;
    /// Sets an extended attribute.
    SetXattr = 13, "set_xattr", V1;
    /// Removes an extended attribute.
    RemoveXattr = 14, "remove_xattr", V1;
    /// File data.
    Write = 15, "write", V1;
    /// File data by reference.
    Clone = 16, "clone", V1;
    /// Sets the size.
    Truncate = 17, "truncate", V1;
    /// Sets the permission bits.
    Chmod = 18, "chmod", V1;
    /// Sets the owner.
    Chown = 19, "chown", V1;
    /// Sets the times.
    Utimes = 20, "utimes", V1;
    /// The end of the stream.
    End = 21, "end", V1;
    /// A range changed, in a stream without data.
    UpdateExtent = 22, "update_extent", V1;
    /// `fallocate(2)`.
    Fallocate = 23, "fallocate", V2;
    /// Inode flags.
    FileAttr = 24, "fileattr", V2;
    /// File data as the disk holds it.
    EncodedWrite = 25, "encoded_write", V2;
    /// Turns a file into a verity file.
    EnableVerity = 26, "enable_verity", V3;
}

impl CommandKind {
    /// The number in the stream.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The command with this number.
    #[inline]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.get(usize::from(number).wrapping_sub(1)).copied()
    }
}

impl fmt::Display for CommandKind {
    /// Writes the name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_no_gap() {
        for (index, kind) in CommandKind::ALL.iter().copied().enumerate() {
            assert_eq!(usize::from(kind.number()), index + 1);
            assert_eq!(CommandKind::from_number(kind.number()), Some(kind));
        }
        assert_eq!(CommandKind::from_number(0), None);
        assert_eq!(CommandKind::from_number(27), None);
    }

    #[test]
    fn highest_number_of_each_version() {
        for (&version, highest) in Version::ALL.iter().zip([22, 25, 26]) {
            let of_version = CommandKind::ALL
                .iter()
                .copied()
                .filter(|k| k.since() <= version);
            assert_eq!(of_version.map(CommandKind::number).max(), Some(highest));
        }
    }
}
