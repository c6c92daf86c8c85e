//! Parents and clone sources: from the UUID in a stream to an open subvolume.
//!
//! A stream names a subvolume by a UUID and a transaction id of the sender's
//! filesystem. On the filesystem that receives, several subvolumes may answer
//! to that UUID: received copies, snapshots of them, or the original itself,
//! when a stream comes back to where its parent was made. [`Resolver`] finds
//! all of them wherever they lie, chooses, and says why.
//!
//! With the feature `digest`, the module `digest` computes a digest of
//! everything that send carries of a subvolume, and the module `adopt` makes a
//! copy that was not received a parent. The module [`writable`] makes a writable
//! subvolume from a received one, in the place of another if that is wanted.
//!
//! # How it searches
//! | privilege | UUID → ids | id → descriptor |
//! |-|-|-|
//! | `CAP_SYS_ADMIN` | the UUID tree | |
//! | `CAP_DAC_READ_SEARCH` | a walk from the top level | by handle, from any mount |
//! | neither | a walk beneath the root of the mount | by path, within the mount |
//!
//! A walk is also the last resort when the UUID tree is missing, out of date
//! or has nothing suitable. A miss is never remembered: a subvolume received
//! a moment ago can be the parent of the next.
//!
//! # How it chooses
//! Writable subvolumes are passed over, unless the caller insists or there is
//! nothing else ([below](#the-last-resort)). Of the others, best first:
//! 1. received from the very state that the stream names;
//! 2. the subvolume itself, in that state;
//! 3. the subvolume itself, in whatever state the transaction ids suggest: the
//!    stream's are those of a copy;
//! 4. any other received copy.
//!
//! Among equals one that was not changed since it was received, then the one
//! with the lowest ctransid after its rtransid, then what is not a snapshot of
//! another candidate, then the lowest id.
//!
//! Before there is a stream, [`plan`] finds by the same rules which parent to
//! make it with, from an [`Inventory`] of each side; [`SnapshotToSend`] does so on
//! the sender, with the paths for `btrfs send`.
//!
//! A caller can look at the candidates ([`Resolver::survey`]), at all that a
//! filesystem holds ([`Resolver::list`]), and make the choice itself
//! ([`ResolverBuilder::choose_with`]).
//!
//! # The last resort
//! If no read-only subvolume can serve, a writable one is taken whose
//! *received* UUID is the one wanted; never one that has it as its own UUID.
//! Tools that receive, make the result writable and mark it as received again
//! continue from such a subvolume. [`ResolverBuilder::refuse_writable_sources`]
//! rules it out. One whose receive was interrupted before it was made
//! read-only ([`Verdict::Unfinished`]) is never taken, not even if a caller
//! insists: the owner and the mode of its root are not those that were sent.
//!
//! The report says so ([`SourceUsed::writable`]), and whether the subvolume
//! may have changed since it was marked as received
//! ([`SourceUsed::may_have_changed`]). It has not if neither its ctransid nor
//! the transaction id of any inode in it is above its rtransid. The inodes
//! matter after a power cut: what `fsync` had saved comes back, and leaves
//! ctransid as it was. Access times count as a change. Looking at the inodes
//! takes `CAP_SYS_ADMIN`; without it, every such subvolume may have changed.
//!
//! - For a **parent** this is looked up in the snapshot that was taken of it.
//!   The kernel takes a snapshot in one transaction, after writing back what
//!   the files have in memory: it holds the parent as it was at one moment,
//!   whatever is being written meanwhile, and nothing that changes later
//!   reaches it. A file that another process is writing may be caught half
//!   written, as after a power cut.
//! - For a **clone source** it is looked up when the subvolume is complete,
//!   since files are cloned one after another. If the source is changed
//!   meanwhile, the clones may hold the old data or the new.
//!
//! # Changes since the receive
//! A read-only subvolume can be made writable, changed, and made read-only again,
//! without losing its received UUID. [`since_received`] finds out whether a
//! subvolume was changed, and [`SinceReceived::Unchanged`] says what it cannot see.
//! A resolver looks at each candidate with the received UUID wanted, but reads at most
//! 64 KiB of metadata for it; the report has the result
//! ([`SourceUsed::changed_inode`]). A changed source serves if there is no better
//! one: the stream may have been made from a copy with the same changes.

