//! The attributes of each shape of command: what reads them and what writes
//! them stand together, in the order in which the kernel writes them.

use uuid::Uuid;

use super::value::{Fields, Put, check_uuid};
use crate::command::{
    CloneRange, Command, CommandRef, EnableVerity, EncodedWrite, StreamPath, SubvolumeName,
    Timespec,
};
use crate::error::{Malformed, Misuse};
use crate::wire::Version;
use crate::wire::attribute::Attribute::{self as A};

// SUBVOL and SNAPSHOT.

impl<'a> Fields<'_, 'a> {
    pub(super) fn subvol(&self) -> Result<CommandRef<'a>, Malformed> {
        let (name, uuid, ctransid) = self.identity()?;
        Ok(Command::Subvol {
            name,
            uuid,
            ctransid,
        })
    }

    pub(super) fn snapshot(&self) -> Result<CommandRef<'a>, Malformed> {
        let (name, uuid, ctransid) = self.identity()?;
        Ok(Command::Snapshot {
            name,
            uuid,
            ctransid,
            parent_uuid: self.uuid(A::CloneUuid)?,
            parent_ctransid: self.u64(A::CloneCtransid)?,
        })
    }

    pub(super) fn identity(&self) -> Result<(SubvolumeName<&'a [u8]>, Uuid, u64), Malformed> {
        let attribute = A::Path;
        let name = SubvolumeName::parse(self.bytes(attribute)?)
            .map_err(|reason| Malformed::Path { attribute, reason })?;
        let uuid = self.uuid(A::Uuid)?;
        check_uuid(self.kind, uuid)?;
        Ok((name, uuid, self.u64(A::Ctransid)?))
    }
}

impl Put<'_> {
    pub(super) fn subvolume<B: AsRef<[u8]>>(&mut self, command: &Command<B>) -> &mut Self {
        let (Command::Subvol {
            name,
            uuid,
            ctransid,
        }
        | Command::Snapshot {
            name,
            uuid,
            ctransid,
            ..
        }) = command
        else {
            return self;
        };
        if let Err(malformed) = check_uuid(command.kind(), *uuid) {
            return self.refuse(Misuse::Value(malformed));
        }
        self.bytes(A::Path, name.as_bytes())
            .uuid(A::Uuid, *uuid)
            .u64(A::Ctransid, *ctransid);
        if let Command::Snapshot {
            parent_uuid,
            parent_ctransid,
            ..
        } = command
        {
            self.uuid(A::CloneUuid, *parent_uuid)
                .u64(A::CloneCtransid, *parent_ctransid);
        }
        self
    }
}

// New inodes.

impl<'a> Fields<'_, 'a> {
    pub(super) fn inode(&self) -> Result<(StreamPath<&'a [u8]>, u64), Malformed> {
        Ok((self.path(A::Path)?, self.u64(A::Ino)?))
    }

    pub(super) fn mknod(&self) -> Result<CommandRef<'a>, Malformed> {
        let (path, ino) = self.inode()?;
        Ok(Command::Mknod {
            path,
            ino,
            rdev: self.u64(A::Rdev)?,
            mode: self.u64(A::Mode)?,
        })
    }

    pub(super) fn mkfifo(&self) -> Result<CommandRef<'a>, Malformed> {
        let (path, ino) = self.inode()?;
        Ok(Command::Mkfifo {
            path,
            ino,
            rdev: self.u64(A::Rdev)?,
            mode: self.u64(A::Mode)?,
        })
    }

    pub(super) fn mksock(&self) -> Result<CommandRef<'a>, Malformed> {
        let (path, ino) = self.inode()?;
        Ok(Command::Mksock {
            path,
            ino,
            rdev: self.u64(A::Rdev)?,
            mode: self.u64(A::Mode)?,
        })
    }

    pub(super) fn symlink(&self) -> Result<CommandRef<'a>, Malformed> {
        let (path, ino) = self.inode()?;
        Ok(Command::Symlink {
            path,
            ino,
            target: self.string(A::PathLink)?,
        })
    }
}

