//! Rules for what a btrfs send stream may do.
//!
//! Who may send a stream to a host can, without rules, place set-user-ID programs
//! and device nodes there, fill the disk, and take any free name. [`Rules`] say
//! what a stream may do; a [`Checker`] judges each command of it before it is
//! applied.
//!
//! ```
//! use btrfs_accept::{Checker, Rules};
//! use btrfs_receive::btrfs_sendstream::{Command, StreamPath, SubvolumeName, Uuid, Version, Writer};
//! use btrfs_receive::{DirectoryDestination, OnError, Options, Receiver};
//!
//! let rules = Rules::parse(
//!     r#"
//!     names = ["home.*"]
//!     setuid = "drop"
//!
//!     [limits]
//!     data = "10G"
//!     "#,
//! )?;
//!
//! let mut writer = Writer::new(Vec::new());
//! writer.header(Version::V1)?;
//! writer.command(&Command::Subvol {
//!     name: SubvolumeName::parse(&b"root.monday"[..])?,
//!     uuid: Uuid::from_u128(1),
//!     ctransid: 7,
//! })?;
//! writer.command(&Command::<&[u8]>::End)?;
//! let stream = writer.finish()?;
//!
//! let directory = tempfile::tempdir()?;
//! let destination = DirectoryDestination::open(&directory)?;
//! let options = Options::new().with_on_error(OnError::Delete);
//! let mut receiver = Receiver::with_options(destination, options);
//! let mut checker = Checker::new(rules);
//! let error = receiver
//!     .receive_filtered(&stream[..], &mut checker, &mut ())
//!     .unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "stream 1, command 1, byte 17: subvol \"root.monday\": refused by the rule names: \
//!      the name matches none of the patterns"
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is up to the caller
//!
//! - [`Options::on_error`](btrfs_receive::Options::on_error) is to be
//!   [`Delete`](btrfs_receive::OnError::Delete), or the incomplete subvolume stays
//!   after a refusal: writable and without received UUID.
//! - [`Rules::sources`] is for
//!   [`BtrfsDestinationBuilder::jail`](btrfs_receive::BtrfsDestinationBuilder::jail).
//! - [`Limits::idle`] is for the reader of the input: a filter cannot end a read.
//!
//! # What the rules do not look at
//!
//! They judge the stream. What an incremental stream inherits from its parent was
//! judged when the parent was received, or was made on this host: the rule `sources`
//! says where parents may lie.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::cast_possible_truncation,
        clippy::indexing_slicing,
        clippy::unwrap_used
    )
)]

mod checker;
mod refusal;
mod rules;
mod values;

pub use checker::Checker;
pub use refusal::{Refusal, Rule};
pub use rules::{Action, Limits, Owners, Query, Rules, RulesError, Serve, Xattrs};
pub use values::{Ids, Pattern, Quantity, ValueError};
