//! Random histories without a kernel: played on the memory model, sent by a
//! sender for it, encoded, received into a model again, and compared.
//!
//! `MODEL_HISTORIES` says how many (2,000 otherwise), `MODEL_HISTORIES_SEED`
//! repeats a run.

mod selected;
mod sender;
mod target;

use std::cell::RefCell;
use std::collections::BTreeMap;

use btrfs_model::{Ignored, MemoryDestination, Received, Tree};
use btrfs_receive::{Options, Receiver, Rules};
use btrfs_sendstream::{Command, CommandBuf, CommandKind, Encoder, Version};
use btrfs_testkit::Test;
use btrfs_testkit::history::{Features, History, histories, play};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use sender::{Snapshot, Style, send};
use target::Model;

const COUNT: &str = "MODEL_HISTORIES";
const SEED: &str = "MODEL_HISTORIES_SEED";
const DEFAULT_COUNT: u64 = 2_000;

/// From this many histories on, every kind of command must have been sent.
const ENOUGH: u64 = 1_000;

/// What no kernel sends in these streams: UPDATE_EXTENT stands for data, and
/// ENABLE_VERITY needs version 3.
const NEVER_SENT: [CommandKind; 2] = [CommandKind::UpdateExtent, CommandKind::EnableVerity];

/// How many commands of each number were sent.
type Sent = BTreeMap<u16, u64>;

/// How the streams of several snapshots follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// Each is an input of its own.
    Apart,
    /// One input, each with header and END.
    Concatenated,
    /// One header and one END, as `btrfs send -e` does it.
    OneEnd,
}

fn styles() -> impl Strategy<Value = Style> {
    let flags = any::<[bool; 4]>();
    let version = prop::sample::select(vec![Version::V1, Version::V2]);
    let largest_write = prop::sample::select(vec![4096_usize, 12_288, 49_152]);
    (version, flags, largest_write, any::<u64>()).prop_map(
        |(version, [times_early, clones, encoded, always_truncate], largest_write, seed)| Style {
            version,
            times_early,
            clones,
            encoded,
            always_truncate,
            largest_write,
            seed,
        },
    )
}

fn layouts() -> impl Strategy<Value = Layout> {
    prop::sample::select(vec![Layout::Apart, Layout::Concatenated, Layout::OneEnd])
}

fn encode(streams: &[Vec<CommandBuf>], style: Style, layout: Layout) -> Vec<Vec<u8>> {
    let end = Command::<&[u8]>::End;
    let mut inputs = Vec::new();
    let mut encoder = Encoder::new();
    let mut input = Vec::new();
    for (index, commands) in streams.iter().enumerate() {
        let is_last = index + 1 == streams.len();
        if index == 0 || layout != Layout::OneEnd {
            encoder.header(style.version, &mut input).unwrap();
        }
        for command in commands {
            encoder.command(command, &mut input).unwrap();
        }
        if is_last || layout != Layout::OneEnd {
            encoder.command(&end, &mut input).unwrap();
        }
        if is_last || layout == Layout::Apart {
            inputs.push(std::mem::take(&mut input));
        }
    }
    inputs
}

