//! The btrfs send stream: decoded, encoded, lossless.
#![forbid(unsafe_code)]

mod command;
mod error;

pub use bytes::Bytes;
pub use uuid::Uuid;

pub use command::{
    CloneRange, Command, CommandBuf, CommandRef, Compression, EnableVerity, EncodedWrite,
    PathError, StreamPath, SubvolumeName, Timespec,
};
pub use error::Position;
