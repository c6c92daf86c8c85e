//! One search for a source, from UUID to descriptor.

use std::collections::{HashMap, HashSet};
use std::os::fd::AsFd;

use rustix::io::Errno;
use tracing::debug;

use super::candidate::{Candidate, MatchedBy, SubvolumeState, Verdict};
use super::choice::{Choice, Chooser};
use super::mount::Opened;
use super::no_source::{Capability, NoSource, Search, SearchOutcome, SearchPlace};
use super::reach::{self, Reach};
use super::survey::Survey;
use super::{Named, Source, rank, since, uuid};
use crate::unfinished::is_unfinished;
use btrfs_ioctl::{self as sys, SubvolumeInfo};
use btrfs_sendstream::SourceId;

/// Most candidates that a lookup considers. More have one received UUID only
/// with metadata nodes above 16 KiB.
pub(super) const MAX_CANDIDATES: usize = 4096;

/// Most candidates whose path is found out for an error.
const MAX_PATHS: usize = 32;

/// A choice made by an earlier search.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remembered {
    pub(super) id: u64,
    pub(super) accept: Accept,
}

/// Which subvolumes may be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accept {
    /// Suitable ones.
    Suitable,
    /// A last resort too.
    LastResort,
    /// Any writable one too: the caller insists.
    Writable,
}

impl Accept {
    fn allows(self, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Suitable => true,
            Verdict::LastResort => self != Self::Suitable,
            Verdict::Writable => self == Self::Writable,
            _ => false,
        }
    }
}

/// A search in progress.
pub(super) struct Lookup<'a> {
    wanted: SourceId,
    reach: &'a mut Reach,
    named: &'a [Named],
    excluded: &'a Excluded,
    found: Found,
}

/// Subvolumes that must not serve, whatever their UUIDs.
#[derive(Debug, Default)]
pub(super) struct Excluded {
    pub(super) under_construction: Option<u64>,
    pub(super) rejected: HashSet<u64>,
    /// Writable ones, even as the last resort.
    pub(super) writable: bool,
}

impl Excluded {
    fn verdict(&self, id: u64) -> Option<Verdict> {
        if self.under_construction == Some(id) {
            Some(Verdict::UnderConstruction)
        } else if self.rejected.contains(&id) {
            Some(Verdict::Rejected)
        } else {
            None
        }
    }
}

/// What a search has come across.
#[derive(Default)]
struct Found {
    candidates: Vec<Candidate>,
    seen: HashSet<u64>,
    /// The candidates that were looked at, and an inode that was changed since they
    /// were received.
    changed: HashMap<u64, Option<u64>>,
    excluded: usize,
    searches: Vec<Search>,
}

impl<'a> Lookup<'a> {
    pub(super) fn new(
        wanted: SourceId,
        reach: &'a mut Reach,
        named: &'a [Named],
        excluded: &'a Excluded,
    ) -> Self {
        reach.begin_lookup();
        Self::sharing(wanted, reach, named, excluded)
    }

    /// A lookup that uses the map of the one before.
    pub(super) fn sharing(
        wanted: SourceId,
        reach: &'a mut Reach,
        named: &'a [Named],
        excluded: &'a Excluded,
    ) -> Self {
        Self {
            wanted,
            reach,
            named,
            excluded,
            found: Found::default(),
        }
    }

    /// Searches until something can be opened. The subvolumes are walked only
    /// if what the UUID tree has does not do. Also tells what was accepted.
    pub(super) fn run(mut self, ask_uuid_tree: bool) -> Result<(Source, Accept), Box<NoSource>> {
        if self.wanted.uuid.is_nil() {
            // Every subvolume that was not received has a nil received UUID.
            return Err(self.no_source());
        }
        self.consider_named();
        if ask_uuid_tree {
            self.search_uuid_tree();
        }
        if let Some(source) = self.open_best() {
            return Ok((source, Accept::Suitable));
        }
        // A stream can name many sources; walking for each would take long.
        if let Some(walk) = self.reach.old_walk() {
            let ids = walk.with_uuid(self.wanted.uuid);
            self.consider_all(&ids);
            if let Some(source) = self.open_best() {
                return Ok((source, Accept::Suitable));
            }
        }
        self.search_by_walking();
        self.open_best_or_last().ok_or_else(|| self.no_source())
    }

