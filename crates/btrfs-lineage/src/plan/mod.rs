//! Which parent and which clone sources a stream can be sent with.

mod history;
mod same;
#[cfg(test)]
mod tests;
mod text;

use std::collections::{BTreeSet, HashMap, HashSet};

use btrfs_sendstream::{Bytes, SourceId};
use uuid::Uuid;

use super::candidate::SubvolumeState;
use super::inventory::Inventory;
use super::rank;
use super::survey::{Condition, Subvolume};

use history::History;
use same::Match;

/// Options of [`plan`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PlanOptions {
    /// Most clone sources besides the parent; the default is 8. `btrfs send`
    /// looks for shared extents in each of them, which takes time.
    pub max_clone_sources: usize,
    /// Takes [`Doubt::Relayed`] for proven: two copies of one subvolume of which
    /// neither was changed since it was received, but one of which came by way
    /// of a third host. The default is `false`: nothing shows that the third
    /// host did not change it before it passed it on.
    pub trust_relayed: bool,
    /// Subvolumes of the sender, by id, that `btrfs send` cannot be given, as
    /// they are not mounted.
    pub not_mounted: BTreeSet<u64>,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self {
            max_clone_sources: 8,
            trust_relayed: false,
            not_mounted: BTreeSet::new(),
        }
    }
}

/// How to send a snapshot to a receiver: [`plan`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// The id of the snapshot.
    pub snapshot: u64,
    /// The parent (`btrfs send -p`), by its id on the sender. `None`: nothing
    /// fits, and all of the snapshot has to be sent.
    pub parent: Option<u64>,
    /// Clone sources besides the parent (`btrfs send -c`), by their ids on the
    /// sender, nearest first.
    pub clone_sources: Vec<u64>,
    /// Subvolumes of the receiver that are the snapshot already, by their ids.
    pub already_there: Vec<u64>,
    /// Subvolumes of the receiver, by their ids, that have the received UUID
    /// which the snapshot will have there, and are not shown to hold the same:
    /// later streams that name that UUID can meet the wrong one.
    pub other_states_there: Vec<u64>,
    /// The other subvolumes of the sender, except for writable ones that the
    /// receiver does not know, nearest to the snapshot first.
    pub candidates: Vec<PlanCandidate>,
    /// Whether both inventories show everything; else there may be a parent that
    /// was not seen, or a reason against the one that was chosen.
    pub seen_all: bool,
}

impl Plan {
    /// Whether no stream with a parent of this sender can be received: no
    /// candidate was left out for a doubt, and both inventories show
    /// everything.
    pub fn is_impossible(&self) -> bool {
        self.parent.is_none()
            && self.seen_all
            && !self.candidates.iter().any(|it| it.verdict.may_succeed())
    }

    /// The candidate with this id.
    pub fn candidate(&self, id: u64) -> Option<&PlanCandidate> {
        self.candidates.iter().find(|it| it.id == id)
    }
}

/// A subvolume of the sender that was considered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlanCandidate {
    /// Its id on the sender.
    pub id: u64,
    /// Its path, as the inventory has it.
    pub path: Option<Bytes>,
    /// How a stream would name it.
    pub source: SourceId,
    /// The subvolumes with that UUID which the receiver would consider, by their
    /// ids there; the one that it would take first.
    pub there: Vec<u64>,
    /// How many steps from a snapshot to what it was taken of lead from it and
    /// from the snapshot to a subvolume from which both descend; `None` if the
    /// parent UUIDs show none.
    pub steps: Option<usize>,
    /// What became of it.
    pub verdict: PlanVerdict,
}

/// Whether a candidate was taken, or why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanVerdict {
    /// It is the parent.
    Parent,
    /// It is a clone source.
    CloneSource,
    /// It could serve, but nearer ones do.
    Farther,
    /// Both sides have it, but the parent UUIDs do not show that it shares
    /// extents with the snapshot. It is the parent only if nothing else can be.
    Unrelated,
    /// The receiver has none that it would take for it.
    NotThere,
    /// It is writable on the sender, which `btrfs send` refuses.
    Writable,
    /// It is a receive that was interrupted.
    Unfinished,
    /// It is not mounted on the sender.
    NotMounted,
    /// A stream would name it as it names the snapshot itself.
    SameUuid,
    /// A stream that names it would find something on the receiver which may
    /// hold other data.
    Doubtful(Doubt),
}

impl PlanVerdict {
    /// Whether a stream with it as parent might be received all the same.
    fn may_succeed(self) -> bool {
        match self {
            Self::NotThere | Self::Writable | Self::Unfinished => false,
            Self::Parent
            | Self::CloneSource
            | Self::Farther
            | Self::Unrelated
            | Self::NotMounted
            | Self::SameUuid
            | Self::Doubtful(_) => true,
        }
    }
}

