//! Files are changed at the same time, and the result is as if they were changed
//! one after the other.

use std::io::Write;
use std::path::Path;

use btrfs_receive::btrfs_sendstream::Command;
use btrfs_receive::{BtrfsDestination, Event, Observer, Options, ReceiveError, Receiver, Report};
use btrfs_testkit::{
    Compared, LoopFilesystem, Test, assert_same_tree_in, property_runner, subvolume, test,
};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use proptest::prelude::*;

use crate::support::{Extent, Script, path, takes_encoded_writes, time};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(any_program_gives_what_one_lane_gives),
        test!(failures_come_in_the_order_of_the_stream),
        test!(what_is_looked_for_at_the_end_is_there_with_many_lanes),
    ]
}

/// Far more than there are processors.
const MANY: usize = 16;

fn receive_in_lanes(lanes: usize, stream: &[u8], into: &Path) -> Result<Report, ReceiveError> {
    let destination = BtrfsDestination::builder().lanes(lanes).open(into).unwrap();
    Receiver::new(destination).receive(stream, &mut ())
}

/// Names that files can have.
const NAMES: [&str; 8] = ["a", "b", "c", "d/e", "d/f", "d/g", "h", "i"];
const BLOCK: u64 = 4096;

/// What may come next: the kind, two names, two numbers.
type Choice = (u8, usize, usize, u64, u64);

/// A stream that cannot fail, of commands on a few files whose order matters:
/// the state says which of the choices are possible.
#[derive(Default)]
struct Program {
    /// The file that a name stands for.
    names: [Option<usize>; NAMES.len()],
    sizes: Vec<u64>,
}

impl Program {
    fn stream(choices: &[Choice]) -> Vec<u8> {
        let mut program = Self::default();
        let mut script = Script::full("s").directory("d");
        for choice in choices {
            script = program.next(script, *choice);
        }
        // So that the times tell nothing of when each was received.
        let names = NAMES.iter().zip(&program.names);
        for (name, _) in names.filter(|(_, file)| file.is_some()) {
            script = script.times(name, time(1, 0), time(2, 0));
        }
        script = script.times("d", time(1, 0), time(2, 0));
        script.times("", time(1, 0), time(2, 0)).end()
    }

    fn next(&mut self, script: Script, (kind, one, other, x, y): Choice) -> Script {
        let (name, to) = (NAMES[one], NAMES[other]);
        let Some(file) = self.names[one] else {
            self.names[one] = Some(self.sizes.len());
            self.sizes.push(0);
            return script.file(name);
        };
        let size = self.sizes[file];
        match kind {
            0..=3 => {
                let (offset, data) = (x % (64 * BLOCK), vec![y as u8; 1 + y as usize % 20_000]);
                self.sizes[file] = size.max(offset + data.len() as u64);
                script.write(name, offset, &data)
            }
            4 => {
                self.sizes[file] = x % (64 * BLOCK);
                script.truncate(name, self.sizes[file])
            }
            5..=7 => self.clone(script, one, other, x, y),
            8 => {
                // A rename over its own link does nothing.
                if self.names[other] != Some(file) {
                    self.names[other] = self.names[one].take();
                }
                script.rename(name, to)
            }
            9 if self.names[other].is_none() => {
                self.names[other] = Some(file);
                script.link(name, to)
            }
            10 => {
                self.names[one] = None;
                script.unlink(name)
            }
            11 => script.mode(name, x % 0o1000),
            12 => script.owner(name, x % 10, y % 10),
            13 => script.xattr(name, "user.x", &y.to_le_bytes()),
            14 => script.times(name, time(1, 0), time((x % 1000) as i64, 7)),
            15 => {
                let offset = x % 32 * BLOCK;
                self.sizes[file] = size.max(offset + BLOCK);
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(&[y as u8; BLOCK as usize]).unwrap();
                let extent = Extent {
                    offset,
                    file_len: BLOCK,
                    len: BLOCK,
                    skip: 0,
                    compression: 1,
                };
                script.encoded(name, &extent, &encoder.finish().unwrap())
            }
            // FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
            16 => script.command(&Command::Fallocate {
                path: path(name),
                mode: 3,
                offset: x % (64 * BLOCK),
                len: 1 + y % (8 * BLOCK),
            }),
            _ => script,
        }
    }

