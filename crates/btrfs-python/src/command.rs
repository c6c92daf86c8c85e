//! Commands as Python objects: one class for each kind.

use btrfs_sendstream::{Bytes, CommandBuf, StreamPath, SubvolumeName, Uuid};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Bytes that become a Python object when somebody looks at them.
#[derive(Clone)]
pub(crate) struct Blob(Bytes);

impl<'py> IntoPyObject<'py> for Blob {
    type Target = PyBytes;
    type Output = Bound<'py, PyBytes>;
    type Error = std::convert::Infallible;

    fn into_pyobject(self, py: Python<'py>) -> Result<Self::Output, Self::Error> {
        Ok(PyBytes::new(py, &self.0))
    }
}

impl<'py> FromPyObject<'_, 'py> for Blob {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let bytes: &[u8] = object.extract()?;
        Ok(Self(Bytes::copy_from_slice(bytes)))
    }
}

fn path(path: StreamPath) -> Blob {
    Blob(path.into_inner())
}

fn name(name: SubvolumeName) -> Blob {
    Blob(name.into_inner())
}

/// A time.
#[pyclass(frozen, eq, hash, ord, get_all, from_py_object, module = "btrfs_recv")]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Timespec {
    seconds: i64,
    nanoseconds: u32,
}

#[pymethods]
impl Timespec {
    #[new]
    fn new(seconds: i64, nanoseconds: u32) -> Self {
        Self {
            seconds,
            nanoseconds,
        }
    }

    fn __repr__(&self) -> String {
        format!("Timespec({}, {})", self.seconds, self.nanoseconds)
    }
}

impl From<btrfs_sendstream::Timespec> for Timespec {
    fn from(time: btrfs_sendstream::Timespec) -> Self {
        Self {
            seconds: time.seconds,
            nanoseconds: time.nanoseconds,
        }
    }
}

/// A command of a stream: each variant is a class of its own.
#[pyclass(frozen, module = "btrfs_recv")]
pub(crate) enum Command {
    Subvol {
        name: Blob,
        uuid: Uuid,
        ctransid: u64,
    },
    Snapshot {
        name: Blob,
        uuid: Uuid,
        ctransid: u64,
        parent_uuid: Uuid,
        parent_ctransid: u64,
    },
    Mkfile {
        path: Blob,
        ino: u64,
    },
    Mkdir {
        path: Blob,
        ino: u64,
    },
    Mknod {
        path: Blob,
        ino: u64,
        rdev: u64,
        mode: u64,
    },
    Mkfifo {
        path: Blob,
        ino: u64,
        rdev: u64,
        mode: u64,
    },
    Mksock {
        path: Blob,
        ino: u64,
        rdev: u64,
        mode: u64,
    },
    Symlink {
        path: Blob,
        ino: u64,
        target: Blob,
    },
    Rename {
        path: Blob,
        to: Blob,
    },
    Link {
        path: Blob,
        existing: Blob,
    },
    Unlink {
        path: Blob,
    },
    Rmdir {
        path: Blob,
    },
    SetXattr {
        path: Blob,
        name: Blob,
        data: Blob,
    },
    RemoveXattr {
        path: Blob,
        name: Blob,
    },
    Write {
        path: Blob,
        offset: u64,
        data: Blob,
    },
    Clone {
        path: Blob,
        offset: u64,
        len: u64,
        source_uuid: Uuid,
        source_ctransid: u64,
        source_path: Blob,
        source_offset: u64,
    },
    Truncate {
        path: Blob,
        size: u64,
    },
    Chmod {
        path: Blob,
        mode: u64,
    },
    Chown {
        path: Blob,
        uid: u64,
        gid: u64,
    },
    Utimes {
        path: Blob,
        atime: Timespec,
        mtime: Timespec,
        ctime: Timespec,
        otime: Option<Timespec>,
    },
    UpdateExtent {
        path: Blob,
        offset: u64,
        len: u64,
    },
    Fallocate {
        path: Blob,
        mode: u32,
        offset: u64,
        len: u64,
    },
    FileAttr {
        path: Blob,
        attributes: u64,
    },
    EncodedWrite {
        path: Blob,
        offset: u64,
        unencoded_file_len: u64,
        unencoded_len: u64,
        unencoded_offset: u64,
        compression: Option<u32>,
        encryption: Option<u32>,
        data: Blob,
    },
    EnableVerity {
        path: Blob,
        algorithm: u8,
        block_size: u32,
        salt: Blob,
        signature: Blob,
    },
    End {},
    Unknown {
        number: u16,
        payload: Blob,
    },
}

