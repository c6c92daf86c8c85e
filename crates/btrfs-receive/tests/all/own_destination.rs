//! What a crate of somebody else's can do with the public interface alone: a
//! [`Destination`] of its own, an observer, and a receive that is driven
//! command by command, stopped and gone on with.

use btrfs_testkit::Test;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::time::Duration;

use btrfs_receive::btrfs_lineage::SourceUsed;
use btrfs_receive::btrfs_sendstream::{Command, CommandKind, Item, Position, Reader};
use btrfs_receive::{
    Begun, Cause, Destination, Event, Failure, Finished, Flow, NewSubvolume, Observer, Op, Options,
    Outcome, ReceiveError, Receiver, Step, StopReason, Totals, Waits,
};

/// Counts what would be done, and fails where it is told to.
#[derive(Debug, Default)]
struct Counting {
    finished: Vec<(String, u64)>,
    operations: BTreeMap<&'static str, u64>,
    bytes: u64,
    current: Option<NewSubvolume>,
    abandoned: u64,
    fail_at: Option<&'static str>,
    failures: VecDeque<Failure>,
}

#[derive(Debug, thiserror::Error)]
#[error("the bucket is full")]
struct BucketFull;

impl Destination for Counting {
    fn begin(&mut self, new: &NewSubvolume, _: Position) -> Result<Begun, Failure> {
        assert!(self.current.is_none(), "one at a time");
        self.current = Some(new.clone());
        let mut begun = Begun::default();
        // Any parent will do here.
        begun.parent = new
            .parent
            .map(|wanted| SourceUsed::new(wanted, 256, wanted.uuid));
        Ok(begun)
    }

    fn apply(&mut self, step: Step) {
        let operation = step.op.name();
        if self.fail_at == Some(operation) {
            let path = step.op.path().as_bytes();
            let cause = Cause::Other(Box::new(BucketFull));
            let failure = Failure::new(step.at, operation, path, cause);
            return self.failures.push_back(failure);
        }
        *self.operations.entry(operation).or_default() += 1;
        if let Op::Write { data, .. } = &step.op {
            self.bytes += data.iter().map(|piece| piece.len() as u64).sum::<u64>();
        }
    }

    fn next_failure(&mut self) -> Option<Failure> {
        self.failures.pop_front()
    }

    fn settle(&mut self) -> Result<(), Failure> {
        // Nothing is queued.
        self.next_failure().map_or(Ok(()), Err)
    }

    fn finish(&mut self, at: Position) -> Result<Finished, Failure> {
        let Some(new) = self.current.take() else {
            return Err(Failure::new(at, "finish", b"", Cause::NothingToFinish));
        };
        self.finished.push((new.name.to_string(), new.ctransid));
        let mut finished = Finished::default();
        finished.subvolume_id = Some(256 + self.finished.len() as u64);
        Ok(finished)
    }

    fn waits(&self) -> Waits {
        let mut waits = Waits::default();
        waits.data = Duration::from_nanos(self.bytes);
        waits.metadata = Duration::from_nanos(self.operations.values().sum());
        waits
    }

    fn abandon(&mut self) {
        self.abandoned += u64::from(self.current.take().is_some());
    }
}

/// Writes down what it is told.
#[derive(Default)]
struct Log {
    lines: Vec<String>,
    commands: u64,
    progress: Vec<Totals>,
}

impl Observer for Log {
    fn event(&mut self, event: Event<'_>) {
        self.lines.push(match event {
            Event::SubvolumeBegins { new, .. } => format!("begins {}", new.name),
            Event::SubvolumeCreated { new, parent } => {
                format!("created {}, parent: {}", new.name, parent.is_some())
            }
            Event::Failed(failure) => format!("failed {}", failure.operation),
            Event::SubvolumeFinished(report) => format!("finished {}", report.name),
            Event::SubvolumeAbandoned(report) => format!("abandoned {}", report.name),
            Event::Command { .. } => return self.commands += 1,
            Event::Progress { totals, .. } => return self.progress.push(totals),
            _ => return,
        });
    }

    fn wants_commands(&self) -> bool {
        true
    }
}

/// A stream that a kernel wrote; `None` where there is no repository around
/// the crate.
fn stream(name: &str) -> Option<Vec<u8>> {
    let streams = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/streams");
    let path = streams.join(format!("{name}.stream"));
    streams.is_dir().then(|| std::fs::read(path).unwrap())
}

