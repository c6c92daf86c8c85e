//! What there is, and what of it could not be seen.

use btrfs_sendstream::Bytes;

use super::candidate::{Candidate, SubvolumeState, Verdict};
use super::mount::Opened;
use super::no_source::{Capability, Search, SearchOutcome, SearchPlace};
use super::reach::Reach;
use super::since::{SinceReceived, since_received};
use super::unfinished::is_unfinished;
use btrfs_sendstream::SourceId;

/// The candidates for one source, and how they were searched for:
/// [`Resolver::survey`](super::Resolver::survey).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Survey {
    /// What was wanted.
    pub wanted: SourceId,
    /// The candidates, the suitable ones first, best first; at most 4096.
    /// Paths are known for the first 32 only.
    pub candidates: Vec<Candidate>,
    /// How many more were found.
    pub excluded: usize,
    /// How they were searched for; nothing was if the UUID wanted is nil.
    pub searches: Vec<Search>,
    /// Capabilities that would have let the search see more, had the process
    /// had them in the initial user namespace.
    pub missing: Vec<Capability>,
}

impl Survey {
    /// The candidate that a receive would take, if one can serve.
    pub fn best(&self) -> Option<&Candidate> {
        let first = self.candidates.first();
        first.filter(|candidate| candidate.verdict == Verdict::Suitable)
    }

    /// Whether the whole filesystem was looked at, or all of the directory
    /// that sources are confined to. Without candidates there then is no
    /// source; else there may be one that could not be seen.
    pub fn is_exhaustive(&self) -> bool {
        self.excluded == 0 && self.searches.iter().any(sees_all)
    }
}

/// The subvolumes of a filesystem: [`Resolver::list`](super::Resolver::list).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listing {
    /// The subvolumes that could be looked at, in the order of their ids.
    pub subvolumes: Vec<Subvolume>,
    /// Where they were looked for, and how many could not be opened.
    pub search: Search,
    /// Capabilities that would have let more be seen, had the process had
    /// them in the initial user namespace.
    pub missing: Vec<Capability>,
}

impl Listing {
    /// Whether these are all subvolumes of the filesystem, or all of the
    /// directory that sources are confined to.
    pub fn is_exhaustive(&self) -> bool {
        sees_all(&self.search)
    }
}

/// A subvolume of a filesystem, or one in a stored stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Subvolume {
    /// Its id. Of a stored stream, a number that no other has.
    pub id: u64,
    /// Its path, as [`Source::path`](super::Source::path) has it, if that was
    /// found out. That of the top level is empty. Of a stored stream, that of
    /// its file.
    #[cfg_attr(
        feature = "serde",
        serde(
            default,
            skip_serializing_if = "Option::is_none",
            serialize_with = "btrfs_sendstream::serial::optional_text",
            deserialize_with = "btrfs_sendstream::serial::read_optional_text"
        )
    )]
    pub path: Option<Bytes>,
    /// What its marks say about it. The key is `state`.
    #[cfg_attr(feature = "serde", serde(rename = "state"))]
    pub condition: Condition,
    /// Whether something in it was changed after its received UUID was set, as
    /// [`since_received`](super::since_received) finds out; `None` if that is not
    /// known, or it has none, or is writable.
    #[cfg_attr(
        feature = "serde",
        serde(default, skip_serializing_if = "Option::is_none")
    )]
    pub changed_since_received: Option<bool>,
    /// What the kernel says about it. Its keys stand beside the others.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub state: SubvolumeState,
}

/// What the marks of a subvolume say about it: the read-only flag, the received
/// UUID and [`UNFINISHED`](super::UNFINISHED).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Condition {
    /// Read-only, and it has a received UUID: its receive was completed.
    Complete,
    /// Read-only, without a received UUID.
    ReadOnly,
    /// Writable, without a received UUID. A receive that failed or is running
    /// looks like this too.
    Writable,
    /// Writable, with a received UUID:
    /// [the last resort](super#the-last-resort) of a receive.
    WritableReceived,
    /// Writable, and its receive was interrupted after it got its received
    /// UUID. It is never a source.
    Unfinished,
}

impl Condition {
    pub(super) fn of(root: impl std::os::fd::AsFd, state: &SubvolumeState) -> Self {
        match (state.read_only, state.received_uuid.is_nil()) {
            (true, false) => Self::Complete,
            (true, true) => Self::ReadOnly,
            (false, true) => Self::Writable,
            (false, false) if is_unfinished(root, state) => Self::Unfinished,
            (false, false) => Self::WritableReceived,
        }
    }
}

impl Subvolume {
    fn of(id: u64, path: Option<Bytes>, opened: &Opened) -> Self {
        let state = SubvolumeState::from(&opened.info);
        Self {
            id,
            path,
            condition: Condition::of(&opened.fd, &state),
            changed_since_received: was_changed(opened),
            state,
        }
    }
}

fn was_changed(opened: &Opened) -> Option<bool> {
    if !opened.info.read_only {
        return None;
    }
    match since_received(&opened.fd).ok()? {
        SinceReceived::Unchanged => Some(false),
        SinceReceived::Changed { .. } => Some(true),
        SinceReceived::NotReceived | SinceReceived::Unknown => None,
    }
}

/// Whether a search saw all that sources may come from.
fn sees_all(search: &Search) -> bool {
    search.is_exhaustive() && search.place != SearchPlace::Mount
}

pub(super) fn list(reach: &mut Reach) -> Listing {
    reach.begin_lookup();
    let (search, ids) = match reach.fresh_walk() {
        Ok((place, walk)) => {
            let outcome = walk.outcome();
            (Search { place, outcome }, walk.ids())
        }
        Err(errno) => {
            let (place, outcome) = (SearchPlace::Mount, SearchOutcome::failed(errno));
            (Search { place, outcome }, Vec::new())
        }
    };
    let mut listing = Listing {
        subvolumes: Vec::with_capacity(ids.len()),
        search,
        missing: Vec::new(),
    };
    for id in ids {
        match reach.open(id) {
            Ok(opened) => {
                let from_top = || reach.opener.path_from_top(&opened.info).ok();
                let path = opened.path.clone().or_else(from_top);
                listing.subvolumes.push(Subvolume::of(id, path, &opened));
            }
            // It was deleted since.
            Err(Verdict::Gone) => {}
            Err(_) => {
                if let SearchOutcome::Searched { unopened, .. } = &mut listing.search.outcome {
                    *unopened += 1;
                }
            }
        }
    }
    if let SearchOutcome::Searched { subvolumes, .. } = &mut listing.search.outcome {
        *subvolumes = listing.subvolumes.len();
    }
    if reach.lacks_handles() {
        listing.missing.push(Capability::DacReadSearch);
    }
    listing
}