impl Put<'_> {
    pub(super) fn inode<B: AsRef<[u8]>>(&mut self, path: &StreamPath<B>, ino: u64) -> &mut Self {
        self.path(A::Path, path).u64(A::Ino, ino)
    }

    pub(super) fn special<B: AsRef<[u8]>>(
        &mut self,
        path: &StreamPath<B>,
        ino: u64,
        rdev: u64,
        mode: u64,
    ) -> &mut Self {
        self.inode(path, ino).u64(A::Rdev, rdev).u64(A::Mode, mode)
    }
}

// Metadata.

impl<'a> Fields<'_, 'a> {
    pub(super) fn set_xattr(&self) -> Result<CommandRef<'a>, Malformed> {
        Ok(Command::SetXattr {
            path: self.path(A::Path)?,
            name: self.string(A::XattrName)?,
            data: self.bytes(A::XattrData)?,
        })
    }

    pub(super) fn remove_xattr(&self) -> Result<CommandRef<'a>, Malformed> {
        Ok(Command::RemoveXattr {
            path: self.path(A::Path)?,
            name: self.string(A::XattrName)?,
        })
    }

    pub(super) fn truncate(&self) -> Result<CommandRef<'a>, Malformed> {
        Ok(Command::Truncate {
            path: self.path(A::Path)?,
            size: self.u64(A::Size)?,
        })
    }

    pub(super) fn chmod(&self) -> Result<CommandRef<'a>, Malformed> {
        Ok(Command::Chmod {
            path: self.path(A::Path)?,
            mode: self.u64(A::Mode)?,
        })
    }

    pub(super) fn chown(&self) -> Result<CommandRef<'a>, Malformed> {
        Ok(Command::Chown {
            path: self.path(A::Path)?,
            uid: self.u64(A::Uid)?,
            gid: self.u64(A::Gid)?,
        })
    }

    pub(super) fn utimes(&self) -> Result<CommandRef<'a>, Malformed> {
        Ok(Command::Utimes {
            path: self.path(A::Path)?,
            atime: self.time(A::Atime)?,
            mtime: self.time(A::Mtime)?,
            ctime: self.time(A::Ctime)?,
            otime: match self.version {
                // UTIMES has it from version 2 on.
                Version::V1 => None,
                Version::V2 | Version::V3 => self.optional_time(A::Otime)?,
            },
        })
    }

    pub(super) fn file_attr(&self) -> Result<CommandRef<'a>, Malformed> {
        Ok(Command::FileAttr {
            path: self.path(A::Path)?,
            attributes: self.u64(A::FileAttr)?,
        })
    }
}

impl Put<'_> {
    pub(super) fn set_xattr<B: AsRef<[u8]>>(
        &mut self,
        path: &StreamPath<B>,
        name: &[u8],
        data: &[u8],
    ) -> &mut Self {
        self.path(A::Path, path)
            .string(A::XattrName, name)
            .bytes(A::XattrData, data)
    }

    pub(super) fn utimes<B: AsRef<[u8]>>(
        &mut self,
        path: &StreamPath<B>,
        [atime, mtime, ctime]: [Timespec; 3],
        otime: Option<Timespec>,
    ) -> &mut Self {
        self.path(A::Path, path)
            .time(A::Atime, atime)
            .time(A::Mtime, mtime)
            .time(A::Ctime, ctime);
        match otime {
            None => self,
            Some(_) if self.version == Version::V1 => self.refuse(Misuse::AttributeVersion {
                attribute: A::Otime,
                version: Version::V1,
            }),
            Some(otime) => self.time(A::Otime, otime),
        }
    }
}

// Content of files.

