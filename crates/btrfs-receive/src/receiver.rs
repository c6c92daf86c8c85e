//! From commands to a report: the whole of a receive.

use std::io::Read;

use btrfs_sendstream::{Command, CommandBuf, Item, Position, Reader};

use crate::destination::Destination;
use crate::error::{Cause, Conflict, Failure, ReceiveError, StopReason};
use crate::filter::{Filter, Judged, Verdict, refused};
use crate::observer::{Event, Observer, Totals};
use crate::options::{OnError, Options};
use crate::plan::Planner;
#[cfg(feature = "resume")]
use crate::plan::op::Op;
use crate::plan::op::{NewSubvolume, Step};
use crate::report::{Excluded, Outcome, Report, SubvolumeReport};
use crate::timing::{Timed, Timing};
#[cfg(feature = "resume")]
use btrfs_lineage::SourceUsed;

/// Applies send streams to a [`Destination`].
///
/// [`receive`](Self::receive) does everything for an input that can be read.
/// A caller that has its own way of reading hands over items one by one:
/// [`item`](Self::item), and [`end`](Self::end) at the end of input.
///
/// Memory: what the destination needs, one held-back group of steps (1 MiB),
/// and the reader's buffer.
pub struct Receiver<D> {
    destination: D,
    options: Options,
    planner: Planner,
    state: State,
    report: Report,
    /// Scratch space for the planner's output.
    steps: Vec<Step>,
    /// The first failure, which a caller is told as the reason.
    first_failure: Option<Failure>,
    wants_commands: bool,
    /// Clone sources in the report, of all subvolumes.
    listed_sources: usize,
    /// What was taken; bytes and commands are in the report.
    totals: Totals,
    /// Offset in the input from which progress is told next.
    next_progress: u64,
    /// The name that the options chose is a subvolume's.
    name_is_used: bool,
    /// The next subvolume is not created, and has this outcome.
    skip_next: Option<Outcome>,
    /// What became of the newest subvolume in the report.
    newest: Option<Outcome>,
    timing: Timing,
}

enum State {
    /// Between subvolumes.
    Idle,
    /// A subvolume is under construction.
    Building(Box<SubvolumeReport>),
    /// Nothing is applied until the next subvolume: this one could not be
    /// created, so that nothing lands in a subvolume that is not ours; or it
    /// is there already.
    Skipping(Box<SubvolumeReport>),
}

impl<D: std::fmt::Debug> std::fmt::Debug for Receiver<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver")
            .field("destination", &self.destination)
            .field("options", &self.options)
            .field("report", &self.report)
            .finish_non_exhaustive()
    }
}

/// Whether to go on with the input; what [`Receiver::item`] answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Flow {
    /// Hand over the next item.
    Continue,
    /// END was read and [`Options::stop_at_end`] is set.
    Done,
}

impl<D: Destination> Receiver<D> {
    /// A receiver with the default [`Options`].
    pub fn new(destination: D) -> Self {
        Self::with_options(destination, Options::default())
    }

    /// A receiver with these options.
    pub fn with_options(destination: D, options: Options) -> Self {
        Self {
            destination,
            planner: Planner::new(options.rules),
            options,
            state: State::Idle,
            report: Report::default(),
            steps: Vec::new(),
            first_failure: None,
            wants_commands: false,
            listed_sources: 0,
            totals: Totals::default(),
            next_progress: Event::PROGRESS_BYTES,
            name_is_used: false,
            skip_next: None,
            newest: None,
            timing: Timing::default(),
        }
    }

    /// The destination.
    pub fn destination(&self) -> &D {
        &self.destination
    }

    /// The destination, taken out. What is under construction is abandoned.
    pub fn into_destination(mut self) -> D {
        self.destination.abandon();
        self.destination
    }

    /// Reads `input` to its end, or to the first END if the options say so,
    /// and applies everything.
    ///
    /// `Ok` means that every subvolume of the input is complete, on disk,
    /// marked as received and read-only.
    ///
    /// May be called again with another input, also after an error. Each report is
    /// about one input.
    ///
    /// # Errors
    /// [`ReceiveError`] holds the reason, and the report of what was done.
    /// Subvolumes finished before stay finished; one under construction
    /// stays writable and without received UUID.
    pub fn receive<R: Read>(
        &mut self,
        input: R,
        observer: &mut dyn Observer,
    ) -> Result<Report, ReceiveError> {
        self.receive_filtered(input, &mut (), observer)
    }

