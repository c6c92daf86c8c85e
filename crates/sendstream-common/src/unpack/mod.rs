//! Unpacks compressed input while it is read: zstd, gzip, lz4 and xz.
//!
//! The last byte of a frame is passed on only after the frame has ended and its
//! checksum, if it has one, was verified. A stream in one frame thus has no end
//! command before all of the frame is known to be good.

mod error;
mod gzip;
mod lz4;
mod source;
mod xz;
mod zstd;

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};
use std::str::FromStr;

pub use error::{Problem, UnpackError};

use error::Fault;
use gzip::Gzip;
use lz4::Lz4;
use source::Source;
use xz::Xz;
use zstd::Zstd;

/// The largest window of zstd and the largest dictionary of xz, in bytes, that
/// memory is allocated for: what `zstd --ultra -22` and `zstd --long` use. `xz -9`
/// uses half of it.
pub const MAX_WINDOW: u64 = 128 << 20;

/// A format that can be unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Zstandard (RFC 8878): frames, and skippable frames between them.
    Zstd,
    /// gzip (RFC 1952): members.
    Gzip,
    /// The frame format of LZ4; not its legacy format.
    Lz4,
    /// The .xz format with the filter LZMA2: streams.
    Xz,
}

impl Format {
    const ALL: [Self; 4] = [Self::Zstd, Self::Gzip, Self::Lz4, Self::Xz];

