//! What a receive says: the lines of `btrfs receive`, by verbosity.
//!
//! Programs read these lines back: one line per subvolume, a full one on
//! standard error, an incremental one on standard output, the name raw and
//! up to the end of the line; `ERROR: ` at the beginning of a line means
//! failure. Names are therefore written as they are except for control
//! characters, which are escaped so that no name can make up a line.

mod commands;
mod extraction;
mod json;
mod line;
mod policies;
mod restore;
mod resume;
pub(crate) mod screen;
mod space;

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use btrfs_receive::{
    Cause, Event, Failure, Fallbacks, NewSubvolume, Observer, Outcome, SubvolumeReport, Waits,
};
use btrfs_sendstream::{CommandBuf, ErrorKind, SourceId, SubvolumeName};

use btrfs_lineage::subvolume_id;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;
use sendstream_common::foreign::Head;
use sendstream_common::unpack::UnpackError;

use crate::advice::{self, Advice};
use crate::progress::Counters;
use crate::signals::Signal;
use crate::tee::TeeError;
use commands::push_command;
pub(crate) use line::write_stdout;
use line::{Line, is_plain_word};
pub(crate) use policies::is_doubtful;
pub(crate) use sendstream_common::text::strerror;

/// Most complete subvolumes that are named after a failure.
const MAX_COMPLETE: usize = 20;

/// What becomes of subvolumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    /// Subvolumes.
    Subvolume,
    /// Plain directories.
    Directory {
        /// What they do not keep is listed one by one.
        listed: bool,
    },
}

/// Most pieces of advice that are remembered.
const MAX_GIVEN: usize = 64;

/// Writes messages. Nobody reading them is no failure.
pub(crate) struct Messages {
    verbosity: u8,
    /// Whether standard output is for JSON.
    json: Option<json::Lines>,
    /// How many more failed operations are printed.
    failures_left: u64,
    /// An incomplete subvolume; printed after the reason.
    left_behind: Option<SubvolumeName>,
    /// Its id, if that is known.
    left_id: Option<u64>,
    /// Of a resumable receive: where it can be resumed.
    checkpoint: Option<u64>,
    /// Whether that was deleted.
    is_deleted: bool,
    /// Whether the receive ended with no subvolume under construction.
    is_between_streams: bool,
    /// Where subvolumes are created, as the caller named it.
    destination: Vec<u8>,
    made: Made,
    /// What progress is made of.
    counters: Option<Arc<Counters>>,
    /// Size of the input in bytes, if it is known.
    input_size: Option<u64>,
    /// Advice that was given: once is enough.
    given: Vec<Advice>,
    /// The first [`MAX_COMPLETE`] subvolumes that were completed.
    complete: Vec<SubvolumeName>,
    /// How many more were.
    more_complete: u64,
    /// The last subvolume that is complete, from this receive or before, and
    /// what it was received from.
    last: Option<(SubvolumeName, SourceId)>,
    /// What a stream can be piped to, instead of what came.
    reader: &'static str,
    /// The line being put together: each is written at once, so that lines
    /// of several processes do not mix.
    line: Line,
}

impl Messages {
    /// Says what `verbosity` asks for: 0 failures and warnings, 1
    /// subvolumes, 2 data, 3 every command.
    pub(crate) fn new(verbosity: u8) -> Self {
        Self {
            verbosity,
            json: None,
            failures_left: u64::MAX,
            left_behind: None,
            left_id: None,
            checkpoint: None,
            is_deleted: false,
            is_between_streams: false,
            destination: Vec::new(),
            made: Made::Subvolume,
            counters: None,
            input_size: None,
            given: Vec::new(),
            complete: Vec::new(),
            more_complete: 0,
            last: None,
            reader: "btrfs-recv-rs PATH",
            line: Line::default(),
        }
    }

    /// Prints at most this many failed operations; 0: all. Thousands of
    /// operations may be queued when the limit is reached, and some callers
    /// do not read more than fits into a pipe.
    pub(crate) fn max_failures(mut self, max: u64) -> Self {
        self.failures_left = if max == 0 { u64::MAX } else { max };
        self
    }

