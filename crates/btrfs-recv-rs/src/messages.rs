//! What a receive says: the lines of `btrfs receive`, by verbosity.
//!
//! Programs read these lines back: one line per subvolume, a full one on
//! standard error, an incremental one on standard output, the name raw and
//! up to the end of the line; `ERROR: ` at the beginning of a line means
//! failure. Names are therefore written as they are but for control
//! characters, which are escaped so that no name can make up a line.

use std::fmt;
use std::io::{self, Write};

use btrfs_receive::{
    Cause, Event, Failure, Fallbacks, NewSubvolume, Observer, Outcome, SubvolumeReport,
};
use btrfs_sendstream::{Command, CommandBuf, ErrorKind, SubvolumeName};

use crate::escape::push_message;

/// Most complete subvolumes that are named after a failure.
const MAX_COMPLETE: usize = 20;

/// Writes messages. Nobody reading them is no failure.
pub(crate) struct Messages {
    verbosity: u8,
    /// How many failed operations may still be told of.
    failures_left: u64,
    /// A subvolume that was given up; said once the reason has been said.
    left_behind: Option<SubvolumeName>,
    /// Where subvolumes are created, as the caller named it.
    destination: Vec<u8>,
    /// The first [`MAX_COMPLETE`] subvolumes that were completed.
    complete: Vec<SubvolumeName>,
    /// How many more were.
    more_complete: u64,
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
            failures_left: u64::MAX,
            left_behind: None,
            destination: Vec::new(),
            complete: Vec::new(),
            more_complete: 0,
            line: Line::default(),
        }
    }

    /// Tells of this many failed operations at most; 0: of all. Operations
    /// that were queued when the limit was reached may fail by thousands,
    /// and some callers do not read what would not fit a pipe.
    pub(crate) fn max_failures(mut self, max: u64) -> Self {
        self.failures_left = if max == 0 { u64::MAX } else { max };
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
                Some(_) => self.line.text("At snapshot ").name(name).write_stdout(),
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
        let line = &mut self.line;
        let said = match self.verbosity {
            0 | 1 => false,
            2 => push_data(line, command),
            _ => push_data(line, command) || push_change(line, command),
        };
        if said {
            line.write_stderr();
        }
    }

    /// A subvolume is complete, on disk, and marked as received.
    fn finished(&mut self, subvolume: &SubvolumeReport) {
        if self.complete.len() < MAX_COMPLETE {
            self.complete.push(subvolume.name.clone());
        } else {
            self.more_complete += 1;
        }
        if self.verbosity >= 2 {
            let (uuid, stransid) = (subvolume.uuid, subvolume.ctransid);
            self.line
                .format(format_args!(
                    "BTRFS_IOC_SET_RECEIVED_SUBVOL uuid={uuid}, stransid={stransid}"
                ))
                .write_stderr();
        }
        self.fallbacks(subvolume.name.as_bytes(), &subvolume.fallbacks);
    }

    /// What was done another way, in one line.
    fn fallbacks(&mut self, name: &[u8], done: &Fallbacks) {
        if done.is_none() {
            return;
        }
        let line = self.line.text("WARNING: ").name(name);
        let mut separator = ": ";
        for (count, what) in [
            (
                done.encoded_writes_decoded,
                "compressed extents were decompressed",
            ),
            (done.clones_copied, "clones were copied"),
            (
                done.compression_refused,
                "files without copy-on-write or checksums lost btrfs.compression",
            ),
            (done.flags_refused, "files lost inode flags"),
        ] {
            if count > 0 {
                line.format(format_args!("{separator}{count} {what}"));
                separator = "; ";
            }
        }
        line.text(", as the filesystem refused; the content is complete")
            .write_stderr();
    }

    /// Says which subvolume was left incomplete, if one was and it was not
    /// said yet. To be called when the reason has been said.
    pub(crate) fn left_behind(&mut self) {
        if let Some(name) = self.left_behind.take() {
            let path = [&self.destination[..], name.as_bytes()].concat();
            let line = self.line.text("ERROR: ").name(&path).text(
                " is incomplete: it stays writable and has no received UUID; remove it \
                 (btrfs subvolume delete",
            );
            if is_plain_word(&path) {
                line.text(" ").name(&path);
            }
            line.text(") before receiving again").write_stderr();
        }
    }

    /// An operation failed.
    fn failure(&mut self, failure: &Failure) {
        if self.failures_left == 0 {
            return;
        }
        self.failures_left -= 1;
        let line = self.line.text("ERROR: ");
        match failure.operation {
            "subvol" => line.text("creating subvolume "),
            "snapshot" => line.text("creating snapshot "),
            "write" => line.text("writing to "),
            "clone" => line.text("failed to clone extents to "),
            "set_xattr" => line.text("lsetxattr "),
            "remove_xattr" => line.text("lremovexattr "),
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
                let text = other.to_string();
                let mut lines = text.lines();
                line.text_of(lines.next().unwrap_or_default());
                line.format(format_args!(" ({at})")).write_stderr();
                for more in lines {
                    self.line.text("ERROR: ").text_of(more).write_stderr();
                }
            }
        }
    }

    /// Something failed that is no operation on the destination.
    pub(crate) fn error(&mut self, what: impl fmt::Display) {
        self.line.text("ERROR: ").text_of(what).write_stderr();
    }

    /// The stream is damaged or cannot be read.
    pub(crate) fn stream_error(&mut self, error: &btrfs_sendstream::Error) {
        match error.kind() {
            ErrorKind::Empty => self.error(
                "empty stream is not considered valid: the input is empty; did btrfs send fail?",
            ),
            ErrorKind::Io(cause) => {
                self.error(format_args!("cannot read the stream: {}", strerror(cause)));
            }
            _ => self.error(error),
        }
    }
}

