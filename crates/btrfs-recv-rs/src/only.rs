//! `--extract --only`: some paths of a subvolume, from its stored streams.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use btrfs_receive::{Cancel, DirectoryDestination, ReceiveError, Receiver, StopReason};
use btrfs_sendstream::inspect::first_subvolume;
use btrfs_sendstream::{Command, CommandRef, Item, Position, Reader};
use sendstream_common::files::{
    Fetch, FetchError, History, Inapplicable, Needs, NotFound, ReadError, SelectError, Selection,
};
use sendstream_common::foreign::is_foreign;
use sendstream_common::leading::{Leading, Stream, leading_to};
use sendstream_common::report::name_of;

use crate::args::{Only, Receive};
use crate::chain;
use crate::directory;
use crate::input::Input;
use crate::messages::{Messages, strerror};
use crate::privilege;
use crate::receive::how;
use crate::sandbox::{self, Filesystem, Reach};
use crate::signals::Signals;

/// Limit on the memory for names, and on that for extents, in bytes.
const MAX_MEMORY: u64 = 4 << 30;

/// Why nothing is extracted, and what to do.
#[derive(Debug)]
struct Refused(String, Option<&'static str>);

impl From<String> for Refused {
    fn from(text: String) -> Self {
        Self(text, None)
    }
}

/// What all steps need.
struct Steps<'s> {
    options: &'s Receive,
    cancel: Cancel,
    signals: &'s Signals,
}

/// Extracts what `only` selects; returns whether all of it was.
pub(crate) fn run(
    only: &Only,
    options: &Receive,
    report: Option<&Path>,
    cancel: Cancel,
    signals: &Signals,
    messages: &mut Messages,
) -> bool {
    let how = how(options, cancel.clone());
    let steps = Steps {
        options,
        cancel,
        signals,
    };
    match steps.prepare(only, report, messages) {
        Ok(Some((files, selection, needs, destination))) => {
            let receiver = Receiver::with_options(destination, how);
            steps.extract(&files, &selection, &needs, receiver, messages)
        }
        Ok(None) => false,
        Err(Refused(text, to_do)) => {
            // Whoever stopped it is told so.
            if signals.caught().is_none() {
                messages.refused(&text, to_do);
            }
            false
        }
    }
}

type Prepared = (Vec<Leading>, Selection, Needs, DirectoryDestination);

