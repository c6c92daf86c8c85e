//! What the commands `btrfs-recv-rs`, `sendstream` and `btrfs-lineage` share: finding
//! stored streams, recognising what is not a stream, unpacking what is compressed, and
//! printing dumps and reports.
//!
//! No interface for others: it may change in any release.
#![forbid(unsafe_code)]

pub mod dump;
pub mod files;
pub mod foreign;
pub mod json;
pub mod leading;
pub mod output;
pub mod report;
pub mod stored;
pub mod text;
pub mod unpack;
pub mod zone;
