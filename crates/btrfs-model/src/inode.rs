//! One inode of the model and what changes to it do.

use std::collections::BTreeMap;

use btrfs_sendstream::inode_flags::{APPEND, IMMUTABLE, NOATIME, NODUMP, SYNC};
use btrfs_sendstream::{Bytes, Timespec};
use rustix::io::Errno;

use super::acl::Acl;
use super::content::Content;
use super::xattr::{self, ACCESS_ACL, CAPABILITY, COMPRESSION, DEFAULT_ACL, Xattrs};

pub(super) use btrfs_sendstream::inode_flags::{
    COMPRESS, DIRSYNC, NOCOMPRESS, NODATACOW, NODATASUM, VERITY,
};

/// What `FS_IOC_FSSETXATTR` can change.
pub(super) const PLAIN: u64 = SYNC | IMMUTABLE | APPEND | NODUMP | NOATIME;

/// What `FS_IOC_SETFLAGS` can change.
const SETTABLE: u64 = NODATACOW | NOCOMPRESS | COMPRESS | DIRSYNC | PLAIN;

/// What an inode costs beside what it holds, towards the limit of the
/// model.
pub(super) const INODE_COST: u64 = 512;

const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o010;

/// What an inode of the model is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Kind {
    /// A regular file.
    File(Content),
    /// A directory: names and inode numbers.
    Directory(BTreeMap<Bytes, u64>),
    /// A symbolic link and what it holds.
    Symlink(Bytes),
    /// A character device and its number.
    CharacterDevice(u32),
    /// A block device and its number.
    BlockDevice(u32),
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
}

impl Kind {
    /// What it is, in words for an error.
    pub fn name(&self) -> &'static str {
        match self {
            Self::File(_) => "regular file",
            Self::Directory(_) => "directory",
            Self::Symlink(_) => "symbolic link",
            Self::CharacterDevice(_) => "character device",
            Self::BlockDevice(_) => "block device",
            Self::Fifo => "FIFO",
            Self::Socket => "socket",
        }
    }

    /// Whether it can carry inode flags and properties.
    pub(super) fn has_flags(&self) -> bool {
        matches!(self, Self::File(_) | Self::Directory(_))
    }
}

/// An inode of a model tree.
#[derive(Clone, Debug)]
pub struct Inode {
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) links: u32,
    pub(super) atime: Timespec,
    pub(super) mtime: Timespec,
    pub(super) xattrs: Xattrs,
    pub(super) attributes: u64,
}

impl Inode {
    pub(super) fn new(kind: Kind, mode: u32, now: Timespec) -> Self {
        Self {
            kind,
            mode,
            uid: 0,
            gid: 0,
            links: 1,
            atime: now,
            mtime: now,
            xattrs: Xattrs::default(),
            attributes: 0,
        }
    }

    /// What it is, with what only that kind has.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Permission bits, 0 to 0o7777; 0o777 for a symbolic link.
    pub fn mode(&self) -> u32 {
        self.mode
    }

    /// User id.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Group id.
    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// Names it has; 1 for a directory, as btrfs says.
    pub fn links(&self) -> u32 {
        self.links
    }

    /// Last access: as set, else when it was created.
    pub fn atime(&self) -> Timespec {
        self.atime
    }

    /// Last change of the content, by the clock of the model.
    pub fn mtime(&self) -> Timespec {
        self.mtime
    }

    /// Extended attributes with ACLs and `btrfs.compression`, by name.
    pub fn xattrs(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.xattrs.iter()
    }

    /// The value of an extended attribute.
    pub fn xattr(&self, name: &[u8]) -> Option<&Bytes> {
        self.xattrs.get(name)
    }

    /// Inode flags, `BTRFS_INODE_*`.
    pub fn attributes(&self) -> u64 {
        self.attributes
    }

    /// The content of a regular file.
    pub fn content(&self) -> Option<&Content> {
        match &self.kind {
            Kind::File(content) => Some(content),
            _ => None,
        }
    }

