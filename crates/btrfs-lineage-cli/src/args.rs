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
    ///
    /// Lists every subvolume of the filesystem that PATH lies on, also those that
    /// are not mounted, with what decides whether send and receive find it.
    ///
    /// STATE is `received` (read-only, with a received UUID), `changed` (the same, but
    /// it was changed since; `changed?` if that is not known), `read-only` (not
    /// received), `writable` (also while a receive runs, or after it failed),
    /// `writable, received` (with a received UUID, and may have been changed), or
    /// `unfinished` (its receive was interrupted at the very end). UUIDs are shortened to
    /// eight digits; --json has them whole.
    ///
    /// Standard error says what could not be seen: subvolumes outside of this
    /// mount need CAP_DAC_READ_SEARCH, and whether one was changed needs CAP_SYS_ADMIN.
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
    /// command line is wrong or PATH is not on a btrfs filesystem, and 3 if nothing was
    /// found, but not everything could be looked at. As root everything can.
    Audit(Audit),
    /// Find the parent and the clone sources to send a snapshot with.
    ///
    /// Prints the options for `btrfs send`, such as `-p /snapshots/monday`, with which
    /// the stream is small, and the receiver that INVENTORY describes can apply it. They
    /// are quoted for `eval`:
    ///
    /// eval "btrfs send $(btrfs-lineage plan SNAPSHOT --against FILE) SNAPSHOT"
    ///
    /// A parent is read-only and has the same content on both sides, as far as UUIDs
    /// and transaction ids prove it. Of several, the nearest to the snapshot is taken: by
    /// parent UUIDs, then by ctransid, then by time of creation. Those that come next
    /// and share history with the snapshot are clone sources.
    ///
    /// The exit status is 3 if there is no parent. Nothing is printed then: send all of
    /// the snapshot, without -p. Standard error says why. It is 4 if the receiver has the
    /// snapshot already: nothing has to be sent. If it is 1, something failed, and nothing
    /// should be sent.
    Plan(Plan),
    /// Print a digest of everything that send carries of a subvolume.
    Digest(Digest),
    /// Turn a copy that was not received into a parent for incremental streams.
    Adopt(Adopt),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Inventory {
    /// A path on the filesystem.
    pub(crate) path: PathBuf,
    /// List only subvolumes beneath PATH, and PATH itself if it is one.
    #[arg(long)]
    pub(crate) below: bool,
    /// Print JSON: one object, which `plan --against` reads. docs/json.md in the
    /// repository describes it.
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
    /// Streams that are compressed with zstd, gzip, lz4 or xz are unpacked. Can be given
    /// several times.
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

#[derive(Debug, clap::Args)]
pub(crate) struct Plan {
    /// The snapshot to be sent. It has to be read-only.
    pub(crate) snapshot: PathBuf,
    /// What the receiver has: the output of `inventory --json` there, in a file or, for
    /// `-`, on standard input; or a directory of stored streams.
    ///
    /// A stored stream counts if it is complete and that of its parent counts. Only its
    /// first command and its end are read; one that is compressed with zstd, gzip, lz4 or
    /// xz is unpacked to its end.
    #[arg(long, value_name = "INVENTORY")]
    pub(crate) against: PathBuf,
    /// Say for every subvolume why it is a parent or clone source, or why not.
    #[arg(long)]
    pub(crate) explain: bool,
    /// Print JSON: the options, and what became of every candidate.
    #[arg(long)]
    pub(crate) json: bool,
    /// Print at most N clone sources besides the parent. `btrfs send` looks for
    /// shared data in each of them, which takes time.
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(crate) clone_sources: usize,
    /// Also take a parent if its copies on both sides came by way of different
    /// hosts, and none was changed since it arrived. Nothing shows that no host
    /// in between changed it before it passed it on.
    #[arg(long)]
    pub(crate) trust_relayed: bool,
    /// Read stored streams to the end: leave out what is damaged, and find
    /// further subvolumes in a file.
    #[arg(long)]
    pub(crate) verify: bool,
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
