//! Results on standard output, as text or as lines of JSON, and messages on
//! standard error.

use std::io::{self, Write};
use std::path::PathBuf;

use serde::Serialize;

use crate::json::{self, Event, Message};
use crate::stored::{Stored, no_stream_in};
use crate::text;
use crate::unpack::Decompress;

/// Standard output could not be written.
#[derive(Debug)]
pub struct Unwritten(pub io::Error);

/// Where the results and messages of a command go.
#[derive(Debug)]
pub struct Output<W> {
    program: &'static str,
    to: W,
    json: bool,
}

#[derive(Serialize)]
struct End {
    success: bool,
}

impl<W: Write> Output<W> {
    /// Results go to `to`, as text or as JSON. Messages begin with the name of the
    /// program.
    pub fn new(program: &'static str, to: W, json: bool) -> Self {
        Self { program, to, json }
    }

    /// Whether results are printed as JSON.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Prints text, unless JSON is wanted.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn text(&mut self, text: &[u8]) -> Result<(), Unwritten> {
        if self.json { Ok(()) } else { self.write(text) }
    }

    /// Prints a line of JSON, if that is wanted.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn emit(&mut self, event: &str, fields: impl Serialize) -> Result<(), Unwritten> {
        if self.json {
            self.write(&json::line(&Event { event, fields }))
        } else {
            Ok(())
        }
    }

    /// Prints the last line of JSON.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn end(&mut self, success: bool) -> Result<(), Unwritten> {
        self.emit("end", End { success })
    }

    /// Prints a message on standard error.
    pub fn say(&self, message: &str) {
        text::say(self.program, message);
    }

    /// Prints an error on standard error and as JSON.
    ///
    /// # Errors
    /// The JSON cannot be written.
    pub fn error(&mut self, message: &str) -> Result<(), Unwritten> {
        self.say(message);
        self.emit("error", Message { message })
    }

    /// Finds the streams that `paths` stand for. Returns whether everything could be
    /// looked at, too, which it is not if there are none.
    ///
    /// # Errors
    /// JSON cannot be written.
    pub fn stored(
        &mut self,
        paths: &[PathBuf],
        decompress: Decompress,
    ) -> Result<(Vec<PathBuf>, bool), Unwritten> {
        let stored = match Stored::find(paths, decompress) {
            Ok(stored) => stored,
            Err(text) => {
                self.error(&text)?;
                return Ok((Vec::new(), false));
            }
        };
        let mut complete = true;
        for skipped in &stored.skipped {
            let message = &skipped.to_string();
            if skipped.is_error() {
                self.error(message)?;
                complete = false;
            } else {
                self.say(&format!("warning: {message}"));
                self.emit("warning", Message { message })?;
            }
        }
        if stored.files.is_empty() {
            self.error(&no_stream_in(paths))?;
            complete = false;
        }
        Ok((stored.files, complete))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Unwritten> {
        let written = self.to.write_all(bytes).and_then(|()| self.to.flush());
        written.map_err(Unwritten)
    }
}
