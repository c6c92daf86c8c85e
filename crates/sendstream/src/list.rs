//! `list`: what a subvolume contains, from its stored streams.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use btrfs_sendstream::inspect::{Device, InodeKind, LocalTime, Tree, TreeEntry, push_escaped};
use btrfs_sendstream::{CommandRef, Item, NewSubvolume, Reader};
use sendstream_common::dump::FLUSH_AT;
use sendstream_common::text::escaped;
use sendstream_common::zone::{SystemZone, local_time};

use crate::args;
use crate::input::Input;
use crate::order::beginning;
use crate::{Failure, Output};

/// Limit on the memory for a tree in bytes.
const MAX_MEMORY: u64 = 4 << 30;

/// A stored stream, and the subvolume that it begins with.
struct Stream {
    file: PathBuf,
    new: NewSubvolume,
}

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
    let (files, mut good) = out.stored(&options.inputs, options.unpack.decompress)?;
    if let (true, [file], None) = (good, &files[..], &options.subvolume) {
        replay(Some(file), options, tree)?;
        return Ok(Some(true));
    }
    let mut streams = Vec::new();
    for file in files {
        match beginning(&file, options.unpack.decompress) {
            Ok(Some(new)) => streams.push(Stream { file, new }),
            // A stream without a subvolume has nothing to list.
            Ok(None) => {}
            Err(message) => {
                out.error(&message)?;
                good = false;
            }
        }
    }
    if !good && !streams.is_empty() && options.subvolume.is_none() {
        // What could not be read may be the stream of a later subvolume.
        out.error("not all files could be read: choose the subvolume with --subvolume")?;
        return Ok(None);
    }
    let target = match target(&streams, options.subvolume.as_deref()) {
        Ok(target) => target,
        Err(message) => {
            out.error(&message)?;
            return Ok(None);
        }
    };
    for stream in chain(&streams, target) {
        let file = Some(stream.file.as_path());
        replay(file, options, tree)?;
        if tree.subvolume() != Some(&stream.new) {
            let input = sendstream_common::report::name_of(file);
            return Err(Failure::SeveralSubvolumes { input });
        }
    }
    Ok(Some(good))
}

/// The stream of the subvolume to list: the one that is wanted, or the one that is the
/// parent of no other.
fn target<'a>(streams: &'a [Stream], wanted: Option<&OsStr>) -> Result<&'a Stream, String> {
    let is_parent = |uuid| {
        let mut parents = streams.iter().filter_map(|stream| stream.new.parent);
        parents.any(|parent| parent.uuid == uuid)
    };
    let found: Vec<&Stream> = match wanted {
        Some(wanted) => {
            let wanted = wanted.as_encoded_bytes();
            let is_wanted = |new: &NewSubvolume| {
                let uuid = new.uuid.to_string();
                new.name.as_bytes() == wanted || uuid.as_bytes().eq_ignore_ascii_case(wanted)
            };
            streams.iter().filter(|it| is_wanted(&it.new)).collect()
        }
        None => streams
            .iter()
            .filter(|it| !is_parent(it.new.uuid))
            .collect(),
    };
    let Some(first) = found.first() else {
        return Err(match wanted {
            Some(wanted) => {
                let wanted = escaped(wanted.as_encoded_bytes());
                format!("no stream begins with a subvolume {wanted}")
            }
            None => "no stream contains a subvolume that is not the parent of another".to_owned(),
        });
    };
    let is_first =
        |new: &NewSubvolume| (new.uuid, new.ctransid) == (first.new.uuid, first.new.ctransid);
    if found.iter().all(|it| is_first(&it.new)) {
        return Ok(first);
    }
    let mut message =
        "the streams contain several subvolumes; choose one with --subvolume:".to_owned();
    for Stream { file, new } in found {
        let name = escaped(new.name.as_bytes());
        let file = escaped(file.as_os_str().as_encoded_bytes());
        message.push_str(&format!("\n{name} {} in {file}", new.uuid));
    }
    Err(message)
}

/// The full stream that leads to `target`, the streams between, and `target`. If a
/// parent is missing, those after it.
fn chain<'a>(streams: &'a [Stream], target: &'a Stream) -> Vec<&'a Stream> {
    let mut chain = vec![target];
    let mut needed = target.new.parent;
    while let Some(parent) = needed
        // Longer only if streams need each other.
        && chain.len() < streams.len()
    {
        let same = |it: &&Stream| it.new.uuid == parent.uuid;
        let exact = |it: &&Stream| same(it) && it.new.ctransid == parent.ctransid;
        // One with another transid is refused with both transids in the message.
        let Some(next) = streams
            .iter()
            .find(exact)
            .or_else(|| streams.iter().find(same))
        else {
            break;
        };
        chain.push(next);
        needed = next.new.parent;
    }
    chain.reverse();
    chain
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

/// The command and its path, for messages.
fn operation(command: &CommandRef<'_>) -> String {
    let name = command.kind().name();
    match command.path() {
        Some(path) => format!("{name} {}", escaped(path.as_bytes())),
        None => name.to_owned(),
    }
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
