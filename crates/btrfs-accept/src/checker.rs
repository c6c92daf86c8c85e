//! Judges commands by the rules.

use std::error::Error;

use btrfs_receive::{Filter, Verdict};
use btrfs_sendstream::{
    Bytes, Command, CommandBuf, Item, NewSubvolume, Position, SubvolumeName, Version,
};

use crate::refusal::{Refusal, Rule};
use crate::rules::{Action, Owners, Rules};
use crate::values::{Ids, Pattern, Quantity};

const S_IFMT: u64 = 0o170_000;
const S_IFCHR: u64 = 0o020_000;
const S_IFBLK: u64 = 0o060_000;
const SETUID: u64 = 0o4000;
const SETGID: u64 = 0o2000;

/// The attribute with file capabilities, see capabilities(7).
const CAPABILITY: &[u8] = b"security.capability";

/// What data occupies a multiple of: the smallest sector of btrfs.
const BLOCK: u64 = 4096;

/// `FALLOC_FL_PUNCH_HOLE` of `linux/falloc.h`: gives space back.
const PUNCH_HOLE: u32 = 2;

/// Judges one input by [`Rules`], for
/// [`Receiver::receive_filtered`](btrfs_receive::Receiver::receive_filtered).
///
/// Limits are for the whole input. Memory: a few hundred bytes beside the rules.
#[derive(Clone, Debug)]
pub struct Checker {
    rules: Rules,
    name: Option<SubvolumeName>,
    /// The subvolume that commands belong to.
    current: Option<NewSubvolume>,
    subvolumes: u64,
    data: u64,
    cloned: u64,
    inodes: u64,
    commands: u64,
    dropped: Vec<(Rule, u64)>,
}

/// What to do with a command that is not refused.
enum Accepted {
    AsIs,
    Without,
    Instead(CommandBuf),
}

