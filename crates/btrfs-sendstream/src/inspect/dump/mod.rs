//! Commands as text, one to a line, byte for byte as `btrfs receive --dump`
//! of btrfs-progs 6.19 prints them.

mod escape;
mod time;

use std::io::Write;

use uuid::Uuid;

use crate::{Command, StreamPath, Timespec};

pub use escape::{push_escaped, push_escaped_unless};
pub use time::{LocalTime, TimeZone, UtcOffset};

/// Column, counted from the path, at which a line's fields begin unless the
/// path is too long.
const PATH_WIDTH: usize = 32;

/// Formats commands as lines of text, byte for byte as `btrfs receive --dump`
/// of btrfs-progs 6.19 prints them.
///
/// Names are escaped as [`push_escaped`] does. Times are local times of
/// `zone`; this crate makes no system call, so the caller says which zone.
///
/// ```
/// use btrfs_sendstream::inspect::{DumpFormatter, UtcOffset};
/// use btrfs_sendstream::{Command, StreamPath};
///
/// let mut formatter = DumpFormatter::new(UtcOffset::UTC);
/// let mut text = Vec::new();
/// formatter.push(&mut text, &Command::Truncate {
///     path: StreamPath::parse(&b"a file"[..])?,
///     size: 7,
/// });
/// assert_eq!(text, b"truncate        a\\ file                         size=7\n");
/// # Ok::<(), btrfs_sendstream::PathError>(())
/// ```
#[derive(Debug)]
pub struct DumpFormatter<Z> {
    times: LocalTime<Z>,
    /// `./NAME/` of the current subvolume, escaped.
    prefix: Vec<u8>,
}

impl<Z: TimeZone> DumpFormatter<Z> {
    /// Creates a formatter that prints times of `zone`.
    pub fn new(zone: Z) -> Self {
        Self {
            times: LocalTime::new(zone),
            prefix: Vec::new(),
        }
    }

    /// Appends the line for `command`, with a line feed. END has no line.
    ///
    /// Commands have to come in the order of the stream: the lines show each
    /// path below the name of the subvolume that began last.
    pub fn push<B: AsRef<[u8]>>(&mut self, out: &mut Vec<u8>, command: &Command<B>) {
        match command {
            Command::Subvol {
                name,
                uuid,
                ctransid,
            } => {
                self.begin(out, "subvol          ", name.as_bytes());
                push_id(out, b"uuid=", uuid, b" transid=", *ctransid);
            }
            Command::Snapshot {
                name,
                uuid,
                ctransid,
                parent_uuid,
                parent_ctransid,
            } => {
                self.begin(out, "snapshot        ", name.as_bytes());
                push_id(out, b"uuid=", uuid, b" transid=", *ctransid);
                let parent = *parent_ctransid;
                push_id(
                    out,
                    b" parent_uuid=",
                    parent_uuid,
                    b" parent_transid=",
                    parent,
                );
            }
            Command::End => return,
            Command::Mkfile { path, .. } => self.bare(out, "mkfile          ", path),
            Command::Mkdir { path, .. } => self.bare(out, "mkdir           ", path),
            Command::Mkfifo { path, .. } => self.bare(out, "mkfifo          ", path),
            Command::Mksock { path, .. } => self.bare(out, "mksock          ", path),
            Command::Unlink { path } => self.bare(out, "unlink          ", path),
            Command::Rmdir { path } => self.bare(out, "rmdir           ", path),
            Command::Mknod {
                path, rdev, mode, ..
            } => {
                self.start(out, "mknod           ", path);
                push_octal(out, b"mode=", *mode);
                // Vec's Write never fails.
                let _ = write!(out, " dev=0x{rdev:x}");
            }
            Command::Symlink { path, target, .. } => {
                self.start(out, "symlink         ", path);
                push_text(out, b"dest=", target.as_ref());
            }
            Command::Rename { path, to } => {
                self.start(out, "rename          ", path);
                out.extend_from_slice(b"dest=");
                self.push_path(out, to);
            }
            Command::Link { path, existing } => {
                self.start(out, "link            ", path);
                push_text(out, b"dest=", existing.as_bytes());
            }
            Command::SetXattr { path, name, data } => {
                self.start(out, "set_xattr       ", path);
                push_text(out, b"name=", name.as_ref());
                push_text(out, b" ", data.as_ref());
                push_number(out, b" len=", data.as_ref().len() as u64);
            }
            Command::RemoveXattr { path, name } => {
                self.start(out, "remove_xattr    ", path);
                push_text(out, b"name=", name.as_ref());
            }
            Command::Chmod { path, mode } => {
                self.start(out, "chmod           ", path);
                push_octal(out, b"mode=", *mode);
            }
            Command::Chown { path, uid, gid } => {
                self.start(out, "chown           ", path);
                push_number(out, b"gid=", *gid);
                push_number(out, b" uid=", *uid);
            }
            Command::Utimes {
                path,
                atime,
                mtime,
                ctime,
                ..
            } => {
                self.start(out, "utimes          ", path);
                self.push_time(out, b"atime=", atime);
                self.push_time(out, b" mtime=", mtime);
                self.push_time(out, b" ctime=", ctime);
            }
            Command::FileAttr { path, attributes } => {
                self.start(out, "fileattr        ", path);
                // Decimal behind the 0x: what the reference prints.
                push_number(out, b"fileattr=0x", *attributes);
            }
            Command::Write { path, offset, data } => {
                self.start(out, "write           ", path);
                push_range(out, *offset, data.as_ref().len() as u64);
            }
            Command::Clone(clone) => {
                self.start(out, "clone           ", &clone.path);
                push_range(out, clone.offset, clone.len);
                out.extend_from_slice(b" from=");
                self.push_path(out, &clone.source_path);
                push_number(out, b" clone_offset=", clone.source_offset);
            }
            Command::Truncate { path, size } => {
                self.start(out, "truncate        ", path);
                push_number(out, b"size=", *size);
            }
            Command::UpdateExtent { path, offset, len } => {
                self.start(out, "update_extent   ", path);
                push_range(out, *offset, *len);
            }
            Command::Fallocate {
                path,
                mode,
                offset,
                len,
            } => {
                self.start(out, "fallocate       ", path);
                push_number(out, b"mode=", u64::from(*mode));
                out.push(b' ');
                push_range(out, *offset, *len);
            }
            Command::EncodedWrite(write) => {
                self.start(out, "encoded_write   ", &write.path);
                push_range(out, write.offset, write.data.as_ref().len() as u64);
                push_number(out, b" unencoded_file_len=", write.unencoded_file_len);
                push_number(out, b" unencoded_len=", write.unencoded_len);
                push_number(out, b" unencoded_offset=", write.unencoded_offset);
                let number = |value: Option<u32>| u64::from(value.unwrap_or(0));
                push_number(out, b" compression=", number(write.compression));
                push_number(out, b" encryption=", number(write.encryption));
            }
            Command::EnableVerity(verity) => {
                self.start(out, "enable_verity   ", &verity.path);
                push_number(out, b"algorithm=", u64::from(verity.algorithm));
                push_number(out, b" block_size=", u64::from(verity.block_size));
                push_number(out, b" salt_len=", verity.salt.as_ref().len() as u64);
                push_number(out, b" sig_len=", verity.signature.as_ref().len() as u64);
            }
        }
        out.push(b'\n');
    }

