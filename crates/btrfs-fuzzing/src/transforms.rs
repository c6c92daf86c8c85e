//! Transformed streams give the tree of the original, in memory.

use std::num::NonZeroUsize;

use arbitrary::Unstructured;
use btrfs_model::{Ignored, Inode, MemoryDestination, Subvolume, Tree};
use btrfs_receive::{Options, Receiver, Rules as Fusing};
use btrfs_sendstream::transform::{
    Apart, Codec, Downgrade, Filter, Rules, Together, Transform, TransformErrorKind, Upgrade,
};
use btrfs_sendstream::{CommandBuf, Encoder, Item, Position, StreamPath, Timespec, Version};

use super::plan::{MODEL_CLOCK, Seen, differences, listing, run};
use super::program;

/// Longest hole that is written out: the model holds no more.
const MAX_ZEROS: u64 = 1 << 20;

/// Paths that rules are about, among those that programs use.
const PATHS: [&str; 6] = ["a", "b", "a/b", "a/c", "c/a", "o1-1-0"];

/// Makes commands of `data`, up to the first that cannot be applied,
/// transforms them in each way, and applies what comes out of it. An upgraded
/// stream, a downgraded one and one that was both give the same tree, unless
/// the transform refuses; so does a stream that was joined and split. A filtered one gives the tree
/// without what the rules leave out. The output can always be encoded.
///
/// Returns how many of these comparisons were made.
pub fn transforms(data: &[u8]) -> usize {
    let mut input = Unstructured::new(data);
    let rules = rules(&mut input).unwrap_or_default();
    let codec = match input.arbitrary() {
        Ok(true) => Codec::Zlib,
        _ => Codec::Zstd,
    };
    let mut commands = program::commands(&mut input);
    let mut plain = run(&commands, Fusing::none(), 1);
    if let Some((at, _)) = plain.failure {
        // What comes before it is worth a comparison.
        commands.truncate(usize::try_from(at.command - 1).unwrap_or_default());
        if commands.last().is_some_and(|last| *last != CommandBuf::End) {
            commands.push(CommandBuf::End);
        }
        plain = run(&commands, Fusing::none(), 1);
    }
    let compared = plain.failure.is_none();
    let upgrade = || {
        let builder = Upgrade::builder().codec(codec).level(1);
        builder.threads(NonZeroUsize::MIN).build()
    };
    let downgrade = || {
        let builder = Downgrade::builder(Version::V1);
        builder.max_zeros(MAX_ZEROS).build()
    };
    let mut comparisons = 0;
    let mut whole: Vec<Box<dyn Transform>> = vec![
        Box::new(upgrade()),
        Box::new(downgrade()),
        Box::new(upgrade().then(downgrade())),
        Box::new(downgrade().then(upgrade())),
        Box::new(Together::new().then(Apart::new())),
    ];
    for (index, transform) in whole.iter_mut().enumerate() {
        let Some(transformed) = transformed(&commands, transform, index != 4) else {
            continue;
        };
        if compared {
            let show = || format!("transform {index}\n{}", both(&commands, &transformed));
            let times = !commands.iter().any(only_allocates);
            same(&plain, &transformed, times, &show);
            comparisons += 1;
        }
    }
    let mut filter = Filter::new(rules.clone());
    if let Some(filtered) = transformed(&commands, &mut filter, true)
        && compared
        && !goes_unseen(&commands, &rules)
    {
        let show = || format!("{rules:?}\n{}", both(&commands, &filtered));
        without_the_rest(&plain, &filtered, &rules, &show);
        comparisons += 1;
    }
    comparisons
}

/// Whether a stream does what a filter knows too little to see, and kernels do
/// not do: rename a file to another of its names, so that both stay; or change
/// a file under a name that is left out, though it is kept under another, if it
/// was there before or one of several names was taken from it.
fn goes_unseen(commands: &[CommandBuf], rules: &Rules) -> bool {
    let options = Options::new().with_rules(Fusing::none());
    let mut receiver = Receiver::with_options(MemoryDestination::new(), options);
    let mut unknown = false;
    for command in commands {
        let subvolumes = receiver.destination().subvolumes();
        let tree = subvolumes.last().map(Subvolume::tree);
        let unseen = match (command, tree) {
            (CommandBuf::Subvol { .. } | CommandBuf::Snapshot { .. }, _) => {
                unknown = matches!(command, CommandBuf::Snapshot { .. });
                false
            }
            (CommandBuf::Rename { path, to }, Some(tree)) => {
                unknown |= tree.get(to).is_some();
                path != to && same_file(tree.get(path), tree.get(to))
            }
            (CommandBuf::Unlink { .. }, _) => {
                unknown = true;
                false
            }
            (other, Some(tree)) if unknown => {
                let path = other.path().map(|path| path.to_owned());
                path.is_some_and(|path| !rules.keeps(&path) && kept_elsewhere(tree, &path, rules))
            }
            _ => false,
        };
        if unseen {
            return true;
        }
        let item = Item::Command(command.clone());
        if receiver.item(item, Position::default(), &mut ()).is_err() {
            return false;
        }
    }
    false
}

