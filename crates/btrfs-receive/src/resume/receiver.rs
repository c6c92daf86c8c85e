//! A receiver that takes checkpoints and goes on from them.

use std::io::{Read, Seek, SeekFrom};

use btrfs_sendstream::{Bytes, Command, Item, Position};
use rustix::thread::{CapabilitySet, capabilities};
use tracing::debug;

use super::error::ResumeError;
use super::journal::RootAttribute;
use super::options::ResumeOptions;
use super::rollback::roll_back;
use super::state::{Active, Begun, Place};
use crate::destination::Destination;
use crate::destination::btrfs::BtrfsDestination;
use crate::error::{Cause, Failure, ReceiveError, StopReason};
use crate::observer::{Event, Observer};
use crate::options::{Cancel, OnError, Options};
use crate::plan::op::NewSubvolume;
use crate::receiver::{Flow, Paused, Receiver};
use crate::report::{Outcome, Report};

/// Receives into a mounted btrfs, takes checkpoints, and goes on from those that
/// an interrupted receive of the same stream has left.
///
/// A subvolume that is complete already is skipped, so that a stream can be
/// offered until it is received. One that is not complete is left to be gone on
/// with, whatever [`Options::on_error`] says.
#[derive(Debug)]
pub struct ResumableReceiver {
    receiver: Receiver<BtrfsDestination>,
    options: ResumeOptions,
    /// That of the caller's options: before it stops, there is a checkpoint.
    cancel: Cancel,
    place: Place,
    /// The subvolume that is being received, with the name it has when complete.
    active: Option<(NewSubvolume, Active)>,
}

