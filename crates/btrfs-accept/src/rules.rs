//! The rules, and the file that they are written in.

use std::path::PathBuf;
use std::time::Duration;

use btrfs_sendstream::{Uuid, Version};
use serde::Deserialize;

use crate::values::{Ids, Pattern, Quantity, time};

/// What a stream may do.
///
/// The defaults allow a stream that makes ordinary files, and nothing that can
/// give somebody rights on this host. No name is allowed by default, so that
/// rules without [`names`](Self::names) accept nothing.
///
/// [`Rules::parse`] reads them from a file; `docs/accept.md` in the repository
/// describes each key. Where they are deserialized as a part of something else,
/// [`Rules::check`] finds contradictions. In code, start with the default:
///
/// ```
/// use btrfs_accept::{Action, Pattern, Rules};
///
/// let mut rules = Rules::default();
/// rules.names.push(Pattern::parse("home.*")?);
/// rules.devices = Action::Drop;
/// rules.check()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Rules {
    /// The names that subvolumes may get. Default: none.
    pub names: Vec<Pattern>,
    /// Whether full streams are accepted. Default `true`.
    pub full: bool,
    /// Whether incremental streams are accepted. Default `true`.
    pub incremental: bool,
    /// The largest number of subvolumes in the input, at least 1. Default 1.
    /// After the END of the last nothing may follow; that END is applied when
    /// the input has ended.
    pub subvolumes: u64,
    /// The versions of the stream that are accepted: 1, 2, 3. Default: all.
    pub versions: Vec<u32>,
    /// The UUIDs that subvolumes may have in the stream. Default `None`: any.
    pub uuids: Option<Vec<Uuid>>,
    /// The directory at or below which parents and clone sources must lie;
    /// relative to the destination. Default `.`, the destination itself.
    ///
    /// A [`Checker`](crate::Checker) cannot judge this: pass
    /// [`Rules::sources_in`] to
    /// [`BtrfsDestinationBuilder::jail`](btrfs_receive::BtrfsDestinationBuilder::jail).
    pub sources: PathBuf,
    /// The UUIDs that a stream may name as parent or clone source. The
    /// subvolume may always clone from itself. Default `None`: any.
    pub source_uuids: Option<Vec<Uuid>>,
    /// Character and block devices. [`Action::Drop`] makes an empty regular
    /// file instead, so that later commands on it can be applied. Default:
    /// refuse.
    pub devices: Action,
    /// The set-user-ID bit in modes. [`Action::Drop`] removes the bit. Default:
    /// refuse.
    pub setuid: Action,
    /// The set-group-ID bit in modes, also in those of directories.
    /// [`Action::Drop`] removes the bit. Default: refuse.
    pub setgid: Action,
    /// File capabilities: the attribute `security.capability`. Default: refuse.
    pub capabilities: Action,
    /// Inode flags (`chattr`). Default: allow.
    pub file_attributes: Action,
    /// fs-verity, which makes the kernel read the file and store a tree of
    /// hashes. Default: refuse.
    pub verity: Action,
    /// Extended attributes except `security.capability`.
    pub xattrs: Xattrs,
    /// Owners and groups.
    pub owners: Owners,
    /// How much a stream may contain.
    pub limits: Limits,
    /// For `btrfs-recv-rs --serve`: what may be asked for by ssh. A
    /// [`Checker`](crate::Checker) does not look at it.
    pub serve: Serve,
}

/// What another host may ask for, beside a receive.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Serve {
    /// Who it is, for the log. Default: empty.
    pub who: String,
    /// What it may ask for. Default: nothing.
    pub queries: Vec<Query>,
    /// A socket or file to log to. Default `None`: `/dev/log`, if it exists.
    pub log: Option<PathBuf>,
    /// Whether to receive in the sandbox. Default `true`.
    pub sandbox: bool,
}

/// A query that changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Query {
    /// `btrfs subvolume list`: the names and UUIDs of all subvolumes of the
    /// filesystem, also of those outside of the directory that is served.
    List,
    /// `btrfs subvolume show` of a subvolume in the directory that is served.
    Show,
    /// `readlink`: whether a directory exists below the one that is served.
    Readlink,
    /// The mount points of the host.
    Mounts,
    /// `btrfs --version`.
    Version,
}

impl Query {
    /// Returns the word in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Show => "show",
            Self::Readlink => "readlink",
            Self::Mounts => "mounts",
            Self::Version => "version",
        }
    }
}

impl Default for Serve {
    fn default() -> Self {
        Self {
            who: String::new(),
            queries: Vec::new(),
            log: None,
            sandbox: true,
        }
    }
}

