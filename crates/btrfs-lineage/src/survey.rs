//! What there is, and what of it could not be seen.

use btrfs_sendstream::Bytes;

use super::candidate::{Candidate, SubvolumeState, Verdict};
use super::no_source::{Capability, Search, SearchOutcome, SearchPlace};
use super::reach::Reach;
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

/// A subvolume of a filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Subvolume {
    /// Its id.
    pub id: u64,
    /// Its path, as [`Source::path`](super::Source::path) has it, if that was
    /// found out. That of the top level is empty.
    pub path: Option<Bytes>,
    /// What the kernel says about it.
    pub state: SubvolumeState,
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
                listing.subvolumes.push(Subvolume {
                    id,
                    path: opened.path.clone().or_else(from_top),
                    state: (&opened.info).into(),
                });
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
