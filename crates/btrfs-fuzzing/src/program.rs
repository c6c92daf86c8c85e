//! Command sequences made of a fuzzer's bytes.
//!
//! Bytes that were commands at random would fail at the second one and prove
//! nothing. So the generator remembers which names it has made, prefers them,
//! and often repeats what kernels emit: a creation, its rename, and commands
//! on the new inode. A part of the choices ignores all that. Each command is
//! tried on the model; of those that fail, few are left in ([`Trial`]), so
//! that programs become long.

use arbitrary::{Result, Unstructured};
use btrfs_model::MemoryDestination;
use btrfs_receive::{Destination, NewSubvolume, Planner, Rules};
use btrfs_sendstream::{
    Bytes, CloneRange, Command, CommandBuf, EnableVerity, EncodedWrite, Position, StreamPath,
    SubvolumeName, Timespec, Uuid,
};

/// Bytes that the subvolumes of one run may hold.
pub(super) const MEMORY: u64 = 8 << 20;

/// Commands of one program at most.
const MAX_COMMANDS: usize = 200;

/// One in so many commands that fail is left in the program.
const FAILING: u8 = 128;

const NAMES: [&str; 8] = ["a", "b", "c", "d", "o1-1-0", "o2-1-0", "..c", "é"];

/// The UUIDs that the subvolumes of a program have.
const UUIDS: [u128; 3] = [0x11, 0x22, 0x33];

/// What the commands so far have made, as far as that can be guessed.
#[derive(Default)]
struct Names {
    /// Everything but directories.
    files: Vec<Vec<u8>>,
    /// The regular ones of `files` under the name they were created with or
    /// moved to, with their sizes.
    sizes: Vec<(Vec<u8>, u64)>,
    directories: Vec<Vec<u8>>,
    /// What the last command was about.
    last: Vec<u8>,
    /// This command need not make sense.
    wild: bool,
    /// How many subvolumes there are.
    subvolumes: usize,
    /// Where the last write or clone ended, in it and in its source.
    end: u64,
    source_end: u64,
}

/// Commands for one or two subvolumes, END included.
pub(super) fn commands(input: &mut Unstructured<'_>) -> Vec<CommandBuf> {
    let begin = subvol(0, None);
    let mut trial = Trial::new();
    trial.fails(&begin);
    let mut commands = vec![begin];
    let mut names = Names {
        subvolumes: 1,
        ..Names::default()
    };
    while commands.len() < MAX_COMMANDS && !input.is_empty() {
        let next = match input.ratio(1_u8, 40) {
            Ok(true) if names.subvolumes < UUIDS.len() => {
                if input.ratio(3_u8, 4).unwrap_or(true) {
                    trial.fails(&Command::End);
                    commands.push(Command::End);
                }
                let parent = input.ratio(3_u8, 4).unwrap_or(true);
                let index = names.subvolumes;
                names = Names {
                    subvolumes: index + 1,
                    ..if parent { names } else { Names::default() }
                };
                Ok(vec![subvol(index, parent.then_some(index - 1))])
            }
            Ok(_) => some_commands(input, &mut names),
            Err(error) => Err(error),
        };
        let Ok(mut next) = next else {
            break;
        };
        next.retain(|command| {
            let fails = trial.fails(command);
            !fails || input.ratio(1, FAILING).unwrap_or(false)
        });
        commands.extend(next);
    }
    commands.push(Command::End);
    commands
}

/// Carries out the program as it grows, and goes on after what fails.
struct Trial {
    planner: Planner,
    destination: MemoryDestination,
    at: Position,
}

impl Trial {
    fn new() -> Self {
        Self {
            planner: Planner::new(Rules::none()),
            destination: MemoryDestination::new().with_limit(MEMORY),
            at: Position::default(),
        }
    }

    /// Whether `command` fails when its turn comes.
    fn fails(&mut self, command: &CommandBuf) -> bool {
        self.at.command += 1;
        let (mut steps, mut failed) = (Vec::new(), false);
        let new = NewSubvolume::from_command(command);
        if new.is_some() || matches!(command, Command::End) {
            self.planner.finish(&mut steps);
        } else {
            let planned = self.planner.command(command.clone(), self.at, &mut steps);
            failed = planned.is_err();
        }
        for step in steps {
            self.destination.apply(step);
        }
        while self.destination.next_failure().is_some() {
            failed = true;
        }
        if matches!(command, Command::End) || new.is_some() {
            // Not if none is under construction.
            let _ = self.destination.finish(self.at);
        }
        if let Some(new) = new {
            match self.destination.begin(&new, self.at) {
                Ok(begun) => self.planner.begin(&begun.deferred, self.at),
                Err(_) => failed = true,
            }
        }
        failed
    }
}

