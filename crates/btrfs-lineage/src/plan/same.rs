//! Whether two subvolumes on two hosts hold the same, by what is known about
//! them.

use super::{Doubt, Subvolume};
use crate::SubvolumeState;

/// What is known about a pair.
pub(super) enum Match {
    Same,
    Doubtful(Doubt),
}

/// Compares a subvolume of the sender with one of the receiver that has the UUID
/// by which a stream names it.
///
/// `btrfs send` and the receivers leave this: the received UUID and the stransid
/// of a copy are the UUID (or the received UUID) and the ctransid that its source
/// had when it was sent. The ctransid grows with every change, and the kernel
/// writes out what is in memory before it sends.
pub(super) fn compare(here: &Subvolume, there: &Subvolume) -> Match {
    let (one, other) = (&here.state, &there.state);
    if !other.read_only {
        return Match::Doubtful(Doubt::WritableThere(there.id));
    }
    // What has to be unchanged since it was received, if the marks say that they
    // hold the same.
    let proofs = [
        // The same subvolume of one filesystem.
        (
            !one.uuid.is_nil() && one.uuid == other.uuid && one.ctransid == other.ctransid,
            false,
            false,
        ),
        // There it was received from here.
        (is_copy_of(other, one), false, true),
        // Here it was received from there.
        (is_copy_of(one, other), true, false),
        // Both were received from a third.
        (are_copies_of_one(one, other), true, true),
    ];
    let mut doubt = None;
    for (marks_fit, needs_here, needs_there) in proofs {
        if !marks_fit {
            continue;
        }
        match unchanged(here, there, needs_here, needs_there) {
            Ok(()) => return Match::Same,
            Err(found) => doubt = doubt.or(Some(found)),
        }
    }
    Match::Doubtful(doubt.unwrap_or_else(|| why_not(here, there)))
}

fn unchanged(
    here: &Subvolume,
    there: &Subvolume,
    needs_here: bool,
    needs_there: bool,
) -> Result<(), Doubt> {
    if needs_here {
        match here.changed_since_received {
            Some(false) => {}
            Some(true) => return Err(Doubt::ChangedHere),
            None => return Err(Doubt::UnknownHere),
        }
    }
    if needs_there {
        match there.changed_since_received {
            Some(false) => {}
            Some(true) => return Err(Doubt::ChangedThere(there.id)),
            None => return Err(Doubt::UnknownThere(there.id)),
        }
    }
    Ok(())
}

/// Whether `copy` was received from `original` in its present state. A stransid
/// of 0 is that of programs that set it themselves, and says nothing.
fn is_copy_of(copy: &SubvolumeState, original: &SubvolumeState) -> bool {
    let source = original.source_id();
    !copy.received_uuid.is_nil()
        && copy.received_uuid == source.uuid
        && copy.stransid != 0
        && copy.stransid == source.ctransid
}

/// Whether both were received from the same state of the same subvolume.
fn are_copies_of_one(one: &SubvolumeState, other: &SubvolumeState) -> bool {
    !one.received_uuid.is_nil()
        && one.received_uuid == other.received_uuid
        && one.stransid != 0
        && one.stransid == other.stransid
}

/// Why the marks of two that stand for the same subvolume do not fit.
fn why_not(here: &Subvolume, there: &Subvolume) -> Doubt {
    let without_transid =
        |state: &SubvolumeState| !state.received_uuid.is_nil() && state.stransid == 0;
    match (is_pristine(here), is_pristine(there)) {
        (Some(true), Some(true))
            if without_transid(&here.state) || without_transid(&there.state) =>
        {
            Doubt::NoTransid
        }
        (Some(true), Some(true)) => Doubt::Relayed(there.id),
        (Some(false), _) if !here.state.received_uuid.is_nil() => Doubt::ChangedHere,
        (_, Some(false)) if !there.state.received_uuid.is_nil() => Doubt::ChangedThere(there.id),
        (None, _) => Doubt::UnknownHere,
        (_, None) => Doubt::UnknownThere(there.id),
        (Some(false), _) | (_, Some(false)) => Doubt::OtherState(there.id),
    }
}

/// Whether a subvolume holds what it did when it was created, or received;
/// `None` if that is not known.
fn is_pristine(subvolume: &Subvolume) -> Option<bool> {
    let state = &subvolume.state;
    if state.received_uuid.is_nil() {
        // A snapshot has the ctransid of what it was taken of.
        return Some(state.ctransid <= state.otransid);
    }
    subvolume.changed_since_received.map(|changed| !changed)
}
