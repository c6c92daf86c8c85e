//! The second reading: the commands that are needed.

use std::io::{Read, Seek, SeekFrom};

use btrfs_sendstream::decompress::{DecodeError, Decompressor};
use btrfs_sendstream::{
    Command, CommandRef, Encoder, Item, Position, Reader, SubvolumeName, Uuid, Version,
};

use super::needs::{Need, What};
use super::words::operation;

/// The commands that made what is wanted, in the order of the streams.
#[derive(Debug)]
pub struct Needs {
    needs: Vec<Need>,
    /// The version of the stream, from a byte of a file on.
    versions: Vec<(u32, u64, Version)>,
}

/// Why what is needed could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError<E> {
    /// The stream is damaged, or cannot be read.
    #[error(transparent)]
    Stream(#[from] btrfs_sendstream::Error),
    /// Data cannot be decompressed.
    #[error("{operation}: {error} ({at})")]
    Data {
        /// The command and its path.
        operation: String,
        /// Why.
        error: DecodeError,
        /// Its place.
        at: Position,
    },
    /// A command that was read alone is damaged, or cannot be read.
    #[error("{} (byte {position})", error.kind())]
    Part {
        /// Why.
        error: btrfs_sendstream::Error,
        /// The byte of the stream where the command begins.
        position: u64,
    },
    /// The stream is not the one that was read before.
    #[error("the file was changed while it was read")]
    Changed,
    /// The caller's own.
    #[error("{0}")]
    Sink(E),
}

/// Takes what is fetched.
pub trait Fetch {
    /// What can fail.
    type Error;

    /// Data of an output, for this place in it.
    ///
    /// # Errors
    /// The caller's own.
    fn data(&mut self, output: u32, offset: u64, data: &[u8]) -> Result<(), Self::Error>;

    /// A command that changes the metadata of an output. Its path is that of the time.
    ///
    /// # Errors
    /// The caller's own.
    fn metadata(&mut self, output: u32, command: &CommandRef<'_>) -> Result<(), Self::Error>;
}

impl Needs {
    pub(super) fn new(needs: Vec<Need>, versions: Vec<(u32, u64, Version)>) -> Self {
        Self { needs, versions }
    }

    fn of_file(&self, file: usize) -> &[Need] {
        let file = u32::try_from(file).unwrap_or(u32::MAX);
        let begin = self.needs.partition_point(|need| need.file < file);
        let end = self.needs.partition_point(|need| need.file <= file);
        self.needs.get(begin..end).unwrap_or_default()
    }

    /// Whether anything in a file of the chain, numbered from 0, is needed.
    pub fn are_in(&self, file: usize) -> bool {
        !self.of_file(file).is_empty()
    }

    /// Reads a file of the chain again, and hands over what is needed of it.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub fn fetch<R: Read, F: Fetch>(
        &self,
        file: usize,
        reader: &mut Reader<R>,
        to: &mut F,
    ) -> Result<(), FetchError<F::Error>> {
        let mut decompressor = Decompressor::new();
        let mut needs = self.of_file(file);
        while let Some(first) = needs.first() {
            let position = reader.consumed();
            let Some(item) = reader.next_item()? else {
                return Err(FetchError::Changed);
            };
            let Item::Command(command) = item else {
                continue;
            };
            if position < first.position {
                continue;
            }
            let count = needs.partition_point(|need| need.position <= position);
            let (here, rest) = needs.split_at(count);
            if here.iter().any(|need| need.position != position) {
                return Err(FetchError::Changed);
            }
            needs = rest;
            if let Err(error) = hand_over(here, &command, &mut decompressor, to) {
                let operation = operation(&command);
                let at = reader.position();
                return Err(error.of(operation, at));
            }
        }
        Ok(())
    }

