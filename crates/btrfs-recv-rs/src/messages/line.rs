//! Lines of text in which names cannot do harm.

use std::fmt;
use std::io::{self, Write};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use sendstream_common::text::push_message;

use super::screen;

/// One line of output.
#[derive(Default)]
pub(super) struct Line(Vec<u8>);

impl Line {
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    /// A name or value from the stream or the command line.
    pub(super) fn name(&mut self, name: &[u8]) -> &mut Self {
        push_message(&mut self.0, name);
        self
    }

    pub(super) fn format(&mut self, arguments: fmt::Arguments<'_>) -> &mut Self {
        // Vec's Write never fails.
        let _ = self.0.write_fmt(arguments);
        self
    }

    /// Text that may hold names.
    pub(super) fn text_of(&mut self, text: impl fmt::Display) -> &mut Self {
        push_message(&mut self.0, text.to_string().as_bytes());
        self
    }

    pub(super) fn write_stderr(&mut self) {
        self.write(&mut io::stderr().lock());
    }

    pub(super) fn write_stdout(&mut self) {
        self.write(&mut io::stdout().lock());
    }

    /// Writes the line and begins another. A receive goes on when nobody
    /// reads what it says.
    fn write(&mut self, to: &mut impl Write) {
        self.0.push(b'\n');
        screen::clear();
        let _ = to.write_all(&self.0).and_then(|()| to.flush());
        self.0.clear();
    }
}

/// Writes lines to standard output at once. Waits where that is a pipe which
/// is full and does not block.
pub(crate) fn write_stdout(lines: &[u8]) -> io::Result<()> {
    screen::clear();
    let mut stdout = io::stdout().lock();
    stdout.flush()?;
    let mut rest = lines;
    while !rest.is_empty() {
        match rustix::io::write(&stdout, rest) {
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let writable = PollFd::new(&stdout, PollFlags::OUT);
                match poll(&mut [writable], None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Whether a shell takes `path` as one word as it is. A name from a stream
/// must not become a command when the line is copied into a shell.
pub(super) fn is_plain_word(path: &[u8]) -> bool {
    let plain = |&byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+:@%,".contains(&byte);
    !path.starts_with(b"-") && path.iter().all(plain)
}