impl ResumableReceiver {
    /// A receiver with these options.
    ///
    /// # Errors
    /// [`ResumeError::NotPrivileged`] without `CAP_SYS_ADMIN`; the directory for
    /// the state cannot be used.
    pub fn new(
        destination: BtrfsDestination,
        mut options: Options,
        resume: ResumeOptions,
    ) -> Result<Self, ResumeError> {
        let (directory, path) = destination
            .directory()
            .map_err(|errno| ResumeError::system("fcntl", ".".as_ref(), errno))?;
        if !capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN)) {
            return Err(ResumeError::NotPrivileged);
        }
        let place = Place::of(directory, &path, resume.directory.as_deref())?;
        place.check()?;
        let cancel = std::mem::take(&mut options.cancel);
        options.on_error = OnError::Keep;
        Ok(Self {
            receiver: Receiver::with_options(destination, options),
            options: resume,
            cancel,
            place,
            active: None,
        })
    }

    /// As [`Receiver::receive`]. If the stream is not the one that was
    /// interrupted, the receive fails with [`ResumeError::Differs`], and the next
    /// one goes on from an earlier checkpoint or starts over.
    ///
    /// # Errors
    /// Those of [`Receiver::receive`].
    pub fn receive<R: Read>(
        &mut self,
        input: R,
        observer: &mut dyn Observer,
    ) -> Result<Report, ReceiveError> {
        let result = self.take_all(input, observer);
        // Of what is not complete, the state stays as it is.
        self.active = None;
        result
    }

    /// As [`receive`](Self::receive), for an input that can be read again: where
    /// the stream differs from an interrupted one, goes back to its beginning and
    /// receives it again, from an earlier checkpoint.
    ///
    /// # Errors
    /// Those of [`Receiver::receive`].
    pub fn receive_file<R: Read + Seek>(
        &mut self,
        mut input: R,
        observer: &mut dyn Observer,
    ) -> Result<Report, ReceiveError> {
        let Ok(start) = input.stream_position() else {
            return self.receive(input, observer);
        };
        loop {
            let mut again = StartsAgain {
                observer,
                differs: false,
            };
            let result = self.receive(&mut input, &mut again);
            // Each time there are fewer checkpoints, and none at last.
            if !again.differs {
                return result;
            }
            if let Err(error) = input.seek(SeekFrom::Start(start)) {
                let error = btrfs_sendstream::Error::from(error);
                return Err(self.receiver.abort(StopReason::Stream(error), observer));
            }
        }
    }

    fn take_all<R: Read>(
        &mut self,
        input: R,
        observer: &mut dyn Observer,
    ) -> Result<Report, ReceiveError> {
        let mut reader = self.receiver.reader(input);
        let mut ignored = 0;
        loop {
            let is_cancelled = self.cancel.is_cancelled();
            let next = (!is_cancelled).then(|| reader.next_raw());
            let consumed = reader.consumed();
            let (item, raw) = match next {
                Some(next) if !self.cancel.is_cancelled() => match next {
                    Ok(Some(next)) => next,
                    Ok(None) => return self.receiver.end(observer),
                    Err(error) => {
                        return Err(self.stop(StopReason::Stream(error), consumed, observer));
                    }
                },
                _ => return Err(self.stop(StopReason::Cancelled, consumed, observer)),
            };
            self.receiver.set_consumed(consumed);
            let flow = self.item(item, &raw, reader.position(), observer)?;
            if reader.ignored_attributes() > ignored {
                self.receiver.ignored(reader.ignored_attributes() - ignored);
                ignored = reader.ignored_attributes();
            }
            if flow == Flow::Done {
                return self.receiver.end(observer);
            }
        }
    }

    /// Takes an item, and the bytes that it was decoded from.
    fn item(
        &mut self,
        item: Item,
        raw: &Bytes,
        at: Position,
        observer: &mut dyn Observer,
    ) -> Result<Flow, ReceiveError> {
        match &item {
            Item::Header(_) => self.receiver.item(item, at, observer),
            Item::Command(Command::Subvol { .. } | Command::Snapshot { .. }) => {
                self.begin(item, raw, at, observer)
            }
            Item::Command(Command::End) => {
                self.end_comparing(at, observer)?;
                let flow = self.receiver.item(item, at, observer)?;
                self.ended();
                Ok(flow)
            }
            _ => self.change(item, raw, at, observer),
        }
    }

    /// A command begins a subvolume, which ends the one before.
    fn begin(
        &mut self,
        item: Item,
        raw: &[u8],
        at: Position,
        observer: &mut dyn Observer,
    ) -> Result<Flow, ReceiveError> {
        self.end_comparing(at, observer)?;
        self.receiver.finish(at, observer)?;
        self.ended();
        let Item::Command(command) = &item else {
            return Ok(Flow::Continue);
        };
        let Some(new) = NewSubvolume::from_command(command) else {
            return Ok(Flow::Continue);
        };
        let Some(new) = self.receiver.named(&new) else {
            // Refused, since the name that was chosen serves one subvolume.
            return self.receiver.item(item, at, observer);
        };
        let built_as = self.receiver.destination().built_as(&new);
        match self.place.begin(&new, built_as, &self.options, raw) {
            Ok(Begun::Fresh(active)) => {
                let result = self.receiver.item(item, at, observer);
                self.created(new, active, at, observer)?;
                result
            }
            Ok(Begun::NameTaken) => self.receiver.item(item, at, observer),
            Ok(Begun::Complete) => {
                self.receiver.skip_next(Outcome::AlreadyComplete);
                self.receiver.item(item, at, observer)
            }
            Ok(Begun::Unfinished(active)) => {
                self.receiver.skip_next(Outcome::Abandoned);
                let flow = self.receiver.item(item, at, observer)?;
                let offset = active.journal.newest();
                self.set_checkpoint(offset);
                let comparing = Event::Comparing { new: &new, offset };
                observer.event(comparing);
                self.active = Some((new, active));
                Ok(flow)
            }
            Err(error) => {
                self.receiver.skip_next(Outcome::NotCreated);
                let flow = self.receiver.item(item, at, observer)?;
                self.receiver.fail(failure(at, error), observer)?;
                Ok(flow)
            }
        }
    }

    /// The destination has created the subvolume, or has not.
    fn created(
        &mut self,
        new: NewSubvolume,
        mut active: Active,
        at: Position,
        observer: &mut dyn Observer,
    ) -> Result<(), ReceiveError> {
        if self.receiver.is_building() {
            let built_as = active.journal.built_as.clone();
            let uuid = self.place.uuid_of(&built_as).unwrap_or_default();
            let written = active.created(uuid);
            active.start();
            self.set_checkpoint(0);
            self.active = Some((new, active));
            return match written {
                Ok(()) => Ok(()),
                Err(error) => self.receiver.fail(failure(at, error), observer),
            };
        }
        if self.receiver.outcome() != Some(Outcome::Abandoned) {
            // Nothing was created, and the failure of that says more.
            let _ = active.store.remove();
        }
        Ok(())
    }

    /// A command inside a subvolume.
    fn change(
        &mut self,
        item: Item,
        raw: &[u8],
        at: Position,
        observer: &mut dyn Observer,
    ) -> Result<Flow, ReceiveError> {
        let Some((_, active)) = &mut self.active else {
            return self.receiver.item(item, at, observer);
        };
        if active.is_comparing() {
            let flow = self.receiver.item(item, at, observer)?;
            match active.compare(raw) {
                Ok(false) => {}
                Ok(true) => self.resume(at, observer)?,
                Err(error) => self.differs(error, at, observer)?,
            }
            return Ok(flow);
        }
        if is_verity(&item)
            && let Err(error) = active.verity()
        {
            self.receiver.fail(failure(at, error), observer)?;
        }
        let flow = self.receiver.item(item, at, observer)?;
        if active.applied(raw, &self.options)
            && let Some(paused) = self.receiver.pause(observer)?
        {
            self.checkpoint(paused, at, observer)?;
        }
        Ok(flow)
    }

    /// The beginning of the stream is the same: goes on from the newest
    /// checkpoint.
    fn resume(&mut self, at: Position, observer: &mut dyn Observer) -> Result<(), ReceiveError> {
        let Some((new, mut active)) = self.active.take() else {
            return Ok(());
        };
        let offset = active.journal.newest();
        debug!(
            offset,
            "the stream is the same: rolling back to the checkpoint"
        );
        let destination = self.receiver.destination_mut();
        let parent = match roll_back(destination, &self.place, &mut active, &new) {
            Ok(parent) => parent,
            Err(cause) => {
                let failure = Failure::new(at, "resume", new.name.as_bytes(), cause);
                return self.receiver.fail(failure, observer);
            }
        };
        active.start();
        let paused = active.journal.checkpoints.last().map(|newest| Paused {
            root: newest
                .root
                .iter()
                .cloned()
                .map(RootAttribute::into_op)
                .collect(),
            excluded: newest.excluded,
        });
        let paused = paused.unwrap_or_default();
        if let Some(subvolume) = self.receiver.subvolume_mut() {
            subvolume.resumed_at = Some(offset);
        }
        observer.event(Event::Resumed { new: &new, offset });
        self.receiver.begin_at(paused, parent, at, observer);
        self.active = Some((new, active));
        Ok(())
    }

    /// Takes a checkpoint, if anything was done since the last.
    fn checkpoint(
        &mut self,
        paused: Paused,
        at: Position,
        observer: &mut dyn Observer,
    ) -> Result<(), ReceiveError> {
        let Some((_, active)) = &mut self.active else {
            return Ok(());
        };
        let Some((place, name)) = active.next_checkpoint() else {
            return Ok(());
        };
        let destination = self.receiver.destination_mut();
        let taken = destination.checkpoint(place, name);
        let offset = match taken.and_then(|snapshot| Ok(active.add(snapshot, paused)?)) {
            Ok(offset) => offset,
            Err(cause) => {
                let failure = Failure::new(at, "checkpoint", b"", cause);
                return self.receiver.fail(failure, observer);
            }
        };
        debug!(offset, "took a checkpoint");
        self.set_checkpoint(offset);
        observer.event(Event::Checkpoint { at, offset });
        Ok(())
    }

    fn set_checkpoint(&mut self, offset: u64) {
        if let Some(subvolume) = self.receiver.subvolume_mut() {
            subvolume.checkpoint = Some(offset);
        }
    }

    /// The subvolume ends; if it is still compared, before it did in the
    /// interrupted receive.
    fn end_comparing(
        &mut self,
        at: Position,
        observer: &mut dyn Observer,
    ) -> Result<(), ReceiveError> {
        match &mut self.active {
            Some((_, active)) if active.is_comparing() => {
                let error = active.ended_early().unwrap_or_else(|error| error);
                self.differs(error, at, observer)
            }
            _ => Ok(()),
        }
    }

    /// The stream is not the same, or the journal cannot be written.
    fn differs(
        &mut self,
        error: ResumeError,
        at: Position,
        observer: &mut dyn Observer,
    ) -> Result<(), ReceiveError> {
        if let Some((_, active)) = self.active.take() {
            self.set_checkpoint(active.journal.newest());
        }
        self.receiver.fail(failure(at, error), observer)
    }

    /// A subvolume has ended: the state of one that is complete goes.
    fn ended(&mut self) {
        if let Some((_, active)) = self.active.take()
            && self.receiver.outcome().is_some_and(Outcome::is_finished)
        {
            // The next receive of it tries again to tidy up.
            let _ = active.store.remove();
        }
    }

    /// Ends the receive because the input does, or on request; before that takes
    /// a checkpoint of what there is, if nothing has failed.
    fn stop(
        &mut self,
        reason: StopReason,
        consumed: u64,
        observer: &mut dyn Observer,
    ) -> ReceiveError {
        let at = Position {
            offset: consumed,
            ..Position::default()
        };
        let taken = match self.receiver.pause(observer) {
            Ok(Some(paused)) => self.checkpoint(paused, at, observer),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        match taken {
            Ok(()) => self.receiver.abort(reason, observer),
            Err(error) => error,
        }
    }
}

fn failure(at: Position, error: ResumeError) -> Failure {
    Failure::new(at, "resume", b"", error.into())
}

/// Whether the item enables verity on a file.
fn is_verity(item: &Item) -> bool {
    matches!(item, Item::Command(Command::EnableVerity(_)))
}

/// Reports a difference to an interrupted receive not as a failure: the input is
/// read again.
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
