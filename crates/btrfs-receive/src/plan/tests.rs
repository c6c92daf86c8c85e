use btrfs_sendstream::{Bytes, CloneRange, CommandBuf, StreamPath, Timespec};
use uuid::Uuid;

use super::*;

fn path(text: &str) -> StreamPath {
    StreamPath::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn at(command: u64) -> Position {
    Position {
        stream: 1,
        command,
        offset: command * 10,
    }
}

/// Plans commands that count from 1.
fn plan(rules: Rules, deferred: &DeferredAttributes, commands: Vec<CommandBuf>) -> Vec<Step> {
    let mut planner = Planner::new(rules);
    planner.begin(deferred, at(0));
    let mut steps = Vec::new();
    for (index, command) in commands.into_iter().enumerate() {
        planner
            .command(command, at(index as u64 + 1), &mut steps)
            .unwrap();
    }
    planner.finish(&mut steps);
    steps
}

fn fused(commands: Vec<CommandBuf>) -> Vec<Step> {
    plan(Rules::default(), &DeferredAttributes::default(), commands)
}

fn mkfile(name: &str) -> CommandBuf {
    Command::Mkfile {
        path: path(name),
        ino: 257,
    }
}

fn rename(from: &str, to: &str) -> CommandBuf {
    Command::Rename {
        path: path(from),
        to: path(to),
    }
}

fn write(name: &str, offset: u64, data: &'static [u8]) -> CommandBuf {
    Command::Write {
        path: path(name),
        offset,
        data: Bytes::from_static(data),
    }
}

fn chmod(name: &str, mode: u64) -> CommandBuf {
    Command::Chmod {
        path: path(name),
        mode,
    }
}

fn chown(name: &str) -> CommandBuf {
    Command::Chown {
        path: path(name),
        uid: 1,
        gid: 2,
    }
}

fn set_xattr(name: &str, xattr: &'static str) -> CommandBuf {
    Command::SetXattr {
        path: path(name),
        name: Bytes::from_static(xattr.as_bytes()),
        data: Bytes::from_static(b"value"),
    }
}

fn utimes(name: &str, seconds: i64) -> CommandBuf {
    let time = Timespec {
        seconds,
        nanoseconds: 0,
    };
    Command::Utimes {
        path: path(name),
        atime: time,
        mtime: time,
        ctime: time,
        otime: None,
    }
}

fn names(steps: &[Step]) -> Vec<&'static str> {
    steps.iter().map(|step| step.op.name()).collect()
}

#[test]
fn a_file_as_kernels_send_it_is_created_in_place_with_its_mode() {
    let steps = fused(vec![
        mkfile("o257-8-0"),
        rename("o257-8-0", "dir/file"),
        write("dir/file", 0, b"abc"),
        chown("dir/file"),
        chmod("dir/file", 0o640),
        utimes("dir/file", 7),
    ]);
    assert_eq!(names(&steps), ["mkfile", "write", "chown", "utimes"]);
    let expected = Op::Create {
        path: path("dir/file"),
        created_as: Some(path("o257-8-0")),
        kind: NewInode::File,
        mode: Some(0o640),
    };
    assert_eq!(steps[0].op, expected);
    assert_eq!(steps[0].at, at(1));
    assert_eq!(steps[0].fused, [at(2)]);
}

#[test]
fn rules_can_be_switched_off() {
    let commands = vec![
        mkfile("o257-8-0"),
        rename("o257-8-0", "file"),
        write("file", 0, b"abc"),
        write("file", 3, b"def"),
        chmod("file", 0o640),
    ];
    let steps = plan(Rules::none(), &DeferredAttributes::default(), commands);
    assert_eq!(
        names(&steps),
        ["mkfile", "rename", "write", "write", "chmod"]
    );
}

#[test]
fn set_id_bits_are_left_to_chmod() {
    let steps = fused(vec![mkfile("f"), chown("f"), chmod("f", 0o4755)]);
    assert_eq!(names(&steps), ["mkfile", "chown", "chmod"]);
}

