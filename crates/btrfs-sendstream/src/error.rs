//! Where in the input something stands.

use std::fmt;

/// A place in the input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// Which stream of the input, by headers seen, from 1; 0 before the
    /// first header.
    pub stream: u64,
    /// Which command of that stream, from 1; 0 for the header itself.
    pub command: u64,
    /// Bytes of input before the header or command.
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "stream {}, command {}, byte {}",
            self.stream, self.command, self.offset
        )
    }
}
