//! Where the stream comes from: a file or standard input, blocking or not,
//! and interruptible by a signal.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use sendstream_common::foreign::Head;
use sendstream_common::stored::cannot_open;

use crate::messages::{Messages, strerror};
use crate::progress::Counters;
use crate::signals::Signals;

/// A reader of the stream.
///
/// Standard input may be a non-blocking pipe, socket or terminal: reads wait
/// for it. While a read waits, a signal that [`Signals`] watches ends it
/// with an error; [`Signals::caught`] tells which one.
pub(crate) struct Input<'a> {
    descriptor: OwnedFd,
    signals: Option<&'a Signals>,
    /// Regular files never make a reader wait.
    may_wait: bool,
    /// Size of a regular file.
    size: Option<u64>,
    head: Head,
    counters: Option<Arc<Counters>>,
}

impl<'a> Input<'a> {
    /// Opens `file`, or takes standard input.
    ///
    /// # Errors
    /// The file cannot be opened, or standard input is closed; the text says
    /// so.
    pub(crate) fn open(file: Option<&Path>, signals: Option<&'a Signals>) -> Result<Self, String> {
        Self::try_open(file, signals).map_err(|error| match file {
            Some(path) => cannot_open(path, &error),
            None => format!("cannot open standard input: {}", strerror(&error)),
        })
    }

    /// The same, having said why if it fails.
    pub(crate) fn open_or_say(
        file: Option<&Path>,
        signals: Option<&'a Signals>,
        messages: &mut Messages,
    ) -> Option<Self> {
        Self::open(file, signals)
            .map_err(|text| messages.error(text))
            .ok()
    }

    fn try_open(file: Option<&Path>, signals: Option<&'a Signals>) -> io::Result<Self> {
        let descriptor = match file {
            Some(path) => open_file(path)?,
            None => rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?,
        };
        let facts = rustix::fs::fstat(&descriptor)?;
        let kind = FileType::from_raw_mode(facts.st_mode);
        let is_file = kind == FileType::RegularFile;
        Ok(Self {
            descriptor,
            signals,
            may_wait: !is_file,
            size: is_file.then(|| facts.st_size.try_into().unwrap_or(0)),
            head: Head::default(),
            counters: None,
        })
    }

    /// Has what is read counted.
    pub(crate) fn count(&mut self, counters: &Arc<Counters>) {
        self.counters = Some(Arc::clone(counters));
    }

    /// Size in bytes, if the input is a file.
    pub(crate) fn size(&self) -> Option<u64> {
        self.size
    }

    /// The beginning of what was read.
    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    /// Whether someone would have to type the stream.
    pub(crate) fn is_terminal(&self) -> bool {
        rustix::termios::isatty(&self.descriptor)
    }

    /// Blocks until there is something to read, the input has ended, or a
    /// signal arrived.
    fn wait(&self) -> io::Result<()> {
        let input = PollFd::new(&self.descriptor, PollFlags::IN);
        let result = match self.signals {
            Some(signals) => poll(
                &mut [
                    input,
                    PollFd::from_borrowed_fd(signals.wakeup(), PollFlags::IN),
                ],
                None,
            ),
            None => poll(&mut [input], None),
        };
        match result {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// # Errors
    /// A signal arrived.
    fn check_signals(&self) -> io::Result<()> {
        match self.signals.and_then(Signals::caught) {
            // Not ErrorKind::Interrupted: readers try again on that.
            Some(signal) => Err(io::Error::other(format!("stopped by {signal}"))),
            None => Ok(()),
        }
    }
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.check_signals()?;
            if self.may_wait {
                self.wait()?;
                self.check_signals()?;
            }
            match rustix::io::read(&self.descriptor, &mut *buffer) {
                Ok(count) => {
                    self.head.push(buffer.get(..count).unwrap_or_default());
                    if let Some(counters) = &self.counters {
                        counters.read(count);
                    }
                    return Ok(count);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.may_wait = true,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Only of what can be read again; a pipe refuses.
impl Seek for Input<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(offset) => rustix::fs::SeekFrom::Start(offset),
            SeekFrom::Current(offset) => rustix::fs::SeekFrom::Current(offset),
            SeekFrom::End(offset) => rustix::fs::SeekFrom::End(offset),
        };
        Ok(rustix::fs::seek(&self.descriptor, to)?)
    }
}

/// Reading a stored stream need not touch its access time, but only its
/// owner may ask for that.
fn open_file(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => Ok(File::open(path)?.into()),
        result => Ok(result?),
    }
}