    /// As [`receive`](Self::receive), except that `filter` judges each item
    /// before it is applied.
    ///
    /// # Errors
    /// Those of [`receive`](Self::receive), and what `filter` refuses:
    /// [`Cause::Refused`].
    pub fn receive_filtered<R: Read>(
        &mut self,
        input: R,
        filter: &mut dyn Filter,
        observer: &mut dyn Observer,
    ) -> Result<Report, ReceiveError> {
        let mut reader = self.reader(input);
        let mut ignored = 0;
        loop {
            if self.options.cancel.is_cancelled() {
                return Err(self.stop(StopReason::Cancelled, observer));
            }
            let item = match reader.next_owned() {
                Ok(Some(item)) => item,
                Ok(None) => return self.end(observer),
                Err(error) => return Err(self.unreadable(error, observer)),
            };
            let (at, consumed) = (reader.position(), reader.consumed());
            self.report.bytes = consumed;
            let item = match filter.judge(&item, at, consumed) {
                Verdict::Apply => item,
                verdict => match Judged::new(verdict, item, at) {
                    Judged::Apply(item) => item,
                    Judged::Replace(item) => {
                        self.filtered();
                        item
                    }
                    Judged::LeaveOut => {
                        self.filtered();
                        continue;
                    }
                    Judged::Refuse(failure) => return Err(self.refuse(failure, observer)),
                },
            };
            if !self.options.stop_at_end
                && matches!(item, Item::Command(Command::End))
                && let Some(error) = filter.must_be_last()
            {
                return match reader.next_owned() {
                    Ok(None) => {
                        let _ = self.item(item, at, observer)?;
                        self.end(observer)
                    }
                    Ok(Some(item)) => {
                        let failure = refused(&item, reader.position(), error);
                        Err(self.refuse(failure, observer))
                    }
                    Err(error) => Err(self.unreadable(error, observer)),
                };
            }
            let flow = self.item(item, at, observer)?;
            if reader.ignored_attributes() > ignored {
                self.ignored(reader.ignored_attributes() - ignored);
                ignored = reader.ignored_attributes();
            }
            if flow == Flow::Done {
                return self.end(observer);
            }
        }
    }

    /// The input is damaged or cannot be read.
    fn unreadable(
        &mut self,
        error: btrfs_sendstream::Error,
        observer: &mut dyn Observer,
    ) -> ReceiveError {
        if self.options.cancel.is_cancelled() {
            self.stop(StopReason::Cancelled, observer)
        } else {
            self.abort(StopReason::Stream(error), observer)
        }
    }

    /// A filter left out or replaced a command.
    fn filtered(&mut self) {
        self.leave_out(Excluded {
            by_filter: 1,
            ..Excluded::default()
        });
    }

    /// Ends the receive because a filter refused an item.
    fn refuse(&mut self, failure: Failure, observer: &mut dyn Observer) -> ReceiveError {
        self.count(failure, observer);
        self.stop(StopReason::Failures, observer)
    }

    /// Reads `input` as the options say. The receive begins.
    pub(crate) fn reader<R: Read>(&mut self, input: R) -> Reader<Timed<R>> {
        self.timing.begin(self.destination.waits());
        Reader::builder()
            .limits(self.options.limits)
            .allow_unknown(self.options.allow_unknown)
            .exact(self.options.stop_at_end)
            .build(self.timing.timed(input))
    }

