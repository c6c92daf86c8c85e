//! The manual page: a template, filled with synopsis and options.

use crate::args::option::Opt;
use crate::args::table::{MODES, SECTIONS};

const TEMPLATE: &str = include_str!("manual.8");

/// The page, in the man macros of roff.
pub(super) fn text() -> String {
    TEMPLATE
        .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
        .replace("@SYNOPSIS@\n", &synopsis())
        .replace("@OPTIONS@\n", &options())
}

/// A line for each mode.
fn synopsis() -> String {
    let mut text = String::new();
    for info in MODES {
        if !text.is_empty() {
            text += ".br\n";
        }
        text += ".B btrfs\\-recv\\-rs\n.RB [ receive ]\n";
        if let Some(option) = info.option {
            text += &format!(".B {}\n", literal(&format!("--{option}")));
        }
        text += ".RI [ options ]\n";
        if let Some(operands) = info.operands.shown() {
            text += &format!(".I {operands}\n");
        }
    }
    text
}

fn options() -> String {
    let mut text = String::new();
    for section in SECTIONS {
        text += &format!(".SS {}\n", section.title);
        for option in section.options {
            text += &format!(".TP\n{}\n", label(option));
            let manual = if option.manual.is_empty() {
                format!("{}.", capitalised(option.help))
            } else {
                option.manual.to_owned()
            };
            let paragraphs: Vec<_> = manual.lines().map(paragraph).collect();
            text += &paragraphs.join(".IP\n");
        }
    }
    text
}

/// `-E N, --max-errors=N`, names bold and values in italics.
fn label(option: &Opt) -> String {
    let value = |between: &str| match option.value {
        Some(value) if option.optional => format!("[{between}\\fI{value}\\fR]"),
        Some(value) => format!("{between}\\fI{value}\\fR"),
        None => String::new(),
    };
    let short = option.short.map(|short| {
        let name = literal(&format!("-{}", char::from(short)));
        format!("\\fB{name}\\fR{}", value(" "))
    });
    let long = option.long.map(|long| {
        let name = literal(&format!("--{long}"));
        format!("\\fB{name}\\fR{}", value("="))
    });
    let names: Vec<_> = short.into_iter().chain(long).collect();
    names.join(", ")
}

/// A paragraph of the table in roff, a sentence to a line.
fn paragraph(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['`', '<']) {
        let (plain, marked) = rest.split_at(at);
        out += &plain_text(plain);
        let (close, font) = if marked.starts_with('`') {
            ('`', "\\fB")
        } else {
            ('>', "\\fI")
        };
        let marked = &marked[1..];
        let (inner, after) = marked.split_once(close).unwrap_or((marked, ""));
        out += &format!("{font}{}\\fR", literal(inner));
        rest = after;
    }
    out += &plain_text(rest);
    let lines: Vec<_> = out.replace(". ", ".\n").lines().map(protected).collect();
    lines.join("\n") + "\n"
}

/// What is to be typed: its hyphens are minus signs.
fn literal(text: &str) -> String {
    plain_text(text).replace('-', "\\-")
}

fn plain_text(text: &str) -> String {
    text.replace('\\', "\\e")
}

/// A line that roff does not take for a request.
fn protected(line: &str) -> String {
    if line.starts_with(['.', '\'']) {
        format!("\\&{line}")
    } else {
        line.to_owned()
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase());
    first.into_iter().flatten().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_become_fonts() {
        assert_eq!(
            paragraph("Take <PATH>, as `--parent` does. 'a\\b' is no value."),
            "Take \\fIPATH\\fR, as \\fB\\-\\-parent\\fR does.\n\\&'a\\eb' is no value.\n"
        );
    }

    #[test]
    fn every_mark_in_the_table_is_closed() {
        for option in SECTIONS.iter().flat_map(|section| section.options) {
            let count = |mark| option.manual.matches(mark).count();
            assert_eq!(count('`') % 2, 0, "{option:?}");
            assert_eq!(count('<'), count('>'), "{option:?}");
        }
    }

    #[test]
    fn nothing_of_the_template_is_left() {
        assert!(!text().contains('@'));
    }
}