    /// Says what subvolumes become, if not subvolumes.
    pub(crate) fn made(mut self, made: Made) -> Self {
        self.made = made;
        self
    }

    /// Names the command that hints show, if it is not a receive.
    pub(crate) fn reader(mut self, command: &'static str) -> Self {
        self.reader = command;
        self
    }

    /// Names the directory that subvolumes are created in.
    pub(crate) fn destination(mut self, directory: &[u8]) -> Self {
        self.destination = directory.to_vec();
        if !self.destination.ends_with(b"/") {
            self.destination.push(b'/');
        }
        self
    }

    /// What the subvolume and its files are counted in, from now on.
    pub(crate) fn counters(&mut self) -> Arc<Counters> {
        Arc::clone(self.counters.get_or_insert_default())
    }

    /// Sets the size of the input.
    pub(crate) fn input_size(&mut self, bytes: Option<u64>) {
        self.input_size = bytes;
    }

    /// Prints advice, unless it was printed before.
    pub(crate) fn advise(&mut self, advice: Option<Advice>) {
        let Some(advice) = advice.filter(|it| !self.given.contains(it)) else {
            return;
        };
        if let Some(likely) = &advice.likely {
            let line = self.line.text("ERROR:   likely: ");
            line.text_of(likely).write_stderr();
        }
        let line = self.line.text("ERROR:   to do: ");
        line.text_of(&advice.to_do).write_stderr();
        if self.given.len() < MAX_GIVEN {
            self.given.push(advice);
        }
    }

    /// After a failure: says which subvolumes are complete all the same.
    pub(crate) fn complete(&mut self) {
        if self.complete.is_empty() {
            return;
        }
        let line = self.line.text("complete: ");
        for (at, name) in self.complete.iter().enumerate() {
            line.text(if at > 0 { ", " } else { "" })
                .name(name.as_bytes());
        }
        if self.more_complete > 0 {
            line.format(format_args!(", and {} more", self.more_complete));
        }
        line.write_stderr();
    }

    /// The last subvolume that is complete, and what it was received from.
    pub(crate) fn last_complete(&self) -> Option<&(SubvolumeName, SourceId)> {
        self.last.as_ref()
    }

    /// Remembers a subvolume that is complete.
    fn is_complete(&mut self, subvolume: &SubvolumeReport) {
        let (uuid, ctransid) = (subvolume.uuid, subvolume.ctransid);
        self.last = Some((subvolume.name.clone(), SourceId { uuid, ctransid }));
    }

    /// Whether any subvolume was completed.
    fn completed_any(&self) -> bool {
        !self.complete.is_empty()
    }

    /// Clone sources and parents are confined to `destination`.
    pub(crate) fn chroot(&mut self, destination: &[u8]) {
        if self.verbosity >= 1 {
            self.line
                .text("Chroot to ")
                .name(destination)
                .write_stderr();
        }
    }

    /// A subvolume is about to be created.
    fn begins(&mut self, new: &NewSubvolume) {
        let name = new.name.as_bytes();
        if self.verbosity >= 1 {
            match new.parent {
                None => self.line.text("At subvol ").name(name).write_stderr(),
                Some(_) => {
                    let to_stderr = self.is_json();
                    let line = self.line.text("At snapshot ").name(name);
                    if to_stderr {
                        line.write_stderr();
                    } else {
                        line.write_stdout();
                    }
                }
            }
        }
        if self.verbosity < 2 {
            return;
        }
        let line = &mut self.line;
        match &new.parent {
            None => line
                .text("receiving subvol ")
                .name(name)
                .format(format_args!(
                    " uuid={}, stransid={}",
                    new.uuid, new.ctransid
                )),
            Some(parent) => line
                .text("receiving snapshot ")
                .name(name)
                .format(format_args!(
                    " uuid={}, ctransid={} parent_uuid={}, parent_ctransid={}",
                    new.uuid, new.ctransid, parent.uuid, parent.ctransid
                )),
        };
        line.write_stderr();
    }