    /// Searches everywhere and has the caller choose. Also tells what was
    /// accepted.
    pub(super) fn run_chosen(
        mut self,
        ask_uuid_tree: bool,
        chooser: &mut Chooser,
    ) -> Result<(Source, Accept), Box<NoSource>> {
        if self.wanted.uuid.is_nil() {
            return Err(self.no_source());
        }
        self.consider_everything(ask_uuid_tree);
        let choice = chooser.ask(self.wanted, &self.found.candidates);
        let chosen = match choice {
            Choice::Best => self.open_best_or_last(),
            Choice::Subvolume(id) => self.open_or_judge(id, Accept::LastResort),
            Choice::DangerouslyUseWritable(id) => self.open_or_judge(id, Accept::Writable),
            Choice::Decline => None,
        };
        if let Some(chosen) = chosen {
            return Ok(chosen);
        }
        for candidate in &mut self.found.candidates {
            if matches!(candidate.verdict, Verdict::Suitable | Verdict::LastResort) {
                candidate.verdict = Verdict::NotChosen;
            }
        }
        Err(self.no_source())
    }

    /// Considers everything there is: the candidates, best first.
    pub(super) fn survey(mut self, ask_uuid_tree: bool) -> Survey {
        if !self.wanted.uuid.is_nil() {
            self.consider_everything(ask_uuid_tree);
        }
        Survey {
            wanted: self.wanted,
            missing: self.missing(),
            candidates: self.found.candidates,
            excluded: self.found.excluded,
            searches: self.found.searches,
        }
    }

    fn consider_everything(&mut self, ask_uuid_tree: bool) {
        self.consider_named();
        if ask_uuid_tree {
            self.search_uuid_tree();
        }
        self.search_by_walking();
        let order: HashMap<u64, usize> = [Verdict::Suitable, Verdict::LastResort]
            .into_iter()
            .flat_map(|verdict| self.order(verdict))
            .enumerate()
            .map(|(rank, (_, id))| (id, rank))
            .collect();
        self.found
            .candidates
            .sort_by_key(|candidate| order.get(&candidate.id).copied().unwrap_or(usize::MAX));
        self.find_paths();
    }

    /// Opens the subvolume of a choice made earlier, if it still can serve.
    pub(super) fn reopen(&mut self, chosen: Remembered) -> Option<Source> {
        self.open_chosen(chosen.id, chosen.accept).ok()
    }

    fn open_chosen(&mut self, id: u64, accept: Accept) -> Result<Source, Verdict> {
        match self.open_named(id, accept) {
            Some(source) => Ok(source),
            None => self.open_found(id, accept),
        }
    }

    /// Opens a candidate, or notes why it cannot serve.
    fn open_or_judge(&mut self, id: u64, accept: Accept) -> Option<(Source, Accept)> {
        match self.open_chosen(id, accept) {
            Ok(source) => Some((source, accept)),
            Err(verdict) => {
                self.judge(id, verdict);
                None
            }
        }
    }

    /// Notes what opening a candidate has shown.
    fn judge(&mut self, id: u64, verdict: Verdict) {
        let mut candidates = self.found.candidates.iter_mut();
        if let Some(candidate) = candidates.find(|candidate| candidate.id == id) {
            candidate.verdict = verdict;
        }
    }

    /// The subvolumes that the caller named.
    fn consider_named(&mut self) {
        let named = self.named;
        for named in named.iter().filter(|named| named.serves(self.wanted.uuid)) {
            let (state, verdict) = match sys::subvolume_info(&named.fd) {
                Ok(info) => {
                    let state = SubvolumeState::from(&info);
                    let verdict = self.named_verdict(named, &state);
                    (Some(state), verdict)
                }
                Err(errno) => (None, reach::verdict(errno)),
            };
            self.found.seen.insert(named.id);
            self.found.candidates.push(Candidate {
                id: named.id,
                path: None,
                matched_by: Some(MatchedBy::Name),
                state,
                verdict,
            });
        }
    }

    fn search_uuid_tree(&mut self) {
        let outcome = match uuid::subvolumes(self.reach.opener.mount(), self.wanted.uuid) {
            Ok(ids) => {
                self.consider_all(&ids);
                SearchOutcome::Searched {
                    subvolumes: ids.len(),
                    unopened: 0,
                    cut_short: false,
                }
            }
            Err(errno) => SearchOutcome::failed(errno),
        };
        self.searched(SearchPlace::UuidTree, outcome);
    }

