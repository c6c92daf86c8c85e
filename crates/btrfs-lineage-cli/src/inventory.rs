//! `inventory`: the subvolumes of a filesystem.

use std::fs::File;
use std::io::{self, Write};
use std::process::ExitCode;

use btrfs_lineage::Resolver;
use sendstream_common::text::escaped;

use crate::Failure;
use crate::args::Inventory;

pub(crate) fn run(options: &Inventory) -> Result<ExitCode, Failure> {
    let failed = Failure::path(&options.path);
    let directory = File::open(&options.path).map_err(&failed)?;
    let listing = Resolver::new(directory).map_err(&failed)?.list();
    let mut out = io::stdout().lock();
    for subvolume in &listing.subvolumes {
        let path = escaped(subvolume.path.as_deref().unwrap_or(b"?"));
        writeln!(out, "{} {path}", subvolume.id).map_err(Failure::output)?;
    }
    Ok(ExitCode::SUCCESS)
}
