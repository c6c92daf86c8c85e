//! What `docs/format.md` shows, for tests that hold it against the code.

use std::path::Path;

fn format_md() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/format.md");
    std::fs::read_to_string(path).unwrap()
}

/// Two hexadecimal digits each, with blanks between them.
fn bytes(text: &str) -> impl Iterator<Item = u8> {
    text.split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
}

/// The stream that is explained byte by byte.
pub fn stream() -> Vec<u8> {
    let text = format_md();
    let (_, text) = text.split_once("## A stream, byte by byte").unwrap();
    let block = text.split("```").nth(1).unwrap();
    block
        .lines()
        .flat_map(|line| bytes(line.split('#').next().unwrap()))
        .collect()
}

/// The commands beside which there are checksums, by what they are said to be.
pub fn checksums() -> Vec<(String, Vec<u8>)> {
    let text = format_md();
    let (_, text) = text.split_once("| check | value |").unwrap();
    let (table, _) = text.split_once("\n\n").unwrap();
    let rows = table.lines().filter_map(|row| {
        let (name, value) = row.trim_matches(['|', ' ']).split_once(" | ")?;
        let value = value.strip_prefix('`')?.trim_end_matches('`');
        Some((name.to_owned(), bytes(value).collect()))
    });
    rows.collect()
}
