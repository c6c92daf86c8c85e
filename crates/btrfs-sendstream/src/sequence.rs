//! Which command may follow which.
//!
//! Small on purpose: it holds what the format promises (a header first, then
//! SUBVOL or SNAPSHOT, END last), not what kernels happen to emit.

use crate::command::CommandKind;
use crate::error::{CommandName, SequenceError};

/// How far the input has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sequence {
    /// Before the first header.
    #[default]
    Start,
    /// After a header: SUBVOL or SNAPSHOT is due.
    Header,
    /// Inside a subvolume: everything but a header may follow. Another
    /// SUBVOL or SNAPSHOT ends the subvolume (`btrfs send -e`).
    Subvolume,
    /// After END: only a header may follow.
    Ended,
}

impl Sequence {
    /// The state after a stream header.
    pub(crate) fn header(self) -> Result<Self, SequenceError> {
        match self {
            Self::Start | Self::Ended => Ok(Self::Header),
            Self::Header | Self::Subvolume => Err(SequenceError::HeaderInStream),
        }
    }

    /// The state after a command.
    #[inline]
    pub(crate) fn command(self, command: CommandName) -> Result<Self, SequenceError> {
        let kind = CommandKind::from_number(command.number());
        match (self, kind) {
            (Self::Start, _) => Err(SequenceError::NoHeader),
            (Self::Ended, _) => Err(SequenceError::AfterEnd),
            (_, Some(CommandKind::Subvol | CommandKind::Snapshot)) => Ok(Self::Subvolume),
            (Self::Header, _) => Err(SequenceError::NoSubvolume { command }),
            (Self::Subvolume, Some(CommandKind::End)) => Ok(Self::Ended),
            (Self::Subvolume, _) => Ok(Self::Subvolume),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(mut state: Sequence, kinds: &[CommandKind]) -> Result<Sequence, SequenceError> {
        for kind in kinds {
            state = state.command(CommandName(kind.number()))?;
        }
        Ok(state)
    }

    #[test]
    fn a_subvolume_comes_first() {
        let header = Sequence::Start.header().unwrap();
        for &kind in CommandKind::ALL {
            let first = run(header, &[kind]).is_ok();
            assert_eq!(
                first,
                matches!(kind, CommandKind::Subvol | CommandKind::Snapshot)
            );
        }
    }

    #[test]
    fn subvolumes_may_share_one_end() {
        use CommandKind::{End, Mkfile, Snapshot, Subvol};
        let header = Sequence::Start.header().unwrap();
        let ended = run(header, &[Subvol, Mkfile, Snapshot, Subvol, End]).unwrap();
        assert_eq!(ended, Sequence::Ended);
        assert_eq!(run(ended, &[Mkfile]), Err(SequenceError::AfterEnd));
        assert_eq!(ended.header(), Ok(Sequence::Header));
    }

    #[test]
    fn headers_do_not_nest() {
        let header = Sequence::Start.header().unwrap();
        assert_eq!(header.header(), Err(SequenceError::HeaderInStream));
        let inside = run(header, &[CommandKind::Subvol]).unwrap();
        assert_eq!(inside.header(), Err(SequenceError::HeaderInStream));
        assert_eq!(
            run(Sequence::Start, &[CommandKind::Subvol]),
            Err(SequenceError::NoHeader)
        );
    }
}