fn subvol(index: usize, parent: Option<usize>) -> CommandBuf {
    let uuid = |index: usize| Uuid::from_u128(UUIDS.get(index).copied().unwrap_or(1));
    let name = SubvolumeName::parse(Bytes::from(format!("subvolume-{index}")))
        .unwrap_or_else(|_| unreachable!("it is a name"));
    match parent {
        None => Command::Subvol {
            name,
            uuid: uuid(index),
            ctransid: 10 + index as u64,
        },
        Some(parent) => Command::Snapshot {
            name,
            uuid: uuid(index),
            ctransid: 10 + index as u64,
            parent_uuid: uuid(parent),
            parent_ctransid: 10 + parent as u64,
        },
    }
}

fn some_commands(input: &mut Unstructured<'_>, names: &mut Names) -> Result<Vec<CommandBuf>> {
    names.wild = input.ratio(1_u8, 32)?;
    let choice = match names.sizes.is_empty() {
        // Commands on nothing would only fail.
        true => input.int_in_range(0..=4_u8)?,
        false => input.int_in_range(0..=15_u8)?,
    };
    match choice {
        0..=3 => created_like_a_kernel(input, names),
        4 => Ok(vec![creation(input, names)?]),
        5 => Ok(vec![renamed(input, names)?]),
        6 => Ok(vec![linked(input, names)?]),
        7 => Ok(vec![removed(input, names)?]),
        8..=11 => Ok(vec![content(input, names)?]),
        _ => Ok(vec![metadata(input, names)?]),
    }
}

/// A creation under a temporary name and the rename that follows it.
fn created_like_a_kernel(
    input: &mut Unstructured<'_>,
    names: &mut Names,
) -> Result<Vec<CommandBuf>> {
    let first = creation(input, names)?;
    let from = names.last.clone();
    let to = new_name(input, names)?;
    names.moved(&from, &to);
    let rename = Command::Rename {
        path: path(&from),
        to: path(&to),
    };
    let mut commands = vec![first, rename];
    for _ in 0..input.int_in_range(0..=3_u8)? {
        commands.push(match input.ratio(1_u8, 3)? {
            true => content(input, names)?,
            false => metadata(input, names)?,
        });
    }
    Ok(commands)
}

fn creation(input: &mut Unstructured<'_>, names: &mut Names) -> Result<CommandBuf> {
    let name = new_name(input, names)?;
    let kind = input.int_in_range(0..=9_u8)?;
    match kind {
        0..=4 => names.sizes.push((name.clone(), 0)),
        _ => names.sizes.retain(|(known, _)| *known != name),
    }
    names.made(&name, matches!(kind, 5..=6));
    let (path, ino) = (path(&name), 257);
    let mode = u64::from(*input.choose(&[0o644_u16, 0o4755, 0o1777])?);
    let rdev = u64::from(*input.choose(&[0_u16, 0x103, 0x1ff])?);
    Ok(match kind {
        0..=4 => Command::Mkfile { path, ino },
        5 | 6 => Command::Mkdir { path, ino },
        7 => Command::Symlink {
            path,
            ino,
            target: Bytes::from_static(b"../a"),
        },
        8 => Command::Mknod {
            path,
            ino,
            rdev,
            mode: mode
                | match names.wild {
                    true => 0o100_000,
                    false => *input.choose(&[0o020_000, 0o060_000])?,
                },
        },
        _ => match input.arbitrary()? {
            true => Command::Mkfifo {
                path,
                ino,
                rdev: 0,
                mode: mode | 0o010_000,
            },
            false => Command::Mksock {
                path,
                ino,
                rdev: 0,
                mode: mode | 0o140_000,
            },
        },
    })
}

fn renamed(input: &mut Unstructured<'_>, names: &mut Names) -> Result<CommandBuf> {
    let from = names.any(input)?;
    let replaces = names.files.contains(&from) && input.ratio(1_u8, 4)?;
    let to = match replaces {
        true => names.file(input)?,
        false if names.wild => names.any(input)?,
        false => new_name(input, names)?,
    };
    if from.is_empty() || (!names.wild && to.starts_with(&from)) {
        return metadata(input, names);
    }
    names.moved(&from, &to);
    Ok(Command::Rename {
        path: path(&from),
        to: path(&to),
    })
}

