//! `--help`, and what is said when the command line is wrong.

use super::option::Opt;
use super::table::{MODES, SECTIONS, options};

/// Where the explanations begin, and where lines end.
const COLUMN: usize = 23;
const WIDTH: usize = 79;

const ABOUT: &str = "
Receive the subvolumes of a btrfs send stream.

Each subvolume is created in PATH, a directory on a mounted btrfs. When all of
it is on disk, it gets its received UUID and becomes read-only. An incomplete
subvolume stays writable and has no received UUID.
";

const FEATURES: &str = "
Compression support: zlib, lzo, zstd
Features: stream versions 1, 2 and 3, fsverity
";

/// A line for each way to call the command.
pub(crate) fn usage() -> String {
    let mut text = String::new();
    for (index, info) in MODES.iter().enumerate() {
        text += if index == 0 { "usage:" } else { "      " };
        text += " btrfs-recv-rs [receive]";
        if let Some(option) = info.option {
            text += " --";
            text += option;
            let named = |opt: &&Opt| opt.long == Some(option);
            if let Some(value) = options().find(named).and_then(|opt| opt.value) {
                text += "=";
                text += value;
            }
        }
        text += " [options]";
        if let Some(operands) = info.operands.shown() {
            text += " ";
            text += operands;
        }
        text += "\n";
    }
    text
}

/// Usage, and every option.
pub(crate) fn help() -> String {
    let mut text = usage() + ABOUT;
    for section in SECTIONS {
        text += "\n";
        text += section.title;
        text += ":\n";
        for option in section.options {
            explain(&mut text, option);
        }
    }
    text + FEATURES
}

/// Adds an option and its explanation, broken into lines.
fn explain(text: &mut String, option: &Opt) {
    let label = format!("    {}", label(option));
    *text += &label;
    let mut column = label.len();
    if column >= COLUMN {
        *text += "\n";
        column = 0;
    }
    let mut first = true;
    for word in option.help.split(' ') {
        if !first && column + 1 + word.len() > WIDTH {
            *text += "\n";
            column = 0;
            first = true;
        }
        let gap = if first { COLUMN - column } else { 1 };
        text.extend(std::iter::repeat_n(' ', gap));
        *text += word;
        column += gap + word.len();
        first = false;
    }
    *text += "\n";
}

/// `-E, --max-errors N`
fn label(option: &Opt) -> String {
    let short = option.short.map(|short| format!("-{}", char::from(short)));
    let long = option.long.map(|long| format!("--{long}"));
    let names: Vec<_> = short.into_iter().chain(long).collect();
    let value = option.value.map(|value| {
        if option.optional {
            format!("[={value}]")
        } else {
            format!(" {value}")
        }
    });
    names.join(", ") + &value.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_shows_every_option_in_lines_of_80_columns() {
        let text = help();
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        for option in SECTIONS.iter().flat_map(|section| section.options) {
            let line = format!("\n    {}", label(option));
            assert!(text.contains(&line), "{line}");
        }
    }

    #[test]
    fn explanations_stand_in_a_column() {
        let mut text = String::new();
        let long = "a long explanation that does not fit into what is left of the line";
        explain(
            &mut text,
            &Opt::new(super::super::id::Id::Help, "help", long),
        );
        explain(
            &mut text,
            &Opt::new(super::super::id::Id::Help, "longer-than-column", "short"),
        );
        assert_eq!(
            text,
            "    --help             a long explanation that does not fit into what is left\n\
             \x20                      of the line\n\
             \x20   --longer-than-column\n\
             \x20                      short\n"
        );
    }
}
