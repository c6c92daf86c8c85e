//! What the thread works with that changes names: subvolumes are begun,
//! finished and given up here.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use btrfs_sendstream::Position;
use rustix::fs::Mode;
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::umask;
use rustix::thread::{CapabilitySet, capabilities};
use tracing::debug;

use super::budget::Share;
use super::check::{BeforeSeal, Check};
use super::construction::Construction;
use super::content::ContentWriter;
use super::lanes::Lanes;
use super::namespace::{Namespace, Tools};
use super::naming::Naming;
use super::prefetch::{LookingIn, Progress};
use super::root::{left_incomplete, or_the_same};
use super::seal::Sealing;
use super::sources::{CloneSources, SourceFinder};
use super::space::{Space, is_no_space};
use super::subvolume;
use crate::destination::tree::create::Creator;
use crate::destination::tree::data::{DataWriter, Encoding};
use crate::destination::tree::encoded::Accepted;
use crate::destination::tree::flags::SharedFlags;
use crate::destination::tree::root_names::RootNames;
use crate::destination::{Begun, Finished};
use crate::error::{Cause, Failure, named};
use crate::plan::op::{NewSubvolume, Step};
use crate::step_error::StepError;
use btrfs_ioctl as sys;
use btrfs_lineage::Source;

/// What lasts from one subvolume to the next, and the one under construction.
pub(super) struct Engine {
    pub(super) destination: OwnedFd,
    pub(super) naming: Naming,
    encoding: Encoding,
    keeps_set_id: bool,
    /// This thread has a umask of its own, which is 0.
    private_umask: bool,
    pub(super) progress: Progress,
    check: Check,
    pub(super) lanes: Lanes,
    finder: SourceFinder,
    pub(super) construction: Option<Construction>,
    /// That of what is being created.
    space: Option<Space>,
    /// Root of what was created last, until it is finished or given up.
    created: Option<OwnedFd>,
}

impl Engine {
    pub(super) fn new(
        destination: OwnedFd,
        naming: Naming,
        encoding: Encoding,
        finder: SourceFinder,
        progress: Progress,
        check: Check,
        lanes: Lanes,
    ) -> Self {
        let has =
            |capability| capabilities(None).is_ok_and(|sets| sets.effective.contains(capability));
        Self {
            destination,
            naming,
            encoding,
            keeps_set_id: has(CapabilitySet::FSETID),
            private_umask: false,
            progress,
            check,
            lanes,
            finder,
            construction: None,
            space: None,
            created: None,
        }
    }

    /// Makes the umask a matter of this thread alone, so that modes can be
    /// given at creation without touching the process.
    pub(super) fn enter_thread(&mut self) {
        self.private_umask = sys::unshare_fs().is_ok();
        if self.private_umask {
            umask(Mode::empty());
        } else {
            debug!("the umask cannot be a thread's own: modes are set one by one");
        }
    }

    /// Waits for the thread that writes content.
    pub(super) fn wait(&mut self) {
        // A panic is reported when the subvolume is finished.
        let _ = self.lanes.wait();
    }

    pub(super) fn step(&mut self, step: Step, share: Share) -> Result<(), Failure> {
        self.progress.step();
        match &mut self.construction {
            Some(it) => {
                let applied = it.apply(step, share, &mut self.lanes, &mut self.finder);
                applied.map_err(|failure| it.or_deleted(self.naming, failure))
            }
            None => Err(StepError::from(Cause::NothingToFinish).of(&step)),
        }
    }

    pub(super) fn begin(&mut self, new: NewSubvolume) -> Result<Begun, Cause> {
        self.abandon();
        self.naming.check(&self.destination, &new)?;
        let flags = SharedFlags::default();
        let space = Space::of(&self.destination).map_err(named("fcntl"))?;
        let created = match self.create(&new, &flags) {
            // Nothing of it is left.
            Err(cause) => space.retry(cause, is_no_space, || self.create(&new, &flags)),
            created => created,
        };
        let (root, parent, mut begun) = created?;
        self.space = Some(space);
        self.created = fcntl_dupfd_cloexec(&root, 0).ok();
        let looking = match &parent {
            Some(parent) => self.progress.look_in(&root, &**parent),
            None => self.progress.look_in(&root, &root),
        };
        let holds_names = new.parent.is_some();
        self.work_on(new, root, flags, holds_names, looking)
            .map_err(left_incomplete)?;
        begun.subvolume_id = self.construction.as_ref().map(|it| it.id);
        Ok(begun)
    }

    /// Creates the subvolume, or takes the snapshot of the parent that it
    /// finds.
    fn create(
        &mut self,
        new: &NewSubvolume,
        flags: &SharedFlags,
    ) -> Result<(OwnedFd, Option<Arc<Source>>, Begun), Cause> {
        let name = self.naming.while_built(new);
        let name = name.as_bytes();
        let Some(wanted) = new.parent else {
            let fd = subvolume::create(&self.destination, name, new)?;
            return Ok((fd, None, Begun::default()));
        };
        let parent = self
            .finder
            .parent(wanted)
            .map_err(|cause| or_the_same(&self.destination, new, cause))?;
        let mut used = parent.used();
        // What is in the snapshot counts, not what the parent was a moment
        // before; and before its root is closed, which is a change too.
        let look = |fd: &OwnedFd| {
            used.may_have_changed = !parent.is_unchanged_in(fd);
            used.changed_inode = parent.changed_inode_before(fd);
        };
        let (fd, deferred) =
            subvolume::snapshot(&self.destination, name, new, &*parent, look, flags)?;
        let begun = Begun {
            parent: Some(used),
            deferred,
            ..Begun::default()
        };
        Ok((fd, Some(parent), begun))
    }

