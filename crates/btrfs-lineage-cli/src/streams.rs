//! Stored streams as an inventory.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use btrfs_lineage::{Inventory, StoredSubvolume};
use btrfs_sendstream::NewSubvolume;
use btrfs_sendstream::inspect::{Verifier, VerifyOptions, first_subvolume};
use sendstream_common::report;
use sendstream_common::stored::{Stored, no_stream_in};
use sendstream_common::text::{escaped, strerror};
use sendstream_common::unpack::{Decompress, Unpacked};

use crate::{Failure, say};

/// What the END command of every stream consists of, its checksum included.
const END: [u8; 10] = [0, 0, 0, 0, 0x15, 0, 0x50, 0x6c, 0xc9, 0x9d];

/// What the streams in a directory hold. What is not counted is said.
pub(crate) fn inventory(directory: &Path, verify: bool) -> Result<Inventory, Failure> {
    let paths = [directory.to_owned()];
    let stored = Stored::find(&paths, Decompress::Auto).map_err(Failure::Other)?;
    for skipped in stored.skipped.iter().filter(|it| it.is_error()) {
        say(&format!("warning: {skipped}"));
    }
    if stored.files.is_empty() {
        say(&format!("warning: {}", no_stream_in(&paths)));
    }
    let mut all_read = !stored.skipped.iter().any(|it| it.is_error());
    let mut streams = Vec::new();
    for file in &stored.files {
        let found = if verify {
            whole(file)
        } else {
            ends(file).map(Vec::from_iter)
        };
        match found {
            Ok(found) => streams.extend(found.into_iter().map(|subvolume| StoredSubvolume {
                file: file.clone(),
                subvolume,
            })),
            Err(text) => {
                all_read = false;
                say(&format!("warning: {}: {text}; it is ignored", shown(file)));
            }
        }
    }
    let (mut inventory, left_out) = Inventory::of_streams(&streams);
    for stream in left_out.into_iter().filter_map(|place| streams.get(place)) {
        say(&format!(
            "warning: {}: the stream of its parent is missing; it is ignored",
            shown(&stream.file)
        ));
    }
    inventory.complete &= all_read;
    Ok(inventory)
}

fn shown(file: &Path) -> String {
    escaped(file.as_os_str().as_bytes())
}

/// The first subvolume of a stream that has an end.
fn ends(file: &PathBuf) -> Result<Option<NewSubvolume>, String> {
    let io = |error: io::Error| strerror(&error);
    let mut input = Unpacked::new(File::open(file).map_err(io)?, Decompress::Auto);
    let first = first_subvolume(&mut input).map_err(|error| error.to_string())?;
    let end = if input.is_packed() {
        // From its beginning: of what was read, more was taken than the command.
        input.rewind().map_err(io)?;
        last_bytes(&mut input).map_err(io)?
    } else {
        let mut end = [0; END.len()];
        let file = input.get_mut();
        file.seek(SeekFrom::End(-(END.len() as i64)))
            .and_then(|_| file.read_exact(&mut end))
            .map_or(Vec::new(), |()| end.to_vec())
    };
    if end != END {
        return Err("it has no end command: it was cut off, or something follows it".to_owned());
    }
    Ok(first)
}

/// The last bytes of what has to be unpacked for that, as many as [`END`] has.
fn last_bytes(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let (mut end, mut piece) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        let len = input.read(&mut piece)?;
        if len == 0 {
            return Ok(end);
        }
        end.extend_from_slice(piece.get(..len).unwrap_or_default());
        end.drain(..end.len().saturating_sub(END.len()));
    }
}

/// All subvolumes of a file that can be received.
fn whole(file: &PathBuf) -> Result<Vec<NewSubvolume>, String> {
    let mut how = VerifyOptions::default();
    // As a receive of the set looks at them.
    how.names = false;
    how.allow_unknown = true;
    let input = File::open(file).map_err(|error| strerror(&error))?;
    let input = Unpacked::new(input, Decompress::Auto);
    let report = Verifier::new(how).verify(input);
    for problem in report::problems(Some(file), &report) {
        say(&format!("warning: {problem}"));
    }
    let good = report.subvolumes.iter().filter(|it| it.good);
    Ok(good.map(NewSubvolume::from).collect())
}
