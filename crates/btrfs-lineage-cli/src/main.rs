//! Finds out how the subvolumes of btrfs filesystems are related by send and
//! receive.

mod adopt;
mod args;
mod audit;
mod digest;
mod explain;
mod inventory;
#[cfg(test)]
mod manual;
mod plan;
mod progress;
mod streams;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use rustix::process::{Resource, getrlimit, setrlimit};
use sendstream_common::output::Unwritten;
use sendstream_common::text::{self, strerror};

use args::{Args, Request};

/// What a filesystem other than btrfs says to its ioctls.
const ENOTTY: i32 = rustix::io::Errno::NOTTY.raw_os_error();

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// A path that cannot be used.
    #[error("{}: {}", path.display(), what(error))]
    Path { path: PathBuf, error: io::Error },
    /// There is no digest of a subvolume.
    #[error("{}: {error}{}", path.display(), digest::advice(error))]
    Digest {
        path: PathBuf,
        error: btrfs_lineage::digest::DigestError,
    },
    /// A copy was not adopted.
    #[error("{}: not adopted: {error}{}", path.display(), adopt::advice(error))]
    Adopt {
        path: PathBuf,
        error: Box<btrfs_lineage::adopt::AdoptError>,
    },
    /// A file with digests that cannot be read.
    #[error("{}: {error}", path.display())]
    Document {
        path: PathBuf,
        error: btrfs_lineage::digest::DocumentError,
    },
    /// A file with another number of digests than one.
    #[error("{}: {count} digests where one is expected", path.display())]
    SeveralDocuments { path: PathBuf, count: usize },
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

impl From<Unwritten> for Failure {
    fn from(Unwritten(error): Unwritten) -> Self {
        Self::output(error)
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

/// Each directory on the way to the deepest one is open while it is read. A
/// process starts with 1,024 descriptors and is commonly allowed many more.
fn allow_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX).min(8192);
    if limit.current.is_some_and(|current| current < most) {
        limit.current = Some(most);
        // Fewer do for most.
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

fn main() -> ExitCode {
    allow_descriptors();
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
        Request::Digest(options) => digest::run(options),
        Request::Adopt(options) => adopt::run(options),
    }
}

/// Prints a message on standard error.
fn say(text: &str) {
    text::say("btrfs-lineage", text);
}