    /// Takes one item of the input, which stands `at` a place of it. Headers
    /// and undecoded commands are passed over.
    ///
    /// What the item asks for may be held back, or under way, when this
    /// returns; a failure may be that of an earlier one. After an error the
    /// receive is over: the next item begins another one.
    ///
    /// # Errors
    /// [`Options::max_errors`] operations have failed, a command stands
    /// outside of any subvolume, or [`Options::cancel`] is set.
    pub fn item(
        &mut self,
        item: Item,
        at: Position,
        observer: &mut dyn Observer,
    ) -> Result<Flow, ReceiveError> {
        if self.options.cancel.is_cancelled() {
            return Err(self.stop(StopReason::Cancelled, observer));
        }
        if !self.timing.is_running() {
            self.timing.begin(self.destination.waits());
        }
        let command = match item {
            Item::Command(command) => command,
            Item::Unknown(_) => {
                self.leave_out(Excluded {
                    unknown_commands: 1,
                    ..Excluded::default()
                });
                return Ok(Flow::Continue);
            }
            _ => return Ok(Flow::Continue),
        };
        self.report.commands += 1;
        self.report.bytes = self.report.bytes.max(at.offset);
        if at.offset >= self.next_progress {
            self.next_progress = at.offset.saturating_add(Event::PROGRESS_BYTES);
            let totals = Totals {
                bytes: at.offset,
                commands: self.report.commands - 1,
                ..self.totals
            };
            observer.event(Event::Progress { at, totals });
        }
        if let Some(new) = NewSubvolume::from_command(&command) {
            self.begin(&new, at, observer)?;
            return Ok(Flow::Continue);
        }
        match command {
            Command::End => {
                self.finish(at, observer)?;
                if self.options.stop_at_end {
                    return Ok(Flow::Done);
                }
            }
            command => self.change(command, at, observer)?,
        }
        Ok(Flow::Continue)
    }

    /// Counts attributes that a decoder ignored in the last item because it
    /// was told to [allow unknown](Options::allow_unknown) ones. For callers
    /// of [`item`](Self::item).
    pub fn ignored(&mut self, attributes: u64) {
        self.leave_out(Excluded {
            unknown_attributes: attributes,
            ..Excluded::default()
        });
    }

    fn leave_out(&mut self, what: Excluded) {
        if let State::Building(subvolume) | State::Skipping(subvolume) = &mut self.state {
            subvolume.excluded += what;
        }
    }

    /// The input is at its end.
    ///
    /// # Errors
    /// An operation failed on the way, though the limit was not reached; or
    /// there was no END for the last subvolume.
    pub fn end(&mut self, observer: &mut dyn Observer) -> Result<Report, ReceiveError> {
        if self.report.failures > 0 || !matches!(self.state, State::Idle) {
            return Err(self.stop(StopReason::Failures, observer));
        }
        Ok(self.reset())
    }

    /// Ends the receive before the end of input, because that is damaged or
    /// can no longer be read, or because the caller has had enough. What is
    /// under construction stays writable and without received UUID.
    ///
    /// For callers of [`item`](Self::item), who then have the report, and the
    /// error that [`receive`](Self::receive) would have returned.
    #[must_use]
    pub fn abort(&mut self, reason: StopReason, observer: &mut dyn Observer) -> ReceiveError {
        if matches!(reason, StopReason::Stream(_)) {
            // What came before the damage counts as if nothing had been held
            // back: it may fail too, and did so first.
            if let Err(error) = self.flush_held(observer) {
                return error;
            }
        }
        self.stop(reason, observer)
    }

    /// Starts a subvolume, which ends the one before.
    fn begin(
        &mut self,
        new: &NewSubvolume,
        at: Position,
        observer: &mut dyn Observer,
    ) -> Result<(), ReceiveError> {
        self.finish(at, observer)?;
        // The report keeps the name: not with the buffer it was read into.
        let sent_name = new.name.borrow().to_owned();
        let named = self.named(new);
        let is_second = named.is_none();
        let new = named.as_ref().unwrap_or(new);
        self.name_is_used = true;
        observer.event(Event::SubvolumeBegins { new, at });
        let built_as = self.destination.built_as(new);
        let mut subvolume = Box::new(SubvolumeReport::new(new, sent_name, built_as));
        subvolume.commands = 1;
        if let Some(outcome) = self.skip_next.take() {
            subvolume.outcome = outcome;
            self.state = State::Skipping(subvolume);
            return Ok(());
        }
        let begun = match is_second {
            false => self.destination.begin(new, at),
            true => Err(Failure::new(
                at,
                new.command().name(),
                new.name.as_bytes(),
                Cause::SecondSubvolume,
            )),
        };
        match begun {
            Ok(begun) => {
                self.planner.begin(&begun.deferred, at);
                subvolume.outcome = Outcome::Abandoned;
                subvolume.parent = begun.parent;
                subvolume.subvolume_id = begun.subvolume_id;
                observer.event(Event::SubvolumeCreated {
                    new,
                    parent: subvolume.parent.as_ref(),
                });
                self.wants_commands = observer.wants_commands();
                self.state = State::Building(subvolume);
                Ok(())
            }
            Err(failure) => self.not_begun(subvolume, failure, observer),
        }
    }