#[cfg(feature = "digest")]
pub mod adopt;
mod audit;
mod candidate;
mod choice;
#[cfg(feature = "digest")]
pub mod digest;
mod entry;
mod inventory;
mod lookup;
mod mount;
mod mounted;
mod no_source;
mod plan;
mod private;
mod rank;
mod reach;
mod sending;
#[cfg(feature = "serde")]
mod serial;
mod since;
mod survey;
#[cfg(test)]
mod tests;
mod unchanged;
mod unfinished;
mod used;
mod uuid;
mod walk;
pub mod writable;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use ::uuid::Uuid;
use btrfs_sendstream::Bytes;
use tracing::info;

use btrfs_ioctl::{self as sys, SubvolumeInfo};
use btrfs_sendstream::SourceId;

pub use audit::{Audit, Difference, Finding, NameProblem, Need, ReceivedCopy, Stage};
pub use btrfs_sendstream;
pub use candidate::{Candidate, MatchedBy, SubvolumeState, Verdict};
pub use choice::Choice;
pub use inventory::{Inventory, PathsFrom, Scope, StoredSubvolume};
pub use mount::{subvolume_id, top_level};
pub use mounted::Mounts;
pub use no_source::{Capability, NoSource, Search, SearchOutcome, SearchPlace};
pub use plan::{Doubt, Plan, PlanCandidate, PlanError, PlanOptions, PlanVerdict, plan};
pub use private::{PrivateDirectory, PrivateDirectoryError};
pub use sending::{SendPlan, SendPlanError, SnapshotToSend};
pub use since::{SinceReceived, since_received};
pub use survey::{Condition, Listing, Subvolume, Survey};
pub use unfinished::{INSIDE, RECEIVING, STATE_DIRECTORY, UNFINISHED};
pub use used::SourceUsed;

use choice::Chooser;
use lookup::{Accept, Excluded, Lookup, Remembered};
use mount::Opener;
use reach::Reach;

/// Most sources that are kept open.
const MAX_OPEN: usize = 64;

/// Most choices that are remembered; then all are forgotten and made again
/// when needed, by the same rules.
const MAX_CHOICES: usize = 16_384;

/// Most subvolumes that a caller can reject.
const MAX_REJECTED: usize = 4096;

/// A subvolume that serves as parent or clone source: an open descriptor of
/// its root directory, and what it is.
#[derive(Debug)]
pub struct Source {
    fd: OwnedFd,
    wanted: SourceId,
    id: u64,
    path: Option<Bytes>,
    matched_by: MatchedBy,
    state: SubvolumeState,
    may_have_changed: bool,
    changed_inode: Option<u64>,
    info: SubvolumeInfo,
}

impl Source {
    /// How the stream names it.
    pub fn wanted(&self) -> SourceId {
        self.wanted
    }

    /// Its id on this filesystem.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its path, without a leading slash, if it could be found out: from the
    /// top of the filesystem; with a jail, from there; without
    /// `CAP_DAC_READ_SEARCH`, from the root of the mount. For messages only.
    pub fn path(&self) -> Option<&[u8]> {
        self.path.as_deref()
    }

    /// What it has in common with the subvolume wanted.
    pub fn matched_by(&self) -> MatchedBy {
        self.matched_by
    }

    /// What the kernel said about it when it was opened.
    pub fn state(&self) -> &SubvolumeState {
        &self.state
    }

    /// Whether `subvolume`, which is this one or a snapshot of it, certainly
    /// holds what this one held when it became read-only, or when its received
    /// UUID was set.
    pub fn is_unchanged_in(&self, subvolume: impl AsFd) -> bool {
        self.state.read_only
            || (self.state.received_uuid == self.wanted.uuid
                && unchanged::since(subvolume, self.state.rtransid))
    }

    /// [`SourceUsed::changed_inode`] of this source, as `snapshot` shows it, which was
    /// taken of it.
    pub fn changed_inode_before(&self, snapshot: impl AsFd) -> Option<u64> {
        let is_copy = self.state.read_only && self.state.received_uuid == self.wanted.uuid;
        let look = || since::before_snapshot(snapshot, &self.info);
        is_copy.then(look).flatten()
    }

    /// The entry for a report, with what was known when it was opened.
    pub fn used(&self) -> SourceUsed {
        SourceUsed {
            wanted: self.wanted,
            subvolume_id: self.id,
            uuid: self.state.uuid,
            path: self.path.clone(),
            unverified: self.matched_by == MatchedBy::Name
                && !(self.state.read_only && self.state.matches(self.wanted.uuid).is_some()),
            writable: !self.state.read_only,
            may_have_changed: self.may_have_changed,
            changed_inode: self.changed_inode,
        }
    }
}

/// Its root directory, open for reading. It belongs to the mount that the
/// [`Resolver`] was given, even if it lies outside of what is mounted there.
impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A subvolume that the caller named as a source.
#[derive(Debug)]
struct Named {
    fd: OwnedFd,
    id: u64,
    /// The UUID it stands for, whatever its own.
    stands_for: Option<Uuid>,
    even_if_writable: bool,
}

