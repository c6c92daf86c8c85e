//! `--status` and `--abandon`: the unfinished receives of a directory.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use btrfs_receive::resume::{self, Progress, ResumeError};
use btrfs_sendstream::inspect::LocalTime;
use rustix::fs::statfs;
use sendstream_common::text::{bytes, push_message, quoted};
use sendstream_common::zone::{SystemZone, local_time};

use crate::advice;
use crate::args::Unfinished;
use crate::messages::{Messages, strerror, write_stdout};
use crate::privilege;

/// What `statfs` says of a btrfs (`linux/magic.h`).
const BTRFS_SUPER_MAGIC: u32 = 0x9123_683E;

/// Lists unfinished receives; returns whether that was possible.
pub(crate) fn status(options: &Unfinished, messages: &mut Messages) -> bool {
    if let Err(text) = check_btrfs(&options.destination) {
        messages.error(text);
        return false;
    }
    let mut report = Report::new(options);
    match report.collect(options) {
        Ok(()) => {
            if report.text.is_empty() {
                report.nothing();
            }
            match write_stdout(&report.text) {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    messages.error(format_args!("cannot write: {}", strerror(&error)));
                    false
                }
                _ => true,
            }
        }
        Err(error) => {
            refused(&error, messages);
            false
        }
    }
}

/// Only a btrfs has anything unfinished, so elsewhere the wrong directory was
/// named.
fn check_btrfs(directory: &Path) -> Result<(), String> {
    match statfs(directory) {
        // Its type differs between architectures; the number has 32 bits.
        Ok(facts) if facts.f_type as u32 == BTRFS_SUPER_MAGIC => Ok(()),
        Ok(_) => Err(format!(
            "{} doesn't belong to btrfs mount point",
            directory.display()
        )),
        Err(error) => Err(format!(
            "cannot open {}: {}",
            directory.display(),
            strerror(&error.into())
        )),
    }
}

/// Prints why receives cannot be made resumable, or their state cannot be
/// read, and what to do.
pub(crate) fn refused(error: &ResumeError, messages: &mut Messages) {
    let advice = advice::on_resume(error);
    messages.refused(&error.to_string(), advice.as_ref().map(|it| &*it.to_do));
}

/// Removes what is named, or every receive that was made resumable; returns
/// whether all of it is gone.
pub(crate) fn abandon(options: &Unfinished, messages: &mut Messages) -> bool {
    let names = if options.names.is_empty() {
        match resume::unfinished(&options.destination, options.state_dir.as_deref()) {
            Ok(all) => all.into_iter().map(|one| one.name).collect(),
            Err(error) => {
                refused(&error, messages);
                return false;
            }
        }
    } else {
        options.names.clone()
    };
    let mut gone = true;
    for name in &names {
        match abandon_one(options, name) {
            Ok(true) => {
                let path = options.destination.join(name);
                let is_there = path.symlink_metadata().is_ok();
                let mut line = b"removed ".to_vec();
                if is_there {
                    line.extend(b"the unfinished receive of ");
                }
                push_message(&mut line, path.as_os_str().as_bytes());
                if is_there {
                    line.extend(b"; what has that name now was not changed");
                }
                line.push(b'\n');
                // It is gone, whether or not anybody reads that.
                let _ = write_stdout(&line);
            }
            Ok(false) => {
                messages.error(format_args!(
                    "{}: not an unfinished receive; only writable subvolumes without received \
                     UUID are removed",
                    options.destination.join(name).display()
                ));
                gone = false;
            }
            Err(error) => {
                let path = options.destination.join(name);
                let advice = advice::on_resume(&error);
                let to_do = advice.as_ref().map(|it| &*it.to_do);
                messages.refused(&format!("{}: {error}", path.display()), to_do);
                gone = false;
            }
        }
    }
    gone
}

fn abandon_one(options: &Unfinished, name: &OsStr) -> Result<bool, ResumeError> {
    let state = options.state_dir.as_deref();
    let is_damaged = |one: resume::Unfinished| {
        one.name == *name && matches!(one.progress, Err(ResumeError::Damaged { .. }))
    };
    let unfinished = resume::unfinished(&options.destination, state)?;
    let is_damaged = unfinished.into_iter().any(is_damaged);
    let abandoned = resume::abandon(&options.destination, state, name.as_bytes())?;
    // Only what was named is taken for a leftover. A state says what belongs to it; another
    // subvolume of that name does not. One that is damaged does not say it, so there may be
    // a leftover then, too.
    if options.names.is_empty() || (abandoned && !is_damaged) {
        return Ok(abandoned);
    }
    let deleted = resume::delete_leftover(&options.destination, state, name.as_bytes())?;
    Ok(abandoned || deleted)
}

