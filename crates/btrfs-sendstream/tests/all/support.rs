//! What tests of the two corpora share.

use btrfs_sendstream::{ErrorKind, Malformed};

/// The variants of the error, as the manifests name them.
pub(crate) fn name(kind: &ErrorKind) -> String {
    let debug = format!("{kind:?}");
    let mut name = debug
        .split([' ', ')'])
        .next()
        .unwrap_or_default()
        .replace('(', ".");
    if let ErrorKind::Malformed(Malformed::Path { reason, .. }) = kind {
        name = format!("{name}.{reason:?}");
    }
    name
}
