//! One input to one output.

use btrfs_sendstream::Version;
use btrfs_sendstream::transform::{
    Downgrade, Newer, Transform, UnknownSize, Upgrade, UpgradeStats,
};

use crate::args::{self, Io};
use crate::output::Destination;
use crate::parent::Parent;
use crate::{Failure, input, say};

/// Transforms with nothing to tell afterwards.
pub(crate) fn simple(
    mut transform: impl Transform,
    io: &Io,
    mut destination: Destination,
) -> Result<(), Failure> {
    input::run(
        &io.inputs,
        io.unpack.decompress,
        &mut transform,
        &mut destination.writer,
    )?;
    destination.finish()
}

pub(crate) fn upgrade(
    options: &args::Upgrade,
    mut destination: Destination,
    verbose: bool,
) -> Result<(), Failure> {
    let mut builder = Upgrade::builder()
        .codec(options.compression.into())
        .level(options.level)
        .holes(!options.no_holes);
    if let Some(threads) = options.threads {
        builder = builder.threads(threads);
    }
    let mut upgrade = builder.build();
    input::run(
        &options.io.inputs,
        options.io.unpack.decompress,
        &mut upgrade,
        &mut destination.writer,
    )?;
    let written = destination.writer.written().offset;
    destination.finish()?;
    if verbose {
        say(&summary(upgrade.stats(), written));
    }
    Ok(())
}

fn summary(stats: UpgradeStats, written: u64) -> String {
    format!(
        "{} extents compressed from {} to {} bytes; {} bytes of data unchanged, {} bytes of \
         zeros turned into holes; {written} bytes written",
        stats.compressed,
        stats.bytes_before,
        stats.bytes_after,
        stats.bytes_left,
        stats.bytes_punched,
    )
}

pub(crate) fn downgrade(
    options: &args::Downgrade,
    mut destination: Destination,
) -> Result<(), Failure> {
    let target = match options.to {
        2 => Version::V2,
        _ => Version::V1,
    };
    let mut builder = Downgrade::builder(target).max_zeros(options.max_zeros);
    if options.drop_newer {
        builder = builder.newer(Newer::Drop);
    }
    if options.assume_size {
        builder = builder.unknown_size(UnknownSize::Assume);
    }
    let mut downgrade = builder.build();
    if let Some(directory) = &options.parent {
        let parent = Parent::open(directory).map_err(|error| Failure::File {
            file: directory.display().to_string(),
            error,
        })?;
        downgrade = downgrade.with_parent(move |path| parent.look_up(path));
    }
    input::run(
        &options.io.inputs,
        options.io.unpack.decompress,
        &mut downgrade,
        &mut destination.writer,
    )?;
    destination.finish()?;
    if downgrade.dropped() > 0 {
        say(&format!(
            "{} commands dropped that version {target} does not have",
            downgrade.dropped()
        ));
    }
    Ok(())
}