/// The text of `--status`.
struct Report<'a> {
    options: &'a Unfinished,
    time: LocalTime<SystemZone>,
    text: Vec<u8>,
}

impl<'a> Report<'a> {
    fn new(options: &'a Unfinished) -> Self {
        Self {
            options,
            time: local_time(!privilege::is_raised()),
            text: Vec::new(),
        }
    }

    fn collect(&mut self, options: &Unfinished) -> Result<(), ResumeError> {
        let state = options.state_dir.as_deref();
        for one in resume::unfinished(&options.destination, state)? {
            match &one.progress {
                Ok(progress) => self.unfinished(&one.name, progress),
                Err(ResumeError::Locked { pid }) => {
                    self.name(&one.name);
                    let pid = pid.map_or_else(String::new, |pid| format!(" by process {pid}"));
                    self.say(&format!(": being received{pid}\n"));
                }
                Err(error) => {
                    self.name(&one.name);
                    self.say(&format!(": {error}\n    to remove it: "));
                    self.remove(&one.name);
                }
            }
        }
        for one in resume::leftovers(&options.destination, state)? {
            self.name(&one.name);
            if let Some(own) = &one.final_name {
                self.say(
                    ": complete, but has a temporary name of --atomic\n    if no receive is \
                     running, rename it: mv -nT -- ",
                );
                let paths = [&one.name, own].map(|name| options.destination.join(name).into());
                push_message(&mut self.text, quoted(&paths).as_bytes());
                self.say("\n");
                continue;
            }
            self.say(
                ": writable and without received UUID: left from a receive, being received, or not \
                 from a receive\n    if it is left from a receive, remove it: ",
            );
            self.remove(&one.name);
        }
        Ok(())
    }

    fn unfinished(&mut self, name: &OsStr, progress: &Progress) {
        self.name(name);
        let kind = if progress.incremental {
            "incremental"
        } else {
            "full"
        };
        self.say(&format!(": unfinished ({kind}), started "));
        self.at(progress.started);
        match progress.taken {
            Some(taken) => {
                self.say("\n    last checkpoint: ");
                self.at(taken);
                self.say(&format!(
                    ", {} of the stream, {} commands\n",
                    bytes(progress.offset),
                    progress.commands
                ));
            }
            None => self.say("\n    no checkpoint: starts over\n"),
        }
        if progress.built_as != *name {
            self.say("    built as: ");
            push_message(&mut self.text, progress.built_as.as_bytes());
            self.say("\n");
        }
        self.say("    to resume it: ");
        push_message(&mut self.text, progress.hint.as_bytes());
        self.say("\n    to remove it: ");
        self.remove(name);
    }

    fn nothing(&mut self) {
        self.say("no unfinished receives in ");
        let directory = self.options.destination.as_os_str();
        push_message(&mut self.text, directory.as_bytes());
        self.say("\n");
    }

    fn name(&mut self, name: &OsStr) {
        let path = self.options.destination.join(name);
        push_message(&mut self.text, path.as_os_str().as_bytes());
    }

    fn remove(&mut self, name: &OsStr) {
        let mut words = vec![OsString::from("btrfs-recv-rs"), "--abandon".into()];
        if let Some(directory) = &self.options.state_dir {
            words.extend(["--state-dir".into(), directory.into()]);
        }
        let destination = self.options.destination.as_os_str();
        let is_like_option = |word: &OsStr| word.as_bytes().starts_with(b"-");
        if is_like_option(destination) || is_like_option(name) {
            words.push("--".into());
        }
        words.extend([destination.to_owned(), name.to_owned()]);
        push_message(&mut self.text, quoted(&words).as_bytes());
        self.say("\n");
    }

    fn at(&mut self, time: SystemTime) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        self.time.push(&mut self.text, seconds);
    }

    fn say(&mut self, text: &str) {
        self.text.extend_from_slice(text.as_bytes());
    }
}

/// The command that resumes this receive, for a shell.
pub(crate) fn hint(from_file: bool) -> String {
    let directory = std::env::current_dir().unwrap_or_default();
    let sender = if from_file { "" } else { "btrfs send ... | " };
    let words: Vec<_> = std::env::args_os().collect();
    format!(
        "cd {} && {sender}{}",
        quoted(&[directory.into()]),
        quoted(&words)
    )
}
