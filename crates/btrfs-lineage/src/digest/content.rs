//! The content of files: a digest of the digests of chunks.
//!
//! Chunks without a byte other than zero are left out, so that holes, ranges
//! that were allocated and never written, and zeros that were written are the
//! same; and holes need not be read.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread;

use rustix::fs::{SeekFrom, seek};
use rustix::io::{Errno, pread};
use sha2::{Digest as _, Sha256};

use super::error::Problem;
use super::options::DigestProgress;
use super::record::{Record, Recorded};
use super::sha::Sha;
use super::sync::{lock, wait};

/// Bytes in a chunk.
const CHUNK: u64 = 1 << 20;

/// Bytes read at once.
const PIECE: usize = 128 << 10;

/// Larger files are read by several threads, each this many chunks at a time.
const SEGMENT: u64 = 4 * CHUNK;

/// No segment is begun that is further than this from the first unfinished
/// one.
const WINDOW: u64 = 1024;

const ZEROS: [u8; 4096] = [0; 4096];

/// What reads files; each thread has one.
pub(super) struct Content {
    piece: Vec<u8>,
}

/// The digest of a chunk and its number.
type Chunk = (u64, [u8; 32]);

impl Content {
    pub(super) fn new() -> Self {
        Self {
            piece: vec![0; PIECE],
        }
    }

    /// The digest of a whole file.
    pub(super) fn of(
        &mut self,
        file: &OwnedFd,
        size: u64,
        progress: &DigestProgress,
    ) -> Result<Sha, Problem> {
        let mut digest = Sha256::new();
        self.chunks(file, (0, size), size, progress, |chunk| {
            feed(&mut digest, chunk)
        })?;
        Ok(Sha(digest.finalize().into()))
    }

    /// The chunks that begin in a range.
    fn chunks(
        &mut self,
        file: &OwnedFd,
        (mut from, to): (u64, u64),
        size: u64,
        progress: &DigestProgress,
        mut found: impl FnMut(Chunk),
    ) -> Result<(), Problem> {
        while from < to {
            // Of a small file the hole costs less than the call.
            if size > CHUNK {
                match data_from(file, from, size)? {
                    Some(data) if data < to => from = from.max(data / CHUNK * CHUNK),
                    _ => return Ok(()),
                }
            }
            if let Some(digest) = self.chunk(file, from, (size - from).min(CHUNK), progress)? {
                found((from / CHUNK, digest));
            }
            from += CHUNK;
        }
        Ok(())
    }

    /// The digest of `len` bytes; `None` if there are only zeros.
    fn chunk(
        &mut self,
        file: &OwnedFd,
        offset: u64,
        len: u64,
        progress: &DigestProgress,
    ) -> Result<Option<[u8; 32]>, Problem> {
        let mut digest = None;
        let mut done = 0;
        while done < len {
            if progress.is_cancelled() {
                return Err(Problem::Cancelled);
            }
            let wanted = usize::try_from(len - done).unwrap_or(PIECE).min(PIECE);
            let piece = self.piece.get_mut(..wanted).unwrap_or_default();
            let read = match pread(file, &mut *piece, offset + done) {
                // Somebody has made the file shorter.
                Ok(0) => return Err(Problem::Changed),
                Ok(read) => read,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(Problem::of("pread")(errno)),
            };
            let piece = piece.get(..read).unwrap_or_default();
            if digest.is_none() && !is_zero(piece) {
                let mut begun = Sha256::new();
                zeros(&mut begun, done);
                digest = Some(begun);
            }
            if let Some(digest) = &mut digest {
                digest.update(piece);
            }
            done += read as u64;
            progress.read(read);
        }
        Ok(digest.map(|digest| digest.finalize().into()))
    }
}

fn feed(digest: &mut Sha256, (number, chunk): Chunk) {
    digest.update(number.to_le_bytes());
    digest.update(chunk);
}

fn zeros(digest: &mut Sha256, mut count: u64) {
    while count > 0 {
        let some = usize::try_from(count)
            .unwrap_or(usize::MAX)
            .min(ZEROS.len());
        digest.update(ZEROS.get(..some).unwrap_or_default());
        count -= some as u64;
    }
}

/// Compares each byte with the one before it, which is as fast as memcmp.
fn is_zero(bytes: &[u8]) -> bool {
    match bytes {
        [0, rest @ ..] => bytes.starts_with(rest),
        [_, ..] => false,
        [] => true,
    }
}

/// Where data begins, at `from` or behind it.
fn data_from(file: impl AsFd, from: u64, size: u64) -> Result<Option<u64>, Problem> {
    match seek(file, SeekFrom::Data(from)) {
        Ok(data) => Ok(Some(data).filter(|&data| data < size)),
        Err(Errno::NXIO) => Ok(None),
        // Everything is data then.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Some(from)),
        Err(errno) => Err(Problem::of("lseek")(errno)),
    }
}

