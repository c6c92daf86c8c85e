//! Text for messages: names without control characters, errors, sizes.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

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

/// Prints a message of `program` on standard error. A failure to do so cannot
/// be reported.
pub fn say(program: &str, text: &str) {
    let mut out = format!("{program}: ").into_bytes();
    for (index, line) in text.lines().enumerate() {
        if index > 0 {
            out.push(b'\n');
        }
        push_message(&mut out, line.as_bytes());
    }
    out.push(b'\n');
    let _ = io::stderr().write_all(&out);
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

/// Words as a shell takes them back: bash, zsh, and the POSIX shell of 2024.
pub fn quoted(words: &[OsString]) -> String {
    let words: Vec<_> = words.iter().map(|word| quoted_word(word)).collect();
    words.join(" ")
}

fn quoted_word(word: &OsStr) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    match word.to_str() {
        Some(word) if !word.is_empty() && word.chars().all(plain) => word.to_owned(),
        Some(word) if !word.contains(char::is_control) => {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
        // Understood by bash, zsh and the POSIX shell of 2024.
        _ => {
            let mut quoted = String::from("$'");
            for byte in word.as_bytes() {
                match byte {
                    b'\'' | b'\\' => quoted.extend(['\\', char::from(*byte)]),
                    b' '..=b'~' => quoted.push(char::from(*byte)),
                    // All three digits: none of what follows is taken in.
                    other => quoted.push_str(&format!("\\{other:03o}")),
                }
            }
            quoted.push('\'');
            quoted
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn words_are_quoted_for_a_shell() {
        let words = ["a", "b c", "it's", ""].map(OsString::from);
        assert_eq!(quoted(&words), r"a 'b c' 'it'\''s' ''");
    }

    #[test]
    fn what_is_no_text_is_quoted_too() {
        let words = [OsStr::from_bytes(b"a\n1\xff"), OsStr::new("it's\t\\")];
        let words = words.map(OsStr::to_owned);
        assert_eq!(quoted(&words), r"$'a\0121\377' $'it\'s\011\\'");
    }
}
