//! A disk whose reads take a fixed time each, many at once: a filesystem in
//! user space of a single file, which a loop device reads without a cache.
//!
//! It speaks the kernel's FUSE protocol itself: seven of its requests are all
//! that a loop device makes. Numbers and structures are those of
//! `include/uapi/linux/fuse.h`.

use std::ffi::CString;
use std::fs::File;
use std::io::{BufRead, BufReader, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use btrfs_testkit::LoopFilesystem;
use rustix::fs::{FallocateFlags, Mode, OFlags, fallocate, open};
use rustix::io::{Errno, read, writev};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Signal, set_parent_process_death_signal};

/// Reads that are under way at once, at most.
const DEPTH: usize = 64;

/// Bytes of data in one request, at most.
const LARGEST: u32 = 1 << 20;

/// A btrfs on a slow disk.
pub(crate) struct SlowFilesystem {
    // Unmounted before the disk below it goes.
    filesystem: Option<LoopFilesystem>,
    point: PathBuf,
    server: Child,
    /// Says when it is ready, and at the end how many reads there were.
    output: BufReader<ChildStdout>,
}

impl SlowFilesystem {
    /// Mounts the btrfs in `image`, each read of which takes `delay` longer.
    /// `me` is this program.
    pub(crate) fn mount(me: &Path, image: &Path, delay: Duration) -> Result<Self, String> {
        let text = |error: std::io::Error| format!("slow disk: {error}");
        let point = image.with_extension("slow");
        File::create(&point).map_err(text)?;
        let mut server = Command::new(me)
            .args(["--child", "slow-disk"])
            .args([image, &point])
            .arg(delay.as_millis().to_string())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(text)?;
        let output = server.stdout.take().ok_or("no standard output")?;
        let mut slow = Self {
            filesystem: None,
            point,
            server,
            output: BufReader::new(output),
        };
        let mut ready = String::new();
        slow.output.read_line(&mut ready).map_err(text)?;
        if ready.is_empty() {
            return Err("the slow disk did not start".to_owned());
        }
        let builder = LoopFilesystem::builder().existing_image(&slow.point);
        slow.filesystem = Some(builder.direct_io().try_build()?);
        Ok(slow)
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        let filesystem = self.filesystem.as_ref();
        filesystem.map_or(Path::new(""), LoopFilesystem::path)
    }
}

impl SlowFilesystem {
    /// Unmounts it and returns how many reads there were, with those of
    /// mounting.
    pub(crate) fn unmount(mut self) -> Result<u64, String> {
        self.take_down();
        let mut reads = String::new();
        let read = self.output.read_line(&mut reads);
        read.map_err(|error| error.to_string())?;
        reads
            .trim()
            .parse()
            .map_err(|_| "the slow disk failed".to_owned())
    }

    fn take_down(&mut self) {
        if self.filesystem.take().is_none() {
            return;
        }
        // The server ends when nothing uses its mount.
        if unmount(&self.point, UnmountFlags::DETACH).is_err() {
            let _ = self.server.kill();
        }
        let _ = self.server.wait();
        let _ = std::fs::remove_file(&self.point);
    }
}

impl Drop for SlowFilesystem {
    fn drop(&mut self) {
        self.take_down();
    }
}

/// Serves `image` at `point`, a file, until that is unmounted.
pub(crate) fn serve(image: &Path, point: &Path, delay: &str) -> Result<(), String> {
    let milliseconds: Result<u64, _> = delay.parse();
    let delay = milliseconds.map_err(|error| format!("{delay:?}: {error}"))?;
    let delay = Duration::from_millis(delay);
    let errno = |errno: Errno| format!("slow disk: {errno}");
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(errno)?;
    let image = File::options().read(true).write(true).open(image);
    let image = image.map_err(|error| error.to_string())?;
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let connection = open("/dev/fuse", flags, Mode::empty()).map_err(errno)?;
    let options = format!(
        "fd={},rootmode=100000,user_id=0,group_id=0",
        connection.as_raw_fd()
    );
    let options = CString::new(options).map_err(|error| error.to_string())?;
    mount(
        "slow-disk",
        point,
        "fuse",
        MountFlags::NOSUID | MountFlags::NODEV,
        options.as_c_str(),
    )
    .map_err(errno)?;
    println!("ready");
    let server = Server {
        connection,
        image,
        delay,
        reads: AtomicU64::new(0),
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..DEPTH)
            .map(|_| scope.spawn(|| server.answer_all()))
            .collect();
        threads.into_iter().try_for_each(|thread| {
            let ended = thread.join().map_err(|_| "a thread panicked".to_owned());
            ended?.map_err(|errno| format!("slow disk: {errno}"))
        })
    })?;
    println!("{}", server.reads.into_inner());
    Ok(())
}

struct Server {
    connection: OwnedFd,
    image: File,
    delay: Duration,
    reads: AtomicU64,
}

/// What a request is about.
struct Request<'a> {
    opcode: u32,
    unique: u64,
    body: &'a [u8],
}

impl<'a> Request<'a> {
    /// `struct fuse_in_header`, then what depends on the opcode.
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        Some(Self {
            opcode: number(bytes, 4)?,
            unique: long(bytes, 8)?,
            body: bytes.get(40..)?,
        })
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + 8)?;
    Some(u64::from_ne_bytes(bytes.try_into().ok()?))
}

const GETATTR: u32 = 3;
const SETATTR: u32 = 4;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const RELEASE: u32 = 18;
const FSYNC: u32 = 20;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const FALLOCATE: u32 = 43;
/// Those that have no answer: FORGET, INTERRUPT, BATCH_FORGET.
const WITHOUT_ANSWER: [u32; 3] = [2, 36, 42];

