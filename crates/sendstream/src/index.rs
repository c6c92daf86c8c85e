//! `index`: indexes beside stored streams, and their use.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sendstream_common::files::{self, IndexError, name_of_index};
use sendstream_common::report::name_of;
use sendstream_common::text::escaped;

use crate::args;
use crate::input::Input;
use crate::output::directory_of;
use crate::{Failure, Format, say};

/// Carries out `index`; returns whether all inputs have an index now.
pub(crate) fn run(options: &args::Index) -> Result<bool, Failure> {
    let mut out = crate::output(Format::Text);
    let (files, mut good) = out.stored(&options.inputs, options.unpack.decompress)?;
    for file in &files {
        if let Err(failure) = write(file, options) {
            out.error(&format!("{failure}{}", crate::advice(&failure)))?;
            good = false;
        }
    }
    Ok(good)
}

/// Writes the index of a stream. It gets its name when it is complete and on disk.
fn write(file: &Path, options: &args::Index) -> Result<(), Failure> {
    let to = name_of_index(file);
    let failed = |error| Failure::File {
        file: escaped(to.as_os_str().as_encoded_bytes()),
        error,
    };
    let stream = File::open(file).map_err(|error| Failure::File {
        file: name_of(Some(file)),
        error,
    })?;
    let facts = stream.metadata().map_err(failed)?;
    if !facts.is_file() {
        return Err(failed(io::Error::other("the stream is not a regular file")));
    }
    let index = tempfile::Builder::new()
        .prefix(".sendstream-")
        .suffix(".partial")
        // Who may read the stream may read its index.
        .permissions(Permissions::from_mode(facts.permissions().mode() & 0o644))
        .tempfile_in(directory_of(&to))
        .map_err(failed)?;
    let temporary = tempfile::tempfile().map_err(failed)?;
    let opened = stream.try_clone().map_err(failed)?;
    let mut input = Input::of(opened, file, options.unpack.decompress);
    match files::write_index(&stream, &mut input, index.as_file(), temporary) {
        Ok(()) => {}
        Err(IndexError::Stream(error)) => {
            return Err(input.failure(error, "> STREAM"));
        }
        Err(IndexError::File(error)) => return Err(failed(error)),
        Err(error @ (IndexError::Stale | IndexError::Damaged | IndexError::Owner)) => {
            return Err(failed(io::Error::other(error)));
        }
    }
    index.as_file().sync_all().map_err(failed)?;
    index.persist(&to).map_err(|error| failed(error.error))?;
    let directory = File::open(directory_of(&to)).map_err(failed)?;
    directory.sync_all().map_err(failed)
}

/// The index of a stream, if there is one that can be used. Says why one is not.
pub(crate) fn of(file: &Path) -> Option<files::Index> {
    match files::Index::open(file) {
        Ok(index) => index,
        Err(error) => {
            let name = name_of(Some(&name_of_index(file)));
            say(&format!("warning: {name} is not used: {error}"));
            None
        }
    }
}