    /// The beginning of a SUBVOL's or SNAPSHOT's line; what follows is in
    /// that subvolume.
    fn begin(&mut self, out: &mut Vec<u8>, title: &str, name: &[u8]) {
        self.prefix.clear();
        self.prefix.extend_from_slice(b"./");
        push_escaped(&mut self.prefix, name);
        out.extend_from_slice(title.as_bytes());
        let start = out.len();
        out.extend_from_slice(&self.prefix);
        pad(out, start);
        self.prefix.push(b'/');
    }

    /// A line without fields.
    fn bare<B: AsRef<[u8]>>(&self, out: &mut Vec<u8>, title: &str, path: &StreamPath<B>) {
        out.extend_from_slice(title.as_bytes());
        self.push_path(out, path);
    }

    /// A line up to its fields.
    fn start<B: AsRef<[u8]>>(&self, out: &mut Vec<u8>, title: &str, path: &StreamPath<B>) {
        out.extend_from_slice(title.as_bytes());
        let start = out.len();
        self.push_path(out, path);
        pad(out, start);
    }

    fn push_path<B: AsRef<[u8]>>(&self, out: &mut Vec<u8>, path: &StreamPath<B>) {
        out.extend_from_slice(&self.prefix);
        push_escaped(out, path.as_bytes());
    }

    fn push_time(&mut self, out: &mut Vec<u8>, key: &[u8], time: &Timespec) {
        out.extend_from_slice(key);
        self.times.push(out, time.seconds);
    }
}

/// Fills up to the column of the fields, with one space at least.
fn pad(out: &mut Vec<u8>, start: usize) {
    out.push(b' ');
    let column = start + PATH_WIDTH;
    if out.len() < column {
        out.resize(column, b' ');
    }
}

fn push_range(out: &mut Vec<u8>, offset: u64, len: u64) {
    push_number(out, b"offset=", offset);
    push_number(out, b" len=", len);
}

fn push_id(out: &mut Vec<u8>, key: &[u8], uuid: &Uuid, transid_key: &[u8], transid: u64) {
    out.extend_from_slice(key);
    // Vec's Write never fails.
    let _ = write!(out, "{}", uuid.as_hyphenated());
    push_number(out, transid_key, transid);
}

fn push_text(out: &mut Vec<u8>, key: &[u8], text: &[u8]) {
    out.extend_from_slice(key);
    push_escaped(out, text);
}

fn push_octal(out: &mut Vec<u8>, key: &[u8], value: u64) {
    out.extend_from_slice(key);
    // Vec's Write never fails.
    let _ = write!(out, "{value:o}");
}

