//! Naming errors as the manifest of the corpus does.

use std::io::ErrorKind;

use btrfs_receive::{Cause, ReceiveError, StopReason};
use btrfs_testkit::corpus::Place;

/// The error as the manifest of the corpus names it, and its place.
pub(crate) fn describe(error: &ReceiveError) -> (String, Place) {
    let (name, position) = match (&error.reason, &error.first_failure) {
        (StopReason::Stream(error), _) => {
            ("stream".to_owned(), error.position().unwrap_or_default())
        }
        (_, Some(failure)) => (cause_name(&failure.cause), failure.at),
        (reason, None) => (reason.to_string(), Default::default()),
    };
    let place = Place {
        stream: position.stream,
        command: position.command,
        offset: position.offset,
    };
    (name, place)
}

fn cause_name(cause: &Cause) -> String {
    if let Cause::System { call, error } = cause {
        if error.kind() == ErrorKind::AlreadyExists && call.starts_with("BTRFS_IOC_") {
            // What the model in memory says of a subvolume's name.
            return "NameTaken".to_owned();
        }
        return format!("System.{:?}", error.kind());
    }
    if let Cause::SourceNotFound { .. } | Cause::NotExtracted { .. } = cause {
        // What destinations say that have no candidates to list.
        return "NoSource".to_owned();
    }
    let debug = format!("{cause:?}");
    let name = debug.split([' ', '(']).next();
    name.unwrap_or_default().to_owned()
}
