//! Where the stream comes from: a file or standard input, blocking or not,
//! and interruptible by a signal.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{fcntl_getpipe_size, fcntl_setpipe_size};
use sendstream_common::foreign::Head;
use sendstream_common::stored::cannot_open;
use sendstream_common::unpack::{Decompress, Unpacked};

use crate::messages::{Messages, strerror};
use crate::progress::Counters;
use crate::signals::Signals;
use crate::tee::Copy;

/// A reader of the stream, which is unpacked if that was asked for.
pub(crate) struct Input<'a> {
    unpacked: Unpacked<Raw<'a>>,
    may_unpack: bool,
    head: Head,
}

/// A reader of a file or of standard input.
///
/// Standard input may be a non-blocking pipe, socket or terminal: reads wait
/// for it. While a read waits, a signal that [`Signals`] watches ends it
/// with an error; [`Signals::caught`] tells which one.
///
/// A pipe is made as large as the system allows, so that each read returns
/// more, and the sender waits less.
struct Raw<'a> {
    descriptor: OwnedFd,
    signals: Option<&'a Signals>,
    /// Regular files never make a reader wait.
    may_wait: bool,
    /// Size of a regular file.
    size: Option<u64>,
    /// Where bytes are counted as they are read.
    counters: Option<Arc<Counters>>,
    /// Where it is stored.
    copy: Option<Arc<Copy>>,
    /// Where the next byte is, from where the input began.
    position: u64,
    /// Where a file was when it was opened.
    begin: u64,
    /// Readable when nothing more is to be read.
    stopped: Option<Arc<OwnedFd>>,
    /// How long a read waits at most.
    idle: Option<Duration>,
    /// How many bytes are read at most.
    most: Option<u64>,
}

/// What can be received: input, or a buffer before it.
pub(crate) trait Source: Read + Seek {}

impl<T: Read + Seek> Source for T {}

impl<'a> Input<'a> {
    /// Opens `file`, or takes standard input, and unpacks what `decompress` asks
    /// for.
    ///
    /// # Errors
    /// The file cannot be opened, or standard input is closed; the text says
    /// so.
    pub(crate) fn open(
        file: Option<&Path>,
        decompress: Decompress,
        signals: Option<&'a Signals>,
    ) -> Result<Self, String> {
        let raw = Raw::open(file, signals).map_err(|error| match file {
            Some(path) => cannot_open(path, &error),
            None => format!("cannot open standard input: {}", strerror(&error)),
        })?;
        Ok(Self {
            unpacked: Unpacked::new(raw, decompress),
            may_unpack: decompress != Decompress::No,
            head: Head::default(),
        })
    }

    /// The same, having said why if it fails.
    pub(crate) fn open_or_say(
        file: Option<&Path>,
        decompress: Decompress,
        signals: Option<&'a Signals>,
        messages: &mut Messages,
    ) -> Option<Self> {
        Self::open(file, decompress, signals)
            .map_err(|text| messages.error(text))
            .ok()
    }

    /// Lets a read fail that waits so long.
    pub(crate) fn set_idle(&mut self, longest: Option<Duration>) {
        self.unpacked.get_mut().idle = longest;
    }

    /// Lets a read fail that finds more than this number of bytes, if the input may
    /// be unpacked: much of it can come to nothing in the stream, where the rules
    /// count bytes.
    pub(crate) fn set_most(&mut self, most: Option<u64>) {
        self.unpacked.get_mut().most = most.filter(|_| self.may_unpack);
    }

    /// What ends a read that waits, and every later one, with an error when it
    /// is called. Another thread may call it.
    pub(crate) fn stopper(&mut self) -> io::Result<impl Fn() + use<>> {
        let stopped = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        self.unpacked.get_mut().stopped = Some(Arc::clone(&stopped));
        Ok(move || {
            // The counter is far from its limit, where alone it could fail.
            let _ = rustix::io::write(&stopped, &1_u64.to_ne_bytes());
        })
    }

    /// Size in bytes, if the input is a file; of what is compressed, the
    /// compressed size.
    pub(crate) fn size(&self) -> Option<u64> {
        self.unpacked.get_ref().size
    }

    /// Whether it may be compressed, and is unpacked then.
    pub(crate) fn may_unpack(&self) -> bool {
        self.may_unpack
    }

    /// Counts bytes as they are read, before they are unpacked.
    pub(crate) fn count(&mut self, counters: Arc<Counters>) {
        self.unpacked.get_mut().counters = Some(counters);
    }

    /// Stores all that is read, before it is unpacked. To be called before anything
    /// is read.
    pub(crate) fn tee(&mut self, copy: Arc<Copy>) {
        let raw = self.unpacked.get_mut();
        raw.begin = raw.stream_position().unwrap_or(0);
        raw.position = 0;
        raw.copy = Some(copy);
    }

    /// The beginning of what was read, and unpacked.
    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    /// Whether someone would have to type the stream.
    pub(crate) fn is_terminal(&self) -> bool {
        rustix::termios::isatty(&self.unpacked.get_ref().descriptor)
    }
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.unpacked.read(buffer)?;
        self.head.push(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

/// Only of what can be read again; a pipe refuses.
impl Seek for Input<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.unpacked.seek(to)
    }
}

