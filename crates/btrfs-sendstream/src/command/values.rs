//! Values that the format can carry and no operation can.

use super::{Command, StreamPath};

/// A value of a command with which it cannot be carried out anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// A number that is too large for what it means.
    #[error("{what} {value} is out of range")]
    OutOfRange {
        /// What the value is.
        what: &'static str,
        /// The value.
        value: i128,
    },
    /// The path is empty, where a name in a directory is needed.
    #[error("the root of the subvolume cannot be created, moved, linked or removed")]
    Root,
}

/// The bits of a mode that say what kind of inode it is (`S_IFMT`), and the
/// kinds.
const S_IFMT: u64 = 0o170_000;
const S_IFIFO: u64 = 0o010_000;
const S_IFCHR: u64 = 0o020_000;
const S_IFBLK: u64 = 0o060_000;
const S_IFSOCK: u64 = 0o140_000;

/// (uid_t) -1 means "leave as it is" to chown(2).
const MAX_ID: u64 = u32::MAX as u64 - 1;

impl<B: AsRef<[u8]>> Command<B> {
    /// Checks the values of the command: modes and ids are in the range of the
    /// kernel's types, ranges end at `i64::MAX` or before, special files have a
    /// mode of their kind, and the root is not created, renamed, linked or
    /// removed.
    ///
    /// The decoder does not check these values; a receiver has to.
    ///
    /// # Errors
    /// The first value that is out of range.
    pub fn check_values(&self) -> Result<(), ValueError> {
        match self {
            Self::Subvol { .. }
            | Self::Snapshot { .. }
            | Self::End
            | Self::SetXattr { .. }
            | Self::RemoveXattr { .. }
            | Self::Utimes { .. }
            | Self::UpdateExtent { .. }
            | Self::FileAttr { .. }
            | Self::EnableVerity(_) => Ok(()),
            Self::Mkfile { path, .. }
            | Self::Mkdir { path, .. }
            | Self::Symlink { path, .. }
            | Self::Unlink { path }
            | Self::Rmdir { path } => not_root(path),
            Self::Mknod { path, mode, .. } => {
                special_mode(*mode, &[S_IFCHR, S_IFBLK])?;
                not_root(path)
            }
            Self::Mkfifo { path, mode, .. } => {
                special_mode(*mode, &[S_IFIFO])?;
                not_root(path)
            }
            Self::Mksock { path, mode, .. } => {
                special_mode(*mode, &[S_IFSOCK])?;
                not_root(path)
            }
            Self::Rename { path, to } => {
                not_root(path)?;
                not_root(to)
            }
            Self::Link { path, existing } => {
                not_root(path)?;
                not_root(existing)
            }
            Self::Write { offset, data, .. } => range(*offset, data.as_ref().len() as u64),
            Self::Clone(clone) => {
                range(clone.offset, clone.len)?;
                range(clone.source_offset, clone.len)
            }
            Self::EncodedWrite(write) => range(write.offset, write.unencoded_file_len),
            Self::Truncate { size, .. } => range(*size, 0),
            Self::Fallocate { offset, len, .. } => range(*offset, *len),
            Self::Chmod { mode, .. } => at_most("mode", *mode, 0o7777),
            Self::Chown { uid, gid, .. } => {
                at_most("uid", *uid, MAX_ID)?;
                at_most("gid", *gid, MAX_ID)
            }
        }
    }
}

fn not_root<B: AsRef<[u8]>>(path: &StreamPath<B>) -> Result<(), ValueError> {
    if path.is_root() {
        Err(ValueError::Root)
    } else {
        Ok(())
    }
}

fn special_mode(mode: u64, kinds: &[u64]) -> Result<(), ValueError> {
    if kinds.contains(&(mode & S_IFMT)) {
        at_most("mode", mode, S_IFMT | 0o7777)
    } else {
        Err(out_of_range("mode", mode))
    }
}

fn at_most(what: &'static str, value: u64, max: u64) -> Result<(), ValueError> {
    if value > max {
        Err(out_of_range(what, value))
    } else {
        Ok(())
    }
}

fn out_of_range(what: &'static str, value: u64) -> ValueError {
    ValueError::OutOfRange {
        what,
        value: value.into(),
    }
}

/// Whether a range ends within what `off_t` can express.
fn range(offset: u64, len: u64) -> Result<(), ValueError> {
    match offset.checked_add(len) {
        Some(end) if i64::try_from(end).is_ok() => Ok(()),
        _ => Err(ValueError::OutOfRange {
            what: "end of range",
            value: i128::from(offset) + i128::from(len),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CommandRef;

    fn check(command: CommandRef<'_>) -> Result<(), String> {
        command.check_values().map_err(|error| error.to_string())
    }

    #[test]
    fn values_end_where_the_kernels_do() {
        let root = StreamPath::parse(&b""[..]).unwrap();
        let path = StreamPath::parse(&b"f"[..]).unwrap();
        let chmod = |mode| check(Command::Chmod { path, mode });
        assert!(chmod(0o7777).is_ok());
        assert_eq!(chmod(0o10_000).unwrap_err(), "mode 4096 is out of range");
        let chown = |gid| check(Command::Chown { path, uid: 0, gid });
        assert!(chown(u64::from(u32::MAX) - 1).is_ok());
        assert!(chown(u64::from(u32::MAX)).is_err());
        let truncate = |size| check(Command::Truncate { path, size });
        assert!(truncate(i64::MAX as u64).is_ok());
        assert!(truncate(i64::MAX as u64 + 1).is_err());
        let write = |offset| {
            check(Command::Write {
                path,
                offset,
                data: b"12",
            })
        };
        assert!(write(i64::MAX as u64 - 2).is_ok());
        assert_eq!(
            write(u64::MAX).unwrap_err(),
            "end of range 18446744073709551617 is out of range"
        );
        let mkfifo = |mode| {
            check(Command::Mkfifo {
                path,
                ino: 1,
                rdev: 0,
                mode,
            })
        };
        assert!(mkfifo(0o10_644).is_ok() && mkfifo(0o20_644).is_err());
        assert!(check(Command::Unlink { path: root }).is_err());
        assert!(check(Command::Rename { path, to: root }).is_err());
        assert!(
            check(Command::Chmod {
                path: root,
                mode: 0
            })
            .is_ok()
        );
    }
}
