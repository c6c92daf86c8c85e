//! Streams from anything that can be read.

use std::collections::VecDeque;
use std::io::{self, Read};

use bytes::{Buf, Bytes, BytesMut};

use crate::decoder::{Decoded, Decoder, DecoderBuilder, Item};
use crate::error::{Error, Position, Truncated};
use crate::limits::Limits;
use crate::wire::Version;

/// Bytes asked for at a time: enough to make the calls of a read cheap, and
/// to hold the largest command that kernels write.
const CHUNK: usize = 256 * 1024;

/// The least free space to point a read at.
const MIN_READ: usize = CHUNK / 4;

/// Pieces that items share are used again, the last so many: more than hold the
/// 8 MiB that a receiver has under way.
const MAX_SHARED: usize = 48;

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
            decoder: self.decoder.build(),
            exact: self.exact,
            buffer: Buffer::default(),
            failed: None,
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
    decoder: Decoder,
    exact: bool,
    buffer: Buffer,
    /// A command that was split off the buffer and could not be decoded.
    failed: Option<Bytes>,
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
        self.fail_again()?;
        if self.fill()?.is_none() {
            return Ok(None);
        }
        let (bytes, start) = self.buffer.bytes_and_start();
        let decoded = self.decoder.decode(bytes)?;
        if let Decoded::Item { consumed, .. } = decoded {
            *start += consumed;
        }
        taken(decoded)
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
        self.fail_again()?;
        let Some(total) = self.fill()? else {
            return Ok(None);
        };
        let bytes = self.buffer.split_off(total);
        match self.decoder.decode_bytes(&bytes) {
            Ok(decoded) => Ok(taken(decoded)?.map(|item| (item, bytes))),
            Err(error) => {
                self.failed = Some(bytes);
                Err(error)
            }
        }
    }

    /// Gives the error of a command that could not be decoded once more.
    fn fail_again(&mut self) -> Result<(), Error> {
        if let Some(failed) = &self.failed {
            self.decoder.decode(failed)?;
        }
        Ok(())
    }

    /// Reads until the next item is whole, and gives its length; `None` at
    /// the end of the input, if it may end there. What cannot be measured is
    /// left for the decoder to report.
    #[inline]
    fn fill(&mut self) -> Result<Option<usize>, Error> {
        loop {
            let bytes = self.buffer.bytes();
            let total = match self.decoder.deframer().required(bytes) {
                Ok(total) if bytes.len() < total => total,
                Ok(total) => return Ok(Some(total)),
                Err(_) => return Ok(Some(bytes.len())),
            };
            if !self.read_more(total)? {
                return Ok(None);
            }
        }
    }

    /// Reads once, towards an item of `total` bytes. `false` at the end of
    /// the input, if it may end there.
    #[cold]
    fn read_more(&mut self, total: usize) -> Result<bool, Error> {
        let deframer = self.decoder.deframer();
        let bytes = self.buffer.bytes();
        let most = if self.exact {
            deframer.certain(bytes)?.saturating_sub(bytes.len())
        } else {
            usize::MAX
        };
        let room = self.buffer.room(total);
        let most = most.min(room.len());
        let (room, _) = room.split_at_mut(most);
        let read = loop {
            match self.source.read(room) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        let read = read.map_err(|error| Error::from(error).at(deframer.upcoming()))?;
        self.buffer.end += read.min(most);
        if read == 0 {
            self.decoder.end_of_input(self.buffer.bytes())?;
        }
        Ok(read > 0)
    }
}

impl<R> Reader<R> {
    /// Place of the last item, or of the one that failed.
    pub fn position(&self) -> Position {
        self.decoder.position()
    }

    /// Bytes decoded so far. More may have been read.
    pub fn consumed(&self) -> u64 {
        self.decoder.consumed()
    }

    /// See [`Decoder::ignored_attributes`].
    pub fn ignored_attributes(&self) -> u64 {
        self.decoder.ignored_attributes()
    }

