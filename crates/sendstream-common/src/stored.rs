//! Stored streams: the files that a command line names.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File, FileType};
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use crate::foreign::{MAGIC, Packed};
use crate::text::{escaped, strerror};
use crate::unpack::{Decompress, UnpackError, Unpacked};

/// How deep directories are searched. Archives are a few levels deep; a loop
/// of mounts has no end.
const MAX_DEPTH: usize = 64;

/// The files that hold streams, and what else there was.
#[derive(Debug, Default)]
pub struct Stored {
    /// In the order given; those of a directory by name.
    pub files: Vec<PathBuf>,
    /// What lies in the directories and was not taken.
    pub skipped: Vec<Skipped>,
    decompress: Decompress,
}

/// Something in a directory that was not taken for a stream.
#[derive(Debug)]
pub struct Skipped {
    /// Where.
    pub path: PathBuf,
    /// Why.
    pub why: Why,
}

/// Why something was skipped.
#[derive(Debug)]
pub enum Why {
    /// It may be a stream, compressed, and is not unpacked.
    Packed(&'static Packed),
    /// A file that begins with something else than a stream.
    NoStream,
    /// Neither a file nor a directory.
    Special(&'static str),
    /// Its name begins with a dot.
    Hidden,
    /// A symbolic link that leads out of the directory, or nowhere.
    LeadsOut,
    /// A directory as deep as no archive is.
    TooDeep,
    /// It could not be looked at, or not be unpacked.
    Unreadable(io::Error),
}

impl Skipped {
    /// Whether a stream may have been missed, so that the result cannot be
    /// called good.
    pub fn is_error(&self) -> bool {
        match self.why {
            Why::Packed(_) | Why::LeadsOut | Why::TooDeep | Why::Unreadable(_) => true,
            Why::NoStream | Why::Special(_) | Why::Hidden => false,
        }
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = escaped(self.path.as_os_str().as_encoded_bytes());
        match &self.why {
            Why::Packed(packed) => write!(
                f,
                "{path} is compressed with {}, and was not read: {}unpack it ({} FILE > STREAM), or \
                 move it out of the directory",
                packed.name,
                if packed.is_supported() {
                    "use --decompress, "
                } else {
                    ""
                },
                packed.unpack
            ),
            Why::NoStream => write!(f, "{path} is not a send stream: skipped"),
            Why::Special(kind) => write!(f, "{path} is a {kind}: skipped"),
            Why::Hidden => write!(f, "{path} has a name that begins with a dot: skipped"),
            Why::LeadsOut => write!(
                f,
                "{path} is a symbolic link that leads out of the directory, and was not followed: \
                 add its target to the command line, or remove the link"
            ),
            Why::TooDeep => write!(
                f,
                "{path} is more than {MAX_DEPTH} directories deep, and was not read"
            ),
            Why::Unreadable(error) if UnpackError::of(error).is_some() => {
                write!(f, "cannot unpack {path}: {error}")
            }
            Why::Unreadable(error) => f.write_str(&cannot_open(&self.path, error)),
        }
    }
}

impl Stored {
    /// Finds the files that `paths`, files and directories, stand for. Of what is
    /// compressed in a directory and `decompress` unpacks, the beginning is looked
    /// at.
    ///
    /// Indexes are ignored. Directories are searched to the bottom. Symbolic links in them are not
    /// followed: one that leads to something in the same directory is ignored,
    /// since that is found under its own name.
    ///
    /// # Errors
    /// One of `paths` cannot be opened or listed; the text says which.
    pub fn find(paths: &[PathBuf], decompress: Decompress) -> Result<Self, String> {
        let mut stored = Self {
            decompress,
            ..Self::default()
        };
        for path in paths {
            let said = |error: io::Error| cannot_open(path, &error);
            if !fs::metadata(path).map_err(said)?.is_dir() {
                stored.files.push(path.clone());
                continue;
            }
            let root = path.canonicalize().map_err(said)?;
            let names = names(path).map_err(said)?;
            stored.search(path, names, &root, 1);
        }
        Ok(stored)
    }

    fn search(&mut self, directory: &Path, names: Vec<PathBuf>, root: &Path, depth: usize) {
        debug_assert!(depth <= MAX_DEPTH, "{}", directory.display());
        for path in names {
            if let Err(why) = self.take(&path, root, depth) {
                self.skipped.push(Skipped { path, why });
            }
        }
    }

    /// Adds what an entry of a directory stands for.
    fn take(&mut self, path: &Path, root: &Path, depth: usize) -> Result<(), Why> {
        if path.file_name().is_some_and(is_hidden) {
            return Err(Why::Hidden);
        }
        let kind = fs::symlink_metadata(path)
            .map_err(Why::Unreadable)?
            .file_type();
        if kind.is_symlink() {
            let inside = path.canonicalize().is_ok_and(|it| it.starts_with(root));
            return if inside { Ok(()) } else { Err(Why::LeadsOut) };
        }
        if kind.is_dir() {
            if depth >= MAX_DEPTH {
                return Err(Why::TooDeep);
            }
            let names = names(path).map_err(Why::Unreadable)?;
            self.search(path, names, root, depth + 1);
            return Ok(());
        }
        if !kind.is_file() {
            return Err(Why::Special(kind_name(kind)));
        }
        let start = beginning(path, self.decompress).map_err(Why::Unreadable)?;
        // A stream that was cut that early still is one, and a bad one.
        if MAGIC.starts_with(&start) {
            self.files.push(path.to_owned());
            return Ok(());
        }
        if start == crate::files::MAGIC {
            // It is read with its stream.
            return Ok(());
        }
        match Packed::of(&start) {
            Some(packed) => Err(Why::Packed(packed)),
            None => Err(Why::NoStream),
        }
    }
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

fn kind_name(kind: FileType) -> &'static str {
    if kind.is_fifo() {
        "FIFO"
    } else if kind.is_socket() {
        "socket"
    } else {
        "device"
    }
}

/// What a directory holds, by name.
fn names(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory)?;
    let found = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut found = found.collect::<io::Result<Vec<_>>>()?;
    found.sort();
    Ok(found)
}

/// The first bytes of a file, or of what is packed in it, as many as the magic has.
fn beginning(path: &Path, decompress: Decompress) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = MAGIC.len() as u64;
    let file = Unpacked::new(File::open(path)?, decompress);
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What to say when a file could not be opened.
pub fn cannot_open(path: &Path, error: &io::Error) -> String {
    let path = escaped(path.as_os_str().as_encoded_bytes());
    format!("cannot open {path}: {}", strerror(error))
}

/// What to say when `paths` hold no stream.
pub fn no_stream_in(paths: &[PathBuf]) -> String {
    let names = paths
        .iter()
        .map(|path| escaped(path.as_os_str().as_encoded_bytes()));
    let names: Vec<_> = names.collect();
    format!("no send stream in {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    /// What is found, and what is said of the rest, without the directory.
    fn find(directory: &Path) -> (Vec<String>, Vec<(String, bool)>) {
        let stored = Stored::find(&[directory.to_owned()], Decompress::No).unwrap();
        let short = |path: &Path| {
            let path = path.strip_prefix(directory).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let files = stored.files.iter().map(|path| short(path)).collect();
        let skipped = stored.skipped.iter();
        let skipped = skipped.map(|it| (short(&it.path), it.is_error())).collect();
        (files, skipped)
    }

    #[test]
    fn directories_are_searched_and_nothing_is_skipped_in_silence() {
        let directory = tempfile::tempdir().unwrap();
        let (outside, at) = (tempfile::tempdir().unwrap(), directory.path());
        fs::create_dir_all(at.join("2024/01")).unwrap();
        for name in ["good", "2024/bad", "2024/01/x", ".hidden"] {
            fs::write(at.join(name), MAGIC).unwrap();
        }
        fs::write(at.join("2024/packed"), b"\x1f\x8b\x08").unwrap();
        fs::write(at.join("notes"), b"notes").unwrap();
        fs::write(at.join("good.index"), crate::files::MAGIC).unwrap();
        let _socket = UnixListener::bind(at.join("socket")).unwrap();
        symlink("2024", at.join("latest")).unwrap();
        symlink("..", at.join("2024/loop")).unwrap();
        symlink(outside.path(), at.join("out")).unwrap();
        symlink("nowhere", at.join("dangling")).unwrap();
        let (files, skipped) = find(at);
        assert_eq!(files, ["2024/01/x", "2024/bad", "good"]);
        let expected = [
            (".hidden", false),
            ("2024/packed", true),
            ("dangling", true),
            ("notes", false),
            ("out", true),
            ("socket", false),
        ];
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, error)| ((*name).to_owned(), *error))
            .collect();
        assert_eq!(skipped, expected);
    }

    #[test]
    fn depth_is_limited() {
        let directory = tempfile::tempdir().unwrap();
        let mut at = directory.path().to_owned();
        for _ in 0..MAX_DEPTH + 5 {
            at.push("d");
        }
        fs::create_dir_all(&at).unwrap();
        fs::write(at.join("stream"), MAGIC).unwrap();
        let (files, skipped) = find(directory.path());
        assert!(files.is_empty() && skipped.len() == 1 && skipped[0].1);
    }
}
