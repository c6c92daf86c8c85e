//! A mounted btrfs.
//!
//! Threads work for a [`BtrfsDestination`] ([`pipeline`]): one changes names
//! and directories, in the order of the stream ([`namespace`]); the lanes change
//! the content and metadata of regular files, in the order of the stream for
//! each file ([`lanes`]). Where both meet, in an open descriptor, order does not
//! matter. The caller's thread reads, decodes and plans. More threads look at
//! inodes of an incremental stream before their turn comes ([`prefetch`]).

mod activity;
mod budget;
mod check;
#[cfg(feature = "resume")]
pub(crate) mod checkpoint;
mod construction;
mod content;

mod engine;
mod failures;
// A test that the fuzzer runs too, without the dependencies of tests.
#[cfg(any(test, fuzzing))]
#[allow(unreachable_pub)]
#[path = "tests/fuzzing.rs"]
pub mod fuzzing;
mod lanes;
mod namespace;
pub(crate) mod naming;
mod order;
mod pipeline;
mod prefetch;
pub(crate) mod private;
pub(crate) mod root;
mod seal;
mod sources;
mod space;
mod subvolume;
mod unfinished;
mod watch;
mod worker;

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use btrfs_sendstream::{Position, SubvolumeName};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
#[cfg(feature = "resume")]
use rustix::io::fcntl_dupfd_cloexec;
use uuid::Uuid;

pub use self::check::BeforeSeal;
use self::check::Check;
use self::engine::Engine;
pub(crate) use self::naming::Naming;
use self::pipeline::Pipeline;
use self::prefetch::Prefetcher;
pub(crate) use self::root::{or_the_same, taken};
use self::sources::SourceFinder;
#[cfg(feature = "resume")]
pub(crate) use self::worker::THREAD_STACK;
use super::tree::data::Encoding;
use super::{Begun, Destination, Finished};
use crate::error::{Cause, Failure, OpenError};
use crate::plan::op::{NewSubvolume, SourceId, Step};
use crate::report::Waits;
use btrfs_ioctl as sys;
use btrfs_lineage::{Candidate, Choice, ResolverBuilder};

/// A directory of a mounted btrfs, in which subvolumes are received.
///
/// Needs Linux 5.6 for `openat2`, or finds its way without. What it needs
/// privileges for: `CAP_CHOWN`, `CAP_FOWNER`, `CAP_FSETID`, `CAP_MKNOD`,
/// `CAP_SETFCAP`, `CAP_DAC_OVERRIDE`, `CAP_LINUX_IMMUTABLE` for what a stream
/// may set, and `CAP_CHOWN` for an incremental one on a parent whose root is
/// somebody else's; `CAP_SYS_ADMIN` for `trusted.*` attributes and to store encoded
/// writes as they are; `CAP_DAC_READ_SEARCH` for the latter too, and to find
/// sources outside of what is mounted. Capabilities decide, not the user id.
///
/// Nothing of the process is changed: umask, working directory, signal
/// handlers stay as they are.
///
/// Memory: 8 MiB of input under way, or one operation if that is larger; 15 MB
/// for the half million immutable or append-only files that one stream may
/// have; 8 MB for what encoded writes there are to look for at the end; 1 MiB
/// of paths to look up ahead; and for each of at most 16 files that are changed
/// at a time (fewer than processors, if tasks do not wait for the disk), half a MiB where clones are copied or encoded data is decoded.
///
/// Open files: of operations under way a quarter of the limit of the process
/// (`RLIMIT_NOFILE`), or 256 if that is less; and of those used last, by each of
/// the subvolume under construction and two sources, an eighth of that limit, or
/// 512 if that is less.
pub struct BtrfsDestination {
    pipeline: Pipeline,
    naming: Naming,
    /// Where subvolumes are created, and how the caller named it.
    #[cfg(feature = "resume")]
    directory: (OwnedFd, PathBuf),
    prefetcher: Prefetcher,
}

/// Settings for a [`BtrfsDestination`].
#[derive(Debug, Default)]
#[must_use]
pub struct BtrfsDestinationBuilder {
    encoding: Encoding,
    sources: ResolverBuilder,
    jail: Option<PathBuf>,
    parent: Option<PathBuf>,
    clone_sources: Vec<(PathBuf, Option<Uuid>)>,
    walk: bool,
    lanes: Option<usize>,
    naming: Naming,
    check: Check,
}

impl BtrfsDestinationBuilder {
    /// Always decode encoded writes, instead of asking the kernel to take
    /// the data as it is. Default `false`.
    pub fn force_decompress(mut self, always: bool) -> Self {
        self.encoding.always_decode = always;
        self
    }

    /// Decode encoded writes before the kernel is asked to take them: it
    /// stores whatever it is given, and data that does not decode would be
    /// found out only when the file is read. Default `false`.
    pub fn check_encoded(mut self, check: bool) -> Self {
        self.encoding.check_first = check;
        self
    }