    /// Bytes held, with what the inode costs beside; names of a directory are
    /// counted where they are added.
    pub(super) fn cost(&self) -> u64 {
        let kind = match &self.kind {
            Kind::File(content) => content.cost(),
            Kind::Symlink(target) => target.len() as u64,
            _ => 0,
        };
        INODE_COST + kind + self.xattrs.cost()
    }

    /// A change of content, by root: the capabilities go, set-id bits stay.
    pub(super) fn content_changed(&mut self, now: Timespec) {
        self.xattrs.remove(CAPABILITY);
        self.mtime = now;
    }

    pub(super) fn chown(&mut self, uid: u32, gid: u32) {
        self.uid = uid;
        self.gid = gid;
        if matches!(self.kind, Kind::Directory(_)) {
            return;
        }
        self.xattrs.remove(CAPABILITY);
        if matches!(self.kind, Kind::Symlink(_)) {
            return;
        }
        self.mode &= !SETUID;
        // Without group execution the bit once meant mandatory locking.
        if self.mode & GROUP_EXECUTE != 0 {
            self.mode &= !SETGID;
        }
    }

    pub(super) fn chmod(&mut self, mode: u32) -> Result<(), Errno> {
        if matches!(self.kind, Kind::Symlink(_)) {
            return Err(Errno::OPNOTSUPP);
        }
        self.mode = mode & 0o7777;
        if let Some(mut acl) = self.acl(ACCESS_ACL) {
            acl.follow_mode(mode);
            self.xattrs.insert(ACCESS_ACL, &acl.to_value());
        }
        Ok(())
    }

    pub(super) fn set_xattr(&mut self, name: &[u8], value: &Bytes) -> Result<(), Errno> {
        xattr::check_name(name)?;
        xattr::check_value(name, value)?;
        match name {
            ACCESS_ACL | DEFAULT_ACL => self.set_acl(name, value),
            COMPRESSION => self.set_compression(value),
            _ => {
                xattr::check_namespace(name, self.kind.has_flags())?;
                self.store(name, &xattr::as_stored(name, value)?)
            }
        }
    }

    /// As `removexattr(2)`, but that one which is missing is no error.
    pub(super) fn remove_xattr(&mut self, name: &[u8]) -> Result<(), Errno> {
        xattr::check_name(name)?;
        match name {
            ACCESS_ACL | DEFAULT_ACL => return self.set_acl(name, &Bytes::new()),
            // The flags, which may have come by another way, stay then.
            COMPRESSION if self.xattrs.get(COMPRESSION).is_none() => return Ok(()),
            COMPRESSION => return self.set_compression(&Bytes::new()),
            _ => xattr::check_namespace(name, self.kind.has_flags())?,
        }
        self.xattrs.remove(name);
        Ok(())
    }

    fn store(&mut self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        xattr::check_room(name, value)?;
        self.xattrs.insert(name, value);
        Ok(())
    }

    fn acl(&self, name: &[u8]) -> Option<Acl> {
        Acl::parse(self.xattrs.get(name)?).ok().flatten()
    }

    fn set_acl(&mut self, name: &[u8], value: &Bytes) -> Result<(), Errno> {
        let acl = Acl::parse(value)?;
        if matches!(self.kind, Kind::Symlink(_)) {
            return Err(Errno::OPNOTSUPP);
        }
        let is_access = name == ACCESS_ACL;
        if !is_access && !matches!(self.kind, Kind::Directory(_)) {
            return if acl.is_some() {
                Err(Errno::ACCESS)
            } else {
                Ok(())
            };
        }
        let Some(acl) = acl else {
            self.xattrs.remove(name);
            return Ok(());
        };
        if !acl.is_valid() {
            return Err(Errno::INVAL);
        }
        if is_access {
            let (mode, complete) = acl.to_mode();
            if !complete {
                self.store(name, &acl.to_value())?;
            } else {
                self.xattrs.remove(name);
            }
            self.mode = self.mode & !0o777 | mode;
            return Ok(());
        }
        self.store(name, &acl.to_value())
    }

