//! Input that ends early, or has one damaged byte.

use btrfs_model::MemoryDestination;
use btrfs_receive::{BtrfsDestination, Options, Receiver};
use btrfs_testkit::{LoopFilesystem, SentSample, Test, test};

use crate::support::{Random, check_and_clear, check_memory, stored, tiny};

/// The version in a stream's header, which no checksum covers: version 1
/// read as 2 cannot be told from a stream that was sent so.
const VERSION: std::ops::Range<usize> = 13..17;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::anywhere("ends_at_every_byte", ends_at_every_byte),
        Test::anywhere("damaged_at_every_byte", damaged_at_every_byte),
        test!(ends_or_is_damaged_at_random),
        test!(the_same_on_btrfs),
    ]
}

/// A small stream with two subvolumes, both of which it completes.
fn small() -> Vec<u8> {
    let mut stream = stored("incr.v1.stream");
    stream.splice(0..0, stored("full.v1.stream"));
    stream
}

fn receive(stream: &[u8], max_errors: u64) -> (MemoryDestination, bool) {
    let mut options = Options::default();
    options.max_errors = max_errors;
    let mut receiver = Receiver::with_options(MemoryDestination::new(), options);
    let success = receiver.receive(stream, &mut ()).is_ok();
    (receiver.into_destination(), success)
}

fn ends_at_every_byte() {
    let stream = tiny();
    let (complete, success) = receive(&stream, 1);
    assert!(success);
    for end in 0..stream.len() {
        for max_errors in [1, 0] {
            let (found, success) = receive(&stream[..end], max_errors);
            assert!(!success, "cut at {end}");
            assert_eq!(check_memory(&found, &complete), 0, "cut at {end}");
        }
    }
}

fn damaged_at_every_byte() {
    let mut random = Random::new();
    let mut stream = tiny();
    let (complete, _) = receive(&stream, 1);
    for at in (0..stream.len()).filter(|at| !VERSION.contains(at)) {
        let bits = 1 + random.below(255) as u8;
        stream[at] ^= bits;
        let (found, success) = receive(&stream, (at % 2) as u64);
        assert!(!success, "byte {at} ^ {bits:#x}");
        assert_eq!(check_memory(&found, &complete), 0, "byte {at} ^ {bits:#x}");
        stream[at] ^= bits;
    }
}

fn ends_or_is_damaged_at_random() {
    let mut random = Random::new();
    let sent = SentSample::new();
    let mut inputs = vec![sent.stream];
    inputs.push(small());
    for mut stream in inputs {
        let (complete, _) = receive(&stream, 1);
        let all = check_memory(&complete, &complete);
        assert_eq!(all, 2);
        for _ in 0..500 {
            let at = random.below(stream.len());
            let (found, success) = receive(&stream[..at], 0);
            let received = check_memory(&found, &complete);
            // Nothing is wrong with the first stream alone.
            assert!(received < all && (!success || received == 1), "cut at {at}");
            let bits = 1 + random.below(255) as u8;
            if is_version(&stream, at) {
                continue;
            }
            stream[at] ^= bits;
            let (found, success) = receive(&stream, 0);
            stream[at] ^= bits;
            assert!(!success, "byte {at} ^ {bits:#x}");
            assert!(check_memory(&found, &complete) < all);
        }
    }
}

/// Whether a byte belongs to the version in a header.
fn is_version(stream: &[u8], at: usize) -> bool {
    let from = at.saturating_sub(VERSION.end);
    stream[from..at]
        .windows(13)
        .any(|window| window == b"btrfs-stream\0")
}

fn the_same_on_btrfs() {
    let mut random = Random::new();
    let mut sent = SentSample::new();
    let to = LoopFilesystem::new();
    for round in 0..24 {
        let at = random.below(sent.stream.len());
        let mut options = Options::default();
        options.max_errors = round % 2;
        let destination = BtrfsDestination::open(to.path()).unwrap();
        let mut receiver = Receiver::with_options(destination, options);
        let bits = 1 + random.below(255) as u8;
        if round % 3 == 0 {
            let _ = receiver.receive(&sent.stream[..at], &mut ());
        } else if !is_version(&sent.stream, at) {
            sent.stream[at] ^= bits;
            assert!(receiver.receive(&sent.stream[..], &mut ()).is_err());
            sent.stream[at] ^= bits;
        }
        drop(receiver);
        assert!(check_and_clear(to.path(), sent.from.path()) < 2, "at {at}");
    }
}
