//! Values of the options that `btrfs receive` does not have.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use btrfs_accept::Rules;
use btrfs_receive::{OnError, XattrPattern};
use btrfs_sendstream::SubvolumeName;
use sendstream_common::unpack::Decompress;
use uuid::Uuid;

use super::UsageError;
use crate::accept;

/// A subvolume to clone from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CloneSource {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// The UUID in the stream that it stands for, if not one of its own.
    pub(crate) stands_for: Option<Uuid>,
}

/// `--exclude-xattr`.
pub(super) fn pattern(value: OsString) -> Result<XattrPattern, UsageError> {
    XattrPattern::parse(value.as_bytes())
        .map_err(|error| UsageError::unusable("--exclude-xattr", value, error))
}

/// `--name`.
pub(super) fn name(value: OsString) -> Result<SubvolumeName, UsageError> {
    SubvolumeName::parse(value.as_bytes().to_vec().into())
        .map_err(|error| UsageError::unusable("--name", value, error))
}

/// `--on-error`.
pub(super) fn on_error(value: OsString) -> Result<OnError, UsageError> {
    match value.as_bytes() {
        b"keep" => Ok(OnError::Keep),
        b"delete" => Ok(OnError::Delete),
        _ => Err(UsageError::unusable(
            "--on-error",
            value,
            "it must be keep or delete",
        )),
    }
}

/// `--zeros`: whether they become holes.
pub(super) fn zeros(value: OsString) -> Result<bool, UsageError> {
    match value.as_bytes() {
        b"keep" => Ok(false),
        b"holes" => Ok(true),
        _ => Err(UsageError::unusable(
            "--zeros",
            value,
            "it must be keep or holes",
        )),
    }
}

/// `--accept`.
pub(super) fn accept(value: OsString) -> Result<Rules, UsageError> {
    accept::read(value.as_ref()).map_err(|why| UsageError::unusable("--accept", value, why))
}

/// `--decompress`: without a value, it is up to the input.
pub(super) fn decompress(value: OsString) -> Result<Decompress, UsageError> {
    if value.is_empty() {
        return Ok(Decompress::Auto);
    }
    // What is no UTF-8 is no word, either.
    let word = value.to_str().unwrap_or("?");
    word.parse()
        .map_err(|why| UsageError::unusable("--decompress", value.clone(), why))
}

/// `--parent`.
pub(super) fn parent(value: OsString) -> Result<PathBuf, UsageError> {
    if value.is_empty() {
        return Err(UsageError::unusable("--parent", value, "the path is empty"));
    }
    Ok(value.into())
}

/// `--clone-source`: a path, or a UUID, a colon and a path.
pub(super) fn clone_source(value: OsString) -> Result<CloneSource, UsageError> {
    let whole = value.as_bytes();
    let uuid_and_path = whole.split_at_checked(36).and_then(|(uuid, rest)| {
        let uuid = Uuid::try_parse_ascii(uuid).ok()?;
        Some((Some(uuid), rest.strip_prefix(b":")?))
    });
    let (stands_for, path) = uuid_and_path.unwrap_or((None, whole));
    if path.is_empty() {
        let why = "the path is empty";
        return Err(UsageError::unusable("--clone-source", value, why));
    }
    Ok(CloneSource {
        path: OsString::from_vec(path.to_vec()).into(),
        stands_for,
    })
}