/// What becomes of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Action {
    /// It is applied.
    Allow,
    /// The receive fails.
    Refuse,
    /// It is not applied, or applied without what the rule is about. The
    /// subvolume is completed, with the outcome
    /// [`FinishedWithOmissions`](btrfs_receive::Outcome::FinishedWithOmissions).
    Drop,
}

/// Which extended attributes are allowed, by their names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Xattrs {
    /// Those that are applied. Default: `user.*`, `system.posix_acl_access`,
    /// `system.posix_acl_default` and `btrfs.*`.
    pub allow: Vec<Pattern>,
    /// Those that are dropped, unless they are allowed as well. Default: none.
    pub drop: Vec<Pattern>,
    /// What becomes of all others. Default: refuse.
    pub otherwise: Action,
}

/// Which owners files may have.
///
/// The rule judges CHOWN commands. A file that the stream gives no owner belongs
/// to the process that receives.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Owners {
    /// The user ids. Default `None`: any.
    pub uids: Option<Vec<Ids>>,
    /// The group ids. Default `None`: any.
    pub gids: Option<Vec<Ids>>,
    /// What becomes of a change of the owner to another id. If it is dropped,
    /// the file keeps its owner. Default: refuse.
    pub otherwise: Action,
}

/// How much an input may contain. `None`, the default of each, is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of input. If that is unpacked while it is read, a
    /// [`Checker`](crate::Checker) sees only what comes out: the reader has to limit
    /// what goes in.
    pub input: Option<Quantity>,
    /// Bytes of data that is written or preallocated. Each range is counted in
    /// blocks of 4 KiB, as it occupies the disk, and compressed data by its
    /// decompressed size.
    pub data: Option<Quantity>,
    /// Bytes that are cloned. Without this limit, they count as
    /// [`data`](Self::data): a clone commonly occupies no data, but is copied if
    /// the kernel refuses to clone, and each extent of it occupies metadata.
    pub cloned: Option<Quantity>,
    /// The largest size of a file, holes included.
    pub file_size: Option<Quantity>,
    /// Number of files of any kind and of directories that are created.
    pub inodes: Option<u64>,
    /// Number of commands.
    pub commands: Option<u64>,
    /// The longest time without input. For the reader of the input: a
    /// [`Checker`](crate::Checker) does not see it.
    #[serde(deserialize_with = "time")]
    pub idle: Option<Duration>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            names: Vec::new(),
            full: true,
            incremental: true,
            subvolumes: 1,
            versions: Version::ALL.iter().map(|it| it.number()).collect(),
            uuids: None,
            sources: ".".into(),
            source_uuids: None,
            devices: Action::Refuse,
            setuid: Action::Refuse,
            setgid: Action::Refuse,
            capabilities: Action::Refuse,
            file_attributes: Action::Allow,
            verity: Action::Refuse,
            xattrs: Xattrs::default(),
            owners: Owners::default(),
            limits: Limits::default(),
            serve: Serve::default(),
        }
    }
}

impl Default for Xattrs {
    fn default() -> Self {
        let allowed = [
            "user.*",
            "system.posix_acl_access",
            "system.posix_acl_default",
            "btrfs.*",
        ];
        Self {
            allow: allowed.iter().flat_map(Pattern::parse).collect(),
            drop: Vec::new(),
            otherwise: Action::Refuse,
        }
    }
}

impl Default for Owners {
    fn default() -> Self {
        Self {
            uids: None,
            gids: None,
            otherwise: Action::Refuse,
        }
    }
}

/// Rules that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RulesError {
    /// The text is not TOML, has an unknown key, or a value of the wrong kind.
    #[error("line {line}: {message}")]
    Syntax {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// `subvolumes` is 0.
    #[error("subvolumes must be at least 1")]
    NoSubvolume,
    /// `versions` contains a number that is not a version.
    #[error("versions: {0} is not a version of the stream; known are 1, 2 and 3")]
    UnknownVersion(u32),
    /// Set-user-ID or set-group-ID bits are allowed, but files may stay without
    /// the owner or group that the stream gives them.
    #[error(
        "{key} = \"allow\" needs 0 in owners.{ids}, if that is there, and cannot be used with \
         owners.otherwise = \"drop\": a file without the owner in the stream belongs to root"
    )]
    SetIdWithoutOwner {
        /// `setuid` or `setgid`.
        key: &'static str,
        /// `uids` or `gids`.
        ids: &'static str,
    },
}

