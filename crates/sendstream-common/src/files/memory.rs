//! A limit on memory, reckoned high.

/// The limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this needs more than {limit} bytes of memory")]
pub struct OutOfMemory {
    /// The limit in bytes.
    pub limit: u64,
}

/// What is left of a limit.
#[derive(Debug)]
pub(super) struct Memory {
    left: u64,
    limit: u64,
}

impl Memory {
    pub(super) fn new(limit: u64) -> Self {
        let left = limit;
        Self { left, limit }
    }

    pub(super) fn take(&mut self, bytes: u64) -> Result<(), OutOfMemory> {
        let left = self.left.checked_sub(bytes);
        self.left = left.ok_or(OutOfMemory { limit: self.limit })?;
        Ok(())
    }

    pub(super) fn give(&mut self, bytes: u64) {
        self.left += bytes;
    }

    #[cfg(test)]
    pub(super) fn left(&self) -> u64 {
        self.left
    }
}