fn linked(input: &mut Unstructured<'_>, names: &mut Names) -> Result<CommandBuf> {
    let existing = names.file(input)?;
    let new = new_name(input, names)?;
    if let Some(size) = names.size(&existing) {
        names.sizes.push((new.clone(), size));
    }
    names.made(&new, false);
    Ok(Command::Link {
        path: path(&new),
        existing: path(&existing),
    })
}

fn removed(input: &mut Unstructured<'_>, names: &mut Names) -> Result<CommandBuf> {
    if input.ratio(1_u8, 3)? && !names.directories.is_empty() {
        let name = pick(input, &names.directories)?;
        let inside = [&name[..], b"/"].concat();
        let all = || names.files.iter().chain(&names.directories);
        if !names.wild && all().any(|known| known.starts_with(&inside)) {
            return metadata(input, names);
        }
        names.directories.retain(|known| *known != name);
        return Ok(Command::Rmdir { path: path(&name) });
    }
    let name = names.file(input)?;
    names.files.retain(|known| *known != name);
    names.sizes.retain(|(known, _)| *known != name);
    Ok(Command::Unlink { path: path(&name) })
}

fn content(input: &mut Unstructured<'_>, names: &mut Names) -> Result<CommandBuf> {
    let name = names.regular(input)?;
    let sector = 4096;
    // Often where the last one ended, so that there is something to join.
    let offset = match input.int_in_range(0..=7_u8)? {
        _ if names.wild => *input.choose(&[0, i64::MAX as u64 - 1, u64::MAX])?,
        0..=4 => names.end,
        5 | 6 => sector * u64::from(input.int_in_range(0..=3_u8)?),
        _ => u64::from(input.arbitrary::<u16>()?),
    };
    let len = match input.ratio(3_u8, 4)? {
        true => sector * u64::from(input.int_in_range(0..=2_u8)?),
        false => u64::from(input.arbitrary::<u8>()?),
    };
    names.end = offset.saturating_add(len);
    let target = path(&name);
    let kind = input.int_in_range(0..=12_u8)?;
    if kind == 5 {
        names.resize(&name, offset, true);
        let size = offset;
        return Ok(Command::Truncate { path: target, size });
    }
    if kind < 5 {
        names.resize(&name, names.end, false);
    }
    Ok(match kind {
        0..=4 => Command::Write {
            path: target,
            offset,
            data: data(input, len)?,
        },
        6..=9 => return clone(input, names, &name, offset, len),
        10 => Command::Fallocate {
            path: target,
            mode: *input.choose(&[1, 3, if names.wild { 64 } else { 3 }])?,
            offset,
            len: if names.wild { len } else { len.max(1) },
        },
        11 => Command::UpdateExtent {
            path: target,
            offset,
            len,
        },
        _ => {
            names.resize(&name, names.end, false);
            encoded(input, target, offset, len, names.wild)?
        }
    })
}

fn clone(
    input: &mut Unstructured<'_>,
    names: &mut Names,
    target: &[u8],
    offset: u64,
    len: u64,
) -> Result<CommandBuf> {
    let source = match names.sizes.first() {
        Some((first, _)) if input.ratio(2_u8, 3)? => first.clone(),
        _ => names.regular(input)?,
    };
    let size = names.size(&source).unwrap_or(0);
    let (source_offset, len) = match input.ratio(2_u8, 3)? {
        _ if names.wild => (u64::from(input.arbitrary::<u16>()?), len),
        // Goes on where the last one ended, if there is anything.
        true if names.source_end < size => (names.source_end, len.min(size - names.source_end)),
        _ => (0, len.min(size)),
    };
    names.source_end = source_offset.saturating_add(len);
    // The same name may be a file of the parent, or of nobody.
    let own = names.subvolumes - 1;
    let index = match input.int_in_range(0..=7_u8)? {
        7 if own > 0 => own - 1,
        _ if names.wild => 2,
        _ => own,
    };
    names.end = offset.saturating_add(len);
    names.resize(target, names.end, false);
    names.last = target.to_vec();
    Ok(Command::Clone(CloneRange {
        path: path(target),
        offset,
        len,
        source_uuid: Uuid::from_u128(UUIDS.get(index).copied().unwrap_or(UUIDS[0])),
        source_ctransid: 10 + index as u64,
        source_path: path(&source),
        source_offset,
    }))
}