/// Why the data on the two sides may differ. Ids are those of the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Doubt {
    /// The sender's was changed after it was received.
    ChangedHere,
    /// The receiver's was changed after it was received.
    ChangedThere(u64),
    /// Whether the sender's was changed after it was received is not known.
    UnknownHere,
    /// Whether the receiver's was changed after it was received is not known.
    UnknownThere(u64),
    /// The receiver has another state of it, and one of them was changed after
    /// it was created.
    OtherState(u64),
    /// A program set a received UUID without the transaction id of the sender, as
    /// no receive does: what it was received from, and when, is not known.
    NoTransid,
    /// One copy came by way of a third host, and neither was changed since. See
    /// [`PlanOptions::trust_relayed`].
    Relayed(u64),
    /// The receiver's is writable.
    WritableThere(u64),
    /// The receiver has the very same, and beside it this one, which has the
    /// same UUID and may hold something else: an older receiver takes either.
    Another(u64),
}

/// Why there is no plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The sender has no such subvolume.
    #[error("the inventory of the sender has no subvolume {0}")]
    NoSnapshot(u64),
    /// It is writable.
    #[error("subvolume {0} is writable, and only read-only ones can be sent")]
    Writable(u64),
}

/// Chooses the parent and the clone sources for sending a subvolume of `sender`,
/// the one with the id `snapshot`, to `receiver`.
///
/// A candidate is taken if both sides have it, read-only, with the same data, as
/// far as their UUIDs and transaction ids prove it:
/// - The receiver's is found by the UUID by which the stream names the
///   candidate, as received UUID or as its own, by the rules of the
///   [`Resolver`](super::Resolver) and in its order.
/// - One was received from the other in its present state, or both were received
///   from the same state of the same subvolume: the stransid of the one is the
///   ctransid, or the stransid, of the other.
/// - What was received was not changed since then:
///   [`Subvolume::changed_since_received`](super::Subvolume).
/// - No other subvolume of the receiver that has that UUID fails these tests.
///
/// Transaction ids are small numbers that each filesystem counts for itself: if
/// a third host changed its copy, and passed it on in a transaction that happens
/// to have the number of the original's, this is not seen. Nor are the changes that
/// [`since_received`](super::since_received) does not see.
///
/// The parent is the one nearest to the snapshot: with the fewest
/// [steps](PlanCandidate::steps) by parent UUIDs; if equal, with the nearest
/// ctransid, which a snapshot has from what it was taken of; then with the
/// nearest time of creation; then with the lowest id. One of which the
/// parent UUIDs do not show that it has anything in common with the snapshot
/// comes after all others: the stream will be correct, but may be as large as a
/// full one. The next nearest that descend from a common subvolume, and so may
/// share extents with the snapshot, are clone sources.
///
/// Time and memory grow with the number of subvolumes.
///
/// # Errors
/// The sender has no such subvolume, or it is writable.
pub fn plan(
    snapshot: u64,
    sender: &Inventory,
    receiver: &Inventory,
    options: &PlanOptions,
) -> Result<Plan, PlanError> {
    let sent = sender
        .get(snapshot)
        .ok_or(PlanError::NoSnapshot(snapshot))?;
    if !sent.state.read_only {
        return Err(PlanError::Writable(snapshot));
    }
    let there = There::new(receiver, options);
    let (already_there, other_states_there) = there.copies_of(sent);
    let history = History::new(sender, sent);
    let mut candidates = Vec::new();
    for subvolume in &sender.subvolumes {
        if subvolume.id == snapshot {
            continue;
        }
        let found = there.find(subvolume.state.source_id());
        if !subvolume.state.read_only && found.is_empty() {
            continue;
        }
        let candidate = PlanCandidate {
            id: subvolume.id,
            path: subvolume.path.clone(),
            source: subvolume.state.source_id(),
            there: found.iter().map(|it| it.id).collect(),
            steps: history.steps(&subvolume.state),
            verdict: there.verdict(sent, subvolume, &found),
        };
        candidates.push((Distance::new(sent, subvolume, candidate.steps), candidate));
    }
    candidates.sort_by_key(|(distance, _)| *distance);
    let candidates = candidates.into_iter().map(|(_, candidate)| candidate);
    let mut plan = Plan {
        snapshot,
        parent: None,
        clone_sources: Vec::new(),
        already_there,
        other_states_there,
        candidates: candidates.collect(),
        seen_all: sender.is_exhaustive() && receiver.is_exhaustive(),
    };
    plan.choose(options);
    Ok(plan)
}

impl Plan {
    /// Takes the nearest of those that can serve, which are in order.
    fn choose(&mut self, options: &PlanOptions) {
        let mut named = HashSet::new();
        for candidate in &mut self.candidates {
            if candidate.verdict != PlanVerdict::Farther {
                continue;
            }
            if self.parent.is_none() {
                self.parent = Some(candidate.id);
                candidate.verdict = PlanVerdict::Parent;
            } else if candidate.steps.is_none() {
                candidate.verdict = PlanVerdict::Unrelated;
                continue;
            } else if self.clone_sources.len() < options.max_clone_sources
                // Once is enough for two that hold the same.
                && !named.contains(&candidate.source.uuid)
            {
                self.clone_sources.push(candidate.id);
                candidate.verdict = PlanVerdict::CloneSource;
            } else {
                continue;
            }
            named.insert(candidate.source.uuid);
        }
    }
}

