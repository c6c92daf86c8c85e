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
    after_help = "Exit status: 0 on success, 1 if something failed, 2 if the command line is \
                  wrong."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) request: Request,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Request {
    /// List the subvolumes of a filesystem.
    Inventory(Inventory),
    /// Print a digest of everything that send carries of a subvolume.
    Digest(Digest),
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
#[command(
    group = clap::ArgGroup::new("of").required(true),
    after_help = "The digest does not depend on how extents lie on disk, on compression or on \
                  inode numbers: a received subvolume has the digest of the one that was sent. \
                  docs/digest.md describes it.\n\n\
                  Exit status: 0 on success, 1 if something failed or what was compared differs, \
                  2 if the command line is wrong."
)]
pub(crate) struct Digest {
    /// The subvolume.
    #[arg(group = "of")]
    pub(crate) subvolume: Option<PathBuf>,
    /// Show what differs between two subvolumes, or between a subvolume and a
    /// digest that was saved with --json --tree, or between two of these.
    #[arg(long, num_args = 2, value_names = ["A", "B"], group = "of")]
    pub(crate) compare: Option<Vec<PathBuf>>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// List every name, with a digest for each file and directory.
    #[arg(long, conflicts_with = "compare")]
    pub(crate) tree: bool,
    /// Read with N threads; 0 means as many as there are processors.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) threads: usize,
    /// Read a subvolume although it is writable. If it changes meanwhile, the
    /// digest is worth nothing.
    #[arg(long)]
    pub(crate) writable: bool,
    /// Show at most N differences; 0 means all.
    #[arg(long, value_name = "N", default_value_t = 20, requires = "compare")]
    pub(crate) max_differences: usize,
}