/// Hands over every item of `input` until the receiver has enough.
fn drive(
    receiver: &mut Receiver<Counting>,
    input: &[u8],
    observer: &mut dyn Observer,
) -> Result<btrfs_receive::Report, Box<ReceiveError>> {
    let mut reader = Reader::new(input);
    loop {
        match reader.next_owned() {
            Ok(Some(item)) => {
                if receiver.item(item, reader.position(), observer)? == Flow::Done {
                    break;
                }
            }
            Ok(None) => break,
            Err(error) => {
                return Err(Box::new(
                    receiver.abort(StopReason::Stream(error), observer),
                ));
            }
        }
    }
    Ok(receiver.end(observer)?)
}

fn a_destination_of_ones_own() {
    let Some(input) = stream("multi.v1") else {
        return;
    };
    let (mut receiver, mut log) = (Receiver::new(Counting::default()), Log::default());
    let report = receiver.receive(&input[..], &mut log).unwrap();
    assert_eq!(report.bytes, input.len() as u64);
    assert_eq!(report.finished, 2);
    assert_eq!(report.subvolumes[1].subvolume_id, Some(258));
    let destination = receiver.into_destination();
    assert_eq!(destination.finished.len(), 2);
    assert!(destination.operations["mkfile"] > 0);
    assert!(destination.bytes > 0);
    // All but SUBVOL or SNAPSHOT and END.
    assert_eq!(log.commands, report.commands - 4);
    let name = &destination.finished[0].0;
    assert_eq!(log.lines[0], format!("begins {name}"));
    assert_eq!(log.lines[1], format!("created {name}, parent: false"));
    assert_eq!(log.lines[2], format!("finished {name}"));
}

fn an_error_of_ones_own() {
    let Some(input) = stream("full.v1") else {
        return;
    };
    let destination = Counting {
        fail_at: Some("write"),
        ..Counting::default()
    };
    let (mut receiver, mut log) = (Receiver::new(destination), Log::default());
    let error = receiver.receive(&input[..], &mut log).unwrap_err();
    let failure = error.first_failure.as_ref().unwrap();
    assert!(error.to_string().ends_with("the bucket is full"), "{error}");
    match &*failure.cause {
        Cause::Other(other) => assert!(other.is::<BucketFull>()),
        other => panic!("{other}"),
    }
    assert_eq!(error.report.subvolumes[0].outcome, Outcome::Abandoned);
    assert_eq!(log.lines[2], "failed write");
    assert!(log.lines[3].starts_with("abandoned "));
    assert_eq!(receiver.destination().abandoned, 1);
}

fn each_receive_has_its_own_waits() {
    let Some(input) = stream("full.v1") else {
        return;
    };
    let mut receiver = Receiver::new(Counting::default());
    for _ in 0..2 {
        let (bytes, operations) = {
            let destination = receiver.destination();
            (
                destination.bytes,
                destination.operations.values().sum::<u64>(),
            )
        };
        let waits = receiver.receive(&input[..], &mut ()).unwrap().waits;
        let destination = receiver.destination();
        let nanos = Duration::from_nanos;
        assert_eq!(waits.data, nanos(destination.bytes - bytes));
        let done: u64 = destination.operations.values().sum();
        assert_eq!(waits.metadata, nanos(done - operations));
        assert!(waits.input + waits.sync <= waits.total, "{waits:?}");
        assert!(waits.work() <= waits.total, "{waits:?}");
    }
}

fn driven_command_by_command() {
    for name in ["full.v1", "multi.v1", "multi-one-end.v1", "incr-clone.v2"] {
        let Some(input) = stream(name) else {
            return;
        };
        let mut whole = Receiver::new(Counting::default());
        let expected = whole.receive(&input[..], &mut ()).unwrap();
        let mut driven = Receiver::new(Counting::default());
        let mut report = drive(&mut driven, &input, &mut ()).unwrap();
        // The reader alone knows where the input ended.
        assert!(report.bytes < expected.bytes);
        report.bytes = expected.bytes;
        report.waits = expected.waits;
        assert_eq!(report, expected, "{name}");
        let (whole, driven) = (whole.into_destination(), driven.into_destination());
        assert_eq!(driven.operations, whole.operations, "{name}");
        assert_eq!(driven.finished, whole.finished, "{name}");
    }
}

fn a_driven_receive_over_a_cut_stream() {
    let Some(input) = stream("full.v1") else {
        return;
    };
    let cut = &input[..input.len() - 40];
    let mut whole = Receiver::new(Counting::default());
    let expected = whole.receive(cut, &mut ()).unwrap_err();
    let mut driven = Receiver::new(Counting::default());
    let error = drive(&mut driven, cut, &mut ()).unwrap_err();
    assert_eq!(error.to_string(), expected.to_string());
    assert!(matches!(error.reason, StopReason::Stream(_)));
    assert_eq!(
        driven.destination().operations,
        whole.destination().operations
    );
    assert_eq!(driven.destination().abandoned, 1);
    // The receiver can be used again.
    let report = drive(&mut driven, &input, &mut ()).unwrap();
    assert_eq!(report.finished, 1);
}