    /// Make holes of the blocks of zeros in the data of plain writes, instead of
    /// storing them: in incremental streams of version 1, and before Linux 6.17 in all,
    /// kernels send the new holes of a changed file as zeros. The content is the same. Blocks are those of the filesystem;
    /// encoded writes stay as they are. Room that a file set aside (`fallocate`) is given
    /// back where zeros are written. The bytes are counted in
    /// [`Fallbacks::zeros_as_holes`](crate::Fallbacks::zeros_as_holes). Default
    /// `false`.
    pub fn zeros_as_holes(mut self, holes: bool) -> Self {
        self.encoding.zeros_as_holes = holes;
        self
    }

    /// Use only subvolumes at or below this directory as parent or clone
    /// source. Default: any subvolume of the filesystem.
    pub fn jail(mut self, directory: impl Into<PathBuf>) -> Self {
        self.jail = Some(directory.into());
        self
    }

    /// Has `choose` decide which subvolume becomes parent or clone source,
    /// instead of taking the best; see
    /// [`ResolverBuilder::choose_with`](btrfs_lineage::ResolverBuilder::choose_with).
    /// It is called on a thread of the destination; if it panics, nothing more
    /// is applied or finished. Default: the best.
    pub fn choose_sources(
        mut self,
        choose: impl FnMut(SourceId, &[Candidate]) -> Choice + Send + 'static,
    ) -> Self {
        self.sources = self.sources.choose_with(choose);
        self
    }

    /// Take no writable subvolume for a parent or clone source, not even if
    /// its received UUID is the one wanted and there is no other:
    /// [the last resort](btrfs_lineage#the-last-resort). What
    /// [`parent`](Self::parent) and [`clone_source`](Self::clone_source) name
    /// is not refused. Default `false`.
    pub fn refuse_writable_sources(mut self, refuse: bool) -> Self {
        self.sources = self.sources.refuse_writable_sources(refuse);
        self
    }

    /// Build each subvolume under another name in the same directory, its
    /// own with `.receiving` appended, and give it its own name when it is
    /// complete, on disk, marked as received and read-only. Default `false`:
    /// it has its name from the beginning.
    ///
    /// Both names have to be free. If its own is taken while the subvolume is
    /// built, that fails with [`Cause::NotRenamed`](crate::Cause::NotRenamed):
    /// it is complete and keeps the other name.
    pub fn atomic(mut self, atomic: bool) -> Self {
        self.naming.atomic = atomic;
        self
    }

    /// Calls `check` for each subvolume when all of it is applied and on disk,
    /// before it is marked as received. If that returns an error, the subvolume
    /// fails with [`Cause::CheckFailed`](crate::Cause::CheckFailed): it stays
    /// writable and without received UUID. It is called on a thread of the
    /// destination; if it panics, nothing more is applied or finished. Default:
    /// no check.
    pub fn check_before_seal(
        mut self,
        check: impl FnMut(&BeforeSeal<'_>) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
        + Send
        + 'static,
    ) -> Self {
        self.check = Check::new(check);
        self
    }

    /// Takes this subvolume for the parent that the first incremental stream
    /// names, and for what that stream clones from its parent; whatever its
    /// UUIDs are, and **even if it is writable**.
    ///
    /// The caller vouches that it holds what the sender's parent holds, and
    /// that nobody changes it meanwhile. If it does not, the result is
    /// another than what was sent, and is marked as received all the same.
    /// Default: the parent is searched for.
    pub fn parent(mut self, subvolume: impl Into<PathBuf>) -> Self {
        self.parent = Some(subvolume.into());
        self
    }

    /// Uses this subvolume as the source of clones that name its UUID or
    /// received UUID, or, if there is one, those that name `stands_for`;
    /// **even if it is writable**, and before any that would be found.
    /// Vouched for like a [`parent`](Self::parent). May be repeated.
    pub fn clone_source(mut self, subvolume: impl Into<PathBuf>, stands_for: Option<Uuid>) -> Self {
        self.clone_sources.push((subvolume.into(), stands_for));
        self
    }

    /// Resolve paths one component after the other even where the kernel has
    /// `openat2`, to test what kernels before 5.6 get. Slower, and confined
    /// just as well. Default `false`. For the project's own tests; no part of
    /// the public interface.
    #[doc(hidden)]
    pub fn without_openat2(mut self, without: bool) -> Self {
        self.walk = without;
        self
    }

    /// Change so many files at a time, to test and measure what does not depend
    /// on the number of processors. Default: as many as help. For the project's
    /// own tests and benchmarks; no part of the public interface.
    #[doc(hidden)]
    pub fn lanes(mut self, lanes: usize) -> Self {
        self.lanes = Some(lanes);
        self
    }

    /// Opens `directory` as the place where subvolumes are created.
    ///
    /// # Errors
    /// It cannot be opened or is not on a btrfs.
    pub fn open(self, directory: impl AsRef<Path>) -> Result<BtrfsDestination, OpenError> {
        let directory = directory.as_ref();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(CWD, directory, flags, Mode::empty())
            .map_err(|errno| OpenError::new("open", directory, errno))?;
        self.open_at(fd, directory)
    }

    /// As [`open`](Self::open), with a descriptor of the directory, which may be
    /// open with `O_PATH`. Messages call it by the path that `/proc` knows.
    ///
    /// # Errors
    /// It cannot be opened for reading or is not on a btrfs.
    pub fn open_fd(self, directory: impl AsFd) -> Result<BtrfsDestination, OpenError> {
        let link = format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd());
        let path = std::fs::read_link(&link).unwrap_or_else(|_| link.into());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(directory, ".", flags, Mode::empty())
            .map_err(|errno| OpenError::new("open", &path, errno))?;
        self.open_at(fd, &path)
    }