fn encoded(
    input: &mut Unstructured<'_>,
    path: StreamPath,
    offset: u64,
    len: u64,
    wild: bool,
) -> Result<CommandBuf> {
    let compression = match wild {
        true => *input.choose(&[Some(1), Some(2), Some(3), Some(9)])?,
        false => *input.choose(&[None, Some(0)])?,
    };
    Ok(Command::EncodedWrite(EncodedWrite {
        path,
        offset,
        unencoded_file_len: len,
        unencoded_len: *input.choose(&[len, 131_072])?,
        unencoded_offset: if wild { 512 } else { 0 },
        compression,
        encryption: None,
        data: data(input, len)?,
    }))
}

fn metadata(input: &mut Unstructured<'_>, names: &mut Names) -> Result<CommandBuf> {
    let name = names.any(input)?;
    let path = path(&name);
    let is_regular = names.size(&name).is_some();
    // No symbolic links and the like, for what those refuse.
    let plain = is_regular || names.directories.contains(&name) || name.is_empty();
    let kinds = if plain || names.wild { 13 } else { 5 };
    let kind = input.int_in_range(0..=kinds)?;
    if kind == 13 && (!is_regular || !names.wild) {
        return Ok(Command::Chmod { path, mode: 0o640 });
    }
    Ok(match if kinds == 5 { kind + 4 } else { kind } {
        0..=3 => Command::Chmod {
            path,
            mode: match names.wild {
                true => 0o10_000,
                false => *input.choose(&[0o644, 0o600, 0o755, 0o777, 0o4755, 0o2755, 0o1777])?,
            },
        },
        4 | 5 => Command::Chown {
            path,
            uid: match names.wild {
                true => 1 << 32,
                false => *input.choose(&[0, 1000])?,
            },
            gid: *input.choose(&[0, 1000])?,
        },
        6 | 7 => {
            let time = |seconds: u8| Timespec {
                seconds: seconds.into(),
                nanoseconds: 5,
            };
            Command::Utimes {
                path,
                atime: time(input.arbitrary()?),
                mtime: time(input.arbitrary()?),
                ctime: time(0),
                otime: None,
            }
        }
        8..=10 => {
            let (name, data) = xattr(input, is_regular, names.wild)?;
            Command::SetXattr { path, name, data }
        }
        11 => Command::RemoveXattr {
            path,
            name: xattr(input, is_regular, names.wild)?.0,
        },
        12 => Command::FileAttr {
            path,
            attributes: *input.choose(&[0, 8, 0x800])?,
        },
        _ => Command::EnableVerity(EnableVerity {
            path,
            algorithm: 1,
            block_size: 4096,
            salt: Bytes::new(),
            signature: Bytes::new(),
        }),
    })
}

/// An xattr that can be set: a default ACL only on directories, and so on.
fn xattr(input: &mut Unstructured<'_>, is_regular: bool, wild: bool) -> Result<(Bytes, Bytes)> {
    let acl = |group: u8| {
        let mut value = 2_u32.to_le_bytes().to_vec();
        for (tag, permissions) in [(1_u16, 7_u16), (4, group.into()), (0x20, 5)] {
            value.extend_from_slice(&tag.to_le_bytes());
            value.extend_from_slice(&permissions.to_le_bytes());
            value.extend_from_slice(&u32::MAX.to_le_bytes());
        }
        Bytes::from(value)
    };
    let names: [&[u8]; 6] = [
        b"user.a",
        b"security.capability",
        b"system.posix_acl_access",
        b"btrfs.compression",
        b"trusted.overlay.opaque",
        b"system.posix_acl_default",
    ];
    let choice = usize::from(input.int_in_range(0..=5_u8)?);
    let choice = choice.min(if is_regular && !wild { 4 } else { 5 });
    let name = names.get(choice).copied().unwrap_or(b"user.a");
    let value = match name {
        b"security.capability" => {
            let words = [0x0200_0001_u32, 0x2000, 0, 0, 0];
            words.into_iter().flat_map(u32::to_le_bytes).collect()
        }
        b"btrfs.compression" => Bytes::from_static(input.choose(&[&b"zstd"[..], b"none"])?),
        name if name.starts_with(b"system.") => acl(input.int_in_range(0..=7)?),
        _ => Bytes::from_static(input.choose(&[&b""[..], b"value"])?),
    };
    Ok((Bytes::from_static(name), value))
}

