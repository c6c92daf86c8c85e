//! The btrfs send stream: decoded, encoded, lossless.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::cast_possible_truncation,
        clippy::indexing_slicing,
        clippy::unwrap_used
    )
)]

mod attr;
mod command;
mod decoder;
mod encoder;
mod error;
mod frame;
mod limits;
mod reader;
mod sequence;
#[cfg(feature = "proptest")]
pub mod strategies;
mod wire;
mod writer;

pub use bytes::Bytes;
pub use uuid::Uuid;

pub use attr::{Attribute, RawAttribute, RawAttributes};
pub use command::{
    CloneRange, Command, CommandBuf, CommandKind, CommandRef, Compression, EnableVerity,
    EncodedWrite, PathError, StreamPath, SubvolumeName, Timespec,
};
pub use decoder::{Decoded, Decoder, DecoderBuilder, Item};
pub use encoder::Encoder;
pub use error::{
    CommandName, Error, ErrorKind, LimitExceeded, Malformed, Misuse, Position, SequenceError,
    Truncated, Unsupported,
};
pub use frame::{Deframed, Deframer, Frame, Framer, RawCommand};
pub use limits::Limits;
pub use reader::{Reader, ReaderBuilder};
pub use wire::Version;
pub use writer::{FinishError, Writer};
