//! Streams far larger than memory, made on the fly: time per command and
//! memory have to stay flat.

use std::io::{BufWriter, Write};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use benches::{UUID, WRITE_LEN, inode, path, subvol};
use btrfs_sendstream::{Bytes, CloneRange, CommandBuf, Version, Writer};
use btrfs_testkit::{LoopFilesystem, scratch_dir};
use wait4::Wait4;

use crate::contest::Tools;
use crate::options::Options;

/// Files in one directory, and clones in one file.
const GROUP: u64 = 1000;

/// Blocks of the file that is cloned from.
const SOURCE_BLOCKS: u64 = 8192;

const BLOCK: u64 = 4096;

/// Sizes of filesystems; the images are sparse.
const LARGE: u64 = 64 << 30;
/// Deleted data takes room until the kernel needs that room.
const SMALL: u64 = 6 << 30;

/// Files, a thousand in each directory, every one with owner, mode and times.
pub(crate) fn inodes(tools: &Tools, options: &Options) -> Result<(), String> {
    println!("{} inodes", options.inodes);
    feed(tools, LARGE, None, options.inodes, |number, send| {
        let directory = format!("directory-{}", number / GROUP);
        if number.is_multiple_of(GROUP) {
            let id = 1 << 40 | number;
            send(inode(id, path(&directory), true).into())?;
        }
        let name = format!("{directory}/file-{number}");
        send(inode(257 + number, path(&name), false).into())
    })
}

/// Clones of single blocks within the subvolume, a thousand in each file.
pub(crate) fn clones(tools: &Tools, options: &Options) -> Result<(), String> {
    println!("{} clones", options.clones);
    let source = path("source");
    feed(tools, LARGE, None, options.clones, |number, send| {
        if number == 0 {
            send(inode(257, source.clone(), false).into())?;
            for block in 0..SOURCE_BLOCKS {
                let data: Bytes = vec![block as u8; BLOCK as usize].into();
                send(vec![CommandBuf::Write {
                    path: source.clone(),
                    offset: block * BLOCK,
                    data,
                }])?;
            }
        }
        let target = path(&format!("target-{}", number / GROUP));
        if number.is_multiple_of(GROUP) {
            send(inode(1000 + number, target.clone(), false).into())?;
        }
        send(vec![CommandBuf::Clone(CloneRange {
            path: target,
            offset: number % GROUP * BLOCK,
            len: BLOCK,
            source_uuid: UUID,
            source_ctransid: 7,
            source_path: source.clone(),
            // Never next to the one before: nothing to join.
            source_offset: number.wrapping_mul(2_654_435_761) % SOURCE_BLOCKS * BLOCK,
        })])
    })
}

/// Bytes of data in one file of the long stream, how many such files there are
/// at once, and after how many everything is written out.
const FILE: u64 = 8 << 20;
const FILES: u64 = 256;
const SYNC: u64 = 128;

/// Data without end: files are written, and each is deleted when 256 later ones
/// are there, so that the disk holds 2 GiB of it. All of it gets there: the
/// filesystem is synced after each GiB.
pub(crate) fn long(tools: &Tools, options: &Options) -> Result<(), String> {
    println!("{} GiB", options.long);
    // Nothing that compresses, and not the same in any two blocks of a file.
    let mut state = 0x5eed_u64;
    let data: Bytes = (0..FILE / 8)
        .flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .collect();
    let count = options.long << 30 >> FILE.ilog2();
    feed(tools, SMALL, Some(SYNC), count, |number, send| {
        let name = |number| path(&format!("file-{number}"));
        send(inode(257 + number, name(number), false).into())?;
        let mut offset = 0;
        while offset < data.len() {
            let end = data.len().min(offset + WRITE_LEN);
            send(vec![CommandBuf::Write {
                path: name(number),
                offset: offset as u64,
                data: data.slice(offset..end),
            }])?;
            offset = end;
        }
        if let Some(old) = number.checked_sub(FILES) {
            send(vec![CommandBuf::Unlink { path: name(old) }])?;
        }
        Ok(())
    })
}

