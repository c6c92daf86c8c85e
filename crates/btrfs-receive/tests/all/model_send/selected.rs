//! Files of random histories, each alone and some of them together, found in the streams
//! as `sendstream cat-file` and `btrfs-recv-rs --extract --only` find them.

use std::collections::BTreeSet;
use std::io::Cursor;

use btrfs_model::{Inode, Kind, MemoryDestination, Tree};
use btrfs_receive::Receiver;
use btrfs_sendstream::{Command, CommandRef, Item, Position, Reader, StreamPath};
use sendstream_common::files::{Fetch, History, Selection};

use super::differences;
use super::sender::Snapshot;

fn history(inputs: &[Vec<u8>]) -> Result<History<Cursor<Vec<u8>>>, String> {
    let mut history = History::new(Cursor::new(Vec::new()), 1 << 30);
    for input in inputs {
        let read = history.read(&mut Reader::new(&input[..]));
        read.map_err(|error| format!("cannot read: {error}"))?;
    }
    Ok(history)
}

/// The content of one file.
struct Content(Vec<u8>);

impl Fetch for Content {
    type Error = String;

    fn data(&mut self, output: u32, offset: u64, data: &[u8]) -> Result<(), String> {
        assert_eq!(output, 0);
        let offset = offset as usize;
        let to = self.0.get_mut(offset..offset + data.len());
        to.ok_or("beyond the end")?.copy_from_slice(data);
        Ok(())
    }

    fn metadata(&mut self, _: u32, command: &CommandRef<'_>) -> Result<(), String> {
        Err(format!("not asked for: {command:?}"))
    }
}

fn each_alone(inputs: &[Vec<u8>], tree: &Tree) -> Result<(), String> {
    for entry in tree.entries() {
        let Some(expected) = entry.inode.content() else {
            continue;
        };
        let history = history(inputs)?;
        let (file, _, size) = history
            .find(&entry.path)
            .map_err(|error| error.to_string())?;
        let mut content = Content(vec![0; size as usize]);
        let mut by_parts = Content(vec![0; size as usize]);
        let needs = history.content(file).map_err(|error| error.to_string())?;
        for (number, input) in inputs.iter().enumerate() {
            let fetched = needs.fetch(number, &mut Reader::new(&input[..]), &mut content);
            fetched.map_err(|error| error.to_string())?;
            let fetched = needs.fetch_parts(number, &mut Cursor::new(&input[..]), &mut by_parts);
            fetched.map_err(|error| error.to_string())?;
        }
        let mut bytes = vec![0; expected.size() as usize];
        expected.read_at(0, &mut bytes);
        if content.0 != bytes || by_parts.0 != bytes {
            return Err(format!("{:?} has other content", entry.path));
        }
    }
    Ok(())
}

/// What is selected, received.
struct Into<'s> {
    selection: &'s Selection,
    receiver: Receiver<MemoryDestination>,
}

impl Into<'_> {
    fn take(&mut self, command: Command) -> Result<(), String> {
        let taken = self
            .receiver
            .item(Item::Command(command), Position::default(), &mut ());
        taken.map(|_| ()).map_err(|error| format!("{error:?}"))
    }
}

impl Fetch for Into<'_> {
    type Error = String;

    fn data(&mut self, output: u32, offset: u64, data: &[u8]) -> Result<(), String> {
        let selection = self.selection;
        selection
            .data(output, offset, data)
            .try_for_each(|command| self.take(command))
    }

    fn metadata(&mut self, output: u32, command: &CommandRef<'_>) -> Result<(), String> {
        let command = self.selection.metadata(output, command);
        self.take(command.ok_or("no metadata")?)
    }
}

fn selected(inputs: &[Vec<u8>], paths: &[StreamPath]) -> Result<MemoryDestination, String> {
    let history = history(inputs)?;
    let selection = Selection::new(&history, paths).map_err(|error| error.to_string())?;
    let needs = selection
        .locate(history)
        .map_err(|error| error.to_string())?;
    let mut into = Into {
        selection: &selection,
        receiver: Receiver::new(MemoryDestination::new()),
    };
    for command in selection.creation() {
        into.take(command)?;
    }
    for (number, input) in inputs.iter().enumerate() {
        if needs.are_in(number) {
            let fetched = needs.fetch(number, &mut Reader::new(&input[..]), &mut into);
            fetched.map_err(|error| error.to_string())?;
        }
    }
    into.take(Command::End)?;
    let ended = into.receiver.end(&mut ());
    ended.map_err(|error| format!("{error:?}"))?;
    Ok(into.receiver.into_destination())
}

fn is_same(a: &Inode, b: &Inode) -> bool {
    let kinds = match (a.kind(), b.kind()) {
        (Kind::Directory(_), Kind::Directory(_)) => true,
        (Kind::File(a), Kind::File(b)) => a.reads_like(b),
        (a, b) => format!("{a:?}") == format!("{b:?}"),
    };
    let numbers = |it: &Inode| (it.mode(), it.uid(), it.gid(), it.atime(), it.mtime());
    kinds && numbers(a) == numbers(b) && a.xattrs().eq(b.xattrs())
}

fn some_together(
    inputs: &[Vec<u8>],
    tree: &Tree,
    name: &[u8],
    mut seed: u64,
) -> Result<(), String> {
    let all: Vec<_> = tree.entries().map(|entry| entry.path.clone()).collect();
    let mut one_in_four = || {
        // The high bits of a linear congruential generator.
        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        seed >> 62 == 0
    };
    let paths: Vec<_> = all
        .iter()
        .filter(|path| !path.is_root() && one_in_four())
        .cloned()
        .collect();
    if paths.is_empty() {
        return Ok(());
    }
    let found = selected(inputs, &paths)?;
    let found = found.subvolume(name).ok_or("nothing arrived")?.tree();
    let is_wanted = |path: &&StreamPath| {
        paths
            .iter()
            .any(|chosen| path.starts_with(chosen) || chosen.starts_with(path))
    };
    let expected: BTreeSet<_> = all.iter().filter(is_wanted).collect();
    let there: Vec<_> = found.entries().map(|entry| entry.path.clone()).collect();
    if there.iter().collect::<BTreeSet<_>>() != expected {
        return Err(format!("of {paths:?} came {there:?}"));
    }
    for path in there {
        let (ours, theirs) = (tree.get(&path), found.get(&path));
        if !ours.zip(theirs).is_some_and(|(a, b)| is_same(a, b)) {
            return Err(format!(
                "of {paths:?}, {path:?} differs: {ours:?} {theirs:?}"
            ));
        }
    }
    Ok(())
}

/// Compares the last of some snapshots, whose streams are `inputs`.
pub(super) fn compare(
    inputs: &[Vec<u8>],
    snapshot: &Snapshot<'_>,
    seed: u64,
) -> Result<(), String> {
    let (tree, name) = (snapshot.tree, snapshot.name());
    each_alone(inputs, tree)?;
    let found = selected(inputs, &[StreamPath::default()])?;
    let found = found.subvolume(&name).ok_or("nothing arrived")?;
    let differences = differences(tree, found.tree());
    if !differences.is_empty() {
        return Err(format!("all of it differs:\n{}", differences.join("\n")));
    }
    (0..3).try_for_each(|round| some_together(inputs, tree, &name, seed ^ round))
}