    /// What is to be created for `new`: under the name that the options chose.
    /// `None` if that is used.
    pub(crate) fn named(&self, new: &NewSubvolume) -> Option<NewSubvolume> {
        let name = match &self.options.name {
            Some(_) if self.name_is_used => return None,
            Some(name) => name.clone(),
            None => new.name.borrow().to_owned(),
        };
        let mut named = new.clone();
        named.name = name;
        Some(named)
    }

    /// The destination did not create a subvolume: what follows it is skipped.
    fn not_begun(
        &mut self,
        mut subvolume: Box<SubvolumeReport>,
        failure: Failure,
        observer: &mut dyn Observer,
    ) -> Result<(), ReceiveError> {
        let is_left = matches!(*failure.cause, Cause::LeftIncomplete { .. });
        let is_complete = matches!(*failure.cause, Cause::NameTaken { by: Conflict::Same });
        if is_complete {
            subvolume.outcome = Outcome::AlreadyComplete;
        }
        if self.options.skip_complete && is_complete {
            self.state = State::Skipping(subvolume);
            return Ok(());
        }
        if is_left {
            subvolume.outcome = Outcome::Abandoned;
        }
        self.state = State::Skipping(subvolume);
        self.fail(failure, observer)
    }

    /// Applies a command to the subvolume under construction.
    fn change(
        &mut self,
        command: CommandBuf,
        at: Position,
        observer: &mut dyn Observer,
    ) -> Result<(), ReceiveError> {
        match &mut self.state {
            State::Building(subvolume) => subvolume.commands += 1,
            State::Skipping(subvolume) => {
                subvolume.commands += 1;
                return Ok(());
            }
            // The decoder lets no command through outside a subvolume; a
            // caller's own items may.
            State::Idle => {
                let path = b"";
                let cause = Cause::NothingToFinish;
                let failure = Failure::new(at, command.kind().name(), path, cause);
                return self.fail(failure, observer);
            }
        }
        if self.wants_commands {
            observer.event(Event::Command {
                command: &command,
                at,
            });
        }
        if let Some(excluded) = self.options.excludes(&command) {
            self.leave_out(excluded);
            return Ok(());
        }
        self.totals.add(&command);
        let planned = self.planner.command(command, at, &mut self.steps);
        self.apply_steps(observer)?;
        match planned {
            Ok(()) => Ok(()),
            Err(failure) => self.fail(failure, observer),
        }
    }

    /// Applies what the planner holds back for fusing.
    fn flush_held(&mut self, observer: &mut dyn Observer) -> Result<(), ReceiveError> {
        if matches!(self.state, State::Building(_)) {
            self.planner.flush(&mut self.steps);
            self.apply_steps(observer)?;
        }
        Ok(())
    }

    fn apply_steps(&mut self, observer: &mut dyn Observer) -> Result<(), ReceiveError> {
        let mut steps = std::mem::take(&mut self.steps);
        for step in steps.drain(..) {
            self.destination.apply(step);
            if let Some(failure) = self.destination.next_failure() {
                self.fail(failure, observer)?;
                // Lets failures not pile up in the destination.
                while let Err(failure) = self.destination.settle() {
                    self.fail(failure, observer)?;
                }
            }
        }
        self.steps = steps;
        Ok(())
    }