type Send<'a> = dyn FnMut(Vec<CommandBuf>) -> Result<(), String> + 'a;

/// Receives what `make` sends for the numbers up to `count`, and prints time
/// and memory for each tenth of it. Writing waits for the receiver, so its
/// time is the receiver's. The filesystem of `size` bytes is synced after
/// `sync_after` numbers, if that is set.
fn feed(
    tools: &Tools,
    size: u64,
    sync_after: Option<u64>,
    count: u64,
    make: impl Fn(u64, &mut Send<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let filesystem = LoopFilesystem::builder().size(size).build();
    let command = tools.ours(filesystem.path());
    let mut child = Command::new(&command[0])
        .args(&command[1..])
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let input = child.stdin.take().ok_or("no standard input")?;
    let mut writer = Writer::new(BufWriter::with_capacity(1 << 16, input));
    let text = |error: btrfs_sendstream::Error| error.to_string();
    writer.header(Version::V1).map_err(text)?;
    writer.command(&subvol()).map_err(text)?;
    println!("done |  seconds | µs/command | MB/s | resident MiB");
    let (begin, mut last) = (Instant::now(), Instant::now());
    let (mut commands, mut bytes, mut rates) = (0_u64, 0_u64, Vec::new());
    for number in 0..count {
        make(number, &mut |batch| {
            commands += batch.len() as u64;
            bytes += batch.iter().map(data_len).sum::<u64>();
            batch
                .iter()
                .try_for_each(|command| writer.command(command))
                .map_err(text)
        })?;
        if sync_after.is_some_and(|after| (number + 1).is_multiple_of(after)) {
            filesystem.sync();
        }
        if (number + 1).is_multiple_of((count / 10).max(1)) {
            let seconds = last.elapsed().as_secs_f64();
            let micros = seconds * 1e6 / commands.max(1) as f64;
            let megabytes = bytes as f64 / 1e6 / seconds;
            let tenth = (number + 1) * 100 / count;
            let elapsed = begin.elapsed().as_secs_f64();
            println!(
                "{tenth:3}% | {elapsed:8.1} | {micros:10.2} | {megabytes:4.0} | {:.1}",
                resident(&child)
            );
            rates.push(micros);
            (commands, bytes, last) = (0, 0, Instant::now());
        }
    }
    writer.command(&CommandBuf::End).map_err(text)?;
    let mut output = writer.finish().map_err(|error| error.to_string())?;
    output.flush().map_err(|error| error.to_string())?;
    drop(output);
    let used = child.wait4().map_err(|error| error.to_string())?;
    if !used.status.success() {
        return Err(format!("{command:?}: {}", used.status));
    }
    let flatness = match (rates.get(1), rates.last()) {
        (Some(early), Some(late)) => late / early,
        _ => 1.0,
    };
    println!(
        "in all {:.1} s, CPU {:.1} s, peak {:.1} MiB; last tenth / second tenth: {flatness:.2}; image {:.1} GiB in {}",
        begin.elapsed().as_secs_f64(),
        (used.rusage.utime + used.rusage.stime).as_secs_f64(),
        used.rusage.maxrss as f64 / f64::from(1 << 20),
        image_size(&filesystem),
        scratch_dir().display(),
    );
    Ok(())
}

fn data_len(command: &CommandBuf) -> u64 {
    match command {
        CommandBuf::Write { data, .. } => data.len() as u64,
        _ => 0,
    }
}

/// Resident memory of a process in MiB.
fn resident(child: &Child) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
    status
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|value| value.split_whitespace().next()?.parse::<f64>().ok())
        .map_or(0.0, |kib| kib / 1024.0)
}

/// What the image takes, in GiB.
fn image_size(filesystem: &LoopFilesystem) -> f64 {
    use std::os::unix::fs::MetadataExt;
    let blocks = std::fs::metadata(filesystem.image()).map_or(0, |meta| meta.blocks());
    blocks as f64 * 512.0 / f64::from(1 << 30)
}
