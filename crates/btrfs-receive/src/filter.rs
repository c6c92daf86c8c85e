//! A caller's say in what is applied.

use std::error::Error;

use btrfs_sendstream::{CommandBuf, Item, Position};

/// Judges every item of an input before it is applied; see
/// [`Receiver::receive_filtered`](crate::Receiver::receive_filtered).
///
/// The crate `btrfs-accept` has a filter that follows written rules.
pub trait Filter {
    /// Judges the next item of the input: a header, a command, END, or a
    /// command with an unknown number. It begins `at` this place; `end` is the
    /// number of bytes of input up to its end.
    ///
    /// Called once for each item, in the order of the input. Commands of a
    /// subvolume that is skipped are judged too.
    fn judge(&mut self, item: &Item, at: Position, end: u64) -> Verdict;

    /// Called after an END that is to be applied. If it returns an error, that
    /// END has to be the last item of the input: it is applied only when the
    /// input has ended, and if anything follows, the receive fails with this
    /// error before the subvolume is finished. Default: `None`, END is applied
    /// at once. Not called if
    /// [`Options::stop_at_end`](crate::Options::stop_at_end) is set: what
    /// follows is not read then.
    fn must_be_last(&self) -> Option<Box<dyn Error + Send + Sync>> {
        None
    }
}

/// What becomes of an item; the answer of a [`Filter`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Verdict {
    /// It is applied.
    Apply,
    /// The command is not applied, and counted in
    /// [`Excluded::by_filter`](crate::Excluded::by_filter). SUBVOL, SNAPSHOT,
    /// END and headers cannot be left out: they are applied.
    LeaveOut,
    /// This command is applied in its place, and counted like one that is left
    /// out. If either of the two is SUBVOL, SNAPSHOT or END, the original is
    /// applied.
    Replace(Box<CommandBuf>),
    /// The receive fails, whatever
    /// [`Options::max_errors`](crate::Options::max_errors) says, with
    /// [`Cause::Refused`](crate::Cause::Refused) and this error. The subvolume
    /// under construction is not finished, and is deleted if
    /// [`Options::on_error`](crate::Options::on_error) says so.
    Refuse(Box<dyn Error + Send + Sync>),
}

/// Applies everything.
impl Filter for () {
    fn judge(&mut self, _: &Item, _: Position, _: u64) -> Verdict {
        Verdict::Apply
    }
}