    /// Ends the subvolume under construction, if there is one.
    pub(crate) fn finish(
        &mut self,
        at: Position,
        observer: &mut dyn Observer,
    ) -> Result<(), ReceiveError> {
        if matches!(self.state, State::Building(_)) {
            self.planner.finish(&mut self.steps);
            self.apply_steps(observer)?;
            while let Err(failure) = self.destination.settle() {
                self.fail(failure, observer)?;
            }
        }
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Building(mut subvolume) if subvolume.failures == 0 => {
                match self.timing.sync(|| self.destination.finish(at)) {
                    Ok(finished) => {
                        subvolume.checkpoint = None;
                        subvolume.losses = finished.losses;
                        let whole = subvolume.excluded.is_none() && subvolume.losses.total() == 0;
                        subvolume.outcome = match whole {
                            true => Outcome::Finished,
                            false => Outcome::FinishedWithOmissions,
                        };
                        subvolume.subvolume_id = finished.subvolume_id;
                        subvolume.fallbacks = finished.fallbacks;
                        subvolume.clone_sources = finished.clone_sources;
                        self.close(*subvolume, observer);
                    }
                    Err(failure) => {
                        if matches!(*failure.cause, Cause::NotRenamed { .. }) {
                            subvolume.outcome = Outcome::NotRenamed;
                        }
                        self.state = State::Building(subvolume);
                        self.fail(failure, observer)?;
                        self.give_up(observer);
                    }
                }
            }
            State::Idle => {}
            unfinished => {
                self.state = unfinished;
                self.give_up(observer);
            }
        }
        Ok(())
    }

    /// Counts a failure; stops the receive when there were too many.
    pub(crate) fn fail(
        &mut self,
        failure: Failure,
        observer: &mut dyn Observer,
    ) -> Result<(), ReceiveError> {
        self.count(failure, observer);
        if self.options.max_errors != 0 && self.report.failures >= self.options.max_errors {
            return Err(self.stop(StopReason::Failures, observer));
        }
        Ok(())
    }

    fn count(&mut self, failure: Failure, observer: &mut dyn Observer) {
        self.report.failures += 1;
        match &mut self.state {
            State::Building(subvolume) | State::Skipping(subvolume) => subvolume.failures += 1,
            State::Idle => {}
        }
        observer.event(Event::Failed(&failure));
        let earlier = |first: &Failure| (failure.at.offset) < first.at.offset;
        if self.first_failure.as_ref().is_none_or(earlier) {
            self.first_failure = Some(failure);
        }
    }

    /// Ends the receive for `reason`.
    fn stop(&mut self, reason: StopReason, observer: &mut dyn Observer) -> ReceiveError {
        // What is queued may hold an earlier failure than the one that was
        // met first; the earliest one is the reason.
        while let Err(failure) = self.destination.settle() {
            self.count(failure, observer);
        }
        self.give_up(observer);
        ReceiveError {
            reason,
            first_failure: self.first_failure.take().map(Box::new),
            report: Box::new(self.reset()),
        }
    }

    /// Makes the receiver ready for another input, and returns the report.
    fn reset(&mut self) -> Report {
        self.report.waits = self.timing.end(self.destination.waits());
        self.listed_sources = 0;
        self.next_progress = Event::PROGRESS_BYTES;
        self.totals = Totals::default();
        self.name_is_used = false;
        self.skip_next = None;
        std::mem::take(&mut self.report)
    }

    /// Leaves what is under construction, or was skipped, as it is.
    fn give_up(&mut self, observer: &mut dyn Observer) {
        self.steps.clear();
        self.planner.begin(&Default::default(), Position::default());
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Idle => {}
            State::Building(mut subvolume) | State::Skipping(mut subvolume) => {
                self.discard(&mut subvolume, observer);
                self.close(*subvolume, observer);
            }
        }
    }

    /// Abandons a subvolume; deletes it if that is wanted and it was created.
    fn discard(&mut self, subvolume: &mut SubvolumeReport, observer: &mut dyn Observer) {
        let deletes = self.options.on_error == OnError::Delete;
        if !deletes || subvolume.outcome != Outcome::Abandoned {
            return self.destination.abandon();
        }
        match self.destination.discard() {
            Ok(true) => subvolume.outcome = Outcome::Deleted,
            Ok(false) => {}
            Err(cause) => observer.event(Event::NotDeleted {
                subvolume,
                cause: &cause,
            }),
        }
    }

    /// Enters a subvolume into the report.
    fn close(&mut self, mut subvolume: SubvolumeReport, observer: &mut dyn Observer) {
        self.report.fallbacks += subvolume.fallbacks;
        self.report.excluded += subvolume.excluded;
        self.newest = Some(subvolume.outcome);
        self.totals.subvolumes += u64::from(subvolume.outcome.is_complete());
        if subvolume.outcome == Outcome::AlreadyComplete {
            self.report.already_complete += 1;
            observer.event(Event::SubvolumePresent(&subvolume));
        } else if subvolume.outcome.is_finished() {
            self.report.finished += 1;
            observer.event(Event::SubvolumeFinished(&subvolume));
        } else {
            self.report.abandoned += 1;
            observer.event(Event::SubvolumeAbandoned(&subvolume));
        }
        if self.report.subvolumes.len() < Report::MAX_SUBVOLUMES {
            let room = Report::MAX_CLONE_SOURCES.saturating_sub(self.listed_sources);
            subvolume.clone_sources.truncate(room);
            self.listed_sources += subvolume.clone_sources.len();
            self.report.subvolumes.push(subvolume);
        }
    }
}

