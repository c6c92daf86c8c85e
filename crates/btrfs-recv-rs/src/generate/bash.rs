//! Completions for bash.

use crate::args::option::{Hint, Opt};
use crate::args::table::options;

pub(super) fn text() -> String {
    let mut cases = String::new();
    for option in options() {
        let words = match option.hint {
            // The word behind one with an optional value is something else.
            _ if option.value.is_none() || option.optional => continue,
            Hint::Nothing => ":".to_owned(),
            Hint::File => "_btrfs_recv_rs_reply -f".to_owned(),
            Hint::Directory => "_btrfs_recv_rs_reply -d".to_owned(),
            Hint::Words(words) => format!("_btrfs_recv_rs_reply -W '{}'", words.join(" ")),
        };
        let pattern = names(option).join(" | ");
        cases += &format!(
            "        {pattern})\n            {words}\n            return\n            ;;\n"
        );
    }
    let all: Vec<_> = options().flat_map(names).collect();
    TEMPLATE
        .replace("@CASES@\n", &cases)
        .replace("@NAMES@", &all.join(" "))
}

fn names(option: &Opt) -> Vec<String> {
    let short = option.short.map(|short| format!("-{}", char::from(short)));
    let long = option.long.map(|long| format!("--{long}"));
    short.into_iter().chain(long).collect()
}

const TEMPLATE: &str = r#"# bash completion for btrfs-recv-rs                        -*- shell-script -*-
# Made from the table of options; see CONTRIBUTING.md.

_btrfs_recv_rs_reply() {
    mapfile -t COMPREPLY < <(compgen "$@" -- "$cur")
}

_btrfs_recv_rs() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    # bash takes the sign in --name=value for a word of its own.
    if [[ $cur == "=" ]]; then
        cur=
    elif [[ $prev == "=" ]] && ((COMP_CWORD > 1)); then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    case $prev in
@CASES@
    esac
    if [[ $cur == -* ]]; then
        compopt +o filenames
        _btrfs_recv_rs_reply -W '@NAMES@'
    else
        _btrfs_recv_rs_reply -f
    fi
}

complete -o filenames -F _btrfs_recv_rs btrfs-recv-rs btrfs-receive
"#;