impl<'a> Fields<'_, 'a> {
    pub(super) fn write(&self) -> Result<CommandRef<'a>, Malformed> {
        Ok(Command::Write {
            path: self.path(A::Path)?,
            offset: self.u64(A::FileOffset)?,
            data: self.bytes(A::Data)?,
        })
    }

    pub(super) fn clone_range(&self) -> Result<CloneRange<&'a [u8]>, Malformed> {
        Ok(CloneRange {
            path: self.path(A::Path)?,
            offset: self.u64(A::FileOffset)?,
            len: self.u64(A::CloneLen)?,
            source_uuid: self.uuid(A::CloneUuid)?,
            source_ctransid: self.u64(A::CloneCtransid)?,
            source_path: self.path(A::ClonePath)?,
            source_offset: self.u64(A::CloneOffset)?,
        })
    }

    pub(super) fn update_extent(&self) -> Result<CommandRef<'a>, Malformed> {
        Ok(Command::UpdateExtent {
            path: self.path(A::Path)?,
            offset: self.u64(A::FileOffset)?,
            len: self.u64(A::Size)?,
        })
    }

    pub(super) fn fallocate(&self) -> Result<CommandRef<'a>, Malformed> {
        Ok(Command::Fallocate {
            path: self.path(A::Path)?,
            mode: self.u32(A::FallocateMode)?,
            offset: self.u64(A::FileOffset)?,
            len: self.u64(A::Size)?,
        })
    }

    pub(super) fn encoded_write(&self) -> Result<EncodedWrite<&'a [u8]>, Malformed> {
        Ok(EncodedWrite {
            path: self.path(A::Path)?,
            offset: self.u64(A::FileOffset)?,
            unencoded_file_len: self.u64(A::UnencodedFileLen)?,
            unencoded_len: self.u64(A::UnencodedLen)?,
            unencoded_offset: self.u64(A::UnencodedOffset)?,
            compression: self.optional_u32(A::Compression)?,
            encryption: self.optional_u32(A::Encryption)?,
            data: self.bytes(A::Data)?,
        })
    }

    pub(super) fn enable_verity(&self) -> Result<EnableVerity<&'a [u8]>, Malformed> {
        let [algorithm] = self.array(A::VerityAlgorithm)?;
        Ok(EnableVerity {
            path: self.path(A::Path)?,
            algorithm,
            block_size: self.u32(A::VerityBlockSize)?,
            salt: self.bytes(A::VeritySaltData)?,
            signature: self.bytes(A::VeritySigData)?,
        })
    }
}

impl Put<'_> {
    pub(super) fn write<B: AsRef<[u8]>>(
        &mut self,
        path: &StreamPath<B>,
        offset: u64,
        data: &[u8],
    ) -> &mut Self {
        self.path(A::Path, path)
            .u64(A::FileOffset, offset)
            .data(data)
    }

    pub(super) fn clone_range<B: AsRef<[u8]>>(&mut self, clone: &CloneRange<B>) -> &mut Self {
        self.u64(A::FileOffset, clone.offset)
            .u64(A::CloneLen, clone.len)
            .path(A::Path, &clone.path)
            .uuid(A::CloneUuid, clone.source_uuid)
            .u64(A::CloneCtransid, clone.source_ctransid)
            .path(A::ClonePath, &clone.source_path)
            .u64(A::CloneOffset, clone.source_offset)
    }

    /// UPDATE_EXTENT, and FALLOCATE with its mode.
    pub(super) fn range<B: AsRef<[u8]>>(
        &mut self,
        path: &StreamPath<B>,
        mode: Option<u32>,
        offset: u64,
        len: u64,
    ) -> &mut Self {
        self.path(A::Path, path)
            .optional_u32(A::FallocateMode, mode)
            .u64(A::FileOffset, offset)
            .u64(A::Size, len)
    }

    pub(super) fn encoded_write<B: AsRef<[u8]>>(&mut self, write: &EncodedWrite<B>) -> &mut Self {
        self.path(A::Path, &write.path)
            .u64(A::FileOffset, write.offset)
            .u64(A::UnencodedFileLen, write.unencoded_file_len)
            .u64(A::UnencodedLen, write.unencoded_len)
            .u64(A::UnencodedOffset, write.unencoded_offset)
            .optional_u32(A::Compression, write.compression)
            .optional_u32(A::Encryption, write.encryption)
            .data(write.data.as_ref())
    }

    pub(super) fn enable_verity<B: AsRef<[u8]>>(&mut self, verity: &EnableVerity<B>) -> &mut Self {
        self.path(A::Path, &verity.path)
            .bytes(A::VerityAlgorithm, &[verity.algorithm])
            .u32(A::VerityBlockSize, verity.block_size)
            .bytes(A::VeritySaltData, verity.salt.as_ref())
            .bytes(A::VeritySigData, verity.signature.as_ref())
    }
}