    fn open_at(mut self, fd: OwnedFd, directory: &Path) -> Result<BtrfsDestination, OpenError> {
        match sys::fs_info(&fd) {
            Ok(_) => {}
            Err(Errno::NOTTY) => return Err(OpenError::not_btrfs(directory)),
            Err(errno) => return Err(OpenError::new("BTRFS_IOC_FS_INFO", directory, errno)),
        }
        let (encoding, naming, lanes) = (self.encoding, self.naming, self.lanes);
        let check = std::mem::take(&mut self.check);
        // Without openat2 nothing would confine it.
        let prefetcher = Prefetcher::new(!self.walk);
        let finder = self.sources(&fd, directory)?;
        #[cfg(feature = "resume")]
        let directory_fd = fcntl_dupfd_cloexec(&fd, 3)
            .map_err(|errno| OpenError::new("fcntl", directory, errno))?;
        let progress = prefetcher.progress();
        let engine = |lanes| Engine::new(fd, naming, encoding, finder, progress, check, lanes);
        let pipeline = Pipeline::start(lanes, engine)
            .map_err(|error| OpenError::new("thread", directory, error))?;
        Ok(BtrfsDestination {
            pipeline,
            naming,
            #[cfg(feature = "resume")]
            directory: (directory_fd, directory.to_owned()),
            prefetcher,
        })
    }
}

impl BtrfsDestinationBuilder {
    fn sources(self, fd: &OwnedFd, directory: &Path) -> Result<SourceFinder, OpenError> {
        let open = |path: &Path| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            openat(CWD, path, flags, Mode::empty())
        };
        let mut resolver = self.sources;
        if let Some(jail) = &self.jail {
            let fd = open(jail).map_err(|errno| OpenError::new("open", jail, errno))?;
            resolver = resolver.jail(fd);
        }
        let mut resolver = resolver
            .build(fd)
            .map_err(|error| OpenError::new("open", directory, error))?;
        for (path, stands_for) in &self.clone_sources {
            open(path)
                .map_err(Into::into)
                .and_then(|fd| resolver.add_named(fd, *stands_for))
                .map_err(|error| OpenError::source(path, error))?;
        }
        let mut parent = None;
        if let Some(path) = &self.parent {
            let fd = open(path).map_err(|errno| OpenError::source(path, errno))?;
            resolver
                .check_named(&fd)
                .map_err(|error| OpenError::source(path, error))?;
            parent = Some(fd);
        }
        Ok(SourceFinder::new(resolver, parent, self.walk))
    }
}

impl BtrfsDestination {
    /// Opens `directory`, which must exist on a mounted btrfs, with the
    /// default settings.
    ///
    /// # Errors
    /// It cannot be opened or is not on a btrfs.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::builder().open(directory)
    }

    /// Settings other than the default.
    pub fn builder() -> BtrfsDestinationBuilder {
        BtrfsDestinationBuilder::default()
    }
}

impl std::fmt::Debug for BtrfsDestination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BtrfsDestination").finish_non_exhaustive()
    }
}

impl Destination for BtrfsDestination {
    fn built_as(&self, new: &NewSubvolume) -> SubvolumeName {
        self.naming.while_built(new)
    }

    fn begin(&mut self, new: &NewSubvolume, at: Position) -> Result<Begun, Failure> {
        let (theirs, is_snapshot) = (new.clone(), new.parent.is_some());
        let begun = self.pipeline.call(|engine| engine.begin(theirs));
        let begun = begun
            .map_err(|cause| Failure::new(at, new.command().name(), new.name.as_bytes(), cause))?;
        self.pipeline.begin(at);
        self.prefetcher.begin(is_snapshot);
        Ok(begun)
    }

    fn apply(&mut self, step: Step) {
        self.prefetcher.coming(&step.op);
        self.pipeline.step(step);
    }

    fn next_failure(&mut self) -> Option<Failure> {
        self.pipeline.next_failure()
    }

    fn settle(&mut self) -> Result<(), Failure> {
        self.pipeline.settle()
    }

    fn waits(&self) -> Waits {
        self.pipeline.waits()
    }

    fn finish(&mut self, at: Position) -> Result<Finished, Failure> {
        self.pipeline
            .call(move |engine| Ok(engine.finish(at)))
            .unwrap_or_else(|cause| Err(Failure::new(at, "finish", b"", cause)))
    }

    fn abandon(&mut self) {
        // After a panic there is nothing to abandon.
        let _ = self.pipeline.give_up(|engine| {
            engine.abandon();
            Ok(())
        });
    }

    fn discard(&mut self) -> Result<bool, Cause> {
        self.pipeline.give_up(Engine::discard)
    }
}