    /// Its name, as `--decompress` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Lz4 => "lz4",
            Self::Xz => "xz",
        }
    }

    /// What a frame begins with.
    pub(crate) fn magic(self) -> &'static [u8] {
        match self {
            Self::Zstd => b"\x28\xb5\x2f\xfd",
            Self::Gzip => b"\x1f\x8b",
            Self::Lz4 => b"\x04\x22\x4d\x18",
            Self::Xz => b"\xfd7zXZ\0",
        }
    }

    /// The format of what begins with `start`.
    fn of(start: &[u8]) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|format| start.starts_with(format.magic()))
    }

    /// Whether there are skippable frames in it.
    fn has_skippable(self) -> bool {
        match self {
            Self::Zstd | Self::Lz4 => true,
            Self::Gzip | Self::Xz => false,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether what begins with `start` is a skippable frame of zstd or lz4. `pzstd`
/// writes one before each frame.
pub(crate) fn is_skippable(start: &[u8]) -> bool {
    matches!(start, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

/// What is to be unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decompress {
    /// Nothing.
    #[default]
    No,
    /// What begins as one of the formats does. No send stream does.
    Auto,
    /// Input in this format; everything else is an error.
    Only(Format),
}

/// The words that [`Decompress`] is parsed from.
pub const WORDS: [&str; 6] = ["auto", "none", "zstd", "gzip", "lz4", "xz"];

impl FromStr for Decompress {
    type Err = &'static str;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let format = Format::ALL.into_iter().find(|it| it.name() == word);
        match (word, format) {
            ("auto", _) => Ok(Self::Auto),
            ("none", _) => Ok(Self::No),
            (_, Some(format)) => Ok(Self::Only(format)),
            (_, None) => Err("it must be auto, none, zstd, gzip, lz4 or xz"),
        }
    }
}

/// Input that is unpacked as it is read.
///
/// Memory: 128 KiB of compressed input, and what the format needs: for zstd the
/// window and less than 2 MiB, for xz the dictionary, for lz4 9 MiB, for gzip
/// 64 KiB. How much comes out does not matter.
///
/// Of a zstd frame, a window is held back until more of the frame or its end comes.
///
/// Errors of the input are passed on; those of the format are an
/// [`UnpackError`] in an [`io::Error`].
#[derive(Debug)]
pub struct Unpacked<R> {
    source: Source<R>,
    what: Decompress,
    state: State,
    /// The last byte that was unpacked, until it is known whether it is the last
    /// of its frame.
    held: Option<u8>,
    /// Bytes that were passed on.
    given: u64,
}

#[derive(Debug)]
enum State {
    /// Nothing was read.
    Start,
    /// It is not unpacked.
    Plain,
    /// A frame of this format may follow.
    Between(Format),
    /// In a frame.
    In(Frame),
    /// All was read.
    End,
    /// It cannot be read further.
    Failed,
}

#[derive(Debug)]
enum Frame {
    Zstd(Box<Zstd>),
    Gzip(Box<Gzip>),
    Lz4(Box<Lz4>),
    Xz(Box<Xz>),
}

impl Frame {
    /// Reads the header of a frame.
    fn begin<R: Read>(format: Format, source: &mut Source<R>) -> Result<Self, Fault> {
        Ok(match format {
            Format::Zstd => Self::Zstd(Box::new(Zstd::begin(source)?)),
            Format::Gzip => Self::Gzip(Box::new(Gzip::begin(source)?)),
            Format::Lz4 => Self::Lz4(Box::new(Lz4::begin(source)?)),
            Format::Xz => Self::Xz(Box::new(Xz::begin(source)?)),
        })
    }

    fn format(&self) -> Format {
        match self {
            Self::Zstd(_) => Format::Zstd,
            Self::Gzip(_) => Format::Gzip,
            Self::Lz4(_) => Format::Lz4,
            Self::Xz(_) => Format::Xz,
        }
    }

    /// Unpacks some bytes, `into` not being empty; 0 if the frame has ended and is
    /// good.
    fn read<R: Read>(&mut self, source: &mut Source<R>, into: &mut [u8]) -> Result<usize, Fault> {
        match self {
            Self::Zstd(frame) => frame.read(source, into),
            Self::Gzip(frame) => frame.read(source, into),
            Self::Lz4(frame) => frame.read(source, into),
            Self::Xz(frame) => frame.read(source, into),
        }
    }
}

impl<R> Unpacked<R> {
    /// Unpacks what is read from `source`.
    pub fn new(source: R, what: Decompress) -> Self {
        Self {
            source: Source::new(source),
            what,
            state: State::Start,
            held: None,
            given: 0,
        }
    }

    /// What is unpacked.
    pub fn get_ref(&self) -> &R {
        self.source.get_ref()
    }

    /// What is unpacked; nothing must be read from it.
    pub fn get_mut(&mut self) -> &mut R {
        self.source.get_mut()
    }

    /// Whether the input turned out to be compressed.
    pub fn is_packed(&self) -> bool {
        match self.state {
            State::Start | State::Plain => false,
            State::Between(_) | State::In(_) | State::End | State::Failed => true,
        }
    }
}

impl<R: Read> Unpacked<R> {
    /// Reads how the input begins, and decides what it is.
    fn start(&mut self) -> Result<State, Fault> {
        let only = match self.what {
            Decompress::No => return Ok(State::Plain),
            Decompress::Auto => None,
            Decompress::Only(format) => Some(format),
        };
        let mut skipped = false;
        loop {
            let start = self.source.peek()?;
            let empty = start.is_empty();
            if is_skippable(start) && only.is_none_or(Format::has_skippable) {
                self.skip_frame()?;
                skipped = true;
                continue;
            }
            let format = Format::of(start);
            return match (format, only) {
                (_, _) if empty && skipped => Ok(State::End),
                (_, _) if empty => Ok(State::Plain),
                (Some(format), None) => Ok(State::Between(format)),
                (Some(format), Some(only)) if format == only => Ok(State::Between(format)),
                (_, Some(only)) => Err(Fault::Problem(Problem::Other(only))),
                // It may be a frame of a format that is not known.
                (None, None) if skipped => Err(Fault::Problem(Problem::Trailing)),
                (None, None) => Ok(State::Plain),
            };
        }
    }

    fn skip_frame(&mut self) -> Result<(), Fault> {
        let [_, _, _, _, len @ ..] = self.source.array::<8>()?;
        self.source.skip(u32::from_le_bytes(len).into())
    }

    /// Begins the next frame, if there is one.
    fn next_frame(&mut self, format: Format) -> Result<State, Fault> {
        loop {
            let start = self.source.peek()?;
            if start.is_empty() {
                return Ok(State::End);
            }
            if format.has_skippable() && is_skippable(start) {
                self.skip_frame()?;
            } else if format == Format::Xz && start.starts_with(&[0; 4]) {
                // The padding of streams.
                self.source.skip(4)?;
            } else if start.starts_with(format.magic()) {
                return Ok(State::In(Frame::begin(format, &mut self.source)?));
            } else {
                return Err(Fault::Problem(Problem::Trailing));
            }
        }
    }

    fn unpack(&mut self, into: &mut [u8]) -> Result<usize, Fault> {
        loop {
            self.state = match &mut self.state {
                State::Start => self.start()?,
                State::Plain => return Ok(self.source.read_plain(into)?),
                State::Between(format) => {
                    let format = *format;
                    self.next_frame(format)?
                }
                State::In(frame) => {
                    // Behind the byte that was held back.
                    let offset = usize::from(self.held.is_some());
                    let mut one = [0];
                    let is_short = into.len() <= offset;
                    let room = if is_short {
                        &mut one
                    } else {
                        into.get_mut(offset..).unwrap_or_default()
                    };
                    let len = frame.read(&mut self.source, room)?;
                    let last = len.checked_sub(1).and_then(|at| room.get(at)).copied();
                    if let (Some(first), Some(held)) = (into.first_mut(), self.held) {
                        *first = held;
                    }
                    let had_one = self.held.is_some();
                    self.held = last;
                    match last {
                        // One more byte is held back than was before, or as many.
                        Some(_) if had_one => return Ok(len),
                        Some(_) if len > 1 => return Ok(len - 1),
                        Some(_) => continue,
                        None => {
                            self.state = State::Between(frame.format());
                            if had_one {
                                return Ok(1);
                            }
                            continue;
                        }
                    }
                }
                State::End => return Ok(0),
                State::Failed => {
                    let again = io::Error::from(io::ErrorKind::InvalidData);
                    return Err(Fault::Source(again));
                }
            };
        }
    }

    /// The error to return.
    fn failure(&mut self, fault: Fault) -> io::Error {
        let format = match &self.state {
            State::Between(format) => Some(*format),
            State::In(frame) => Some(frame.format()),
            State::Start | State::Plain | State::End | State::Failed => None,
        };
        if !matches!(self.state, State::Plain) {
            self.state = State::Failed;
        }
        let problem = match fault {
            Fault::Source(error) => return error,
            Fault::Problem(problem) => problem,
        };
        let error = UnpackError {
            format,
            problem,
            position: self.source.taken(),
        };
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        match self.unpack(into) {
            Ok(len) => {
                self.given += len as u64;
                Ok(len)
            }
            Err(fault) => Err(self.failure(fault)),
        }
    }
}

/// To a place in what was unpacked: by unpacking again from the beginning.
impl<R: Read + Seek> Seek for Unpacked<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        if self.what == Decompress::No {
            return self.source.get_mut().seek(to);
        }
        let now = self.source.get_mut().stream_position()?;
        let to = match to {
            SeekFrom::Start(to) => to,
            SeekFrom::Current(0) => self.given,
            SeekFrom::Current(_) | SeekFrom::End(_) => {
                return Err(io::ErrorKind::Unsupported.into());
            }
        };
        if to == self.given {
            return Ok(to);
        }
        let begin = now.saturating_sub(self.source.read_in_all());
        self.source.get_mut().seek(SeekFrom::Start(begin))?;
        self.source.restart();
        self.state = State::Start;
        self.held = None;
        self.given = 0;
        io::copy(&mut self.by_ref().take(to), &mut io::sink())?;
        Ok(self.given)
    }
}
