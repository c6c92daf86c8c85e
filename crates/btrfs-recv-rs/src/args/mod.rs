//! The command line: that of `btrfs receive`, and more.

mod error;
pub(crate) mod getopt;
mod help;
pub(crate) mod id;
mod only;
pub(crate) mod option;
mod parse;
mod policy;
mod quantity;
mod restore;
mod resume;
mod suggest;
pub(crate) mod table;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use btrfs_accept::Rules;
use btrfs_receive::{OnError, XattrPattern};
use btrfs_sendstream::SubvolumeName;
use sendstream_common::unpack::Decompress;

pub(crate) use error::UsageError;
pub(crate) use help::{help, usage};
pub(crate) use only::Only;
pub(crate) use parse::parse;
pub(crate) use policy::CloneSource;
pub(crate) use restore::Restore;
pub(crate) use resume::{Resume, Unfinished};
pub(crate) use suggest::hint;

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// `--help`.
    Help,
    /// `--version`.
    Version,
    /// `--dump`.
    Dump(Dump),
    /// `--extract`.
    Extract(Extract),
    /// `--status`.
    Status(Unfinished),
    /// `--abandon`.
    Abandon(Unfinished),
    /// `--chain`.
    Chain(Chain),
    /// `--serve`.
    Serve(Serve),
    /// `--dry-run`: what would be received, where.
    DryRun(Receive),
    /// Nothing else.
    Receive(Receive),
}

/// What to print.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Dump {
    /// The stream's file, if not standard input.
    pub(crate) input: Option<PathBuf>,
    /// Whether the input is unpacked.
    pub(crate) decompress: Decompress,
}

/// A set of streams to receive.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    /// Files and directories.
    pub(crate) sources: Vec<PathBuf>,
    /// Where to, and how.
    pub(crate) receive: Receive,
}

/// What another host may ask for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Serve {
    /// The directory that it may receive in and ask about.
    pub(crate) directory: PathBuf,
    /// What it may do.
    pub(crate) rules: Rules,
}

/// What to extract into a plain directory, and how.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Extract {
    /// As for a receive; the destination is on any filesystem.
    pub(crate) receive: Receive,
    /// Where to list what is not kept.
    pub(crate) report: Option<PathBuf>,
    /// What to extract, if not everything.
    pub(crate) only: Option<Only>,
}

/// What to receive, where, and how.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Receive {
    /// The directory to create subvolumes in.
    pub(crate) destination: PathBuf,
    /// The stream's file, if not standard input.
    pub(crate) input: Option<PathBuf>,
    /// Whether the input is unpacked.
    pub(crate) decompress: Decompress,
    /// Where to store the input.
    pub(crate) tee: Option<PathBuf>,
    /// Whether to stop at the first END command.
    pub(crate) stop_at_end: bool,
    /// Whether parents and clone sources have to lie in the destination.
    pub(crate) confine_sources: bool,
    /// Whether to drop unneeded access before the stream is read.
    pub(crate) sandbox: bool,
    /// Give up after this many failed commands; 0: never.
    pub(crate) max_errors: u64,
    /// A mount point that the destination lies in.
    pub(crate) root_mount: Option<PathBuf>,
    /// Whether to decompress data instead of handing it on compressed.
    pub(crate) force_decompress: bool,
    /// Whether to test compressed data before it is handed on.
    pub(crate) test_encoded: bool,
    /// Name of the one subvolume in the input, if not the one in the stream.
    pub(crate) name: Option<SubvolumeName>,
    /// What becomes of a subvolume that could not be completed.
    pub(crate) on_error: OnError,
    /// Extended attributes that are excluded.
    pub(crate) exclude_xattrs: Vec<XattrPattern>,
    /// Whether inode flags are excluded.
    pub(crate) no_file_attributes: bool,
    /// Whether unknown commands and attributes are skipped.
    pub(crate) allow_unknown: bool,
    /// What a stream may do, if that is restricted.
    pub(crate) accept: Option<Rules>,
    /// The parent of the first incremental subvolume, if not searched for.
    pub(crate) parent: Option<PathBuf>,
    /// Clone sources that come before those that are found.
    pub(crate) clone_sources: Vec<CloneSource>,
    /// Whether a subvolume appears under its name only when it is complete.
    pub(crate) atomic: bool,
    /// The file with the digests that subvolumes must have.
    pub(crate) digest: Option<PathBuf>,
    /// Whether blocks of zeros become holes.
    pub(crate) zeros_as_holes: bool,
    /// What to make of the last subvolume.
    pub(crate) restore: Restore,
    /// How to make the receive resumable, if it is to be.
    pub(crate) resume: Option<Resume>,
    /// Whether to show progress where nobody looks, too.
    pub(crate) progress: bool,
    /// Size of the input in bytes, if the user knows.
    pub(crate) size: Option<u64>,
    /// How many bytes of input to read ahead, if any.
    pub(crate) buffer: Option<usize>,
    /// Whether to say in JSON what happens.
    pub(crate) json: bool,
    /// 0 quiet, 1 default, 2 data, 3 every command.
    pub(crate) verbosity: u8,
}

impl Default for Receive {
    fn default() -> Self {
        Self {
            destination: PathBuf::new(),
            input: None,
            decompress: Decompress::No,
            tee: None,
            stop_at_end: false,
            confine_sources: false,
            sandbox: false,
            max_errors: 1,
            root_mount: None,
            force_decompress: false,
            test_encoded: false,
            name: None,
            on_error: OnError::Keep,
            exclude_xattrs: Vec::new(),
            no_file_attributes: false,
            allow_unknown: false,
            accept: None,
            parent: None,
            clone_sources: Vec::new(),
            atomic: false,
            digest: None,
            zeros_as_holes: false,
            restore: Restore::default(),
            resume: None,
            progress: false,
            size: None,
            buffer: None,
            json: false,
            verbosity: 1,
        }
    }
}
