//! Fused equals unfused: the proof for the planner's rules.

use arbitrary::Unstructured;
use btrfs_model::{Ignored, MemoryDestination, Tree};
use btrfs_receive::{Options, Outcome, Receiver, Rules};
use btrfs_sendstream::{CommandBuf, Item, Position};

use super::program::{self, MEMORY};

/// The clock of a model starts here; times that a program sets lie before.
pub(super) const MODEL_CLOCK: i64 = 1_000_000_000;

/// What can be seen of a receive once it is over.
pub(super) struct Seen {
    pub(super) destination: MemoryDestination,
    /// Position and operation of the first failure.
    pub(super) failure: Option<(Position, &'static str)>,
    /// What became of each subvolume; its commands if it was finished (a
    /// failure may be noticed a few commands later), and whether everything
    /// was done as asked.
    pub(super) outcomes: Vec<(Outcome, Option<u64>, bool)>,
}

/// Makes commands of `data` and applies them one by one, and again with some
/// of the rules. Both must come to the same trees; or the same command must
/// fail first, with everything before it applied.
///
/// Times that no command has set may differ, and on failure all times and the
/// permission bits: fusing saves changes that would move a time, gives a mode
/// earlier, and the times of a directory later.
///
/// Returns how many commands came before the first failure, and whether there
/// was none.
pub fn plan(data: &[u8]) -> (u64, bool) {
    let mut input = Unstructured::new(data);
    let bits = input.arbitrary::<u8>().unwrap_or(0xff);
    let mut rules = Rules::none();
    rules.create_at_final_name = bits & 1 != 0;
    rules.mode_at_creation = bits & 2 != 0;
    rules.join_writes = bits & 4 != 0;
    rules.join_clones = bits & 8 != 0;
    rules.drop_superseded_times = bits & 0x40 != 0;
    rules.rename_for_link_and_unlink = bits & 0x80 != 0;
    // Most programs are for all rules at once.
    let rules = if bits & 0x30 == 0 {
        rules
    } else {
        Rules::default()
    };
    let commands = program::commands(&mut input);
    let plain = run(&commands, Rules::none(), 1);
    let fused = run(&commands, rules, 1);
    let show = || format!("{rules:?}\n{}", listing(&commands));
    assert_eq!(fused.failure, plain.failure, "{}", show());
    assert_eq!(fused.outcomes, plain.outcomes, "{}", show());
    let differences = differences(&plain, &fused);
    assert!(differences.is_empty(), "{differences:#?}\n{}", show());
    // Whoever goes on after failures is told of the same first one.
    let tolerant = run(&commands, rules, 0);
    assert_eq!(tolerant.failure, plain.failure, "{}", show());
    match plain.failure {
        Some((at, _)) => (at.command - 1, false),
        None => (commands.len() as u64, true),
    }
}

pub(super) fn run(commands: &[CommandBuf], rules: Rules, max_errors: u64) -> Seen {
    let options = Options::new().with_max_errors(max_errors).with_rules(rules);
    let destination = MemoryDestination::new().with_limit(MEMORY);
    let mut receiver = Receiver::with_options(destination, options);
    let mut result = Ok(());
    for (index, command) in commands.iter().enumerate() {
        let number = index as u64 + 1;
        let at = Position {
            stream: 1,
            command: number,
            offset: number * 100,
        };
        if let Err(error) = receiver.item(Item::Command(command.clone()), at, &mut ()) {
            result = Err(error);
            break;
        }
    }
    let result = result.and_then(|()| receiver.end(&mut ()));
    let (failure, report) = match result {
        Ok(report) => (None, report),
        Err(error) => {
            let first = error.first_failure.map(|first| (first.at, first.operation));
            (first, *error.report)
        }
    };
    Seen {
        destination: receiver.into_destination(),
        failure,
        outcomes: report
            .subvolumes
            .iter()
            .map(|subvolume| {
                let complete = subvolume.fallbacks.is_none();
                let finished = subvolume.outcome == Outcome::Finished;
                let commands = finished.then_some(subvolume.commands);
                (subvolume.outcome, commands, complete)
            })
            .collect(),
    }
}

pub(super) fn differences(plain: &Seen, fused: &Seen) -> Vec<String> {
    let (a, b) = (
        plain.destination.subvolumes(),
        fused.destination.subvolumes(),
    );
    let mut lines = Vec::new();
    if a.len() != b.len() {
        lines.push(format!("{} subvolumes, {}", a.len(), b.len()));
    }
    for (a, b) in a.iter().zip(b) {
        let name = a.name().escape_ascii();
        if (a.name(), a.received(), a.is_read_only()) != (b.name(), b.received(), b.is_read_only())
        {
            lines.push(format!("{name}: marked in another way"));
        }
        let unfinished = a.received().is_none();
        let ignored = Ignored {
            times: true,
            ..Ignored::default()
        };
        let trees = a.tree().differences(b.tree(), ignored);
        let counts = |line: &String| !(unfinished && line.contains(": mode "));
        lines.extend(trees.into_iter().filter(counts));
        if !unfinished {
            lines.extend(times(a.tree(), b.tree()));
        }
    }
    lines
}

/// Times that a command has set and that are not the same.
fn times(a: &Tree, b: &Tree) -> Vec<String> {
    let same = |a: btrfs_sendstream::Timespec, b: btrfs_sendstream::Timespec| {
        a == b || (a.seconds >= MODEL_CLOCK && b.seconds >= MODEL_CLOCK)
    };
    a.entries()
        .filter_map(|entry| Some((entry.inode, b.get(&entry.path)?, entry.path)))
        .filter(|(a, b, _)| !same(a.mtime(), b.mtime()) || !same(a.atime(), b.atime()))
        .map(|(a, b, path)| format!("{path}: times {:?}, {:?}", a.mtime(), b.mtime()))
        .collect()
}

pub(super) fn listing(commands: &[CommandBuf]) -> String {
    let mut text = String::new();
    for (index, command) in commands.iter().enumerate() {
        let mut line = format!("{:3} {command:?}", index + 1);
        if line.chars().count() > 300 {
            line = line.chars().take(300).collect();
        }
        text.push_str(&line);
        text.push('\n');
    }
    text
}
