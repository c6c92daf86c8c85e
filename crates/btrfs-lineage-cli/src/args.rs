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
                  wrong, 3 if `plan` found no parent and all has to be sent."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) request: Request,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Request {
    /// List the subvolumes of a filesystem.
    ///
    /// Lists every subvolume of the filesystem that PATH lies on, also where it
    /// is not mounted, with what decides whether send and receive find it. The
    /// STATE is:
    ///
    /// received: read-only, with a received UUID: complete;
    /// changed: received, and changed since (or perhaps changed: "changed?");
    /// read-only: a snapshot, or a subvolume, that was not received;
    /// writable: also while a receive is running, or after it failed;
    /// writable, received: it has a received UUID and may have been changed;
    /// unfinished: a receive was interrupted at its very end.
    ///
    /// In the table, UUIDs are shortened to their first eight digits. What could
    /// not be seen is said on standard error: subvolumes outside of this mount
    /// need CAP_DAC_READ_SEARCH, and whether one was changed CAP_SYS_ADMIN.
    Inventory(Inventory),
    /// Find the parent and the clone sources to send a snapshot with.
    ///
    /// Prints the options for `btrfs send`, such as `-p /snapshots/monday`, so
    /// that the receiver that INVENTORY describes can apply the stream, and the
    /// stream is small. They are quoted for `eval`:
    ///
    /// ssh backup btrfs-lineage inventory --json /backup > there.json
    /// eval "btrfs send $(btrfs-lineage plan /snapshots/today --against
    /// there.json) /snapshots/today" | ssh backup btrfs-recv-rs /backup
    ///
    /// A parent has to be on both sides, read-only, and with the same content,
    /// as far as UUIDs and transaction ids prove it; the nearest to the snapshot
    /// is taken, by its parent UUIDs, then ctransid, then time of creation. If
    /// there is none, nothing is printed, and the exit status is 3: send all of
    /// the snapshot, without -p. Why is said on standard error.
    Plan(Plan),
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
pub(crate) struct Plan {
    /// The snapshot to be sent: read-only.
    pub(crate) snapshot: PathBuf,
    /// What the receiver has: a file that `inventory --json` wrote there, `-` for
    /// standard input, or a directory of stored streams.
    ///
    /// Of a stored stream, the first command and the end are read. Its
    /// subvolume counts if that of its parent does.
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
