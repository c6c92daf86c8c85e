//! Why a command is refused.

use std::fmt;

use btrfs_sendstream::{Bytes, Uuid, Version};

/// A rule, by its key in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Rule {
    /// `names`
    Names,
    /// `full`
    Full,
    /// `incremental`
    Incremental,
    /// `subvolumes`
    Subvolumes,
    /// `versions`
    Versions,
    /// `uuids`
    Uuids,
    /// `source-uuids`
    SourceUuids,
    /// `devices`
    Devices,
    /// `setuid`
    Setuid,
    /// `setgid`
    Setgid,
    /// `capabilities`
    Capabilities,
    /// `file-attributes`
    FileAttributes,
    /// `verity`
    Verity,
    /// `xattrs`
    Xattrs,
    /// `owners`
    Owners,
    /// `limits.input`
    Input,
    /// `limits.data`
    Data,
    /// `limits.cloned`
    Cloned,
    /// `limits.file-size`
    FileSize,
    /// `limits.inodes`
    Inodes,
    /// `limits.commands`
    Commands,
}

impl Rule {
    /// Returns the key in the file; that of a table's entry has a dot.
    pub fn key(self) -> &'static str {
        match self {
            Self::Names => "names",
            Self::Full => "full",
            Self::Incremental => "incremental",
            Self::Subvolumes => "subvolumes",
            Self::Versions => "versions",
            Self::Uuids => "uuids",
            Self::SourceUuids => "source-uuids",
            Self::Devices => "devices",
            Self::Setuid => "setuid",
            Self::Setgid => "setgid",
            Self::Capabilities => "capabilities",
            Self::FileAttributes => "file-attributes",
            Self::Verity => "verity",
            Self::Xattrs => "xattrs",
            Self::Owners => "owners",
            Self::Input => "limits.input",
            Self::Data => "limits.data",
            Self::Cloned => "limits.cloned",
            Self::FileSize => "limits.file-size",
            Self::Inodes => "limits.inodes",
            Self::Commands => "limits.commands",
        }
    }
}

impl fmt::Display for Rule {
    /// Writes the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.key())
    }
}

/// Why a command is refused: a rule, and what of the command it does not allow.
/// Its position and path are in the
/// [`Failure`](btrfs_receive::Failure) that it is the cause of.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The name of the subvolume is not allowed.
    Name,
    /// Full streams are not allowed.
    Full,
    /// Incremental streams are not allowed.
    Incremental,
    /// The input contains more subvolumes, or more data after the last, than
    /// this many subvolumes.
    Subvolumes(u64),
    /// The version of the stream is not allowed.
    Version(Version),
    /// The UUID of the subvolume is not allowed.
    Uuid(Uuid),
    /// The UUID of the parent or clone source is not allowed.
    SourceUuid(Uuid),
    /// A device node.
    Device,
    /// A mode with the set-user-ID bit.
    Setuid(u64),
    /// A mode with the set-group-ID bit.
    Setgid(u64),
    /// A file capability.
    Capability,
    /// Inode flags.
    FileAttributes,
    /// fs-verity.
    Verity,
    /// An extended attribute whose name is not allowed.
    Xattr(Bytes),
    /// A user id that is not allowed.
    User(u64),
    /// A group id that is not allowed.
    Group(u64),
    /// More than a limit allows.
    Limit {
        /// The rule with the limit.
        rule: Rule,
        /// The largest number that it allows.
        limit: u64,
    },
}

impl Refusal {
    /// Returns the rule.
    pub fn rule(&self) -> Rule {
        match self {
            Self::Name => Rule::Names,
            Self::Full => Rule::Full,
            Self::Incremental => Rule::Incremental,
            Self::Subvolumes(_) => Rule::Subvolumes,
            Self::Version(_) => Rule::Versions,
            Self::Uuid(_) => Rule::Uuids,
            Self::SourceUuid(_) => Rule::SourceUuids,
            Self::Device => Rule::Devices,
            Self::Setuid(_) => Rule::Setuid,
            Self::Setgid(_) => Rule::Setgid,
            Self::Capability => Rule::Capabilities,
            Self::FileAttributes => Rule::FileAttributes,
            Self::Verity => Rule::Verity,
            Self::Xattr(_) => Rule::Xattrs,
            Self::User(_) | Self::Group(_) => Rule::Owners,
            Self::Limit { rule, .. } => *rule,
        }
    }
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused by the rule {}: {}", self.rule(), Reason(self))
    }
}

/// What of the command is not allowed.
struct Reason<'a>(&'a Refusal);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Refusal::Name => f.write_str("the name matches none of the patterns"),
            Refusal::Full => f.write_str("full streams are not allowed"),
            Refusal::Incremental => f.write_str("incremental streams are not allowed"),
            Refusal::Subvolumes(1) => f.write_str("the input goes on after the one subvolume"),
            Refusal::Subvolumes(limit) => {
                write!(f, "the input goes on after {limit} subvolumes")
            }
            Refusal::Version(version) => write!(f, "version {} is not allowed", version.number()),
            Refusal::Uuid(uuid) => write!(f, "the UUID {uuid} is not allowed"),
            Refusal::SourceUuid(uuid) => {
                write!(f, "the parent or clone source {uuid} is not allowed")
            }
            Refusal::Device => f.write_str("device nodes are not allowed"),
            Refusal::Setuid(mode) => write!(f, "mode {mode:04o} has the set-user-ID bit"),
            Refusal::Setgid(mode) => write!(f, "mode {mode:04o} has the set-group-ID bit"),
            Refusal::Capability => f.write_str("file capabilities are not allowed"),
            Refusal::FileAttributes => f.write_str("inode flags are not allowed"),
            Refusal::Verity => f.write_str("fs-verity is not allowed"),
            Refusal::Xattr(name) => {
                write!(f, "the attribute {} is not allowed", name.escape_ascii())
            }
            Refusal::User(uid) => write!(f, "the owner {uid} is not allowed"),
            Refusal::Group(gid) => write!(f, "the group {gid} is not allowed"),
            Refusal::Limit { rule, limit } => match rule {
                Rule::Inodes => write!(f, "more than {limit} files and directories"),
                Rule::Commands => write!(f, "more than {limit} commands"),
                Rule::FileSize => write!(f, "a file of more than {limit} bytes"),
                Rule::Cloned => write!(f, "more than {limit} cloned bytes"),
                Rule::Data => write!(f, "more than {limit} bytes of data"),
                _ => write!(f, "more than {limit} bytes of input"),
            },
        }
    }
}
