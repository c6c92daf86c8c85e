//! Indexes: what a stored stream does, without its data, in a file beside it.
//!
//! An index is named as its stream, with `.index` after it. It has, in this order and with
//! numbers in little-endian:
//!
//! - [`MAGIC`];
//! - what identifies the stream's file: size (8 bytes), time of the last change in seconds
//!   (8) and nanoseconds (4), SHA-256 of its first and last 64 KiB (32);
//! - a stream of the same commands, with UPDATE_EXTENT instead of data;
//! - of each command, the byte of the stream where it begins, times two, and one more if
//!   UPDATE_EXTENT stands for data (8);
//! - the length of that stream (8), and the SHA-256 of everything before (32).

use std::fs::{File, Metadata};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use btrfs_sendstream::{Command, CommandRef, Encoder, Item, Reader, Version};
use sha2::{Digest, Sha256};

/// How an index begins. It has the length of the magic of a stream.
pub const MAGIC: &[u8; 13] = b"btrfs-index-1";

const IDENTITY: usize = 8 + 8 + 4 + 32;
const HEAD: u64 = (MAGIC.len() + IDENTITY) as u64;
const FOOT: u64 = 8 + 32;

/// Bytes at each end of a file that identify it.
const END: u64 = 64 * 1024;

/// Why there is no index, or it is not used.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The stream is damaged, or cannot be read.
    #[error(transparent)]
    Stream(#[from] btrfs_sendstream::Error),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] io::Error),
    /// The stream was changed after the index was written.
    #[error("the stream has been changed or copied since the index was written")]
    Stale,
    /// The index is damaged, or is none.
    #[error("the index is damaged")]
    Damaged,
    /// Somebody else could write the index.
    #[error("the index belongs to another user than the stream")]
    Owner,
}

/// The name of the index of a stream.
pub fn name_of_index(stream: &Path) -> PathBuf {
    let mut name = stream.as_os_str().to_owned();
    name.push(".index");
    name.into()
}

/// What identifies the file of a stream.
fn identity(stream: &File) -> io::Result<[u8; IDENTITY]> {
    let facts = stream.metadata()?;
    let mut hash = Sha256::new();
    let mut end = Vec::new();
    for start in [0, facts.len().saturating_sub(END)] {
        end.clear();
        At::new(stream, start..start.saturating_add(END)).read_to_end(&mut end)?;
        hash.update(&end);
    }
    let mut bytes = [0; IDENTITY];
    let mut rest = &mut bytes[..];
    rest.write_all(&facts.len().to_le_bytes())?;
    rest.write_all(&facts.mtime().to_le_bytes())?;
    let nanoseconds = u32::try_from(facts.mtime_nsec()).unwrap_or_default();
    rest.write_all(&nanoseconds.to_le_bytes())?;
    rest.write_all(&hash.finalize())?;
    Ok(bytes)
}

/// A range of a file, read without its position.
#[derive(Debug)]
struct At<'f> {
    file: &'f File,
    range: std::ops::Range<u64>,
}

impl<'f> At<'f> {
    fn new(file: &'f File, range: std::ops::Range<u64>) -> Self {
        Self { file, range }
    }
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.range.end.saturating_sub(self.range.start);
        let most = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let buffer = buffer.get_mut(..most).unwrap_or_default();
        let count = self.file.read_at(buffer, self.range.start)?;
        self.range.start += count as u64;
        Ok(count)
    }
}

/// Writes the index of a stream to a file that is empty: what `input` reads of the file
/// `stream`, unpacked if need be. `temporary` is another file.
///
/// # Errors
/// See [`IndexError`]. What was written is of no use.
pub fn write_index<R: Read>(
    stream: &File,
    input: R,
    index: &File,
    temporary: File,
) -> Result<(), IndexError> {
    let before = identity(stream)?;
    let mut out = BufWriter::with_capacity(256 * 1024, index);
    out.write_all(MAGIC)?;
    out.write_all(&before)?;
    let mut positions = BufWriter::with_capacity(256 * 1024, temporary);
    let (mut reader, mut encoder, mut frame) = (Reader::new(input), Encoder::new(), Vec::new());
    let mut len = 0;
    loop {
        let position = reader.consumed();
        frame.clear();
        match reader.next_item()? {
            None => break,
            Some(Item::Header(version)) => encoder.header(version, &mut frame)?,
            Some(Item::Command(command)) => {
                let data = without_data(&command);
                encoder.command(data.as_ref().unwrap_or(&command), &mut frame)?;
                let word = position << 1 | u64::from(data.is_some());
                positions.write_all(&word.to_le_bytes())?;
            }
            // The reader refuses unknown commands.
            Some(_) => continue,
        }
        out.write_all(&frame)?;
        len += frame.len() as u64;
    }
    let mut positions = positions
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;
    positions.seek(SeekFrom::Start(0))?;
    io::copy(&mut positions, &mut out)?;
    out.write_all(&len.to_le_bytes())?;
    out.flush()?;
    if identity(stream)? != before {
        return Err(IndexError::Stale);
    }
    let hash = hash(index, index.metadata()?.len())?;
    out.write_all(&hash)?;
    Ok(out.flush()?)
}