fn a_driven_receive_can_be_cancelled() {
    let Some(input) = stream("full.v1") else {
        return;
    };
    let options = Options::default();
    let cancel = options.cancel.clone();
    let mut receiver = Receiver::with_options(Counting::default(), options);
    let mut reader = Reader::new(&input[..]);
    for _ in 0..10 {
        let item = reader.next_owned().unwrap().unwrap();
        let flow = receiver.item(item, reader.position(), &mut ()).unwrap();
        assert_eq!(flow, Flow::Continue);
    }
    cancel.cancel();
    let item = reader.next_owned().unwrap().unwrap();
    let error = receiver.item(item, reader.position(), &mut ()).unwrap_err();
    assert!(matches!(error.reason, StopReason::Cancelled));
    assert_eq!(error.report.abandoned, 1);
    assert_eq!(receiver.destination().abandoned, 1);
}

fn a_command_without_subvolume_is_refused() {
    let Some(input) = stream("full.v1") else {
        return;
    };
    let mut receiver = Receiver::new(Counting::default());
    let mut reader = Reader::new(&input[..]);
    let orphan = loop {
        match reader.next_owned().unwrap().unwrap() {
            Item::Command(command @ Command::Mkfile { .. }) => break command,
            _ => continue,
        }
    };
    assert_eq!(orphan.kind(), CommandKind::Mkfile);
    let error = receiver
        .item(Item::Command(orphan), reader.position(), &mut ())
        .unwrap_err();
    let failure = error.first_failure.unwrap();
    assert!(matches!(*failure.cause, Cause::NothingToFinish));
}

fn progress_is_told_for_each_mebibyte() {
    use btrfs_receive::btrfs_sendstream::{
        Bytes, CommandBuf, Encoder, StreamPath, SubvolumeName, Uuid, Version,
    };
    let (mut encoder, mut input) = (Encoder::new(), Vec::new());
    let path = StreamPath::parse(Bytes::from_static(b"file")).unwrap();
    let mut commands: Vec<CommandBuf> = vec![
        Command::Subvol {
            name: SubvolumeName::parse(Bytes::from_static(b"new")).unwrap(),
            uuid: Uuid::from_u128(1),
            ctransid: 1,
        },
        Command::Mkfile {
            path: path.clone(),
            ino: 257,
        },
    ];
    for index in 0..100 {
        commands.push(Command::Write {
            path: path.clone(),
            offset: index * 48 * 1024,
            data: Bytes::from(vec![7; 48 * 1024]),
        });
    }
    commands.push(Command::End);
    encoder.header(Version::V1, &mut input).unwrap();
    for command in &commands {
        encoder.command(command, &mut input).unwrap();
    }

    let mut receiver = Receiver::new(Counting::default());
    for _ in 0..2 {
        let mut log = Log::default();
        let report = receiver.receive(&input[..], &mut log).unwrap();
        assert_eq!(report.commands, 103);
        assert_eq!(log.progress.len(), 4);
        let mut last = 0;
        for totals in log.progress {
            let more = totals.bytes - last;
            assert!((Event::PROGRESS_BYTES..(1 << 20) + 50_000).contains(&more));
            // Those before this one, with SUBVOL and MKFILE.
            assert_eq!(totals.written, (totals.commands - 2) * 48 * 1024);
            assert!(totals.written < totals.bytes && totals.bytes - totals.written < 10_000);
            assert_eq!((totals.files, totals.cloned, totals.subvolumes), (1, 0, 0));
            last = totals.bytes;
        }
    }
    assert_eq!(receiver.into_destination().bytes, 2 * 100 * 48 * 1024);
}

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::anywhere("a_destination_of_ones_own", a_destination_of_ones_own),
        Test::anywhere("an_error_of_ones_own", an_error_of_ones_own),
        Test::anywhere(
            "each_receive_has_its_own_waits",
            each_receive_has_its_own_waits,
        ),
        Test::anywhere("driven_command_by_command", driven_command_by_command),
        Test::anywhere(
            "a_driven_receive_over_a_cut_stream",
            a_driven_receive_over_a_cut_stream,
        ),
        Test::anywhere(
            "a_driven_receive_can_be_cancelled",
            a_driven_receive_can_be_cancelled,
        ),
        Test::anywhere(
            "a_command_without_subvolume_is_refused",
            a_command_without_subvolume_is_refused,
        ),
        Test::anywhere(
            "progress_is_told_for_each_mebibyte",
            progress_is_told_for_each_mebibyte,
        ),
    ]
}
