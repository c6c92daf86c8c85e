//! What the tests on real btrfs share. Never published.
//!
//! A test file says `harness = false` in its `Cargo.toml` and reads:
//!
//! ```no_run
//! use btrfs_testkit::{LoopFilesystem, Sender, assert_same_tree, reference_receive, subvolume, test};
//!
//! fn a_full_stream_arrives() {
//!     let (from, to) = (LoopFilesystem::new(), LoopFilesystem::new());
//!     subvolume::create(&from.path().join("work"));
//!     std::fs::write(from.path().join("work/file"), b"hello").unwrap();
//!     let snapshot = subvolume::snapshot_read_only(&from.path().join("work"), &from.path().join("snap"));
//!     reference_receive(&Sender::new(&snapshot).version(2).to_vec(), to.path()).unwrap();
//!     assert_same_tree(&snapshot, &to.path().join("snap"));
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     btrfs_testkit::main([test!(a_full_stream_arrives)])
//! }
//! ```
//!
//! [`main`] runs every test in one private mount namespace, so that even a
//! killed test leaves no mount and no loop device. On a machine without root
//! or without btrfs the tests are reported as ignored, with the reason; with
//! `BTRFS_TESTS=required` in the environment they fail instead.
//!
//! `BTRFS_TESTS_DIR` names the directory for images and mount points; without
//! it they lie on a tmpfs of their own. What goes wrong in the kit itself
//! panics: a test has no use for a typed error about its scaffolding.

pub mod corpus;
pub mod document;
pub mod documented;
mod example;
pub mod files;
mod filesystem;
mod harness;
pub mod history;
mod inputs;
#[cfg(feature = "manual")]
mod manual;
mod namespace;
mod process;
mod property;
pub mod raw;
mod sample;
mod site;
mod stream;
pub mod subvolume;
mod tool;
mod tree;
pub mod unit;

pub use example::{examples_of, run_example};
pub use filesystem::{Builder, LoopFilesystem, Mount};
pub use harness::{Test, main};
pub use inputs::fuzz_inputs;
#[cfg(feature = "manual")]
pub use manual::Manual;
pub use namespace::{enter as enter_namespace, scratch_dir};
pub use process::{output_with_input, run_with_input};
pub use property::property_runner;
pub use sample::{Sample, SentSample};
pub use site::Site;
pub use stream::{Sender, reference_receive};
pub use tree::{
    Compared, Content, Difference, Entry, Kind, Time, Tree, Walk, assert_same_tree,
    assert_same_tree_in, compare,
};
