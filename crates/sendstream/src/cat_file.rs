//! `cat-file`: the content of one file of a subvolume, from its stored streams.

use std::fs::{self, File};
use std::io::{self, Seek};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use btrfs_sendstream::{CommandRef, Reader};
use sendstream_common::files::{
    Fetch, FetchError, History, Inapplicable, LocateError, Made, Needs, NotFound, ReadError,
    described, name_of_index, shown,
};
use sendstream_common::foreign::MAGIC;
use sendstream_common::leading::Leading;
use sendstream_common::report::name_of;
use sendstream_common::text::escaped;

use crate::args;
use crate::chosen::choose;
use crate::index;
use crate::input::Input;
use crate::output::was_closed;
use crate::{Failure, Format};

/// Limit on the memory for names, and on that for extents, in bytes.
const MAX_MEMORY: u64 = 4 << 30;

/// Why a file cannot be printed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CatError {
    /// Something else than a regular file.
    #[error("{path} is {what}, not a regular file")]
    NotFile {
        path: String,
        what: String,
        is_directory: bool,
    },
    /// See [`NotFound`].
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// The content cannot be found.
    #[error("{path}: {error}")]
    Content { path: String, error: LocateError },
    /// An input that cannot be read twice.
    #[error("{input}: not a regular file; each stream is read twice")]
    Once { input: String },
    /// A command that cannot be applied.
    #[error("{input}: {error}")]
    Read { input: String, error: ReadError },
    /// Data that cannot be read again.
    #[error("{input}: {error}")]
    Fetch {
        input: String,
        error: FetchError<io::Error>,
    },
    /// There is no standard output.
    #[error("standard output is closed, or is /dev/null opened for reading and writing")]
    Closed,
    /// The temporary file.
    #[error("temporary file in {}: {error}", escaped(std::env::temp_dir().as_os_str().as_encoded_bytes()))]
    Temporary { error: io::Error },
}

impl CatError {
    /// What to do next, where there is something.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::NotFile { is_directory, .. } if *is_directory => {
                "\n(btrfs-recv-rs --extract --only=PATH extracts a directory)"
            }
            Self::NotFound(NotFound::Missing {
                earlier: Some(_), ..
            }) => "\n(--subvolume chooses the subvolume)",
            Self::NotFound(_) => "\n(sendstream list prints the paths)",
            Self::Once { .. } => "\n(store it in a file first)",
            Self::Read {
                error: ReadError::Command { error, .. },
                ..
            } => match &**error {
                Inapplicable::Tree(error) => crate::advice_on_tree(error),
                _ => "",
            },
            Self::Temporary { .. }
            | Self::Read {
                error: ReadError::Temporary(_),
                ..
            } => "\n(TMPDIR names another directory for temporary files)",
            _ => "",
        }
    }
}

/// Carries out `cat-file`; returns whether all inputs could be looked at.
pub(crate) fn run(options: &args::CatFile) -> Result<bool, Failure> {
    if was_closed(io::stdout().as_fd()) {
        return Err(CatError::Closed.into());
    }
    let mut out = crate::output(Format::Text);
    let chosen = choose(
        &options.inputs,
        options.unpack.decompress,
        options.subvolume.as_deref(),
        &mut out,
    )?;
    let Some(chosen) = chosen else {
        return Ok(false);
    };
    let mut history = History::new(temporary()?, MAX_MEMORY);
    for stream in &chosen.streams {
        read(stream, options, &mut history)?;
        stream.check(history.subvolume())?;
    }
    let path = shown(options.path.as_bytes());
    let (file, made, size) = history.find(&options.path).map_err(CatError::NotFound)?;
    if *made != Made::File {
        let error = CatError::NotFile {
            path,
            what: described(made),
            is_directory: *made == Made::Directory,
        };
        return Err(error.into());
    }
    let needs = history.content(file);
    let needs = needs.map_err(|error| CatError::Content { path, error })?;
    let content = fetch(&chosen.streams, options, &needs, size)?;
    print(content).map_err(Failure::output)?;
    Ok(chosen.good)
}

fn temporary() -> Result<File, Failure> {
    let file = tempfile::tempfile();
    Ok(file.map_err(|error| CatError::Temporary { error })?)
}

/// Reads a stream for the first time.
fn read(
    stream: &Leading,
    options: &args::CatFile,
    history: &mut History<File>,
) -> Result<(), Failure> {
    let file = Some(stream.file.as_path());
    let is_once = |file: &Path| fs::metadata(file).is_ok_and(|it| !it.is_file());
    if is_once(&stream.file) {
        let input = name_of(file);
        return Err(CatError::Once { input }.into());
    }
    if !options.no_index
        && let Some(index) = index::of(&stream.file)
    {
        let input = name_of(Some(&name_of_index(&stream.file)));
        let read = history.read_index(&index);
        return Ok(read.map_err(|error| CatError::Read { input, error })?);
    }
    let mut input = Input::open(file, options.unpack.decompress)?;
    match history.read(&mut Reader::new(&mut input)) {
        Ok(()) => Ok(()),
        Err(ReadError::Stream(error)) => Err(input.failure(error, "| sendstream list")),
        Err(error) => {
            let input = input.name();
            Err(CatError::Read { input, error }.into())
        }
    }
}

/// Content that is put together in a file.
struct Content(File);

impl Fetch for Content {
    type Error = io::Error;

    fn data(&mut self, _: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }

    fn metadata(&mut self, _: u32, _: &CommandRef<'_>) -> io::Result<()> {
        Ok(())
    }
}

/// The file of a stream that is not compressed.
fn unpacked(stream: &Path) -> Option<File> {
    let mut start = [0; MAGIC.len()];
    let file = File::open(stream).ok()?;
    file.read_exact_at(&mut start, 0).ok()?;
    (start == MAGIC).then_some(file)
}

/// Reads the streams again, and puts the content together in a temporary file, so that
/// nothing is printed if a part of it is missing.
fn fetch(
    streams: &[Leading],
    options: &args::CatFile,
    needs: &Needs,
    size: u64,
) -> Result<File, Failure> {
    let mut content = Content(temporary()?);
    let sized = content.0.set_len(size);
    sized.map_err(|error| CatError::Temporary { error })?;
    for (number, stream) in streams.iter().enumerate() {
        if !needs.are_in(number) {
            continue;
        }
        let input = Input::open(Some(&stream.file), options.unpack.decompress)?;
        let name = input.name();
        let fetched = match unpacked(&stream.file) {
            Some(mut file) => needs.fetch_parts(number, &mut file, &mut content),
            None => needs.fetch(number, &mut Reader::new(input), &mut content),
        };
        fetched.map_err(|error| match error {
            FetchError::Sink(error) => CatError::Temporary { error },
            error => CatError::Fetch { input: name, error },
        })?;
    }
    Ok(content.0)
}

fn print(mut content: File) -> io::Result<()> {
    content.rewind()?;
    // Without the line buffer of the usual handle.
    let mut out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    io::copy(&mut content, &mut out)?;
    Ok(())
}
