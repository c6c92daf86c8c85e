//! Applies btrfs send streams.

mod destination;
mod error;
mod plan;
mod report;

pub use destination::{Begun, Destination, Finished, Withheld};
pub use error::{Cause, Failure};
pub use plan::op::{NewInode, NewSubvolume, Op, SourceId, Step};
pub use report::{Fallbacks, SourceUsed};