impl Named {
    fn serves(&self, wanted: Uuid) -> bool {
        if let Some(stands_for) = self.stands_for {
            return stands_for == wanted;
        }
        let matches = |info| SubvolumeState::from(&info).matches(wanted).is_some();
        sys::subvolume_info(&self.fd).is_ok_and(matches)
    }
}

/// Finds the subvolume for a [`SourceId`] on one filesystem.
///
/// A choice, once made, holds for as long as the subvolume can serve, so that
/// clones read from the parent that the snapshot was taken of. That of
/// [the last resort](crate#the-last-resort), unless a caller made it,
/// holds until the subvolume under construction is finished or given up.
///
/// Memory: at most 64 open sources, 16,384 remembered choices, a map of
/// 65,536 subvolumes (about 10 MiB), and, during a lookup, 4096 candidates.
#[derive(Debug)]
pub struct Resolver {
    reach: Reach,
    ask_uuid_tree: bool,
    named: Vec<Named>,
    excluded: Excluded,
    chooser: Option<Chooser>,
    choices: HashMap<SourceId, Remembered>,
    /// Most recently used first.
    open: VecDeque<Arc<Source>>,
}

/// Options of a [`Resolver`].
#[derive(Debug)]
pub struct ResolverBuilder {
    ask_uuid_tree: bool,
    jail: Option<OwnedFd>,
    named: Vec<(OwnedFd, Option<Uuid>)>,
    writable_names: bool,
    refuse_writable: bool,
    chooser: Option<Chooser>,
}

impl Default for ResolverBuilder {
    fn default() -> Self {
        Self {
            ask_uuid_tree: true,
            jail: None,
            named: Vec::new(),
            writable_names: false,
            refuse_writable: false,
            chooser: None,
        }
    }
}

impl ResolverBuilder {
    /// Confines sources to the subvolumes inside a directory: those beneath
    /// it, and it itself if it is the root of one. Subvolumes that the caller
    /// names are not held back by this.
    #[must_use]
    pub fn jail(mut self, directory: OwnedFd) -> Self {
        self.jail = Some(directory);
        self
    }

    /// Prefers a subvolume, given by its root directory, whenever its UUID or
    /// received UUID is the one wanted. If it is writable it is passed over,
    /// as any other would be.
    #[must_use]
    pub fn prefer(mut self, subvolume: OwnedFd) -> Self {
        self.named.push((subvolume, None));
        self
    }

    /// Makes a subvolume, given by its root directory, the source for `uuid`,
    /// whatever its own UUIDs are. If it is writable it is passed over, as any
    /// other would be.
    ///
    /// The caller vouches that its content is that of the subvolume `uuid`:
    /// if it is not, the result is not what was sent.
    #[must_use]
    pub fn substitute(mut self, uuid: Uuid, subvolume: OwnedFd) -> Self {
        self.named.push((subvolume, Some(uuid)));
        self
    }

    /// Lets what [`prefer`](Self::prefer) and [`substitute`](Self::substitute)
    /// name serve even if it is **writable**, with all that
    /// [`Choice::DangerouslyUseWritable`] says about it. Default `false`.
    #[must_use]
    pub fn dangerously_allow_writable_names(mut self, allow: bool) -> Self {
        self.writable_names = allow;
        self
    }

    /// Takes no writable subvolume, not even as
    /// [the last resort](crate#the-last-resort): it is missing then.
    /// What the caller insists on, by
    /// [`dangerously_allow_writable_names`](Self::dangerously_allow_writable_names)
    /// or [`Choice::DangerouslyUseWritable`], is not refused. Default `false`.
    #[must_use]
    pub fn refuse_writable_sources(mut self, refuse: bool) -> Self {
        self.refuse_writable = refuse;
        self
    }

    /// Has `choose` decide which candidate becomes the source, instead of
    /// taking the best.
    ///
    /// It is given what the stream wants and every candidate there is, as
    /// [`Resolver::survey`] lists them, including those that cannot serve and
    /// why. It is asked once for each source, on whatever thread resolves; the
    /// choice then holds for as long as that subvolume can serve. Since
    /// everything is listed, all subvolumes are walked for each source, where
    /// otherwise the UUID tree would do.
    ///
    /// If it panics, so does [`Resolver::resolve`].
    #[must_use]
    pub fn choose_with(
        mut self,
        choose: impl FnMut(SourceId, &[Candidate]) -> Choice + Send + 'static,
    ) -> Self {
        self.chooser = Some(Chooser::new(choose));
        self
    }