/// What stands for a command with data.
fn without_data<'a>(command: &CommandRef<'a>) -> Option<CommandRef<'a>> {
    match command {
        Command::Write { path, offset, data } => Some(Command::UpdateExtent {
            path: *path,
            offset: *offset,
            len: data.len() as u64,
        }),
        Command::EncodedWrite(write) => Some(Command::UpdateExtent {
            path: write.path,
            offset: write.offset,
            len: write.unencoded_file_len,
        }),
        _ => None,
    }
}

/// The SHA-256 of the beginning of a file.
fn hash(file: &File, len: u64) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut from = BufReader::with_capacity(256 * 1024, At::new(file, 0..len));
    io::copy(&mut from, &mut hash)?;
    Ok(hash.finalize().into())
}

/// A command in an index.
#[derive(Clone, Debug)]
pub struct Indexed<'i> {
    /// The command, or an UPDATE_EXTENT that stands for data.
    pub command: CommandRef<'i>,
    /// The byte of the stream where it begins.
    pub position: u64,
    /// Whether the stream has data where the command is UPDATE_EXTENT.
    pub has_data: bool,
    /// The version of the stream.
    pub version: Version,
}

/// An index that was verified.
#[derive(Debug)]
pub struct Index {
    file: File,
    /// Where its stream ends, and where the positions of the commands end.
    ends: (u64, u64),
}