    /// Does the same with a file that is not compressed, of which only the needed commands
    /// are read.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub fn fetch_parts<S: Read + Seek, F: Fetch>(
        &self,
        file: usize,
        source: &mut S,
        to: &mut F,
    ) -> Result<(), FetchError<F::Error>> {
        let mut decompressor = Decompressor::new();
        let mut needs = self.of_file(file);
        while let Some(&Need { position, file, .. }) = needs.first() {
            let count = needs.partition_point(|need| need.position <= position);
            let (here, rest) = needs.split_at(count);
            needs = rest;
            let failed = |error| FetchError::Part { error, position };
            let begin = self.beginning(file, position).map_err(failed)?;
            let sought = source.seek(SeekFrom::Start(position));
            sought.map_err(|error| failed(error.into()))?;
            let input = (&begin[..]).chain(&mut *source);
            let mut reader = Reader::builder().exact(true).build(input);
            for _ in 0..BEGINNING {
                reader.next_item().map_err(failed)?;
            }
            let Some(Item::Command(command)) = reader.next_item().map_err(failed)? else {
                return Err(FetchError::Changed);
            };
            if let Err(error) = hand_over(here, &command, &mut decompressor, to) {
                let at = Position {
                    offset: position,
                    ..Position::default()
                };
                return Err(error.of(operation(&command), at));
            }
        }
        Ok(())
    }

    /// The header and the first command of a stream of the version that the stream has at
    /// this byte of a file.
    fn beginning(&self, file: u32, position: u64) -> Result<Vec<u8>, btrfs_sendstream::Error> {
        let begun = self
            .versions
            .partition_point(|(of, from, _)| (*of, *from) <= (file, position));
        let version = begun.checked_sub(1).and_then(|at| self.versions.get(at));
        let version = version.map_or(Version::V1, |(.., version)| *version);
        let (mut encoder, mut bytes) = (Encoder::new(), Vec::new());
        encoder.header(version, &mut bytes)?;
        // No command may come before it.
        if let Ok(name) = SubvolumeName::parse(&b"part"[..]) {
            let (uuid, ctransid) = (Uuid::max(), 0);
            let first = Command::Subvol {
                name,
                uuid,
                ctransid,
            };
            encoder.command(&first, &mut bytes)?;
        }
        Ok(bytes)
    }
}

/// Items in the bytes of [`Needs::beginning`].
const BEGINNING: usize = 2;

/// Why one command could not be handed over.
enum Failed<E> {
    Data(DecodeError),
    Changed,
    Sink(E),
}

impl<E> Failed<E> {
    /// The error for a command at this place.
    fn of(self, operation: String, at: Position) -> FetchError<E> {
        match self {
            Self::Data(error) => FetchError::Data {
                operation,
                error,
                at,
            },
            Self::Changed => FetchError::Changed,
            Self::Sink(error) => FetchError::Sink(error),
        }
    }
}

/// Hands over what is needed of one command.
fn hand_over<F: Fetch>(
    needs: &[Need],
    command: &CommandRef<'_>,
    decompressor: &mut Decompressor,
    to: &mut F,
) -> Result<(), Failed<F::Error>> {
    let is_data = |need: &Need| matches!(need.what, What::Data { .. });
    let written = match command {
        Command::Write { offset, data, .. } => Some((*offset, *data)),
        Command::EncodedWrite(write) if needs.iter().any(is_data) => {
            let decoded = decompressor.decode_write(write).map_err(Failed::Data)?;
            Some((write.offset, decoded))
        }
        _ => None,
    };
    for need in needs {
        match need.what {
            What::Metadata => to.metadata(need.output, command).map_err(Failed::Sink)?,
            What::Data {
                offset,
                skip,
                len,
                at,
            } => {
                let part = written
                    .filter(|(begins, _)| *begins == offset)
                    .and_then(|(_, data)| {
                        let start = usize::try_from(skip).ok()?;
                        let end = start.checked_add(usize::try_from(len).ok()?)?;
                        data.get(start..end)
                    })
                    .ok_or(Failed::Changed)?;
                to.data(need.output, at, part).map_err(Failed::Sink)?;
            }
        }
    }
    Ok(())
}
