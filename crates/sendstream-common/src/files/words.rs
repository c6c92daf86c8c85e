//! Paths and commands in messages, and paths as users write them.

use std::ffi::OsStr;

use btrfs_sendstream::{Bytes, CommandRef, PathError, StreamPath};

use super::names::Made;
use crate::text::escaped;

/// What an inode is, for messages.
pub fn described(made: &Made) -> String {
    match made {
        Made::Symlink(target) => format!("a symbolic link to {}", escaped(target)),
        Made::File => "a regular file".to_owned(),
        other => format!("a {}", other.kind().name()),
    }
}

/// A path in a subvolume as users write it: slashes around it do no harm, nor does `./`
/// before it, and `.` is the root.
///
/// # Errors
/// The path cannot be one of a stream.
pub fn user_path(text: &OsStr) -> Result<StreamPath, PathError> {
    let mut bytes = text.as_encoded_bytes();
    while let Some(rest) = bytes
        .strip_prefix(b"/")
        .or_else(|| bytes.strip_prefix(b"./"))
        .or_else(|| bytes.strip_suffix(b"/"))
    {
        bytes = rest;
    }
    if bytes == b"." {
        bytes = b"";
    }
    StreamPath::parse(Bytes::copy_from_slice(bytes))
}

/// A path for messages: the root is `.`.
pub fn shown(path: &[u8]) -> String {
    if path.is_empty() {
        ".".to_owned()
    } else {
        escaped(path)
    }
}

/// The command and its path, for messages.
pub fn operation(command: &CommandRef<'_>) -> String {
    let name = command.kind().name();
    match command.path() {
        Some(path) => format!("{name} {}", escaped(path.as_bytes())),
        None => name.to_owned(),
    }
}
