//! Text for people, in which names cannot do harm.

use std::io;

use btrfs_sendstream::inspect::push_escaped_unless;

/// Appends `bytes` as they are but for control characters, so that a name
/// can neither begin a line nor drive a terminal. Programs read names back
/// from these lines: everything else has to stay raw.
pub fn push_message(out: &mut Vec<u8>, bytes: &[u8]) {
    push_escaped_unless(out, bytes, |byte| !byte.is_ascii_control());
}

/// Text that stays on its line; what is no UTF-8 is replaced.
pub fn escaped(bytes: &[u8]) -> String {
    let mut text = Vec::new();
    push_message(&mut text, bytes);
    String::from_utf8_lossy(&text).into_owned()
}

/// What `strerror` says, without the number that [`io::Error`] adds.
pub fn strerror(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(end) if error.raw_os_error().is_some() => text[..end].to_owned(),
        _ => text,
    }
}