    /// Whether to ask the UUID tree, which is the default. Without, subvolumes
    /// are always walked: for a filesystem whose UUID tree is known to be out
    /// of date.
    #[must_use]
    pub fn uuid_tree(mut self, ask: bool) -> Self {
        self.ask_uuid_tree = ask;
        self
    }

    /// Makes a resolver for the filesystem that `directory` lies on. It is
    /// any directory of it, opened for reading (not with `O_PATH`). Sources
    /// are opened through the same mount.
    ///
    /// # Errors
    /// `ENOTTY` if it is not on btrfs; `InvalidInput` if a subvolume that was
    /// named is none, or the jail or such a subvolume is on another
    /// filesystem.
    pub fn build(self, directory: impl AsFd) -> io::Result<Resolver> {
        let opener = Opener::new(directory.as_fd().try_clone_to_owned()?)?;
        if let Some(jail) = &self.jail {
            let what = "the directory that sources are confined to";
            check_filesystem(opener.fsid(), jail, what)?;
        }
        let mut resolver = Resolver {
            reach: Reach::new(opener, self.jail),
            ask_uuid_tree: self.ask_uuid_tree,
            named: Vec::new(),
            excluded: Excluded {
                writable: self.refuse_writable,
                ..Excluded::default()
            },
            chooser: self.chooser,
            choices: HashMap::new(),
            open: VecDeque::new(),
        };
        for (fd, stands_for) in self.named {
            resolver.name(fd, stands_for, self.writable_names)?;
        }
        Ok(resolver)
    }
}

/// Which subvolume was taken, and why it was.
fn tell(source: &Source) {
    info!(
        uuid = %source.wanted.uuid,
        ctransid = source.wanted.ctransid,
        id = source.id,
        path = %source.path().unwrap_or_default().escape_ascii(),
        matched_by = ?source.matched_by,
        "found a source"
    );
}

fn check_filesystem(fsid: Uuid, fd: &OwnedFd, what: &str) -> io::Result<()> {
    match sys::fs_info(fd) {
        Ok(info) if info.fsid == fsid => Ok(()),
        Ok(_) | Err(rustix::io::Errno::NOTTY) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{what} is on another filesystem"),
        )),
        Err(error) => Err(error.into()),
    }
}

impl Resolver {
    /// A resolver without options; see [`ResolverBuilder::build`].
    ///
    /// # Errors
    /// Those of [`ResolverBuilder::build`].
    pub fn new(directory: impl AsFd) -> io::Result<Self> {
        Self::builder().build(directory)
    }

    /// Starts a choice of options.
    pub fn builder() -> ResolverBuilder {
        ResolverBuilder::default()
    }

    /// Takes a subvolume ahead of others from now on, even if it is writable:
    /// for any UUID that it has as its own or as its received UUID, or for
    /// `stands_for` whatever UUIDs it has. [`ResolverBuilder::prefer`] and
    /// [`ResolverBuilder::substitute`] do so from the beginning.
    ///
    /// # Errors
    /// `InvalidInput` if `fd` is not the root of a subvolume, or lies on
    /// another filesystem.
    pub fn add_named(&mut self, fd: OwnedFd, stands_for: Option<Uuid>) -> io::Result<()> {
        self.name(fd, stands_for, true)
    }

    fn name(
        &mut self,
        fd: OwnedFd,
        stands_for: Option<Uuid>,
        even_if_writable: bool,
    ) -> io::Result<()> {
        self.check_named(&fd)?;
        self.named.push(Named {
            id: sys::containing_subvolume(&fd)?,
            fd,
            stands_for,
            even_if_writable,
        });
        // What was chosen before may not be the choice any more.
        self.choices.clear();
        self.open.clear();
        Ok(())
    }

