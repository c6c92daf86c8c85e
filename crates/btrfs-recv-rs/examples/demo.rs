//! `cargo demo`: receives a full and an incremental sample stream and shows
//! what came of it.
//!
//! As root, with `btrfs-progs`, on a btrfs in a temporary file; elsewhere in a
//! plain directory.

use std::error::Error;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use btrfs_receive::{
    BtrfsDestination, Destination, DirectoryDestination, Event, Observer, Receiver,
};
use btrfs_testkit::{LoopFilesystem, subvolume};

/// The streams, and the subvolumes they hold.
const STREAMS: [(&str, &str); 2] = [("full.v2.stream", "s1"), ("incr.v2.stream", "s2")];

/// Set when the demo has started itself again in a mount namespace.
const MARKER: &str = "BTRFS_RECV_RS_DEMO";

fn main() -> ExitCode {
    let outcome = match filesystem() {
        Ok(filesystem) => on_btrfs(&filesystem),
        Err(reason) => {
            println!("No btrfs to receive into: {reason}.");
            println!("With root and mkfs.btrfs (package btrfs-progs) the demo uses a real one.");
            in_a_directory()
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A new btrfs in a temporary file, mounted where only this process sees it
/// and gone when it ends, however that comes.
fn filesystem() -> Result<LoopFilesystem, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("not running as root".to_owned());
    }
    if std::env::var_os(MARKER).is_none() {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        // Comes back only if it fails; then a namespace is done without.
        let _ = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "--"])
            .arg(program)
            .env(MARKER, "1")
            .exec();
    }
    let made = LoopFilesystem::builder().size(256 << 20).try_build();
    made.map_err(|error| error.trim().to_owned())
}

fn on_btrfs(filesystem: &LoopFilesystem) -> Result<(), Box<dyn Error>> {
    let directory = filesystem.path();
    println!(
        "A new btrfs on {}, mounted at {}.",
        filesystem.device().display(),
        directory.display()
    );
    receive(BtrfsDestination::open(directory)?)?;
    for (_, name) in STREAMS {
        let path = directory.join(name);
        let facts = subvolume::facts(&path);
        println!("\n{name}");
        println!("    UUID          {}", facts.uuid);
        println!(
            "    parent UUID   {}",
            facts.parent_uuid.as_deref().unwrap_or("-")
        );
        println!(
            "    received UUID {}",
            facts.received_uuid.as_deref().unwrap_or("-")
        );
        println!(
            "    read-only     {}",
            if facts.read_only { "yes" } else { "no" }
        );
        list(&path, &path)?;
        if !facts.read_only || facts.received_uuid.is_none() {
            return Err(format!("{name} is not complete").into());
        }
    }
    println!("\nThe filesystem is removed again.");
    Ok(())
}

fn in_a_directory() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    println!("Extracting into {}.", directory.path().display());
    receive(DirectoryDestination::open(directory.path())?)?;
    for (_, name) in STREAMS {
        let path = directory.path().join(name);
        println!("\n{name}");
        list(&path, &path)?;
    }
    println!("\nThe directory is removed again.");
    Ok(())
}

/// Receives the samples one after the other.
fn receive<D: Destination>(destination: D) -> Result<D, Box<dyn Error>> {
    let mut receiver = Receiver::new(destination);
    for (file, _) in STREAMS {
        let path = samples().join(file);
        println!("\nReceiving {file}");
        let stream = File::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let report = receiver.receive(stream, &mut Progress)?;
        println!("    {} commands, {} bytes", report.commands, report.bytes);
    }
    Ok(receiver.into_destination())
}

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/streams")
}

/// Says what happens.
struct Progress;

impl Observer for Progress {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::SubvolumeBegins { new, .. } => match new.parent {
                None => println!("    subvolume {}", new.name),
                Some(parent) => println!("    snapshot {} of {}", new.name, parent.uuid),
            },
            Event::SubvolumeFinished(subvolume) => {
                println!("    complete and on disk");
                let not_kept = subvolume.not_kept.total();
                if not_kept > 0 {
                    println!("    {not_kept} owners, attributes and the like not kept");
                }
            }
            Event::Failed(failure) => println!("    {failure}"),
            _ => {}
        }
    }
}

/// Lists what is below `directory`, in the order of names.
fn list(root: &Path, directory: &Path) -> Result<(), Box<dyn Error>> {
    let mut entries: Vec<_> = fs::read_dir(directory)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let facts = entry.metadata()?;
        let path = entry.path();
        print!(
            "    {:06o} {:>2} {:>5} {:>5} {:>8} {:?}",
            facts.mode(),
            facts.nlink(),
            facts.uid(),
            facts.gid(),
            facts.len(),
            path.strip_prefix(root)?
        );
        if facts.is_symlink() {
            print!(" -> {:?}", fs::read_link(&path)?);
        }
        println!();
        if facts.is_dir() {
            list(root, &path)?;
        }
    }
    Ok(())
}