#[test]
fn a_mode_does_not_move_across_an_acl() {
    let steps = fused(vec![
        mkfile("f"),
        set_xattr("f", "system.posix_acl_access"),
        chmod("f", 0o640),
    ]);
    assert_eq!(names(&steps), ["mkfile", "set_xattr", "chmod"]);
}

#[test]
fn a_mode_does_not_move_across_other_inodes() {
    let steps = fused(vec![mkfile("f"), chown("g"), chmod("f", 0o640)]);
    assert_eq!(names(&steps), ["mkfile", "chown", "chmod"]);
}

#[test]
fn only_the_rename_right_after_a_creation_is_fused() {
    let steps = fused(vec![
        mkfile("o1-1-0"),
        mkfile("o2-1-0"),
        rename("o1-1-0", "a"),
    ]);
    assert_eq!(names(&steps), ["mkfile", "mkfile", "rename"]);
    let steps = fused(vec![mkfile("a"), rename("b", "c")]);
    assert_eq!(names(&steps), ["mkfile", "rename"]);
    let steps = fused(vec![
        Command::Mkdir {
            path: path("d"),
            ino: 1,
        },
        rename("d", "d/e"),
    ]);
    assert_eq!(names(&steps), ["mkdir", "rename"]);
}

#[test]
fn writes_that_follow_each_other_are_joined() {
    let steps = fused(vec![
        write("f", 0, b"abc"),
        write("f", 3, b"de"),
        write("f", 6, b"g"),
        write("g", 7, b"h"),
    ]);
    assert_eq!(names(&steps), ["write", "write", "write"]);
    let Op::Write { data, offset, .. } = &steps[0].op else {
        panic!("{:?}", steps[0]);
    };
    assert_eq!((*offset, data.len()), (0, 2));
    assert_eq!(steps[0].fused, [at(2)]);
}

#[test]
fn clones_that_follow_each_other_are_joined() {
    let range = |offset, len, source: &str| CloneRange {
        path: path("f"),
        offset,
        len,
        source_uuid: Uuid::from_u128(1),
        source_ctransid: 5,
        source_path: path(source),
        source_offset: offset + 100,
    };
    let clone = |offset, source: &str| Command::Clone(range(offset, 10, source));
    let steps = fused(vec![clone(0, "s"), clone(10, "s"), clone(30, "s")]);
    assert_eq!(names(&steps), ["clone", "clone"]);
    // Ranges of one file could overlap when joined.
    let steps = fused(vec![clone(0, "f"), clone(10, "f")]);
    assert_eq!(names(&steps), ["clone", "clone"]);
    // The pieces could not be found again.
    let steps = fused(vec![clone(0, "s"), Command::Clone(range(10, 5, "s"))]);
    assert_eq!(names(&steps), ["clone", "clone"]);
    let joined: Vec<CloneRange> = op::pieces_of(&range(0, 30, "s"), 3).collect();
    assert_eq!(joined, [0, 10, 20].map(|offset| range(offset, 10, "s")));
}

#[test]
fn what_was_held_back_comes_before_a_refusal() {
    let mut planner = Planner::default();
    let mut steps = Vec::new();
    for command in [mkfile("o1"), rename("o1", "f")] {
        planner.command(command, at(1), &mut steps).unwrap();
    }
    assert!(steps.is_empty());
    let refused = planner.command(chmod("f", 0o10_000), at(3), &mut steps);
    assert_eq!(refused.unwrap_err().at, at(3));
    assert_eq!(names(&steps), ["mkfile"]);
}