impl Server {
    /// Takes requests until the filesystem is unmounted.
    fn answer_all(&self) -> Result<(), Errno> {
        let mut buffer = vec![0; LARGEST as usize + 4096];
        let mut data = Vec::new();
        loop {
            let len = match read(&self.connection, &mut buffer) {
                Ok(len) => len,
                Err(Errno::INTR | Errno::NOENT | Errno::AGAIN) => continue,
                Err(Errno::NODEV) => return Ok(()),
                Err(errno) => return Err(errno),
            };
            let request = Request::parse(&buffer[..len]).ok_or(Errno::PROTO)?;
            if WITHOUT_ANSWER.contains(&request.opcode) {
                continue;
            }
            data.clear();
            let error = match self.answer(&request, &mut data) {
                Ok(()) => 0,
                Err(errno) => {
                    data.clear();
                    -errno.raw_os_error()
                }
            };
            self.reply(request.unique, error, &data)?;
        }
    }

    /// `struct fuse_out_header` and the data.
    fn reply(&self, unique: u64, error: i32, data: &[u8]) -> Result<(), Errno> {
        let mut header = Vec::with_capacity(16);
        header.extend((16 + data.len() as u32).to_ne_bytes());
        header.extend(error.to_ne_bytes());
        header.extend(unique.to_ne_bytes());
        let slices = [IoSlice::new(&header), IoSlice::new(data)];
        match writev(&self.connection, &slices) {
            // Unmounted meanwhile.
            Ok(_) | Err(Errno::NODEV | Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn answer(&self, request: &Request<'_>, out: &mut Vec<u8>) -> Result<(), Errno> {
        let body = request.body;
        let field = |at| long(body, at).ok_or(Errno::PROTO);
        match request.opcode {
            INIT => initialised(body, out),
            GETATTR | SETATTR => self.attributes(out)?,
            // struct fuse_open_out: no cache, writes in parallel.
            OPEN => {
                const DIRECT_IO: u32 = 1 << 0;
                const PARALLEL_DIRECT_WRITES: u32 = 1 << 6;
                out.extend(0_u64.to_ne_bytes());
                out.extend((DIRECT_IO | PARALLEL_DIRECT_WRITES).to_ne_bytes());
                out.extend(0_u32.to_ne_bytes());
            }
            // struct fuse_read_in
            READ => {
                self.reads.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(self.delay);
                let len = number(body, 16).ok_or(Errno::PROTO)?.min(LARGEST);
                out.resize(len as usize, 0);
                let read = read_at(&self.image, out, field(8)?)?;
                out.truncate(read);
            }
            // struct fuse_write_in, then the data.
            WRITE => {
                let data = body.get(40..).ok_or(Errno::PROTO)?;
                let written = self.image.write_all_at(data, field(8)?);
                written.map_err(errno_of)?;
                out.extend((data.len() as u64).to_ne_bytes());
            }
            // struct fuse_fallocate_in
            FALLOCATE => {
                let mode = number(body, 24).ok_or(Errno::PROTO)?;
                let mode = FallocateFlags::from_bits_retain(mode);
                fallocate(self.image.as_fd(), mode, field(8)?, field(16)?)?;
            }
            RELEASE | FSYNC | FLUSH => {}
            _ => return Err(Errno::NOSYS),
        }
        Ok(())
    }

    /// `struct fuse_attr_out` of the one file.
    fn attributes(&self, out: &mut Vec<u8>) -> Result<(), Errno> {
        let meta = rustix::fs::fstat(&self.image)?;
        let words = |out: &mut Vec<u8>, words: &[u32]| {
            out.extend(words.iter().copied().flat_map(u32::to_ne_bytes));
        };
        // Valid for ever; inode 1, size, blocks, three times.
        let (size, blocks) = (meta.st_size as u64, meta.st_blocks as u64);
        out.extend(3600_u64.to_ne_bytes());
        words(out, &[0, 0]);
        out.extend(
            [1, size, blocks, 0, 0, 0]
                .into_iter()
                .flat_map(u64::to_ne_bytes),
        );
        // Nanoseconds, mode, links, owner, device, block size, flags.
        words(out, &[0, 0, 0, 0o100_600, 1, 0, 0, 0, 4096, 0]);
        Ok(())
    }
}

/// `struct fuse_init_out`: version 7.31, and as deep as [`DEPTH`].
fn initialised(body: &[u8], out: &mut Vec<u8>) {
    const ASYNC_READ: u32 = 1 << 0;
    const BIG_WRITES: u32 = 1 << 5;
    const ASYNC_DIRECT_IO: u32 = 1 << 15;
    const MAX_PAGES: u32 = 1 << 22;
    let offered = number(body, 12).unwrap_or(0);
    let flags = offered & (ASYNC_READ | BIG_WRITES | ASYNC_DIRECT_IO | MAX_PAGES);
    for word in [7, 31, LARGEST, flags] {
        out.extend(u32::to_ne_bytes(word));
    }
    // Requests in the background, and where that counts as congested.
    out.extend([256_u16, 192].into_iter().flat_map(u16::to_ne_bytes));
    out.extend(LARGEST.to_ne_bytes());
    out.extend(1_u32.to_ne_bytes());
    let pages = (LARGEST / 4096) as u16;
    out.extend([pages, 0].into_iter().flat_map(u16::to_ne_bytes));
    out.extend([0; 32]);
}

/// Fewer bytes than `buffer` has room for only at the end of the file.
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(&mut buffer[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(len) => read += len,
            Err(error) => return Err(errno_of(error)),
        }
    }
    Ok(read)
}

fn errno_of(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