fn push_number(out: &mut Vec<u8>, key: &[u8], value: u64) {
    out.extend_from_slice(key);
    // Faster than the formatting of std, which shows on long dumps.
    let start = out.len();
    let mut rest = value;
    loop {
        out.push(digit(rest));
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if let Some(digits) = out.get_mut(start..) {
        digits.reverse();
    }
}

/// The last decimal digit of a number.
fn digit(number: u64) -> u8 {
    b"0123456789"
        .get((number % 10) as usize)
        .copied()
        .unwrap_or(b'0')
}

#[cfg(test)]
mod tests {
    use crate::{CloneRange, CommandRef, EnableVerity, EncodedWrite, SubvolumeName};

    use super::*;

    fn path(bytes: &'static str) -> StreamPath<&'static [u8]> {
        StreamPath::parse(bytes.as_bytes()).unwrap()
    }

    /// The lines of `commands` in a subvolume called `s v`.
    fn lines(commands: &[CommandRef<'_>]) -> Vec<String> {
        let mut formatter = DumpFormatter::new(UtcOffset::UTC);
        let mut out = Vec::new();
        let subvolume = Command::Subvol {
            name: SubvolumeName::parse(&b"s v"[..]).unwrap(),
            uuid: Uuid::from_u128(1),
            ctransid: 7,
        };
        formatter.push(&mut out, &subvolume);
        out.clear();
        for command in commands {
            formatter.push(&mut out, command);
        }
        let text = String::from_utf8(out).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    // Commands that no sample holds, and names that none has.
    #[test]
    fn formats_what_the_samples_lack() {
        let commands = [
            Command::Symlink {
                path: path("a"),
                ino: 257,
                target: &b"../x y\n"[..],
            },
            Command::Link {
                path: path("a"),
                existing: path("d/\u{e4}"),
            },
            Command::RemoveXattr {
                path: path("a"),
                name: b"user.a b",
            },
            Command::FileAttr {
                path: path("a"),
                attributes: 512,
            },
            Command::Chmod {
                path: path("a"),
                mode: 0,
            },
            Command::Truncate {
                path: path("a"),
                size: u64::MAX,
            },
        ];
        assert_eq!(
            lines(&commands),
            [
                "symlink         ./s\\ v/a                        dest=../x\\ y\\n",
                "link            ./s\\ v/a                        dest=d/\\303\\244",
                "remove_xattr    ./s\\ v/a                        name=user.a\\ b",
                "fileattr        ./s\\ v/a                        fileattr=0x512",
                "chmod           ./s\\ v/a                        mode=0",
                "truncate        ./s\\ v/a                        size=18446744073709551615",
            ]
        );
    }

    #[test]
    fn formats_data_that_the_samples_lack() {
        let commands = [
            Command::Clone(CloneRange {
                path: path("a"),
                offset: 1,
                len: 2,
                source_uuid: Uuid::nil(),
                source_ctransid: 3,
                source_path: path("b c"),
                source_offset: 4,
            }),
            Command::EncodedWrite(EncodedWrite {
                path: path("a"),
                offset: 1,
                unencoded_file_len: 2,
                unencoded_len: 3,
                unencoded_offset: 4,
                compression: None,
                encryption: None,
                data: &b"12345"[..],
            }),
            Command::EnableVerity(EnableVerity {
                path: path("a"),
                algorithm: 1,
                block_size: 4096,
                salt: &b"salt"[..],
                signature: &b""[..],
            }),
        ];
        assert_eq!(
            lines(&commands),
            [
                "clone           ./s\\ v/a                        \
                 offset=1 len=2 from=./s\\ v/b\\ c clone_offset=4",
                "encoded_write   ./s\\ v/a                        \
                 offset=1 len=5 unencoded_file_len=2 unencoded_len=3 unencoded_offset=4 \
                 compression=0 encryption=0",
                "enable_verity   ./s\\ v/a                        \
                 algorithm=1 block_size=4096 salt_len=4 sig_len=0",
            ]
        );
    }

    #[test]
    fn fields_begin_in_one_column_unless_the_path_is_long() {
        let truncate = |name| Command::Truncate {
            path: path(name),
            size: 1,
        };
        // With ./s\ v/ before it, 31, 32 and 33 columns.
        let commands = [
            truncate("aaaaaaaaaaaaaaaaaaaaaaaa"),
            truncate("aaaaaaaaaaaaaaaaaaaaaaaaa"),
            truncate("aaaaaaaaaaaaaaaaaaaaaaaa\n"),
            Command::Unlink { path: path("a") },
        ];
        assert_eq!(
            lines(&commands),
            [
                "truncate        ./s\\ v/aaaaaaaaaaaaaaaaaaaaaaaa size=1",
                "truncate        ./s\\ v/aaaaaaaaaaaaaaaaaaaaaaaaa size=1",
                "truncate        ./s\\ v/aaaaaaaaaaaaaaaaaaaaaaaa\\n size=1",
                "unlink          ./s\\ v/a",
            ]
        );
    }
}
