//! Each subvolume to a file of its own.

use std::path::PathBuf;

use btrfs_sendstream::transform::{Apart, TransformError};
use btrfs_sendstream::{Command, Item, Version};

use crate::args;
use crate::output::Destination;
use crate::{Failure, input, say};

/// Bytes of a subvolume's name in a file name; with the rest it stays within
/// the 255 bytes that a name can have.
const MAX_NAME: usize = 200;

/// The file being written, and how many there were.
struct Files {
    directory: PathBuf,
    verbose: bool,
    count: u64,
    version: Version,
    current: Option<Destination>,
}

pub(crate) fn run(options: &args::Split, verbose: bool) -> Result<(), Failure> {
    let mut files = Files {
        directory: options.directory.clone(),
        verbose,
        count: 0,
        version: Version::V1,
        current: None,
    };
    let mut take = |item: Item, _| files.item(&item);
    input::run(
        &options.inputs,
        options.unpack.decompress,
        &mut Apart::new(),
        &mut take,
    )
}

impl Files {
    fn item(&mut self, item: &Item) -> Result<(), TransformError> {
        match item {
            Item::Header(version) => self.version = *version,
            Item::Command(Command::Subvol { name, .. } | Command::Snapshot { name, .. }) => {
                self.begin(name.as_bytes())
                    .map_err(|failure| TransformError::other(failure.to_string()))?;
                self.write(item)?;
            }
            Item::Command(Command::End) => {
                self.write(item)?;
                if let Some(file) = self.current.take() {
                    file.finish()
                        .map_err(|failure| TransformError::other(failure.to_string()))?;
                }
            }
            _ => self.write(item)?,
        }
        Ok(())
    }

    fn begin(&mut self, name: &[u8]) -> Result<(), Failure> {
        self.count += 1;
        let path = self.directory.join(file_name(self.count, name));
        if self.verbose {
            say(&path.display().to_string());
        }
        let mut file = Destination::create(&path, false)?;
        let failed = |error| Failure::Finish {
            file: path.display().to_string(),
            error,
        };
        file.writer.header(self.version).map_err(failed)?;
        self.current = Some(file);
        Ok(())
    }

    fn write(&mut self, item: &Item) -> Result<(), TransformError> {
        match &mut self.current {
            Some(file) => file.writer.item(item).map_err(TransformError::other),
            None => Ok(()),
        }
    }
}

/// The number keeps the order, in which incremental streams have to be
/// received; of the name only what is harmless in any file name is taken.
fn file_name(number: u64, name: &[u8]) -> String {
    let harmless = |&byte: &u8| match byte {
        b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'.' | b'_' | b'@' | b'+' | b'-' => {
            char::from(byte)
        }
        _ => '_',
    };
    let name: String = name.iter().take(MAX_NAME).map(harmless).collect();
    format!("{number:04}-{name}.btrfs-stream")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_harmless() {
        for (name, expected) in [
            (&b"home.2024-01-01"[..], "0007-home.2024-01-01.btrfs-stream"),
            (b"a b\n\xff", "0007-a_b__.btrfs-stream"),
            (b"-rf", "0007--rf.btrfs-stream"),
        ] {
            assert_eq!(file_name(7, name), expected);
        }
        assert!(file_name(7, &[b'x'; 255]).len() < 255);
    }
}