    /// A command is about to be applied.
    fn command(&mut self, command: &CommandBuf) {
        if push_command(&mut self.line, command, self.verbosity) {
            self.line.write_stderr();
        }
    }

    /// A subvolume is complete, on disk, and marked as received.
    fn finished(&mut self, subvolume: &SubvolumeReport) {
        if self.complete.len() < MAX_COMPLETE {
            self.complete.push(subvolume.name.clone());
        } else {
            self.more_complete += 1;
        }
        if self.verbosity >= 2 && self.made == Made::Subvolume {
            let (uuid, stransid) = (subvolume.uuid, subvolume.ctransid);
            self.line
                .format(format_args!(
                    "BTRFS_IOC_SET_RECEIVED_SUBVOL uuid={uuid}, stransid={stransid}"
                ))
                .write_stderr();
        }
        let name = subvolume.name.as_bytes();
        self.fallbacks(name, &subvolume.fallbacks);
        self.excluded(name, &subvolume.excluded);
        self.vouched_sources(subvolume);
        self.doubtful_sources(name, subvolume.parent.as_ref(), &subvolume.clone_sources);
        self.losses(name, &subvolume.losses);
    }

    /// What was done another way, in one line.
    fn fallbacks(&mut self, name: &[u8], done: &Fallbacks) {
        let mut done = *done;
        self.retried_for_space(name, std::mem::take(&mut done.retried_for_space));
        self.zeros_as_holes(name, std::mem::take(&mut done.zeros_as_holes));
        if done.is_none() {
            return;
        }
        let line = self.line.text("WARNING: ").name(name);
        let mut separator = ": ";
        for (count, one, many, what) in [
            (
                done.encoded_writes_decoded,
                "compressed extent was",
                "compressed extents were",
                "decompressed",
            ),
            (
                done.clones_copied,
                "range was",
                "ranges were",
                "copied instead of cloned",
            ),
            (
                done.compression_refused,
                "file",
                "files",
                "without copy-on-write or checksums did not get btrfs.compression",
            ),
            (
                done.flags_refused,
                "file",
                "files",
                "did not get inode flags",
            ),
        ] {
            if count > 0 {
                let things = if count == 1 { one } else { many };
                line.format(format_args!("{separator}{count} {things} {what}"));
                separator = "; ";
            }
        }
        line.text(", because the filesystem refused");
        let is_privileged = advice::has(CapabilitySet::SYS_ADMIN);
        if done.encoded_writes_decoded > 0 && !is_privileged {
            line.text(" (storing compressed data needs CAP_SYS_ADMIN)");
        }
        line.text("; the content is complete").write_stderr();
    }

    /// Where the time of a receive went.
    pub(crate) fn waits(&mut self, waits: &Waits) {
        if self.verbosity < 2 {
            return;
        }
        // A receive of nothing took no time.
        let total = waits.total.as_secs_f64().max(f64::MIN_POSITIVE);
        let percent = |part: Duration| (part.as_secs_f64() / total * 100.0).round();
        self.line
            .format(format_args!(
                "receive took {:.1} s: {}% waiting for input, {}% for data, {}% for metadata, \
                 {}% for the disk at the end; {}% work",
                waits.total.as_secs_f64(),
                percent(waits.input),
                percent(waits.data),
                percent(waits.metadata),
                percent(waits.sync),
                percent(waits.work()),
            ))
            .write_stderr();
    }

