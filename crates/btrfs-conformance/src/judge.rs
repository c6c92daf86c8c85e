//! Compares a report with what the set expects.

use std::collections::BTreeSet;

use btrfs_sendstream::CommandKind;
use serde_json::{Value, json};

use crate::defect::CLASSES;
use crate::report::{Content, End, Item, Report};
use crate::set::{Fault, Stream};
use crate::value;

/// What the reports of an adapter do not have, because its parser does not say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Omits(BTreeSet<String>);

impl Omits {
    /// Reads the list of an adapter's description.
    ///
    /// # Errors
    ///
    /// A text that names what may not be in the list.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let names = names.into_iter().map(|name| {
            if is_known(name) {
                Ok(name.to_owned())
            } else {
                Err(format!("\"{name}\" is nothing that a report can omit"))
            }
        });
        Ok(Self(names.collect::<Result<_, _>>()?))
    }

    /// The list.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    fn has_command(&self, item: &Item) -> bool {
        let kind = item.number().and_then(CommandKind::from_number);
        match kind {
            Some(kind) => self.has(&format!("command:{kind}")),
            None => self.has("header"),
        }
    }

    fn has_attribute(&self, number: u16, name: &str) -> bool {
        let kind = CommandKind::from_number(number);
        self.has(&format!("attribute:{name}"))
            || kind.is_some_and(|kind| self.has(&format!("attribute:{kind}.{name}")))
    }
}

fn is_known(name: &str) -> bool {
    let is_command = |name: &str| CommandKind::ALL.iter().any(|kind| kind.name() == name);
    let is_attribute = |name: &str| value::attribute(name).is_some();
    match name.split_once(':') {
        None => [
            "offset",
            "header",
            "class",
            "sha256",
            "nanoseconds",
            "items-before-error",
            "second-stream",
        ]
        .contains(&name),
        Some(("command", command)) => is_command(command),
        Some(("class", class)) => CLASSES.iter().any(|(known, _)| *known == class),
        Some(("attribute", attribute)) => match attribute.split_once('.') {
            None => is_attribute(attribute),
            Some((command, attribute)) => is_command(command) && is_attribute(attribute),
        },
        Some(_) => false,
    }
}

/// How a report compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As expected.
    Right,
    /// As expected, except for what the adapter omits.
    Partly,
    /// The stream is refused as it has to be, but not at that place, for that reason, or
    /// not after those items.
    Otherwise(String),
    /// A stream is accepted that a parser may refuse.
    Permitted,
    /// Not as expected.
    Wrong(String),
    /// The adapter crashed, took too long, or did not print a report.
    Crashed(String),
    /// What is expected is among what the adapter omits.
    NotExpressible,
}

/// Compares a report.
pub fn judge(stream: &Stream, omits: &Omits, report: &Report) -> Verdict {
    if let End::Crashed(why) = &report.end {
        return Verdict::Crashed(why.clone());
    }
    let mut expected = Expected {
        items: stream.report.items.iter().collect(),
        end: &stream.report.end,
        omits,
        omitted: false,
    };
    if !expected.shorten() {
        return Verdict::NotExpressible;
    }
    match expected.end {
        End::Complete | End::Crashed(_) => expected.of_complete(report),
        End::Error { offset, class } => expected.of_error(stream, report, *offset, class),
    }
}

struct Expected<'a> {
    items: Vec<&'a Item>,
    end: &'a End,
    omits: &'a Omits,
    /// Whether something was not compared.
    omitted: bool,
}

