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
}

#[derive(Debug, clap::Args)]
pub(crate) struct Inventory {
    /// A path on the filesystem.
    pub(crate) path: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
