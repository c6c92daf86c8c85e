//! A report on a stream: a JSON object to a line, for each header and command, and a
//! last one for the end.

use std::collections::BTreeMap;

use btrfs_sendstream::CommandKind;
use serde_json::{Map, Value, json};

use crate::value;

/// A header or a command.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Bytes of input before it, if the report has them.
    pub offset: Option<u64>,
    /// What it is.
    pub content: Content,
}

/// What an item is.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A stream header with this version.
    Header(u64),
    /// A command.
    Command {
        /// The number of the command.
        number: u16,
        /// The values of its attributes, by name.
        attributes: BTreeMap<String, Value>,
    },
}

/// How a report ends.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// The input is complete.
    Complete,
    /// The input has a defect.
    Error {
        /// Where the header or command begins that has it, in bytes.
        offset: Option<u64>,
        /// Its class.
        class: Option<String>,
    },
    /// The adapter said neither; why.
    Crashed(String),
}

/// All lines.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// In the order of the input.
    pub items: Vec<Item>,
    /// The last line.
    pub end: End,
}

impl Item {
    /// Whether it is END.
    pub fn is_end(&self) -> bool {
        self.number() == Some(CommandKind::End.number())
    }

    /// The number of a command.
    pub fn number(&self) -> Option<u16> {
        match &self.content {
            Content::Header(_) => None,
            Content::Command { number, .. } => Some(*number),
        }
    }

    /// The line.
    pub fn to_line(&self) -> String {
        let offset = match self.offset {
            Some(offset) => format!("\"offset\": {offset}, "),
            None => String::new(),
        };
        match &self.content {
            Content::Header(version) => {
                format!("{{\"type\": \"header\", {offset}\"version\": {version}}}")
            }
            Content::Command { number, attributes } => {
                let kind = CommandKind::from_number(*number);
                let name = json!(kind.map(CommandKind::name));
                let attributes = json!(attributes);
                format!(
                    "{{\"type\": \"command\", {offset}\"number\": {number}, \"name\": {name}, \
                     \"attributes\": {attributes}}}"
                )
            }
        }
    }
}

impl End {
    /// The line.
    pub fn to_line(&self) -> String {
        match self {
            Self::Complete => "{\"type\": \"complete\"}".to_owned(),
            Self::Error { offset, class } => format!(
                "{{\"type\": \"error\", \"offset\": {}, \"class\": {}}}",
                json!(offset),
                json!(class)
            ),
            Self::Crashed(why) => why.clone(),
        }
    }
}

/// Reads the lines of a report. Whatever breaks the form ends it as a crash.
pub fn parse(text: &[u8]) -> Report {
    let mut items = Vec::new();
    let lines = text.split(|&byte| byte == b'\n');
    let mut lines = lines.filter(|line| !line.trim_ascii().is_empty());
    let end = loop {
        let Some(line) = lines.next() else {
            break End::Crashed("no last line".to_owned());
        };
        match parse_line(line) {
            Ok(Line::Item(item)) => items.push(item),
            Ok(Line::End(end)) if lines.next().is_none() => break end,
            Ok(Line::End(_)) => break End::Crashed("a line after the last".to_owned()),
            Err(why) => {
                let line = String::from_utf8_lossy(line);
                let start: String = line.chars().take(100).collect();
                break End::Crashed(format!("{why}: {start}"));
            }
        }
    };
    Report { items, end }
}

enum Line {
    Item(Item),
    End(End),
}