/// Plays a history, sends its snapshots as a chain and the last one in full,
/// and receives everything.
fn try_history(
    history: &History,
    style: Style,
    layout: Layout,
    sent: &mut Sent,
) -> Result<(), String> {
    let mut model = Model::new();
    let steps = play(history, &Features::default(), &mut model);
    let about = |reason: String| {
        let steps: Vec<String> = steps.iter().map(|step| format!("{step:?}")).collect();
        format!("{reason}\nafter\n{}", steps.join("\n"))
    };
    let snapshots: Vec<Snapshot<'_>> = (0..)
        .zip(model.snapshots())
        .map(|(number, tree)| Snapshot { number, tree })
        .collect();
    let mut parent = None;
    let mut chain = Vec::new();
    for snapshot in &snapshots {
        chain.push(send(*snapshot, parent, style));
        parent = Some(*snapshot);
    }
    let last = &snapshots[snapshots.len() - 1..];
    let full = [send(last[0], None, style)];
    for command in chain.iter().chain(&full).flatten() {
        *sent.entry(command.kind().number()).or_default() += 1;
    }
    // This takes longer than the rest.
    if style.seed.is_multiple_of(3) {
        let earlier = usize::try_from(style.seed / 3).unwrap_or(0) % snapshots.len();
        for (last, layout) in [(snapshots.len() - 1, layout), (earlier, Layout::Apart)] {
            let inputs = encode(&chain[..=last], style, layout);
            let compared = selected::compare(&inputs, &snapshots[last], style.seed);
            compared.map_err(|reason| about(format!("selected: {reason}")))?;
        }
    }
    for rules in [Rules::default(), Rules::none()] {
        let inputs = encode(&chain, style, layout);
        receive(&inputs, &snapshots, rules).map_err(&about)?;
        let inputs = encode(&full, style, Layout::Apart);
        receive(&inputs, last, rules).map_err(|reason| about(format!("in full: {reason}")))?;
    }
    Ok(())
}

fn receive(inputs: &[Vec<u8>], snapshots: &[Snapshot<'_>], rules: Rules) -> Result<(), String> {
    let mut options = Options::default();
    options.rules = rules;
    let mut receiver = Receiver::with_options(MemoryDestination::new(), options);
    for input in inputs {
        let outcome = receiver.receive(&input[..], &mut ());
        outcome.map_err(|error| format!("{rules:?}: {error:?}"))?;
    }
    let destination = receiver.into_destination();
    for snapshot in snapshots {
        let name = snapshot.name();
        let arrived = destination.subvolume(&name).ok_or("nothing arrived")?;
        let differences = differences(snapshot.tree, arrived.tree());
        let stamp = Received {
            uuid: snapshot.uuid(),
            stransid: snapshot.ctransid(),
        };
        if arrived.received() != Some(stamp) || !arrived.is_read_only() {
            return Err(format!("{rules:?}: {name:?} is not finished"));
        }
        if !differences.is_empty() {
            let lines = differences.join("\n");
            return Err(format!("{rules:?}: {name:?} differs:\n{lines}"));
        }
    }
    Ok(())
}

/// Everything is compared but inode flags: no stream carries those of new
/// files.
fn differences(sent: &Tree, received: &Tree) -> Vec<String> {
    let ignored = Ignored {
        attributes: true,
        ..Ignored::default()
    };
    sent.differences(received, ignored)
}

fn random_histories_arrive() {
    let seed = environment(SEED).unwrap_or_else(fresh_seed);
    let count = environment(COUNT).unwrap_or(DEFAULT_COUNT);
    eprintln!("{count} random histories, {SEED}={seed}");
    let config = Config {
        cases: u32::try_from(count).unwrap(),
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let cases = (histories(&Features::default()), styles(), layouts());
    let sent = RefCell::new(Sent::new());
    let mut runner = TestRunner::new_with_rng(config, random);
    let outcome = runner.run(&cases, |(history, style, layout)| {
        try_history(&history, style, layout, &mut sent.borrow_mut()).map_err(TestCaseError::fail)
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, case)) => {
            panic!("{reason}\n{SEED}={seed}; the case:\n{case:?}")
        }
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
    // END is no command of a snapshot.
    let kinds = (1..=26).filter_map(CommandKind::from_number);
    let expected = kinds.filter(|kind| *kind != CommandKind::End && !NEVER_SENT.contains(kind));
    let sent = sent.into_inner();
    let missing: Vec<_> = expected
        .filter(|kind| !sent.contains_key(&kind.number()))
        .collect();
    assert!(
        count < ENOUGH || missing.is_empty(),
        "never sent: {missing:?}"
    );
    eprintln!("commands sent, by number: {sent:?}");
}

fn environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name}={value} is no number")),
    )
}

fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

pub(crate) fn tests() -> Vec<Test> {
    vec![Test::anywhere(
        "random_histories_arrive",
        random_histories_arrive,
    )]
}
