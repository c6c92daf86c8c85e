//! Several subvolumes in one input.
//!
//! There are two layouts: several streams, each with header and END; and one header
//! and one END for all subvolumes, as `btrfs send -e` writes them.

use super::{Output, Transform, TransformError, TransformErrorKind};
use crate::command::Command;
use crate::decoder::Item;
use crate::error::Position;
use crate::wire::Version;

/// Writes a header and an END for each subvolume.
///
/// Each [`Item::Header`] is followed by exactly one subvolume, so that a caller can
/// write each to its own file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Apart {
    version: Option<Version>,
    inside: bool,
}

impl Apart {
    /// Creates a transform for one input.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Transform for Apart {
    fn item(
        &mut self,
        item: Item,
        at: Position,
        out: &mut dyn Output,
    ) -> Result<(), TransformError> {
        match &item {
            Item::Header(version) => {
                self.version = Some(*version);
                self.inside = false;
            }
            Item::Command(Command::Subvol { .. } | Command::Snapshot { .. }) => {
                if let Some(version) = self.version.filter(|_| self.inside) {
                    out.item(Item::Command(Command::End), at)?;
                    out.item(Item::Header(version), at)?;
                }
                self.inside = true;
            }
            _ => {}
        }
        out.item(item, at)
    }

    fn end(&mut self, _: &mut dyn Output) -> Result<(), TransformError> {
        Ok(())
    }
}

/// Writes one header and one END for all subvolumes.
///
/// The version is that of the first stream. Streams of a lower version may follow,
/// but not of a higher one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Together {
    begun: Option<(Version, Position)>,
}

impl Together {
    /// Creates a transform for one input.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Transform for Together {
    fn item(
        &mut self,
        item: Item,
        at: Position,
        out: &mut dyn Output,
    ) -> Result<(), TransformError> {
        match (&item, &mut self.begun) {
            (Item::Header(next), Some((first, last))) => {
                *last = at;
                if next > first {
                    let (first, next) = (*first, *next);
                    return Err(TransformErrorKind::VersionRises { first, next }.at(at));
                }
                Ok(())
            }
            (Item::Header(version), begun) => {
                *begun = Some((*version, at));
                out.item(item, at)
            }
            (Item::Command(Command::End), Some((_, last))) => {
                *last = at;
                Ok(())
            }
            _ => out.item(item, at),
        }
    }

    fn end(&mut self, out: &mut dyn Output) -> Result<(), TransformError> {
        match self.begun.take() {
            Some((_, at)) => out.item(Item::Command(Command::End), at),
            None => Ok(()),
        }
    }
}
