//! What the other side asks for.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use btrfs_accept::Query;

use super::words::{NotWords, split};

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// To receive what comes on standard input.
    Receive(Receive),
    /// Something that changes nothing.
    Query(Query, Vec<u8>, Vec<u8>),
}

/// A receive, with the options that callers use.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Receive {
    pub(super) path: Vec<u8>,
    pub(super) stop_at_end: bool,
    pub(super) force_decompress: bool,
    /// `None`: the default.
    pub(super) max_errors: Option<u64>,
    pub(super) verbosity: u8,
}

/// Why it is not understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unknown {
    #[error(transparent)]
    Words(#[from] NotWords),
    #[error("only btrfs receive and queries are served")]
    Command,
    #[error("the option {} is not served", .0.escape_ascii())]
    Option(Vec<u8>),
    #[error("exactly one path is needed")]
    Paths,
}

/// What `btrfs-backup-ng` has the shell of the other side do before a receive;
/// here nothing needs it.
const IGNORES_PIPES: &[u8] = b"trap \"\" PIPE; exec ";

/// Understands a command line as btrbk, snbk, btrfs-backup-ng and people send
/// it. Nothing of it is given to a shell.
pub(super) fn parse(line: &OsStr) -> Result<Request, Unknown> {
    let words = split(line.as_bytes())?;
    let words: Vec<_> = words.iter().map(Vec::as_slice).collect();
    let words = without_prefix(&words);
    if let [b"sh", b"-c", script] = words {
        let script = script.strip_prefix(IGNORES_PIPES).ok_or(Unknown::Command)?;
        let words = split(script)?;
        let words: Vec<_> = words.iter().map(Vec::as_slice).collect();
        return plain(without_prefix(&words));
    }
    plain(words)
}

/// Without what gives the command its rights, which it has here.
fn without_prefix<'a, 'b>(mut words: &'a [&'b [u8]]) -> &'a [&'b [u8]] {
    while let [b"exec", rest @ ..] | [b"sudo" | b"doas", b"-n", rest @ ..] = words {
        words = rest;
    }
    words
}

fn plain(words: &[&[u8]]) -> Result<Request, Unknown> {
    let [program, rest @ ..] = words else {
        return Err(Unknown::Command);
    };
    let name = Path::new(OsStr::from_bytes(program)).file_name();
    match (name.map_or(&b""[..], OsStrExt::as_bytes), rest) {
        (b"btrfs", [b"receive", rest @ ..]) => receive(rest),
        (b"btrfs-recv-rs" | b"btrfs-receive", rest) => receive(rest),
        (b"btrfs", [b"--version" | b"version"]) => {
            Ok(Request::Query(Query::Version, Vec::new(), Vec::new()))
        }
        (b"btrfs", [b"subvolume", b"list", options @ .., path]) => {
            query(Query::List, options, path)
        }
        (b"btrfs", [b"subvolume", b"show", options @ .., path]) => {
            query(Query::Show, options, path)
        }
        (b"readlink", [options @ .., path]) => query(Query::Readlink, options, path),
        (b"cat", [path @ (b"/proc/self/mountinfo" | b"/proc/self/mounts")]) => {
            query(Query::Mounts, &[], path)
        }
        _ => Err(Unknown::Command),
    }
}

fn receive(words: &[&[u8]]) -> Result<Request, Unknown> {
    let mut receive = Receive {
        verbosity: 1,
        ..Receive::default()
    };
    let mut paths = Vec::new();
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        let refused = || Unknown::Option(word.to_vec());
        match word {
            b"--" => {
                paths.extend(words);
                break;
            }
            b"-e" => receive.stop_at_end = true,
            b"-q" | b"--quiet" => receive.verbosity = 0,
            b"-v" | b"--verbose" => receive.verbosity = (receive.verbosity + 1).min(3),
            b"-vv" => receive.verbosity = (receive.verbosity + 2).min(3),
            b"--force-decompress" => receive.force_decompress = true,
            b"-E" | b"--max-errors" => {
                let value = words.next().and_then(number);
                receive.max_errors = Some(value.ok_or_else(refused)?);
            }
            word if word.starts_with(b"-") => {
                let value = (word.strip_prefix(b"--max-errors="))
                    .or_else(|| word.strip_prefix(b"-E"))
                    .and_then(number);
                receive.max_errors = Some(value.ok_or_else(refused)?);
            }
            path => paths.push(path),
        }
    }
    let [path] = paths[..] else {
        return Err(Unknown::Paths);
    };
    receive.path = path.to_vec();
    Ok(Request::Receive(receive))
}

