//! A descriptor that is read until its end, or until the receive is cancelled.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};

use btrfs_receive::Cancel;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

/// Input from a descriptor.
pub(crate) struct Input<'a> {
    file: File,
    /// A pipe or socket: reading may wait.
    may_wait: bool,
    cancel: &'a Cancel,
    /// Readable when `cancel` was set.
    wakeup: BorrowedFd<'a>,
}

impl<'a> Input<'a> {
    pub(crate) fn new(file: File, cancel: &'a Cancel, wakeup: BorrowedFd<'a>) -> Self {
        let kind = rustix::fs::fstat(&file).map(|facts| FileType::from_raw_mode(facts.st_mode));
        // The end of a pipe that can only be written to would never be readable: the
        // read fails.
        let can_read = rustix::fs::fcntl_getfl(&file)
            .is_ok_and(|flags| flags & OFlags::ACCMODE != OFlags::WRONLY);
        Self {
            file,
            may_wait: can_read && kind != Ok(FileType::RegularFile),
            cancel,
            wakeup,
        }
    }

    /// Waits until there is something to read, or the receive is cancelled.
    fn wait(&self) -> io::Result<()> {
        let mut polled =
            [self.file.as_fd(), self.wakeup].map(|it| PollFd::from_borrowed_fd(it, PollFlags::IN));
        while !self.cancel.is_cancelled() {
            match poll(&mut polled, None) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.may_wait {
                self.wait()?;
            }
            if self.cancel.is_cancelled() {
                return Err(cancelled());
            }
            match rustix::io::read(&self.file, &mut *buffer) {
                Ok(count) => return Ok(count),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Seek for Input<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// Ends a read; the receiver sees that it was cancelled.
pub(crate) fn cancelled() -> io::Error {
    io::Error::other("the receive was cancelled")
}