impl Steps<'_> {
    /// Reads the streams, and opens the destination. `None` if there are no streams, which
    /// was said.
    fn prepare(
        &self,
        only: &Only,
        report: Option<&Path>,
        messages: &mut Messages,
    ) -> Result<Option<Prepared>, Refused> {
        let Some((files, good)) = chain::files(&only.sources, self.options, messages) else {
            return Ok(None);
        };
        for file in &files {
            if file.metadata().is_ok_and(|it| !it.is_file()) {
                let name = name_of(Some(file));
                let text = format!("{name} is not a regular file; --only reads each stream twice");
                return Err(text.into());
            }
        }
        // What the sandbox would not allow.
        let temporary = temporary()?;
        let builder = directory::builder(report)?.partial(true);
        if self.options.sandbox {
            let reach = Reach {
                destination: &self.options.destination,
                state: None,
                tee: None,
                sources: files.iter().map(PathBuf::as_path).collect(),
                filesystem: Filesystem::Useless,
            };
            sandbox::enter(&reach, messages)?;
        }
        let destination = directory::open(builder, &self.options.destination)?;
        let files = self.choose(files, good, only)?;
        let mut history = History::new(temporary, MAX_MEMORY);
        for leading in &files {
            self.read(&leading.file, &mut history)?;
            leading.check(history.subvolume()).map_err(|several| {
                let to_do = "split it with sendstream split";
                Refused(several.to_string(), Some(to_do))
            })?;
        }
        let selection = Selection::new(&history, &only.paths).map_err(|error| {
            let to_do = match &error {
                SelectError::NotFound(NotFound::Missing {
                    earlier: Some(_), ..
                }) => Some("choose the subvolume with --subvolume"),
                SelectError::NotFound(_) => Some("sendstream list prints the paths"),
                SelectError::Memory(_) | SelectError::NoSubvolume | SelectError::Path(_) => None,
            };
            Refused(error.to_string(), to_do)
        })?;
        let needs = selection.locate(history);
        let needs = needs.map_err(|error| Refused(error.to_string(), None))?;
        Ok(Some((files, selection, needs, destination)))
    }

    /// The files that lead to the subvolume, in order.
    fn choose(
        &self,
        files: Vec<PathBuf>,
        good: bool,
        only: &Only,
    ) -> Result<Vec<Leading>, Refused> {
        let others = Some("name only the streams of the subvolume, each with --chain");
        let wanted = only.subvolume.as_deref();
        if !good {
            return Err(Refused("nothing was extracted".to_owned(), others));
        }
        if let ([file], None) = (&files[..], wanted) {
            return Ok(vec![Leading::alone(file.clone())]);
        }
        let mut streams = Vec::new();
        for file in files {
            let mut input = self.open(&file)?;
            match first_subvolume(&mut input) {
                Ok(Some(new)) => streams.push(Stream { file, new }),
                Ok(None) => {}
                Err(error) => {
                    let Refused(text, _) = not_readable(&file, &error, input.get());
                    return Err(Refused(text, others));
                }
            }
        }
        Ok(leading_to(&streams, wanted)?)
    }

    fn open(&self, file: &Path) -> Result<Stoppable<'_>, Refused> {
        let input = Input::open(Some(file), self.options.decompress, Some(self.signals))?;
        let cancel = &self.cancel;
        Ok(Stoppable { input, cancel })
    }

    fn reader<R: Read>(&self, input: R) -> Reader<R> {
        Reader::builder()
            .allow_unknown(self.options.allow_unknown)
            .build(input)
    }

    /// Reads a stream for the first time.
    fn read(&self, file: &Path, history: &mut History<File>) -> Result<(), Refused> {
        let mut input = self.open(file)?;
        let read = history.read(&mut self.reader(&mut input));
        read.map_err(|error| {
            let to_do = match &error {
                ReadError::Stream(error) => return not_readable(file, error, input.get()),
                ReadError::Temporary(_) => Some(TMPDIR),
                ReadError::Command { error, .. } => match **error {
                    Inapplicable::Tree(_) => {
                        Some("name the streams back to the full one, and no others")
                    }
                    Inapplicable::Temporary(_) => Some(TMPDIR),
                    _ => None,
                },
            };
            Refused(format!("{}: {error}", name_of(Some(file))), to_do)
        })
    }

    /// Reads the streams again, and applies what is selected.
    fn extract(
        &self,
        files: &[Leading],
        selection: &Selection,
        needs: &Needs,
        receiver: Receiver<DirectoryDestination>,
        messages: &mut Messages,
    ) -> bool {
        let mut applied = Applied {
            selection,
            receiver,
            messages,
            at: Position {
                stream: 1,
                ..Position::default()
            },
        };
        let extracted = self.apply(files, needs, &mut applied);
        let Applied {
            mut receiver,
            messages,
            ..
        } = applied;
        let ended = match extracted {
            Ok(()) => receiver.end(messages),
            Err(Stopped::Receive(error)) => Err(*error),
            Err(Stopped::Refused(Refused(text, to_do))) => {
                let cancelled = self.signals.caught().is_some();
                if !cancelled {
                    messages.refused(&text, to_do);
                }
                let reason = if cancelled {
                    StopReason::Cancelled
                } else {
                    StopReason::Failures
                };
                Err(receiver.abort(reason, messages))
            }
        };
        match ended {
            Ok(report) => {
                messages.waits(&report.waits);
                messages.emit_report(true, &report);
                true
            }
            // Failed operations were reported when they failed.
            Err(error) => {
                messages.waits(&error.report.waits);
                messages.emit_report(false, &error.report);
                false
            }
        }
    }

    fn apply(
        &self,
        files: &[Leading],
        needs: &Needs,
        applied: &mut Applied<'_>,
    ) -> Result<(), Stopped> {
        for command in applied.selection.creation() {
            applied.take(command)?;
        }
        for (number, Leading { file, .. }) in files.iter().enumerate() {
            if !needs.are_in(number) {
                continue;
            }
            let mut input = self.open(file).map_err(Stopped::Refused)?;
            let fetched = needs.fetch(number, &mut self.reader(&mut input), applied);
            fetched.map_err(|error| match error {
                FetchError::Sink(stopped) => stopped,
                FetchError::Stream(error) => {
                    Stopped::Refused(not_readable(file, &error, input.get()))
                }
                error @ (FetchError::Data { .. }
                | FetchError::Part { .. }
                | FetchError::Changed) => {
                    let text = format!("{}: {error}", name_of(Some(file)));
                    Stopped::Refused(text.into())
                }
            })?;
        }
        applied.take(Command::End)?;
        Ok(())
    }
}

