//! The k-th call of the destination fails, for every k.

use btrfs_model::MemoryDestination;
use btrfs_receive::{
    Begun, BtrfsDestination, Destination, Failure, Finished, NewSubvolume, Options, Receiver, Step,
};
use btrfs_sendstream::Position;
use btrfs_testkit::{LoopFilesystem, SentSample, Test, test};

use crate::support::{check_and_clear, check_memory, stored};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::anywhere(
            "every_call_of_a_model_fails_once",
            every_call_of_a_model_fails_once,
        ),
        test!(calls_of_a_btrfs_fail_once),
    ]
}

/// A destination of which one call fails.
struct Failing<D> {
    inner: D,
    /// Calls until the one that fails.
    left: usize,
    failed: bool,
    /// That of a step, which is asked for later.
    failure: Option<Failure>,
}

impl<D: Destination> Failing<D> {
    fn new(inner: D, left: usize) -> Self {
        Self {
            inner,
            left,
            failed: false,
            failure: None,
        }
    }

    fn count(&mut self, at: Position) -> Result<(), Failure> {
        if self.left > 0 {
            self.left -= 1;
            return Ok(());
        }
        if std::mem::replace(&mut self.failed, true) {
            return Ok(());
        }
        // Some failure: only the crate itself makes one of its own.
        MemoryDestination::new().finish(at).map(drop)
    }
}

impl<D: Destination> Destination for Failing<D> {
    fn begin(&mut self, new: &NewSubvolume, at: Position) -> Result<Begun, Failure> {
        self.count(at)?;
        self.inner.begin(new, at)
    }

    fn apply(&mut self, step: Step) {
        match self.count(step.at) {
            Ok(()) => self.inner.apply(step),
            Err(failure) => self.failure = Some(failure),
        }
    }

    fn next_failure(&mut self) -> Option<Failure> {
        self.failure.take().or_else(|| self.inner.next_failure())
    }

    fn settle(&mut self) -> Result<(), Failure> {
        self.count(Position::default())?;
        match self.failure.take() {
            Some(failure) => Err(failure),
            None => self.inner.settle(),
        }
    }

    fn finish(&mut self, at: Position) -> Result<Finished, Failure> {
        self.count(at)?;
        self.inner.finish(at)
    }

    fn abandon(&mut self) {
        self.inner.abandon();
    }
}

/// Runs a stream of which call `k` fails. Returns the destination, and
/// whether there were that many calls.
fn receive<D: Destination>(inner: D, stream: &[u8], k: usize, max_errors: u64) -> (D, bool) {
    let mut options = Options::default();
    options.max_errors = max_errors;
    let mut receiver = Receiver::with_options(Failing::new(inner, k), options);
    let result = receiver.receive(stream, &mut ());
    let failing = receiver.into_destination();
    assert_eq!(result.is_err(), failing.failed, "call {k}: {result:?}");
    (failing.inner, failing.failed)
}

fn every_call_of_a_model_fails_once() {
    let stream = [stored("full.v2.stream"), stored("incr.v2.stream")].concat();
    let mut receiver = Receiver::new(MemoryDestination::new());
    receiver.receive(&stream[..], &mut ()).unwrap();
    let complete = receiver.into_destination();
    let all = check_memory(&complete, &complete);
    assert_eq!(all, 2);
    for max_errors in [1, 0] {
        for k in 0.. {
            let (found, failed) = receive(MemoryDestination::new(), &stream, k, max_errors);
            let received = check_memory(&found, &complete);
            if !failed {
                assert_eq!(received, all);
                break;
            }
            assert!(received < all, "call {k}");
        }
    }
}

fn calls_of_a_btrfs_fail_once() {
    let sent = SentSample::new();
    let to = LoopFilesystem::new();
    let mut calls = 0;
    let mut step = 1;
    // Each of the first calls, then fewer and fewer, then past the last.
    for round in 0.. {
        let destination = BtrfsDestination::open(to.path()).unwrap();
        let (destination, failed) = receive(destination, &sent.stream, calls, 1 - round % 2);
        drop(destination);
        let received = check_and_clear(to.path(), sent.from.path());
        if !failed {
            assert_eq!(received, 2);
            break;
        }
        assert!(received < 2, "call {calls}");
        calls += step;
        step += 1 + step / 4;
    }
}