impl Observer for Messages {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::SubvolumeBegins { new, .. } => {
                self.left_behind();
                self.begins(new);
            }
            Event::Command { command, .. } => self.command(command),
            Event::Failed(failure) => self.failure(failure),
            Event::SubvolumeFinished(subvolume) => self.finished(subvolume),
            Event::SubvolumeAbandoned(subvolume) if subvolume.outcome == Outcome::Abandoned => {
                self.left_behind = Some(subvolume.name.clone());
            }
            _ => {}
        }
    }

    fn wants_commands(&self) -> bool {
        self.verbosity >= 2
    }
}

/// The lines of level 2: file data.
fn push_data(line: &mut Line, command: &CommandBuf) -> bool {
    match command {
        Command::Write { path, offset, data } => line
            .text("write ")
            .name(path.as_bytes())
            .format(format_args!(" - offset={offset} length={}", data.len())),
        Command::Clone(clone) => line
            .text("clone ")
            .name(clone.path.as_bytes())
            .text(" - source=")
            .name(clone.source_path.as_bytes())
            .format(format_args!(
                " source offset={} offset={} length={}",
                clone.source_offset, clone.offset, clone.len
            )),
        _ => return false,
    };
    true
}

/// The lines that level 3 adds.
fn push_change(line: &mut Line, command: &CommandBuf) -> bool {
    match command {
        Command::Mkfile { path, .. } => line.text("mkfile ").name(path.as_bytes()),
        Command::Mkdir { path, .. } => line.text("mkdir ").name(path.as_bytes()),
        Command::Mkfifo { path, .. } => line.text("mkfifo ").name(path.as_bytes()),
        Command::Mksock { path, .. } => line.text("mksock ").name(path.as_bytes()),
        Command::Unlink { path } => line.text("unlink ").name(path.as_bytes()),
        Command::Rmdir { path } => line.text("rmdir ").name(path.as_bytes()),
        Command::Utimes { path, .. } => line.text("utimes ").name(path.as_bytes()),
        Command::Mknod {
            path, rdev, mode, ..
        } => line
            .text("mknod ")
            .name(path.as_bytes())
            .format(format_args!(" mode={mode}, dev={rdev}")),
        Command::Symlink { path, target, .. } => line
            .text("symlink ")
            .name(path.as_bytes())
            .text(" -> ")
            .name(target),
        Command::Rename { path, to } => line
            .text("rename ")
            .name(path.as_bytes())
            .text(" -> ")
            .name(to.as_bytes()),
        Command::Link { path, existing } => line
            .text("link ")
            .name(path.as_bytes())
            .text(" -> ")
            .name(existing.as_bytes()),
        Command::SetXattr { path, name, data } => line
            .text("set_xattr ")
            .name(path.as_bytes())
            .text(" - name=")
            .name(name)
            .format(format_args!(" data_len={} data=", data.len()))
            .name(data),
        Command::RemoveXattr { path, name } => line
            .text("remove_xattr ")
            .name(path.as_bytes())
            .text(" - name=")
            .name(name),
        Command::Chmod { path, mode } => line
            .text("chmod ")
            .name(path.as_bytes())
            .format(format_args!(" - mode=0{mode:o}")),
        Command::Chown { path, uid, gid } => line
            .text("chown ")
            .name(path.as_bytes())
            .format(format_args!(" - uid={uid}, gid={gid}")),
        other => return push_extent(line, other),
    };
    true
}

