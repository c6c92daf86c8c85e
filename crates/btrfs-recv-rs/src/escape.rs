//! Names and values as text that stays on its line.

/// Appends `bytes` as `btrfs receive --dump` writes them: C escapes for the
/// usual control characters, a backslash before space and backslash, three
/// octal digits for every other byte that is not printable ASCII, whatever
/// the locale.
pub(crate) fn push_dump(out: &mut Vec<u8>, bytes: &[u8]) {
    push_with(out, bytes, |byte| {
        matches!(byte, b'!'..=b'~') && byte != b'\\'
    });
}

/// Appends `bytes` as they are but for control characters, so that a name
/// can neither begin a line nor drive a terminal. Programs read names back
/// from these lines: everything else has to stay raw.
pub(crate) fn push_message(out: &mut Vec<u8>, bytes: &[u8]) {
    push_with(out, bytes, |byte| !byte.is_ascii_control());
}

/// Copies runs of plain bytes and escapes what lies between them.
fn push_with(out: &mut Vec<u8>, bytes: &[u8], plain: impl Fn(u8) -> bool) {
    let mut rest = bytes;
    loop {
        let run = rest
            .iter()
            .position(|&byte| !plain(byte))
            .unwrap_or(rest.len());
        let (clean, tail) = rest.split_at(run);
        out.extend_from_slice(clean);
        let Some((&byte, tail)) = tail.split_first() else {
            return;
        };
        push_escape(out, byte);
        rest = tail;
    }
}

fn push_escape(out: &mut Vec<u8>, byte: u8) {
    let letter = match byte {
        0x07 => b'a',
        0x08 => b'b',
        0x1b => b'e',
        0x0c => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x0b => b'v',
        b' ' => b' ',
        b'\\' => b'\\',
        other => {
            let digit = |shift: u8| b'0' + ((other >> shift) & 7);
            out.extend_from_slice(&[b'\\', digit(6), digit(3), digit(0)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', letter]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(push: fn(&mut Vec<u8>, &[u8]), bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        push(&mut out, bytes);
        out
    }

    #[test]
    fn dump_escapes_all_but_printable_ascii() {
        for (bytes, text) in [
            (&b"plain-._~!\"'"[..], &b"plain-._~!\"'"[..]),
            (b"a b\\c", b"a\\ b\\\\c"),
            (b"\x07\x08\x1b\x0c\n\r\t\x0b", b"\\a\\b\\e\\f\\n\\r\\t\\v"),
            (b"\0\x01\x7f\x80\xff", b"\\000\\001\\177\\200\\377"),
            (b"", b""),
        ] {
            assert_eq!(escaped(push_dump, bytes), text);
        }
    }

    #[test]
    fn messages_escape_control_characters_only() {
        assert_eq!(
            escaped(push_message, b"A\nERROR: x \x1b[2J \\n \xc3\xbc"),
            b"A\\nERROR: x \\e[2J \\n \xc3\xbc"
        );
    }
}
