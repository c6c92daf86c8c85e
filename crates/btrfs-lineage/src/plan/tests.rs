//! Plans without a filesystem.

use super::*;
use crate::inventory::{PathsFrom, Scope};

/// A subvolume, with its id as its UUID, read-only and never changed.
fn subvolume(id: u64) -> Subvolume {
    Subvolume {
        id,
        path: None,
        condition: Condition::ReadOnly,
        changed_since_received: None,
        state: SubvolumeState {
            uuid: uuid(id),
            ctransid: 10,
            otransid: 10,
            read_only: true,
            ..SubvolumeState::default()
        },
    }
}

fn uuid(id: u64) -> Uuid {
    Uuid::from_u128(id.into())
}

/// A snapshot of the subvolume `of`.
fn snapshot(id: u64, of: u64, ctransid: u64) -> Subvolume {
    let mut made = subvolume(id);
    made.state.parent_uuid = uuid(of);
    (made.state.ctransid, made.state.otransid) = (ctransid, ctransid + 1);
    made
}

/// Received from `source` as it is.
fn received(id: u64, source: &Subvolume) -> Subvolume {
    let mut copy = subvolume(id);
    let wanted = source.state.source_id();
    copy.condition = Condition::Complete;
    copy.changed_since_received = Some(false);
    copy.state.received_uuid = wanted.uuid;
    copy.state.stransid = wanted.ctransid;
    (copy.state.ctransid, copy.state.rtransid) = (100 + id, 101 + id);
    copy
}

fn writable(mut made: Subvolume) -> Subvolume {
    made.state.read_only = false;
    made.changed_since_received = None;
    made.condition = if made.state.received_uuid.is_nil() {
        Condition::Writable
    } else {
        Condition::WritableReceived
    };
    made
}

fn host(subvolumes: &[&Subvolume]) -> Inventory {
    Inventory {
        version: Inventory::VERSION,
        filesystem: Some(Uuid::from_u128(77)),
        searched: Scope::Filesystem,
        paths_from: PathsFrom::Top,
        complete: true,
        unseen: 0,
        missing_capabilities: Vec::new(),
        subvolumes: subvolumes.iter().map(|&it| it.clone()).collect(),
    }
}

#[track_caller]
fn planned(sender: &[&Subvolume], receiver: &[&Subvolume]) -> Plan {
    let snapshot = sender[0].id;
    let options = PlanOptions::default();
    plan(snapshot, &host(sender), &host(receiver), &options).unwrap()
}

/// What became of the second subvolume of the sender.
#[track_caller]
fn verdict(sender: &[&Subvolume], receiver: &[&Subvolume]) -> PlanVerdict {
    let plan = planned(sender, receiver);
    let verdict = plan.candidate(sender[1].id).unwrap().verdict;
    if plan.parent.is_none() {
        assert_eq!(plan.is_impossible(), !verdict.may_succeed());
    }
    verdict
}

#[test]
fn what_was_received_from_it_is_found() {
    let (old, new) = (snapshot(2, 9, 20), snapshot(1, 9, 30));
    let copy = received(3, &old);
    assert_eq!(verdict(&[&new, &old], &[&copy]), PlanVerdict::Parent);
    // The other way: the original is on the receiver.
    let back = subvolume(4);
    assert_eq!(verdict(&[&back, &copy], &[&old]), PlanVerdict::Parent);
    // Both were received from a third.
    let other = received(5, &old);
    assert_eq!(verdict(&[&back, &copy], &[&other]), PlanVerdict::Parent);
    // It was passed on, and comes from the copy's copy.
    let onward = received(6, &copy);
    assert_eq!(onward.state.received_uuid, old.state.uuid);
    assert_eq!(verdict(&[&back, &copy], &[&onward]), PlanVerdict::Parent);
    assert_eq!(verdict(&[&back, &onward], &[&copy]), PlanVerdict::Parent);
    // Within one filesystem.
    assert_eq!(verdict(&[&new, &old], &[&new, &old]), PlanVerdict::Parent);
    // Nothing else was.
    let stranger = received(7, &subvolume(8));
    assert_eq!(verdict(&[&new, &old], &[&stranger]), PlanVerdict::NotThere);
    assert!(planned(&[&new, &old], &[]).is_impossible());
}