    /// Takes the subvolume with this root under construction. It may hold names
    /// already; `flags` has what was taken off its root.
    pub(super) fn work_on(
        &mut self,
        new: NewSubvolume,
        root: OwnedFd,
        flags: SharedFlags,
        holds_names: bool,
        looking: LookingIn,
    ) -> Result<(), Cause> {
        let id = sys::subvolume_info(&root)
            .map_err(named("BTRFS_IOC_GET_SUBVOL_INFO"))?
            .id;
        self.finder.set_under_construction(Some(id));
        let accepted = Accepted::of(&root, id)?;
        let blocks = sys::fs_info(&root).map_err(named("BTRFS_IOC_FS_INFO"))?;
        let blocks = blocks.sector_size;
        let space = match self.space.take() {
            Some(space) => space,
            None => Space::of(&root).map_err(named("fcntl"))?,
        };
        let root = self.finder.confine(root)?;
        let names = if holds_names {
            RootNames::of_snapshot(&root)
        } else {
            RootNames::of_new()
        };
        self.lanes.begin(ContentWriter::new(
            DataWriter::new(self.encoding, accepted.clone()).blocks_of(blocks),
            accepted.clone(),
            flags.clone(),
            space.clone(),
            self.keeps_set_id,
        ));
        let creator = Creator::new(self.private_umask, names, flags.clone());
        self.construction = Some(Construction {
            id,
            namespace: Namespace::new(new, root, flags, creator),
            sources: CloneSources::default(),
            accepted,
            space,
            opening: Vec::new(),
            looking,
        });
        Ok(())
    }

    /// Finishes the subvolume under construction.
    ///
    /// # Errors
    /// [`Destination::finish`](crate::Destination::finish) says what is left. It
    /// is no longer under construction.
    pub(super) fn finish(&mut self, at: Position) -> Result<Finished, Failure> {
        let Some(construction) = self.construction.take() else {
            return Err(Failure::new(at, "finish", b"", Cause::NothingToFinish));
        };
        let finished = self.complete(construction, at)?;
        self.close();
        Ok(finished)
    }

    fn complete(&mut self, construction: Construction, at: Position) -> Result<Finished, Failure> {
        let Construction {
            id,
            mut namespace,
            mut sources,
            accepted,
            space,
            opening,
            looking,
        } = construction;
        let new = namespace.new.clone();
        let failed = |cause| Failure::new(at, "finish", new.name.as_bytes(), cause);
        drop(looking);
        namespace.close_files();
        // The caller has settled before; what turned up since counts too.
        self.lanes.settle().map_err(failed)?;
        sources.close();
        let forbidding = namespace.flags.take_root();
        namespace.restore_flags(id).map_err(failed)?;
        let root = fcntl_dupfd_cloexec(namespace.root.fd(), 3)
            .map_err(named("fcntl"))
            .map_err(failed)?;
        let sealing = Sealing {
            destination: &self.destination,
            naming: self.naming,
            new: &new,
            root: &root,
            id,
            accepted: &accepted,
            forbidding,
            at,
        };
        let mut tools = Tools {
            lanes: &mut self.lanes,
            sources: &mut sources,
            finder: &mut self.finder,
        };
        let before = BeforeSeal {
            root: &root,
            new: &new,
            pending: &opening,
        };
        let check = || self.check.run(&before);
        let mut open_up = opening.iter();
        let open_up = || open_up.try_for_each(|step| namespace.apply(step, &mut tools));
        let id = sealing.seal(check, open_up)?;
        let mut fallbacks = self.lanes.fallbacks();
        fallbacks += namespace.flags.take_fallbacks();
        fallbacks.retried_for_space += space.helped();
        if !fallbacks.is_none() {
            debug!(?fallbacks, "done another way than asked");
        }
        Ok(Finished {
            subvolume_id: Some(id),
            fallbacks,
            clone_sources: sources.into_used(),
            ..Finished::default()
        })
    }

    /// Leaves the subvolume under construction as it is.
    pub(super) fn abandon(&mut self) {
        if let Some(construction) = &self.construction {
            let name = &construction.namespace.new.name;
            debug!(%name, "given up: writable, without received UUID");
        }
        self.close();
    }

    /// Abandons the subvolume that was created last, and deletes it. Says
    /// whether it is gone.
    pub(super) fn discard(&mut self) -> Result<bool, Cause> {
        let created = self.created.take();
        self.abandon();
        match created {
            Some(root) => subvolume::delete(&self.destination, root),
            None => Ok(false),
        }
    }

    /// Drops all that belongs to one subvolume.
    fn close(&mut self) {
        self.space = None;
        self.lanes.end();
        self.construction = None;
        self.created = None;
        self.finder.set_under_construction(None);
    }
}
