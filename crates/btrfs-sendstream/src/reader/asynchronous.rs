//! Streams from asynchronous sources.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use futures_core::stream::FusedStream;
use tokio::io::{AsyncRead, ReadBuf};

use super::ReaderBuilder;
use super::input::{Input, Next};
use crate::decoder::Item;
use crate::error::{Error, ErrorKind, Position};
use crate::wire::Version;

impl ReaderBuilder {
    /// Builds an asynchronous reader of `source`.
    pub fn build_async<R: AsyncRead + Unpin>(self, source: R) -> AsyncReader<R> {
        AsyncReader {
            source,
            input: Input::new(self.decoder.build(), self.exact),
            ended: false,
        }
    }
}

/// Reads items from an asynchronous source: a [`Stream`] of owned items.
///
/// Does what [`Reader::next_owned`](crate::Reader::next_owned) does, with the same
/// bounds of memory and the same errors. An interrupted read is tried again.
///
/// Nothing is lost if a future is dropped before it is ready: what was read is in
/// the reader. So items can be awaited in `select!` or with a timeout.
///
/// After an error of kind [`Io`](ErrorKind::Io) the stream continues where it
/// stopped; any other error is the last item.
///
/// ```
/// use btrfs_sendstream::{AsyncReader, Item};
///
/// async fn commands(source: impl tokio::io::AsyncRead + Unpin) -> Result<u64, btrfs_sendstream::Error> {
///     let mut reader = AsyncReader::new(source);
///     let mut commands = 0;
///     while let Some(item) = reader.next_item().await? {
///         if let Item::Command(_) = item {
///             commands += 1;
///         }
///     }
///     Ok(commands)
/// }
/// # let future = commands(&b""[..]);
/// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// # assert!(runtime.block_on(future).is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct AsyncReader<R> {
    source: R,
    input: Input,
    /// The input has ended, or an error was permanent.
    ended: bool,
}

impl<R: AsyncRead + Unpin> AsyncReader<R> {
    /// A reader with the default settings; [`ReaderBuilder::build_async`] takes
    /// others.
    pub fn new(source: R) -> Self {
        ReaderBuilder::default().build_async(source)
    }

    /// The next item; `None` at the end. The same as
    /// [`poll_next`](Stream::poll_next), for callers without an extension trait.
    ///
    /// # Errors
    /// Every [`ErrorKind`] but `Misuse`.
    ///
    /// # Cancel safety
    /// If the future is dropped, nothing is lost.
    pub async fn next_item(&mut self) -> Result<Option<Item<Bytes>>, Error> {
        poll_fn(|context| self.poll(context)).await.transpose()
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Item<Bytes>, Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let item = ready!(self.poll_item(context)).transpose();
        self.ended = match &item {
            Some(Ok(_)) => false,
            Some(Err(error)) => !matches!(error.kind(), ErrorKind::Io(_)),
            None => true,
        };
        Poll::Ready(item)
    }

    fn poll_item(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Item<Bytes>>, Error>> {
        loop {
            let total = match self.input.next() {
                Next::Whole(len) => {
                    let item = self.input.raw(len).map(|(item, _)| Some(item));
                    return Poll::Ready(item);
                }
                Next::Read(total) => total,
            };
            let mut room = ReadBuf::new(self.input.room(total)?);
            let read = ready!(Pin::new(&mut self.source).poll_read(context, &mut room));
            let read = match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map(|()| room.filled().len()),
            };
            if !self.input.arrived(read)? {
                return Poll::Ready(Ok(None));
            }
        }
    }
}

impl<R> AsyncReader<R> {
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

    /// The source, taken out. What was read ahead is lost; after END, an
    /// [exact](ReaderBuilder::exact) reader has read nothing ahead.
    pub fn into_inner(self) -> R {
        self.source
    }
}

impl<R: AsyncRead + Unpin> Stream for AsyncReader<R> {
    type Item = Result<Item<Bytes>, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll(context)
    }
}

impl<R: AsyncRead + Unpin> FusedStream for AsyncReader<R> {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::Reader;

