//! What one subvolume of a stream is, and what it takes to receive it.

use std::fmt;

use uuid::Uuid;

use crate::{
    Command, CommandKind, Compression, NewSubvolume, Position, SourceId, SubvolumeName, Version,
};

/// One subvolume of an input.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SubvolumeSummary {
    /// Its name.
    pub name: SubvolumeName,
    /// Its UUID on the sender's filesystem, which becomes its received UUID.
    pub uuid: Uuid,
    /// Its ctransid on the sender's filesystem.
    pub ctransid: u64,
    /// The parent, for an incremental stream.
    pub parent: Option<SourceId>,
    /// Version of the stream.
    pub version: Version,
    /// Position of its SUBVOL or SNAPSHOT command.
    pub at: Position,
    /// Whether it is complete and has no problem.
    pub good: bool,
    /// Length in bytes of its part of the input.
    pub bytes: u64,
    /// Number of commands, including the END that follows it.
    pub commands: u64,
    /// Number of commands of each kind, by [`CommandKind::number`].
    counts: [u64; CommandKind::ALL.len() + 1],
    /// Inodes that the stream creates.
    pub created: Created,
    /// Bytes of file data in WRITE commands.
    pub written: u64,
    /// Bytes of file data in ENCODED_WRITE commands, as they are stored.
    pub encoded: u64,
    /// Bytes of file data that these decode to.
    pub encoded_covers: u64,
    /// Bytes of file data that are cloned.
    pub cloned: u64,
    /// Bytes of file data that were changed, in a stream without file data.
    pub not_sent: u64,
    /// Other subvolumes that it clones from: the first
    /// [`SubvolumeSummary::MAX_CLONE_SOURCES`].
    pub clone_sources: Vec<SourceId>,
    /// The features that are needed to receive it.
    pub needs: Needs,
}

/// Number of inodes that a stream creates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Created {
    /// Regular files.
    pub files: u64,
    /// Directories, without the root.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Devices, FIFOs and sockets.
    pub special: u64,
}

impl Created {
    /// Returns the sum.
    pub fn total(self) -> u64 {
        self.files + self.directories + self.symlinks + self.special
    }
}

/// Whether a stream is full or incremental.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamKind {
    /// A new subvolume (SUBVOL). It needs no parent, but may need clone sources.
    Full,
    /// Changes to a snapshot of a parent (SNAPSHOT), which must exist.
    Incremental,
}

impl StreamKind {
    /// Returns `full` or `incremental`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Incremental => "incremental",
        }
    }
}

/// What its SUBVOL or SNAPSHOT command asked for.
impl From<&SubvolumeSummary> for NewSubvolume {
    fn from(summary: &SubvolumeSummary) -> Self {
        Self::new(
            summary.name.clone(),
            summary.uuid,
            summary.ctransid,
            summary.parent,
        )
    }
}

impl SubvolumeSummary {
    /// The largest number of clone sources in the list.
    pub const MAX_CLONE_SOURCES: usize = 256;

    pub(crate) fn new(new: &NewSubvolume, version: Version, at: Position) -> Self {
        Self {
            name: new.name.clone(),
            uuid: new.uuid,
            ctransid: new.ctransid,
            parent: new.parent,
            version,
            at,
            good: false,
            bytes: 0,
            commands: 0,
            counts: [0; CommandKind::ALL.len() + 1],
            created: Created::default(),
            written: 0,
            encoded: 0,
            encoded_covers: 0,
            cloned: 0,
            not_sent: 0,
            clone_sources: Vec::new(),
            needs: Needs::default(),
        }
    }

    /// Returns whether the stream is full or incremental.
    pub fn kind(&self) -> StreamKind {
        match self.parent {
            None => StreamKind::Full,
            Some(_) => StreamKind::Incremental,
        }
    }

    /// Returns the number of commands of a kind.
    pub fn count(&self, kind: CommandKind) -> u64 {
        let number = usize::from(kind.number());
        self.counts.get(number).copied().unwrap_or(0)
    }

    /// Returns every subvolume that must exist before it: the parent, and the listed
    /// clone sources.
    pub fn sources(&self) -> impl Iterator<Item = SourceId> {
        let clones = self.clone_sources.iter().copied();
        let parent = self.parent;
        let others = clones.filter(move |id| Some(id.uuid) != parent.map(|it| it.uuid));
        parent.into_iter().chain(others)
    }

