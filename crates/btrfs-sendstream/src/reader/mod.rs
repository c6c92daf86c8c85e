//! Streams from anything that can be read.

#[cfg(feature = "tokio")]
mod asynchronous;
mod buffer;
mod input;

use std::io::{self, Read};

use bytes::Bytes;

use crate::decoder::{DecoderBuilder, Item};
use crate::error::{Error, Position};
use crate::limits::Limits;
use crate::wire::Version;
use input::{Input, Next};

#[cfg(feature = "tokio")]
pub use asynchronous::AsyncReader;

/// How to read: bounds, and how far ahead.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReaderBuilder {
    decoder: DecoderBuilder,
    exact: bool,
}

impl ReaderBuilder {
    /// Sets the bounds. The default is [`Limits::default`].
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.decoder = self.decoder.limits(limits);
        self
    }

    /// See [`DecoderBuilder::allow_unknown`].
    #[must_use]
    pub fn allow_unknown(mut self, allow: bool) -> Self {
        self.decoder = self.decoder.allow_unknown(allow);
        self
    }

    /// Sets whether to read no byte after an END command, so that the rest of
    /// the source can be read by others. Costs about one read per command. The
    /// default is to read ahead.
    ///
    /// If another item is requested after END, the reader reads the next
    /// stream.
    #[must_use]
    pub fn exact(mut self, exact: bool) -> Self {
        self.exact = exact;
        self
    }

    /// Builds a reader of `source`.
    pub fn build<R: Read>(self, source: R) -> Reader<R> {
        Reader {
            source,
            input: Input::new(self.decoder.build(), self.exact),
        }
    }
}

/// Reads items from a source.
///
/// Needs no buffering below it: it reads large pieces itself. An interrupted
/// read is tried again.
///
/// Memory: one buffer of at most 512 KiB, or of the longest command of the
/// input if that is longer; [`Limits`] bounds the longest command. The buffer
/// grows only with bytes that have arrived, whatever a length field claims.
/// Items from [`Reader::next_owned`] keep their piece of the buffer alive, and
/// with it the rest of that piece, up to the same size; the reader then goes
/// on with another one. When such items are dropped, their pieces are used again:
/// the reader keeps up to 48 of at most 512 KiB, as many as were shared at a time.
///
/// ```
/// use btrfs_sendstream::{Item, Reader};
///
/// fn files(source: impl std::io::Read) -> Result<u64, btrfs_sendstream::Error> {
///     let mut reader = Reader::new(source);
///     let mut files = 0;
///     while let Some(item) = reader.next_item()? {
///         if let Item::Command(btrfs_sendstream::Command::Mkfile { .. }) = item {
///             files += 1;
///         }
///     }
///     Ok(files)
/// }
/// # assert!(files(&b""[..]).is_err());
/// ```
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    input: Input,
}

impl Reader<()> {
    /// Settings other than the default.
    pub fn builder() -> ReaderBuilder {
        ReaderBuilder::default()
    }
}

impl<R: Read> Reader<R> {
    /// A reader with the default settings.
    pub fn new(source: R) -> Self {
        ReaderBuilder::default().build(source)
    }

    /// The next item, borrowed from the reader's buffer. `None` where the
    /// input may end: after the END of the last stream.
    ///
    /// Allocates nothing per item.
    ///
    /// # Errors
    /// Every [`ErrorKind`](crate::ErrorKind) but `Misuse`. After an error of kind
    /// `Io` the call may be repeated and continues where it stopped. Any other
    /// error is permanent: repeated calls return it again.
    #[inline]
    pub fn next_item(&mut self) -> Result<Option<Item<&[u8]>>, Error> {
        self.input.fail_again()?;
        match self.fill()? {
            Some(_) => self.input.item().map(Some),
            None => Ok(None),
        }
    }

    /// The next item, sharing the reader's buffer: it can be kept and sent
    /// to other threads, and no file data is copied.
    ///
    /// Both ways of reading may be mixed.
    ///
    /// # Errors
    /// Those of [`Reader::next_item`].
    pub fn next_owned(&mut self) -> Result<Option<Item<Bytes>>, Error> {
        Ok(self.next_raw()?.map(|(item, _)| item))
    }

    /// Like [`Reader::next_owned`], with the bytes that the item was decoded
    /// from. They share the reader's buffer as well.
    ///
    /// # Errors
    /// Those of [`Reader::next_item`].
    pub fn next_raw(&mut self) -> Result<Option<(Item<Bytes>, Bytes)>, Error> {
        self.input.fail_again()?;
        match self.fill()? {
            Some(len) => self.input.raw(len).map(Some),
            None => Ok(None),
        }
    }