    /// Prints which subvolume is incomplete, if one is and was not printed.
    /// Called after the reason was printed.
    pub(crate) fn left_behind(&mut self) {
        if let Some(name) = self.left_behind.take() {
            let path = self.path_of(name.as_bytes());
            if let Some(checkpoint) = self.checkpoint.take() {
                return self.left_to_resume(&path, checkpoint);
            }
            if std::mem::take(&mut self.is_deleted) {
                let line = self.line.text("deleted: ").name(&path);
                line.text(" (incomplete)").write_stderr();
                return;
            }
            if let Some(id) = self.left_id.filter(|&id| !is_subvolume(&path, id)) {
                // What has the name now must not be deleted.
                self.line
                    .format(format_args!(
                        "ERROR: the incomplete subvolume (id {id}) is not "
                    ))
                    .name(&path)
                    .text(
                        " any more: another process renamed, moved or deleted it; if it exists, \
                         delete it (btrfs subvolume list shows where it is)",
                    )
                    .write_stderr();
                return;
            }
            let line = self.line.text("ERROR: ").name(&path);
            line.text(match self.made {
                Made::Subvolume => {
                    " is incomplete, writable and without received UUID; delete it (btrfs \
                     subvolume delete"
                }
                Made::Directory { .. } => " is incomplete; remove it (rm -r",
            });
            if is_plain_word(&path) {
                line.text(" ").name(&path);
            }
            line.text(") before receiving again").write_stderr();
        }
    }

    /// Where a subvolume of this name lies, as the caller named it.
    fn path_of(&self, name: &[u8]) -> Vec<u8> {
        [&self.destination[..], name].concat()
    }

    /// An operation failed.
    fn failure(&mut self, failure: &Failure) {
        if self.failures_left == 0 {
            return;
        }
        self.failures_left -= 1;
        let directory = Path::new(OsStr::from_bytes(&self.destination));
        let to_come = (self.input_size).map(|size| size.saturating_sub(failure.at.offset));
        let advice = advice::on_failure(failure, directory, to_come);
        self.emit_failure(failure, advice.as_ref());
        self.failed(failure);
        self.advise(advice);
    }

    /// The lines about an operation that failed.
    fn failed(&mut self, failure: &Failure) {
        let line = self.line.text("ERROR: ");
        match failure.operation {
            "subvol" => line.text("creating subvolume "),
            "snapshot" => line.text("creating snapshot "),
            "write" => line.text("writing to "),
            "clone" => line.text("failed to clone extents to "),
            "set_xattr" => line.text("lsetxattr "),
            "remove_xattr" => line.text("lremovexattr "),
            // Mostly of the subvolume or the stream as a whole.
            whole @ ("resume" | "checkpoint" | "header" | "end") if failure.path.is_empty() => {
                line.text(whole)
            }
            other => line.text(other).text(" "),
        };
        line.name(&failure.path);
        let said_failed = failure.operation == "clone";
        line.text(if said_failed { ": " } else { " failed: " });
        let at = failure.at;
        match &*failure.cause {
            Cause::System { call, error } => {
                let reason = strerror(error);
                line.format(format_args!("{reason} ({call}; {at})"));
                line.write_stderr();
            }
            // Some say on further lines what was tried.
            other => {
                let text = match other {
                    Cause::NoSource(error) => match failure.operation {
                        "snapshot" => error.with_role("parent").to_string(),
                        _ => error.with_role("clone source").to_string(),
                    },
                    other => other.to_string(),
                };
                let mut lines = text.lines();
                line.text_of(lines.next().unwrap_or_default());
                line.format(format_args!(" ({at})")).write_stderr();
                for more in lines {
                    self.line.text("ERROR: ").text_of(more).write_stderr();
                }
            }
        }
    }

    /// The receive was stopped where a stream may end.
    pub(crate) fn between_streams(&mut self) {
        self.is_between_streams = true;
    }

    /// A signal came.
    pub(crate) fn stopped_by(&mut self, signal: Signal) {
        match self.is_between_streams {
            false => self.error(format_args!("stopped by {signal}")),
            true if self.complete.is_empty() => self.error(format_args!(
                "stopped by {signal} before anything was received"
            )),
            true => self.error(format_args!(
                "stopped by {signal} while waiting for another stream or the end of the input; \
                 the subvolumes received so far are complete"
            )),
        }
    }

    /// Prints an error that is not one of an operation, and what to do.
    pub(crate) fn refused(&mut self, what: &str, to_do: Option<&str>) {
        self.emit_error(what, to_do);
        self.error_line(what);
        if let Some(to_do) = to_do {
            let line = self.line.text("ERROR:   to do: ");
            line.text_of(to_do).write_stderr();
        }
    }