/// What [`Receiver::begin_at`] needs, to go on where
/// [`pause`](Receiver::pause) was called.
#[cfg(feature = "resume")]
#[derive(Clone, Debug, Default)]
pub(crate) struct Paused {
    /// The attributes of the root that are set at the end of the subvolume.
    pub(crate) root: Vec<Op>,
    /// The items that the options excluded so far.
    pub(crate) excluded: Excluded,
}

/// For callers that stop in the middle of a subvolume and start there again.
#[cfg(feature = "resume")]
impl<D: Destination> Receiver<D> {
    pub(crate) fn destination_mut(&mut self) -> &mut D {
        &mut self.destination
    }

    /// The report so far of the subvolume that is built or skipped.
    pub(crate) fn subvolume_mut(&mut self) -> Option<&mut SubvolumeReport> {
        match &mut self.state {
            State::Building(subvolume) | State::Skipping(subvolume) => Some(subvolume),
            State::Idle => None,
        }
    }

    /// Whether a subvolume is under construction.
    pub(crate) fn is_building(&self) -> bool {
        matches!(self.state, State::Building(_))
    }

    /// What became of the newest subvolume, so far.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        match &self.state {
            State::Building(subvolume) | State::Skipping(subvolume) => Some(subvolume.outcome),
            State::Idle => self.newest,
        }
    }

    /// Sets how many bytes of input were read and decoded, which
    /// [`item`](Self::item) does not know.
    pub(crate) fn set_consumed(&mut self, bytes: u64) {
        self.report.bytes = bytes;
    }

    /// Does not create the next subvolume: its commands are counted, and it
    /// goes into the report with this outcome, or is begun by
    /// [`begin_at`](Self::begin_at).
    pub(crate) fn skip_next(&mut self, outcome: Outcome) {
        self.skip_next = Some(outcome);
    }

    /// Waits until every command so far is carried out.
    pub(crate) fn settle(&mut self, observer: &mut dyn Observer) -> Result<(), ReceiveError> {
        self.flush_held(observer)?;
        while let Err(failure) = self.destination.settle() {
            self.fail(failure, observer)?;
        }
        Ok(())
    }

    /// Waits until every command so far is carried out, and returns what else
    /// is needed to go on from here. `None` where that is impossible: no
    /// subvolume is under construction, something in it failed, or the planner
    /// is in the middle of an inode.
    pub(crate) fn pause(
        &mut self,
        observer: &mut dyn Observer,
    ) -> Result<Option<Paused>, ReceiveError> {
        let is_good =
            |state: &State| matches!(state, State::Building(subvolume) if subvolume.failures == 0);
        if !is_good(&self.state) || !self.planner.is_between_inodes() {
            return Ok(None);
        }
        self.settle(observer)?;
        Ok(match &self.state {
            State::Building(subvolume) if is_good(&self.state) => Some(Paused {
                root: self.planner.deferred(),
                excluded: subvolume.excluded,
            }),
            _ => None,
        })
    }

    /// Starts in the middle of the subvolume that is skipped: the destination
    /// has it under construction again, as it was when `paused` was returned.
    pub(crate) fn begin_at(
        &mut self,
        paused: Paused,
        parent: Option<SourceUsed>,
        at: Position,
        observer: &mut dyn Observer,
    ) {
        if let State::Skipping(mut subvolume) = std::mem::replace(&mut self.state, State::Idle) {
            self.planner.go_on(paused.root, at);
            subvolume.outcome = Outcome::Abandoned;
            subvolume.excluded = paused.excluded;
            subvolume.parent = parent;
            self.wants_commands = observer.wants_commands();
            self.state = State::Building(subvolume);
        }
    }
}