fn number(digits: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(digits).ok()?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

/// The letters of options become one word.
fn query(query: Query, options: &[&[u8]], path: &[u8]) -> Result<Request, Unknown> {
    let known: &[u8] = match query {
        // None takes a value.
        Query::List => b"acdgopqrstuR",
        Query::Readlink => b"ev",
        _ => b"",
    };
    let mut letters = Vec::new();
    for option in options {
        match option.strip_prefix(b"-") {
            Some(given) if !given.is_empty() && given.iter().all(|it| known.contains(it)) => {
                letters.extend_from_slice(given);
            }
            _ => return Err(Unknown::Option(option.to_vec())),
        }
    }
    if path.starts_with(b"-") {
        return Err(Unknown::Paths);
    }
    Ok(Request::Query(query, letters, path.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Request, Unknown> {
        parse(OsStr::new(line))
    }

    fn receive_into(path: &str) -> Receive {
        Receive {
            path: path.into(),
            verbosity: 1,
            ..Receive::default()
        }
    }

    #[test]
    fn what_callers_send_is_understood() {
        for line in [
            // btrbk, also with its backends.
            "btrfs receive '/b/'",
            "sudo -n btrfs receive '/b/'",
            "doas -n btrfs receive '/b/'",
            "btrfs-receive '/b/'",
            // snbk.
            "/usr/sbin/btrfs receive -- '/b/'",
            // btrfs-backup-ng.
            "exec sh -c 'trap \"\" PIPE; exec sudo -n btrfs receive /b/'",
            "sudo btrfs receive /b/",
            "btrfs-recv-rs /b/",
        ] {
            let expected = receive_into("/b/");
            let expected = match line.starts_with("sudo btrfs") {
                // It would ask for a password.
                true => Err(Unknown::Command),
                false => Ok(Request::Receive(expected)),
            };
            assert_eq!(parsed(line), expected, "{line}");
        }
        let many = "btrfs receive /b -e -vv --max-errors=0 --force-decompress";
        let expected = Receive {
            stop_at_end: true,
            force_decompress: true,
            max_errors: Some(0),
            verbosity: 3,
            ..receive_into("/b")
        };
        assert_eq!(parsed(many), Ok(Request::Receive(expected)));
        let list = parsed("btrfs subvolume list -a -c -u -q -R '/b'");
        let expected = Request::Query(Query::List, b"acuqR".to_vec(), b"/b".to_vec());
        assert_eq!(list, Ok(expected));
        for (line, query) in [
            ("btrfs subvolume show '/b/x'", Query::Show),
            ("readlink -v -e '/b'", Query::Readlink),
            ("cat /proc/self/mountinfo", Query::Mounts),
            ("btrfs --version", Query::Version),
        ] {
            let result = parsed(line);
            assert!(
                matches!(result, Ok(Request::Query(it, ..)) if it == query),
                "{line}"
            );
        }
    }

    #[test]
    fn all_else_is_not() {
        for line in [
            "",
            "sh",
            "bash -i",
            "sudo -n",
            "btrfs",
            "btrfs send /b",
            "btrfs subvolume delete /b/x",
            "btrfs subvolume delete --commit-each '/b/x'",
            "btrfs subvolume snapshot /b/x /b/y",
            "btrfs property set /b/x ro false",
            "btrfs receive",
            "btrfs receive /a /b",
            "btrfs receive -f /etc/shadow /b",
            "btrfs receive -f/etc/shadow /b",
            "btrfs receive --accept=/etc/shadow /b",
            "btrfs receive --acc /etc/shadow /b",
            "btrfs receive --name=x /b",
            "btrfs receive --parent=/ /b",
            "btrfs receive --clone-source=/ /b",
            "btrfs receive --digest=/etc/shadow /b",
            "btrfs receive --state-dir=/ /b",
            "btrfs receive --abandon /b",
            "btrfs receive --serve /b",
            "btrfs receive --dump",
            "btrfs receive --chain=/etc /b",
            "btrfs receive -m / /b",
            "btrfs receive -C /b",
            "btrfs receive -evf /b",
            "btrfs receive --max-errors=-1 /b",
            "btrfs receive --max-errors=+1 /b",
            "btrfs receive -E /b",
            "btrfs-recv-rs --extract /b",
            "btrfs receive /b; id",
            "btrfs receive /b && id",
            "btrfs receive /b | sh",
            "btrfs receive $(id)",
            "btrfs receive `id`",
            "btrfs receive /b > /etc/passwd",
            "btrfs receive /b\nid",
            "PATH=/tmp btrfs receive /b",
            "zstd -d -c | btrfs receive /b",
            "sh -c 'id'",
            "exec sh -c 'trap \"\" PIPE; exec sudo -n btrfs receive /b; id'",
            "exec sh -c 'trap \"\" PIPE; exec sh -c id'",
            "exec sh -c 'trap id PIPE; exec btrfs receive /b'",
            "btrfs subvolume list --sort=x /b",
            "btrfs subvolume list -G +1 /b",
            "btrfs subvolume list /a /b",
            "btrfs subvolume show -r 5 /b",
            "btrfs subvolume show -u x /b",
            "btrfs subvolume show --help",
            "readlink -f /b",
            "cat /etc/shadow",
            "cat /proc/self/mountinfo /etc/shadow",
            "cat /proc/self/environ",
            "scp -t /b",
            "rsync --server . /b",
            "/usr/lib/openssh/sftp-server",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