impl Rules {
    /// Reads rules from TOML. Keys that are missing have their defaults; unknown
    /// keys are errors.
    ///
    /// # Errors
    /// The text is not TOML or contains an unknown key, a value cannot be used,
    /// or the rules contradict each other.
    pub fn parse(text: &str) -> Result<Self, RulesError> {
        let rules: Self = toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let before = text.get(..start).unwrap_or(text);
            RulesError::Syntax {
                line: before.bytes().filter(|&byte| byte == b'\n').count() + 1,
                message: error.message().replace('\n', " "),
            }
        })?;
        rules.check()?;
        Ok(rules)
    }

    /// Checks that the rules can be used; [`parse`](Self::parse) has done so.
    ///
    /// # Errors
    /// Those of [`parse`](Self::parse) except [`RulesError::Syntax`].
    pub fn check(&self) -> Result<(), RulesError> {
        if self.subvolumes == 0 {
            return Err(RulesError::NoSubvolume);
        }
        let known = |number: u32| Version::ALL.iter().any(|it| it.number() == number);
        if let Some(&unknown) = self.versions.iter().find(|&&number| !known(number)) {
            return Err(RulesError::UnknownVersion(unknown));
        }
        for (key, action, ids, allowed) in [
            ("setuid", self.setuid, "uids", &self.owners.uids),
            ("setgid", self.setgid, "gids", &self.owners.gids),
        ] {
            let is_root = |allowed: &Vec<Ids>| allowed.iter().any(|it| it.contain(0));
            // Dropping the change of a group drops that of the owner too.
            let drops = self.owners.otherwise == Action::Drop
                && (self.owners.uids.is_some() || self.owners.gids.is_some());
            let stays_root = drops || !allowed.as_ref().is_none_or(is_root);
            if action == Action::Allow && stays_root {
                return Err(RulesError::SetIdWithoutOwner { key, ids });
            }
        }
        Ok(())
    }

    /// Returns [`sources`](Self::sources) as a path: joined to that of the
    /// destination, unless it is absolute.
    pub fn sources_in(&self, destination: impl AsRef<std::path::Path>) -> PathBuf {
        destination.as_ref().join(&self.sources)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_the_default() {
        assert_eq!(Rules::parse(""), Ok(Rules::default()));
        assert_eq!(Rules::default().xattrs.allow.len(), 4);
    }

    #[test]
    fn what_is_unknown_is_an_error_with_its_line() {
        for (text, line, part) in [
            ("names = [\"a\"]\nname = \"b\"", 2, "unknown field `name`"),
            ("\n[limits]\nfiles = 3", 3, "unknown field `files`"),
            ("\n\nsetuid = \"Allow\"", 3, "unknown variant `Allow`"),
            ("names = \"a\"", 1, "expected a sequence"),
            ("names = [\"a\",\n \"b/c\"]", 2, "no '/'"),
            ("[limits]\ninput = \"5 G\"", 2, "is not a size"),
            ("[limits]\ninput = -1", 2, "a size"),
            ("[limits]\nidle = 5", 2, "a time"),
            ("[limits]\nidle = \"0s\"", 2, "is not a time"),
            ("[owners]\nuids = [\"root\"]", 2, "is not an id"),
            ("[owners]\nuids = [4294967296]", 2, "an id"),
            ("uuids = [\"x\"]", 1, "UUID"),
            ("full = true\nfull = true", 2, "duplicate key"),
            ("= 3", 1, ""),
            ("full = 1", 1, "expected a boolean"),
        ] {
            match Rules::parse(text) {
                Err(RulesError::Syntax { line: at, message }) => {
                    assert_eq!(at, line, "{text}: {message}");
                    assert!(message.contains(part), "{text}: {message}");
                    assert!(!message.contains('\n'), "{message}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn contradictions_are_errors() {
        let wrong = |text: &str| Rules::parse(text).unwrap_err().to_string();
        assert_eq!(wrong("subvolumes = 0"), "subvolumes must be at least 1");
        assert!(wrong("versions = [1, 4]").starts_with("versions: 4 is not"));
        for text in [
            "setuid = \"allow\"\n[owners]\nuids = [\"1000-1999\"]",
            "setuid = \"allow\"\n[owners]\nuids = [0, 7]\notherwise = \"drop\"",
            "setgid = \"allow\"\n[owners]\ngids = [7]",
            "setuid = \"allow\"\n[owners]\ngids = [0]\notherwise = \"drop\"",
        ] {
            assert!(wrong(text).contains("belongs to root"), "{text}");
        }
        assert!(Rules::parse("setuid = \"allow\"\n[owners]\nuids = [0, 7]").is_ok());
        assert!(Rules::parse("setuid = \"drop\"\n[owners]\nuids = [7]").is_ok());
    }

    #[test]
    fn sources_are_relative_to_the_destination() {
        let rules = |text: &str| Rules::parse(text).unwrap().sources_in("/backup/a");
        assert_eq!(rules(""), PathBuf::from("/backup/a"));
        assert_eq!(rules("sources = \"..\""), PathBuf::from("/backup/a/.."));
        assert_eq!(rules("sources = \"/backup\""), PathBuf::from("/backup"));
    }
}
