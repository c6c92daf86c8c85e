//! The manual page: a template, filled from the description of the command
//! line. Made by a test, which also keeps the one in the repository current.

use clap::{Arg, Command, CommandFactory};

use crate::args::Args;

const TEMPLATE: &str = include_str!("manual.1");

/// The command with the options that every other one has too.
const TYPICAL: &str = "cat";

/// The page, in the man macros of roff.
fn text() -> String {
    let mut command = Args::command();
    command.build();
    let common: Vec<&Arg> = command
        .find_subcommand(TYPICAL)
        .unwrap()
        .get_arguments()
        .collect();
    let is_common = |arg: &Arg| common.iter().any(|other| other.get_id() == arg.get_id());
    let (mut synopsis, mut commands) = (String::new(), String::new());
    for sub in command.get_subcommands() {
        if sub.get_name() == "help" {
            continue;
        }
        if !synopsis.is_empty() {
            synopsis += ".br\n";
        }
        let operand = sub.get_positionals().next();
        let names = operand.and_then(|operand| operand.get_value_names());
        let name = names.and_then(|names| names.first()).unwrap();
        let operand = if operand.is_some_and(Arg::is_required_set) {
            format!(".IR {name} ...")
        } else {
            format!(".RI [ {name} ]...")
        };
        synopsis += &format!(
            ".B sendstream {}\n.RI [ options ]\n{operand}\n",
            sub.get_name()
        );
        commands += &format!(".SS {}\n{}", sub.get_name(), about(sub));
        let own = sub.get_arguments().filter(|arg| !is_common(arg));
        let own = own.filter(|arg| !arg.is_positional());
        commands += &own.map(option).collect::<String>();
    }
    let options: String = common
        .into_iter()
        .filter(|arg| !arg.is_positional())
        .map(option)
        .collect();
    TEMPLATE
        .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
        .replace("@SYNOPSIS@\n", &synopsis)
        .replace("@COMMANDS@\n", &commands)
        .replace("@OPTIONS@\n", &options)
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

/// Set to write the page instead of comparing it, as for the other command.
const UPDATE: &str = "UPDATE_GENERATED";

#[test]
fn the_page_in_the_repository_is_current() {
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    if !docs.is_dir() {
        // A published crate comes without it.
        return;
    }
    let (page, text) = (docs.join("sendstream.1"), text());
    assert!(!text.contains('@'), "something of the template is left");
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&page, &text).unwrap();
    }
    let there = std::fs::read_to_string(&page).unwrap_or_default();
    assert!(
        there == text,
        "{} is not current; {UPDATE}=1 cargo test -p sendstream manual renews it",
        page.display()
    );
}
