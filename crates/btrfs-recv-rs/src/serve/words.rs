//! The words of a command line that another host sent.

/// A command line that cannot be split into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotWords {
    /// It has a byte that means something to a shell, where no quotes take that
    /// away.
    #[error("the command contains '{}', which is not supported", .0.escape_ascii())]
    Special(u8),
    /// A quote is not closed, or nothing follows a backslash.
    #[error("the command ends within quotes")]
    Unfinished,
}

/// Splits `line` into words as a shell does, as long as that takes no more than
/// spaces and quotes: everything else that a shell would act on is refused.
pub(super) fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, NotWords> {
    let mut words = Vec::new();
    // Of the word that was begun.
    let mut word: Option<Vec<u8>> = None;
    let mut bytes = line.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' => words.extend(word.take()),
            b'\'' => loop {
                let word = word.get_or_insert_default();
                match bytes.next().ok_or(NotWords::Unfinished)? {
                    b'\'' => break,
                    byte => word.push(plain(byte)?),
                }
            },
            b'"' => loop {
                let word = word.get_or_insert_default();
                match bytes.next().ok_or(NotWords::Unfinished)? {
                    b'"' => break,
                    byte @ (b'$' | b'`' | b'\\' | b'!') => return Err(NotWords::Special(byte)),
                    byte => word.push(plain(byte)?),
                }
            },
            b'\\' => {
                let byte = bytes.next().ok_or(NotWords::Unfinished)?;
                word.get_or_insert_default().push(plain(byte)?);
            }
            byte if is_ordinary(byte) => word.get_or_insert_default().push(byte),
            byte => return Err(NotWords::Special(byte)),
        }
    }
    words.extend(word);
    Ok(words)
}

/// A byte that quotes have taken the meaning from. Control characters have none,
/// but no request needs them.
fn plain(byte: u8) -> Result<u8, NotWords> {
    if byte.is_ascii_control() {
        return Err(NotWords::Special(byte));
    }
    Ok(byte)
}

/// What means itself everywhere in a word.
fn is_ordinary(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/._-+=:,@%".contains(&byte) || !byte.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn words(line: &str) -> Vec<String> {
        let words = split(line.as_bytes()).unwrap().into_iter();
        words.map(|it| String::from_utf8(it).unwrap()).collect()
    }

    #[test]
    fn words_are_those_of_a_shell() {
        for (line, expected) in [
            ("", &[][..]),
            ("  a  b ", &["a", "b"]),
            ("'/a b/'", &["/a b/"]),
            ("'/it'\\''s'", &["/it's"]),
            ("\"a b\"c''", &["a bc"]),
            ("'' x", &["", "x"]),
            ("a\\ b", &["a b"]),
            ("'$(x); `y` && z|<>*?~#'", &["$(x); `y` && z|<>*?~#"]),
            ("/\u{e4}", &["/\u{e4}"]),
        ] {
            assert_eq!(words(line), expected, "{line}");
        }
    }

    /// Each as part of an unquoted word, and most within double quotes.
    #[test]
    fn what_a_shell_would_act_on_is_refused() {
        for byte in b"$`;&|<>(){}[]*?~#!^\n\r\t\0\x7f\x1b" {
            let line = [b"btrfs receive /a", &[*byte][..], b"b"].concat();
            assert_eq!(split(&line), Err(NotWords::Special(*byte)), "{byte}");
        }
        for line in [
            "\"$x\"", "\"`x`\"", "\"\\\"\"", "\"!x\"", "'a\nb'", "\"a\nb\"", "\\\n",
        ] {
            assert!(split(line.as_bytes()).is_err(), "{line}");
        }
        for line in ["'", "\"", "a'", "\\", "'a' \"b"] {
            assert_eq!(split(line.as_bytes()), Err(NotWords::Unfinished), "{line}");
        }
    }

    /// What is accepted has the words that a shell would make of it, and nothing
    /// else happens.
    #[test]
    fn a_shell_agrees() {
        use proptest::prelude::*;
        let pieces = [
            " ", "  ", "'", "\"", "\\", "a", "/b", "-e", "=", "$", "`", ";", "*", "~", "{a,b}",
            "#", "%", "@:,+", "\u{e4}", "\\'", "'\\''", "\"'\"", "'\"'", "''", "!", "(", "[x]",
        ];
        let line = proptest::collection::vec(proptest::sample::select(pieces.to_vec()), 0..12);
        let accepted = std::cell::Cell::new(0);
        let result = btrfs_testkit::property_runner(600).run(&line, |pieces| {
            let line = pieces.concat();
            let Ok(words) = split(line.as_bytes()) else {
                return Ok(());
            };
            accepted.set(accepted.get() + 1);
            let output = std::process::Command::new("sh")
                .arg("-c")
                .arg(format!("printf '%s\\0' . {line}"))
                .output()
                .unwrap();
            prop_assert!(output.status.success() && output.stderr.is_empty());
            let mut expected = b".\0".to_vec();
            for word in words {
                expected.extend(word);
                expected.push(0);
            }
            prop_assert_eq!(output.stdout, expected, "{}", line);
            Ok(())
        });
        result.unwrap();
        assert!(accepted.get() > 50, "{}", accepted.get());
    }
}