/// How far a candidate is from the snapshot, nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Distance {
    /// `usize::MAX` if they have nothing in common.
    steps: usize,
    transactions: u64,
    /// In nanoseconds.
    time: u128,
    id: u64,
}

impl Distance {
    fn new(snapshot: &Subvolume, candidate: &Subvolume, steps: Option<usize>) -> Self {
        let (one, other) = (&snapshot.state, &candidate.state);
        let nanoseconds = |state: &SubvolumeState| {
            i128::from(state.otime.seconds) * 1_000_000_000 + i128::from(state.otime.nanoseconds)
        };
        Self {
            steps: steps.unwrap_or(usize::MAX),
            transactions: one.ctransid.abs_diff(other.ctransid),
            time: nanoseconds(one).abs_diff(nanoseconds(other)),
            id: candidate.id,
        }
    }
}

/// The receiver's subvolumes, by the UUIDs that they are found by.
struct There<'a> {
    by_uuid: HashMap<Uuid, Vec<&'a Subvolume>>,
    /// The ids of those that were changed after they were received.
    changed: HashSet<u64>,
    options: &'a PlanOptions,
}

impl<'a> There<'a> {
    fn new(receiver: &'a Inventory, options: &'a PlanOptions) -> Self {
        let mut by_uuid: HashMap<Uuid, Vec<&'a Subvolume>> = HashMap::new();
        let mut changed = HashSet::new();
        for subvolume in &receiver.subvolumes {
            if subvolume.changed_since_received == Some(true) {
                changed.insert(subvolume.id);
            }
            let state = &subvolume.state;
            let mut uuids = vec![state.received_uuid, state.uuid];
            uuids.dedup();
            for uuid in uuids.into_iter().filter(|uuid| !uuid.is_nil()) {
                by_uuid.entry(uuid).or_default().push(subvolume);
            }
        }
        Self {
            by_uuid,
            changed,
            options,
        }
    }

    /// What a receive considers for `wanted`, in its order: what is suitable,
    /// then the last resorts.
    fn find(&self, wanted: SourceId) -> Vec<&'a Subvolume> {
        let Some(all) = self.by_uuid.get(&wanted.uuid) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for last_resort in [false, true] {
            let considered: Vec<&Subvolume> = all
                .iter()
                .copied()
                .filter(|it| match it.condition {
                    Condition::Complete | Condition::ReadOnly => !last_resort,
                    Condition::WritableReceived => {
                        last_resort && it.state.received_uuid == wanted.uuid
                    }
                    Condition::Writable | Condition::Unfinished => false,
                })
                .collect();
            let ranked: Vec<_> = considered
                .iter()
                .filter_map(|it| Some((it.id, it.state.matches(wanted.uuid)?, it.state.clone())))
                .collect();
            let order = rank::order(wanted, &ranked, |id| self.changed.contains(&id)).into_iter();
            found.extend(order.filter_map(|place| considered.get(place)));
        }
        found
    }

    /// [`PlanVerdict::Farther`] for what can serve: which of them do, is
    /// decided among all.
    fn verdict(
        &self,
        snapshot: &Subvolume,
        candidate: &Subvolume,
        found: &[&Subvolume],
    ) -> PlanVerdict {
        if candidate.condition == Condition::Unfinished {
            return PlanVerdict::Unfinished;
        }
        if !candidate.state.read_only {
            return PlanVerdict::Writable;
        }
        let Some((first, others)) = found.split_first() else {
            return PlanVerdict::NotThere;
        };
        if candidate.state.source_id().uuid == snapshot.state.source_id().uuid {
            return PlanVerdict::SameUuid;
        }
        if let Err(doubt) = self.is_same(candidate, first) {
            return PlanVerdict::Doubtful(doubt);
        }
        let another = others
            .iter()
            .find(|it| self.is_same(candidate, it).is_err());
        if let Some(another) = another {
            return PlanVerdict::Doubtful(Doubt::Another(another.id));
        }
        if self.options.not_mounted.contains(&candidate.id) {
            return PlanVerdict::NotMounted;
        }
        PlanVerdict::Farther
    }

    fn is_same(&self, candidate: &Subvolume, there: &Subvolume) -> Result<(), Doubt> {
        match same::compare(candidate, there) {
            Match::Same => Ok(()),
            Match::Doubtful(Doubt::Relayed(_)) if self.options.trust_relayed => Ok(()),
            Match::Doubtful(doubt) => Err(doubt),
        }
    }

    /// The subvolumes that are `snapshot`, and those that only have the received
    /// UUID that it will have.
    fn copies_of(&self, snapshot: &Subvolume) -> (Vec<u64>, Vec<u64>) {
        let (mut same, mut others) = (Vec::new(), Vec::new());
        let found = self.by_uuid.get(&snapshot.state.source_id().uuid);
        for there in found.into_iter().flatten() {
            if self.is_same(snapshot, there).is_ok() {
                same.push(there.id);
            } else if !there.state.received_uuid.is_nil() {
                others.push(there.id);
            }
        }
        (same, others)
    }
}