    fn search_by_walking(&mut self) {
        match self.reach.fresh_walk() {
            Ok((place, walk)) => {
                let ids = walk.with_uuid(self.wanted.uuid);
                let outcome = walk.outcome();
                self.consider_all(&ids);
                self.searched(place, outcome);
            }
            Err(errno) => self.searched(SearchPlace::Mount, SearchOutcome::failed(errno)),
        }
    }

    fn searched(&mut self, place: SearchPlace, outcome: SearchOutcome) {
        let search = Search { place, outcome };
        debug!(uuid = %self.wanted.uuid, "searched {search}");
        self.found.searches.push(search);
    }

    fn consider_all(&mut self, ids: &[u64]) {
        for &id in ids {
            if !self.found.seen.insert(id) {
                continue;
            }
            if self.found.candidates.len() >= MAX_CANDIDATES {
                self.found.excluded += 1;
                continue;
            }
            let candidate = self.consider(id);
            debug!("considered {candidate}");
            self.found.candidates.push(candidate);
        }
    }

    fn consider(&mut self, id: u64) -> Candidate {
        let mut candidate = Candidate {
            id,
            path: None,
            matched_by: None,
            state: None,
            verdict: Verdict::Gone,
        };
        match self.reach.open(id) {
            Ok(opened) => {
                let state = SubvolumeState::from(&opened.info);
                candidate.matched_by = state.matches(self.wanted.uuid);
                candidate.verdict = self.verdict(id, &opened.fd, &state);
                let changed = self.changed_inode(&opened.fd, &opened.info);
                self.found.changed.insert(id, changed);
                candidate.path = opened.path;
                candidate.state = Some(state);
            }
            Err(verdict) => candidate.verdict = verdict,
        }
        candidate
    }

    /// Whether a subvolume that the caller named can serve.
    fn named_verdict(&self, named: &Named, state: &SubvolumeState) -> Verdict {
        match self.excluded.verdict(named.id) {
            Some(verdict) => verdict,
            None if is_unfinished(&named.fd, state) => Verdict::Unfinished,
            None if state.read_only || named.even_if_writable => Verdict::Suitable,
            None => self.writable_verdict(state),
        }
    }

    /// Whether a subvolume that nobody named can serve.
    fn verdict(&self, id: u64, fd: impl AsFd, state: &SubvolumeState) -> Verdict {
        if let Some(verdict) = self.excluded.verdict(id) {
            verdict
        } else if state.matches(self.wanted.uuid).is_none() {
            Verdict::OtherUuid
        } else if is_unfinished(fd, state) {
            Verdict::Unfinished
        } else if !state.read_only {
            self.writable_verdict(state)
        } else {
            Verdict::Suitable
        }
    }

    /// Whether a writable subvolume that nobody insists on can serve. Its own
    /// UUID says what it was, its received UUID what it holds.
    fn writable_verdict(&self, state: &SubvolumeState) -> Verdict {
        if state.received_uuid == self.wanted.uuid && !self.excluded.writable {
            Verdict::LastResort
        } else {
            Verdict::Writable
        }
    }

    /// The candidates with this verdict, best first, with their places in the
    /// list.
    fn order(&self, verdict: Verdict) -> Vec<(usize, u64)> {
        let mut places = Vec::new();
        let mut suitable = Vec::new();
        for (place, candidate) in self.found.candidates.iter().enumerate() {
            if candidate.verdict == verdict
                && let (Some(matched_by), Some(state)) = (candidate.matched_by, &candidate.state)
            {
                places.push((place, candidate.id));
                suitable.push((candidate.id, matched_by, state.clone()));
            }
        }
        let is_changed = |id: u64| self.found.changed.get(&id).is_some_and(Option::is_some);
        rank::order(self.wanted, &suitable, is_changed)
            .into_iter()
            .filter_map(|at| places.get(at).copied())
            .collect()
    }

    /// Opens the best suitable candidate that can be opened.
    fn open_best(&mut self) -> Option<Source> {
        self.open_first(Verdict::Suitable, Accept::Suitable)
    }

