//! Manual pages: a template, filled from the description of the command line. Made by
//! a test of each command, which also keeps the page in the repository current.

use std::path::Path;

use clap::{Arg, ArgAction, Command};

/// Set to write the page instead of comparing it, as for the command that receives.
const UPDATE: &str = "UPDATE_GENERATED";

/// A manual page to be made.
#[derive(Debug)]
pub struct Manual<'a> {
    /// The command, which has subcommands.
    pub command: Command,
    /// The page in the man macros of roff. `@VERSION@`, and lines with
    /// `@SYNOPSIS@`, `@COMMANDS@` and `@OPTIONS@`, are replaced.
    pub template: &'a str,
    /// The version in its last line.
    pub version: &'a str,
    /// A subcommand with only those options that others have too. They are explained
    /// once, where the template has `@OPTIONS@`.
    pub typical: Option<&'a str>,
}

impl Manual<'_> {
    /// Compares the page with the file `name` in `docs`, or writes it there. Does nothing
    /// in a published crate, which comes without it. `manifest_dir` is that of the
    /// crate.
    ///
    /// # Panics
    ///
    /// If the page is another one, or the template is not filled.
    pub fn check(self, manifest_dir: &str, name: &str) {
        let docs = Path::new(manifest_dir).join("../../docs");
        if !docs.is_dir() {
            return;
        }
        let (page, bin) = (docs.join(name), self.command.get_name().to_owned());
        let text = self.text();
        assert!(!text.contains('@'), "something of the template is left");
        if std::env::var_os(UPDATE).is_some() {
            std::fs::write(&page, &text).unwrap();
        }
        let there = std::fs::read_to_string(&page).unwrap_or_default();
        assert!(
            there == text,
            "{} is not current; {UPDATE}=1 cargo test --workspace --bin {bin} renews it",
            page.display()
        );
    }

    /// The page.
    fn text(self) -> String {
        let mut command = self.command;
        command.build();
        let program = command.get_name().to_owned();
        let common: Vec<&Arg> = self
            .typical
            .map(|name| command.find_subcommand(name).unwrap().get_arguments())
            .map_or_else(Vec::new, Iterator::collect);
        // Every command has this one.
        let is_common = |arg: &Arg| {
            matches!(arg.get_action(), ArgAction::Help | ArgAction::HelpShort)
                || common.iter().any(|other| other.get_id() == arg.get_id())
        };
        let (mut synopsis, mut commands) = (String::new(), String::new());
        for sub in command.get_subcommands() {
            if sub.get_name() == "help" {
                continue;
            }
            if !synopsis.is_empty() {
                synopsis += ".br\n";
            }
            let name = sub.get_name();
            synopsis += &format!(".B {} {name}\n.RI [ options ]\n", literal(&program));
            synopsis += &sub.get_positionals().map(operand).collect::<String>();
            let needed = sub.get_arguments().filter(|arg| arg.is_required_set());
            synopsis += &needed.filter_map(needed_option).collect::<String>();
            commands += &format!(".SS {name}\n{}", about(sub));
            let own = sub.get_arguments().filter(|arg| !is_common(arg));
            let own = own.filter(|arg| !arg.is_positional());
            commands += &own.map(option).collect::<String>();
        }
        let options: String = common
            .into_iter()
            .filter(|arg| !arg.is_positional())
            .map(option)
            .collect();
        self.template
            .replace("@VERSION@", self.version)
            .replace("@SYNOPSIS@\n", &synopsis)
            .replace("@COMMANDS@\n", &commands)
            .replace("@OPTIONS@\n", &options)
    }
}

/// An operand in the synopsis.
fn operand(arg: &Arg) -> String {
    let names = arg.get_value_names();
    let name = names.and_then(|names| names.first()).unwrap();
    let many = matches!(arg.get_action(), ArgAction::Append);
    match (arg.is_required_set(), many) {
        (true, true) => format!(".IR {name} ...\n"),
        (true, false) => format!(".I {name}\n"),
        (false, true) => format!(".RI [ {name} ]...\n"),
        (false, false) => format!(".RI [ {name} ]\n"),
    }
}

/// An option in the synopsis that cannot be left out.
fn needed_option(arg: &Arg) -> Option<String> {
    let name = arg.get_long()?;
    let value = arg.get_value_names().and_then(|names| names.first())?;
    let name = literal(&format!("--{name}"));
    Some(format!(".BI {name} \" {value}\"\n"))
}

fn about(command: &Command) -> String {
    let text = command.get_long_about().or(command.get_about()).unwrap();
    paragraphs(&text.to_string(), ".PP\n")
}

/// `-o FILE, --output=FILE` and what it means.
fn option(arg: &Arg) -> String {
    let value = arg.get_action().takes_values().then(|| {
        let names = arg.get_value_names().unwrap_or_default();
        format!("\\fI{}\\fR", names.join(" "))
    });
    let name = |name: String, between: &str| {
        let value = value.iter().map(|value| format!("{between}{value}"));
        format!("\\fB{}\\fR{}", literal(&name), value.collect::<String>())
    };
    let short = arg.get_short().map(|short| name(format!("-{short}"), " "));
    let long = arg.get_long().map(|long| name(format!("--{long}"), "="));
    let names: Vec<_> = short.into_iter().chain(long).collect();
    let mut help = arg
        .get_long_help()
        .or(arg.get_help())
        .unwrap_or_else(|| panic!("{arg:?} is not explained"))
        .to_string();
    if !help.ends_with('.') {
        help.push('.');
    }
    let possible: Vec<_> = arg
        .get_possible_values()
        .iter()
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    if value.is_some() && !possible.is_empty() {
        help += &format!(" One of {}.", possible.join(", "));
    }
    if let [default] = arg.get_default_values()
        && value.is_some()
    {
        help += &format!(" Default: {}", default.display());
    }
    format!(".TP\n{}\n{}", names.join(", "), paragraphs(&help, ".IP\n"))
}

/// Paragraphs of help in roff, a sentence to a line.
fn paragraphs(text: &str, between: &str) -> String {
    let all: Vec<_> = text.split("\n\n").map(paragraph).collect();
    all.join(between)
}

/// What is between backticks is bold.
fn paragraph(text: &str) -> String {
    let mut out = String::new();
    for (index, part) in text.replace('\n', " ").split('`').enumerate() {
        match index % 2 {
            0 => out += &part.replace('\\', "\\e"),
            _ => out += &format!("\\fB{}\\fR", literal(part)),
        }
    }
    if !out.ends_with(['.', ':']) {
        out.push('.');
    }
    let lines: Vec<_> = out.replace(". ", ".\n").lines().map(protected).collect();
    lines.join("\n") + "\n"
}

/// What is to be typed: its hyphens are minus signs.
fn literal(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

/// A line that roff does not take for a request.
fn protected(line: &str) -> String {
    if line.starts_with(['.', '\'']) {
        format!("\\&{line}")
    } else {
        line.to_owned()
    }
}