#[test]
fn what_came_by_other_hosts_is_left_out_unless_trusted() {
    let (old, new) = (snapshot(2, 9, 20), snapshot(1, 9, 30));
    let onward = received(4, &received(3, &old));
    let doubt = PlanVerdict::Doubtful(Doubt::Relayed(4));
    assert_eq!(verdict(&[&new, &old], &[&onward]), doubt);
    let (here, there) = (host(&[&new, &old]), host(&[&onward]));
    let options = PlanOptions {
        trust_relayed: true,
        ..PlanOptions::default()
    };
    assert_eq!(plan(1, &here, &there, &options).unwrap().parent, Some(2));
    // A program that sets the received UUID itself knows no stransid.
    let mut set = received(5, &old);
    set.state.stransid = 0;
    let mut own = received(6, &old);
    own.state.stransid = 0;
    let doubt = PlanVerdict::Doubtful(Doubt::NoTransid);
    assert_eq!(verdict(&[&new, &own], &[&set]), doubt);
    assert_eq!(
        plan(1, &here, &host(&[&set]), &options).unwrap().parent,
        None
    );
}

#[test]
fn what_was_changed_is_left_out() {
    let (old, new) = (snapshot(2, 9, 20), snapshot(1, 9, 30));
    let copy = received(3, &old);
    // The original, after it was sent.
    let mut changed = old.clone();
    changed.state.ctransid = 40;
    let doubt = PlanVerdict::Doubtful(Doubt::OtherState(3));
    assert_eq!(verdict(&[&new, &changed], &[&copy]), doubt);
    // It was sent again since.
    let again = received(4, &changed);
    assert_eq!(verdict(&[&new, &changed], &[&again]), PlanVerdict::Parent);
    // The copy there.
    let mut spoiled = copy.clone();
    spoiled.changed_since_received = Some(true);
    let doubt = PlanVerdict::Doubtful(Doubt::ChangedThere(3));
    assert_eq!(verdict(&[&new, &old], &[&spoiled]), doubt);
    spoiled.changed_since_received = None;
    let doubt = PlanVerdict::Doubtful(Doubt::UnknownThere(3));
    assert_eq!(verdict(&[&new, &old], &[&spoiled]), doubt);
    // The copy here: what the receiver has is what it was.
    let back = subvolume(5);
    let mut spoiled = copy.clone();
    spoiled.changed_since_received = Some(true);
    let doubt = PlanVerdict::Doubtful(Doubt::ChangedHere);
    assert_eq!(verdict(&[&back, &spoiled], &[&old]), doubt);
    assert_eq!(verdict(&[&back, &spoiled], &[&received(6, &old)]), doubt);
    spoiled.changed_since_received = None;
    let doubt = PlanVerdict::Doubtful(Doubt::UnknownHere);
    assert_eq!(verdict(&[&back, &spoiled], &[&old]), doubt);
    // But what was sent after the change is the same.
    spoiled.changed_since_received = Some(true);
    spoiled.state.ctransid = 300;
    let onward = received(7, &spoiled);
    assert_eq!(verdict(&[&back, &spoiled], &[&onward]), PlanVerdict::Parent);
}

#[test]
fn what_is_writable_is_left_out() {
    let (old, new) = (snapshot(2, 9, 20), snapshot(1, 9, 30));
    let copy = received(3, &old);
    let open = writable(old.clone());
    assert_eq!(verdict(&[&new, &open], &[&copy]), PlanVerdict::Writable);
    let last_resort = writable(copy.clone());
    let doubt = PlanVerdict::Doubtful(Doubt::WritableThere(3));
    assert_eq!(verdict(&[&new, &old], &[&last_resort]), doubt);
    // A receive passes over these.
    let mut unfinished = last_resort.clone();
    unfinished.condition = Condition::Unfinished;
    assert_eq!(
        verdict(&[&new, &old], &[&unfinished]),
        PlanVerdict::NotThere
    );
    assert_eq!(verdict(&[&new, &copy], &[&open]), PlanVerdict::NotThere);
    let finished = received(4, &old);
    let there = [&unfinished, &finished];
    assert_eq!(verdict(&[&new, &old], &there), PlanVerdict::Parent);
    assert_eq!(
        verdict(&[&new, &unfinished], &[&old]),
        PlanVerdict::Unfinished
    );
    let error = plan(2, &host(&[&open]), &host(&[]), &PlanOptions::default());
    assert_eq!(error, Err(PlanError::Writable(2)));
    let error = plan(9, &host(&[&open]), &host(&[]), &PlanOptions::default());
    assert_eq!(error, Err(PlanError::NoSnapshot(9)));
}