/// The part of level 3 that is about extents.
fn push_extent(line: &mut Line, command: &CommandBuf) -> bool {
    match command {
        Command::Truncate { path, size } => line
            .text("truncate ")
            .name(path.as_bytes())
            .format(format_args!(" size={size}")),
        Command::UpdateExtent { path, offset, len } => line
            .text("update_extent ")
            .name(path.as_bytes())
            .format(format_args!(": offset={offset}, len={len}")),
        Command::Fallocate {
            path,
            mode,
            offset,
            len,
        } => line
            .text("fallocate ")
            .name(path.as_bytes())
            .format(format_args!(" - offset={offset}, len={len}, mode={mode}")),
        Command::EncodedWrite(write) => line
            .text("encoded_write ")
            .name(write.path.as_bytes())
            .format(format_args!(
                " - offset={}, len={}, unencoded_offset={}, unencoded_file_len={}, \
                 unencoded_len={}, compression={}, encryption={}",
                write.offset,
                write.data.len(),
                write.unencoded_offset,
                write.unencoded_file_len,
                write.unencoded_len,
                write.compression.unwrap_or(0),
                write.encryption.unwrap_or(0)
            )),
        _ => return false,
    };
    true
}

/// One line of output.
#[derive(Default)]
struct Line(Vec<u8>);

impl Line {
    fn text(&mut self, text: &str) -> &mut Self {
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    /// A name or value from the stream or the command line.
    fn name(&mut self, name: &[u8]) -> &mut Self {
        push_message(&mut self.0, name);
        self
    }

    fn format(&mut self, arguments: fmt::Arguments<'_>) -> &mut Self {
        // Vec's Write never fails.
        let _ = self.0.write_fmt(arguments);
        self
    }

    /// Text that may hold names.
    fn text_of(&mut self, text: impl fmt::Display) -> &mut Self {
        push_message(&mut self.0, text.to_string().as_bytes());
        self
    }

    fn write_stderr(&mut self) {
        self.write(&mut io::stderr().lock());
    }

    fn write_stdout(&mut self) {
        self.write(&mut io::stdout().lock());
    }

    /// Writes the line and begins another. A receive goes on when nobody
    /// reads what it says.
    fn write(&mut self, to: &mut impl Write) {
        self.0.push(b'\n');
        let _ = to.write_all(&self.0).and_then(|()| to.flush());
        self.0.clear();
    }
}

/// Whether a shell takes `path` as one word as it is. A name from a stream
/// must not become a command when the line is copied into a shell.
fn is_plain_word(path: &[u8]) -> bool {
    let plain = |&byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+:@%,".contains(&byte);
    !path.starts_with(b"-") && path.iter().all(plain)
}

/// What `strerror` says, without the number that [`io::Error`] adds.
pub(crate) fn strerror(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(end) if error.raw_os_error().is_some() => text[..end].to_owned(),
        _ => text,
    }
}
