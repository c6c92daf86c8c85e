//! Transforms streams into streams that give the same tree, or part of it
//! (feature `transform`).
//!
//! | | result |
//! |---|---|
//! | [`Upgrade`] | version 2, with data joined and compressed |
//! | [`Downgrade`] | a lower version, for older receivers |
//! | [`Rewrite`] | other names, UUIDs and transids |
//! | [`Filter`] | only some paths |
//! | [`Apart`], [`Together`] | a stream for each subvolume; one stream for all |
//!
//! A [`Transform`] takes items one by one and passes on the results, at once or
//! later. The use of memory is bounded; each transform documents its limit.
//! [`Transform::then`] combines two, and [`run`] passes all items from a
//! [`Reader`] to an [`Output`], which is a [`Writer`] or a closure.
//!
//! ```no_run
//! use btrfs_sendstream::transform::{self, Filter, Rules, Transform, Upgrade};
//! use btrfs_sendstream::{Reader, StreamPath, Writer};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let mut reader = Reader::new(std::io::stdin());
//!     let mut writer = Writer::new(std::io::stdout());
//!     let rules = Rules::default().exclude(StreamPath::parse(b"var/cache".as_slice())?);
//!     let mut transform = Filter::new(rules).then(Upgrade::new());
//!     transform::run(&mut reader, &mut transform, &mut writer)?;
//!     writer.finish()?;
//!     Ok(())
//! }
//! ```
//!
//! A transform refuses what it cannot do correctly, with the position in the
//! input: see [`TransformErrorKind`]. After an error the output is incomplete and
//! has no END, so that receivers refuse it.

mod downgrade;
mod error;
mod filter;
mod layout;
mod rewrite;
mod upgrade;

use std::io::{Read, Write};

use crate::decoder::Item;
use crate::error::Position;
use crate::reader::Reader;
use crate::writer::Writer;

pub use downgrade::{Downgrade, DowngradeBuilder, Newer, ParentEntry, UnknownSize};
pub use error::{Crossing, TransformError, TransformErrorKind};
pub use filter::{Filter, Rules};
pub use layout::{Apart, Together};
pub use rewrite::{Identity, Rewrite};
pub use upgrade::{Codec, Upgrade, UpgradeBuilder, UpgradeStats};

/// Receives the items that a [`Transform`] produces.
pub trait Output {
    /// Receives an item.
    ///
    /// `at` is the position in the input of the item that it was made from, for
    /// messages.
    ///
    /// # Errors
    /// The item cannot be written or processed. [`TransformError::other`] wraps
    /// errors of the caller's own.
    fn item(&mut self, item: Item, at: Position) -> Result<(), TransformError>;
}

impl<F: FnMut(Item, Position) -> Result<(), TransformError>> Output for F {
    fn item(&mut self, item: Item, at: Position) -> Result<(), TransformError> {
        self(item, at)
    }
}

impl<W: Write> Output for Writer<W> {
    fn item(&mut self, item: Item, at: Position) -> Result<(), TransformError> {
        Writer::item(self, &item).map_err(|error| TransformErrorKind::Output(error).at(at))
    }
}

/// Converts one sequence of items into another.
///
/// Items are passed in the order in which a [`Reader`] returns them, including
/// headers. Implementations pass on items that they do not know.
pub trait Transform {
    /// Takes the item at position `at` of the input, and passes the items that
    /// are ready to `out`.
    ///
    /// # Errors
    /// The item cannot be transformed, or `out` returned an error. The transform
    /// cannot be used after an error.
    fn item(
        &mut self,
        item: Item,
        at: Position,
        out: &mut dyn Output,
    ) -> Result<(), TransformError>;

    /// Passes on the items that were held back. Must be called at the end of the
    /// input.
    ///
    /// # Errors
    /// Those of [`item`](Self::item).
    fn end(&mut self, out: &mut dyn Output) -> Result<(), TransformError>;

    /// Returns a transform that applies this one, and `next` to its results.
    fn then<T: Transform>(self, next: T) -> Then<Self, T>
    where
        Self: Sized,
    {
        Then { first: self, next }
    }
}

/// Changes nothing.
impl Transform for () {
    fn item(
        &mut self,
        item: Item,
        at: Position,
        out: &mut dyn Output,
    ) -> Result<(), TransformError> {
        out.item(item, at)
    }

    fn end(&mut self, _: &mut dyn Output) -> Result<(), TransformError> {
        Ok(())
    }
}

impl<T: Transform + ?Sized> Transform for Box<T> {
    fn item(
        &mut self,
        item: Item,
        at: Position,
        out: &mut dyn Output,
    ) -> Result<(), TransformError> {
        (**self).item(item, at, out)
    }

    fn end(&mut self, out: &mut dyn Output) -> Result<(), TransformError> {
        (**self).end(out)
    }
}

/// Two transforms, one after the other; see [`Transform::then`].
#[derive(Clone, Copy, Debug)]
pub struct Then<A, B> {
    first: A,
    next: B,
}

impl<A, B> Then<A, B> {
    /// Returns the two transforms.
    pub fn into_parts(self) -> (A, B) {
        (self.first, self.next)
    }
}

impl<A: Transform, B: Transform> Transform for Then<A, B> {
    fn item(
        &mut self,
        item: Item,
        at: Position,
        out: &mut dyn Output,
    ) -> Result<(), TransformError> {
        let next = &mut self.next;
        let mut between = |item, at| next.item(item, at, out);
        self.first.item(item, at, &mut between)
    }

    fn end(&mut self, out: &mut dyn Output) -> Result<(), TransformError> {
        let next = &mut self.next;
        let mut between = |item, at| next.item(item, at, out);
        self.first.end(&mut between)?;
        self.next.end(out)
    }
}

/// Passes all remaining items of `reader` through `transform` to `out`.
///
/// # Errors
/// Those of the reader, the transform and the output.
pub fn run<R: Read>(
    reader: &mut Reader<R>,
    transform: &mut dyn Transform,
    out: &mut dyn Output,
) -> Result<(), TransformError> {
    feed(reader, transform, out)?;
    transform.end(out)
}

/// Like [`run`], for an input that is followed by another: does not call
/// [`Transform::end`].
///
/// # Errors
/// Those of the reader, the transform and the output.
pub fn feed<R: Read>(
    reader: &mut Reader<R>,
    transform: &mut dyn Transform,
    out: &mut dyn Output,
) -> Result<(), TransformError> {
    let failed = |error| TransformError::from(TransformErrorKind::Input(error));
    while let Some(item) = reader.next_owned().map_err(failed)? {
        transform.item(item, reader.position(), out)?;
    }
    Ok(())
}