#[test]
fn another_with_the_same_uuid_makes_it_doubtful() {
    let (old, new) = (snapshot(2, 9, 20), snapshot(1, 9, 30));
    let good = received(4, &old);
    let mut spoiled = received(3, &old);
    spoiled.changed_since_received = Some(true);
    let mut earlier = received(3, &old);
    earlier.state.stransid = 15;
    for other in [spoiled, earlier, writable(received(3, &old))] {
        let doubt = PlanVerdict::Doubtful(Doubt::Another(3));
        let receiver = [&other, &good];
        assert_eq!(verdict(&[&new, &old], &receiver), doubt, "{other:?}");
        let there = &planned(&[&new, &old], &receiver).candidates[0].there;
        assert_eq!(there, &[4, 3]);
    }
    // Twice the same is as good as once.
    let twice = [&received(3, &old), &good];
    assert_eq!(verdict(&[&new, &old], &twice), PlanVerdict::Parent);
}

#[test]
fn the_nearest_is_the_parent_and_the_next_are_clone_sources() {
    // Snapshots of 9, taken in this order; and 8, a writable snapshot of the
    // second, of which the one to be sent was taken.
    let taken: Vec<_> = (1..=4).map(|at| snapshot(10 + at, 9, 10 * at)).collect();
    let work = writable(snapshot(8, 12, 20));
    let new = snapshot(20, 8, 60);
    let unrelated = subvolume(30);
    let copies: Vec<_> = taken.iter().chain([&unrelated]).collect();
    let copies: Vec<_> = copies.iter().map(|it| received(100 + it.id, it)).collect();
    let mut sender = vec![&new, &work, &unrelated];
    sender.extend(&taken);
    let receiver: Vec<_> = copies.iter().collect();
    let found = planned(&sender, &receiver);
    // 12 is two steps away; from the others there are four, by way of 9.
    assert_eq!(found.parent, Some(12));
    assert_eq!(found.clone_sources, [14, 13, 11]);
    assert_eq!(found.candidate(12).unwrap().steps, Some(2));
    assert_eq!(found.candidate(11).unwrap().steps, Some(4));
    let last = found.candidate(30).unwrap();
    assert_eq!((last.steps, last.verdict), (None, PlanVerdict::Unrelated));
    // The working subvolume is writable and not there: nobody thought of it.
    assert_eq!(found.candidate(8), None);

    let options = PlanOptions {
        max_clone_sources: 1,
        not_mounted: BTreeSet::from([12]),
        ..PlanOptions::default()
    };
    let (here, there) = (host(&sender), host(&receiver));
    let found = plan(20, &here, &there, &options).unwrap();
    assert_eq!(
        (found.parent, &found.clone_sources[..]),
        (Some(14), &[13][..])
    );
    assert_eq!(
        found.candidate(12).unwrap().verdict,
        PlanVerdict::NotMounted
    );
    assert_eq!(found.candidate(11).unwrap().verdict, PlanVerdict::Farther);

    // What nothing is known of is better than nothing.
    let found = planned(&[&new, &unrelated], &[&received(130, &unrelated)]);
    assert_eq!((found.parent, found.clone_sources.len()), (Some(30), 0));
}

