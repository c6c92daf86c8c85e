//! Completions for fish.

use crate::args::option::{Hint, Opt};
use crate::args::table::options;

pub(super) fn text() -> String {
    let lines: String = options().map(line).collect();
    format!(
        "# fish completion for btrfs-recv-rs\n\
         # Made from the table of options; see CONTRIBUTING.md.\n\
         \n\
         {lines}\
         \n\
         complete -c btrfs-receive -w btrfs-recv-rs\n"
    )
}

fn line(option: &Opt) -> String {
    let mut line = "complete -c btrfs-recv-rs".to_owned();
    if let Some(short) = option.short {
        line += &format!(" -s {}", char::from(short));
    }
    if let Some(long) = option.long {
        line += &format!(" -l {long}");
    }
    line += &match option.hint {
        _ if option.value.is_none() => String::new(),
        Hint::Words(words) if option.optional => format!(" -f -a '{}'", words.join(" ")),
        Hint::Nothing => " -x".to_owned(),
        Hint::File => " -r -F".to_owned(),
        Hint::Directory => " -x -a '(__fish_complete_directories)'".to_owned(),
        Hint::Words(words) => format!(" -x -a '{}'", words.join(" ")),
    };
    let help = option.help.replace('\\', r"\\").replace('\'', r"\'");
    line + &format!(" -d '{help}'\n")
}
