//! Sets in order, with gaps, and in circles.

use btrfs_testkit::raw::{RawStream, attr};

use super::*;
use crate::inspect::Verifier;

fn uuid(number: u8) -> [u8; 16] {
    [number; 16]
}

/// A stream of a subvolume, `0` meaning that it needs no parent.
fn stream(name: &str, own: u8, parent: u8) -> Vec<u8> {
    let mut attributes = vec![attr::path(name), attr::uuid(uuid(own)), attr::ctransid(7)];
    let number = match parent {
        0 => 1,
        parent => {
            attributes.push(attr::clone_uuid(uuid(parent)));
            attributes.push(attr::clone_ctransid(7));
            2
        }
    };
    RawStream::header(1)
        .command(number, attributes)
        .end()
        .into_bytes()
}

fn chain(streams: &[Vec<u8>]) -> Chain {
    let verifier = Verifier::default();
    let reports: Vec<_> = streams.iter().map(|it| verifier.verify(&it[..])).collect();
    assert!(reports.iter().all(VerifyReport::is_good), "{reports:#?}");
    Chain::of(&reports)
}

fn member(input: usize) -> Member {
    Member {
        input,
        subvolume: 0,
    }
}

#[test]
fn parents_come_first() {
    let chain = chain(&[
        stream("c", 3, 2),
        stream("b", 2, 1),
        stream("other", 9, 0),
        stream("a", 1, 0),
    ]);
    assert_eq!(chain.order, [2, 3, 1, 0]);
    assert!(chain.is_whole());
}

#[test]
fn one_input_is_restored_with_all_that_it_needs() {
    let set = chain(&[
        stream("d", 4, 2),
        stream("c", 3, 2),
        stream("b", 2, 1),
        stream("other", 9, 0),
        stream("a", 1, 0),
        stream("a again", 1, 0),
        stream("circle", 7, 8),
        stream("circle too", 8, 7),
    ]);
    assert_eq!(set.needed_for(1).unwrap(), [4, 2, 1]);
    assert_eq!(set.needed_for(0).unwrap(), [4, 2, 0]);
    assert_eq!(set.needed_for(3).unwrap(), [3]);
    assert_eq!(set.needed_for(6), None);
    assert_eq!(set.needed_for(8), None);
    let gap = chain(&[stream("a", 1, 0), stream("d", 4, 3), stream("c", 3, 2)]);
    assert_eq!(gap.needed_for(1).unwrap(), [2, 1]);
}

#[test]
fn a_gap_is_named() {
    let chain = chain(&[stream("a", 1, 0), stream("c", 3, 2), stream("d", 4, 3)]);
    let missing = Missing {
        needed_by: member(1),
        wanted: SourceId {
            uuid: Uuid::from_bytes(uuid(2)),
            ctransid: 7,
        },
        is_parent: true,
    };
    assert_eq!(chain.missing, [missing]);
    assert_eq!(chain.order, [0, 1, 2]);
    assert!(!chain.is_whole());
}

#[test]
fn what_waits_for_itself_cannot_begin() {
    let chain = chain(&[stream("a", 1, 2), stream("b", 2, 1), stream("c", 3, 0)]);
    assert_eq!(chain.order, [2]);
    assert_eq!(chain.circular, [0, 1]);
}

#[test]
fn one_input_may_hold_a_chain() {
    let both = [stream("a", 1, 0), stream("b", 2, 1)].concat();
    let whole = chain(&[stream("c", 3, 2), both.clone()]);
    assert_eq!(whole.order, [1, 0]);
    assert!(whole.is_whole());
    // The parent comes too late.
    let reversed = [stream("b", 2, 1), stream("a", 1, 0)].concat();
    assert_eq!(chain(&[reversed]).missing.len(), 1);
}

#[test]
fn copies_and_names_that_are_taken_are_listed() {
    let chain = chain(&[stream("a", 1, 0), stream("a", 1, 0), stream("a", 2, 0)]);
    assert_eq!(chain.repeated, [(member(1), member(0))]);
    assert_eq!(chain.same_name, [(member(2), member(0))]);
    assert!(!chain.is_whole());
}

#[test]
fn the_first_command_of_each_input_is_enough_for_parents() {
    let streams = [stream("c", 3, 2), stream("a", 1, 0), stream("b", 2, 1)];
    // Cut behind the first command: 17 bytes of header, and 10 and more of it.
    let beginnings = streams.map(|stream| first_subvolume(&stream[..stream.len() - 10]).unwrap());
    let chain = Chain::of_subvolumes(&beginnings);
    assert_eq!(chain.order, [1, 2, 0]);
    assert!(chain.is_whole());
    let gap = Chain::of_subvolumes([&beginnings[0], &beginnings[1]]);
    assert_eq!(gap.missing.len(), 1);
    assert!(gap.missing[0].is_parent);
    assert!(first_subvolume(&b"btrfs-stream\0\x01\0\0\0"[..]).is_err());
    assert!(first_subvolume(&b"something else"[..]).is_err());
}
