//! JSON for machines, an object to a line.

use std::io;
use std::path::Path;

use btrfs_sendstream::inspect::VerifyReport;
use btrfs_sendstream::serial;
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// `value` as a line. Characters that terminals act on are escaped.
pub fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = Vec::new();
    // Writing to a vector does not fail, and all keys are text.
    let _ = write_line(&mut line, value);
    line
}

/// Writes `value` as [`line()`] does, without holding all of it.
///
/// # Errors
/// Those of the writer.
pub fn write_line(mut out: impl io::Write, value: &impl Serialize) -> io::Result<()> {
    value.serialize(&mut Serializer::with_formatter(&mut out, OneLine))?;
    out.write_all(b"\n")
}

/// A line with an `event`.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Event<'a, T> {
    /// Its name.
    pub event: &'a str,
    /// The keys beside it.
    #[serde(flatten)]
    pub fields: T,
}

/// An error or a warning.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Message<'a> {
    /// Its text.
    pub message: &'a str,
}

/// The report on a receive.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Received<'a, R> {
    /// Whether every subvolume is complete.
    pub success: bool,
    /// Its keys stand beside.
    #[serde(flatten)]
    pub report: &'a R,
}

/// A verified input.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Verified<'a> {
    #[serde(flatten)]
    file: File<'a>,
    #[serde(flatten)]
    report: &'a VerifyReport,
}

impl<'a> Verified<'a> {
    /// The report on a file, or on standard input.
    pub fn new(path: Option<&'a Path>, report: &'a VerifyReport) -> Self {
        Self {
            file: File::new(path),
            report,
        }
    }
}

/// A file, by the name it was given; none for standard input.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct File<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<serial::Text<'a>>,
}

impl<'a> File<'a> {
    /// The file of a name.
    pub fn new(path: Option<&'a Path>) -> Self {
        let name = path.map(|path| path.as_os_str().as_encoded_bytes());
        Self {
            file: name.map(serial::Text),
        }
    }
}

/// Compact, and nothing in it drives a terminal.
struct OneLine;

impl Formatter for OneLine {
    /// Characters below space, quotes and backslashes do not come here.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_json_whatever_the_text() {
        let text = "quote \" slash \\ line\n \u{9b}2J \x7f é";
        assert_eq!(
            line(&text),
            "\"quote \\\" slash \\\\ line\\n \\u009b2J \\u007f é\"\n".as_bytes()
        );
    }
}