/// Why an extraction ended early.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    #[error(transparent)]
    Receive(Box<ReceiveError>),
    #[error("{}", .0.0)]
    Refused(Refused),
}

/// Applies what is selected.
struct Applied<'m> {
    selection: &'m Selection,
    receiver: Receiver<DirectoryDestination>,
    messages: &'m mut Messages,
    /// Commands and bytes of data so far.
    at: Position,
}

impl Applied<'_> {
    fn take(&mut self, command: Command) -> Result<(), Stopped> {
        self.at.command += 1;
        let item = Item::Command(command);
        match self.receiver.item(item, self.at, self.messages) {
            Ok(_) => Ok(()),
            Err(error) => Err(Stopped::Receive(Box::new(error))),
        }
    }
}

impl Fetch for Applied<'_> {
    type Error = Stopped;

    fn data(&mut self, output: u32, offset: u64, data: &[u8]) -> Result<(), Stopped> {
        let selection = self.selection;
        for command in selection.data(output, offset, data) {
            self.take(command)?;
        }
        self.at.offset += data.len() as u64;
        Ok(())
    }

    fn metadata(&mut self, output: u32, command: &CommandRef<'_>) -> Result<(), Stopped> {
        match self.selection.metadata(output, command) {
            Some(command) => self.take(command),
            None => Ok(()),
        }
    }
}

/// An input that cannot be read any more after a signal.
struct Stoppable<'s> {
    input: Input<'s>,
    cancel: &'s Cancel,
}

impl<'s> Stoppable<'s> {
    fn get(&self) -> &Input<'s> {
        &self.input
    }
}

impl Read for Stoppable<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("stopped by a signal"));
        }
        self.input.read(buffer)
    }
}

fn not_readable(file: &Path, error: &btrfs_sendstream::Error, input: &Input<'_>) -> Refused {
    let mut text = format!("{}: {error}", name_of(Some(file)));
    if is_foreign(error) {
        let foreign = input.head().foreign("> STREAM");
        text += &format!(" ({}; {})", foreign.likely, foreign.to_do);
    }
    text.into()
}

/// A temporary file without a name.
fn temporary() -> Result<File, Refused> {
    let directory = if privilege::is_raised() {
        PathBuf::from("/tmp")
    } else {
        std::env::temp_dir()
    };
    tempfile::tempfile_in(&directory).map_err(|error| {
        let directory = directory.display();
        let text = format!("temporary file in {directory}: {}", strerror(&error));
        Refused(text, Some(TMPDIR))
    })
}

/// What to do if a temporary file cannot be written.
const TMPDIR: &str = "name another directory for temporary files with TMPDIR";
