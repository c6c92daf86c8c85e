//! The state of the subvolume under construction.

use btrfs_ioctl as sys;
use rustix::io::Errno;

use super::budget::Share;
use super::content::Task;
use super::lanes::Lanes;
use super::namespace::{Done, Namespace, Tools};
use super::naming::Naming;
use super::prefetch::LookingIn;
use super::root::moved;
use super::sources::{CloneSources, SourceFinder};
use super::space::{Space, is_no_space};
use crate::destination::tree::encoded::Accepted;
use crate::error::Failure;
use crate::plan::op::{Op, Step};
use crate::xattr::ACCESS_ACL;

/// All that is known of the subvolume under construction; dropped as a whole
/// when it is finished or given up.
///
/// [`Lanes`] have the writer for it, which shares `accepted` and the flags of
/// `namespace`, and is dropped along with it.
pub(super) struct Construction {
    /// Id of the subvolume.
    pub(super) id: u64,
    pub(super) namespace: Namespace,
    pub(super) sources: CloneSources,
    pub(super) accepted: Accepted,
    pub(super) space: Space,
    /// Steps that let others enter the root, which wait for the end.
    pub(super) opening: Vec<Step>,
    pub(super) looking: LookingIn,
}

impl Construction {
    /// Carries out one step, hands it over to `lanes`, or keeps it for the
    /// end.
    ///
    /// # Errors
    /// The step failed, as far as it is carried out here.
    pub(super) fn apply(
        &mut self,
        step: Step,
        share: Share,
        lanes: &mut Lanes,
        finder: &mut SourceFinder,
    ) -> Result<(), Failure> {
        if lets_others_in(&step.op) {
            self.opening.push(step);
            return Ok(());
        }
        let mut tools = Tools {
            lanes,
            sources: &mut self.sources,
            finder,
        };
        let mut done = self.namespace.act(&step.op, &mut tools);
        if let Err(error) = done {
            if is_no_space(&error.cause) {
                // What they write is committed then, too. A panic is reported at the
                // end.
                let _ = tools.lanes.wait();
            }
            let act = || self.namespace.act(&step.op, &mut tools);
            done = self.space.again(error, &step.op, act);
        }
        match done {
            Ok(Done::Here) => Ok(()),
            Ok(Done::ByLane { file, source }) => {
                let task = Task {
                    file,
                    source,
                    step,
                    share,
                };
                lanes.hand_over(task)
            }
            Err(error) => Err(error.of(&step)),
        }
    }

    /// The failure of a step, or what explains it: the subvolume was deleted. Nothing in it
    /// is found then.
    pub(super) fn or_deleted(&self, naming: Naming, mut failure: Failure) -> Failure {
        let info = sys::subvolume_info(self.namespace.root.fd());
        if info.is_err_and(|errno| errno == Errno::NOENT) {
            *failure.cause = moved(naming, &self.namespace.new, self.id, None);
        }
        failure
    }
}

/// Whether it lets others enter the root of the subvolume, or keeps them out:
/// such steps wait until it is sealed.
fn lets_others_in(op: &Op) -> bool {
    op.path().is_root()
        && match op {
            Op::Chown { .. } | Op::Chmod { .. } => true,
            Op::SetXattr { name, .. } | Op::RemoveXattr { name, .. } => name == ACCESS_ACL,
            Op::Create { .. }
            | Op::Rename { .. }
            | Op::Link { .. }
            | Op::Move { .. }
            | Op::Unlink { .. }
            | Op::Rmdir { .. }
            | Op::Write { .. }
            | Op::Clone(_)
            | Op::EncodedWrite(_)
            | Op::Truncate { .. }
            | Op::Fallocate { .. }
            | Op::FileAttr { .. }
            | Op::Utimes { .. }
            | Op::EnableVerity(_) => false,
        }
}
