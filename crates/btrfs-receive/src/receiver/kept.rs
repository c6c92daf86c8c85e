//! What a resumable receive does besides: it compares, takes checkpoints, and
//! goes on from them.

use std::io::{Read, Seek, SeekFrom};

use btrfs_sendstream::{Command, CommandBuf, Item, Position, Reader};
use tracing::debug;

use super::{Receiver, State};
use crate::destination::Destination;
use crate::error::{Cause, Failure, ReceiveError, StopReason};
use crate::observer::{Event, Observer};
use crate::plan::op::NewSubvolume;
use crate::report::{Outcome, Report, SubvolumeReport};
use crate::resume::{Keeper, Opened, Reached, Restoring, ResumeError, ResumeOptions};

impl<D: Destination> Receiver<D> {
    /// Makes receives resumable: they take checkpoints, and go on from those
    /// that an interrupted receive has left. See [`resume`](crate::resume).
    ///
    /// A subvolume that is complete already is passed over, so that a stream
    /// can be offered until it is received. One that is not is kept, whatever
    /// [`Options::on_error`](crate::Options::on_error) says.
    ///
    /// Only for [`receive`](Self::receive) and
    /// [`receive_file`](Self::receive_file): who hands over items with
    /// [`item`](Self::item) has not the bytes that have to be compared, and
    /// every subvolume fails.
    ///
    /// # Errors
    /// The destination is no mounted btrfs, or the directory cannot be opened.
    pub fn resumable(mut self, options: ResumeOptions) -> Result<Self, ResumeError> {
        let Some(destination) = self.destination.resumable() else {
            return Err(ResumeError::Unsupported);
        };
        self.keeper = Some(Keeper::new(options, destination)?);
        Ok(self)
    }

    /// Like [`receive`](Self::receive), for an input that can be read again:
    /// where the stream differs from an interrupted one, goes back to its
    /// beginning by itself and receives it again, from an earlier checkpoint.
    ///
    /// # Errors
    /// Those of [`receive`](Self::receive).
    pub fn receive_file<R: Read + Seek>(
        &mut self,
        mut input: R,
        observer: &mut dyn Observer,
    ) -> Result<Report, ReceiveError> {
        let Ok(start) = input.stream_position() else {
            return self.receive(input, observer);
        };
        let trusts = self.keeper.as_ref().is_some_and(Keeper::trusts_files);
        loop {
            let mut again = StartsAgain {
                observer,
                differs: false,
            };
            let mut reader = self.reader(&mut input);
            let skip: Option<Skip<_>> = trusts.then_some(Reader::skip);
            let result = self.take_all(&mut reader, skip, &mut again);
            // Each time there are fewer checkpoints, and none at last.
            if !again.differs {
                return result;
            }
            if let Err(error) = input.seek(SeekFrom::Start(start)) {
                let error = btrfs_sendstream::Error::from(error);
                return Err(self.abort(StopReason::Stream(error), observer));
            }
        }
    }

    /// Reads an item, and keeps its bytes.
    pub(super) fn next_kept<R: Read>(
        &mut self,
        reader: &mut Reader<R>,
    ) -> Result<Option<Item>, btrfs_sendstream::Error> {
        Ok(reader.next_raw()?.map(|(item, raw)| {
            self.raw = raw;
            item
        }))
    }

    /// A command inside a subvolume was taken.
    pub(super) fn after_item_kept(
        &mut self,
        at: Position,
        observer: &mut dyn Observer,
    ) -> Result<(), ReceiveError> {
        match self.state {
            State::Comparing(_) => self.compare_kept(at, observer),
            State::Building(_) => self.after_change_kept(at, observer),
            _ => Ok(()),
        }
    }

    /// Looks for what an earlier receive has left of `new`. Gives the report
    /// back if it has to be created.
    pub(super) fn open_kept(
        &mut self,
        new: &NewSubvolume,
        mut subvolume: Box<SubvolumeReport>,
        at: Position,
        observer: &mut dyn Observer,
    ) -> Result<Option<Box<SubvolumeReport>>, ReceiveError> {
        let Some(keeper) = &mut self.keeper else {
            return Ok(Some(subvolume));
        };
        let opened = match self.raw.is_empty() {
            true => Err(ResumeError::Unsupported),
            false => keeper.open(new, subvolume.built_as.clone(), &self.raw),
        };
        match opened {
            Ok(Opened::Fresh) => return Ok(Some(subvolume)),
            Ok(Opened::Complete) => {
                subvolume.outcome = Outcome::AlreadyComplete;
                self.state = State::Present(subvolume);
            }
            Ok(Opened::Unfinished(offset)) => {
                subvolume.outcome = Outcome::Abandoned;
                observer.event(Event::Comparing { new, offset });
                self.state = State::Comparing(Box::new((*subvolume, new.clone())));
            }
            Err(error) => {
                self.state = State::Skipping(subvolume);
                self.fail(failure(at, error), observer)?;
            }
        }
        Ok(None)
    }

