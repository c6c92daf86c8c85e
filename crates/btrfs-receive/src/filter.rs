//! A caller's say in what is applied.

use std::error::Error;

use btrfs_sendstream::{Command, CommandBuf, Item, Position, StreamPath};

use crate::error::{Cause, Failure};

/// Judges every item of an input before it is applied; see
/// [`Receiver::receive_filtered`](crate::Receiver::receive_filtered).
///
/// The crate `btrfs-accept` has a filter that follows written rules. Resumable
/// receives have no filter, and callers of [`Receiver::item`](crate::Receiver::item)
/// ask theirs themselves.
pub trait Filter {
    /// Judges the next item of the input: a header, a command, END, or a
    /// command with an unknown number. It begins `at` this place; `end` is the
    /// number of bytes of input up to its end.
    ///
    /// Called once for each item, in the order of the input. Commands of a
    /// subvolume that is skipped are judged too.
    fn judge(&mut self, item: &Item, at: Position, end: u64) -> Verdict;

    /// Called after an END that is to be applied. If it returns an error, that
    /// END has to be the last item of the input: it is applied only when the
    /// input has ended, and if anything follows, the receive fails with this
    /// error before the subvolume is finished. Default: `None`, END is applied
    /// at once. Not called if
    /// [`Options::stop_at_end`](crate::Options::stop_at_end) is set: what
    /// follows is not read then.
    fn must_be_last(&self) -> Option<Box<dyn Error + Send + Sync>> {
        None
    }
}

/// What becomes of an item; the answer of a [`Filter`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Verdict {
    /// It is applied.
    Apply,
    /// The command is not applied, and counted in
    /// [`Excluded::by_filter`](crate::Excluded::by_filter). SUBVOL, SNAPSHOT,
    /// END and headers cannot be left out: they are applied.
    LeaveOut,
    /// This command is applied in its place, and counted like one that is left
    /// out. If either of the two is SUBVOL, SNAPSHOT or END, the original is
    /// applied.
    Replace(Box<CommandBuf>),
    /// The receive fails, whatever
    /// [`Options::max_errors`](crate::Options::max_errors) says, with
    /// [`Cause::Refused`](crate::Cause::Refused) and this error. The subvolume
    /// under construction is not finished, and is deleted if
    /// [`Options::on_error`](crate::Options::on_error) says so.
    Refuse(Box<dyn Error + Send + Sync>),
}

/// Applies everything.
impl Filter for () {
    fn judge(&mut self, _: &Item, _: Position, _: u64) -> Verdict {
        Verdict::Apply
    }
}

/// What the receiver does with an item.
pub(crate) enum Judged {
    /// Applies it.
    Apply(Item),
    /// Applies this one, and counts it.
    Replace(Item),
    /// Counts it.
    LeaveOut,
    /// Ends the receive.
    Refuse(Failure),
}

impl Judged {
    /// Carries out `verdict`, as far as the item can be left out or replaced.
    pub(crate) fn new(verdict: Verdict, item: Item, at: Position) -> Self {
        let is_fixed = match &item {
            Item::Command(command) => is_frame(command),
            Item::Unknown(_) => false,
            _ => true,
        };
        match verdict {
            Verdict::Refuse(error) => Self::Refuse(refused(&item, at, error)),
            Verdict::LeaveOut if !is_fixed => Self::LeaveOut,
            Verdict::Replace(command) if !is_fixed && !is_frame(&command) => {
                Self::Replace(Item::Command(*command))
            }
            Verdict::Apply | Verdict::LeaveOut | Verdict::Replace(_) => Self::Apply(item),
        }
    }
}

/// The failure of an item that a filter refused.
pub(crate) fn refused(item: &Item, at: Position, error: Box<dyn Error + Send + Sync>) -> Failure {
    let (operation, path) = match item {
        Item::Command(command) => (command.kind().name(), named_in(command)),
        Item::Header(_) => ("header", &b""[..]),
        _ => ("unknown", &b""[..]),
    };
    Failure::new(at, operation, path, Cause::Refused(error))
}

/// What subvolumes begin and end with.
fn is_frame(command: &CommandBuf) -> bool {
    matches!(
        command,
        Command::Subvol { .. } | Command::Snapshot { .. } | Command::End
    )
}