impl Index {
    /// Opens the index of a stream; `None` if there is none.
    ///
    /// # Errors
    /// It is not of this stream, or damaged: see [`IndexError`].
    pub fn open(stream: &Path) -> Result<Option<Self>, IndexError> {
        let name = name_of_index(stream);
        match std::fs::metadata(&name) {
            // To open a FIFO would wait for its writer.
            Ok(facts) if !facts.is_file() => return Err(IndexError::Damaged),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        Self::verify(File::open(name)?, &File::open(stream)?).map(Some)
    }

    fn verify(file: File, stream: &File) -> Result<Self, IndexError> {
        let facts = file.metadata()?;
        if !may_be_trusted(&facts, &stream.metadata()?) {
            return Err(IndexError::Owner);
        }
        let end = facts.len().checked_sub(FOOT).filter(|&end| end >= HEAD);
        let end = end.ok_or(IndexError::Damaged)?;
        let mut head = Vec::new();
        At::new(&file, 0..HEAD).read_to_end(&mut head)?;
        let Some(recorded) = head.strip_prefix(&MAGIC[..]) else {
            return Err(IndexError::Damaged);
        };
        if recorded != identity(stream)? {
            return Err(IndexError::Stale);
        }
        let mut foot = Vec::new();
        At::new(&file, end..facts.len()).read_to_end(&mut foot)?;
        let Some((len, recorded)) = foot.split_first_chunk::<8>() else {
            return Err(IndexError::Damaged);
        };
        let stream_end = HEAD.checked_add(u64::from_le_bytes(*len));
        let stream_end = stream_end.filter(|&it| it <= end && (end - it).is_multiple_of(8));
        let stream_end = stream_end.ok_or(IndexError::Damaged)?;
        if recorded != hash(&file, end + 8)? {
            return Err(IndexError::Damaged);
        }
        let ends = (stream_end, end);
        Ok(Self { file, ends })
    }

    /// Hands over the commands.
    ///
    /// # Errors
    /// The index cannot be read, and the caller's own.
    pub fn read<E: From<btrfs_sendstream::Error>>(
        &self,
        mut take: impl FnMut(Indexed<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (stream_end, end) = self.ends;
        let mut reader = Reader::new(At::new(&self.file, HEAD..stream_end));
        let mut positions = BufReader::new(At::new(&self.file, stream_end..end));
        let mut version = Version::V1;
        while let Some(item) = reader.next_item()? {
            match item {
                Item::Header(new) => version = new,
                Item::Command(command) => {
                    let mut word = [0; 8];
                    let read = positions.read_exact(&mut word);
                    read.map_err(btrfs_sendstream::Error::from)?;
                    let word = u64::from_le_bytes(word);
                    take(Indexed {
                        command,
                        position: word >> 1,
                        has_data: word & 1 != 0,
                        version,
                    })?;
                }
                // The reader refuses unknown commands.
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether nobody can have written the index who could not have written the stream.
fn may_be_trusted(index: &Metadata, stream: &Metadata) -> bool {
    let others = index.mode() & 0o002 != 0 && stream.mode() & 0o002 == 0;
    (index.uid() == stream.uid() || index.uid() == 0) && !others
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use btrfs_sendstream::{StreamPath, SubvolumeName, Uuid};
    use proptest::prelude::*;

    use super::*;
    use crate::files::{Fetch, FetchError, History};

    fn path(text: &str) -> StreamPath<&[u8]> {
        StreamPath::parse(text.as_bytes()).unwrap()
    }

    fn stream() -> Vec<u8> {
        let (mut encoder, mut stream) = (Encoder::new(), Vec::new());
        encoder.header(Version::V2, &mut stream).unwrap();
        let mut commands = vec![Command::Subvol {
            name: SubvolumeName::parse(&b"s"[..]).unwrap(),
            uuid: Uuid::from_u128(1),
            ctransid: 7,
        }];
        for (at, data) in [("f", &b"ffff"[..]), ("g", b"ggggggg")] {
            let path = path(at);
            commands.push(Command::Mkfile { path, ino: 257 });
            let offset = 0;
            commands.push(Command::Write { path, offset, data });
            commands.push(Command::Truncate { path, size: 6 });
        }
        commands.push(Command::End);
        for command in &commands {
            encoder.command(command, &mut stream).unwrap();
        }
        stream
    }

    fn file(bytes: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file
    }

    fn indexed(stream: &File) -> Vec<u8> {
        let index = tempfile::tempfile().unwrap();
        let input = At::new(stream, 0..u64::MAX);
        write_index(stream, input, &index, tempfile::tempfile().unwrap()).unwrap();
        let mut bytes = Vec::new();
        At::new(&index, 0..u64::MAX)
            .read_to_end(&mut bytes)
            .unwrap();
        bytes
    }

    /// What was handed over.
    struct Pieces(BTreeSet<Vec<u8>>);

    impl Fetch for Pieces {
        type Error = String;

        fn data(&mut self, _: u32, _: u64, data: &[u8]) -> Result<(), String> {
            self.0.insert(data.to_vec());
            Ok(())
        }

        fn metadata(&mut self, _: u32, _: &CommandRef<'_>) -> Result<(), String> {
            Ok(())
        }
    }

    #[test]
    fn an_index_leads_to_the_content() {
        let stream = file(&stream());
        let index = Index::verify(file(&indexed(&stream)), &stream).unwrap();
        let storage = io::Cursor::new(Vec::new());
        let mut history = History::new(storage, 1 << 20);
        history.read_index(&index).unwrap();
        let (node, _, size) = history.find(&path("g").to_owned()).unwrap();
        assert_eq!(size, 6);
        let (mut pieces, mut stream) = (Pieces(BTreeSet::new()), stream);
        let needs = history.content(node).unwrap();
        needs.fetch_parts(0, &mut stream, &mut pieces).unwrap();
        assert_eq!(pieces.0, BTreeSet::from([b"gggggg".to_vec()]));
    }

    #[test]
    fn an_index_of_another_file_is_refused() {
        let one = file(&stream());
        let index = indexed(&one);
        let mut other = stream();
        let last = other.len() - 1;
        other[last] ^= 1;
        // The time of the last change may be the same.
        let error = Index::verify(file(&index), &file(&other)).unwrap_err();
        assert!(matches!(error, IndexError::Stale), "{error}");
    }

    proptest! {
        /// An index that lies, with a valid hash, gives errors, or data that is in the
        /// stream.
        #[test]
        fn a_forged_index_makes_up_no_data(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            words in prop::collection::vec((any::<prop::sample::Index>(), 0..400_u64), 0..4),
        ) {
            let stream = file(&stream());
            let mut index = indexed(&stream);
            let body = index.len() - 32;
            let (head, ends) = (HEAD as usize, body - 8);
            if words.is_empty() {
                for (at, bits) in &changes {
                    index[head + at.index(body - head)] ^= bits;
                }
            }
            // Positions: those of the last commands.
            for (at, word) in &words {
                let at = ends - 8 * (1 + at.index(7));
                index[at..at + 8].copy_from_slice(&word.to_le_bytes());
            }
            let hash = Sha256::digest(&index[..body]);
            index[body..].copy_from_slice(&hash);
            let Ok(index) = Index::verify(file(&index), &stream) else {
                return Ok(());
            };
            for at in ["f", "g"] {
                let storage = io::Cursor::new(Vec::new());
                let mut history = History::new(storage, 1 << 20);
                if history.read_index(&index).is_err() {
                    continue;
                }
                let Ok((node, ..)) = history.find(&path(at).to_owned()) else {
                    continue;
                };
                let Ok(needs) = history.content(node) else {
                    continue;
                };
                let (mut pieces, mut source) = (Pieces(BTreeSet::new()), &stream);
                match needs.fetch_parts(0, &mut source, &mut pieces) {
                    Ok(()) => {}
                    Err(FetchError::Sink(error)) => prop_assert!(false, "{error}"),
                    Err(_) => continue,
                }
                for piece in pieces.0 {
                    let known = b"ffff".starts_with(&piece) || b"ggggggg".starts_with(&piece);
                    prop_assert!(known, "{piece:?}");
                }
            }
        }
    }
}
