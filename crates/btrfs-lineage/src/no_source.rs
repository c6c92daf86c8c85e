//! The error that tells everything about a search in vain.

use std::fmt;
use std::io;

use btrfs_sendstream::SourceId;

use rustix::io::Errno;

use super::candidate::{Candidate, MatchedBy, Verdict};

/// Most candidates that the text of the error names.
const MAX_SHOWN: usize = 32;

/// No subvolume can serve as the parent or clone source that a stream names.
///
/// Its text has several lines: what was wanted, how it was searched for, each
/// candidate with the reason it was passed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub struct NoSource {
    /// What was wanted.
    pub wanted: SourceId,
    /// How it was searched for.
    pub searches: Vec<Search>,
    /// What was found, at most 4096 subvolumes. Paths are known for the first
    /// 32 only.
    pub candidates: Vec<Candidate>,
    /// How many more were found.
    pub excluded: usize,
    /// Capabilities that would have let the search see more, had the process
    /// had them in the initial user namespace.
    pub missing: Vec<Capability>,
}

/// One way of searching, and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Search {
    /// What was searched.
    pub place: SearchPlace,
    /// What came of it.
    pub outcome: SearchOutcome,
}

impl Search {
    /// Whether nothing in that place stayed unseen. Never for the UUID tree:
    /// it can be out of date, and has no room for more than about 2,000
    /// snapshots with one received UUID.
    pub fn is_exhaustive(&self) -> bool {
        let in_full = matches!(
            self.outcome,
            SearchOutcome::Searched {
                unopened: 0,
                cut_short: false,
                ..
            }
        );
        in_full && self.place != SearchPlace::UuidTree
    }
}

/// What was searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SearchPlace {
    /// The filesystem's index of UUIDs, and the subvolumes that it names.
    UuidTree,
    /// Every subvolume of the filesystem.
    Filesystem,
    /// The subvolumes that can be reached in the mount.
    Mount,
    /// The subvolumes inside the directory that sources are confined to.
    Jail,
}

/// What came of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SearchOutcome {
    /// It was searched.
    Searched {
        /// For the UUID tree: subvolumes that have the UUID. Else: subvolumes
        /// looked at.
        subvolumes: usize,
        /// Subvolumes that are known to be there and could not be opened. In
        /// a directory that is no subvolume, and without the right to search
        /// every directory, those beside it are among them: they look the
        /// same.
        unopened: usize,
        /// Whether there were more than are looked at: 65,536 subvolumes, 128
        /// of them within each other.
        cut_short: bool,
    },
    /// It could not be searched.
    Failed {
        /// The error number of the system call that failed (`errno`).
        os_error: i32,
    },
}

impl SearchOutcome {
    pub(super) fn failed(errno: Errno) -> Self {
        Self::Failed {
            os_error: errno.raw_os_error(),
        }
    }
}

/// A capability of the process (`capabilities(7)`) that a search made use of,
/// or would have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Capability {
    /// Searches the UUID tree.
    SysAdmin,
    /// Opens subvolumes that lie outside of what is mounted.
    DacReadSearch,
}

impl Capability {
    /// Its name, such as `CAP_SYS_ADMIN`.
    pub fn name(self) -> &'static str {
        match self {
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::DacReadSearch => "CAP_DAC_READ_SEARCH",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for NoSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tell(f, "source")
    }
}

struct Told<'a>(&'a NoSource, &'static str);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.tell(f, self.1)
    }
}