/// The path that a command acts on, or the name of the subvolume that it begins.
fn named_in(command: &CommandBuf) -> &[u8] {
    match command {
        Command::Subvol { name, .. } | Command::Snapshot { name, .. } => name.as_bytes(),
        other => other.path().map_or(b"", StreamPath::into_inner),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use btrfs_sendstream::{Bytes, CommandKind, CommandRef, SubvolumeName, Uuid, Version, Writer};

    use super::*;
    use crate::{DirectoryDestination, OnError, Options, Outcome, ReceiveError, Receiver, Report};

    /// Does one thing with commands of one kind.
    struct On(CommandKind, fn() -> Verdict, bool);

    impl Filter for On {
        fn judge(&mut self, item: &Item, _: Position, _: u64) -> Verdict {
            match item {
                Item::Command(command) if command.kind() == self.0 => (self.1)(),
                _ => Verdict::Apply,
            }
        }

        fn must_be_last(&self) -> Option<Box<dyn Error + Send + Sync>> {
            self.2.then(|| "not the last".into())
        }
    }

    fn path(path: &'static [u8]) -> StreamPath<&'static [u8]> {
        StreamPath::parse(path).unwrap()
    }

    fn stream(name: &'static [u8]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        writer.header(Version::V1).unwrap();
        let commands: [CommandRef<'_>; 4] = [
            Command::Subvol {
                name: SubvolumeName::parse(name).unwrap(),
                uuid: Uuid::from_u128(u128::from(name[0])),
                ctransid: 1,
            },
            Command::Mkdir {
                path: path(b"directory"),
                ino: 257,
            },
            Command::Mkfile {
                path: path(b"file"),
                ino: 258,
            },
            Command::End,
        ];
        for command in &commands {
            writer.command(command).unwrap();
        }
        writer.finish().unwrap()
    }

    fn receive(input: &[u8], mut filter: On, to: &Path) -> Result<Report, ReceiveError> {
        let options = Options::new()
            .with_on_error(OnError::Delete)
            .with_max_errors(0);
        let destination = DirectoryDestination::open(to).unwrap();
        let mut receiver = Receiver::with_options(destination, options);
        receiver.receive_filtered(input, &mut filter, &mut ())
    }

    #[test]
    fn what_is_left_out_or_replaced_is_counted() {
        let to = tempfile::tempdir().unwrap();
        let out = On(CommandKind::Mkfile, || Verdict::LeaveOut, false);
        let report = receive(&stream(b"a"), out, to.path()).unwrap();
        assert_eq!(report.excluded.by_filter, 1);
        assert_eq!(report.subvolumes[0].outcome, Outcome::FinishedWithOmissions);
        assert!(!to.path().join("a/file").exists() && to.path().join("a/directory").exists());
        let other = On(
            CommandKind::Mkfile,
            || {
                let path = StreamPath::parse(Bytes::from_static(b"other")).unwrap();
                Verdict::Replace(Box::new(Command::Mkfile { path, ino: 258 }))
            },
            false,
        );
        let report = receive(&stream(b"b"), other, to.path()).unwrap();
        assert_eq!(report.excluded.by_filter, 1);
        assert!(to.path().join("b/other").exists() && !to.path().join("b/file").exists());
    }

    #[test]
    fn subvolumes_begin_and_end_whatever_a_filter_says() {
        let to = tempfile::tempdir().unwrap();
        let end = || Verdict::Replace(Box::new(Command::End));
        for (name, kind, verdict) in [
            (&b"a"[..], CommandKind::Subvol, (|| Verdict::LeaveOut) as _),
            (b"b", CommandKind::End, (|| Verdict::LeaveOut) as _),
            (b"c", CommandKind::Subvol, end as fn() -> _),
            (b"d", CommandKind::Mkfile, end),
        ] {
            let report = receive(&stream(name), On(kind, verdict, false), to.path()).unwrap();
            assert_eq!(report.excluded.by_filter, 0);
            assert_eq!(report.subvolumes[0].outcome, Outcome::Finished);
        }
    }

    #[test]
    fn a_refusal_ends_the_receive() {
        let to = tempfile::tempdir().unwrap();
        let refuse = || Verdict::Refuse("no files".into());
        for kind in [CommandKind::Subvol, CommandKind::Mkfile, CommandKind::End] {
            let input = [stream(b"a"), stream(b"b")].concat();
            let error = receive(&input, On(kind, refuse, false), to.path()).unwrap_err();
            let failure = error.first_failure.unwrap();
            assert_eq!(failure.operation, kind.name());
            assert!(matches!(*failure.cause, Cause::Refused(_)));
            assert_eq!((error.report.failures, error.report.finished), (1, 0));
            assert!(!to.path().join("a").exists() && !to.path().join("b").exists());
        }
    }

    #[test]
    fn the_last_end_waits_for_the_end_of_input() {
        let to = tempfile::tempdir().unwrap();
        let apply = || Verdict::Apply;
        let last = || On(CommandKind::End, apply, true);
        receive(&stream(b"a"), last(), to.path()).unwrap();
        for behind in [stream(b"c"), vec![0], vec![0; 100]] {
            let input = [stream(b"b"), behind].concat();
            let error = receive(&input, last(), to.path()).unwrap_err();
            assert_eq!(error.report.finished, 0);
            assert!(!to.path().join("b").exists());
        }
    }
}
