//! Compressed input, buffered and counted.

use std::fmt;
use std::io::{self, ErrorKind, Read};

use super::error::{Fault, Problem};

/// Bytes that are read at a time.
const CHUNK: usize = 128 * 1024;

/// As many bytes as are needed to recognise a format.
const PEEKED: usize = 6;

/// Input that is read in large pieces, and can be looked at before it is taken.
pub(super) struct Source<R> {
    inner: R,
    buffer: Vec<u8>,
    /// What of the buffer was taken.
    start: usize,
    /// Bytes that were read from `inner`.
    read: u64,
    /// The last read returned nothing.
    ended: bool,
    /// An error of `inner`, for a decoder that turns it into one of its own.
    failure: Option<io::Error>,
}

impl<R> fmt::Debug for Source<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let taken = self.taken();
        f.debug_struct("Source").field("taken", &taken).finish()
    }
}

impl<R> Source<R> {
    pub(super) fn new(inner: R) -> Self {
        Self {
            inner,
            buffer: Vec::new(),
            start: 0,
            read: 0,
            ended: false,
            failure: None,
        }
    }

    pub(super) fn get_ref(&self) -> &R {
        &self.inner
    }

    pub(super) fn get_mut(&mut self) -> &mut R {
        &mut self.inner
    }

    /// Bytes that were read, taken or not.
    pub(super) fn read_in_all(&self) -> u64 {
        self.read
    }

    /// Bytes that were taken.
    pub(super) fn taken(&self) -> u64 {
        self.read - self.rest().len() as u64
    }

    /// Forgets what was read: the input is at its beginning again.
    pub(super) fn restart(&mut self) {
        self.buffer.clear();
        self.start = 0;
        self.read = 0;
        self.ended = false;
        self.failure = None;
    }

    fn rest(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// Takes what [`buffered`](Self::buffered) returned.
    pub(super) fn consume(&mut self, len: usize) {
        self.start = self.buffer.len().min(self.start + len);
    }
}

impl<R: Read> Source<R> {
    /// Reads at most `most` bytes to the end of the buffer.
    fn fill(&mut self, most: usize) -> io::Result<()> {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        }
        let len = self.buffer.len();
        self.buffer.resize(len + most, 0);
        let room = self.buffer.get_mut(len..).unwrap_or_default();
        let result = loop {
            match self.inner.read(room) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        let read = *result.as_ref().unwrap_or(&0);
        self.buffer.truncate(len + read);
        self.read += read as u64;
        self.ended = result.is_ok() && read == 0;
        result.map(drop)
    }

    /// Returns the next bytes, at most as many as a format is recognised by, and
    /// fewer only at the end. No more is read than that, so that input which is
    /// not compressed is read only as far as was asked for.
    pub(super) fn peek(&mut self) -> io::Result<&[u8]> {
        while self.rest().len() < PEEKED {
            self.fill(PEEKED - self.rest().len())?;
            if self.ended {
                break;
            }
        }
        let rest = self.rest();
        Ok(rest.get(..PEEKED).unwrap_or(rest))
    }

    /// Returns what is in the buffer, which is empty only at the end.
    pub(super) fn buffered(&mut self) -> io::Result<&[u8]> {
        if self.rest().is_empty() {
            self.fill(CHUNK)?;
        }
        Ok(self.rest())
    }

    /// Reads what is not compressed.
    pub(super) fn read_plain(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.rest().is_empty() {
            let len = self.inner.read(into)?;
            self.read += len as u64;
            return Ok(len);
        }
        self.copy(into)
    }

    fn copy(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = self.rest().read(into)?;
        self.consume(len);
        Ok(len)
    }

    /// Takes exactly as many bytes as there is room for.
    pub(super) fn exact(&mut self, mut into: &mut [u8]) -> Result<(), Fault> {
        while !into.is_empty() {
            if self.buffered()?.is_empty() {
                return Err(Fault::Problem(Problem::Ended));
            }
            let len = self.copy(into)?;
            into = into.get_mut(len..).unwrap_or_default();
        }
        Ok(())
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut array = [0; N];
        self.exact(&mut array)?;
        Ok(array)
    }

    /// Takes bytes that do not matter.
    pub(super) fn skip(&mut self, mut len: u64) -> Result<(), Fault> {
        while len > 0 {
            let there = self.buffered()?.len();
            if there == 0 {
                return Err(Fault::Problem(Problem::Ended));
            }
            let taken = usize::try_from(len).map_or(there, |len| len.min(there));
            self.consume(taken);
            len -= taken as u64;
        }
        Ok(())
    }

    /// What made a decoder fail that reads from here: an error of the input, its
    /// end, or what it contains.
    pub(super) fn fault(&mut self, otherwise: Problem) -> Fault {
        match self.failure.take() {
            Some(error) => Fault::Source(error),
            None if self.ended => Fault::Problem(Problem::Ended),
            None => Fault::Problem(otherwise),
        }
    }
}

/// For decoders that read themselves. See [`Source::fault`].
impl<R: Read> Read for Source<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.buffered() {
            Ok(_) => self.copy(into),
            Err(error) => {
                let kind = error.kind();
                self.failure = Some(error);
                Err(kind.into())
            }
        }
    }
}