    /// Version of the stream being read; `None` before the first header and
    /// after END.
    pub fn version(&self) -> Option<Version> {
        self.decoder.version()
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

/// The item of a decoder that had all it needed.
#[inline]
fn taken<B: AsRef<[u8]>>(decoded: Decoded<B>) -> Result<Option<Item<B>>, Error> {
    match decoded {
        Decoded::Item { item, .. } => Ok(Some(item)),
        Decoded::Need { total } => Err(Truncated::InCommand {
            have: 0,
            need: total,
        }
        .into()),
    }
}

/// Bytes that were read and not yet decoded.
///
/// The storage is initialised in its whole length and used again and again,
/// so that a read can be pointed at it without clearing it first.
#[derive(Debug, Default)]
struct Buffer {
    storage: BytesMut,
    /// Where the bytes not yet decoded begin.
    start: usize,
    /// Where they end.
    end: usize,
    /// Whether the storage may have grown for an item longer than a chunk.
    is_large: bool,
    /// What is left of earlier storages: each can be used again when the items
    /// are gone that share it. New memory costs much more, because the kernel
    /// clears it page by page.
    shared: VecDeque<BytesMut>,
}

impl Buffer {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.storage.get(self.start..self.end).unwrap_or_default()
    }

    /// The bytes, and their start to be moved on while they are borrowed.
    #[inline]
    fn bytes_and_start(&mut self) -> (&[u8], &mut usize) {
        let bytes = self.storage.get(self.start..self.end);
        (bytes.unwrap_or_default(), &mut self.start)
    }

    /// Free space behind the bytes, never empty, for an item of `total` bytes
    /// that is not whole yet. Grows to at most twice the bytes that are
    /// there, or to one chunk; for an item longer than a chunk to no more
    /// than that item, so that it shares its storage with nothing.
    fn room(&mut self, total: usize) -> &mut [u8] {
        if self.start > 0 {
            // What is left is less than one command.
            self.storage.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let mut wanted = CHUNK.max(self.end.saturating_mul(2));
        if total > CHUNK {
            wanted = wanted.min(total);
        }
        let free = self.storage.len() - self.end;
        if free < MIN_READ && (self.storage.len() < wanted || free == 0) {
            self.storage.truncate(self.end);
            if total <= CHUNK {
                self.unshare(wanted);
            } else {
                // Address space for all of it, so that growing does not move
                // it; memory is taken by what `resize` touches.
                self.storage.reserve(total - self.end);
                self.is_large = true;
            }
            self.storage.resize(wanted, 0);
        }
        self.storage.get_mut(self.end..).unwrap_or_default()
    }

    /// Sees that the storage has room for `wanted` bytes that no item shares: in
    /// this allocation, an earlier one, or a new one.
    fn unshare(&mut self, wanted: usize) {
        if self.storage.try_reclaim(wanted - self.end) {
            return;
        }
        let free = self.shared.iter_mut().position(|storage| {
            storage.clear();
            storage.try_reclaim(wanted)
        });
        let free = free.and_then(|at| self.shared.remove(at));
        let mut storage = free.unwrap_or_else(|| BytesMut::with_capacity(wanted));
        storage.extend_from_slice(&self.storage);
        let old = std::mem::replace(&mut self.storage, storage);
        // A large one would take the place of a small one, again and again,
        // until all of them are large.
        if std::mem::replace(&mut self.is_large, false) {
            return;
        }
        if self.shared.len() == MAX_SHARED {
            self.shared.pop_front();
        }
        self.shared.push_back(old);
    }

    /// Takes the first `len` bytes out, sharing the storage.
    fn split_off(&mut self, len: usize) -> Bytes {
        let len = len.min(self.end - self.start);
        self.storage.advance(self.start);
        let taken = self.storage.split_to(len).freeze();
        self.end -= self.start + len;
        self.start = 0;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Command, CommandBuf, Encoder, StreamPath, SubvolumeName};

    /// Writes of so many bytes each, all different.
    fn writes(lens: &[usize]) -> (Vec<CommandBuf>, Vec<u8>) {
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
            assert!(reader.buffer.shared.len() <= MAX_SHARED);
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
        assert!(reader.buffer.shared.len() <= 6);
    }
}
