//! A descriptor read to the end of a stream, or of the input.

use std::ffi::c_int;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};

use btrfs_sendstream::{Command, CommandRef, Item, Reader};

use crate::errno;

/// Reads commands and hands them to `dispatch`, which returns 0 or what its
/// callback did. Returns what the C function does.
pub(crate) fn read(
    file: File,
    stop_at_end: bool,
    max_errors: u64,
    dispatch: impl FnMut(&CommandRef<'_>) -> c_int,
) -> c_int {
    let reading = || read_items(file, stop_at_end, max_errors, dispatch);
    catch_unwind(AssertUnwindSafe(reading)).unwrap_or_else(|_| {
        errno::remember("the library panicked; this is a bug in it");
        -libc::EIO
    })
}

fn read_items(
    file: File,
    stop_at_end: bool,
    max_errors: u64,
    mut dispatch: impl FnMut(&CommandRef<'_>) -> c_int,
) -> c_int {
    // What follows END is left for the next call, so nothing is read ahead.
    let mut reader = Reader::builder().exact(stop_at_end).build(file);
    let (mut first, mut errors) = (0, 0_u64);
    loop {
        let command = match reader.next_item() {
            Ok(Some(Item::Command(command))) => command,
            Ok(Some(_)) => continue,
            Ok(None) => return first,
            Err(error) => {
                errno::remember(&error.to_string());
                return errno::code(&error);
            }
        };
        let ended = matches!(command, Command::End);
        let kind = command.kind();
        // A positive value would look like an empty input.
        let status = dispatch(&command).saturating_abs().saturating_neg();
        if status != 0 {
            errors += 1;
            if first == 0 {
                first = status;
                let at = reader.position();
                errno::remember(&format!("{at}: the callback for {kind} returned {status}"));
            }
            if errors == max_errors {
                return first;
            }
        }
        if ended && stop_at_end {
            return first;
        }
    }
}
