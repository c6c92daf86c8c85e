//! Finds out how the subvolumes of btrfs filesystems are related by send and
//! receive.

mod args;
mod audit;
mod explain;
mod inventory;
#[cfg(test)]
mod manual;
mod plan;
mod streams;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use sendstream_common::text::{push_message, strerror};

use args::{Args, Request};

/// What a filesystem other than btrfs says to its ioctls.
const ENOTTY: i32 = rustix::io::Errno::NOTTY.raw_os_error();

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// A path that cannot be used.
    #[error("{}: {}", path.display(), what(error))]
    Path { path: PathBuf, error: io::Error },
    /// Standard output could not be written.
    #[error("standard output: {}", strerror(error))]
    Output { error: io::Error },
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl Failure {
    fn path(path: &Path) -> impl Fn(io::Error) -> Self {
        move |error| Self::Path {
            path: path.to_owned(),
            error,
        }
    }

    fn output(error: io::Error) -> Self {
        Self::Output { error }
    }

    /// Whether nobody reads the output any more, who needs no message.
    fn is_unread(&self) -> bool {
        matches!(self, Self::Output { error } if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// What an error means here.
fn what(error: &io::Error) -> String {
    match error.raw_os_error() {
        // The ioctls of btrfs are unknown to other filesystems.
        Some(ENOTTY) => "not on a btrfs filesystem".to_owned(),
        _ => strerror(error),
    }
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(status) => status,
        Err(failure) => {
            if !failure.is_unread() {
                say(&failure.to_string());
            }
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<ExitCode, Failure> {
    match &args.request {
        Request::Inventory(options) => inventory::run(options),
        Request::Audit(options) => Ok(audit::run(options)),
        Request::Plan(options) => plan::run(options),
    }
}

/// Prints a message on standard error. A failure to do so cannot be reported.
fn say(text: &str) {
    let mut out = b"btrfs-lineage: ".to_vec();
    for (index, line) in text.lines().enumerate() {
        if index > 0 {
            out.push(b'\n');
        }
        push_message(&mut out, line.as_bytes());
    }
    out.push(b'\n');
    let _ = io::stderr().write_all(&out);
}
