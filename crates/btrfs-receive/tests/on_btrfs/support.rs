//! What these tests share: two filesystems, hand-made streams, and the
//! receiver called on both.

use std::path::{Path, PathBuf};

use btrfs_receive::btrfs_sendstream::inspect::Needs;
use btrfs_receive::btrfs_sendstream::{
    Bytes, CloneRange, Command, EnableVerity, EncodedWrite, Encoder, StreamPath, SubvolumeName,
    Timespec, Uuid, Version,
};
use btrfs_receive::{
    BtrfsDestination, Options, ReceiveError, Receiver, Report, Rules, running_kernel,
};
use btrfs_testkit::{
    Compared, LoopFilesystem, Sample, Sender, Time, assert_same_tree_in, files, subvolume,
};
use rustix::fs::IFlags;

/// The UUID of hand-made streams.
pub(crate) const UUID: Uuid = Uuid::from_u128(0x1111_2222_3333_4444_5555_6666_7777_8888);

/// Whether this kernel takes encoded writes; before, they are decoded.
pub(crate) fn takes_encoded_writes() -> bool {
    running_kernel().is_none_or(|kernel| kernel >= Needs::ENCODED_WRITE)
}

/// Whether this kernel refuses to compress a file without copy-on-write; 5.10 takes
/// the attribute.
pub(crate) fn refuses_compression_of_nocow(filesystem: &LoopFilesystem) -> bool {
    let path = filesystem.path().join("nocow");
    files::make_file(&path).unwrap();
    files::change_flags(&path, IFlags::NOCOW, IFlags::empty()).unwrap();
    let refused = files::set_xattr(&path, "btrfs.compression", b"zstd").is_err();
    std::fs::remove_file(path).unwrap();
    refused
}

/// Receives with the default settings.
pub(crate) fn try_receive(stream: &[u8], into: &Path) -> Result<Report, Box<ReceiveError>> {
    let destination = BtrfsDestination::open(into).unwrap();
    Receiver::new(destination)
        .receive(stream, &mut ())
        .map_err(Box::new)
}

/// Receives with the default settings what has to succeed.
#[track_caller]
pub(crate) fn receive(stream: &[u8], into: &Path) -> Report {
    try_receive(stream, into).unwrap_or_else(|error| panic!("{error}"))
}

