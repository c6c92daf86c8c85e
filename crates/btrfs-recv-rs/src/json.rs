//! JSON for machines, an object to a line.

use std::fmt::{Display, Write as _};
use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// `value` as a line. Characters that terminals act on are escaped.
pub(crate) fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = Vec::new();
    // Writing to a vector does not fail, and all keys are text.
    let _ = value.serialize(&mut Serializer::with_formatter(&mut line, OneLine));
    line.push(b'\n');
    line
}

/// Compact, with what [`push_string`] escapes escaped.
struct OneLine;

impl Formatter for OneLine {
    /// Characters below space and quotes do not come here.
    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(|it| matches!(it, '\x7f'..='\u{9f}')) {
            let (clean, control) = rest.split_at(at);
            let mut characters = control.chars();
            let character = characters.next().map_or(0, u32::from);
            write!(writer, "{clean}\\u{character:04x}")?;
            rest = characters.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

/// An object that is being put together.
#[derive(Debug, Default)]
pub(crate) struct Object(String);

impl Object {
    /// Adds text.
    pub(crate) fn text(&mut self, key: &str, value: &str) -> &mut Self {
        self.key(key);
        push_string(&mut self.0, value);
        self
    }

    /// Adds bytes: as text if they are UTF-8, else as hexadecimal digits
    /// under the key with `_hex` appended.
    pub(crate) fn bytes(&mut self, key: &str, value: &[u8]) -> &mut Self {
        match std::str::from_utf8(value) {
            Ok(text) => self.text(key, text),
            Err(_) => self.hex(&format!("{key}_hex"), value),
        }
    }

    /// Adds bytes as hexadecimal digits.
    pub(crate) fn hex(&mut self, key: &str, value: &[u8]) -> &mut Self {
        self.key(key);
        self.0.push('"');
        for byte in value {
            push(&mut self.0, format_args!("{byte:02x}"));
        }
        self.0.push('"');
        self
    }

    /// Adds a number.
    pub(crate) fn number(&mut self, key: &str, value: impl Into<i128>) -> &mut Self {
        self.key(key);
        push(&mut self.0, value.into());
        self
    }

    /// The object as a line.
    pub(crate) fn line(&self) -> String {
        format!("{{{}}}\n", self.0)
    }

    fn key(&mut self, key: &str) {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        push_string(&mut self.0, key);
        self.0.push(':');
    }
}

fn push_string(text: &mut String, value: &str) {
    text.push('"');
    for character in value.chars() {
        match character {
            '"' | '\\' => {
                text.push('\\');
                text.push(character);
            }
            // Control characters, and those that terminals act on.
            '\0'..='\x1f' | '\x7f'..='\u{9f}' => {
                push(text, format_args!("\\u{:04x}", u32::from(character)));
            }
            _ => text.push(character),
        }
    }
    text.push('"');
}

fn push(text: &mut String, value: impl Display) {
    // Writing to a string does not fail.
    let _ = write!(text, "{value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_json_whatever_the_bytes() {
        let mut object = Object::default();
        object
            .text("a", "quote \" slash \\ line\n")
            .bytes("b", "é".as_bytes())
            .bytes("c", b"\xff\0")
            .number("d", -5);
        assert_eq!(
            object.line(),
            "{\"a\":\"quote \\\" slash \\\\ line\\u000a\",\"b\":\"é\",\"c_hex\":\"ff00\",\"d\":-5}\n"
        );
    }
}