    /// Reads until the next item is whole, and gives its length; `None` at
    /// the end of the input, if it may end there.
    #[inline]
    fn fill(&mut self) -> Result<Option<usize>, Error> {
        loop {
            match self.input.next() {
                Next::Whole(len) => return Ok(Some(len)),
                Next::Read(total) => {
                    if !self.read_more(total)? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Reads once, towards an item of `total` bytes. `false` at the end of
    /// the input, if it may end there.
    #[cold]
    fn read_more(&mut self, total: usize) -> Result<bool, Error> {
        let room = self.input.room(total)?;
        let read = loop {
            match self.source.read(room) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        self.input.arrived(read)
    }
}

impl<R> Reader<R> {
    /// Place of the last item, or of the one that failed.
    pub fn position(&self) -> Position {
        self.input.decoder().position()
    }

    /// Bytes decoded so far. More may have been read.
    pub fn consumed(&self) -> u64 {
        self.input.decoder().consumed()
    }

    /// See [`Decoder::ignored_attributes`](crate::Decoder::ignored_attributes).
    pub fn ignored_attributes(&self) -> u64 {
        self.input.decoder().ignored_attributes()
    }

    /// Version of the stream being read; `None` before the first header and
    /// after END.
    pub fn version(&self) -> Option<Version> {
        self.input.decoder().version()
    }

    /// The source.
    pub fn get_ref(&self) -> &R {
        &self.source
    }

    /// The source, to be changed. What is read from it is missing from the
    /// stream.
    pub fn get_mut(&mut self) -> &mut R {
        &mut self.source
    }

    /// The source, taken out. What was read ahead is lost; after END, an
    /// [exact](ReaderBuilder::exact) reader has read nothing ahead.
    pub fn into_inner(self) -> R {
        self.source
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::VecDeque;

    use super::buffer::MAX_SHARED;
    use super::*;
    use crate::{Command, CommandBuf, Encoder, StreamPath, SubvolumeName};

    /// Writes of so many bytes each, all different.
    pub(super) fn writes(lens: &[usize]) -> (Vec<CommandBuf>, Vec<u8>) {
        let path = || StreamPath::parse(Bytes::from_static(b"file")).unwrap();
        let mut commands = vec![Command::Subvol {
            name: SubvolumeName::parse(Bytes::from_static(b"made")).unwrap(),
            uuid: uuid::Uuid::from_u128(1),
            ctransid: 1,
        }];
        let mut offset = 0;
        commands.extend(lens.iter().enumerate().map(|(number, &len)| {
            let data = (0..len).map(|at| (at * 7 + number * 31) as u8).collect();
            offset += len as u64;
            Command::Write {
                path: path(),
                offset: offset - len as u64,
                data,
            }
        }));
        commands.push(Command::End);
        let (mut encoder, mut stream) = (Encoder::new(), Vec::new());
        encoder.header(Version::V1, &mut stream).unwrap();
        for command in &commands {
            encoder.command(command, &mut stream).unwrap();
        }
        (commands, stream)
    }

    /// However many items are held, none changes when storage is used again.
    #[test]
    fn what_is_held_stays_as_it_was() {
        let lens: Vec<_> = (0..2000).map(|at| at * 7919 % 49_000).collect();
        let (commands, stream) = writes(&lens);
        for held_at_once in [1, 2, 10, 100, 500, 2000] {
            let mut reader = Reader::new(&stream[..]);
            let mut held = VecDeque::new();
            let mut expected = commands.iter();
            let mut check = |item: Option<Item>| {
                if let Some(Item::Command(command)) = item {
                    assert!(Some(&command) == expected.next(), "{held_at_once}");
                }
            };
            while let Some(item) = reader.next_owned().unwrap() {
                held.push_back(item);
                if held.len() > held_at_once {
                    check(held.pop_front());
                }
            }
            held.into_iter().for_each(|item| check(Some(item)));
            assert!(expected.next().is_none());
            assert!(reader.input.buffer().shared() <= MAX_SHARED);
        }
    }

    /// Where items are dropped soon, few storages do.
    #[test]
    fn storage_is_used_again() {
        let (_, stream) = writes(&[40_000; 1000]);
        let mut reader = Reader::new(&stream[..]);
        let mut held = VecDeque::new();
        while let Some(item) = reader.next_owned().unwrap() {
            held.push_back(item);
            if held.len() > 20 {
                held.pop_front();
            }
        }
        // 20 items share 5 storages at most, and the empty one came first.
        assert!(reader.input.buffer().shared() <= 6);
    }
}
