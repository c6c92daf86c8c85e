//! A mounted btrfs.
//!
//! Two threads work for a [`BtrfsDestination`]: one changes names and
//! directories ([`namespace`]), one the content and metadata of regular
//! files ([`content`]). Each carries out its operations in the order of the
//! stream; where both meet, in an open descriptor, order does not matter.
//! The caller's thread reads, decodes and plans. Two more look at inodes of
//! an incremental stream before their turn comes ([`prefetch`]).

mod budget;
#[cfg(feature = "resume")]
pub(crate) mod checkpoint;
pub(super) mod content;
pub(super) mod create;
pub(super) mod data;
mod encoded;
pub(super) mod error;
pub(super) mod flags;
mod namespace;
pub(crate) mod naming;
mod prefetch;
pub(crate) mod private;
pub(super) mod root_names;
mod seal;
mod sources;
pub(crate) mod subvolume;
mod unfinished;
mod watch;
mod worker;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use btrfs_sendstream::{Position, SubvolumeName};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::umask;
use rustix::thread::{CapabilitySet, capabilities};
use tracing::debug;
use uuid::Uuid;

use self::budget::{Budget, Meter, Share};
use self::content::{ContentWriter, Task};
use self::create::Creator;
use self::data::{DataWriter, Encoding};
use self::encoded::Accepted;
use self::error::named;
use self::flags::SharedFlags;
use self::namespace::{Namespace, Tools};
pub(crate) use self::naming::Naming;
use self::prefetch::{Prefetcher, Progress};
use self::root_names::RootNames;
use self::seal::Sealing;
use self::sources::CloneSources;
pub(crate) use self::subvolume::{or_the_same, taken};
#[cfg(feature = "resume")]
pub(crate) use self::worker::THREAD_STACK;
use self::worker::{Bound, Worker};
use super::{Begun, Destination, Finished};
use crate::error::{Cause, Failure, OpenError};
use crate::plan::op::{NewSubvolume, Op, SourceId, Step};
use crate::report::Fallbacks;
use crate::xattr::ACCESS_ACL;
use btrfs_ioctl as sys;
use btrfs_lineage::{Candidate, Choice, ResolverBuilder};

/// What may wait for the thread that changes names. [`Budget`] bounds what
/// waits for both threads together.
const NAMESPACE_BOUND: Bound = Bound {
    bytes: 8 << 20,
    tasks: 4096,
};

/// What may wait for the thread that writes content. Each task has one or
/// two files open, up to twice as many tasks exist as may wait, and 1,024
/// descriptors are what a process commonly gets.
const CONTENT_BOUND: Bound = Bound {
    bytes: 8 << 20,
    tasks: 128,
};

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
/// Memory: 8 MiB of input under way, or one operation if that is larger; a
/// few hundred open descriptors; 15 MB for the half million immutable or
/// append-only files that one stream may have; 8 MB for what encoded writes
/// there are to look for at the end; 1 MiB of paths to look up ahead.
pub struct BtrfsDestination {
    namespace: Worker<Request>,
    failures: Failures,
    budget: Budget,
    meter: Meter,
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
    naming: Naming,
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

    /// Opens `directory` as the place where subvolumes are created.
    ///
    /// # Errors
    /// It cannot be opened or is not on a btrfs.
    pub fn open(self, directory: impl AsRef<Path>) -> Result<BtrfsDestination, OpenError> {
        let directory = directory.as_ref();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(CWD, directory, flags, Mode::empty())
            .map_err(|errno| OpenError::new("open", directory, errno))?;
        self.open_fd(fd, directory)
    }

    fn open_fd(self, fd: OwnedFd, directory: &Path) -> Result<BtrfsDestination, OpenError> {
        match sys::fs_info(&fd) {
            Ok(_) => {}
            Err(Errno::NOTTY) => return Err(OpenError::not_btrfs(directory)),
            Err(errno) => return Err(OpenError::new("BTRFS_IOC_FS_INFO", directory, errno)),
        }
        let (encoding, naming) = (self.encoding, self.naming);
        // Without openat2 nothing would confine it.
        let prefetcher = Prefetcher::new(!self.walk);
        let sources = self.sources(&fd, directory)?;
        let failures = Failures::default();
        #[cfg(feature = "resume")]
        let directory_fd = fcntl_dupfd_cloexec(&fd, 3)
            .map_err(|errno| OpenError::new("fcntl", directory, errno))?;
        let progress = prefetcher.progress();
        let engine = Engine::new(fd, sources, encoding, naming, failures.clone(), progress)
            .map_err(|error| OpenError::new("thread", directory, error))?;
        let namespace = Worker::start(
            "btrfs-namespace",
            NAMESPACE_BOUND,
            move || {
                let mut engine = engine;
                engine.enter_thread();
                engine
            },
            Engine::serve,
        )
        .map_err(|error| OpenError::new("thread", directory, error))?;
        Ok(BtrfsDestination {
            namespace,
            failures,
            budget: Budget::default(),
            meter: Meter::default(),
            naming,
            #[cfg(feature = "resume")]
            directory: (directory_fd, directory.to_owned()),
            prefetcher,
        })
    }
}

