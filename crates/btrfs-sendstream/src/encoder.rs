//! Typed commands to bytes, without I/O.

use crate::command::{Command, CommandKind, codec};
use crate::decoder::Item;
use crate::error::{CommandName, Error, Misuse, Position};
use crate::frame::RawCommand;
use crate::frame::framer::{Framer, finished_header};
use crate::limits::Limits;
use crate::sequence::Sequence;
use crate::wire::{COMMAND_HEADER_LEN, Version};

/// Encodes streams into a `Vec<u8>`, without I/O.
///
/// Attributes are written in the kernel's order, so that what was decoded
/// from a kernel's stream is encoded to the same bytes. What the version
/// cannot carry, and what a [`Decoder`](crate::Decoder) would refuse, is
/// refused with an error of kind [`Misuse`]; nothing is appended then, and
/// the encoder can go on.
///
/// ```
/// use btrfs_sendstream::{Command, Encoder, SubvolumeName, Uuid, Version};
///
/// let mut out = Vec::new();
/// let mut encoder = Encoder::new();
/// encoder.header(Version::V1, &mut out)?;
/// encoder.command(
///     &Command::Subvol {
///         name: SubvolumeName::parse(&b"home"[..])?,
///         uuid: Uuid::from_u128(1),
///         ctransid: 7,
///     },
///     &mut out,
/// )?;
/// encoder.command(&Command::<&[u8]>::End, &mut out)?;
/// assert!(encoder.is_complete());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Encoder {
    limits: Limits,
    sequence: Sequence,
    version: Option<Version>,
    /// Headers, commands of the stream, and bytes written.
    written: Position,
}

impl Encoder {
    /// An encoder before the first stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with other bounds than [`Limits::default`].
    pub fn with_limits(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Begins a stream: the first, or another after END.
    ///
    /// # Errors
    /// [`Misuse::Sequence`] inside a stream.
    pub fn header(&mut self, version: Version, out: &mut Vec<u8>) -> Result<(), Error> {
        self.sequence = self
            .sequence
            .header()
            .map_err(|breach| self.place(Misuse::Sequence(breach)))?;
        let before = out.len();
        Framer::header(version, out);
        self.version = Some(version);
        self.written.stream += 1;
        self.written.command = 0;
        self.written.offset += (out.len() - before) as u64;
        Ok(())
    }

    /// Appends a command.
    ///
    /// # Errors
    /// [`Misuse`] says what cannot be written; `out` is as it was.
    pub fn command<B: AsRef<[u8]>>(
        &mut self,
        command: &Command<B>,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        self.append(command.kind().number(), out, |version, out| {
            codec::write(command, version, out)
        })
    }

    /// Appends a command as number and payload, whatever its attributes.
    /// Meant for commands that are unknown here; the order of commands, the
    /// versions of known ones and the limits are checked all the same.
    ///
    /// # Errors
    /// [`Misuse`] says what cannot be written; `out` is as it was.
    pub fn raw<B: AsRef<[u8]>>(
        &mut self,
        command: &RawCommand<B>,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        self.append(
            command.number,
            out,
            |version, out| match CommandKind::from_number(command.number) {
                Some(command) if command.since() > version => {
                    Err(Misuse::CommandVersion { command, version })
                }
                _ => {
                    out.extend_from_slice(command.payload.as_ref());
                    Ok(())
                }
            },
        )
    }

    /// Appends what a decoder gave.
    ///
    /// # Errors
    /// [`Misuse`] says what cannot be written; `out` is as it was.
    pub fn item<B: AsRef<[u8]>>(&mut self, item: &Item<B>, out: &mut Vec<u8>) -> Result<(), Error> {
        match item {
            Item::Header(version) => self.header(*version, out),
            Item::Command(command) => self.command(command, out),
            Item::Unknown(command) => self.raw(command, out),
        }
    }

    /// Whether the output may end here: after END, or before any header.
    pub fn is_complete(&self) -> bool {
        matches!(self.sequence, Sequence::Start | Sequence::Ended)
    }

    /// How much was written: headers, commands of the last stream, bytes.
    pub fn written(&self) -> Position {
        self.written
    }

    fn append(
        &mut self,
        number: u16,
        out: &mut Vec<u8>,
        payload: impl FnOnce(Version, &mut Vec<u8>) -> Result<(), Misuse>,
    ) -> Result<(), Error> {
        let before = out.len();
        match self.try_append(number, out, payload) {
            Ok(sequence) => {
                self.sequence = sequence;
                self.written.command += 1;
                self.written.offset += (out.len() - before) as u64;
                Ok(())
            }
            Err(error) => {
                out.truncate(before);
                Err(error)
            }
        }
    }

    fn try_append(
        &self,
        number: u16,
        out: &mut Vec<u8>,
        payload: impl FnOnce(Version, &mut Vec<u8>) -> Result<(), Misuse>,
    ) -> Result<Sequence, Error> {
        let sequence = self
            .sequence
            .command(CommandName(number))
            .map_err(|breach| self.place(Misuse::Sequence(breach)))?;
        // Before a header, the sequence has refused already.
        let version = self.version.unwrap_or(Version::V1);
        let header_at = out.len();
        out.extend_from_slice(&[0; COMMAND_HEADER_LEN]);
        let payload_at = out.len();
        payload(version, out).map_err(|misuse| self.place(misuse))?;
        let written = out.get(payload_at..).unwrap_or_default();
        let max = self.limits.max_payload(version);
        if written.len() as u64 > u64::from(max) {
            return Err(self.place(Misuse::CommandTooLong {
                len: written.len(),
                max,
                version,
            }));
        }
        let header = finished_header(number, written).map_err(|error| error.at(self.upcoming()))?;
        if let Some(place) = out.get_mut(header_at..payload_at) {
            place.copy_from_slice(&header);
        }
        Ok(sequence)
    }

    fn upcoming(&self) -> Position {
        Position {
            command: self.written.command + 1,
            ..self.written
        }
    }

    fn place(&self, misuse: Misuse) -> Error {
        Error::from(misuse).at(self.upcoming())
    }
}
