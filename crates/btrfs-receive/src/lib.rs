//! Applies btrfs send streams.

// Nothing calls it yet; the btrfs destination is built on it.
#[allow(dead_code)]
mod confine;
mod decompress;
mod destination;
mod error;
mod plan;
mod report;
pub mod source;
// Its users arrive with the destination.
#[allow(dead_code, unused_imports)]
mod sys;
#[cfg(test)]
mod testing;

pub use decompress::{DecodeError, Decompressor, MAX_ENCODED_LEN, MAX_UNENCODED_LEN, place};
pub use destination::memory;
pub use destination::{Begun, Destination, Finished, Withheld};
pub use error::{Barrier, Cause, Failure};
pub use plan::op::{NewInode, NewSubvolume, Op, SourceId, Step};
pub use report::{Fallbacks, SourceUsed};