#[test]
fn between_equals_time_and_id_decide() {
    let new = snapshot(1, 9, 30);
    let mut taken: Vec<_> = (2..=4).map(|id| snapshot(id, 9, 20)).collect();
    for (subvolume, seconds) in taken.iter_mut().zip([100, 300, 300]) {
        subvolume.state.otime.seconds = seconds;
    }
    let mut sent = new.clone();
    sent.state.otime.seconds = 400;
    let copies: Vec<_> = taken.iter().map(|it| received(it.id + 10, it)).collect();
    let sender = [&sent, &taken[2], &taken[1], &taken[0]];
    let receiver: Vec<_> = copies.iter().collect();
    let found = planned(&sender, &receiver);
    assert_eq!(
        (found.parent, &found.clone_sources[..]),
        (Some(3), &[4, 2][..])
    );
}

#[test]
fn incremental_receives_lead_to_each_other() {
    // Each was received onto the one before: a chain of parent UUIDs. One was
    // deleted since.
    let chain: Vec<_> = (0..50)
        .map(|at| {
            let mut copy = received(200 + at, &subvolume(100 + at));
            copy.state.parent_uuid = uuid(200 + at - 1);
            copy
        })
        .collect();
    let there: Vec<_> = chain.iter().map(|it| received(it.id + 100, it)).collect();
    let mut sender: Vec<_> = chain.iter().rev().collect();
    sender.retain(|it| it.id != 240);
    let receiver: Vec<_> = there.iter().filter(|it| it.id < 335).collect();
    let found = planned(&sender, &receiver);
    assert_eq!(found.parent, Some(234));
    // Beyond the gap nothing is known, but that they were received one after the
    // other.
    assert_eq!(found.candidate(241).unwrap().steps, Some(8));
    assert_eq!(found.candidate(234).unwrap().steps, None);
    // The deleted one is known of from the one that was taken of it.
    let onto_deleted = snapshot(500, 240, 340);
    sender.insert(0, &onto_deleted);
    let found = planned(&sender, &receiver);
    assert_eq!(found.candidate(241).unwrap().steps, Some(2));
}

#[test]
fn circles_of_parents_end() {
    let (mut one, mut two) = (snapshot(1, 2, 10), snapshot(2, 1, 10));
    let (three, four) = (snapshot(3, 4, 10), snapshot(4, 3, 10));
    (one.state.otransid, two.state.otransid) = (11, 11);
    let found = planned(&[&one, &two, &three, &four], &[&received(9, &two)]);
    assert_eq!(found.parent, Some(2));
    assert_eq!(found.candidate(3).unwrap().steps, None);
}

#[test]
fn copies_of_the_snapshot_itself_are_listed() {
    let (old, new) = (snapshot(2, 9, 20), snapshot(1, 9, 30));
    let (same, mut other) = (received(3, &new), received(4, &new));
    other.changed_since_received = Some(true);
    let found = planned(&[&new, &old], &[&same, &other]);
    assert_eq!(found.already_there, [3]);
    assert_eq!(found.other_states_there, [4]);
    assert!(found.is_impossible());
    // A snapshot of a copy has its received UUID.
    let copy = received(5, &old);
    let mut taken = copy.clone();
    (taken.id, taken.state.uuid) = (6, uuid(6));
    let doubt = PlanVerdict::SameUuid;
    assert_eq!(verdict(&[&taken, &copy], &[&old]), doubt);
}

#[test]
fn what_was_not_seen_is_not_impossible() {
    let new = snapshot(1, 9, 30);
    let mut unseen = host(&[]);
    unseen.complete = false;
    let options = PlanOptions::default();
    let found = plan(1, &host(&[&new]), &unseen, &options).unwrap();
    assert!(found.parent.is_none() && !found.is_impossible());
    let mut part = host(&[]);
    part.searched = Scope::Directory;
    let found = plan(1, &host(&[&new]), &part, &options).unwrap();
    assert!(!found.is_impossible());
}

#[test]
fn a_long_chain_takes_no_longer_than_it_is() {
    let chain: Vec<_> = (0..30_000)
        .map(|at| {
            let mut copy = received(100_000 + at, &subvolume(200_000 + at));
            copy.state.parent_uuid = uuid(100_000 + at + 1);
            copy
        })
        .collect();
    let receiver = received(1, &chain[29_999]);
    let sender: Vec<_> = chain.iter().collect();
    let found = planned(&sender, &[&receiver]);
    assert_eq!(found.parent, Some(129_999));
    assert_eq!(found.candidate(129_999).unwrap().steps, Some(29_999));
}