fn same_file(one: Option<&Inode>, other: Option<&Inode>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if std::ptr::eq(one, other))
}

fn kept_elsewhere(tree: &Tree, path: &StreamPath, rules: &Rules) -> bool {
    let file = tree.get(path);
    tree.entries()
        .any(|entry| same_file(Some(entry.inode), file) && rules.keeps(&entry.path))
}

fn rules(input: &mut Unstructured<'_>) -> arbitrary::Result<Rules> {
    let mut rules = Rules::default();
    for _ in 0..input.int_in_range(0..=3_u8)? {
        let path = StreamPath::parse(input.choose(&PATHS)?.as_bytes()).unwrap_or_default();
        rules = match input.arbitrary()? {
            true => rules.include(path),
            false => rules.exclude(path),
        };
    }
    Ok(rules)
}

/// The commands that come out; `None` if they are refused.
fn transformed(
    commands: &[CommandBuf],
    transform: &mut dyn Transform,
    may_refuse: bool,
) -> Option<Vec<CommandBuf>> {
    let (mut encoder, mut bytes, mut out) = (Encoder::new(), Vec::new(), Vec::new());
    let mut take = |item: Item, _: Position| {
        let failed = |error| panic!("cannot be encoded: {error} in {item:?}");
        bytes.clear();
        encoder.item(&item, &mut bytes).unwrap_or_else(failed);
        if let Item::Command(command) = item {
            out.push(command);
        }
        Ok(())
    };
    let mut begun = false;
    let mut result = Ok(());
    for (index, command) in commands.iter().enumerate() {
        let at = Position {
            stream: 1,
            command: index as u64 + 1,
            offset: index as u64 * 100,
        };
        if !begun {
            result = transform.item(Item::Header(Version::V3), at, &mut take);
        }
        begun = !matches!(command, CommandBuf::End);
        let item = Item::Command(command.clone());
        result = result.and_then(|()| transform.item(item, at, &mut take));
        if result.is_err() {
            break;
        }
    }
    match result.and_then(|()| transform.end(&mut take)) {
        Ok(()) => Some(out),
        Err(error) => {
            assert!(may_refuse, "{error}");
            let inside = matches!(
                error.kind(),
                TransformErrorKind::Input(_) | TransformErrorKind::Output(_)
            );
            assert!(!inside && error.position().is_some(), "{error}");
            None
        }
    }
}

/// A capability is given again after the owner if both follow each other
/// closely, for old kernels' sake; with less between them they may.
fn is_capability(line: &str) -> bool {
    line.contains("security.capability")
}

/// Whether all that a command changes of a file is its times. A downgrade leaves
/// it out; kernels set the times of every file that they change.
fn only_allocates(command: &CommandBuf) -> bool {
    matches!(command, CommandBuf::Fallocate { mode: 1, .. })
}

/// Both give the same trees except for inode flags, which version 1 lacks; with
/// the same `times` or not.
fn same(plain: &Seen, commands: &[CommandBuf], times: bool, show: &dyn Fn() -> String) {
    let transformed = run(commands, Fusing::none(), 1);
    assert_eq!(transformed.failure, None, "{}", show());
    let lines = differences(plain, &transformed);
    let lines: Vec<_> = lines
        .iter()
        .filter(|line| !line.contains(": flags ") && !is_capability(line))
        .filter(|line| times || !line.contains(": times "))
        .collect();
    assert!(lines.is_empty(), "{lines:#?}\n{}", show());
}

/// The filtered stream gives what the rules keep.
fn without_the_rest(
    plain: &Seen,
    commands: &[CommandBuf],
    rules: &Rules,
    show: &dyn Fn() -> String,
) {
    let filtered = run(commands, Fusing::none(), 1);
    assert_eq!(filtered.failure, None, "{}", show());
    let all = plain.destination.subvolumes();
    for (all, some) in all.iter().zip(filtered.destination.subvolumes()) {
        let ignored = Ignored {
            times: true,
            ..Ignored::default()
        };
        let excluded: Vec<String> = all
            .tree()
            .entries()
            .filter(|entry| !rules.keeps(&entry.path))
            .map(|entry| format!("{}: only in the first", entry.path))
            .collect();
        let mut lines = all.tree().differences(some.tree(), ignored);
        let found = lines.len();
        lines.retain(|line| !excluded.contains(line));
        assert_eq!(found - lines.len(), excluded.len(), "{}", show());
        // Further names may have been left out.
        lines.retain(|line| !line.contains(": links "));
        lines.retain(|line| !is_capability(line));
        assert!(lines.is_empty(), "{lines:#?}\n{}", show());
        // Names that are left out move no directory's times.
        let moved = |time: Timespec| time.seconds >= MODEL_CLOCK;
        for entry in all.tree().entries() {
            if let Some(other) = some.tree().get(&entry.path) {
                let (before, after) = (entry.inode.mtime(), other.mtime());
                let same = before == after || moved(before) || moved(after);
                assert!(same, "{}: {before:?}, {after:?}\n{}", entry.path, show());
            }
        }
    }
}

fn both(commands: &[CommandBuf], transformed: &[CommandBuf]) -> String {
    format!("{}becomes\n{}", listing(commands), listing(transformed))
}
