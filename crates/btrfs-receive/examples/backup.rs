//! A small backup tool: a directory of streams, each verified before it is stored.
//!
//! ```sh
//! backup=target/debug/examples/backup
//! cargo build --example backup
//! btrfs send /snapshots/monday | $backup store /archive
//! btrfs send $($backup parent /archive /snapshots/tuesday) /snapshots/tuesday |
//!     $backup store /archive
//! $backup list /archive
//! $backup restore /archive tuesday /mnt
//! ```

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use btrfs_receive::btrfs_lineage::{Inventory, PlanOptions, SnapshotToSend, StoredSubvolume};
use btrfs_receive::btrfs_sendstream::inspect::{Chain, Verifier, first_subvolume};
use btrfs_receive::{
    BtrfsDestination, Destination, DirectoryDestination, Event, OpenError, Options, Receiver,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "usage: backup store ARCHIVE < STREAM
       backup list ARCHIVE
       backup restore ARCHIVE NAME DIRECTORY
       backup parent ARCHIVE SNAPSHOT";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let arguments: Vec<&OsStr> = arguments.iter().map(OsString::as_os_str).collect();
    let result = match (arguments.first().and_then(|it| it.to_str()), &arguments[..]) {
        (Some("store"), [_, archive]) => store(archive.as_ref()),
        (Some("list"), [_, archive]) => list(archive.as_ref()),
        (Some("restore"), [_, archive, name, directory]) => {
            restore(archive.as_ref(), name, directory.as_ref())
        }
        (Some("parent"), [_, archive, snapshot]) => parent(archive.as_ref(), snapshot.as_ref()),
        _ => Err(USAGE.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Stores standard input. The file gets its name when it was verified and is on disk.
fn store(archive: &Path) -> Result<()> {
    let copy = tempfile::NamedTempFile::new_in(archive)?;
    let report = Verifier::default().verify(Tee {
        source: io::stdin().lock(),
        copy: copy.as_file(),
    });
    // It also finds that END is missing: that the sender was stopped.
    if let Some(problem) = report.findings.into_iter().next() {
        return Err(problem.into());
    }
    let [stored] = &report.subvolumes[..] else {
        return Err("store each subvolume in a file of its own (no btrfs send -e)".into());
    };
    copy.as_file().sync_all()?;
    let name = format!("{}-{}.stream", stored.uuid, stored.ctransid);
    copy.persist_noclobber(archive.join(&name))?;
    File::open(archive)?.sync_all()?;
    println!("{} is stored as {name}", stored.name);
    Ok(())
}

/// Writes what is read to `copy` as well.
struct Tee<R, W> {
    source: R,
    copy: W,
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.copy
            .write_all(buffer.get(..read).unwrap_or_default())?;
        Ok(read)
    }
}

/// The streams in the archive. Reads the beginning of each.
fn stored(archive: &Path) -> Result<Vec<StoredSubvolume>> {
    let mut streams = Vec::new();
    for entry in fs::read_dir(archive)? {
        let file = entry?.path();
        if file.extension() != Some(OsStr::new("stream")) {
            continue;
        }
        let first = first_subvolume(File::open(&file)?);
        match first.map_err(|error| format!("{}: {error}", file.display()))? {
            Some(subvolume) => streams.push(StoredSubvolume { file, subvolume }),
            None => eprintln!("{} has no subvolume", file.display()),
        }
    }
    streams.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(streams)
}

/// Prints each subvolume after its parent, and farther to the right.
fn list(archive: &Path) -> Result<()> {
    let streams = stored(archive)?;
    let chain = Chain::of_subvolumes(streams.iter().map(|it| [&it.subvolume]));
    for &index in &chain.order {
        let depth = chain.needed_for(index).map_or(0, |it| it.len() - 1);
        let missing = chain.missing.iter().find(|it| it.needed_by.input == index);
        let name = &streams[index].subvolume.name;
        print!("{:indent$}{name}", "", indent = 2 * depth);
        match missing {
            Some(missing) => println!(" (its parent {} is missing)", missing.wanted.uuid),
            None => println!(),
        }
    }
    for &index in &chain.circular {
        println!("{} waits for itself", streams[index].subvolume.name);
    }
    Ok(())
}

/// Receives the subvolume `name` after all that it needs, into a btrfs if `directory`
/// is on one, else as plain directories.
fn restore(archive: &Path, name: &OsStr, directory: &Path) -> Result<()> {
    let streams = stored(archive)?;
    let has_name = |it: &StoredSubvolume| it.subvolume.name.as_os_str() == name;
    let wanted = match streams.iter().filter(|it| has_name(it)).count() {
        1 => streams.iter().position(has_name),
        count => return Err(format!("{count} stored subvolumes have this name").into()),
    };
    // Clone sources are known at the end of a stream only, so all of it is read.
    let mut reports = Vec::new();
    for stream in &streams {
        reports.push(Verifier::default().verify(File::open(&stream.file)?));
    }
    let chain = Chain::of(&reports);
    let needed = wanted.and_then(|it| chain.needed_for(it));
    let needed = needed.ok_or("its streams need one another")?;
    for &index in &needed {
        if let Some(problem) = reports[index].findings.first() {
            return Err(format!("{}: {problem}", streams[index].file.display()).into());
        }
    }
    // What is missing from the archive may be on the filesystem: the receive finds it.
    let files = needed.iter().map(|&index| streams[index].file.as_path());
    match BtrfsDestination::open(directory) {
        Ok(destination) => receive(destination, files),
        Err(OpenError::NotBtrfs { .. }) => receive(DirectoryDestination::open(directory)?, files),
        Err(error) => Err(error.into()),
    }
}

fn receive<'a>(destination: impl Destination, files: impl Iterator<Item = &'a Path>) -> Result<()> {
    let options = Options::new().with_skip_complete(true);
    let mut receiver = Receiver::with_options(destination, options);
    for file in files {
        let report = receiver.receive(File::open(file)?, &mut |event: Event<'_>| {
            if let Event::Progress { totals, .. } = event {
                eprintln!("{} MiB", totals.bytes >> 20);
            }
        })?;
        for subvolume in &report.subvolumes {
            println!("{}: {}", subvolume.name, subvolume.outcome);
            if subvolume.losses.total() > 0 {
                let lost = subvolume.losses.total();
                println!("{lost} attributes and special files are not supported here");
            }
        }
    }
    Ok(())
}

/// Prints the options for `btrfs send` that make the stream of `snapshot` an increment
/// of what is stored.
fn parent(archive: &Path, snapshot: &Path) -> Result<()> {
    let streams = stored(archive)?;
    let (receiver, left_out) = Inventory::of_streams(&streams);
    for index in left_out {
        let file = streams[index].file.display();
        eprintln!("{file} cannot be restored: the stream of its parent is missing");
    }
    let found = SnapshotToSend::open(snapshot)?.plan(&receiver, PlanOptions::default())?;
    if !found.plan.already_there.is_empty() {
        return Err("it is stored already".into());
    }
    if found.plan.parent.is_none() {
        eprintln!("no stored subvolume can be its parent: it has to be sent whole");
    }
    for argument in found.arguments() {
        io::stdout().write_all(&[argument.as_bytes(), b"\n"].concat())?;
    }
    Ok(())
}
