//! Streams into anything that can be written.

use std::fmt;
use std::io::{self, Write};

use crate::command::Command;
use crate::decoder::Item;
use crate::encoder::Encoder;
use crate::error::{Error, Misuse, Position};
use crate::frame::RawCommand;
use crate::limits::Limits;
use crate::wire::Version;

/// Bytes gathered before they are written out.
const GATHER: usize = 256 * 1024;

/// Writes streams to a sink.
///
/// Needs no buffering below it: it gathers commands itself, at most 256 KiB
/// and one command. What is gathered reaches the sink with
/// [`Writer::finish`] or [`Writer::flush`], not when the writer is dropped.
///
/// ```
/// use btrfs_sendstream::{Command, SubvolumeName, Uuid, Version, Writer};
///
/// let mut writer = Writer::new(Vec::new());
/// writer.header(Version::V2)?;
/// writer.command(&Command::Subvol {
///     name: SubvolumeName::parse(&b"home"[..])?,
///     uuid: Uuid::from_u128(1),
///     ctransid: 7,
/// })?;
/// writer.command(&Command::<&[u8]>::End)?;
/// let stream = writer.finish()?;
/// assert!(stream.starts_with(b"btrfs-stream\0\x02"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Writer<W> {
    sink: W,
    encoder: Encoder,
    gathered: Vec<u8>,
    /// How much of `gathered` the sink has taken.
    taken: usize,
}

impl<W: Write> Writer<W> {
    /// A writer before the first stream.
    pub fn new(sink: W) -> Self {
        Self::with_limits(sink, Limits::default())
    }

    /// The same with other bounds than [`Limits::default`].
    pub fn with_limits(sink: W, limits: Limits) -> Self {
        Self {
            sink,
            encoder: Encoder::with_limits(limits),
            gathered: Vec::new(),
            taken: 0,
        }
    }

    /// Begins a stream, see [`Encoder::header`].
    ///
    /// # Errors
    /// As for [`Writer::command`].
    pub fn header(&mut self, version: Version) -> Result<(), Error> {
        self.make_room()?;
        self.encoder.header(version, &mut self.gathered)
    }

    /// Writes a command, see [`Encoder::command`].
    ///
    /// # Errors
    /// [`Misuse`] says what cannot be written. An error of kind
    /// [`Io`](crate::ErrorKind::Io) is the sink's. Either way the command
    /// was not accepted and may be passed again.
    pub fn command<B: AsRef<[u8]>>(&mut self, command: &Command<B>) -> Result<(), Error> {
        self.make_room()?;
        self.encoder.command(command, &mut self.gathered)
    }

    /// Writes a command as number and payload, see [`Encoder::raw`].
    ///
    /// # Errors
    /// As for [`Writer::command`].
    pub fn raw<B: AsRef<[u8]>>(&mut self, command: &RawCommand<B>) -> Result<(), Error> {
        self.make_room()?;
        self.encoder.raw(command, &mut self.gathered)
    }

    /// Writes what a decoder gave, see [`Encoder::item`].
    ///
    /// # Errors
    /// As for [`Writer::command`].
    pub fn item<B: AsRef<[u8]>>(&mut self, item: &Item<B>) -> Result<(), Error> {
        self.make_room()?;
        self.encoder.item(item, &mut self.gathered)
    }

    /// Writes all items to the sink and flushes it.
    ///
    /// # Errors
    /// Those of the sink. The call may be repeated and continues where it
    /// stopped.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.drain()?;
        self.sink.flush().map_err(|error| self.failed(error))
    }

    /// Flushes, and gives the sink back.
    ///
    /// # Errors
    /// Those of the sink, and [`Misuse::Unfinished`] inside a stream. The
    /// error holds the writer, so that nothing is lost.
    pub fn finish(mut self) -> Result<W, FinishError<W>> {
        let result = if self.encoder.is_complete() {
            self.flush()
        } else {
            Err(Error::from(Misuse::Unfinished).at(self.encoder.written()))
        };
        match result {
            Ok(()) => Ok(self.sink),
            Err(error) => Err(FinishError {
                error,
                writer: self,
            }),
        }
    }

    fn make_room(&mut self) -> Result<(), Error> {
        if self.gathered.len() < GATHER {
            return Ok(());
        }
        self.drain()
    }

    fn drain(&mut self) -> Result<(), Error> {
        while let Some(rest @ [_, ..]) = self.gathered.get(self.taken..) {
            match self.sink.write(rest) {
                Ok(0) => return Err(self.failed(io::ErrorKind::WriteZero.into())),
                Ok(written) => self.taken += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        self.gathered.clear();
        self.taken = 0;
        Ok(())
    }

    fn failed(&self, error: io::Error) -> Error {
        Error::from(error).at(self.encoder.written())
    }
}

impl<W> Writer<W> {
    /// How much was accepted: headers, commands of the last stream, bytes.
    pub fn written(&self) -> Position {
        self.encoder.written()
    }

    /// The sink.
    pub fn get_ref(&self) -> &W {
        &self.sink
    }

    /// The sink, to be changed.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.sink
    }

    /// The sink, taken out. What was gathered is lost.
    pub fn into_inner(self) -> W {
        self.sink
    }
}

/// Why a [`Writer`] could not be finished, with the writer.
pub struct FinishError<W> {
    error: Error,
    writer: Writer<W>,
}

impl<W> FinishError<W> {
    /// What went wrong.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// The writer, as it was when the error occurred.
    pub fn into_writer(self) -> Writer<W> {
        self.writer
    }

    /// The error alone.
    pub fn into_error(self) -> Error {
        self.error
    }
}

impl<W> fmt::Debug for FinishError<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FinishError").field(&self.error).finish()
    }
}

impl<W> fmt::Display for FinishError<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<W> std::error::Error for FinishError<W> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}
