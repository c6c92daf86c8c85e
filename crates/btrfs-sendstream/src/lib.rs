//! The btrfs send stream: decoded, encoded, lossless.
//!
//! `btrfs send` turns a read-only snapshot, or the difference between two,
//! into a send stream: a header and then commands such as *make a file*,
//! *rename*, *write* and *set the owner*. Applied in order they give the
//! snapshot again, on another filesystem. This crate reads and writes such
//! streams, versions 1 to 3; it applies nothing.
//!
//! ```no_run
//! use btrfs_sendstream::{Command, Item, Reader};
//!
//! fn main() -> Result<(), btrfs_sendstream::Error> {
//!     let mut reader = Reader::new(std::io::stdin());
//!     while let Some(item) = reader.next_item()? {
//!         if let Item::Command(Command::Write { path, offset, data }) = item {
//!             println!("{path}: {} bytes at {offset}", data.len());
//!         }
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # Ways in
//!
//! | | from bytes | to bytes | with `std::io` |
//! |---|---|---|---|
//! | typed commands | [`Decoder`] | [`Encoder`] | [`Reader`], [`Writer`] |
//! | undecoded frames | [`Deframer`] | [`Framer`] | |
//!
//! The other way round, a stream that makes an empty subvolume:
//!
//! ```
//! use btrfs_sendstream::{Command, SubvolumeName, Uuid, Version, Writer};
//!
//! let mut writer = Writer::new(Vec::new());
//! writer.header(Version::V1)?;
//! writer.command(&Command::Subvol {
//!     name: SubvolumeName::parse(&b"home"[..])?,
//!     uuid: Uuid::from_u128(1),
//!     ctransid: 7,
//! })?;
//! writer.command(&Command::<&[u8]>::End)?;
//! assert_eq!(writer.finish()?.len(), 77);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Decoders and encoders do no I/O: bytes go in and items come out, or the
//! other way round. [`Reader`] and [`Writer`] join them to files and pipes.
//! A [`Command`] borrows from the input ([`CommandRef`]) or shares it
//! ([`CommandBuf`]); file data is never copied to decode it.
//!
//! # Examples
//!
//! In the folder `examples` of the crate, each a small program that a test
//! runs: `list` (what a stream would do), `tee` (verify while copying),
//! `rename-subvolume` (decode, change, encode) and `tokio` (an asynchronous
//! reader made of [`Decoder`]). The crate `btrfs-receive` applies streams. The
//! format itself is described in `docs/format.md` of the repository.
//!
//! # What can be relied on
//!
//! - **Lossless.** What a kernel wrote is decoded and encoded to the same
//!   bytes. Frames keep even what is unknown here.
//! - **Strict.** Checksums are always checked. Paths cannot leave the
//!   subvolume as text, names have one component, lengths are exact, and no
//!   attribute is missing, repeated or left over. Numbers keep the width they
//!   have in the stream; whether a user id fits is for the receiver to check.
//! - **Bounded.** Memory grows with bytes that arrived, never with a length
//!   that was claimed, up to [`Limits`].
//! - **Placed.** An [`Error`] says what is wrong, whose fault it is and where:
//!   stream, command, byte.
//!
//! There is no unsafe code here and no system call but those of the reader
//! and writer that are passed in.
//!
//! # Features
//!
//! Off by default:
//!
//! - `decompress` adds the module `decompress`: the file data inside encoded
//!   writes.
//! - `transform` adds the module `transform`: streams of a higher or lower
//!   version, with other names or some paths only, split and joined. Upgrading
//!   starts threads to compress.
//! - `inspect` adds the module `inspect`: whether a stream can be received,
//!   what it changes, what it holds, in which order several belong, and its
//!   commands as text. It brings `decompress` along.
//! - `serde` adds `serde::Serialize` to [`Command`] and its parts, [`Position`],
//!   [`Error`] and what `inspect` finds, for formats with keys: JSON, TOML.
//!   Names are strings, and those that are not UTF-8 `{"hex": "…"}`;
//!   `docs/json.md` of the repository has all keys.
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
#[cfg(any(feature = "inspect", feature = "serde"))]
mod civil;
mod command;
mod decoder;
#[cfg(feature = "decompress")]
pub mod decompress;
mod encoder;
mod error;
mod frame;
pub mod inode_flags;
#[cfg(feature = "inspect")]
pub mod inspect;
mod limits;
mod reader;
mod sequence;
#[cfg(feature = "serde")]
pub mod serial;
#[cfg(feature = "transform")]
pub mod transform;
mod wire;
mod writer;

pub use bytes::Bytes;
pub use uuid::Uuid;

pub use attr::{Attribute, RawAttribute, RawAttributes};
pub use command::{
    CloneRange, Command, CommandBuf, CommandKind, CommandRef, Compression, EnableVerity,
    EncodedWrite, NewSubvolume, PathError, SourceId, StreamPath, SubvolumeName, Timespec,
    ValueError,
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