    /// The same, or else the best last resort.
    fn open_best_or_last(&mut self) -> Option<(Source, Accept)> {
        if let Some(source) = self.open_best() {
            return Some((source, Accept::Suitable));
        }
        let source = self.open_first(Verdict::LastResort, Accept::LastResort)?;
        Some((source, Accept::LastResort))
    }

    fn open_first(&mut self, verdict: Verdict, accept: Accept) -> Option<Source> {
        for (place, id) in self.order(verdict) {
            match self.open_chosen(id, accept) {
                Ok(source) => return Some(source),
                Err(verdict) => self.found.candidates.get_mut(place)?.verdict = verdict,
            }
        }
        None
    }

    fn open_named(&mut self, id: u64, accept: Accept) -> Option<Source> {
        let mut serving = self.named.iter().filter(|it| it.serves(self.wanted.uuid));
        let named = serving.find(|it| it.id == id)?;
        let fd = named.fd.try_clone().ok()?;
        let opened = Opened {
            info: sys::subvolume_info(&fd).ok()?,
            fd,
            path: None,
        };
        let verdict = self.named_verdict(named, &SubvolumeState::from(&opened.info));
        if !accept.allows(verdict) {
            return None;
        }
        let matched_by = match (verdict, accept) {
            // That it was named is not why it serves.
            (Verdict::LastResort, Accept::LastResort) => MatchedBy::ReceivedUuid,
            _ => MatchedBy::Name,
        };
        Some(self.source(opened, matched_by))
    }

    fn open_found(&mut self, id: u64, accept: Accept) -> Result<Source, Verdict> {
        let opened = self.reach.open(id)?;
        let state = SubvolumeState::from(&opened.info);
        let verdict = self.verdict(id, &opened.fd, &state);
        match (verdict, state.matches(self.wanted.uuid)) {
            (verdict, Some(matched_by)) if accept.allows(verdict) => {
                Ok(self.source(opened, matched_by))
            }
            (verdict, _) => Err(verdict),
        }
    }

    /// An inode that shows that a read-only subvolume was changed since it was
    /// received from what is wanted.
    fn changed_inode(&self, fd: impl AsFd, info: &SubvolumeInfo) -> Option<u64> {
        if let Some(found) = self.found.changed.get(&info.id) {
            return *found;
        }
        let is_copy = info.read_only && info.received_uuid == self.wanted.uuid;
        let look = || since::at_a_glance(fd, info).changed_inode();
        is_copy.then(look).flatten()
    }

    fn source(&mut self, opened: Opened, matched_by: MatchedBy) -> Source {
        let from_top = || self.reach.opener.path_from_top(&opened.info).ok();
        let mut source = Source {
            wanted: self.wanted,
            id: opened.info.id,
            path: opened.path.clone().or_else(from_top),
            matched_by,
            state: SubvolumeState::from(&opened.info),
            may_have_changed: false,
            changed_inode: self.changed_inode(&opened.fd, &opened.info),
            info: opened.info,
            fd: opened.fd,
        };
        source.may_have_changed = !source.is_unchanged_in(&source);
        source
    }

    fn no_source(mut self) -> Box<NoSource> {
        self.find_paths();
        Box::new(NoSource {
            missing: self.missing(),
            wanted: self.wanted,
            searches: self.found.searches,
            candidates: self.found.candidates,
            excluded: self.found.excluded,
        })
    }

    /// Fills in paths that opening did not bring along.
    fn find_paths(&mut self) {
        let opener = &mut self.reach.opener;
        for candidate in self.found.candidates.iter_mut().take(MAX_PATHS) {
            if candidate.path.is_none()
                && candidate.state.is_some()
                && let Ok(opened) = opener.open(candidate.id)
            {
                candidate.path = opener.path_from_top(&opened.info).ok();
            }
        }
    }

    /// The capabilities whose lack was felt.
    fn missing(&self) -> Vec<Capability> {
        let mut missing = Vec::new();
        let refused = |search: &Search| {
            search.place == SearchPlace::UuidTree
                && search.outcome == SearchOutcome::failed(Errno::PERM)
        };
        if self.found.searches.iter().any(refused) {
            missing.push(Capability::SysAdmin);
        }
        if self.reach.lacks_handles() {
            missing.push(Capability::DacReadSearch);
        }
        missing
    }
}
