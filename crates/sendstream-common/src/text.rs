//! Text for messages: names without control characters, errors, sizes.

use std::io;

use btrfs_sendstream::inspect::push_escaped_unless;

/// Appends `bytes` as they are except for control characters, so that a name
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

/// A number of bytes in a unit that suits it.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = 0;
    // In tenths, rounded down.
    let mut tenths = u128::from(count) * 10 / 1024;
    if count < 1024 {
        return format!("{count} bytes");
    }
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    let name = UNITS.get(unit).unwrap_or(&"KiB");
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn bytes_have_a_fitting_unit() {
        for (count, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1 << 20, "1.0 MiB"),
            (9_000_000_000_000, "8.1 TiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }
}