impl NoSource {
    /// The text of the error with the source called by its `role`, such as
    /// `parent`.
    pub fn with_role(&self, role: &'static str) -> impl fmt::Display + '_ {
        Told(self, role)
    }

    fn tell(&self, f: &mut fmt::Formatter<'_>, role: &str) -> fmt::Result {
        let SourceId { uuid, ctransid } = self.wanted;
        if uuid.is_nil() {
            return write!(
                f,
                "the stream names a {role} without UUID (all zero), which says nothing"
            );
        }
        let what = match self.candidates.is_empty() {
            true => "no subvolume here is",
            false => "no usable subvolume here is",
        };
        write!(f, "{what}, or was received from, the {role} {uuid}")?;
        if ctransid != 0 {
            write!(f, " (ctransid {ctransid})")?;
        }
        for search in &self.searches {
            write!(f, "\n  searched: {search}")?;
            if self.candidates.is_empty()
                && matches!(search.outcome, SearchOutcome::Searched { .. })
                && search.place != SearchPlace::UuidTree
            {
                write!(f, ": none matches")?;
            }
        }
        for candidate in self.candidates.iter().take(MAX_SHOWN) {
            write!(f, "\n  passed over: {candidate}")?;
        }
        let hidden = self.candidates.len().saturating_sub(MAX_SHOWN) + self.excluded;
        if hidden > 0 {
            write!(f, "\n  and {hidden} more")?;
        }
        for capability in &self.missing {
            let gain = match capability {
                Capability::SysAdmin => "the UUID tree could be searched",
                Capability::DacReadSearch => "subvolumes outside of this mount could be opened",
            };
            write!(f, "\n  missing: {capability}; with it, {gain}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.place {
            SearchPlace::UuidTree => "the UUID tree: ",
            SearchPlace::Filesystem => "the filesystem: ",
            SearchPlace::Mount => "the subvolumes within this mount: ",
            SearchPlace::Jail => "the subvolumes inside the directory confined to: ",
        })?;
        match self.outcome {
            SearchOutcome::Searched {
                subvolumes,
                unopened,
                cut_short,
            } => {
                match self.place {
                    SearchPlace::UuidTree => write!(f, "{subvolumes} found")?,
                    _ => write!(f, "looked at {subvolumes} subvolumes")?,
                }
                if unopened > 0 {
                    write!(f, ", {unopened} more could not be opened")?;
                }
                if cut_short {
                    write!(f, ", too many to look at all")?;
                }
                Ok(())
            }
            SearchOutcome::Failed { os_error } => {
                write!(f, "{}", io::Error::from_raw_os_error(os_error))
            }
        }
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "subvolume {}", self.id)?;
        if let Some(path) = &self.path {
            write!(f, " \"{}\"", path.escape_ascii())?;
        }
        if let Some(state) = &self.state {
            write!(f, " (uuid {}", state.uuid)?;
            if !state.received_uuid.is_nil() {
                write!(
                    f,
                    ", received uuid {}, stransid {}, rtransid {}",
                    state.received_uuid, state.stransid, state.rtransid
                )?;
            }
            let mode = if state.read_only {
                "read-only"
            } else {
                "writable"
            };
            write!(f, ", ctransid {}, {mode})", state.ctransid)?;
        }
        if self.matched_by == Some(MatchedBy::Name) {
            write!(f, ", named as the source")?;
        }
        write!(f, ": {}", self.verdict)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Suitable => f.write_str("suitable"),
            Self::LastResort => f.write_str("writable, so only the last resort"),
            Self::Writable => f.write_str("it is writable, so it may have changed"),
            Self::Unfinished => {
                f.write_str("its receive was interrupted before it was made read-only")
            }
            Self::UnderConstruction => f.write_str("it is the one being received"),
            Self::Rejected => f.write_str("it could not be used"),
            Self::NotChosen => f.write_str("it could serve, but was not chosen"),
            Self::OtherUuid => f.write_str("its UUIDs are others, the UUID tree is out of date"),
            Self::Gone => f.write_str("it was deleted"),
            Self::OutsideJail => f.write_str("it is outside the directory confined to"),
            Self::Unreachable => f.write_str("it cannot be reached through this mount"),
            Self::CannotOpen { os_error } => {
                let error = io::Error::from_raw_os_error(*os_error);
                write!(f, "it cannot be opened: {error}")
            }
        }
    }
}
