//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Find out how the subvolumes of btrfs filesystems are related by send and
/// receive.
#[derive(Debug, Parser)]
#[command(
    name = "btrfs-lineage",
    version,
    max_term_width = 80,
    after_help = "Exit status: 0 on success, 1 if something failed or a problem was found, 2 if the \
                  command line is wrong. The help of each command says which others it has."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) request: Request,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Request {
    /// List the subvolumes of a filesystem.
    Inventory(Inventory),
    /// Find what will go wrong with later sends and receives, and say what to do.
    ///
    /// Finds received subvolumes that were changed, that are writable, or that share
    /// their received UUID; receives that were interrupted; and names that other
    /// programs take for something else. Data in memory is written to disk first;
    /// nothing else is changed.
    ///
    /// A subvolume was changed since it was received if a file or directory in it was:
    /// its data, attributes, times or name. Balance, deduplication, quotas, snapshots
    /// and reading are no changes. Not detected are changes of the owner, mode and
    /// attributes of the subvolume's root directory, and changes that were made while the
    /// clock was set back.
    ///
    /// The exit status is 0 if nothing was found, 1 if something was found, 2 if the
    /// command line is wrong, and 3 if nothing was found, but not everything could be
    /// looked at. As root everything can.
    Audit(Audit),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Inventory {
    /// A path on the filesystem.
    pub(crate) path: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Audit {
    /// A path on the filesystem.
    pub(crate) path: PathBuf,
    /// Look at the subvolumes beneath the path, and at the path if it is one.
    ///
    /// Otherwise the whole filesystem is looked at, also what is not mounted.
    #[arg(long)]
    pub(crate) below: bool,
    /// Check the streams in this file or directory.
    ///
    /// Finds streams whose parent or clone source is neither among the others nor on
    /// the filesystem, so that they cannot be received. Reads each stream to its end.
    /// Can be given several times.
    #[arg(long, value_name = "PATH")]
    pub(crate) stored: Vec<PathBuf>,
    /// Read only the beginning of each stream.
    ///
    /// Finds parents, but no clone sources, and no damage.
    #[arg(long, requires = "stored")]
    pub(crate) quick: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