impl BtrfsDestinationBuilder {
    fn sources(self, fd: &OwnedFd, directory: &Path) -> Result<CloneSources, OpenError> {
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
        Ok(CloneSources::new(resolver, parent, self.walk))
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

    /// Sends a request to the thread and waits for its answer.
    fn ask<T>(
        &mut self,
        at: Position,
        operation: &'static str,
        request: impl FnOnce(mpsc::Sender<Result<T, Failure>>) -> Request,
    ) -> Result<T, Failure> {
        let (answer, answered) = mpsc::channel();
        self.namespace.push(request(answer), 0);
        let gone = || Failure::new(at, operation, b"", Cause::ThreadPanicked);
        if !self.namespace.wait() {
            return Err(gone());
        }
        answered.recv().unwrap_or_else(|_| Err(gone()))
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
        let operation = new.command().name();
        let new = Box::new(new.clone());
        let on = new.parent.is_some();
        let begun = self.ask(at, operation, |answer| Request::Begin { new, at, answer })?;
        self.prefetcher.begin(on);
        Ok(begun)
    }

    fn apply(&mut self, step: Step) -> Result<(), Failure> {
        let cost = self.meter.cost(&step);
        let share = self.budget.try_take(cost).unwrap_or_else(|| {
            // What this thread keeps back would never be carried out while
            // it waits.
            self.namespace.flush();
            self.budget.take(cost)
        });
        self.prefetcher.coming(&step.op);
        self.namespace.push(Request::Step(step, share), cost);
        self.failures.next()
    }

    fn settle(&mut self) -> Result<(), Failure> {
        self.namespace.push(Request::Settle, 0);
        if !self.namespace.wait() {
            // Reported by whatever is asked for next.
            return self.failures.next();
        }
        self.failures.next()
    }

    fn finish(&mut self, at: Position) -> Result<Finished, Failure> {
        self.ask(at, "finish", |answer| Request::Finish { at, answer })
    }

    fn abandon(&mut self) {
        self.namespace.discard();
        self.namespace.push(Request::Abandon, 0);
        let _ = self.namespace.wait();
        self.failures.clear();
    }

    fn discard(&mut self) -> Result<bool, Cause> {
        self.namespace.discard();
        let discarded = self.ask(Position::default(), "delete", |answer| Request::Discard {
            answer,
        });
        self.failures.clear();
        discarded.map_err(|failure| *failure.cause)
    }
}

/// What the caller's thread asks of the namespace thread.
enum Request {
    Begin {
        new: Box<NewSubvolume>,
        at: Position,
        answer: mpsc::Sender<Result<Begun, Failure>>,
    },
    Step(Step, Share),
    Settle,
    Finish {
        at: Position,
        answer: mpsc::Sender<Result<Finished, Failure>>,
    },
    Abandon,
    Discard {
        answer: mpsc::Sender<Result<bool, Failure>>,
    },
    /// Anything else.
    #[cfg(feature = "resume")]
    Call(Box<dyn FnOnce(&mut Engine) + Send + Sync>),
}

/// Failures of queued operations that were not reported yet. Never more
/// than operations that were queued.
#[derive(Clone, Default)]
struct Failures(Arc<Mutex<VecDeque<Failure>>>);

impl Failures {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Failure>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, failure: Failure) {
        self.lock().push_back(failure);
    }