    /// Takes note of a command of `bytes` bytes.
    pub(crate) fn add<B: AsRef<[u8]>>(&mut self, command: &Command<B>, bytes: u64) {
        self.bytes += bytes;
        self.commands += 1;
        let number = usize::from(command.kind().number());
        if let Some(count) = self.counts.get_mut(number) {
            *count += 1;
        }
        self.needs.add(command);
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        match command {
            Command::Mkfile { .. } => self.created.files += 1,
            Command::Mkdir { .. } => self.created.directories += 1,
            Command::Symlink { .. } => self.created.symlinks += 1,
            Command::Mknod { .. } | Command::Mkfifo { .. } | Command::Mksock { .. } => {
                self.created.special += 1;
            }
            Command::Write { data, .. } => add(&mut self.written, data.as_ref().len() as u64),
            Command::EncodedWrite(write) => {
                add(&mut self.encoded, write.data.as_ref().len() as u64);
                add(&mut self.encoded_covers, write.unencoded_file_len);
            }
            Command::UpdateExtent { len, .. } => add(&mut self.not_sent, *len),
            Command::Clone(clone) => {
                add(&mut self.cloned, clone.len);
                let source = SourceId {
                    uuid: clone.source_uuid,
                    ctransid: clone.source_ctransid,
                };
                self.add_source(source);
            }
            Command::Subvol { .. }
            | Command::Snapshot { .. }
            | Command::Rename { .. }
            | Command::Link { .. }
            | Command::Unlink { .. }
            | Command::Rmdir { .. }
            | Command::SetXattr { .. }
            | Command::RemoveXattr { .. }
            | Command::Truncate { .. }
            | Command::Chmod { .. }
            | Command::Chown { .. }
            | Command::Utimes { .. }
            | Command::Fallocate { .. }
            | Command::FileAttr { .. }
            | Command::EnableVerity(_)
            | Command::End => {}
        }
    }

    fn add_source(&mut self, source: SourceId) {
        // Another state of the same subvolume is another source.
        if (source.uuid, source.ctransid) == (self.uuid, self.ctransid) {
            return;
        }
        self.needs.clones = true;
        if self.clone_sources.len() < Self::MAX_CLONE_SOURCES
            && !self.clone_sources.contains(&source)
        {
            self.clone_sources.push(source);
        }
    }
}

/// A release of Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kernel {
    /// The 6 of 6.18.
    pub major: u32,
    /// The 18 of 6.18.
    pub minor: u32,
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Features of the filesystem that a stream uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Needs {
    /// Extents compressed with zlib.
    pub zlib: bool,
    /// Extents compressed with zstd.
    pub zstd: bool,
    /// Extents compressed with LZO: a bit for each sector size, 4 KiB first.
    lzo: u8,
    /// Holes in files.
    pub fallocate: bool,
    /// Inode flags.
    pub file_attributes: bool,
    /// Verity files.
    pub verity: bool,
    /// Clones from other subvolumes.
    pub clones: bool,
    /// File capabilities (`security.capability`).
    pub capabilities: bool,
    /// `trusted.*` attributes.
    pub trusted_xattrs: bool,
    /// Owners other than root.
    pub owners: bool,
    /// Character or block devices.
    pub devices: bool,
    /// The stream has no file data.
    pub no_data: bool,
}

impl Needs {
    /// The oldest kernel that `btrfs-receive` supports: it has
    /// `BTRFS_IOC_GET_SUBVOL_INFO`.
    pub const BASE: Kernel = kernel(4, 18);
    /// The oldest kernel that stores compressed extents as they are sent: it has
    /// `BTRFS_IOC_ENCODED_WRITE`.
    pub const ENCODED_WRITE: Kernel = kernel(5, 18);
    /// The oldest kernel with fs-verity on btrfs.
    pub const VERITY: Kernel = kernel(5, 15);
    /// The oldest kernel with fs-verity blocks smaller than a page of memory.
    pub const SMALL_VERITY_BLOCKS: Kernel = kernel(6, 3);

    fn add<B: AsRef<[u8]>>(&mut self, command: &Command<B>) {
        match command {
            Command::EncodedWrite(write) => {
                match Compression::from_number(write.compression.unwrap_or(0)) {
                    Some(Compression::Zlib) => self.zlib = true,
                    Some(Compression::Zstd) => self.zstd = true,
                    Some(Compression::Lzo { sector_size }) => {
                        self.lzo |= 1 << (sector_size / 4096).trailing_zeros().min(7);
                    }
                    Some(Compression::None) | None => {}
                }
            }
            Command::Fallocate { .. } => self.fallocate = true,
            Command::FileAttr { .. } => self.file_attributes = true,
            Command::EnableVerity(_) => self.verity = true,
            Command::SetXattr { name, .. } => {
                let name = name.as_ref();
                self.capabilities |= name == b"security.capability";
                self.trusted_xattrs |= name.starts_with(b"trusted.");
            }
            Command::Chown { uid, gid, .. } => self.owners |= *uid != 0 || *gid != 0,
            Command::Mknod { .. } => self.devices = true,
            Command::UpdateExtent { .. } => self.no_data = true,
            // Whether it clones from another subvolume, the summary knows.
            Command::Clone(_)
            | Command::Subvol { .. }
            | Command::Snapshot { .. }
            | Command::Mkfile { .. }
            | Command::Mkdir { .. }
            | Command::Mkfifo { .. }
            | Command::Mksock { .. }
            | Command::Symlink { .. }
            | Command::Rename { .. }
            | Command::Link { .. }
            | Command::Unlink { .. }
            | Command::Rmdir { .. }
            | Command::RemoveXattr { .. }
            | Command::Write { .. }
            | Command::Truncate { .. }
            | Command::Chmod { .. }
            | Command::Utimes { .. }
            | Command::End => {}
        }
    }

