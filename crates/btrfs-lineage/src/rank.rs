//! Which of several candidates is the best source.
//!
//! The transaction id that a stream names is one of the sender's filesystem,
//! or of whatever filesystem the sender's copy went through before. It tells
//! equals apart, but never rules a candidate out.

use std::collections::HashSet;

use uuid::Uuid;

use super::candidate::{MatchedBy, SubvolumeState};
use btrfs_sendstream::SourceId;

/// What decides between two candidates, smallest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// How well UUID and transaction id fit.
    fit: Fit,
    /// Whether it was changed since it was received.
    changed: bool,
    /// How long after it was received the candidate last changed, in
    /// transactions.
    drift: u64,
    /// Whether it is a snapshot of another candidate.
    derived: bool,
    id: u64,
}

/// How well a candidate fits what the stream names, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    /// The caller named it as the source.
    Named,
    /// Received from the very state that the sender refers to.
    ReceivedFromThatState,
    /// The subvolume itself in that state: sent within one filesystem.
    Itself,
    /// The subvolume itself, known to the sender by a received copy: the
    /// direction was reversed.
    ItselfByCopy,
    /// Another received copy, such as one that came by a third host.
    OtherCopy,
}

/// The candidates by their place in `candidates`, best first. Candidates that
/// have nothing in common with `wanted` must not be among them. `is_changed` says
/// of which ids the subvolume was changed since it was received.
pub(super) fn order(
    wanted: SourceId,
    candidates: &[(u64, MatchedBy, SubvolumeState)],
    is_changed: impl Fn(u64) -> bool,
) -> Vec<usize> {
    let uuids: HashSet<Uuid> = candidates.iter().map(|(_, _, state)| state.uuid).collect();
    let mut order: Vec<(Rank, usize)> = candidates
        .iter()
        .enumerate()
        .map(|(place, (id, matched_by, state))| {
            let rank = Rank {
                changed: is_changed(*id),
                ..rank(wanted, *id, *matched_by, state, &uuids)
            };
            (rank, place)
        })
        .collect();
    order.sort_unstable();
    order.into_iter().map(|(_, place)| place).collect()
}

fn rank(
    wanted: SourceId,
    id: u64,
    matched_by: MatchedBy,
    state: &SubvolumeState,
    uuids: &HashSet<Uuid>,
) -> Rank {
    let fit = match matched_by {
        MatchedBy::Name => Fit::Named,
        MatchedBy::ReceivedUuid if state.stransid == wanted.ctransid => Fit::ReceivedFromThatState,
        MatchedBy::ReceivedUuid => Fit::OtherCopy,
        MatchedBy::OwnUuid if state.ctransid == wanted.ctransid => Fit::Itself,
        MatchedBy::OwnUuid => Fit::ItselfByCopy,
    };
    Rank {
        fit,
        changed: false,
        drift: state.ctransid.saturating_sub(state.rtransid),
        derived: !state.parent_uuid.is_nil() && uuids.contains(&state.parent_uuid),
        id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: SourceId = SourceId {
        uuid: Uuid::from_u128(1),
        ctransid: 11,
    };

    /// The id of a candidate that was changed.
    const CHANGED: u64 = 999;

    fn received(
        id: u64,
        stransid: u64,
        rtransid: u64,
        ctransid: u64,
    ) -> (u64, MatchedBy, SubvolumeState) {
        let state = SubvolumeState {
            uuid: Uuid::from_u128(0x100 + u128::from(id)),
            parent_uuid: Uuid::nil(),
            received_uuid: WANTED.uuid,
            ctransid,
            stransid,
            rtransid,
            read_only: true,
            ..SubvolumeState::default()
        };
        (id, MatchedBy::ReceivedUuid, state)
    }

    fn own(id: u64, ctransid: u64) -> (u64, MatchedBy, SubvolumeState) {
        let (_, _, state) = received(id, 0, 0, ctransid);
        let state = SubvolumeState {
            uuid: WANTED.uuid,
            received_uuid: Uuid::nil(),
            ..state
        };
        (id, MatchedBy::OwnUuid, state)
    }

    fn snapshot_of(
        id: u64,
        of: &(u64, MatchedBy, SubvolumeState),
    ) -> (u64, MatchedBy, SubvolumeState) {
        let state = SubvolumeState {
            uuid: Uuid::from_u128(0x200 + u128::from(id)),
            parent_uuid: of.2.uuid,
            ..of.2.clone()
        };
        (id, of.1, state)
    }

    /// Checks that the candidates, given in the order expected, come out like
    /// that however they are mixed.
    #[track_caller]
    fn in_this_order(expected: &[(u64, MatchedBy, SubvolumeState)]) {
        for turn in 0..expected.len() {
            let mut mixed = expected.to_vec();
            mixed.rotate_left(turn);
            for mixed in [mixed.clone(), mixed.into_iter().rev().collect()] {
                let got: Vec<u64> = order(WANTED, &mixed, |id| id == CHANGED)
                    .into_iter()
                    .map(|at| mixed[at].0)
                    .collect();
                let want: Vec<u64> = expected.iter().map(|candidate| candidate.0).collect();
                assert_eq!(got, want);
            }
        }
    }

    #[test]
    fn the_fit_comes_first() {
        let mut named = received(900, 7, 8, 100);
        named.1 = MatchedBy::Name;
        in_this_order(&[
            named,
            received(300, 11, 8, 8),
            own(257, 11),
            received(256, 10, 8, 8),
        ]);
        in_this_order(&[
            received(300, 11, 8, 8),
            own(257, 12),
            received(256, 10, 8, 8),
        ]);
    }

    #[test]
    fn a_copy_changed_after_it_was_received_comes_later() {
        in_this_order(&[
            received(300, 11, 20, 19),
            received(257, 11, 20, 25),
            received(256, 11, 20, 40),
        ]);
    }

    #[test]
    fn one_that_was_changed_comes_after_its_equals() {
        in_this_order(&[
            received(256, 11, 20, 40),
            received(CHANGED, 11, 20, 25),
            received(257, 10, 20, 20),
        ]);
    }

    #[test]
    fn a_snapshot_of_a_candidate_comes_after_it() {
        let source = received(300, 11, 20, 19);
        in_this_order(&[source.clone(), snapshot_of(258, &source)]);
    }

    #[test]
    fn else_the_lowest_id_comes_first() {
        in_this_order(&[
            received(256, 11, 8, 8),
            received(257, 11, 8, 8),
            received(258, 11, 9, 8),
        ]);
    }

    #[test]
    fn by_way_of_a_third_host_no_transid_matches() {
        in_this_order(&[received(256, 10, 8, 8), received(257, 9, 8, 8)]);
    }

    #[test]
    fn back_at_the_origin_the_original_comes_before_its_returned_copy() {
        // Only the copy's stransid can tell that it is closer.
        in_this_order(&[own(256, 9), received(300, 10, 30, 29)]);
        in_this_order(&[received(300, 11, 30, 29), own(256, 9)]);
    }
}
