//! Where a stream goes: standard output, or a file that exists only if it is
//! complete.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use btrfs_sendstream::Writer;

use crate::Failure;
use crate::args::Io;

/// An output that was opened.
pub(crate) struct Destination {
    pub(crate) writer: Writer<File>,
    guard: Guard,
}

/// Removes a file that was not finished.
struct Guard {
    unfinished: Option<PathBuf>,
    name: String,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(path) = &self.unfinished {
            // The failure that led here is what is told.
            let _ = fs::remove_file(path);
        }
    }
}

impl Destination {
    /// Opens what the options say.
    pub(crate) fn open(io: &Io) -> Result<Self, Failure> {
        match &io.output {
            Some(path) => Self::create(path, io.force),
            None if io::stdout().is_terminal() => Err(Failure::Terminal),
            None => Self::standard_output(),
        }
    }

    /// Standard output, without the line buffer of its usual handle.
    fn standard_output() -> Result<Self, Failure> {
        let name = "standard output".to_owned();
        match io::stdout().as_fd().try_clone_to_owned() {
            Ok(descriptor) => Ok(Self {
                writer: Writer::new(File::from(descriptor)),
                guard: Guard {
                    unfinished: None,
                    name,
                },
            }),
            Err(error) => Err(Failure::File { file: name, error }),
        }
    }

    /// Makes a file.
    pub(crate) fn create(path: &Path, replace: bool) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let mut options = OpenOptions::new();
        options.write(true);
        match replace {
            true => options.create(true).truncate(true),
            false => options.create_new(true),
        };
        match options.open(path) {
            Ok(file) => {
                // A device or pipe is not ours to remove.
                let regular = file.metadata().is_ok_and(|facts| facts.is_file());
                Ok(Self {
                    writer: Writer::new(file),
                    guard: Guard {
                        unfinished: Some(path.to_owned()).filter(|_| regular),
                        name,
                    },
                })
            }
            Err(error) => Err(Failure::File { file: name, error }),
        }
    }

    /// Hands everything over; a file is on disk then.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        let Self { writer, mut guard } = self;
        let file = guard.name.clone();
        let failed = |error: io::Error| Failure::File {
            file: file.clone(),
            error,
        };
        match writer.finish() {
            Ok(sink) if guard.unfinished.is_some() => sink.sync_all().map_err(failed)?,
            Ok(_) => {}
            Err(error) => {
                let error = error.into_error();
                return Err(Failure::Finish { file, error });
            }
        }
        guard.unfinished = None;
        Ok(())
    }
}