    /// Returns the sector sizes of extents compressed with LZO, in bytes.
    pub fn lzo_sector_sizes(self) -> impl Iterator<Item = u32> {
        (0..5)
            .filter(move |bit| self.lzo & (1 << bit) != 0)
            .map(|bit| 4096 << bit)
    }

    /// Returns whether there are compressed extents.
    pub fn compressed(self) -> bool {
        self.zlib || self.zstd || self.lzo != 0
    }

    /// Returns the oldest kernel on which the stream can be received.
    pub fn oldest_kernel(self) -> Kernel {
        if self.verity {
            Self::BASE.max(Self::VERITY)
        } else {
            Self::BASE
        }
    }

    /// Returns the oldest kernel that stores compressed extents as they were sent;
    /// older ones need them decompressed.
    pub fn oldest_kernel_as_sent(self) -> Kernel {
        if self.compressed() {
            self.oldest_kernel().max(Self::ENCODED_WRITE)
        } else {
            self.oldest_kernel()
        }
    }
}

const fn kernel(major: u32, minor: u32) -> Kernel {
    Kernel { major, minor }
}

impl Needs {
    /// The features that are used: as a word, and in English where it has to
    /// be said.
    fn features(self) -> impl Iterator<Item = (&'static str, Option<&'static str>)> {
        [
            (self.zlib, "zlib", Some("zlib")),
            (self.zstd, "zstd", Some("zstd")),
            (self.fallocate, "fallocate", Some("fallocate")),
            (self.file_attributes, "file_attributes", Some("inode flags")),
            (self.verity, "verity", Some("verity")),
            (self.clones, "clones", Some("clones from other subvolumes")),
            (self.capabilities, "capabilities", Some("file capabilities")),
            (
                self.trusted_xattrs,
                "trusted_xattrs",
                Some("trusted xattrs"),
            ),
            (self.owners, "owners", None),
            (self.devices, "devices", Some("device nodes")),
            (self.no_data, "no_data", None),
        ]
        .into_iter()
        .filter(|(needed, ..)| *needed)
        .map(|(_, word, text)| (word, text))
    }
}

impl fmt::Display for Needs {
    /// The features in words, with commas; nothing if there are none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = self.features().filter_map(|(_, text)| text);
        let mut words: Vec<String> = texts.map(str::to_owned).collect();
        let lzo = self.lzo_sector_sizes();
        words.extend(lzo.map(|size| format!("LZO of {} KiB sectors", size / 1024)));
        f.write_str(&words.join(", "))
    }
}

/// `kind`, the fields of the structure, and in `by_command` how many there
/// are of each command.
#[cfg(feature = "serde")]
impl serde::Serialize for SubvolumeSummary {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Fields<'a> {
            kind: &'static str,
            name: &'a SubvolumeName,
            uuid: Uuid,
            ctransid: u64,
            #[serde(skip_serializing_if = "Option::is_none")]
            parent: Option<SourceId>,
            version: Version,
            #[serde(flatten)]
            at: Position,
            good: bool,
            bytes: u64,
            commands: u64,
            by_command: ByCommand<'a>,
            created: Created,
            written: u64,
            encoded: u64,
            encoded_covers: u64,
            cloned: u64,
            not_sent: u64,
            clone_sources: &'a [SourceId],
            needs: Needs,
        }
        let fields = Fields {
            kind: self.kind().name(),
            name: &self.name,
            uuid: self.uuid,
            ctransid: self.ctransid,
            parent: self.parent,
            version: self.version,
            at: self.at,
            good: self.good,
            bytes: self.bytes,
            commands: self.commands,
            by_command: ByCommand(self),
            created: self.created,
            written: self.written,
            encoded: self.encoded,
            encoded_covers: self.encoded_covers,
            cloned: self.cloned,
            not_sent: self.not_sent,
            clone_sources: &self.clone_sources,
            needs: self.needs,
        };
        fields.serialize(serializer)
    }
}

/// How many commands there are of each kind that there is.
#[cfg(feature = "serde")]
struct ByCommand<'a>(&'a SubvolumeSummary);

#[cfg(feature = "serde")]
impl serde::Serialize for ByCommand<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let counts = CommandKind::ALL
            .iter()
            .map(|&kind| (kind.name(), self.0.count(kind)));
        serializer.collect_map(counts.filter(|(_, count)| *count > 0))
    }
}

/// As text: `6.18`.
#[cfg(feature = "serde")]
impl serde::Serialize for Kernel {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `features`, a list of words, and the oldest kernels: `kernel`, and
/// `kernel_as_sent` on which extents stay compressed.
#[cfg(feature = "serde")]
impl serde::Serialize for Needs {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Fields {
            features: Vec<String>,
            kernel: Kernel,
            kernel_as_sent: Kernel,
        }
        let words = self.features().map(|(word, _)| word.to_owned());
        let lzo = self.lzo_sector_sizes().map(|size| format!("lzo_{size}"));
        let fields = Fields {
            features: words.chain(lzo).collect(),
            kernel: self.oldest_kernel(),
            kernel_as_sent: self.oldest_kernel_as_sent(),
        };
        fields.serialize(serializer)
    }
}