    /// Checks that a subvolume can be named as a source.
    ///
    /// # Errors
    /// As of [`add_named`](Self::add_named).
    pub fn check_named(&self, fd: &OwnedFd) -> io::Result<()> {
        check_filesystem(
            self.reach.opener.fsid(),
            fd,
            "the subvolume named as a source",
        )?;
        if mount::is_subvolume_root(fd)? {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "what was named as a source is not the root of a subvolume",
        ))
    }

    /// Finds and opens the subvolume that a stream names.
    ///
    /// # Errors
    /// Nothing suitable was found; the error says what was, and what to do.
    pub fn resolve(&mut self, wanted: SourceId) -> Result<Arc<Source>, Box<NoSource>> {
        if let Some(at) = self.open.iter().position(|source| source.wanted == wanted)
            && let Some(source) = self.open.remove(at)
        {
            self.open.push_front(source.clone());
            return Ok(source);
        }
        let chosen = self.choices.get(&wanted).copied();
        let mut lookup = Lookup::new(wanted, &mut self.reach, &self.named, &self.excluded);
        let again = chosen.and_then(|it| Some((lookup.reopen(it)?, it.accept)));
        let (source, accept) = match (again, &mut self.chooser) {
            (Some(again), _) => again,
            (None, Some(chooser)) => lookup.run_chosen(self.ask_uuid_tree, chooser)?,
            (None, None) => lookup.run(self.ask_uuid_tree)?,
        };
        if chosen.map(|it| it.id) != Some(source.id) {
            tell(&source);
        }
        let source = Arc::new(source);
        let chosen = Remembered {
            id: source.id,
            accept,
        };
        if self.choices.len() >= MAX_CHOICES {
            self.choices.clear();
        }
        self.choices.insert(wanted, chosen);
        self.open.truncate(MAX_OPEN - 1);
        self.open.push_front(source.clone());
        Ok(source)
    }

    /// All candidates for `wanted`: the suitable ones first, best first, then
    /// those that would be the last resort; and what could not be looked at.
    /// Changes no choice.
    ///
    /// ```no_run
    /// use std::fs::File;
    ///
    /// use btrfs_lineage::Resolver;
    /// use btrfs_lineage::btrfs_sendstream::{SourceId, Uuid};
    ///
    /// # let parent = Uuid::nil();
    /// let mut resolver = Resolver::new(File::open("/backup")?)?;
    /// let survey = resolver.survey(SourceId::from(parent));
    /// match survey.best() {
    ///     Some(candidate) => println!("send the difference to {candidate}"),
    ///     None if survey.is_exhaustive() => println!("send all of it"),
    ///     None => println!("not seen; missing: {:?}", survey.missing),
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn survey(&mut self, wanted: SourceId) -> Survey {
        Lookup::new(wanted, &mut self.reach, &self.named, &self.excluded).survey(self.ask_uuid_tree)
    }

    /// Does for each of `wanted` what [`survey`](Self::survey) does, in the
    /// same order; the subvolumes are walked only once.
    pub fn survey_all(&mut self, wanted: impl IntoIterator<Item = SourceId>) -> Vec<Survey> {
        self.reach.begin_lookup();
        let mut surveys = Vec::new();
        for wanted in wanted {
            let (reach, named, excluded) = (&mut self.reach, &self.named, &self.excluded);
            let lookup = Lookup::sharing(wanted, reach, named, excluded);
            surveys.push(lookup.survey(self.ask_uuid_tree));
        }
        surveys
    }

    /// The subvolumes of the filesystem, and how many could not be looked at:
    /// at most 65,536.
    ///
    /// With a jail, those inside it. Without `CAP_DAC_READ_SEARCH`, those
    /// beneath the root of the mount.
    ///
    /// ```no_run
    /// use std::fs::File;
    ///
    /// use btrfs_lineage::Resolver;
    ///
    /// let listing = Resolver::new(File::open("/backup")?)?.list();
    /// for subvolume in &listing.subvolumes {
    ///     let path = subvolume.path.as_deref().unwrap_or(b"?");
    ///     println!("{} {}", path.escape_ascii(), subvolume.state.received_uuid);
    /// }
    /// if !listing.is_exhaustive() {
    ///     println!("there may be more: {}", listing.search);
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn list(&mut self) -> Listing {
        survey::list(&mut self.reach)
    }

    /// Tells which subvolume is being received, by its id: it is never a
    /// source. `None` when it is finished or given up; from then on it can be
    /// one, and sources are opened and looked at anew.
    pub fn set_under_construction(&mut self, id: Option<u64>) {
        self.excluded.under_construction = id;
        if id.is_none() {
            self.open.clear();
            self.reach.forget();
            // Something read-only may be there by now. What a caller chose
            // stays.
            if self.chooser.is_none() {
                self.choices
                    .retain(|_, chosen| chosen.accept != Accept::LastResort);
            }
        }
    }

    /// Never gives this subvolume again, as it turned out to be unusable, for
    /// instance damaged. The next call of [`resolve`](Self::resolve) gives the
    /// next best. After 4096 rejections, earlier ones are forgotten.
    pub fn reject(&mut self, source: &Source) {
        if self.excluded.rejected.len() >= MAX_REJECTED {
            self.excluded.rejected.clear();
        }
        self.excluded.rejected.insert(source.id);
        self.choices.retain(|_, chosen| chosen.id != source.id);
        self.open.retain(|open| open.id != source.id);
    }
}