    /// Prints a warning.
    pub(crate) fn warning(&mut self, what: impl fmt::Display) {
        let what = what.to_string();
        self.emit_warning(&what);
        self.line.text("WARNING: ").text_of(what).write_stderr();
    }

    /// Prints an error that is not one of an operation.
    pub(crate) fn error(&mut self, what: impl fmt::Display) {
        self.refused(&what.to_string(), None);
    }

    /// The same, but not in JSON.
    pub(crate) fn error_line(&mut self, what: impl fmt::Display) {
        self.line.text("ERROR: ").text_of(what).write_stderr();
    }

    /// The stream is damaged or cannot be read.
    /// There is no buffer before the input.
    pub(crate) fn cannot_buffer(&mut self, error: &std::io::Error) {
        let reason = strerror(error);
        self.error(format_args!("cannot buffer the input: {reason}"));
    }

    pub(crate) fn stream_error(&mut self, error: &btrfs_sendstream::Error, head: &Head) {
        let advice = advice::on_stream_error(error, head, self.reader);
        self.emit_stream_error(error, advice.as_ref());
        match error.kind() {
            ErrorKind::Empty => self.error_line(
                "empty stream is not considered valid: the input is empty; did btrfs send fail?",
            ),
            ErrorKind::Io(cause) if TeeError::is(cause) => self.error_line(cause),
            ErrorKind::Io(cause) if UnpackError::of(cause).is_some() => {
                let at = error.position().unwrap_or_default();
                self.error_line(format_args!(
                    "cannot unpack the input: {cause}, unpacked up to {at}"
                ));
            }
            ErrorKind::Io(cause) => {
                self.error_line(format_args!("cannot read the stream: {}", strerror(cause)));
            }
            _ => self.error_line(error),
        }
        self.advise(advice);
    }
}

impl Observer for Messages {
    fn event(&mut self, event: Event<'_>) {
        self.emit_event(&event);
        match event {
            Event::SubvolumeBegins { new, .. } => {
                self.left_behind();
                self.begins(new);
                if let Some(counters) = &self.counters {
                    counters.begins(new.name.as_bytes());
                }
            }
            Event::Progress { totals, .. } => {
                if let Some(counters) = &self.counters {
                    counters.files(totals.files);
                }
            }
            Event::Command { command, .. } => self.command(command),
            Event::Failed(failure) => self.failure(failure),
            Event::SubvolumeFinished(subvolume) => {
                self.is_complete(subvolume);
                self.finished(subvolume);
            }
            Event::SubvolumeCreated {
                new,
                parent: Some(parent),
            } => {
                let name = new.name.as_bytes();
                if parent.unverified {
                    self.vouched_parent(name, parent);
                }
                self.doubtful_parent(name, parent);
            }
            Event::Comparing { new, offset } => self.comparing(new.name.as_bytes(), offset),
            Event::StartsAgain(error) => self.starts_again(error),
            Event::Resumed { new, offset } => self.resumed(new.name.as_bytes(), offset),
            Event::Checkpoint { offset, .. } => self.checkpoint(offset),
            Event::SubvolumePresent(subvolume) => {
                self.is_complete(subvolume);
                self.present(subvolume);
            }
            Event::NotDeleted { subvolume, cause } => self.not_deleted(subvolume, cause),
            Event::SubvolumeAbandoned(subvolume) => {
                let outcome = subvolume.outcome;
                if matches!(outcome, Outcome::Abandoned | Outcome::Deleted) {
                    self.left_behind = Some(subvolume.built_as.clone());
                    self.left_id = subvolume.subvolume_id;
                    self.checkpoint = subvolume.checkpoint;
                    self.is_deleted = outcome == Outcome::Deleted;
                }
            }
            _ => {}
        }
    }

    fn wants_commands(&self) -> bool {
        self.verbosity >= 2
    }
}

/// Whether `path` is the subvolume with this id, as far as can be found out.
fn is_subvolume(path: &[u8], id: u64) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(CWD, path, flags, Mode::empty()) {
        Ok(found) => subvolume_id(found).map_or(true, |found| found == id),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => false,
        Err(_) => true,
    }
}
