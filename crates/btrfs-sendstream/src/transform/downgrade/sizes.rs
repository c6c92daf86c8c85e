//! What the stream shows about the length of the file at hand.

use crate::command::{Command, StreamPath};
use crate::error::Position;
use crate::transform::upgrade::PUNCH_HOLE_KEEP_SIZE;
use crate::transform::{TransformError, TransformErrorKind};

/// How long the file is at least that the last commands were about, and
/// whether a hole in it waits for proof.
///
/// A hole written as zeros is right if the file reaches its end: because data
/// was written there before or is afterwards, or because a TRUNCATE follows,
/// which sets the size either way. Kernels send all of that together, before
/// the file's times and before anything about another file.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    path: StreamPath,
    /// Proven length in bytes.
    at_least: u64,
    /// The end of the farthest hole, and where that stands in the input.
    open: Option<(u64, Position)>,
}

impl Sizes {
    /// Looks at the next command.
    ///
    /// # Errors
    /// A hole of the file before was never proven to lie inside.
    pub(super) fn command(
        &mut self,
        command: &Command,
        at: Position,
    ) -> Result<(), TransformError> {
        if !self.is_about_the_same(command) {
            self.close()?;
            let path = command.path().map(|path| path.to_owned());
            self.path = path.unwrap_or_default();
            self.at_least = 0;
        }
        match command {
            Command::Write { offset, data, .. } => {
                self.reaches(*offset, data.len() as u64);
            }
            Command::Clone(clone) => self.reaches(clone.offset, clone.len),
            Command::EncodedWrite(write) => self.reaches(write.offset, write.unencoded_file_len),
            Command::Truncate { size, .. } => {
                self.at_least = *size;
                self.open = None;
            }
            Command::Fallocate {
                mode: PUNCH_HOLE_KEEP_SIZE,
                offset,
                len,
                ..
            } => {
                let end = offset.saturating_add(*len);
                let farther = self.open.is_none_or(|(open, _)| open < end);
                if *len > 0 && end > self.at_least && farther {
                    self.open = Some((end, at));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn reaches(&mut self, offset: u64, len: u64) {
        if len > 0 {
            self.at_least = self.at_least.max(offset.saturating_add(len));
            self.open = self.open.filter(|(end, _)| *end > self.at_least);
        }
    }

    /// Whether a command leaves the file at hand under its name, so that more
    /// of its data may follow.
    fn is_about_the_same(&self, command: &Command) -> bool {
        let goes_on = matches!(
            command,
            Command::Write { .. }
                | Command::Clone(_)
                | Command::EncodedWrite(_)
                | Command::Truncate { .. }
                | Command::Fallocate { .. }
                | Command::SetXattr { .. }
                | Command::RemoveXattr { .. }
                | Command::Chown { .. }
                | Command::Chmod { .. }
                | Command::FileAttr { .. }
        );
        goes_on && command.path() == Some(self.path.borrow())
    }

    fn close(&mut self) -> Result<(), TransformError> {
        match self.open.take() {
            None => Ok(()),
            Some((end, at)) => {
                let path = self.path.clone();
                Err(TransformErrorKind::UnknownSize { path, end }.at(at))
            }
        }
    }
}