/// Bytes that say where they come from.
fn data(input: &mut Unstructured<'_>, len: u64) -> Result<Bytes> {
    let byte = input.arbitrary::<u8>()?;
    let len = usize::try_from(len).unwrap_or(0).min(16 << 10);
    Ok((0..len)
        .map(|index| byte.wrapping_add((index / 512) as u8))
        .collect())
}

/// A name in a known directory, or in the root; most often one that nothing
/// has yet.
fn new_name(input: &mut Unstructured<'_>, names: &Names) -> Result<Vec<u8>> {
    let taken = |name: &Vec<u8>| names.files.contains(name) || names.directories.contains(name);
    let name = some_name(input, names)?;
    if taken(&name) && input.ratio(7_u8, 8)? {
        for number in 0..16_u8 {
            let other = [&name[..], &[b'0' + number % 10, b'a' + number]].concat();
            if !taken(&other) {
                return Ok(other);
            }
        }
    }
    Ok(name)
}

fn some_name(input: &mut Unstructured<'_>, names: &Names) -> Result<Vec<u8>> {
    let mut name = match input.ratio(1_u8, 3)? {
        true => pick(input, &names.directories)?,
        false => Vec::new(),
    };
    if !name.is_empty() {
        name.push(b'/');
    }
    name.extend_from_slice(input.choose(&NAMES)?.as_bytes());
    Ok(name)
}

fn pick(input: &mut Unstructured<'_>, from: &[Vec<u8>]) -> Result<Vec<u8>> {
    if from.is_empty() {
        return Ok(Vec::new());
    }
    Ok(input.choose(from)?.clone())
}

fn path(name: &[u8]) -> StreamPath {
    StreamPath::parse(Bytes::copy_from_slice(name)).unwrap_or_default()
}

impl Names {
    fn made(&mut self, name: &[u8], directory: bool) {
        let list = if directory {
            &mut self.directories
        } else {
            &mut self.files
        };
        if !list.iter().any(|known| known == name) {
            list.push(name.to_vec());
        }
        self.last = name.to_vec();
        self.end = 0;
    }

    fn moved(&mut self, from: &[u8], to: &[u8]) {
        if from != to {
            self.files.retain(|known| known != to);
            self.sizes.retain(|(known, _)| known != to);
        }
        let sizes = self.sizes.iter_mut().map(|(name, _)| name);
        let names = self.files.iter_mut().chain(&mut self.directories);
        for known in names.chain(sizes) {
            let below = known.strip_prefix(from);
            match below {
                Some(rest) if rest.is_empty() || rest.starts_with(b"/") => {
                    *known = [to, rest].concat();
                }
                _ => {}
            }
        }
        self.last = to.to_vec();
    }

    fn size(&self, name: &[u8]) -> Option<u64> {
        let found = self.sizes.iter().find(|(known, _)| known == name);
        found.map(|(_, size)| *size)
    }

    /// The size becomes `size`, or at least that.
    fn resize(&mut self, name: &[u8], size: u64, exact: bool) {
        if let Some((_, known)) = self.sizes.iter_mut().find(|(known, _)| known == name) {
            *known = if exact { size } else { size.max(*known) };
        }
    }

    /// A name of something, most often what the last command was about; also
    /// the root.
    fn any(&mut self, input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
        let name = match input.int_in_range(0..=15_u8)? {
            _ if self.wild => new_name(input, self)?,
            0..=8 if self.files.contains(&self.last) => self.last.clone(),
            12 | 13 => pick(input, &self.directories)?,
            14 => Vec::new(),
            _ => pick(input, &self.files)?,
        };
        self.last.clone_from(&name);
        Ok(name)
    }

    /// Something that is no directory.
    fn file(&mut self, input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
        let name = match input.int_in_range(0..=15_u8)? {
            _ if self.wild => new_name(input, self)?,
            0..=9 if self.files.contains(&self.last) => self.last.clone(),
            _ => pick(input, &self.files)?,
        };
        self.last.clone_from(&name);
        Ok(name)
    }

    /// A regular file.
    fn regular(&mut self, input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
        if self.wild || self.sizes.is_empty() {
            return self.file(input);
        }
        if self.size(&self.last).is_none() || input.ratio(1_u8, 4)? {
            self.last = input.choose(&self.sizes)?.0.clone();
        }
        Ok(self.last.clone())
    }
}