    /// What a source does when it is polled.
    #[derive(Clone, Debug)]
    enum Turn {
        Read(usize),
        Pending,
        Interrupted,
        Fail,
    }

    struct Source<'a> {
        bytes: &'a [u8],
        turns: VecDeque<Turn>,
    }

    impl AsyncRead for Source<'_> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            room: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let most = match self.turns.pop_front() {
                Some(Turn::Read(most)) => most,
                Some(Turn::Pending) => {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(Turn::Interrupted) => {
                    return Poll::Ready(Err(io::ErrorKind::Interrupted.into()));
                }
                Some(Turn::Fail) => return Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                None => usize::MAX,
            };
            let count = most.min(room.remaining()).min(self.bytes.len());
            let (now, later) = self.bytes.split_at(count);
            room.put_slice(now);
            self.bytes = later;
            Poll::Ready(Ok(()))
        }
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
    }

    /// All items, and the error that ends them, as text.
    fn all_of(bytes: &[u8]) -> Vec<String> {
        let mut reader = Reader::new(bytes);
        let mut all = Vec::new();
        loop {
            match reader.next_owned() {
                Ok(Some(item)) => all.push(format!("{item:?}")),
                Ok(None) => return all,
                Err(error) => {
                    all.push(error.to_string());
                    return all;
                }
            }
        }
    }

    fn turn() -> impl Strategy<Value = Turn> {
        prop_oneof![
            6 => (1_usize..300).prop_map(Turn::Read),
            3 => Just(Turn::Pending),
            1 => Just(Turn::Interrupted),
            1 => Just(Turn::Fail),
        ]
    }

    proptest! {
        /// However the bytes arrive, and however often a future is dropped.
        #[test]
        fn the_same_as_a_reader(
            turns in prop::collection::vec(turn(), 0..400),
            cut in any::<prop::sample::Index>(),
            damaged in any::<prop::sample::Index>(),
            damage in 0_u8..4,
        ) {
            let mut stream = super::super::tests::writes(&[0, 1, 500, 50_000, 3]).1;
            stream.truncate(stream.len() - cut.index(stream.len()) / 4);
            let at = damaged.index(stream.len());
            stream[at] ^= damage / 3;
            let expected = all_of(&stream);
            let failures = turns.iter().filter(|turn| matches!(turn, Turn::Fail)).count();
            let source = Source { bytes: &stream, turns: turns.into() };
            let mut reader = AsyncReader::new(source);
            let (mut found, mut failed) = (Vec::new(), 0);
            runtime().block_on(async {
                loop {
                    // A future that is not ready is dropped.
                    let now = {
                        let mut next = std::pin::pin!(reader.next_item());
                        poll_fn(|context| {
                            Poll::Ready(std::future::Future::poll(next.as_mut(), context))
                        })
                        .await
                    };
                    match now {
                        Poll::Pending => tokio::task::yield_now().await,
                        Poll::Ready(Ok(Some(item))) => found.push(format!("{item:?}")),
                        Poll::Ready(Ok(None)) => break,
                        Poll::Ready(Err(error)) if matches!(error.kind(), ErrorKind::Io(_)) => failed += 1,
                        Poll::Ready(Err(error)) => found.push(error.to_string()),
                    }
                }
            });
            prop_assert_eq!(found, expected);
            prop_assert!(failed <= failures);
            prop_assert!(reader.is_terminated());
        }
    }

    #[test]
    fn an_exact_reader_leaves_what_follows() {
        let mut bytes = super::super::tests::writes(&[10]).1;
        bytes.extend_from_slice(b"more");
        let builder = Reader::builder().exact(true);
        let mut reader = builder.build_async(&bytes[..]);
        let version = runtime().block_on(async {
            let mut version = None;
            while let Some(item) = reader.next_item().await.unwrap() {
                if matches!(item, Item::Command(crate::Command::End)) {
                    break;
                }
                version = reader.version();
            }
            version
        });
        assert_eq!(version, Some(Version::V1));
        assert_eq!(reader.consumed(), bytes.len() as u64 - 4);
        assert_eq!(reader.into_inner(), b"more");
    }
}
