//! Applies btrfs send streams.

#[cfg(feature = "bare-calls")]
#[doc(hidden)]
pub mod bare_calls;
// Pruned once the destination is complete.
#[allow(dead_code)]
mod confine;
mod decompress;
mod destination;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod observer;
mod options;
mod plan;
mod receiver;
mod report;
pub mod source;
#[allow(dead_code, unused_imports)]
mod sys;
#[cfg(test)]
mod testing;

pub use btrfs_sendstream;

pub use decompress::{DecodeError, Decompressor, MAX_ENCODED_LEN, MAX_UNENCODED_LEN, place};
pub use destination::btrfs::{BtrfsDestination, BtrfsDestinationBuilder};
pub use destination::memory;
pub use destination::{Begun, Destination, Finished, Withheld};
pub use error::{Barrier, Cause, Failure, Occupant, OpenError, ReceiveError, StopReason};
pub use observer::{Event, Observer};
pub use options::{Cancel, Options};
pub use plan::op::{NewInode, NewSubvolume, Op, SourceId, Step};
pub use plan::{Planner, Rules};
pub use receiver::{Progress, Receiver};
pub use report::{Fallbacks, Outcome, Report, SourceUsed, SubvolumeReport};