fn parse_line(line: &[u8]) -> Result<Line, String> {
    let line: Value = serde_json::from_slice(line).map_err(|_| "no JSON object")?;
    let line = line.as_object().ok_or("no JSON object")?;
    let offset = match line.get("offset") {
        None | Some(Value::Null) => None,
        Some(offset) => Some(offset.as_u64().ok_or("an offset that is no number")?),
    };
    let item = |content| Ok(Line::Item(Item { offset, content }));
    match line.get("type").and_then(Value::as_str) {
        Some("header") => {
            let version = line.get("version").and_then(Value::as_u64);
            item(Content::Header(
                version.ok_or("a header without a version")?,
            ))
        }
        Some("command") => item(Content::Command {
            number: command_number(line)?,
            attributes: attributes(line)?,
        }),
        Some("complete") => Ok(Line::End(End::Complete)),
        Some("error") => {
            let class = line.get("class").and_then(Value::as_str);
            Ok(Line::End(End::Error {
                offset,
                class: class.map(str::to_owned),
            }))
        }
        _ => Err("a type that does not exist".to_owned()),
    }
}

/// A command may be named by its number, its name, or both.
fn command_number(line: &Map<String, Value>) -> Result<u16, String> {
    let number = line.get("number").and_then(Value::as_u64);
    let name = line.get("name").and_then(Value::as_str);
    let named = name.map(|name| {
        let mut all = CommandKind::ALL.iter();
        all.find(|kind| kind.name() == name)
            .map(|kind| u64::from(kind.number()))
            .ok_or("a command name that does not exist")
    });
    let number = match (number, named.transpose()?) {
        (Some(number), Some(named)) if number != named => {
            return Err("a command whose name and number differ".to_owned());
        }
        (Some(number), _) | (None, Some(number)) => number,
        (None, None) => return Err("a command without a number".to_owned()),
    };
    u16::try_from(number).map_err(|_| "a command number over 65535".to_owned())
}

fn attributes(line: &Map<String, Value>) -> Result<BTreeMap<String, Value>, String> {
    let Some(attributes) = line.get("attributes").and_then(Value::as_object) else {
        return Err("a command without attributes".to_owned());
    };
    let attributes = attributes.iter().map(|(name, value)| {
        let attribute = value::attribute(name).ok_or("an attribute that does not exist")?;
        Ok((name.clone(), value::canonical(attribute, value.clone())))
    });
    attributes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_are_written() {
        let report = Report {
            items: vec![
                Item {
                    offset: Some(0),
                    content: Content::Header(2),
                },
                Item {
                    offset: Some(17),
                    content: Content::Command {
                        number: 11,
                        attributes: [("path".to_owned(), Value::from("a"))].into(),
                    },
                },
            ],
            end: End::Error {
                offset: Some(40),
                class: Some("truncated".to_owned()),
            },
        };
        let mut text: String = report
            .items
            .iter()
            .map(|item| format!("{}\n", item.to_line()))
            .collect();
        text += &report.end.to_line();
        assert_eq!(parse(text.as_bytes()), report);
    }

    #[test]
    fn whatever_else_is_a_crash() {
        let complete = r#"{"type":"complete"}"#;
        for text in [
            "",
            "Traceback (most recent call last):",
            "[]",
            "{}",
            r#"{"type":"header"}"#,
            r#"{"type":"command","attributes":{}}"#,
            r#"{"type":"command","number":21}"#,
            r#"{"type":"command","number":65557,"attributes":{}}"#,
            r#"{"type":"command","number":1,"name":"end","attributes":{}}"#,
            r#"{"type":"command","name":"END","attributes":{}}"#,
            r#"{"type":"command","number":11,"attributes":{"name":"a"}}"#,
            r#"{"type":"header","version":1,"offset":"0"}"#,
            &format!("{complete}\n{complete}"),
            "\u{0}",
        ] {
            let text = format!("{text}\n");
            assert!(
                matches!(parse(text.as_bytes()).end, End::Crashed(_)),
                "{text}"
            );
        }
        assert_eq!(parse(complete.as_bytes()).end, End::Complete);
    }

    #[test]
    fn a_name_is_as_good_as_a_number() {
        for line in [
            r#"{"type":"command","name":"end","attributes":{}}"#,
            r#"{"type":"command","number":21,"attributes":{}}"#,
        ] {
            assert!(parse(line.as_bytes()).items.first().unwrap().is_end());
        }
    }
}
