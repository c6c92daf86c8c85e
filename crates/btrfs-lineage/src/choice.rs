//! A caller's say in which candidate becomes the source.

use std::fmt;

use super::candidate::Candidate;
use btrfs_sendstream::SourceId;

/// What a caller makes of the candidates for a source; the answer to
/// [`ResolverBuilder::choose_with`](super::ResolverBuilder::choose_with).
///
/// A candidate that is named here and cannot serve is never replaced by
/// another one: the search fails, and the error lists all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Choice {
    /// The first of the list, if it is suitable or a last resort: what is
    /// chosen when nobody is asked.
    Best,
    /// The candidate with this subvolume id, if it is suitable or a last
    /// resort.
    Subvolume(u64),
    /// The candidate with this subvolume id, even if it is **writable**.
    ///
    /// The stream was made against a state of the source that never changes.
    /// A writable subvolume may have been changed since, by one byte or by
    /// all, and nothing can tell: the result may hold other data than the
    /// sender's, and still be finished and marked as received, so that later
    /// receives build on it. Only for a caller who knows for certain that
    /// nothing was changed, and that nothing changes while the receive runs.
    DangerouslyUseWritable(u64),
    /// None of them: the parent or clone source counts as not found.
    Decline,
}

type Choose = dyn FnMut(SourceId, &[Candidate]) -> Choice + Send;

/// The closure that is asked.
pub(super) struct Chooser(Box<Choose>);

impl Chooser {
    pub(super) fn new(
        choose: impl FnMut(SourceId, &[Candidate]) -> Choice + Send + 'static,
    ) -> Self {
        Self(Box::new(choose))
    }

    pub(super) fn ask(&mut self, wanted: SourceId, candidates: &[Candidate]) -> Choice {
        (self.0)(wanted, candidates)
    }
}

impl fmt::Debug for Chooser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chooser")
    }
}
