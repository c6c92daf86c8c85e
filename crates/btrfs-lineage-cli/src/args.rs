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
    /// Make a copy that was not received a parent for incremental streams.
    Adopt(Adopt),
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
    /// digest that was saved with --json --tree, or between two of these; `-`
    /// is standard input.
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

#[derive(Debug, clap::Args)]
#[command(
    after_help = "A copy made by rsync or cp has the content of a sent subvolume, but no received \
                  UUID, and incremental streams do not find it. If SUBVOLUME has the digest in \
                  DOCUMENT, it is replaced by a read-only snapshot of itself that has the received \
                  UUID. The digest comes from the sender:\n\n    \
                  ssh SENDER btrfs-lineage digest --json --tree SNAPSHOT |\n        \
                  btrfs-lineage adopt SUBVOLUME --digest -\n\n\
                  Exit status: 0 if SUBVOLUME is adopted (with --dry-run: would be), 1 if it \
                  differs or something failed, 2 if the command line is wrong."
)]
pub(crate) struct Adopt {
    /// The copy.
    pub(crate) subvolume: PathBuf,
    /// The digest of the original: what `digest --json` printed, or `-` for
    /// standard input. With --tree, differences can be named.
    #[arg(long, value_name = "DOCUMENT")]
    pub(crate) digest: PathBuf,
    /// Make the copy read-only, if it is writable.
    #[arg(long)]
    pub(crate) make_read_only: bool,
    /// Replace another received UUID that the copy has.
    #[arg(long)]
    pub(crate) replace_received_uuid: bool,
    /// Only compare, and say what would be done.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Read with N threads; 0 means as many as there are processors.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) threads: usize,
    /// Show at most N differences; 0 means all.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) max_differences: usize,
}
