//! One item after the other, with a look at each.

use btrfs_sendstream::decompress::Decompressor;
use btrfs_sendstream::{Bytes, Command, CommandBuf, CommandKind, Item, Position, Version};

use super::{Finding, Problem, SubvolumeSummary, VerifyOptions, VerifyReport};
use crate::names::{Changes, NameError, NameTree};
use crate::plan;
use crate::plan::op::{NewSubvolume, Op};

/// Looks at the items of an input.
pub(crate) struct Checker {
    options: VerifyOptions,
    decompressor: Decompressor,
    /// The names of the subvolume, while they can be followed.
    names: Option<NameTree>,
    current: Option<Box<SubvolumeSummary>>,
    /// Findings before the current subvolume began.
    findings_before: u64,
    report: VerifyReport,
}

impl Checker {
    pub(crate) fn new(options: VerifyOptions) -> Self {
        Self {
            options,
            decompressor: Decompressor::new(),
            names: None,
            current: None,
            findings_before: 0,
            report: VerifyReport::default(),
        }
    }

    /// Looks at an item of `bytes` bytes.
    pub(crate) fn item(&mut self, item: Item, at: Position, bytes: u64, version: Option<Version>) {
        self.report.bytes += bytes;
        let command = match item {
            Item::Header(_) => {
                self.report.streams += 1;
                return;
            }
            Item::Command(command) => command,
            _ => {
                self.report.commands += 1;
                return;
            }
        };
        self.report.commands += 1;
        if let Some(new) = NewSubvolume::from_command(&command) {
            self.end_subvolume(true);
            self.begin(&new, version.unwrap_or(Version::V1), at);
            self.count(&command, bytes);
            return;
        }
        self.count(&command, bytes);
        match command {
            Command::End => self.end_subvolume(true),
            command => self.command(command, at),
        }
    }

    fn begin(&mut self, new: &NewSubvolume, version: Version, at: Position) {
        self.findings_before = self.found();
        if self.options.names {
            let complete = new.parent.is_none();
            self.names = Some(NameTree::new(complete, self.options.max_name_memory));
        }
        self.current = Some(Box::new(SubvolumeSummary::new(new, version, at)));
    }

    fn count(&mut self, command: &CommandBuf, bytes: u64) {
        if let Some(current) = &mut self.current {
            current.add(command, bytes);
        }
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
    fn command(&mut self, command: CommandBuf, at: Position) {
        if let Command::UpdateExtent { path, .. } = &command {
            self.no_data(at, &command);
            let result = match &mut self.names {
                Some(names) => names.change_file(path, Changes::CONTENT),
                None => Ok(()),
            };
            return self.name_result(result, &command, at);
        }
        if let Command::EncodedWrite(write) = &command
            && self.options.decode
            && let Err(error) = self.decompressor.decode_write(write)
        {
            self.find(at, Some(&command), error.into());
        }
        // Shares names and data with it.
        match plan::convert(command.clone()) {
            Ok(Some(op)) => {
                let result = self.follow(&op);
                self.name_result(result, &command, at);
            }
            Ok(None) => {}
            Err(cause) => self.find(at, Some(&command), cause.into()),
        }
    }

    fn follow(&mut self, op: &Op) -> Result<(), NameError> {
        let Some(names) = &mut self.names else {
            return Ok(());
        };
        if let Op::Clone(clone) = op
            && let Some(current) = &self.current
            && clone.source_uuid == current.uuid
        {
            names.must_be_file(&clone.source_path)?;
        }
        names.apply(op)
    }

    fn name_result(&mut self, result: Result<(), NameError>, command: &CommandBuf, at: Position) {
        if let Err(error) = result {
            if matches!(error, NameError::TooMany { .. }) {
                self.names = None;
            }
            self.find(at, Some(command), error.into());
        }
    }

    /// Says so once for each subvolume.
    fn no_data(&mut self, at: Position, command: &CommandBuf) {
        let current = self.current.as_ref();
        let first = current.is_some_and(|it| it.count(CommandKind::UpdateExtent) == 1);
        if first && !self.options.allow_no_data {
            self.find(at, Some(command), Problem::NoFileData);
        }
    }

    pub(crate) fn find(&mut self, at: Position, command: Option<&CommandBuf>, problem: Problem) {
        if self.report.findings.len() >= VerifyReport::MAX_FINDINGS {
            self.report.more_findings += 1;
            return;
        }
        let path = command.and_then(Command::path);
        self.report.findings.push(Finding {
            at,
            subvolume: self.current.as_ref().map(|current| current.name.clone()),
            command: command.map(|command| command.kind().name()),
            path: path.map(|path| Bytes::copy_from_slice(path.as_bytes())),
            problem,
        });
    }

    /// The input cannot be read on.
    pub(crate) fn stream_error(&mut self, error: btrfs_sendstream::Error) {
        let at = error.position().unwrap_or_default();
        self.find(at, None, Problem::Stream(error));
    }

    pub(crate) fn cancelled(&mut self, at: Position) {
        self.find(at, None, Problem::Cancelled);
    }

    fn found(&self) -> u64 {
        self.report.findings.len() as u64 + self.report.more_findings
    }

    /// The end of the input, or of what could be read of it.
    pub(crate) fn finish(mut self) -> VerifyReport {
        self.end_subvolume(false);
        self.report
    }
}
