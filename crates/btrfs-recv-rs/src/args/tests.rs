//! Command lines, and what they ask for.

use std::ffi::OsString;
use std::path::Path;

use super::option::Mode;
use super::table::options;
use super::*;

use sendstream_common::unpack::Format;

fn parse_line(line: &str) -> Result<Request, UsageError> {
    parse(line.split_whitespace().map(OsString::from), false)
}

fn receive(line: &str) -> Receive {
    match parse_line(line) {
        Ok(Request::Receive(receive)) => receive,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn the_verb_is_optional_and_may_be_the_program() {
    for line in [
        "btrfs-recv-rs /d",
        "btrfs-recv-rs receive /d",
        "btrfs-recv-rs btrfs-receive /d",
        "/usr/bin/btrfs-receive /d",
        "receive /d",
    ] {
        assert_eq!(receive(line).destination, Path::new("/d"), "{line}");
    }
    assert_eq!(
        receive("/bin/btrfs-receive receive").destination,
        Path::new("receive")
    );
}

#[test]
fn reads_what_callers_write() {
    let btrbk = receive("btrfs-receive --max-errors=0 /dir/");
    assert_eq!((btrbk.max_errors, btrbk.verbosity), (0, 1));
    let snbk = receive("x receive -- /dir");
    assert!(!snbk.stop_at_end && snbk.input.is_none());
    assert!(receive("x receive DIR -e").stop_at_end);
    let xfstests = receive("x receive -vvvv --force -f FILE MNT");
    assert!(xfstests.force_decompress);
    assert_eq!(xfstests.verbosity, 3);
    assert_eq!(xfstests.input, Some("FILE".into()));
    let after = receive("x MNT -f FILE -q");
    assert_eq!((after.verbosity, after.input), (0, Some("FILE".into())));
    let scripts = receive("x --chroot --max-errors 1 -m / D");
    assert!(scripts.confine_sources);
    assert_eq!(scripts.root_mount, Some("/".into()));
}

#[test]
fn the_last_of_quiet_and_verbose_counts() {
    for (line, level) in [
        ("x D", 1),
        ("x -q D", 0),
        ("x -v D", 2),
        ("x -q -v D", 1),
        ("x -v -q D", 0),
        ("x -qvv D", 2),
        ("x --verbose -v D", 3),
        ("x -vvvvvvvv D", 3),
    ] {
        assert_eq!(receive(line).verbosity, level, "{line}");
    }
}

#[test]
fn max_errors_is_decimal() {
    for (value, expected) in [("-E5", 5), ("--max=0", 0), ("--max-errors=", 0)] {
        assert_eq!(receive(&format!("x {value} D")).max_errors, expected);
    }
    for value in ["0x10", "-1", "+1", "1k", "99999999999999999999", "\u{661}"] {
        let error = parse_line(&format!("x -E {value} D")).unwrap_err();
        assert!(matches!(error, UsageError::Value { .. }), "{value}");
    }
}

#[test]
fn an_empty_file_name_is_standard_input() {
    let args = ["x", "-f", "", "D"].map(OsString::from);
    let Ok(Request::Receive(receive)) = parse(args, false) else {
        panic!("refused");
    };
    assert_eq!(receive.input, None);
}

#[test]
fn a_format_may_be_named() {
    for (line, expected) in [
        ("x D", Decompress::No),
        ("x --decompress D", Decompress::Auto),
        ("x --decompress= D", Decompress::Auto),
        ("x --decompress=auto D", Decompress::Auto),
        ("x --decompress=none D", Decompress::No),
        (
            "x --decompress --decompress=xz D",
            Decompress::Only(Format::Xz),
        ),
        ("x --decomp=zstd D", Decompress::Only(Format::Zstd)),
    ] {
        let Ok(Request::Receive(receive)) = parse_line(line) else {
            panic!("{line}");
        };
        assert_eq!(receive.decompress, expected, "{line}");
        assert_eq!(receive.destination, Path::new("D"));
    }
    assert!(parse_line("x --decompress=bzip2 D").is_err());
    // The word behind it is no value.
    assert!(parse_line("x --decompress zstd D").is_err());
    assert!(parse_line("x --status --decompress D").is_err());
}

#[test]
fn dump_takes_no_path() {
    assert_eq!(parse_line("x --dump"), Ok(Request::Dump(Dump::default())));
    assert_eq!(
        parse_line("x --dump -f - -E 1"),
        Ok(Request::Dump(Dump {
            input: Some("-".into()),
            decompress: Decompress::No,
        }))
    );
    assert_eq!(
        parse_line("x --dump D"),
        Err(UsageError::PathCount {
            mode: Mode::Dump,
            given: 1
        })
    );
}

fn paths(given: usize) -> UsageError {
    let mode = Mode::Receive;
    UsageError::PathCount { mode, given }
}

#[test]
fn counts_paths() {
    for (line, given) in [
        ("x", 0),
        ("x -e", 0),
        ("x a b", 2),
        ("x receive receive a", 2),
    ] {
        assert_eq!(parse_line(line), Err(paths(given)));
    }
    let posix = parse(["x", "D", "-e"].map(OsString::from), true);
    assert_eq!(posix, Err(paths(2)));
}

/// Callers shorten options. What is unique among the options of `btrfs
/// receive` stays so, whatever is added.
#[test]
fn prefixes_of_established_options_stay_theirs() {
    let established: Vec<_> = options()
        .filter(|option| option.established)
        .filter_map(|option| Some((option, option.long?)))
        .collect();
    for &(option, long) in &established {
        for length in 1..=long.len() {
            let prefix = &long[..length];
            let like = |other: &&(_, &str)| other.1.starts_with(prefix);
            let unique = established.iter().filter(like).count() == 1;
            if !unique && prefix != long {
                continue;
            }
            let specs: Vec<_> = options().map(parse::spec).collect();
            let words = [format!("--{prefix}"), "value".to_owned()];
            let found = getopt::split(&specs, words.map(OsString::from), true);
            let id = match found.unwrap().swap_remove(0) {
                getopt::Arg::Flag(found) | getopt::Arg::Valued(found, _) => found.id,
                getopt::Arg::Operand(operand) => panic!("{operand:?}"),
            };
            assert_eq!(id, option.id, "--{prefix}");
        }
    }
}

#[test]
fn the_prefixes_that_callers_use_are_understood() {
    let all = receive("x --force --max=3 --chroot --c --quiet --verb --test D");
    assert!(all.force_decompress && all.confine_sources && all.test_encoded);
    assert_eq!((all.max_errors, all.verbosity), (3, 1));
    assert!(matches!(parse_line("x --d"), Ok(Request::Dump(_))));
}

#[test]
fn the_table_is_sound() {
    let mut names = Vec::new();
    for option in options() {
        assert!(option.short.is_some() || option.long.is_some());
        // Letters are those of btrfs receive and no others.
        assert!(option.short.is_none() || option.established);
        names.extend(option.short.map(|short| char::from(short).to_string()));
        names.extend(option.long.map(str::to_owned));
        for text in [option.help, option.manual] {
            assert!(!text.contains("  ") && text.trim() == text, "{text}");
        }
        assert!(!option.help.is_empty() && !option.help.ends_with('.'));
        assert!(!option.modes.is_empty());
    }
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
    for info in table::MODES {
        let named = |long| options().any(|option| option.long == Some(long));
        assert!(info.option.is_none_or(named), "{info:?}");
    }
}

#[test]
fn says_which_options_do_not_go_together() {
    let option = options().find(|option| option.id == id::Id::TestEncoded);
    let error = UsageError::misplaced(option.unwrap(), Mode::Dump);
    assert_eq!(
        error.to_string(),
        "option '--test-encoded' cannot be used with --dump"
    );
    let option = options().find(|option| option.id == id::Id::Dump);
    let error = UsageError::misplaced(option.unwrap(), Mode::Receive);
    assert_eq!(error.to_string(), "option '--dump' needs --dump");
    assert!(matches!(
        parse_line("x --dump --test-encoded"),
        Err(UsageError::Misplaced { .. })
    ));
    assert!(parse_line("x --dump -e -C -m / --force-decompress").is_ok());
    let error = parse_line("x --buffer=1M -e D").unwrap_err();
    assert_eq!(error.to_string(), "--buffer and -e cannot be used together");
    assert_eq!(receive("x --buffer=2M D").buffer, Some(2 << 20));
    assert_eq!(receive("x --buffer=0 -e D").buffer, None);
}

#[test]
fn policies_have_values_that_are_checked() {
    let all = receive("x --name=n --on-error delete --exclude-xattr=user.* --exclude-xattr=b.c D");
    assert_eq!(all.name.unwrap().as_bytes(), b"n");
    assert_eq!(all.on_error, btrfs_receive::OnError::Delete);
    assert_eq!(all.exclude_xattrs.len(), 2);
    let uuid = "00112233-4455-6677-8899-aabbccddeeff";
    let all = receive(&format!(
        "x --parent /p --clone-source=/c --clone-source={uuid}:/d:e D"
    ));
    assert_eq!(all.parent.unwrap(), Path::new("/p"));
    let [plain, other] = &all.clone_sources[..] else {
        panic!("{:?}", all.clone_sources);
    };
    assert_eq!(
        (plain.path.as_path(), plain.stands_for),
        (Path::new("/c"), None)
    );
    assert_eq!(other.path, Path::new("/d:e"));
    assert_eq!(other.stands_for.unwrap().to_string(), uuid);
    for line in [
        "--name=a/b",
        "--name=..",
        "--on-error=stop",
        "--exclude-xattr=selinux",
        "--parent=",
        "--clone-source=",
    ] {
        let error = parse_line(&format!("x {line} D")).unwrap_err();
        assert!(matches!(error, UsageError::Unusable { .. }), "{line}");
    }
}

#[test]
fn options_that_are_gone_say_why() {
    for (line, reason) in [
        ("x --resumable --trust-prefix D", "always compared"),
        ("x --hash-data D", "checksums"),
    ] {
        let error = parse_line(line).unwrap_err();
        assert!(matches!(error, UsageError::Gone { .. }), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn what_another_command_does_now_is_named() {
    for (line, expected) in [
        ("x --verify D", "--verify: use `sendstream verify`"),
        (
            "x --dump --format=json",
            "--format: use `sendstream dump --format=FORMAT`",
        ),
        ("x --diff -f F", "--diff: use `sendstream diff`"),
    ] {
        assert_eq!(parse_line(line).unwrap_err().to_string(), expected);
    }
    assert!(parse_line("x -- --verify").is_ok());
}
