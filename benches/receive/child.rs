//! What runs in a process of its own.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use btrfs_receive::{BtrfsDestination, Receiver};
use btrfs_testkit::Compared;

use crate::{bare, slow_disk};

/// `--child WHAT ARGUMENTS`.
pub(crate) fn main(arguments: Vec<String>) -> ExitCode {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        ["synced", directory, program, rest @ ..] => synced(Path::new(directory), program, rest),
        ["library", directory] => library(Path::new(directory), None),
        ["library", directory, lanes] => library(Path::new(directory), Some(lanes)),
        ["slow-disk", image, point, delay] => {
            slow_disk::serve(Path::new(image), Path::new(point), delay)
        }
        ["bare", stream, directory] => bare::replay(Path::new(stream), Path::new(directory)),
        ["compare", expected, found, "all"] => compare(expected, found, true),
        ["compare", expected, found, _] => compare(expected, found, false),
        other => Err(format!("no such child: {other:?}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a program with our standard input, then syncs the filesystem, so
/// that both count as one.
fn synced(directory: &Path, program: &str, arguments: &[&str]) -> Result<(), String> {
    // Opened beforehand: a receiver may be confined to the directory.
    let filesystem = File::open(directory).map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    let status = command
        .arg0(program)
        .args(arguments)
        .status()
        .map_err(|error| format!("{program}: {error}"))?;
    if !status.success() {
        return Err(format!("{command:?}: {status}"));
    }
    rustix::fs::syncfs(&filesystem).map_err(|errno| format!("syncfs: {errno}"))
}

/// Receives standard input with the library, with so many lanes.
fn library(directory: &Path, lanes: Option<&str>) -> Result<(), String> {
    let mut builder = BtrfsDestination::builder();
    if let Some(text) = lanes {
        let lanes = text.parse::<usize>();
        builder = builder.lanes(lanes.map_err(|error| format!("{text:?}: {error}"))?);
    }
    let destination = builder.open(directory).map_err(|error| error.to_string())?;
    Receiver::new(destination)
        .receive(std::io::stdin(), &mut ())
        .map(drop)
        .map_err(|error| format!("{error}: {:?}", error.first_failure))
}

/// Compares two trees. The reference does not always keep the times of the
/// root.
fn compare(expected: &str, found: &str, root_times: bool) -> Result<(), String> {
    let compared = Compared {
        root_times,
        ..Compared::default()
    };
    btrfs_testkit::assert_same_tree_in(Path::new(expected), Path::new(found), &compared);
    Ok(())
}
