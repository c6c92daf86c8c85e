//! Names and values as text that stays on its line.

/// Appends `bytes` as `btrfs receive --dump` writes them: C escapes for the
/// usual control characters, a backslash before space and backslash, three
/// octal digits for every other byte that is not printable ASCII, whatever
/// the locale.
pub fn push_escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    push_escaped_unless(out, bytes, |byte| {
        matches!(byte, b'!'..=b'~') && byte != b'\\'
    });
}

/// Appends `bytes`, and escapes as [`push_escaped`] does those that are not
/// `plain`.
pub fn push_escaped_unless(out: &mut Vec<u8>, bytes: &[u8], plain: impl Fn(u8) -> bool) {
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

    fn escaped(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        push_escaped(&mut out, bytes);
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
            assert_eq!(escaped(bytes), text);
        }
    }

    #[test]
    fn what_is_plain_may_be_chosen() {
        let mut out = Vec::new();
        let text = b"A\nERROR: x \x1b[2J \\n \xc3\xbc";
        push_escaped_unless(&mut out, text, |byte| !byte.is_ascii_control());
        assert_eq!(out, b"A\\nERROR: x \\e[2J \\n \xc3\xbc");
    }
}