impl From<btrfs_sendstream::RawCommand<Bytes>> for Command {
    fn from(command: btrfs_sendstream::RawCommand<Bytes>) -> Self {
        Self::Unknown {
            number: command.number,
            payload: Blob(command.payload),
        }
    }
}

impl From<CommandBuf> for Command {
    fn from(command: CommandBuf) -> Self {
        use btrfs_sendstream::Command as From;
        match command {
            From::Subvol {
                name: it,
                uuid,
                ctransid,
            } => Self::Subvol {
                name: name(it),
                uuid,
                ctransid,
            },
            From::Snapshot {
                name: it,
                uuid,
                ctransid,
                parent_uuid,
                parent_ctransid,
            } => Self::Snapshot {
                name: name(it),
                uuid,
                ctransid,
                parent_uuid,
                parent_ctransid,
            },
            From::Mkfile { path: it, ino } => Self::Mkfile {
                path: path(it),
                ino,
            },
            From::Mkdir { path: it, ino } => Self::Mkdir {
                path: path(it),
                ino,
            },
            From::Mknod {
                path: it,
                ino,
                rdev,
                mode,
            } => Self::Mknod {
                path: path(it),
                ino,
                rdev,
                mode,
            },
            From::Mkfifo {
                path: it,
                ino,
                rdev,
                mode,
            } => Self::Mkfifo {
                path: path(it),
                ino,
                rdev,
                mode,
            },
            From::Mksock {
                path: it,
                ino,
                rdev,
                mode,
            } => Self::Mksock {
                path: path(it),
                ino,
                rdev,
                mode,
            },
            From::Symlink {
                path: it,
                ino,
                target,
            } => Self::Symlink {
                path: path(it),
                ino,
                target: Blob(target),
            },
            From::Rename { path: it, to } => Self::Rename {
                path: path(it),
                to: path(to),
            },
            From::Link { path: it, existing } => Self::Link {
                path: path(it),
                existing: path(existing),
            },
            From::Unlink { path: it } => Self::Unlink { path: path(it) },
            From::Rmdir { path: it } => Self::Rmdir { path: path(it) },
            From::SetXattr {
                path: it,
                name,
                data,
            } => Self::SetXattr {
                path: path(it),
                name: Blob(name),
                data: Blob(data),
            },
            From::RemoveXattr { path: it, name } => Self::RemoveXattr {
                path: path(it),
                name: Blob(name),
            },
            From::Write {
                path: it,
                offset,
                data,
            } => Self::Write {
                path: path(it),
                offset,
                data: Blob(data),
            },
            From::Clone(clone) => Self::Clone {
                path: path(clone.path),
                offset: clone.offset,
                len: clone.len,
                source_uuid: clone.source_uuid,
                source_ctransid: clone.source_ctransid,
                source_path: path(clone.source_path),
                source_offset: clone.source_offset,
            },
            From::Truncate { path: it, size } => Self::Truncate {
                path: path(it),
                size,
            },
            From::Chmod { path: it, mode } => Self::Chmod {
                path: path(it),
                mode,
            },
            From::Chown { path: it, uid, gid } => Self::Chown {
                path: path(it),
                uid,
                gid,
            },
            From::Utimes {
                path: it,
                atime,
                mtime,
                ctime,
                otime,
            } => Self::Utimes {
                path: path(it),
                atime: atime.into(),
                mtime: mtime.into(),
                ctime: ctime.into(),
                otime: otime.map(Into::into),
            },
            From::UpdateExtent {
                path: it,
                offset,
                len,
            } => Self::UpdateExtent {
                path: path(it),
                offset,
                len,
            },
            From::Fallocate {
                path: it,
                mode,
                offset,
                len,
            } => Self::Fallocate {
                path: path(it),
                mode,
                offset,
                len,
            },
            From::FileAttr {
                path: it,
                attributes,
            } => Self::FileAttr {
                path: path(it),
                attributes,
            },
            From::EncodedWrite(write) => Self::EncodedWrite {
                path: path(write.path),
                offset: write.offset,
                unencoded_file_len: write.unencoded_file_len,
                unencoded_len: write.unencoded_len,
                unencoded_offset: write.unencoded_offset,
                compression: write.compression,
                encryption: write.encryption,
                data: Blob(write.data),
            },
            From::EnableVerity(verity) => Self::EnableVerity {
                path: path(verity.path),
                algorithm: verity.algorithm,
                block_size: verity.block_size,
                salt: Blob(verity.salt),
                signature: Blob(verity.signature),
            },
            From::End => Self::End {},
        }
    }
}
