//! What the command says when something goes wrong: `docs/errors.md` holds
//! the texts, and each is produced here. `ERRORS=renew` in the environment
//! writes what is said now into the document.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use btrfs_sendstream::{Command, CommandRef, StreamPath, SubvolumeName, Uuid, Version};
use btrfs_testkit::raw::RawStream;
use btrfs_testkit::{LoopFilesystem, Mount, Test, subvolume, test};
use rustix::fs::{Mode, OFlags, open, openat};

use crate::packed::packed;
use crate::support::{command, encode, receive, run_with_input, text};

/// The tests of this file.
pub(crate) fn tests() -> Vec<Test> {
    vec![test!(errors_are_those_of_the_document)]
}

/// A case's name in the document, and how to come by it.
type Case = (&'static str, fn(&Path) -> Output);

const CASES: &[Case] = &[
    ("empty", |to| receive(b"", &[], to)),
    ("packed", |to| {
        receive(b"\x28\xb5\x2f\xfd and what follows", &[], to)
    }),
    ("packed-cut", |to| {
        let packed = packed("zstd", &full());
        receive(&packed[..packed.len() - 4], &["--decompress"], to)
    }),
    ("message", |to| {
        receive(b"At subvol /snapshots/monday\n", &[], to)
    }),
    ("banner", |to| {
        receive(&[b"Welcome to nas!\n", &full()[..]].concat(), &[], to)
    }),
    ("cut", |to| receive(&full()[..full().len() - 15], &[], to)),
    ("flipped", |to| receive(&flipped(), &[], to)),
    ("zeros", |to| {
        let stream = full();
        let (begin, _) = stream.split_at(stream.len() - 10);
        receive(&[begin, &[0; 4096]].concat(), &[], to)
    }),
    ("restarted", |to| {
        let stream = full();
        let (begin, _) = stream.split_at(stream.len() - 10);
        receive(&[begin, &stream].concat(), &[], to)
    }),
    ("newer", |to| {
        receive(&RawStream::header(4).into_bytes(), &[], to)
    }),
    ("vendor", |to| {
        let stream = RawStream::header(1).subvol("sub").payload(200, b"").end();
        receive(&stream.into_bytes(), &[], to)
    }),
    ("no-data", |to| {
        let change = Command::UpdateExtent {
            path: path("file"),
            offset: 0,
            len: 4096,
        };
        receive(&stream(&[change]), &[], to)
    }),
    ("leftover", |to| {
        subvolume::create(&to.join("sub"));
        receive(&full(), &[], to)
    }),
    ("same", |to| {
        receive(&full(), &[], to);
        receive(&full(), &[], to)
    }),
    ("no-parent", |to| receive(&change_of(&[]), &[], to)),
    ("no-clone-source", |to| {
        receive(&stream(&[clone_of("file")]), &[], to)
    }),
    ("other-parent", |to| {
        receive(&named("parent", PARENT, &[]), &[], to);
        let unlink = Command::Unlink { path: path("gone") };
        receive(&change_of(&[unlink]), &[], to)
    }),
    ("clone-of-a-pipe", |to| {
        let pipe = Command::Mkfifo {
            path: path("file"),
            ino: 257,
            rdev: 0,
            mode: 0o10_644,
        };
        receive(&named("parent", PARENT, &[pipe]), &[], to);
        receive(&stream(&[clone_of("file")]), &[], to)
    }),
    ("xattr", |to| {
        let xattr = Command::SetXattr {
            path: path("file"),
            name: &b"vendor.label"[..],
            data: &b"x"[..],
        };
        receive(&stream(&[xattr]), &[], to)
    }),
    ("undecodable", |to| {
        let stream = RawStream::header(2).subvol("sub").mkfile("file");
        let stream = stream
            .encoded("file", [8192, 8192, 0], [1, 0], &[0x55; 4096])
            .end();
        receive(&stream.into_bytes(), &["--force-decompress"], to)
    }),
    ("escape", |to| {
        let link = Command::Symlink {
            path: path("link"),
            ino: 258,
            target: &b"/etc"[..],
        };
        let below = Command::Mkdir {
            path: path("link/made"),
            ino: 259,
        };
        receive(&stream(&[link, below]), &[], to)
    }),
    ("read-only", |to| {
        remount(to, "ro");
        let output = receive(&full(), &[], to);
        remount(to, "rw");
        output
    }),
    ("read-only-subvolume", |to| {
        receive(&full(), &[], to);
        receive(&named("parent", PARENT, &[]), &[], &to.join("sub"))
    }),
    ("full", |to| {
        let file = to.join("filler");
        fill(&file);
        let input = tempfile::NamedTempFile::new().unwrap();
        let data = vec![7; 128 << 10];
        let writes: Vec<_> = (0..64)
            .map(|index| Command::Write {
                path: path("file"),
                offset: index << 17,
                data: &data[..],
            })
            .collect();
        let bytes = {
            let mut commands = vec![subvol("sub", OWN), mkfile()];
            commands.extend(writes);
            commands.push(Command::End);
            encode(Version::V2, &commands)
        };
        fs::write(input.path(), bytes).unwrap();
        let output = receive(b"", &["-f", input.path().to_str().unwrap()], to);
        fs::remove_file(file).unwrap();
        output
    }),
    ("no-privilege", |to| {
        let chown = Command::Chown {
            path: path("file"),
            uid: 1000,
            gid: 1000,
        };
        let mut plain = std::process::Command::new("setpriv");
        plain
            .arg("--bounding-set=-all")
            .arg(command(&[]).get_program());
        plain.arg(to).stdout(Stdio::piped()).stderr(Stdio::piped());
        run_with_input(&mut plain, &stream(&[chown]))
    }),
    ("second", |to| {
        let other = named("other", PARENT, &[]);
        receive(&[full(), other].concat(), &["--name=home"], to)
    }),
    ("entered", entered),
    ("resume-cut", |to| receive(&cut(&long()), RESUMABLE, to)),
    ("resume-other-stream", |to| {
        receive(&cut(&long()), RESUMABLE, to);
        receive(&named("sub", PARENT, &[mkfile()]), RESUMABLE, to)
    }),
    ("resume-differs", |to| {
        receive(&cut(&long()), RESUMABLE, to);
        let other = Command::Chmod {
            path: path("file"),
            mode: 0o600,
        };
        receive(&stream(&[&[other], &writes()[..]].concat()), RESUMABLE, to)
    }),
    ("resume-changed", |to| {
        receive(&cut(&long()), RESUMABLE, to);
        subvolume::delete(&to.join("sub"));
        subvolume::create(&to.join("sub"));
        receive(&long(), RESUMABLE, to)
    }),
    ("resume-damaged", |to| {
        receive(&cut(&long()), RESUMABLE, to);
        fs::write(to.join(UNFINISHED).join("sub/journal"), b"damaged").unwrap();
        receive(&long(), RESUMABLE, to)
    }),
    ("resume-elsewhere", |to| {
        for directory in ["one", "other"] {
            fs::create_dir(to.join(directory)).unwrap();
        }
        let state = format!("--state-dir={}", to.display());
        receive(&cut(&long()), &[&state], &to.join("one"));
        receive(&long(), &[&state], &to.join("other"))
    }),
    ("resume-other-filesystem", |to| {
        let elsewhere = LoopFilesystem::new();
        let state = format!("--state-dir={}", elsewhere.path().display());
        let output = receive(&full(), &[&state], to);
        normalised_to(output, elsewhere.path(), "/elsewhere")
    }),
    ("resume-reserved", |to| {
        receive(&full(), &["--resumable", "--name", UNFINISHED], to)
    }),
    ("resume-taken", |to| {
        receive(&full(), &["--name", UNFINISHED], to);
        receive(&full(), &["--resumable"], to)
    }),
    ("resume-no-privilege", |to| {
        let mut plain = std::process::Command::new("setpriv");
        plain
            .arg("--bounding-set=-all")
            .arg(command(&[]).get_program());
        plain.arg("--resumable").arg(to);
        plain.stdout(Stdio::piped()).stderr(Stdio::piped());
        run_with_input(&mut plain, &full())
    }),
    ("refused", |to| {
        let chmod = Command::Chmod {
            path: path("file"),
            mode: 0o4755,
        };
        accept("", &stream(&[chmod]), to)
    }),
    ("refused-parent", |to| {
        let (mine, theirs) = (to.join("mine"), to.join("theirs"));
        for directory in [&mine, &theirs] {
            fs::create_dir(directory).unwrap();
        }
        receive(&named("parent", PARENT, &[]), &[], &theirs);
        let output = accept("", &change_of(&[]), &mine);
        normalised(output, &mine)
    }),
    ("bad-rules", |to| {
        let output = accept("setuit = \"drop\"\n", &full(), to);
        let text = text(&output).1;
        let (before, rest) = text.split_once("'/").unwrap();
        let (_, after) = rest.split_once("': ").unwrap();
        let stderr = format!("{before}'/etc/rules.toml': {after}");
        Output {
            stderr: stderr.into_bytes(),
            ..output
        }
    }),
    ("not-btrfs", |_| {
        let plain = Mount::tmpfs(1 << 20);
        let output = receive(&full(), &[], plain.path());
        normalised(output, plain.path())
    }),
    ("no-destination", |to| {
        receive(&full(), &[], &to.join("missing"))
    }),
    ("no-file", |to| receive(b"", &["-f", "/no/such/file"], to)),
];

/// Warnings: the subvolume is complete, and the exit status 0.
const WARNINGS: &[Case] = &[
    ("copied", |to| {
        receive(
            &named("parent", PARENT, &[mkfile(), data("file", 100)]),
            &[],
            to,
        );
        // Not to the end of the file, and not whole sectors.
        let clone = Command::Clone(btrfs_sendstream::CloneRange {
            path: path("file"),
            offset: 0,
            len: 10,
            source_uuid: PARENT,
            source_ctransid: 7,
            source_path: path("file"),
            source_offset: 0,
        });
        receive(&stream(&[clone]), &[], to)
    }),
    ("left-out", |to| {
        let xattr = Command::SetXattr {
            path: path("file"),
            name: &b"security.selinux"[..],
            data: &b"system_u:object_r:user_home_t:s0"[..],
        };
        receive(&stream(&[xattr]), &["--exclude-xattr=security.*"], to)
    }),
    ("dropped", |to| {
        let chmod = Command::Chmod {
            path: path("file"),
            mode: 0o4755,
        };
        accept("setuid = \"drop\"\n", &stream(&[chmod]), to)
    }),
    ("vouched", |to| {
        subvolume::create(&to.join("other"));
        let parent = format!("--parent={}", to.join("other").display());
        receive(&change_of(&[]), &[&parent], to)
    }),
    ("writable-parent", |to| {
        let parent = subvolume::create(&to.join("other"));
        std::fs::write(parent.join("file"), b"").unwrap();
        subvolume::stamp(&parent, &PARENT.to_string(), 7);
        std::fs::write(parent.join("another"), b"").unwrap();
        receive(&change_of(&[]), &[], to)
    }),
    ("parent-not-used", |to| {
        subvolume::create(&to.join("other"));
        let parent = format!("--parent={}", to.join("other").display());
        receive(&full(), &[&parent], to)
    }),
];

fn accept(rules: &str, stream: &[u8], to: &Path) -> Output {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), format!("names = [\"sub\"]\n{rules}")).unwrap();
    let option = format!("--accept={}", file.path().display());
    receive(stream, &[&option], to)
}

