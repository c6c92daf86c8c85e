//! Completions for zsh.

use crate::args::option::{Hint, Opt};
use crate::args::table::options;

pub(super) fn text() -> String {
    let specs: String = options()
        .flat_map(specs)
        .map(|spec| format!("    '{}' \\\n", spec.replace('\'', r"'\''")))
        .collect();
    format!(
        "#compdef btrfs-recv-rs btrfs-receive\n\
         # Made from the table of options; see CONTRIBUTING.md.\n\
         \n\
         _arguments -s -S \\\n\
         {specs}    '*:path:_files'\n"
    )
}

/// What `_arguments` is told: each name may stand more than once.
fn specs(option: &'static Opt) -> impl Iterator<Item = String> {
    let value = match (option.value, option.hint) {
        (None, _) => String::new(),
        (Some(name), hint) => {
            let optional = if option.optional { ":" } else { "" };
            format!("{optional}:{}:{}", escaped(name), action(hint))
        }
    };
    let explained = format!("[{}]{value}", escaped(option.help));
    let takes_value = option.value.is_some();
    let short = option.short.map(|short| {
        let attached = if takes_value { "+" } else { "" };
        format!("*-{}{attached}", char::from(short))
    });
    let long = option.long.map(|long| {
        let attached = match (takes_value, option.optional) {
            (false, _) => "",
            (true, false) => "=",
            (true, true) => "=-",
        };
        format!("*--{long}{attached}")
    });
    let names = short.into_iter().chain(long);
    names.map(move |name| format!("{name}{explained}"))
}

fn action(hint: Hint) -> String {
    match hint {
        Hint::Nothing => " ".to_owned(),
        Hint::File => "_files".to_owned(),
        Hint::Directory => "_files -/".to_owned(),
        Hint::Words(words) => format!("({})", words.join(" ")),
    }
}

/// Brackets and colons divide the parts.
fn escaped(text: &str) -> String {
    text.replace('[', r"\[")
        .replace(']', r"\]")
        .replace(':', r"\:")
}