    /// Blocks within both files, which do not overlap if it is the same one.
    fn clone(&mut self, script: Script, one: usize, other: usize, x: u64, y: u64) -> Script {
        let (Some(to), Some(from)) = (self.names[one], self.names[other]) else {
            return script;
        };
        let blocks = self.sizes[from] / BLOCK;
        if blocks == 0 {
            return script;
        }
        let source = x % blocks;
        let count = 1 + y % (blocks - source).min(4);
        let target = if from == to { source + count } else { y % 64 };
        self.sizes[to] = self.sizes[to].max((target + count) * BLOCK);
        let range = (source * BLOCK, target * BLOCK, count * BLOCK);
        script.clone_own(NAMES[other], NAMES[one], range)
    }
}

fn choices() -> impl Strategy<Value = Vec<Choice>> {
    let name = 0..NAMES.len();
    let choice = (0..17_u8, name.clone(), name, any::<u64>(), any::<u64>());
    prop::collection::vec(choice, 1..400)
}

fn any_program_gives_what_one_lane_gives() {
    let fs = LoopFilesystem::new();
    let number = std::cell::Cell::new(0);
    property_runner(60)
        .run(&choices(), |choices| {
            let stream = Program::stream(&choices);
            let places = [1, MANY].map(|lanes| {
                number.set(number.get() + 1);
                let place = fs.path().join(number.get().to_string());
                std::fs::create_dir(&place).unwrap();
                receive_in_lanes(lanes, &stream, &place).unwrap();
                place.join("s")
            });
            let compared = Compared {
                atime: true,
                ..Compared::default()
            };
            assert_same_tree_in(&places[0], &places[1], &compared);
            // A filesystem holds about 2,000 with one received UUID.
            places.iter().for_each(|place| subvolume::delete(place));
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

/// Where operations failed, as the receive went on.
#[derive(Default)]
struct Failures(Vec<u64>);

impl Observer for Failures {
    fn event(&mut self, event: Event<'_>) {
        if let Event::Failed(failure) = event {
            self.0.push(failure.at.offset);
        }
    }
}

/// The first of them takes far longer to fail than the others.
fn failures_come_in_the_order_of_the_stream() {
    let fs = LoopFilesystem::new();
    let mut script = Script::full("s");
    for number in 0..100 {
        script = script.file(&format!("f{number}"));
    }
    for block in 0..1000 {
        script = script.write("f0", 2 * block * BLOCK, b"x");
    }
    for number in 0..100 {
        // More than fits into a block of the tree.
        script = script.xattr(&format!("f{number}"), "user.x", &[0; 20_000]);
    }
    // Failures are asked for while there is more to come.
    for number in 0..20_000 {
        script = script.mode("f1", number % 0o1000);
    }
    let destination = BtrfsDestination::builder().lanes(MANY);
    let options = Options::default().with_max_errors(0);
    let mut failures = Failures::default();
    Receiver::with_options(destination.open(fs.path()).unwrap(), options)
        .receive(&script.end()[..], &mut failures)
        .unwrap_err();
    assert_eq!(failures.0.len(), 100);
    assert!(failures.0.is_sorted(), "{:?}", failures.0);
}

/// Encoded data is remembered, to be looked for at the end: here so much that it
/// is looked for in between, while other lanes truncate what holds some.
fn what_is_looked_for_at_the_end_is_there_with_many_lanes() {
    let fs = LoopFilesystem::new();
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&[7; BLOCK as usize]).unwrap();
    let data = encoder.finish().unwrap();
    let mut script = Script::full("s");
    let names: Vec<_> = (0..32).map(|number| format!("f{number}")).collect();
    for name in &names {
        script = script.file(name);
    }
    // Every second block, so that no two ranges join: more than are remembered.
    for block in 0..2200 {
        for name in &names {
            let extent = Extent {
                offset: 2 * block * BLOCK,
                file_len: BLOCK,
                len: BLOCK,
                skip: 0,
                compression: 1,
            };
            script = script.encoded(name, &extent, &data);
            if block % 50 == 49 {
                script = script.truncate(name, (2 * block - 20) * BLOCK);
            }
        }
    }
    let report = receive_in_lanes(MANY, &script.end(), fs.path()).unwrap();
    let encoded = report.subvolumes[0].fallbacks.is_none();
    assert_eq!(encoded, takes_encoded_writes());
    let content = std::fs::read(fs.path().join("s/f0")).unwrap();
    assert_eq!(content[..7], [7; 7]);
}