#[test]
fn held_back_data_is_bounded() {
    let piece = Bytes::from(vec![0; 100 << 10]);
    let mut planner = Planner::default();
    let mut steps = Vec::new();
    let mut given_out = 0;
    for index in 0..1000_u64 {
        let write = Command::Write {
            path: path("f"),
            offset: index * piece.len() as u64,
            data: piece.clone(),
        };
        planner.command(write, at(index), &mut steps).unwrap();
        for step in steps.drain(..) {
            let Op::Write { data, .. } = step.op else {
                panic!("{step:?}");
            };
            given_out += data.len() as u64;
        }
        assert!(index - given_out < 12, "{index} {given_out}");
    }
}

#[test]
fn the_root_comes_last_and_its_times_last_of_all() {
    let acl = "system.posix_acl_default";
    let steps = fused(vec![
        utimes("", 5),
        set_xattr("", acl),
        set_xattr("", "user.x"),
        chmod("", 0o755),
        chown(""),
        mkfile("f"),
        utimes("", 6),
        chmod("", 0o750),
    ]);
    assert_eq!(
        names(&steps),
        [
            "set_xattr",
            "mkfile",
            "set_xattr",
            "chown",
            "chmod",
            "utimes"
        ]
    );
    assert!(matches!(steps[4].op, Op::Chmod { mode: 0o750, .. }));
    assert_eq!(steps[5].at, at(7));
}

#[test]
fn what_was_taken_off_the_root_comes_back_unless_the_stream_says_otherwise() {
    let deferred = DeferredAttributes {
        default_acl: Some(Bytes::from_static(b"acl")),
        owner: None,
        compression: Some(Bytes::from_static(b"zstd")),
        attributes: Some(0x800),
        mode: Some(0o2755),
        times: Some((Timespec::default(), Timespec::default())),
    };
    let steps = plan(Rules::default(), &deferred, vec![mkfile("f")]);
    assert_eq!(
        names(&steps),
        [
            "mkfile",
            "set_xattr",
            "set_xattr",
            "chmod",
            "fileattr",
            "utimes"
        ]
    );
    let remove = Command::RemoveXattr {
        path: path(""),
        name: Bytes::from_static(COMPRESSION),
    };
    let steps = plan(Rules::default(), &deferred, vec![remove]);
    assert_eq!(
        names(&steps),
        ["set_xattr", "chmod", "remove_xattr", "fileattr", "utimes"]
    );
}

const COMPRESSION: &[u8] = b"btrfs.compression";

#[test]
fn a_capability_survives_the_chown_of_old_kernels() {
    let steps = fused(vec![set_xattr("f", "security.capability"), chown("f")]);
    assert_eq!(names(&steps), ["set_xattr", "chown", "set_xattr"]);
    let steps = fused(vec![
        set_xattr("f", "security.capability"),
        chown("g"),
        chown("f"),
    ]);
    assert_eq!(names(&steps), ["set_xattr", "chown", "chown"]);
}

#[test]
fn a_stream_without_file_data_is_refused() {
    let mut planner = Planner::default();
    let update = Command::UpdateExtent {
        path: path("f"),
        offset: 0,
        len: 5,
    };
    let failure = planner.command(update, at(1), &mut Vec::new()).unwrap_err();
    assert!(matches!(*failure.cause, Cause::NoFileData));
}

#[test]
fn values_out_of_range_are_refused() {
    let mut planner = Planner::default();
    let mut steps = Vec::new();
    for command in [
        chmod("f", 0o10_000),
        Command::Chown {
            path: path("f"),
            uid: u64::from(u32::MAX),
            gid: 0,
        },
        Command::Truncate {
            path: path("f"),
            size: 1 << 63,
        },
        Command::Write {
            path: path("f"),
            offset: i64::MAX as u64,
            data: Bytes::from_static(b"x"),
        },
        Command::Mknod {
            path: path("f"),
            ino: 1,
            rdev: 0,
            mode: 0o100_644,
        },
        rename("", "a"),
        Command::Rmdir { path: path("") },
    ] {
        let failure = planner.command(command, at(1), &mut steps).unwrap_err();
        assert_eq!(failure.at, at(1));
    }
    assert!(steps.is_empty());
}