impl<'a> Raw<'a> {
    fn open(file: Option<&Path>, signals: Option<&'a Signals>) -> io::Result<Self> {
        let descriptor = match file {
            Some(path) => open_file(path)?,
            None => rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?,
        };
        let facts = rustix::fs::fstat(&descriptor)?;
        let kind = FileType::from_raw_mode(facts.st_mode);
        let is_file = kind == FileType::RegularFile;
        if kind == FileType::Fifo {
            enlarge(&descriptor);
        }
        Ok(Self {
            descriptor,
            signals,
            may_wait: !is_file,
            size: is_file.then(|| facts.st_size.try_into().unwrap_or(0)),
            counters: None,
            copy: None,
            position: 0,
            begin: 0,
            stopped: None,
            idle: None,
            most: None,
        })
    }

    /// Blocks until there is something to read, the input has ended, or a
    /// signal arrived.
    ///
    /// # Errors
    /// Nothing more is to be read, or there was no input for too long.
    fn wait(&self) -> io::Result<()> {
        let wakeup = self.signals.map(Signals::wakeup);
        let stopped = self.stopped.as_deref().map(OwnedFd::as_fd);
        // A place that is not needed holds the input once more.
        let input = self.descriptor.as_fd();
        let mut polled = [input, wakeup.unwrap_or(input), stopped.unwrap_or(input)]
            .map(|it| PollFd::from_borrowed_fd(it, PollFlags::IN));
        let timeout = self.idle.and_then(|idle| Timespec::try_from(idle).ok());
        loop {
            match poll(&mut polled, timeout.as_ref()) {
                Ok(0) => {
                    let seconds = self.idle.unwrap_or_default().as_secs();
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        format!("no input for {seconds} s, the limit of the rule limits.idle"),
                    ));
                }
                Ok(_) => break,
                Err(Errno::INTR) => self.check_signals()?,
                Err(error) => return Err(error.into()),
            }
        }
        let [.., last] = polled;
        if stopped.is_some() && !last.revents().is_empty() {
            return Err(io::Error::other("nothing more is to be read"));
        }
        Ok(())
    }

    /// The part of `buffer` that may be filled. Once as much was read as may be, one
    /// byte of it is left, which shows whether there is more.
    fn room<'b>(&self, buffer: &'b mut [u8]) -> &'b mut [u8] {
        let left = self.most.map(|most| most.saturating_sub(self.position));
        let left = left.map_or(usize::MAX, |left| {
            usize::try_from(left).unwrap_or(usize::MAX)
        });
        let len = buffer.len().min(left.max(1));
        buffer.get_mut(..len).unwrap_or_default()
    }

    /// # Errors
    /// More was read than may be.
    fn check_most(&self, count: usize) -> io::Result<()> {
        match self.most {
            Some(most) if self.position.saturating_add(count as u64) > most => {
                Err(io::Error::other(format!(
                    "more than {most} bytes before they are unpacked, the limit of the rule \
                     limits.input"
                )))
            }
            _ => Ok(()),
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

impl Read for Raw<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let buffer = self.room(buffer);
        loop {
            self.check_signals()?;
            if self.may_wait {
                self.wait()?;
                self.check_signals()?;
            }
            match rustix::io::read(&self.descriptor, &mut *buffer) {
                Ok(count) => {
                    self.check_most(count)?;
                    if let Some(copy) = &self.copy {
                        let bytes = buffer.get(..count).unwrap_or_default();
                        copy.write(bytes, self.position)?;
                    }
                    self.position += count as u64;
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

impl Seek for Raw<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(offset) => rustix::fs::SeekFrom::Start(offset),
            SeekFrom::Current(offset) => rustix::fs::SeekFrom::Current(offset),
            SeekFrom::End(offset) => rustix::fs::SeekFrom::End(offset),
        };
        let position = rustix::fs::seek(&self.descriptor, to)?;
        self.position = position.saturating_sub(self.begin);
        Ok(position)
    }
}

/// Input whose bytes are counted as they are taken.
pub(crate) struct Counted<'a> {
    pub(crate) source: &'a mut dyn Source,
    pub(crate) counters: &'a Counters,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.counters.read(count);
        Ok(count)
    }
}

impl Seek for Counted<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.source.seek(to)
    }
}

/// Gives a pipe all the room that this process may ask for. Without it, the
/// receive works as well.
fn enlarge(pipe: &OwnedFd) {
    let most = std::fs::read_to_string("/proc/sys/fs/pipe-max-size");
    let most = most.ok().and_then(|size| size.trim().parse().ok());
    if let (Some(most), Ok(now)) = (most, fcntl_getpipe_size(pipe))
        && now < most
    {
        let _ = fcntl_setpipe_size(pipe, most);
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

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use rustix::pipe::pipe;

    use super::*;
    use crate::buffer;

    fn open(pipe: &OwnedFd) -> Input<'static> {
        let path = format!("/proc/self/fd/{}", pipe.as_raw_fd());
        Input::open(Some(Path::new(&path)), Decompress::No, None).unwrap()
    }

    #[test]
    fn a_pipe_gets_all_the_room_there_is() {
        let (reader, writer) = pipe().unwrap();
        let before = fcntl_getpipe_size(&writer).unwrap();
        let _input = open(&reader);
        let now = fcntl_getpipe_size(&writer).unwrap();
        assert!(now >= before);
        let most = std::fs::read_to_string("/proc/sys/fs/pipe-max-size").unwrap();
        // Others may have used up what they all may have.
        if rustix::process::geteuid().is_root() {
            assert!(now >= most.trim().parse().unwrap(), "{now} of {most}");
        }
    }

    #[test]
    fn a_read_that_waits_is_stopped() {
        let (reader, _writer) = pipe().unwrap();
        let mut input = open(&reader);
        let stop = input.stopper().unwrap();
        // Returns when the thread that reads has ended.
        buffer::ahead(&mut input, 100, false, stop, |_| ()).unwrap();
        assert!(input.read(&mut [0]).is_err());
    }
}