    /// The subvolume was created.
    pub(super) fn created_kept(
        &mut self,
        new: &NewSubvolume,
        at: Position,
        observer: &mut dyn Observer,
    ) -> Result<(), ReceiveError> {
        let (Some(keeper), Some(destination)) = (&mut self.keeper, self.destination.resumable())
        else {
            return Ok(());
        };
        match keeper.created(destination.working(new)) {
            Ok(()) => Ok(()),
            Err(error) => self.fail(failure(at, error), observer),
        }
    }

    /// The subvolume could not be created, and nothing is there.
    pub(super) fn not_created_kept(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            // The failure that is about to be reported says more.
            let _ = keeper.created(None);
        }
    }

    /// Passes over what an earlier receive has applied, and goes on from there.
    pub(super) fn skip_compared<R: Read>(
        &mut self,
        reader: &mut Reader<R>,
        skip: Skip<R>,
        observer: &mut dyn Observer,
    ) -> Result<(), ReceiveError> {
        let Some(keeper) = &mut self.keeper else {
            return Ok(());
        };
        let at = reader.position();
        let (from, bytes, commands) = match keeper.trust() {
            Ok(Some(trusted)) => trusted,
            Ok(None) => return Ok(()),
            Err(error) => return self.skip_kept(failure(at, error), observer),
        };
        if let Err(error) = skip(reader, bytes, commands) {
            return Err(self.abort(StopReason::Stream(error), observer));
        }
        if let State::Comparing(comparing) = &mut self.state {
            comparing.0.commands += commands;
        }
        self.report.bytes = reader.consumed();
        self.restore_kept(*from, reader.position(), observer)
    }

    /// Compares a command; goes on from the checkpoint once that is met.
    fn compare_kept(
        &mut self,
        at: Position,
        observer: &mut dyn Observer,
    ) -> Result<(), ReceiveError> {
        let Some(keeper) = &mut self.keeper else {
            return Ok(());
        };
        match keeper.compare(&self.raw) {
            Ok(Reached::NotYet) => Ok(()),
            Ok(Reached::Checkpoint(from)) => self.restore_kept(*from, at, observer),
            Err(error) => self.skip_kept(failure(at, error), observer),
        }
    }

    /// Passes over the rest of a subvolume that cannot go on.
    fn skip_kept(
        &mut self,
        failure: Failure,
        observer: &mut dyn Observer,
    ) -> Result<(), ReceiveError> {
        if let State::Comparing(comparing) = std::mem::replace(&mut self.state, State::Idle) {
            self.state = State::Skipping(Box::new(comparing.0));
        }
        self.fail(failure, observer)
    }

    fn restore_kept(
        &mut self,
        from: Restoring,
        at: Position,
        observer: &mut dyn Observer,
    ) -> Result<(), ReceiveError> {
        let State::Comparing(comparing) = std::mem::replace(&mut self.state, State::Idle) else {
            return Ok(());
        };
        let (mut subvolume, new) = *comparing;
        debug!(
            offset = from.checkpoint.offset,
            "the stream is the same: restoring the checkpoint"
        );
        let root = from.checkpoint.root.clone();
        let offset = from.checkpoint.offset;
        subvolume.left_out = from.checkpoint.left_out;
        let restored = match self.destination.resumable() {
            Some(destination) => destination.restore(&new, from, at),
            None => Err(failure(at, ResumeError::Unsupported)),
        };
        let begun = match restored {
            Ok(begun) => begun,
            Err(failure) => {
                self.state = State::Skipping(Box::new(subvolume));
                return self.fail(failure, observer);
            }
        };
        subvolume.parent = begun.parent;
        subvolume.resumed_at = Some(offset);
        self.planner.go_on(root, at);
        observer.event(Event::Resumed { new: &new, offset });
        self.wants_commands = observer.wants_commands();
        self.state = State::Building(Box::new(subvolume));
        self.created_kept(&new, at, observer)
    }

    /// The subvolume ends while it is compared.
    pub(super) fn ended_early_kept(
        &mut self,
        at: Position,
        observer: &mut dyn Observer,
    ) -> Result<(), ReceiveError> {
        let Some(keeper) = &mut self.keeper else {
            return Ok(());
        };
        let error = keeper.ended_early().unwrap_or_else(|error| error);
        self.skip_kept(failure(at, error), observer)
    }

    /// A command is about to be applied.
    pub(super) fn before_change_kept(
        &mut self,
        command: &CommandBuf,
        at: Position,
        observer: &mut dyn Observer,
    ) -> Result<(), ReceiveError> {
        if !matches!(command, Command::EnableVerity(_)) {
            return Ok(());
        }
        match self.keeper.as_mut().map(Keeper::verity) {
            Some(Err(error)) => self.fail(failure(at, error), observer),
            _ => Ok(()),
        }
    }

    /// A command was applied, or is on its way.
    fn after_change_kept(
        &mut self,
        at: Position,
        observer: &mut dyn Observer,
    ) -> Result<(), ReceiveError> {
        let Some(keeper) = &mut self.keeper else {
            return Ok(());
        };
        keeper.applied(&self.raw);
        if !keeper.is_due() || !self.planner.is_between_inodes() {
            return Ok(());
        }
        self.flush_held(observer)?;
        while let Err(failure) = self.destination.settle() {
            self.fail(failure, observer)?;
        }
        match self.checkpoint(at, observer) {
            Ok(()) => Ok(()),
            Err(failure) => self.fail(failure, observer),
        }
    }

    /// Takes a checkpoint of what is settled.
    fn checkpoint(&mut self, at: Position, observer: &mut dyn Observer) -> Result<(), Failure> {
        let State::Building(subvolume) = &self.state else {
            return Ok(());
        };
        let (Some(keeper), Some(destination)) = (&mut self.keeper, self.destination.resumable())
        else {
            return Ok(());
        };
        let Some((place, name)) = keeper.next_checkpoint().filter(|_| subvolume.failures == 0)
        else {
            return Ok(());
        };
        let captured = destination.checkpoint(place, name, at)?;
        let offset = keeper
            .add(captured, self.planner.deferred(), subvolume.left_out)
            .map_err(|error| failure(at, error))?;
        debug!(offset, "took a checkpoint");
        observer.event(Event::Checkpoint { at, offset });
        Ok(())
    }

    /// Takes a checkpoint of what there is, if nothing has failed: the receive
    /// ends because the input does, or on request.
    pub(super) fn last_checkpoint(&mut self, observer: &mut dyn Observer) {
        let is_building = matches!(&self.state, State::Building(it) if it.failures == 0);
        if self.keeper.is_none() || !is_building || !self.planner.is_between_inodes() {
            return;
        }
        self.planner.flush(&mut self.steps);
        for step in std::mem::take(&mut self.steps) {
            if let Err(failure) = self.destination.apply(step) {
                self.count(failure, observer);
            }
        }
        while let Err(failure) = self.destination.settle() {
            self.count(failure, observer);
        }
        let at = Position {
            offset: self.report.bytes,
            ..Position::default()
        };
        if let Err(failure) = self.checkpoint(at, observer) {
            self.count(failure, observer);
        }
    }

    /// The subvolume is complete.
    pub(super) fn finished_kept(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            // It is complete all the same, and the next receive of it tries
            // again to tidy up.
            let _ = keeper.finished();
        }
    }

    /// A subvolume goes into the report.
    pub(super) fn leave_kept(&mut self, subvolume: &mut SubvolumeReport) {
        if let Some(keeper) = &mut self.keeper {
            subvolume.kept = keeper.kept();
            keeper.leave();
        }
    }
}

