//! Whatever a stream tries, the received tree has nothing that rules refuse.

use std::cell::Cell;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use btrfs_sendstream::{Command, StreamPath, SubvolumeName, Version};
use btrfs_testkit::{LoopFilesystem, files, property_runner, subvolume};
use proptest::prelude::*;

use super::{OWN, accept, is_complete, is_device, walk, xattrs_of};
use crate::support::{names_in, text};

/// The actions in the rules, by the digits of a number.
fn action(number: u32, digit: u32) -> &'static str {
    ["allow", "refuse", "drop"][(number / 3_u32.pow(digit) % 3) as usize]
}

/// A stream of commands that can be applied, by and large.
fn random_stream(choices: &[(u8, u8, u16)]) -> Vec<u8> {
    let mut writer = btrfs_sendstream::Writer::new(Vec::new());
    writer.header(Version::V2).unwrap();
    let named = |name: &str| StreamPath::parse(name.as_bytes().to_vec()).unwrap();
    let mut put = |command: &Command<Vec<u8>>| writer.command(command).unwrap();
    put(&Command::Subvol {
        name: SubvolumeName::parse(b"some".to_vec()).unwrap(),
        uuid: OWN,
        ctransid: 7,
    });
    let mut all: Vec<String> = Vec::new();
    for (at, &(kind, which, value)) in choices.iter().enumerate() {
        let path = named(&format!("i{at}"));
        let ino = 300 + at as u64;
        let mode = u64::from(value) & 0o7777;
        let created = match kind % 14 {
            0 | 1 => Some(Command::Mkfile { path, ino }),
            2 => Some(Command::Mknod {
                path,
                ino,
                rdev: 0x103,
                mode: 0o20_000 | mode,
            }),
            3 => Some(Command::Mkfifo {
                path,
                ino,
                rdev: 0,
                mode: 0o10_000 | mode,
            }),
            4 => Some(Command::Mkdir { path, ino }),
            _ => None,
        };
        if let Some(command) = created {
            put(&command);
            all.push(format!("i{at}"));
            continue;
        }
        let count = all.len();
        let Some(name) = all.get_mut(usize::from(which) % count.max(1)) else {
            continue;
        };
        let path = named(name);
        let offset = u64::from(value) << (which % 16);
        put(&match kind % 14 {
            5 | 6 => Command::Chmod { path, mode },
            7 => Command::Chown {
                path,
                uid: u64::from(value % 3),
                gid: u64::from(value / 3 % 3),
            },
            8 => Command::SetXattr {
                path,
                name: [
                    &b"user.a"[..],
                    b"security.capability",
                    b"trusted.b",
                    b"security.c",
                ][usize::from(value % 4)]
                .to_vec(),
                data: files::capability(1 << 13),
            },
            9 => Command::Write {
                path,
                offset,
                data: vec![7; usize::from(which) * 100],
            },
            10 => Command::Truncate { path, size: offset },
            11 => Command::Fallocate {
                path,
                mode: [0, 1, 3][usize::from(which % 3)],
                offset,
                len: 1 + u64::from(value),
            },
            12 => {
                let to = format!("r{at}");
                let command = Command::Rename {
                    path,
                    to: named(&to),
                };
                *name = to;
                command
            }
            _ => Command::Link {
                path: named(&format!("l{at}")),
                existing: path,
            },
        });
    }
    put(&Command::End);
    writer.finish().unwrap()
}

pub(super) fn what_rules_refuse_is_in_no_received_tree() {
    let to = LoopFilesystem::new();
    let choices = proptest::collection::vec(any::<(u8, u8, u16)>(), 1..30);
    let limits = (1..2000_u64, 1..20_000_u64, 3..30_usize);
    let (accepted, refused) = (Cell::new(0), Cell::new(0));
    let mut runner = property_runner(150);
    let cases = (choices, 0..3_u32.pow(6), limits);
    let result = runner.run(&cases, |(choices, actions, (data, size, inodes))| {
        let [devices, setuid, setgid, capabilities, xattrs, owners] =
            [0, 1, 2, 3, 4, 5].map(|digit| action(actions, digit));
        // Drops keep root as the owner, and set-id bits need the owner.
        let owners = if [setuid, setgid].contains(&"allow") && owners == "drop" {
            "refuse"
        } else {
            owners
        };
        let rules = format!(
            "devices = \"{devices}\"\nsetuid = \"{setuid}\"\nsetgid = \"{setgid}\"\n\
             capabilities = \"{capabilities}\"\n\
             [xattrs]\nallow = [\"user.*\"]\notherwise = \"{xattrs}\"\n\
             [owners]\nuids = [0, 1]\ngids = [0, 2]\notherwise = \"{owners}\"\n\
             [limits]\ndata = \"{data}K\"\nfile-size = \"{size}K\"\ninodes = {inodes}"
        );
        let rules = if owners == "allow" {
            rules.replace("uids = [0, 1]\ngids = [0, 2]\n", "")
        } else {
            rules
        };
        let output = accept(&random_stream(&choices), &rules, &[], to.path());
        let some: PathBuf = to.path().join("some");
        if !output.status.success() {
            let by_rule = text(&output).1.contains("refused by the rule");
            refused.set(refused.get() + u32::from(by_rule));
            prop_assert_eq!(names_in(to.path()), [""; 0], "{:?}", &output);
            return Ok(());
        }
        accepted.set(accepted.get() + 1);
        prop_assert!(is_complete(&some));
        let mut problems = Vec::new();
        let (mut blocks, mut found) = (0, std::collections::BTreeSet::new());
        walk(&some, &mut |path, facts| {
            if path == some {
                return;
            }
            if found.insert(facts.ino()) {
                blocks += facts.blocks() * 512;
            }
            let names = xattrs_of(path);
            let has = |part: &str| names.iter().any(|name| name.contains(part));
            for (is, what) in [
                (devices != "allow" && is_device(facts), "device"),
                (setuid != "allow" && facts.mode() & 0o4000 != 0, "setuid"),
                (setgid != "allow" && facts.mode() & 0o2000 != 0, "setgid"),
                (capabilities != "allow" && has("capability"), "capability"),
                (xattrs != "allow" && has("trusted."), "trusted"),
                (
                    xattrs != "allow" && has("security.c") && !has("capability"),
                    "xattr",
                ),
                (owners != "allow" && facts.uid() > 1, "uid"),
                (owners != "allow" && facts.gid() == 1, "gid"),
                (facts.is_file() && facts.len() > size << 10, "size"),
            ] {
                if is {
                    problems.push(format!("{}: {what}", path.display()));
                }
            }
        });
        subvolume::delete(&some);
        prop_assert!(problems.is_empty(), "{:?}\n{}", problems, rules);
        prop_assert!(blocks <= data << 10, "{} of {}K", blocks, data);
        prop_assert!(found.len() <= inodes);
        Ok(())
    });
    let (accepted, refused) = (accepted.get(), refused.get());
    println!("{accepted} were accepted, {refused} refused");
    result.unwrap();
    assert!(accepted > 5 && refused > 5, "{accepted}, {refused}");
}