impl Checker {
    /// A checker at the beginning of an input.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            name: None,
            current: None,
            subvolumes: 0,
            data: 0,
            cloned: 0,
            inodes: 0,
            commands: 0,
            dropped: Vec::new(),
        }
    }

    /// Judges this name instead of the one in the stream; for
    /// [`Options::name`](btrfs_receive::Options::name).
    #[must_use]
    pub fn with_name(mut self, name: Option<SubvolumeName>) -> Self {
        self.name = name;
        self
    }

    /// Returns the rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Returns by which rules commands were dropped or changed, and how many by
    /// each, in the order in which each rule did so first.
    pub fn dropped(&self) -> &[(Rule, u64)] {
        &self.dropped
    }

    fn item(&mut self, item: &Item, end: u64) -> Result<Accepted, Refusal> {
        at_most(Rule::Input, end, self.rules.limits.input)?;
        match item {
            Item::Header(version) => self.header(*version),
            Item::Command(command) => self.command(command),
            // A caller that allows these skips them.
            _ => self.count_command(),
        }
    }

    fn header(&self, version: Version) -> Result<Accepted, Refusal> {
        if self.subvolumes >= self.rules.subvolumes {
            return Err(Refusal::Subvolumes(self.rules.subvolumes));
        }
        if !self.rules.versions.contains(&version.number()) {
            return Err(Refusal::Version(version));
        }
        Ok(Accepted::AsIs)
    }

    fn count_command(&mut self) -> Result<Accepted, Refusal> {
        self.commands = self.commands.saturating_add(1);
        let limit = self.rules.limits.commands.map(Quantity);
        at_most(Rule::Commands, self.commands, limit)?;
        Ok(Accepted::AsIs)
    }

    fn command(&mut self, command: &CommandBuf) -> Result<Accepted, Refusal> {
        self.count_command()?;
        match command {
            Command::Subvol { .. } | Command::Snapshot { .. } => self.subvolume(command),
            Command::Mkfile { .. } | Command::Mkdir { .. } | Command::Symlink { .. } => {
                self.inode()
            }
            Command::Mknod { path, ino, .. } => {
                let _ = self.inode()?;
                let file = Command::Mkfile {
                    path: path.clone(),
                    ino: *ino,
                };
                match self.act(Rule::Devices, self.rules.devices, || Refusal::Device)? {
                    Accepted::Without => Ok(Accepted::Instead(file)),
                    accepted => self.special(command).map(|special| match special {
                        Accepted::AsIs => accepted,
                        other => other,
                    }),
                }
            }
            Command::Mkfifo { .. } | Command::Mksock { .. } => {
                let _ = self.inode()?;
                self.special(command)
            }
            Command::Chmod { path, mode } => Ok(match self.mode(*mode)? {
                Some(mode) => Accepted::Instead(Command::Chmod {
                    path: path.clone(),
                    mode,
                }),
                None => Accepted::AsIs,
            }),
            Command::Chown { uid, gid, .. } => self.owner(*uid, *gid),
            Command::SetXattr { name, .. } | Command::RemoveXattr { name, .. } => self.xattr(name),
            Command::Write { offset, data, .. } => {
                let len = data.len() as u64;
                self.size(*offset, len)?;
                self.data(*offset, len)
            }
            Command::EncodedWrite(write) => {
                self.size(write.offset, write.unencoded_file_len)?;
                // Stored as sent, or decompressed.
                let stored = write.data.len() as u64;
                self.data(write.offset, stored.max(write.unencoded_file_len))
            }
            Command::Clone(clone) => {
                let own = self.current.as_ref();
                if !own.is_some_and(|own| own.is_source_of(clone)) {
                    self.source(clone.source_uuid)?;
                }
                self.size(clone.offset, clone.len)?;
                if self.rules.limits.cloned.is_none() {
                    return self.data(clone.offset, clone.len);
                }
                self.cloned = self.cloned.saturating_add(clone.len);
                at_most(Rule::Cloned, self.cloned, self.rules.limits.cloned)?;
                Ok(Accepted::AsIs)
            }
            Command::Truncate { size, .. } => {
                self.size(*size, 0)?;
                Ok(Accepted::AsIs)
            }
            Command::Fallocate {
                mode, offset, len, ..
            } => {
                self.size(*offset, *len)?;
                if mode & PUNCH_HOLE != 0 {
                    return Ok(Accepted::AsIs);
                }
                self.data(*offset, *len)
            }
            Command::FileAttr { .. } => {
                let action = self.rules.file_attributes;
                self.act(Rule::FileAttributes, action, || Refusal::FileAttributes)
            }
            Command::EnableVerity(_) => {
                self.act(Rule::Verity, self.rules.verity, || Refusal::Verity)
            }
            // They change names, times, or nothing.
            Command::Rename { .. }
            | Command::Link { .. }
            | Command::Unlink { .. }
            | Command::Rmdir { .. }
            | Command::Utimes { .. }
            | Command::UpdateExtent { .. }
            | Command::End => Ok(Accepted::AsIs),
        }
    }

    fn subvolume(&mut self, command: &CommandBuf) -> Result<Accepted, Refusal> {
        let Some(new) = NewSubvolume::from_command(command) else {
            return Ok(Accepted::AsIs);
        };
        let rules = &self.rules;
        if self.subvolumes >= rules.subvolumes {
            return Err(Refusal::Subvolumes(rules.subvolumes));
        }
        let name = self.name.as_ref().unwrap_or(&new.name).as_bytes();
        if !matches_any(&rules.names, name) {
            return Err(Refusal::Name);
        }
        if new.parent.is_none() && !rules.full {
            return Err(Refusal::Full);
        }
        if new.parent.is_some() && !rules.incremental {
            return Err(Refusal::Incremental);
        }
        if let Some(uuids) = &rules.uuids
            && !uuids.contains(&new.uuid)
        {
            return Err(Refusal::Uuid(new.uuid));
        }
        if let Some(parent) = new.parent {
            self.source(parent.uuid)?;
        }
        self.subvolumes += 1;
        // Not with the buffer that the name was read into.
        let name = new.name.borrow().to_owned();
        self.current = Some(NewSubvolume::new(name, new.uuid, new.ctransid, new.parent));
        Ok(Accepted::AsIs)
    }

    fn source(&self, uuid: btrfs_sendstream::Uuid) -> Result<(), Refusal> {
        match &self.rules.source_uuids {
            Some(uuids) if !uuids.contains(&uuid) => Err(Refusal::SourceUuid(uuid)),
            _ => Ok(()),
        }
    }

    fn inode(&mut self) -> Result<Accepted, Refusal> {
        self.inodes = self.inodes.saturating_add(1);
        let limit = self.rules.limits.inodes.map(Quantity);
        at_most(Rule::Inodes, self.inodes, limit)?;
        Ok(Accepted::AsIs)
    }

    /// What creates a special file with a mode.
    fn special(&mut self, command: &CommandBuf) -> Result<Accepted, Refusal> {
        let mut changed = command.clone();
        let (Command::Mknod { mode, .. }
        | Command::Mkfifo { mode, .. }
        | Command::Mksock { mode, .. }) = &mut changed
        else {
            return Ok(Accepted::AsIs);
        };
        // The receiver refuses a FIFO that is a device by its mode.
        if !matches!(command, Command::Mknod { .. }) && matches!(*mode & S_IFMT, S_IFCHR | S_IFBLK)
        {
            return Err(Refusal::Device);
        }
        match self.mode(*mode)? {
            Some(allowed) => {
                *mode = allowed;
                Ok(Accepted::Instead(changed))
            }
            None => Ok(Accepted::AsIs),
        }
    }

    /// The mode without the bits that are dropped; `None` if there are none.
    fn mode(&mut self, mode: u64) -> Result<Option<u64>, Refusal> {
        let mut allowed = mode;
        for (bit, rule, action) in [
            (SETUID, Rule::Setuid, self.rules.setuid),
            (SETGID, Rule::Setgid, self.rules.setgid),
        ] {
            if mode & bit == 0 {
                continue;
            }
            let refusal = || match rule {
                Rule::Setuid => Refusal::Setuid(mode & 0o7777),
                _ => Refusal::Setgid(mode & 0o7777),
            };
            if matches!(self.act(rule, action, refusal)?, Accepted::Without) {
                allowed &= !bit;
            }
        }
        Ok((allowed != mode).then_some(allowed))
    }

    fn owner(&mut self, uid: u64, gid: u64) -> Result<Accepted, Refusal> {
        let Owners {
            uids,
            gids,
            otherwise,
        } = &self.rules.owners;
        let is_allowed = |ids: &Option<Vec<Ids>>, id| {
            ids.as_ref()
                .is_none_or(|ids| ids.iter().any(|it| it.contain(id)))
        };
        let refusal = if !is_allowed(uids, uid) {
            Refusal::User(uid)
        } else if !is_allowed(gids, gid) {
            Refusal::Group(gid)
        } else {
            return Ok(Accepted::AsIs);
        };
        self.act(Rule::Owners, *otherwise, || refusal)
    }

    fn xattr(&mut self, name: &Bytes) -> Result<Accepted, Refusal> {
        let rules = &self.rules;
        if name == CAPABILITY {
            return self.act(Rule::Capabilities, rules.capabilities, || {
                Refusal::Capability
            });
        }
        let action = if matches_any(&rules.xattrs.allow, name) {
            Action::Allow
        } else if matches_any(&rules.xattrs.drop, name) {
            Action::Drop
        } else {
            rules.xattrs.otherwise
        };
        let refusal = || Refusal::Xattr(Bytes::copy_from_slice(name));
        self.act(Rule::Xattrs, action, refusal)
    }

    /// A file gets at least this size.
    fn size(&self, offset: u64, len: u64) -> Result<(), Refusal> {
        let size = offset.saturating_add(len);
        at_most(Rule::FileSize, size, self.rules.limits.file_size)
    }

    /// A range of a file gets data of its own.
    fn data(&mut self, offset: u64, len: u64) -> Result<Accepted, Refusal> {
        if len > 0 {
            let first = offset / BLOCK;
            let end = offset.saturating_add(len).div_ceil(BLOCK);
            let bytes = (end - first).saturating_mul(BLOCK);
            self.data = self.data.saturating_add(bytes);
        }
        at_most(Rule::Data, self.data, self.rules.limits.data)?;
        Ok(Accepted::AsIs)
    }

    fn act(
        &mut self,
        rule: Rule,
        action: Action,
        refusal: impl FnOnce() -> Refusal,
    ) -> Result<Accepted, Refusal> {
        match action {
            Action::Allow => Ok(Accepted::AsIs),
            Action::Refuse => Err(refusal()),
            Action::Drop => {
                match self.dropped.iter_mut().find(|(it, _)| *it == rule) {
                    Some((_, count)) => *count += 1,
                    None => self.dropped.push((rule, 1)),
                }
                Ok(Accepted::Without)
            }
        }
    }
}

fn matches_any(patterns: &[Pattern], name: &[u8]) -> bool {
    patterns.iter().any(|pattern| pattern.matches(name))
}

fn at_most(rule: Rule, value: u64, limit: Option<Quantity>) -> Result<(), Refusal> {
    match limit {
        Some(Quantity(limit)) if value > limit => Err(Refusal::Limit { rule, limit }),
        _ => Ok(()),
    }
}

impl Filter for Checker {
    fn judge(&mut self, item: &Item, _: Position, end: u64) -> Verdict {
        match self.item(item, end) {
            Ok(Accepted::AsIs) => Verdict::Apply,
            Ok(Accepted::Without) => Verdict::LeaveOut,
            Ok(Accepted::Instead(command)) => Verdict::Replace(Box::new(command)),
            Err(refusal) => Verdict::Refuse(Box::new(refusal)),
        }
    }

    fn must_be_last(&self) -> Option<Box<dyn Error + Send + Sync>> {
        let limit = self.rules.subvolumes;
        (self.subvolumes >= limit).then(|| Refusal::Subvolumes(limit).into())
    }
}