    fn set_compression(&mut self, value: &Bytes) -> Result<(), Errno> {
        if !value.is_empty() && self.attributes & NODATACOW != 0 {
            return Err(Errno::INVAL);
        }
        let flag = match xattr::compression(value) {
            Some(xattr::Property::Algorithm(_)) => COMPRESS,
            Some(xattr::Property::None) => NOCOMPRESS,
            None if value.is_empty() => 0,
            None => return Err(Errno::INVAL),
        };
        // Other kinds of inode take it, and nothing comes of it.
        if !self.kind.has_flags() {
            return Ok(());
        }
        self.attributes = self.attributes & !(COMPRESS | NOCOMPRESS) | flag;
        if value.is_empty() {
            self.xattrs.remove(COMPRESSION);
            return Ok(());
        }
        self.store(COMPRESSION, value)
    }

    /// As `FS_IOC_SETFLAGS` with the flags that `attributes` stand for; bits
    /// that it cannot set are passed over.
    pub(super) fn set_flags(&mut self, attributes: u64) -> Result<(), Errno> {
        let (old, mut new) = (self.attributes, attributes & SETTABLE);
        let both = |a: u64, b: u64, flags: u64| flags & a != 0 && flags & b != 0;
        if both(NOCOMPRESS, COMPRESS, new)
            || both(NODATACOW, COMPRESS, new)
            || (old & NODATACOW != 0 && new & (COMPRESS | NOCOMPRESS) != 0)
            || (new & NODATACOW != 0 && old & (COMPRESS | NOCOMPRESS) != 0)
        {
            return Err(Errno::INVAL);
        }
        let mut fixed = old & !SETTABLE & !NODATASUM;
        match &self.kind {
            Kind::File(content) if content.size() == 0 => {
                // NODATASUM is bit 0, NODATACOW bit 1.
                fixed |= (new & NODATACOW) >> 1;
            }
            // Whether existing content has checksums cannot be changed.
            Kind::File(_) => {
                new = new & !NODATACOW | old & NODATACOW;
                fixed |= old & NODATASUM;
            }
            _ => {}
        }
        if new & COMPRESS != 0 {
            // The default algorithm of a mount without options.
            self.store(COMPRESSION, b"zlib")?;
        } else {
            self.xattrs.remove(COMPRESSION);
        }
        self.attributes = fixed | new;
        Ok(())
    }

    /// Takes over what a new inode gets from the directory it is created in.
    pub(super) fn inherit(&mut self, directory: &Self) {
        if directory.mode & SETGID != 0 {
            self.gid = directory.gid;
            if matches!(self.kind, Kind::Directory(_)) {
                self.mode |= SETGID;
            }
        }
        if let (Some(acl), false) = (
            directory.acl(DEFAULT_ACL),
            matches!(self.kind, Kind::Symlink(_)),
        ) {
            let (mode, access) = acl.for_new_inode(self.mode);
            self.mode = mode;
            if let Some(access) = access {
                self.xattrs.insert(ACCESS_ACL, &access.to_value());
            }
            if matches!(self.kind, Kind::Directory(_)) {
                self.xattrs.insert(DEFAULT_ACL, &acl.to_value());
            }
        }
        self.inherit_flags(directory);
    }

    fn inherit_flags(&mut self, directory: &Self) {
        self.attributes = directory.attributes & (NODATACOW | NOCOMPRESS);
        if self.attributes & NODATACOW != 0 && matches!(self.kind, Kind::File(_)) {
            self.attributes |= NODATASUM;
        }
        if directory.attributes & NOCOMPRESS == 0 {
            self.attributes |= directory.attributes & COMPRESS;
        }
        if !self.kind.has_flags() {
            return;
        }
        // Of the property the algorithm is handed down, without its level.
        let value = directory
            .xattrs
            .get(COMPRESSION)
            .map(|v| xattr::compression(v));
        if let Some(Some(xattr::Property::Algorithm(name))) = value {
            self.attributes |= COMPRESS;
            self.xattrs.insert(COMPRESSION, name);
        }
    }
}