const OWN: Uuid = Uuid::from_u128(0x1111);
const PARENT: Uuid = Uuid::from_u128(0x2222);

fn path(path: &'static str) -> StreamPath<&'static [u8]> {
    StreamPath::parse(path.as_bytes()).unwrap()
}

fn subvol(name: &'static str, uuid: Uuid) -> CommandRef<'static> {
    Command::Subvol {
        name: SubvolumeName::parse(name.as_bytes()).unwrap(),
        uuid,
        ctransid: 7,
    }
}

fn mkfile() -> CommandRef<'static> {
    Command::Mkfile {
        path: path("file"),
        ino: 257,
    }
}

/// A subvolume `sub` with a `file` and these commands.
fn stream(commands: &[CommandRef<'static>]) -> Vec<u8> {
    let all = [&[mkfile()], commands].concat();
    named("sub", OWN, &all)
}

fn full() -> Vec<u8> {
    stream(&[Command::Write {
        path: path("file"),
        offset: 0,
        data: &b"content"[..],
    }])
}

fn flipped() -> Vec<u8> {
    let mut stream = full();
    let at = stream.len() - 15;
    stream[at] ^= 4;
    stream
}

const BYTES: &[u8] = &[7; 4096];

fn data(file: &'static str, len: usize) -> CommandRef<'static> {
    Command::Write {
        path: path(file),
        offset: 0,
        data: &BYTES[..len],
    }
}

fn named(name: &'static str, uuid: Uuid, commands: &[CommandRef<'static>]) -> Vec<u8> {
    let all = [&[subvol(name, uuid)], commands, &[Command::End]].concat();
    encode(Version::V2, &all)
}

fn change_of(commands: &[CommandRef<'static>]) -> Vec<u8> {
    let snapshot = Command::Snapshot {
        name: SubvolumeName::parse(&b"sub"[..]).unwrap(),
        uuid: OWN,
        ctransid: 9,
        parent_uuid: PARENT,
        parent_ctransid: 7,
    };
    encode(
        Version::V2,
        &[&[snapshot], commands, &[Command::End]].concat(),
    )
}

fn clone_of(file: &'static str) -> CommandRef<'static> {
    Command::Clone(btrfs_sendstream::CloneRange {
        path: path("file"),
        offset: 0,
        len: 4096,
        source_uuid: PARENT,
        source_ctransid: 7,
        source_path: path(file),
        source_offset: 0,
    })
}

/// The options of receives that are interrupted, and the directory of their
/// state.
const RESUMABLE: &[&str] = &["--checkpoint-every=8K"];
const UNFINISHED: &str = "btrfs-recv-rs.unfinished";

fn writes() -> Vec<CommandRef<'static>> {
    let write = |index: u64| Command::Write {
        path: path("file"),
        offset: index << 12,
        data: BYTES,
    };
    (0..16).map(write).collect()
}

/// A stream of several checkpoints.
fn long() -> Vec<u8> {
    stream(&writes())
}

/// A stream that ends between two commands, before its end command.
fn cut(stream: &[u8]) -> Vec<u8> {
    stream[..stream.len() - 10].to_vec()
}

/// Another process opens the file for writing while it is received. It has to
/// do so between two system calls, so it tries until it has.
fn entered(to: &Path) -> Output {
    loop {
        let stop = AtomicBool::new(false);
        let output = std::thread::scope(|scope| {
            scope.spawn(|| enter(to, &stop));
            let output = receive(&full(), &[], to);
            stop.store(true, Ordering::Relaxed);
            output
        });
        if text(&output).1.contains("for writing while") {
            return output;
        }
        subvolume::delete(&to.join("sub"));
    }
}

/// Opens the file again and again, by way of a descriptor of the subvolume: its
/// name changes.
fn enter(to: &Path, stop: &AtomicBool) {
    let (mut root, mut held) = (None, VecDeque::new());
    while !stop.load(Ordering::Relaxed) {
        let Some(root) = &root else {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            root = open(to.join("sub"), flags, Mode::empty()).ok();
            continue;
        };
        held.extend(openat(root, "file", OFlags::WRONLY, Mode::empty()));
        if held.len() > 64 {
            held.pop_front();
        }
    }
}

fn remount(filesystem: &Path, how: &str) {
    let option = format!("remount,{how}");
    let mut mount = std::process::Command::new("mount");
    let status = mount.args(["-o", &option]).arg(filesystem).status();
    assert!(status.unwrap().success());
}

/// Leaves little room for data.
fn fill(file: &Path) {
    let created = fs::File::create(file).unwrap();
    let facts = rustix::fs::statvfs(file).unwrap();
    let mut len = facts.f_bavail * facts.f_frsize;
    let all = rustix::fs::FallocateFlags::empty();
    while len > 1 << 16 {
        let at = created.metadata().unwrap().len();
        if rustix::fs::fallocate(&created, all, at, len).is_err() {
            len /= 2;
        }
    }
}

/// The same with the destination's path taken out.
fn normalised(output: Output, destination: &Path) -> Output {
    normalised_to(output, destination, "/backup")
}

fn normalised_to(output: Output, directory: &Path, name: &str) -> Output {
    let stderr = text(&output).1.replace(directory.to_str().unwrap(), name);
    Output {
        stderr: stderr.into_bytes(),
        ..output
    }
}

/// Sizes that depend on the filesystem are left open.
fn without_sizes(text: &str) -> String {
    let words: Vec<_> = text.split(' ').collect();
    let is_unit = |word: Option<&&str>| {
        word.is_some_and(|word| {
            ["bytes", "KiB", "MiB", "GiB"].contains(&word.trim_end_matches(';'))
        })
    };
    let sized = |(index, word): (usize, &&str)| match word.parse::<f64>() {
        Ok(_) if is_unit(words.get(index + 1)) && words.get(index + 2) != Some(&"instead") => {
            "N".to_owned()
        }
        _ => (*word).to_owned(),
    };
    let words: Vec<_> = words.iter().enumerate().map(sized).collect();
    words
        .join(" ")
        .replace("N bytes", "N MiB")
        .replace("N KiB", "N MiB")
}

fn errors_are_those_of_the_document() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors.md");
    let renew = std::env::var_os("ERRORS").is_some_and(|value| value == "renew");
    let mut expected = fs::read_to_string(&document).unwrap();
    let mut wrong = Vec::new();
    let errors = CASES.iter().map(|case| (case, 1, "    ERROR: "));
    let warnings = WARNINGS.iter().map(|case| (case, 0, "    WARNING: "));
    for ((name, run), status, start) in errors.chain(warnings) {
        let filesystem = LoopFilesystem::new();
        let output = normalised(run(filesystem.path()), filesystem.path());
        assert_eq!(output.status.code(), Some(status), "{name}: {output:?}");
        let said: String = text(&output)
            .1
            .lines()
            .map(|line| {
                if line.contains(" unallocated; ") {
                    without_sizes(line)
                } else {
                    line.to_owned()
                }
            })
            .filter(|line| {
                !["At ", "comparing ", "resuming "]
                    .iter()
                    .any(|it| line.starts_with(it))
            })
            .map(|line| format!("    {line}\n"))
            .collect();
        assert!(said.starts_with(start), "{name}: {said}");
        let marker = format!("<!-- {name} -->\n\n");
        let Some(at) = expected.find(&marker) else {
            panic!("docs/errors.md has no {name}");
        };
        let begin = at + marker.len();
        let end = expected[begin..]
            .find("\n\n")
            .map_or(expected.len(), |end| begin + end + 1);
        if expected[begin..end] != said {
            wrong.push(format!("{name}:\n{said}"));
            expected.replace_range(begin..end, &said);
        }
    }
    if renew {
        fs::write(document, expected).unwrap();
    } else {
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    }
}
