//! What btrfs and plain directories have in common: open files, their data,
//! and how inodes are created.

pub(super) mod create;
pub(super) mod data;
pub(super) mod encoded;
pub(super) mod flags;
pub(super) mod lock;
pub(super) mod open_file;
pub(super) mod plain;
pub(super) mod root_names;
pub(super) mod times;
mod zeros;
