//! Verifies items that the caller decodes.

use bytes::Bytes;

use super::{Finding, Problem, VerifyOptions, VerifyReport};
use crate::decompress::Decompressor;
use crate::inspect::SubvolumeSummary;
use crate::inspect::names::{NameError, NameTree};
use crate::{Command, CommandKind, Item, NewSubvolume, Position, Version};

/// Verifies a stream whose items the caller decodes.
///
/// A [`Verifier`](super::Verifier) reads from a [`Read`](std::io::Read). A checker
/// does no I/O, so that an asynchronous program, or one that copies the stream while
/// verifying it, reads and writes by itself and can tell which of the two failed.
///
/// Memory: as for a [`Verifier`](super::Verifier), without the reader.
///
/// Copies a stream and verifies it. A full disk is an error of the writer, not a
/// problem of the stream:
///
/// ```
/// use btrfs_sendstream::inspect::{Checker, VerifyOptions, VerifyReport};
/// use btrfs_sendstream::Reader;
/// use std::io::{self, Read, Write};
///
/// fn copy(from: impl Read, to: &mut impl Write) -> io::Result<VerifyReport> {
///     let mut reader = Reader::new(from);
///     let mut checker = Checker::new(VerifyOptions::default());
///     loop {
///         match reader.next_raw() {
///             Ok(Some((item, bytes))) => {
///                 to.write_all(&bytes)?;
///                 checker.item(&item, reader.position(), bytes.len() as u64);
///             }
///             Ok(None) => break,
///             Err(error) => {
///                 checker.stream_error(error);
///                 break;
///             }
///         }
///     }
///     Ok(checker.finish())
/// }
///
/// let mut copied = Vec::new();
/// let report = copy(&b"btrfs-stream\0\x01\0\0\0"[..], &mut copied)?;
/// assert_eq!(copied.len(), 17);
/// assert!(!report.is_good(), "END is missing");
/// # Ok::<(), io::Error>(())
/// ```
///
/// With a [`Decoder`](crate::Decoder), which does no I/O:
///
/// ```
/// use btrfs_sendstream::inspect::{Checker, VerifyOptions};
/// use btrfs_sendstream::{Decoded, Decoder};
///
/// # let arriving = [&b"btrfs-str"[..], b"eam\0\x01\0\0\0"];
/// let mut decoder = Decoder::new();
/// let mut checker = Checker::new(VerifyOptions::default());
/// let mut buffer = Vec::new();
/// for bytes in arriving {
///     buffer.extend_from_slice(bytes);
///     while let Decoded::Item { item, consumed } = decoder.decode(&buffer)? {
///         checker.item(&item, decoder.position(), consumed as u64);
///         buffer.drain(..consumed);
///     }
/// }
/// if let Err(error) = decoder.end_of_input(&buffer) {
///     checker.stream_error(error);
/// }
/// assert!(!checker.finish().is_good(), "END is missing");
/// # Ok::<(), btrfs_sendstream::Error>(())
/// ```
#[derive(Debug)]
pub struct Checker {
    options: VerifyOptions,
    decompressor: Decompressor,
    version: Version,
    /// The names of the subvolume, while they can be followed.
    names: Option<NameTree>,
    current: Option<Box<SubvolumeSummary>>,
    /// Findings before the current subvolume began.
    findings_before: u64,
    report: VerifyReport,
}

impl Default for Checker {
    fn default() -> Self {
        Self::new(VerifyOptions::default())
    }
}

impl Checker {
    /// Creates a checker for one input. The caller's decoder applies the limits of
    /// the options.
    pub fn new(options: VerifyOptions) -> Self {
        Self {
            options,
            decompressor: Decompressor::new(),
            version: Version::V1,
            names: None,
            current: None,
            findings_before: 0,
            report: VerifyReport::default(),
        }
    }