/// Whether several threads are to read a file.
pub(super) fn is_large(size: u64) -> bool {
    size > 2 * SEGMENT
}

/// The number of the inode and how many names it has, if these are several.
pub(super) type Linked = Option<(u64, u64)>;

/// A file that several threads read.
pub(super) struct LargeFile {
    file: OwnedFd,
    size: u64,
    linked: Linked,
    next: Mutex<Next>,
    done: Mutex<Done>,
    progress: Condvar,
    /// Threads at work.
    readers: AtomicUsize,
}

/// What is to be read next.
struct Next {
    offset: u64,
    segment: u64,
}

/// What was read.
struct Done {
    digest: Sha256,
    record: Option<Record>,
    /// The first segment that is not in the digest.
    first: u64,
    /// Those behind it.
    waiting: BTreeMap<u64, Vec<Chunk>>,
    failed: bool,
}

/// Wakes those who wait for this thread, if it panics.
struct OnPanic<'a>(&'a LargeFile);

impl Drop for OnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            lock(&self.0.done).failed = true;
            self.0.progress.notify_all();
        }
    }
}

impl LargeFile {
    pub(super) fn new(file: OwnedFd, size: u64, record: Record, linked: Linked) -> Self {
        Self {
            file,
            size,
            linked,
            next: Mutex::new(Next {
                offset: 0,
                segment: 0,
            }),
            done: Mutex::new(Done {
                digest: Sha256::new(),
                record: Some(record),
                first: 0,
                waiting: BTreeMap::new(),
                failed: false,
            }),
            progress: Condvar::new(),
            readers: AtomicUsize::new(0),
        }
    }

    /// Reads until nothing is left to begin. Returns the inode, and what was
    /// said of its names, to the thread that ends last.
    pub(super) fn help(
        &self,
        content: &mut Content,
        progress: &DigestProgress,
    ) -> Result<Option<(Recorded, Linked)>, Problem> {
        self.readers.fetch_add(1, Ordering::AcqRel);
        let _on_panic = OnPanic(self);
        let read = self.segments(content, progress);
        let is_last = self.readers.fetch_sub(1, Ordering::AcqRel) == 1;
        let mut done = lock(&self.done);
        if read.is_err() {
            done.failed = true;
            self.progress.notify_all();
        }
        read?;
        if !is_last || done.failed {
            return Ok(None);
        }
        // A thread that comes later finds no record.
        let content = Sha(done.digest.clone().finalize().into());
        let record = done.record.take();
        Ok(record.map(|record| (record.file(self.size, content), self.linked)))
    }

    fn segments(&self, content: &mut Content, progress: &DigestProgress) -> Result<(), Problem> {
        while let Some((number, from, to)) = self.begin()? {
            let mut chunks = Vec::new();
            content.chunks(&self.file, (from, to), self.size, progress, |chunk| {
                chunks.push(chunk);
            })?;
            let mut done = lock(&self.done);
            done.waiting.insert(number, chunks);
            let before = done.first;
            loop {
                let first = done.first;
                let Some(chunks) = done.waiting.remove(&first) else {
                    break;
                };
                for chunk in chunks {
                    feed(&mut done.digest, chunk);
                }
                done.first += 1;
            }
            if done.first > before {
                self.progress.notify_all();
            }
            // Whoever reads the first unfinished segment does not wait here.
            while number >= done.first + WINDOW && !done.failed {
                done = wait(&self.progress, done);
            }
            if done.failed {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The next segment that has data: its number, and its range.
    fn begin(&self) -> Result<Option<(u64, u64, u64)>, Problem> {
        let mut next = lock(&self.next);
        if next.offset >= self.size {
            return Ok(None);
        }
        let Some(data) = data_from(&self.file, next.offset, self.size)? else {
            next.offset = self.size;
            return Ok(None);
        };
        let from = next.offset.max(data / CHUNK * CHUNK);
        let to = from.saturating_add(SEGMENT).min(self.size);
        let number = next.segment;
        next.offset = to;
        next.segment += 1;
        Ok(Some((number, from, to)))
    }
}

#[cfg(test)]
mod tests {
    use super::is_zero;

    #[test]
    fn zeros_are_recognised() {
        let mut bytes = vec![0; 1000];
        assert!(is_zero(&bytes) && is_zero(&[]));
        for at in [0, 1, 500, 999] {
            bytes[at] = 1;
            assert!(!is_zero(&bytes), "{at}");
            bytes[at] = 0;
        }
    }
}
