//! How several subvolumes share an input.
//!
//! Two layouts are legal: one stream after the other, each with header and
//! END; and, from `btrfs send -e`, one header and one END around all.

use super::{Output, Transform, TransformError, TransformErrorKind};
use crate::command::Command;
use crate::decoder::Item;
use crate::error::Position;
use crate::wire::Version;

/// Gives each subvolume a header and an END of its own.
///
/// After each [`Item::Header`] comes exactly one subvolume, so that a caller
/// may put each into a file of its own.
///
/// Memory: none to speak of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Apart {
    version: Option<Version>,
    inside: bool,
}

impl Apart {
    /// At the start of an input.
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

/// Puts one header and one END around everything.
///
/// The version is that of the first stream; streams of a lower one may
/// follow, of a higher one not.
///
/// Memory: none to speak of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Together {
    begun: Option<(Version, Position)>,
}

impl Together {
    /// At the start of an input.
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
