//! The streams that a command reads to look into one subvolume.

use std::ffi::OsStr;
use std::io::Write;
use std::path::PathBuf;

use btrfs_sendstream::NewSubvolume;
use sendstream_common::leading::{Stream, leading_to};
use sendstream_common::report::name_of;
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

/// One of them.
pub(crate) struct Leading {
    pub(crate) file: PathBuf,
    /// The subvolume that it contains, and no other; `None` if it is the only file, which
    /// may contain several.
    new: Option<NewSubvolume>,
}

impl Leading {
    /// Checks that `last`, the last subvolume in the file, is the one it begins with.
    pub(crate) fn check(&self, last: Option<&NewSubvolume>) -> Result<(), Failure> {
        if self.new.is_none() || self.new.as_ref() == last {
            return Ok(());
        }
        let input = name_of(Some(&self.file));
        Err(Failure::SeveralSubvolumes { input })
    }
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
        let (file, new) = (file.clone(), None);
        let streams = vec![Leading { file, new }];
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
    let streams = match leading_to(&streams, subvolume) {
        Ok(streams) => streams,
        Err(message) => {
            out.error(&message)?;
            return Ok(None);
        }
    };
    let streams = streams.into_iter().map(|stream| Leading {
        file: stream.file.clone(),
        new: Some(stream.new.clone()),
    });
    let streams = streams.collect();
    Ok(Some(Chosen { streams, good }))
}