    /// Checks the next item of the input, which begins at `at` and takes `bytes`
    /// bytes.
    pub fn item<B: AsRef<[u8]>>(&mut self, item: &Item<B>, at: Position, bytes: u64) {
        self.report.bytes += bytes;
        let command = match item {
            Item::Header(version) => {
                self.report.streams += 1;
                self.version = *version;
                return;
            }
            Item::Command(command) => command,
            Item::Unknown(_) => {
                self.report.commands += 1;
                return;
            }
        };
        self.report.commands += 1;
        if let Some(new) = NewSubvolume::copied(command) {
            self.end_subvolume(true);
            self.begin(&new, at);
        }
        if let Some(current) = &mut self.current {
            current.add(command, bytes);
        }
        match command {
            Command::Subvol { .. } | Command::Snapshot { .. } => {}
            Command::End => self.end_subvolume(true),
            command => self.command(command, at),
        }
    }

    /// Records that the rest of the input cannot be read or decoded. Call
    /// [`finish`](Self::finish) next.
    pub fn stream_error(&mut self, error: crate::Error) {
        let at = error.position().unwrap_or_default();
        self.find::<Bytes>(at, None, Problem::Stream(error));
    }

    /// Records that the caller stops before the end of the input, after the item at
    /// `at`. Call [`finish`](Self::finish) next.
    pub fn cancelled(&mut self, at: Position) {
        self.find::<Bytes>(at, None, Problem::Cancelled);
    }

    /// Ends the input, and returns the report. A subvolume without END is not good.
    pub fn finish(mut self) -> VerifyReport {
        self.end_subvolume(false);
        self.report
    }

    fn begin(&mut self, new: &NewSubvolume, at: Position) {
        self.findings_before = self.found();
        if self.options.names {
            let complete = new.parent.is_none();
            self.names = Some(NameTree::new(complete, self.options.max_name_memory));
        }
        let summary = SubvolumeSummary::new(new, self.version, at);
        self.current = Some(Box::new(summary));
    }

    fn end_subvolume(&mut self, whole: bool) {
        self.names = None;
        let good = whole && self.found() == self.findings_before;
        let Some(mut current) = self.current.take() else {
            return;
        };
        current.good = good;
        if self.report.subvolumes.len() < VerifyReport::MAX_SUBVOLUMES {
            self.report.subvolumes.push(*current);
        } else {
            self.report.more_subvolumes += 1;
        }
    }

    /// A command that changes the subvolume.
    fn command<B: AsRef<[u8]>>(&mut self, command: &Command<B>, at: Position) {
        if matches!(command, Command::UpdateExtent { .. }) {
            self.no_data(at, command);
        }
        if let Command::EncodedWrite(write) = command
            && self.options.decode
            && let Err(error) = self.decompressor.decode_write(write)
        {
            self.find(at, Some(command), error.into());
        }
        if let Err(error) = command.check_values() {
            self.find(at, Some(command), error.into());
        } else if let Err(error) = self.follow(command) {
            if matches!(error, NameError::TooMany { .. }) {
                self.names = None;
            }
            self.find(at, Some(command), error.into());
        }
    }

    fn follow<B: AsRef<[u8]>>(&mut self, command: &Command<B>) -> Result<(), NameError> {
        let Some(names) = &mut self.names else {
            return Ok(());
        };
        if let Command::Clone(clone) = command
            && let Some(current) = &self.current
            && (clone.source_uuid, clone.source_ctransid) == (current.uuid, current.ctransid)
        {
            names.must_be_file(&clone.source_path.borrow())?;
        }
        names.apply(command)
    }

    /// Says so once for each subvolume.
    fn no_data<B: AsRef<[u8]>>(&mut self, at: Position, command: &Command<B>) {
        let current = self.current.as_ref();
        let first = current.is_some_and(|it| it.count(CommandKind::UpdateExtent) == 1);
        if first && !self.options.allow_no_data {
            self.find(at, Some(command), Problem::NoFileData);
        }
    }

    fn find<B: AsRef<[u8]>>(
        &mut self,
        at: Position,
        command: Option<&Command<B>>,
        problem: Problem,
    ) {
        if self.report.findings.len() >= VerifyReport::MAX_FINDINGS {
            self.report.more_findings += 1;
            return;
        }
        let subvolume = self.current.as_ref().map(|current| &current.name);
        let finding = Finding::new(at, subvolume, command, problem);
        self.report.findings.push(finding);
    }

    fn found(&self) -> u64 {
        self.report.findings.len() as u64 + self.report.more_findings
    }
}
