//! Lossless decoding and encoding of btrfs send streams.
//!
//! `btrfs send` turns a read-only snapshot, or the difference between two, into
//! a send stream: a header, followed by commands such as *make a file*, *rename*,
//! *write* and *set the owner*. Applied in order, they recreate the snapshot on
//! another filesystem. This crate reads and writes streams of versions 1 to 3;
//! it does not apply them.
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
//! # Overview
//!
//! | | from bytes | to bytes | with `std::io` |
//! |---|---|---|---|
//! | typed commands | [`Decoder`] | [`Encoder`] | [`Reader`], [`Writer`] |
//! | undecoded frames | [`Deframer`] | [`Framer`] | |
//!
//! Writes a stream that creates an empty subvolume:
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
//! Decoders and encoders do no I/O: they convert bytes to items and back.
//! [`Reader`] and [`Writer`] use them for files and pipes. A [`Command`] borrows
//! from the input ([`CommandRef`]) or shares it ([`CommandBuf`]); decoding does
//! not copy file data.
//!
//! # Examples
//!
//! The directory `examples` of the crate contains `list` (prints the commands),
//! `tee` (verifies while copying), `rename-subvolume` (decodes, changes and
//! encodes) and `tokio` (reads asynchronously, with a timeout). The crate
//! `btrfs-receive` applies streams. `docs/format.md` in the repository describes
//! the format.
//!
//! # Guarantees
//!
//! - **Lossless.** Decoding and encoding a stream of a kernel gives the same
//!   bytes. Frames preserve unknown commands and attributes.
//! - **Strict.** Checksums are always checked. Paths cannot leave the
//!   subvolume as text, names have one component, lengths are exact, and no
//!   attribute is missing, repeated or unexpected. Numbers have the width of the
//!   stream; the receiver has to check their range.
//! - **Bounded.** Memory grows with the bytes read, not with the lengths in the
//!   stream, up to [`Limits`].
//! - **Errors with positions.** An [`Error`] has a kind, and a position: stream,
//!   command, byte.
//!
//! The crate contains no unsafe code, and makes no system calls except those of
//! the reader and writer that are passed in.
//!
//! # Features
//!
//! Off by default:
//!
//! - `decompress` adds the module `decompress`, which decodes the file data of
//!   encoded writes.
//! - `transform` adds the module `transform`, which converts streams to another
//!   version, renames subvolumes, filters paths, splits and joins. Upgrading
//!   starts threads for compression.
//! - `inspect` adds the module `inspect`, which verifies, compares, summarises,
//!   orders and prints streams. It enables `decompress`.
//! - `serde` adds `serde::Serialize` to [`Command`] and its parts, [`Position`],
//!   [`Error`] and the results of `inspect`, for formats with keys: JSON, TOML.
//!   Names are strings, or `{"hex": "…"}` if they are not UTF-8; `docs/json.md` in
//!   the repository describes all keys.
//! - `tokio` adds `AsyncReader`, a stream of items from an asynchronous source.
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

pub use attr::{RawAttribute, RawAttributes};
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
#[cfg(feature = "tokio")]
pub use reader::AsyncReader;
pub use reader::{Reader, ReaderBuilder};
pub use wire::Version;
pub use wire::attribute::Attribute;
pub use writer::{FinishError, Writer};
