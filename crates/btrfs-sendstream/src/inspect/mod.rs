//! Inspects streams without a filesystem (feature `inspect`).
//!
//! - [`Verifier`] reads a stream, and reports the problems that it finds and a
//!   summary of each subvolume; [`Checker`] does the same for items that the
//!   caller decodes.
//! - [`Differ`] lists the paths that a stream creates, changes, renames and
//!   deletes.
//! - [`Chain`] orders several streams so that each comes after its parent, and
//!   lists missing sources.
//! - [`Tree`] has the names and attributes of a subvolume at the end of a full stream
//!   and the incremental streams after it.
//! - [`DumpFormatter`] prints commands as `btrfs receive --dump` does.

mod diff;
mod dump;
mod names;
mod order;
mod summary;
mod tree;
mod verify;

use std::fmt;

pub use diff::{Action, DiffEntry, DiffError, DiffOptions, Differ, Difference};
pub use dump::{DumpFormatter, LocalTime, TimeZone, UtcOffset, push_escaped, push_escaped_unless};
pub use names::{Changes, InodeKind, NameError};
pub use order::{Chain, Member, Missing, first_subvolume};
pub use summary::{Created, Kernel, Needs, StreamKind, SubvolumeSummary};
pub use tree::{Device, Tree, TreeEntry, TreeError};
pub use verify::{Checker, Finding, Problem, Verifier, VerifyOptions, VerifyReport};

/// A path of the stream as text that stays on its line, in quotes.
struct Quoted<'a>(&'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.escape_ascii().to_string())
    }
}
