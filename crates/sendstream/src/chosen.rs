//! The streams that a command reads to look into one subvolume.

use std::ffi::OsStr;
use std::io::Write;
use std::path::PathBuf;

use sendstream_common::leading::{Leading, Stream, leading_to};
use sendstream_common::unpack::Decompress;

use crate::order::beginning;
use crate::{Failure, Output};

/// The streams that lead to the subvolume.
pub(crate) struct Chosen {
    /// In order.
    pub(crate) streams: Vec<Leading>,
    /// Whether all inputs could be looked at.
    pub(crate) good: bool,
}

/// Chooses the streams that lead to `subvolume`, from files and directories. `None` if
/// there are none, which was said.
pub(crate) fn choose(
    inputs: &[PathBuf],
    decompress: Decompress,
    subvolume: Option<&OsStr>,
    out: &mut Output<impl Write>,
) -> Result<Option<Chosen>, Failure> {
    let (files, mut good) = out.stored(inputs, decompress)?;
    if let (true, [file], None) = (good, &files[..], subvolume) {
        let streams = vec![Leading::alone(file.clone())];
        return Ok(Some(Chosen { streams, good }));
    }
    let mut streams = Vec::new();
    for file in files {
        match beginning(&file, decompress) {
            Ok(Some(new)) => streams.push(Stream { file, new }),
            // A stream without a subvolume leads to none.
            Ok(None) => {}
            Err(message) => {
                out.error(&message)?;
                good = false;
            }
        }
    }
    if !good && !streams.is_empty() && subvolume.is_none() {
        // What could not be read may be the stream of a later subvolume.
        out.error("not all files could be read: choose the subvolume with --subvolume")?;
        return Ok(None);
    }
    match leading_to(&streams, subvolume) {
        Ok(streams) => Ok(Some(Chosen { streams, good })),
        Err(message) => {
            out.error(&message)?;
            Ok(None)
        }
    }
}