impl Expected<'_> {
    /// Removes what the adapter omits. `false` if nothing comparable is left.
    fn shorten(&mut self) -> bool {
        if let End::Error {
            class: Some(class), ..
        } = self.end
            && self.omits.has(&format!("class:{class}"))
        {
            return false;
        }
        if self.omits.has("second-stream")
            && let Some(end) = self.items.iter().position(|item| item.is_end())
        {
            if matches!(self.end, End::Error { .. }) {
                return false;
            }
            self.omitted |= end + 1 < self.items.len();
            self.items.truncate(end + 1);
        }
        let before = self.items.len();
        self.items.retain(|item| !self.omits.has_command(item));
        self.omitted |= self.items.len() < before;
        true
    }

    fn verdict(&self) -> Verdict {
        if self.omitted {
            Verdict::Partly
        } else {
            Verdict::Right
        }
    }

    fn of_complete(&mut self, report: &Report) -> Verdict {
        if let End::Error { offset, class } = &report.end {
            return Verdict::Wrong(format!("refused: {}", error(*offset, class.as_deref())));
        }
        match self.compare(&report.items) {
            Ok(()) => self.verdict(),
            Err(why) => Verdict::Wrong(why),
        }
    }

    fn of_error(
        &mut self,
        stream: &Stream,
        report: &Report,
        offset: Option<u64>,
        class: &Option<String>,
    ) -> Verdict {
        let End::Error {
            offset: found_offset,
            class: found_class,
        } = &report.end
        else {
            return self.of_accepted(stream, report);
        };
        if self.omits.has("items-before-error") {
            self.omitted = true;
        } else if let Err(why) = self.compare(&report.items) {
            return Verdict::Otherwise(why);
        }
        let omits = self.omits;
        self.omitted |= omits.has("offset") || omits.has("class");
        let same_offset = omits.has("offset") || *found_offset == offset;
        let mut classes = class.iter().chain(&stream.or);
        let same_class =
            omits.has("class") || classes.any(|class| found_class.as_ref() == Some(class));
        if same_offset && same_class {
            self.verdict()
        } else {
            let found = error(*found_offset, found_class.as_deref());
            let expected = error(offset, class.as_deref());
            Verdict::Otherwise(format!("{found} instead of {expected}"))
        }
    }

    fn of_accepted(&mut self, stream: &Stream, report: &Report) -> Verdict {
        if stream.fault == (Fault::Parser { must: true }) {
            return Verdict::Wrong("accepted".to_owned());
        }
        // What follows the place is no longer compared.
        let before = report.items.get(..self.items.len());
        match self.compare(before.unwrap_or(&report.items)) {
            Ok(()) => Verdict::Permitted,
            Err(why) => Verdict::Wrong(why),
        }
    }

    /// # Errors
    ///
    /// The first difference.
    fn compare(&mut self, found: &[Item]) -> Result<(), String> {
        let mut omitted = false;
        for (index, (expected, found)) in self.items.iter().zip(found).enumerate() {
            compare_item(expected, found, self.omits, &mut omitted)
                .map_err(|why| format!("item {}: {why}", index + 1))?;
        }
        self.omitted |= omitted;
        if self.items.len() != found.len() {
            let (expected, found) = (self.items.len(), found.len());
            return Err(format!("{found} items instead of {expected}"));
        }
        Ok(())
    }
}

fn error(offset: Option<u64>, class: Option<&str>) -> String {
    let class = class.unwrap_or("an error");
    match offset {
        Some(offset) => format!("{class} at byte {offset}"),
        None => class.to_owned(),
    }
}

fn compare_item(
    expected: &Item,
    found: &Item,
    omits: &Omits,
    omitted: &mut bool,
) -> Result<(), String> {
    if omits.has("offset") {
        *omitted = true;
    } else if expected.offset != found.offset {
        return Err(format!(
            "offset {} instead of {}",
            json!(found.offset),
            json!(expected.offset)
        ));
    }
    match (&expected.content, &found.content) {
        (
            Content::Command { number, attributes },
            Content::Command {
                number: found_number,
                attributes: found,
            },
        ) if number == found_number => {
            for (name, expected) in attributes {
                if omits.has_attribute(*number, name) {
                    *omitted = true;
                    continue;
                }
                let Some(found) = found.get(name) else {
                    return Err(format!("no attribute {name}"));
                };
                if !same_value(expected, found, omits, omitted) {
                    return Err(format!("{name} {found} instead of {expected}"));
                }
            }
            let more = found.iter().find(|(name, value)| {
                !attributes.contains_key(*name)
                    && !omits.has_attribute(*number, name)
                    && !is_default(name, value)
            });
            match more {
                Some((name, _)) => Err(format!("an attribute {name} that is not there")),
                None => Ok(()),
            }
        }
        (Content::Header(expected), Content::Header(found)) if expected == found => Ok(()),
        _ => Err(format!(
            "{} instead of {}",
            describe(&found.content),
            describe(&expected.content)
        )),
    }
}

fn describe(content: &Content) -> String {
    match content {
        Content::Header(version) => format!("a header of version {version}"),
        Content::Command { number, .. } => match CommandKind::from_number(*number) {
            Some(kind) => kind.to_string(),
            None => format!("command {number}"),
        },
    }
}

/// Two attributes may be absent, which means 0: a parser may say so.
fn is_default(name: &str, value: &Value) -> bool {
    ["compression", "encryption"].contains(&name) && *value == 0
}

fn same_value(expected: &Value, found: &Value, omits: &Omits, omitted: &mut bool) -> bool {
    let omits_key = |key| omits.has(key) && expected.get(key).is_some();
    let key = ["sha256", "nanoseconds"]
        .into_iter()
        .find(|key| omits_key(key));
    match (key, expected.as_object(), found.as_object()) {
        (Some(key), Some(expected), Some(found)) => {
            *omitted = true;
            let others = expected.iter().filter(|(name, _)| *name != key);
            let mut others = others.map(|(name, value)| found.get(name) == Some(value));
            others.all(|same| same)
        }
        _ => expected == found,
    }
}