/// Receives with every fusing rule switched off.
#[track_caller]
pub(crate) fn receive_plainly(stream: &[u8], into: &Path) -> Report {
    let mut options = Options::default();
    options.rules = Rules::none();
    let destination = BtrfsDestination::open(into).unwrap();
    Receiver::with_options(destination, options)
        .receive(stream, &mut ())
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Compares access times too, and these inode flags; both trees have to be
/// read-only.
pub(crate) fn everything(flags: u32) -> Compared {
    Compared {
        atime: true,
        flags,
        ..Compared::default()
    }
}

/// Asserts that a received subvolume is like the one sent, and finished.
#[track_caller]
pub(crate) fn assert_received(sent: &Path, received: &Path) {
    assert_received_with_flags(sent, received, 0);
}

/// Like [`assert_received`]; compares these inode flags too.
#[track_caller]
fn assert_received_with_flags(sent: &Path, received: &Path, flags: u32) {
    let (from, to) = (subvolume::facts(sent), subvolume::facts(received));
    assert_eq!(to.received_uuid, from.received_uuid.or(Some(from.uuid)));
    assert!(to.read_only);
    assert_same_tree_in(sent, received, &everything(flags));
}

/// A filesystem to send from, and one to receive on.
pub(crate) struct Pair {
    pub(crate) from: LoopFilesystem,
    pub(crate) to: LoopFilesystem,
}

impl Pair {
    pub(crate) fn new() -> Self {
        Self {
            from: LoopFilesystem::new(),
            to: LoopFilesystem::new(),
        }
    }

    /// Makes a writable subvolume on the sending side.
    pub(crate) fn work(&self) -> PathBuf {
        subvolume::create(&self.from.path().join("work"))
    }

    /// Where a subvolume of this name was, or will be, received.
    pub(crate) fn received(&self, name: &str) -> PathBuf {
        self.to.path().join(name)
    }

    /// Takes a snapshot of `work`.
    pub(crate) fn snapshot(&self, name: &str) -> PathBuf {
        let path = self.from.path();
        subvolume::snapshot_read_only(&path.join("work"), &path.join(name))
    }

    /// Takes a snapshot, sends it to the other side, in full or as the
    /// difference to an earlier one, and compares.
    #[track_caller]
    pub(crate) fn carry(&self, name: &str, parent: Option<&Path>) -> PathBuf {
        self.carry_with_flags(name, parent, 0)
    }

    /// Like [`carry`](Self::carry); compares these inode flags too.
    #[track_caller]
    pub(crate) fn carry_with_flags(
        &self,
        name: &str,
        parent: Option<&Path>,
        flags: u32,
    ) -> PathBuf {
        let snapshot = self.snapshot(name);
        let mut sender = Sender::new(&snapshot).version(2);
        if let Some(parent) = parent {
            sender = sender.parent(parent);
        }
        let report = receive(&sender.to_vec(), self.to.path());
        assert_eq!(report.finished, 1);
        assert!(report.fallbacks.is_none(), "{:?}", report.fallbacks);
        assert_received_with_flags(&snapshot, &self.received(name), flags);
        snapshot
    }

    /// Carries a tree over in full, changes it, and carries the difference.
    #[track_caller]
    pub(crate) fn carry_change(&self, build: impl Fn(&Path), change: impl Fn(&Path)) {
        let work = self.work();
        build(&work);
        let first = self.carry("first", None);
        change(&work);
        self.carry("second", Some(&first));
    }
}

/// A sample tree and its change, as two snapshots.
pub(crate) fn sample(filesystem: &LoopFilesystem, sample: Sample) -> (PathBuf, PathBuf) {
    let path = filesystem.path();
    let work = subvolume::create(&path.join("work"));
    sample.build(&work);
    let first = subvolume::snapshot_read_only(&work, &path.join("first"));
    sample.change(&work);
    let second = subvolume::snapshot_read_only(&work, &path.join("second"));
    (first, second)
}

/// A stream put together by hand, for what kernels here do not send.
pub(crate) struct Script {
    encoder: Encoder,
    out: Vec<u8>,
    own: (Uuid, u64),
}

impl Script {
    /// A full stream of version 3.
    pub(crate) fn full(name: &str) -> Self {
        let first = Command::Subvol {
            name: subvolume_name(name),
            uuid: UUID,
            ctransid: 7,
        };
        Self::begin(&first, (UUID, 7))
    }

    /// A stream of version 3 that changes a subvolume of this filesystem.
    pub(crate) fn change_of(parent: &Path, name: &str) -> Self {
        let facts = subvolume::facts(parent);
        let parent_uuid = facts.received_uuid.unwrap_or(facts.uuid);
        Self::change_of_uuid(Uuid::parse_str(&parent_uuid).unwrap(), name)
    }

    /// The same of a parent that is known by its UUID, which is at transid 7.
    pub(crate) fn change_of_uuid(parent_uuid: Uuid, name: &str) -> Self {
        let own = (Uuid::from_u128(UUID.as_u128() + 1), 8);
        let first = Command::Snapshot {
            name: subvolume_name(name),
            uuid: own.0,
            ctransid: own.1,
            parent_uuid,
            parent_ctransid: 7,
        };
        Self::begin(&first, own)
    }

    fn begin(first: &Command, own: (Uuid, u64)) -> Self {
        let mut this = Self {
            encoder: Encoder::new(),
            out: Vec::new(),
            own,
        };
        this.encoder.header(Version::V3, &mut this.out).unwrap();
        this.command(first)
    }

    pub(crate) fn command(mut self, command: &Command) -> Self {
        self.encoder.command(command, &mut self.out).unwrap();
        self
    }

    pub(crate) fn end(self) -> Vec<u8> {
        self.command(&Command::End).out
    }

    pub(crate) fn file(self, at: &str) -> Self {
        self.command(&Command::Mkfile {
            path: path(at),
            ino: 0,
        })
    }

    pub(crate) fn directory(self, at: &str) -> Self {
        self.command(&Command::Mkdir {
            path: path(at),
            ino: 0,
        })
    }

    pub(crate) fn device(self, at: &str, mode: u64, rdev: u64) -> Self {
        self.command(&Command::Mknod {
            path: path(at),
            ino: 0,
            rdev,
            mode,
        })
    }

    pub(crate) fn fifo(self, at: &str) -> Self {
        self.command(&Command::Mkfifo {
            path: path(at),
            ino: 0,
            rdev: 0,
            mode: 0o10_644,
        })
    }

    pub(crate) fn symlink(self, at: &str, target: &str) -> Self {
        self.command(&Command::Symlink {
            path: path(at),
            ino: 0,
            target: Bytes::copy_from_slice(target.as_bytes()),
        })
    }

    pub(crate) fn rename(self, from: &str, to: &str) -> Self {
        self.command(&Command::Rename {
            path: path(from),
            to: path(to),
        })
    }

    pub(crate) fn link(self, existing: &str, new: &str) -> Self {
        self.command(&Command::Link {
            path: path(new),
            existing: path(existing),
        })
    }

    pub(crate) fn unlink(self, at: &str) -> Self {
        self.command(&Command::Unlink { path: path(at) })
    }

    pub(crate) fn write(self, at: &str, offset: u64, data: &[u8]) -> Self {
        self.command(&Command::Write {
            path: path(at),
            offset,
            data: Bytes::copy_from_slice(data),
        })
    }

    pub(crate) fn truncate(self, at: &str, size: u64) -> Self {
        self.command(&Command::Truncate {
            path: path(at),
            size,
        })
    }

    pub(crate) fn encoded(self, at: &str, extent: &Extent, data: &[u8]) -> Self {
        self.command(&Command::EncodedWrite(EncodedWrite {
            path: path(at),
            offset: extent.offset,
            unencoded_file_len: extent.file_len,
            unencoded_len: extent.len,
            unencoded_offset: extent.skip,
            compression: Some(extent.compression),
            encryption: Some(0),
            data: Bytes::copy_from_slice(data),
        }))
    }

    /// Clones within the stream's own subvolume: `(from, to, length)`.
    pub(crate) fn clone_own(self, from: &str, at: &str, range: (u64, u64, u64)) -> Self {
        let own = self.own;
        self.clone_from(own, from, at, range)
    }

    pub(crate) fn clone_from(
        self,
        source: (Uuid, u64),
        from: &str,
        at: &str,
        range: (u64, u64, u64),
    ) -> Self {
        self.command(&Command::Clone(CloneRange {
            path: path(at),
            offset: range.1,
            len: range.2,
            source_uuid: source.0,
            source_ctransid: source.1,
            source_path: path(from),
            source_offset: range.0,
        }))
    }

    /// Enables fs-verity with SHA-256.
    pub(crate) fn verity(self, at: &str, block_size: u32, salt: &[u8], signature: &[u8]) -> Self {
        self.command(&Command::EnableVerity(EnableVerity {
            path: path(at),
            algorithm: 1,
            block_size,
            salt: Bytes::copy_from_slice(salt),
            signature: Bytes::copy_from_slice(signature),
        }))
    }

    pub(crate) fn xattr(self, at: &str, name: &str, data: &[u8]) -> Self {
        self.command(&Command::SetXattr {
            path: path(at),
            name: Bytes::copy_from_slice(name.as_bytes()),
            data: Bytes::copy_from_slice(data),
        })
    }

    pub(crate) fn remove_xattr(self, at: &str, name: &str) -> Self {
        self.command(&Command::RemoveXattr {
            path: path(at),
            name: Bytes::copy_from_slice(name.as_bytes()),
        })
    }

    pub(crate) fn owner(self, at: &str, uid: u64, gid: u64) -> Self {
        self.command(&Command::Chown {
            path: path(at),
            uid,
            gid,
        })
    }

    pub(crate) fn mode(self, at: &str, mode: u64) -> Self {
        self.command(&Command::Chmod {
            path: path(at),
            mode,
        })
    }

    pub(crate) fn attributes(self, at: &str, attributes: u64) -> Self {
        self.command(&Command::FileAttr {
            path: path(at),
            attributes,
        })
    }

    pub(crate) fn times(self, at: &str, atime: Time, mtime: Time) -> Self {
        let convert = |time: Time| Timespec {
            seconds: time.seconds,
            nanoseconds: time.nanoseconds,
        };
        self.command(&Command::Utimes {
            path: path(at),
            atime: convert(atime),
            mtime: convert(mtime),
            ctime: convert(mtime),
            otime: None,
        })
    }
}

/// What an encoded write says about its data.
pub(crate) struct Extent {
    /// Where it goes in the file.
    pub(crate) offset: u64,
    /// How much of the decoded data goes into the file.
    pub(crate) file_len: u64,
    /// How much there is decoded.
    pub(crate) len: u64,
    /// How much of the decoded data comes before what goes into the file.
    pub(crate) skip: u64,
    /// Algorithm number.
    pub(crate) compression: u32,
}

pub(crate) fn path(path: &str) -> StreamPath {
    StreamPath::parse(Bytes::copy_from_slice(path.as_bytes())).unwrap()
}

fn subvolume_name(name: &str) -> SubvolumeName {
    SubvolumeName::parse(Bytes::copy_from_slice(name.as_bytes())).unwrap()
}

pub(crate) fn time(seconds: i64, nanoseconds: u32) -> Time {
    Time {
        seconds,
        nanoseconds,
    }
}