    fn next(&self) -> Result<(), Failure> {
        match self.lock().pop_front() {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    fn clear(&self) {
        self.lock().clear();
    }
}

/// What the namespace thread works with.
struct Engine {
    destination: OwnedFd,
    content: Worker<Task>,
    sources: CloneSources,
    flags: SharedFlags,
    accepted: Accepted,
    fallbacks: Arc<Mutex<Fallbacks>>,
    failures: Failures,
    current: Option<Namespace>,
    /// Steps that let others enter the root, which wait for the end.
    opening: Vec<Step>,
    naming: Naming,
    /// Root of what was created last, until it is finished or given up.
    created: Option<OwnedFd>,
    progress: Progress,
    /// This thread has a umask of its own, which is 0.
    private_umask: bool,
}

impl Engine {
    fn new(
        destination: OwnedFd,
        sources: CloneSources,
        encoding: Encoding,
        naming: Naming,
        failures: Failures,
        progress: Progress,
    ) -> std::io::Result<Self> {
        let flags = SharedFlags::default();
        let fallbacks = Arc::new(Mutex::new(Fallbacks::default()));
        let keeps_set_id =
            capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::FSETID));
        let accepted = Accepted::default();
        let data = DataWriter::new(encoding, accepted.clone());
        let writer = ContentWriter::new(data, accepted.clone(), flags.clone(), keeps_set_id);
        let (failed, sum) = (failures.clone(), Arc::clone(&fallbacks));
        let content = Worker::start(
            "btrfs-content",
            CONTENT_BOUND,
            move || writer,
            move |writer, task| {
                if let Err(failure) = writer.run(task) {
                    failed.push(failure);
                }
                let fallbacks = writer.take_fallbacks();
                if !fallbacks.is_none() {
                    *sum.lock().unwrap_or_else(PoisonError::into_inner) += fallbacks;
                }
            },
        )?;
        Ok(Self {
            destination,
            content,
            sources,
            flags,
            accepted,
            fallbacks,
            failures,
            current: None,
            opening: Vec::new(),
            naming,
            created: None,
            private_umask: false,
            progress,
        })
    }

    /// Makes the umask a matter of this thread alone, so that modes can be
    /// given at creation without touching the process.
    fn enter_thread(&mut self) {
        self.private_umask = sys::unshare_fs().is_ok();
        if !self.private_umask {
            debug!("the umask cannot be a thread's own: modes are set one by one");
        }
        if self.private_umask {
            umask(Mode::empty());
        }
    }

    fn serve(&mut self, request: Request) {
        match request {
            Request::Begin { new, at, answer } => {
                let operation = new.command().name();
                let name = new.name.clone();
                let begun = self
                    .begin(*new)
                    .map_err(|cause| Failure::new(at, operation, name.as_bytes(), cause));
                // The caller waits for the answer; if it is gone, so is the
                // need for one. The same below.
                let _ = answer.send(begun);
            }
            Request::Step(step, share) => {
                self.progress.step();
                self.step(step, share);
            }
            Request::Settle => {
                let _ = self.content.wait();
            }
            Request::Finish { at, answer } => {
                let name = self
                    .current
                    .as_ref()
                    .map(|current| current.new.name.clone());
                let finished = self.finish(at, |cause| {
                    let name = name.as_ref().map_or(&b""[..], |name| name.as_bytes());
                    Failure::new(at, "finish", name, cause)
                });
                let _ = answer.send(finished);
            }
            Request::Abandon => self.abandon(),
            Request::Discard { answer } => {
                let discarded = self
                    .discard()
                    .map_err(|cause| Failure::new(Position::default(), "delete", b"", cause));
                let _ = answer.send(discarded);
            }
            #[cfg(feature = "resume")]
            Request::Call(call) => call(self),
        }
    }

    fn step(&mut self, step: Step, share: Share) {
        if lets_others_in(&step.op) {
            return self.opening.push(step);
        }
        let mut tools = Tools {
            share: Some(share),
            content: &mut self.content,
            sources: &mut self.sources,
        };
        // A caller that begins nothing has nothing to apply to.
        if let Some(current) = &mut self.current
            && let Err(failure) = current.apply(step, &mut tools)
        {
            self.failures.push(failure);
        }
    }

    fn begin(&mut self, new: NewSubvolume) -> Result<Begun, Cause> {
        self.abandon();
        self.naming.check(&self.destination, &new)?;
        let (fd, begun) = self.create(&new)?;
        self.created = fcntl_dupfd_cloexec(&fd, 0).ok();
        self.progress.set_root(self.created.as_ref());
        let holds_names = new.parent.is_some();
        self.work_on(new, fd, holds_names)
            .map_err(subvolume::left_incomplete)?;
        Ok(begun)
    }

