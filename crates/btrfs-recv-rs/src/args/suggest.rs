//! Suggestions for unknown options.

use super::getopt::OptionError;
use super::table::{MOVED, options};

/// What people look for under another name: this is what a receive does.
const RESTORING: [&str; 3] = ["restore", "receive", "import"];

/// A line that helps with an option that is not understood; without an end.
pub(crate) fn hint(error: &OptionError) -> Option<String> {
    let OptionError::Unrecognized(option) = error else {
        return None;
    };
    let name = option.to_str()?.strip_prefix("--")?;
    let (name, _) = name.split_once('=').unwrap_or((name, ""));
    if RESTORING.contains(&name) {
        return Some(
            "To receive a stream, no option is needed: btrfs-recv-rs -f STREAM PATH".to_owned(),
        );
    }
    let own = options().filter_map(|option| Some((option.long?, None)));
    let moved = MOVED.iter().map(|&(option, instead)| {
        let long = option.strip_prefix("--").unwrap_or(option);
        (long, Some(instead))
    });
    let similar = own
        .chain(moved)
        .filter_map(|(long, instead)| Some((unlikeness(name, long)?, long, instead)));
    let (_, long, instead) = similar.min()?;
    Some(match instead {
        None => format!("Did you mean '--{long}'?"),
        Some(instead) => format!("Did you mean '{instead}'?"),
    })
}

/// How little two names have in common; `None` if that is not enough.
fn unlikeness(given: &str, known: &str) -> Option<usize> {
    let changes = distance(given.as_bytes(), known.as_bytes());
    let shared = given.bytes().zip(known.bytes());
    let shared = shared.take_while(|(one, other)| one == other).count();
    // A slip or two, or another ending.
    let is_slip = changes <= 2 && changes * 3 <= given.len();
    let is_ending = shared >= 4 && shared + 2 >= given.len();
    (is_slip || is_ending).then_some(changes)
}

/// How many letters have to be put in, taken out, changed, or swapped with
/// their neighbour.
fn distance(one: &[u8], other: &[u8]) -> usize {
    let (mut before, mut last): (Vec<usize>, Vec<usize>) =
        (Vec::new(), (0..=other.len()).collect());
    let mut previous = None;
    for (row, &letter) in one.iter().enumerate() {
        let mut line = vec![row + 1];
        let mut left = None;
        for (column, &wanted) in other.iter().enumerate() {
            let at =
                |line: &[usize], column: usize| line.get(column).copied().unwrap_or(usize::MAX);
            let changed = at(&last, column) + usize::from(letter != wanted);
            let mut least = changed
                .min(at(&last, column + 1) + 1)
                .min(at(&line, column) + 1);
            if previous == Some(wanted) && left == Some(letter) && column > 0 {
                least = least.min(at(&before, column - 1).saturating_add(1));
            }
            line.push(least);
            left = Some(wanted);
        }
        before = std::mem::replace(&mut last, line);
        previous = Some(letter);
    }
    last.last().copied().unwrap_or(one.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_slips() {
        for (one, other, expected) in [
            ("verify", "verify", 0),
            ("verfy", "verify", 1),
            ("vreify", "verify", 1),
            ("verifyy", "verify", 1),
            ("", "abc", 3),
            ("abc", "", 3),
            ("ab", "ba", 1),
            ("size", "json", 4),
        ] {
            assert_eq!(
                distance(one.as_bytes(), other.as_bytes()),
                expected,
                "{one}"
            );
        }
    }

    #[test]
    fn slips_are_recognised_and_nothing_else() {
        let hint = |option: &str| hint(&OptionError::Unrecognized(option.into()));
        for given in ["--verfy", "--verfy=x"] {
            assert_eq!(hint(given).unwrap(), "Did you mean 'sendstream verify'?");
        }
        for (given, meant) in [
            ("--resume", "resumable"),
            ("--dry_run", "dry-run"),
            ("--dryrun", "dry-run"),
            ("--atomc", "atomic"),
            ("--stauts", "status"),
            ("--decompres=xz", "decompress"),
            ("--uncompress", "decompress"),
        ] {
            let expected = format!("Did you mean '--{meant}'?");
            assert_eq!(hint(given).as_deref(), Some(&*expected), "{given}");
        }
        for given in ["--x", "--no-such-option", "--", "--zz", "--checksum"] {
            assert_eq!(hint(given), None, "{given}");
        }
        assert!(hint("--restore").unwrap().contains("-f STREAM PATH"));
    }
}
