//! What commands did to inodes, in the order of the streams, in a temporary file that is
//! read backwards.

use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};

use super::names::{Node, State};

/// Bytes of a record.
const LEN: usize = 48;

/// Records read at a time.
const BLOCK: u64 = 16 * 1024;

/// One command, and the byte of its stream where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) node: Node,
    pub(super) position: u64,
    pub(super) did: Did,
}

/// What the command did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Did {
    /// The next subvolume began.
    Begin,
    /// The next file of the chain began.
    File,
    /// WRITE or ENCODED_WRITE.
    Data { offset: u64, len: u64 },
    /// UPDATE_EXTENT: data that the stream does not contain.
    NoData { offset: u64, len: u64 },
    /// A range became zeros.
    Zeros { offset: u64, len: u64 },
    /// CLONE from the inode as it is now, or as it was at the end of a subvolume.
    Clone {
        offset: u64,
        len: u64,
        from: Node,
        state: State,
        source_offset: u64,
    },
    /// CLONE from a subvolume that is not in the chain; `source` is its number in a
    /// list of such.
    CloneOutside { offset: u64, len: u64, source: u32 },
    /// Metadata changed, of the kind with this number.
    Metadata(u8),
}

impl Record {
    fn encode(&self) -> [u8; LEN] {
        let (kind, words) = match self.did {
            Did::Begin => (0, [0; 4]),
            Did::File => (1, [0; 4]),
            Did::Data { offset, len } => (2, [offset, len, 0, 0]),
            Did::NoData { offset, len } => (3, [offset, len, 0, 0]),
            Did::Zeros { offset, len } => (4, [offset, len, 0, 0]),
            Did::Clone {
                offset,
                len,
                from,
                state,
                source_offset,
            } => {
                let source = u64::from(from) | u64::from(state) << 32;
                (5, [offset, len, source_offset, source])
            }
            Did::CloneOutside {
                offset,
                len,
                source,
            } => (6, [offset, len, u64::from(source), 0]),
            Did::Metadata(what) => (7, [u64::from(what), 0, 0, 0]),
        };
        let [a, b, c, d] = words;
        let head = kind | u64::from(self.node) << 32;
        let mut bytes = [0; LEN];
        let words = [head, self.position, a, b, c, d].map(u64::to_le_bytes);
        for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word);
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut words = bytes.chunks_exact(8).map(|word| {
            let word = word.try_into().unwrap_or_default();
            u64::from_le_bytes(word)
        });
        let mut next = || words.next();
        let (head, position) = (next()?, next()?);
        let [a, b, c, d] = [next()?, next()?, next()?, next()?];
        let (offset, len) = (a, b);
        let low = |word: u64| word as u32;
        let high = |word: u64| (word >> 32) as u32;
        let did = match head & 0xff {
            0 => Did::Begin,
            1 => Did::File,
            2 => Did::Data { offset, len },
            3 => Did::NoData { offset, len },
            4 => Did::Zeros { offset, len },
            5 => Did::Clone {
                offset,
                len,
                from: low(d),
                state: high(d),
                source_offset: c,
            },
            6 => Did::CloneOutside {
                offset,
                len,
                source: low(c),
            },
            7 => Did::Metadata(a as u8),
            _ => return None,
        };
        Some(Self {
            node: high(head),
            position,
            did,
        })
    }
}

/// Writes records.
#[derive(Debug)]
pub(super) struct Log<S: Write> {
    to: BufWriter<S>,
    records: u64,
}

impl<S: Read + Write + Seek> Log<S> {
    /// The storage has to be empty.
    pub(super) fn new(storage: S) -> Self {
        Self {
            to: BufWriter::with_capacity(256 * 1024, storage),
            records: 0,
        }
    }

    pub(super) fn push(&mut self, record: Record) -> io::Result<()> {
        self.to.write_all(&record.encode())?;
        self.records += 1;
        Ok(())
    }

    /// Hands over the records, the last first.
    pub(super) fn backwards<E: From<io::Error>>(
        self,
        mut take: impl FnMut(Record) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut from = self
            .to
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        let (mut end, mut block) = (self.records, Vec::new());
        while end > 0 {
            let begin = end.saturating_sub(BLOCK);
            from.seek(SeekFrom::Start(begin * LEN as u64))?;
            block.clear();
            let len = (end - begin) * LEN as u64;
            (&mut from).take(len).read_to_end(&mut block)?;
            if block.len() as u64 != len {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            for bytes in block.chunks_exact(LEN).rev() {
                let record = Record::decode(bytes);
                take(record.ok_or(io::Error::from(io::ErrorKind::InvalidData))?)?;
            }
            end = begin;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn records_come_back_in_reverse() {
        let (offset, len, most) = (1 << 40, u64::MAX, u32::MAX);
        let kinds = [
            Did::Begin,
            Did::File,
            Did::Data { offset, len },
            Did::NoData { offset, len },
            Did::Zeros { offset, len },
            Did::Clone {
                offset,
                len,
                from: most,
                state: most - 1,
                source_offset: 7,
            },
            Did::CloneOutside {
                offset,
                len,
                source: most,
            },
            Did::Metadata(200),
        ];
        let mut log = Log::new(Cursor::new(Vec::new()));
        let count = 2 * BLOCK + 5;
        let record = |number: u64| Record {
            node: number as u32,
            position: number << 30,
            did: kinds[number as usize % kinds.len()],
        };
        for number in 0..count {
            log.push(record(number)).unwrap();
        }
        let mut expected = (0..count).rev();
        log.backwards(|found| {
            assert_eq!(Some(found), expected.next().map(record));
            Ok::<_, io::Error>(())
        })
        .unwrap();
        assert_eq!(expected.next(), None);
    }
}