#[test]
fn times_of_a_directory_are_set_once() {
    let steps = fused(vec![
        mkfile("o1"),
        rename("o1", "d/f"),
        utimes("d", 1),
        write("d/f", 0, b"abc"),
        chmod("d/f", 0o640),
        mkfile("o2"),
        rename("o2", "d/g"),
        utimes("d", 2),
        chmod("d/g", 0o640),
    ]);
    assert_eq!(names(&steps), ["mkfile", "write", "mkfile", "utimes"]);
    assert_eq!(steps[3].at, at(8));
}

#[test]
fn held_times_leave_the_mtime_of_later_changes() {
    let steps = fused(vec![
        mkfile("d/f"),
        utimes("d", 1),
        Command::Unlink { path: path("d/f") },
    ]);
    assert_eq!(names(&steps), ["mkfile", "unlink", "utimes"]);
    assert!(matches!(steps[2].op, Op::Utimes { mtime: None, .. }));
}

#[test]
fn held_times_are_set_before_their_directory_moves() {
    let steps = fused(vec![
        mkfile("d/f"),
        utimes("d", 1),
        rename("d", "e"),
        utimes("d", 2),
    ]);
    assert_eq!(names(&steps), ["mkfile", "utimes", "rename", "utimes"]);
}

#[test]
fn times_of_files_are_not_held() {
    let steps = fused(vec![
        mkfile("f"),
        utimes("f", 1),
        utimes("g", 2),
        utimes("f", 3),
    ]);
    assert_eq!(names(&steps), ["mkfile", "utimes", "utimes", "utimes"]);
}

#[test]
fn a_rename_that_may_do_nothing_leaves_held_times() {
    let steps = fused(vec![
        mkfile("d/f"),
        Command::Link {
            path: path("d/g"),
            existing: path("d/f"),
        },
        utimes("d", 1),
        rename("d/f", "d/g"),
    ]);
    assert_eq!(names(&steps), ["mkfile", "link", "utimes", "rename"]);
    assert!(matches!(steps[2].op, Op::Utimes { mtime: Some(_), .. }));
}

#[test]
fn a_first_name_outside_the_root_is_not_fused() {
    let steps = fused(vec![mkfile("d/t"), rename("d/t", "e/t")]);
    assert_eq!(names(&steps), ["mkfile", "rename"]);
    let steps = fused(vec![mkfile("d/t"), rename("d/t", "d/u")]);
    assert_eq!(names(&steps), ["mkfile"]);
}

#[test]
fn a_read_only_mode_comes_after_attributes() {
    let commands = |mode| vec![mkfile("f"), set_xattr("f", "user.a"), chmod("f", mode)];
    assert_eq!(
        names(&fused(commands(0o444))),
        ["mkfile", "set_xattr", "chmod"]
    );
    assert_eq!(names(&fused(commands(0o644))), ["mkfile", "set_xattr"]);
}

#[test]
fn a_link_and_the_unlink_of_the_old_name_are_a_move() {
    let link = |new: &str, old: &str| Command::Link {
        path: path(new),
        existing: path(old),
    };
    let unlink = |name: &str| Command::Unlink { path: path(name) };
    let steps = fused(vec![link("new", "old"), unlink("old")]);
    let [step] = steps.as_slice() else {
        panic!("{steps:?}");
    };
    assert_eq!((step.at, step.fused.as_slice()), (at(1), &[at(2)][..]));
    assert_eq!(
        step.op,
        Op::Move {
            path: path("new"),
            existing: path("old"),
        }
    );
    for apart in [
        vec![link("new", "old"), unlink("new")],
        vec![link("a", "a"), unlink("a")],
        vec![link("new", "old"), chown("new"), unlink("old")],
        vec![link("b", "a"), link("c", "a"), unlink("b")],
    ] {
        let count = apart.len();
        assert_eq!(fused(apart).len(), count);
    }
}
