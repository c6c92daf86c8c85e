//! `list`: what a subvolume contains, from its stored streams.

use std::path::Path;

use btrfs_sendstream::inspect::{Device, InodeKind, LocalTime, Tree, TreeEntry, push_escaped};
use btrfs_sendstream::{Item, Position, Reader};
use sendstream_common::dump::FLUSH_AT;
use sendstream_common::files::{Index, ReadError, name_of_index, operation};
use sendstream_common::report::name_of;
use sendstream_common::zone::{SystemZone, local_time};

use crate::args;
use crate::cat_file::CatError;
use crate::chosen;
use crate::index;
use crate::input::Input;
use crate::{Failure, Output};

/// Limit on the memory for a tree in bytes.
const MAX_MEMORY: u64 = 4 << 30;

/// Carries out `list`; returns whether all inputs could be looked at.
pub(crate) fn run(options: &args::List) -> Result<bool, Failure> {
    let mut out = crate::output(options.format);
    let mut tree = Tree::new(MAX_MEMORY);
    let good = match read(options, &mut tree, &mut out) {
        Ok(good) => good,
        Err(failure) if failure.is_unread() => return Err(failure),
        Err(failure) => {
            let message = format!("{failure}{}", crate::advice(&failure));
            out.error(&message)?;
            out.end(false)?;
            return Ok(false);
        }
    };
    if good.is_some() {
        print(&tree, options, &mut out)?;
    }
    let good = good.unwrap_or(false);
    out.end(good)?;
    Ok(good)
}

/// Reads the streams that make the tree. Returns whether all inputs could be looked at,
/// or `None` if there is no tree, which was said.
fn read(
    options: &args::List,
    tree: &mut Tree,
    out: &mut Output<impl std::io::Write>,
) -> Result<Option<bool>, Failure> {
    if options.inputs.is_empty() || options.inputs == [Path::new("-")] {
        replay(None, options, tree)?;
        return Ok(Some(true));
    }
    let chosen = chosen::choose(
        &options.inputs,
        options.unpack.decompress,
        options.subvolume.as_deref(),
        out,
    )?;
    let Some(chosen) = chosen else {
        return Ok(None);
    };
    for stream in &chosen.streams {
        let index = (!options.no_index).then(|| index::of(&stream.file));
        match index.flatten() {
            Some(index) => replay_index(&index, &stream.file, tree)?,
            None => replay(Some(&stream.file), options, tree)?,
        }
        stream.check(tree.subvolume())?;
    }
    Ok(Some(chosen.good))
}

/// Applies the streams of an index to the tree.
fn replay_index(index: &Index, stream: &Path, tree: &mut Tree) -> Result<(), Failure> {
    let read = index.read(|indexed| {
        let command = &indexed.command;
        tree.apply(command).map_err(|error| ReadError::Command {
            operation: operation(command),
            error: Box::new(error.into()),
            at: Position {
                offset: indexed.position,
                ..Position::default()
            },
        })
    });
    read.map_err(|error| {
        let input = name_of(Some(&name_of_index(stream)));
        CatError::Read { input, error }.into()
    })
}

/// Applies the streams in a file to the tree.
fn replay(file: Option<&Path>, options: &args::List, tree: &mut Tree) -> Result<(), Failure> {
    let mut input = Input::open(file, options.unpack.decompress)?;
    let name = input.name();
    let mut reader = Reader::new(&mut input);
    let error = loop {
        let command = match reader.next_item() {
            Ok(None) => return Ok(()),
            Ok(Some(Item::Command(command))) => command,
            // A header: the reader refuses unknown commands.
            Ok(Some(_)) => continue,
            Err(error) => break error,
        };
        if let Err(error) = tree.apply(&command) {
            return Err(Failure::Tree {
                input: name,
                operation: operation(&command),
                error: Box::new(error),
                at: reader.position(),
            });
        }
    };
    Err(input.failure(error, "| sendstream list"))
}

fn print(
    tree: &Tree,
    options: &args::List,
    out: &mut Output<impl std::io::Write>,
) -> Result<(), Failure> {
    if let Some(subvolume) = tree.subvolume() {
        out.emit("subvolume", subvolume)?;
    }
    let mut time = local_time(true);
    let mut text = Vec::new();
    for entry in tree.entries() {
        if out.is_json() {
            out.emit("entry", &entry)?;
            continue;
        }
        if options.null {
            text.extend_from_slice(shown(&entry.path));
            text.push(0);
        } else {
            if options.long {
                push_attributes(&mut text, &entry, &mut time);
            }
            push_escaped(&mut text, shown(&entry.path));
            if let (true, Some(target)) = (options.long, &entry.target) {
                text.extend_from_slice(b" -> ");
                push_escaped(&mut text, target);
            }
            text.push(b'\n');
        }
        if text.len() >= FLUSH_AT {
            out.text(&text)?;
            text.clear();
        }
    }
    out.text(&text)?;
    Ok(())
}

/// The root is `.`, which no path of a stream can be.
fn shown(path: &[u8]) -> &[u8] {
    if path.is_empty() { b"." } else { path }
}

/// As `ls -l`: kind and permissions, number of names, owner, group, size or device
/// number, and time of the last change.
fn push_attributes(out: &mut Vec<u8>, entry: &TreeEntry, time: &mut LocalTime<SystemZone>) {
    let id = |id: Option<u64>| id.map_or("?".to_owned(), |id| id.to_string());
    let size = match (entry.size, &entry.device) {
        (Some(size), _) => size.to_string(),
        (None, Some(device)) => format!("{},{}", device.major, device.minor),
        (None, None) => "-".to_owned(),
    };
    let line = format!(
        "{}{} {:>3} {:>5} {:>5} {size:>12} ",
        kind_letter(entry.kind, entry.device),
        permissions(entry),
        entry.links,
        id(entry.uid),
        id(entry.gid)
    );
    out.extend_from_slice(line.as_bytes());
    match entry.mtime {
        Some(mtime) => time.push(out, mtime.seconds),
        None => out.push(b'?'),
    }
    out.push(b' ');
}

fn kind_letter(kind: InodeKind, device: Option<Device>) -> char {
    match kind {
        InodeKind::File => '-',
        InodeKind::Directory => 'd',
        InodeKind::Symlink => 'l',
        InodeKind::Device if device.is_some_and(|device| device.block) => 'b',
        InodeKind::Device => 'c',
        InodeKind::Fifo => 'p',
        InodeKind::Socket => 's',
        _ => '?',
    }
}

fn permissions(entry: &TreeEntry) -> String {
    let mode = match (entry.mode, entry.kind) {
        (Some(mode), _) => mode,
        (None, InodeKind::Symlink) => 0o777,
        (None, _) => return "?".repeat(9),
    };
    let mut text = String::new();
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bit = |bit: u32| mode >> shift & bit != 0;
        text.push(if bit(4) { 'r' } else { '-' });
        text.push(if bit(2) { 'w' } else { '-' });
        text.push(match (mode & special != 0, bit(1)) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}