/// Passes over bytes and commands of a stream, unread.
pub(super) type Skip<R> = fn(&mut Reader<R>, u64, u64) -> Result<(), btrfs_sendstream::Error>;

/// Tells of a difference to an interrupted receive not as a failure: the input
/// is read again.
struct StartsAgain<'a> {
    observer: &'a mut dyn Observer,
    differs: bool,
}

impl Observer for StartsAgain<'_> {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Failed(failure) => {
                if let Cause::Resume(error) = &*failure.cause
                    && matches!(**error, ResumeError::Differs { .. })
                {
                    self.differs = true;
                    return self.observer.event(Event::StartsAgain(error));
                }
                self.observer.event(event);
            }
            Event::SubvolumeAbandoned(_) if self.differs => {}
            event => self.observer.event(event),
        }
    }

    fn wants_commands(&self) -> bool {
        self.observer.wants_commands()
    }
}

/// Whether an item stands inside a subvolume: not a header, and neither the
/// command that begins it nor the one that ends it.
pub(super) fn is_change(item: &Item) -> bool {
    match item {
        Item::Header(_) => false,
        Item::Command(command) => !matches!(
            command,
            Command::Subvol { .. } | Command::Snapshot { .. } | Command::End
        ),
        _ => true,
    }
}

fn failure(at: Position, error: ResumeError) -> Failure {
    Failure::new(at, "resume", b"", Cause::Resume(Box::new(error)))
}