    /// Creates the subvolume, or takes the snapshot.
    fn create(&mut self, new: &NewSubvolume) -> Result<(OwnedFd, Begun), Cause> {
        let name = self.naming.while_built(new);
        let name = name.as_bytes();
        let Some(wanted) = new.parent else {
            let fd = subvolume::create(&self.destination, name, new)?;
            return Ok((fd, Begun::default()));
        };
        let parent = self
            .sources
            .parent(wanted)
            .map_err(|cause| or_the_same(&self.destination, new, cause))?;
        let mut used = parent.used();
        // What is in the snapshot counts, not what the parent was a moment
        // before; and before its root is closed, which is a change too.
        let look = |fd: &OwnedFd| used.may_have_changed = !parent.is_unchanged_in(fd);
        let waiting = &self.flags;
        let (fd, withheld) =
            subvolume::snapshot(&self.destination, name, new, &*parent, look, waiting)?;
        let parent = Some(used);
        Ok((fd, Begun { parent, withheld }))
    }

    /// Makes `fd` the subvolume under construction. It may hold names already.
    fn work_on(&mut self, new: NewSubvolume, fd: OwnedFd, holds_names: bool) -> Result<(), Cause> {
        let id = sys::subvolume_info(&fd)
            .map_err(named("BTRFS_IOC_GET_SUBVOL_INFO"))?
            .id;
        self.sources.resolver().set_under_construction(Some(id));
        self.accepted.begin(&fd, id)?;
        let root = self.sources.confine(fd)?;
        let names = match holds_names {
            false => RootNames::of_new(),
            true => RootNames::of_snapshot(&root),
        };
        let creator = Creator::new(self.private_umask, names, self.flags.clone());
        self.current = Some(Namespace::new(new, root, self.flags.clone(), creator));
        Ok(())
    }

    fn finish(
        &mut self,
        at: Position,
        failed: impl Fn(Cause) -> Failure,
    ) -> Result<Finished, Failure> {
        let Some(mut current) = self.current.take() else {
            return Err(failed(Cause::NothingToFinish));
        };
        current.close_files();
        self.progress.set_root(None);
        if !self.content.wait() {
            return Err(failed(Cause::ThreadPanicked));
        }
        // The caller has settled before; what turned up since counts too.
        if let Err(failure) = self.failures.next() {
            return Err(failed(*failure.cause));
        }
        self.sources.close();
        let forbidding = self.flags.take_root();
        current.restore_flags().map_err(&failed)?;
        let root = fcntl_dupfd_cloexec(current.root.fd(), 3)
            .map_err(named("fcntl"))
            .map_err(&failed)?;
        let new = current.new.clone();
        let sealing = Sealing {
            destination: &self.destination,
            naming: self.naming,
            new: &new,
            root: &root,
            accepted: &self.accepted,
            forbidding,
            at,
        };
        let mut tools = Tools {
            share: None,
            content: &mut self.content,
            sources: &mut self.sources,
        };
        let mut opening = std::mem::take(&mut self.opening).into_iter();
        let id = sealing.seal(|| opening.try_for_each(|step| current.apply(step, &mut tools)))?;
        self.accepted.clear();
        self.created = None;
        self.sources.resolver().set_under_construction(None);
        let mut fallbacks = self.take_fallbacks();
        fallbacks += self.flags.take_fallbacks();
        if !fallbacks.is_none() {
            debug!(?fallbacks, "done another way than asked");
        }
        Ok(Finished {
            subvolume_id: Some(id),
            fallbacks,
            clone_sources: self.sources.take_used(),
            ..Finished::default()
        })
    }

    fn abandon(&mut self) {
        if let Some(current) = &self.current {
            debug!(name = %current.new.name, "given up: writable, without received UUID");
        }
        self.content.discard();
        self.sources.close();
        self.sources.resolver().set_under_construction(None);
        self.sources.forget_used();
        self.take_fallbacks();
        self.flags.clear();
        self.accepted.clear();
        self.progress.set_root(None);
        self.current = None;
        self.opening.clear();
        self.created = None;
    }

    fn discard(&mut self) -> Result<bool, Cause> {
        let created = self.created.take();
        self.abandon();
        match created {
            Some(root) => subvolume::delete(&self.destination, root),
            None => Ok(false),
        }
    }

    fn take_fallbacks(&self) -> Fallbacks {
        let mut sum = self
            .fallbacks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut sum)
    }
}

/// Whether it lets others enter the root of the subvolume, or keeps them out:
/// such steps wait until it is sealed.
fn lets_others_in(op: &Op) -> bool {
    op.path().is_root()
        && match op {
            Op::Chown { .. } | Op::Chmod { .. } => true,
            Op::SetXattr { name, .. } | Op::RemoveXattr { name, .. } => name == ACCESS_ACL,
            _ => false,
        }
}
