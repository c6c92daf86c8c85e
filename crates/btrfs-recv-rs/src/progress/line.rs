//! The line itself.

use sendstream_common::text::{bytes, push_message};

/// Columns below which the name of the subvolume is not worth showing.
const LEAST_NAME: usize = 6;

/// How far a receive is.
#[derive(Clone, Debug)]
pub(super) struct State {
    /// The subvolume under construction; empty before the first.
    pub(super) name: Vec<u8>,
    /// Bytes of input read.
    pub(super) bytes: u64,
    /// Bytes of input in all, if known.
    pub(super) size: Option<u64>,
    /// Files made.
    pub(super) files: u64,
    /// Bytes a second.
    pub(super) rate: u64,
    /// Bytes of the complete subvolume that were read for its digest, while it
    /// is computed.
    pub(super) compared: Option<u64>,
}

impl State {
    /// As much of it as fits in `width` columns, the last of which stays
    /// free: percentage, bytes, rate, time left, files, and the name.
    pub(super) fn fitted(&self, width: usize) -> String {
        let room = width.saturating_sub(1);
        // What matters most stays longest.
        let full = [
            self.compared(),
            self.share(),
            Some(self.amount()),
            self.rate(),
            self.left(),
            self.files(),
        ];
        let mut parts: Vec<String> = full.into_iter().flatten().collect();
        while parts.len() > 1 && columns(&parts.join("  ")) > room {
            parts.pop();
        }
        let text = parts.join("  ");
        let used = columns(&text) + 2;
        let mut name = Vec::new();
        push_message(&mut name, &self.name);
        let name = String::from_utf8_lossy(&name);
        let left = room.saturating_sub(used);
        if name.is_empty() || left < LEAST_NAME {
            return shortened(&text, room);
        }
        format!("{text}  {}", shortened(&name, left))
    }

    fn compared(&self) -> Option<String> {
        Some(format!("comparing: {} read", bytes(self.compared?)))
    }

    fn share(&self) -> Option<String> {
        // Nothing arrives meanwhile.
        if self.compared.is_some() {
            return None;
        }
        let size = self.size.filter(|&size| size > 0)?;
        let percent = u128::from(self.bytes.min(size)) * 100 / u128::from(size);
        Some(format!("{percent:3}%"))
    }

    fn amount(&self) -> String {
        match self.size {
            Some(size) => format!("{} of {}", bytes(self.bytes), bytes(size)),
            None => bytes(self.bytes),
        }
    }

    fn rate(&self) -> Option<String> {
        if self.compared.is_some() {
            return None;
        }
        Some(format!("{}/s", bytes(self.rate)))
    }

    fn left(&self) -> Option<String> {
        if self.compared.is_some() {
            return None;
        }
        let left = self.size?.saturating_sub(self.bytes);
        let seconds = left.checked_div(self.rate)?;
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        Some(match hours {
            0 => format!("{minutes}:{:02} left", seconds % 60),
            1..100 => format!("{hours}:{minutes:02}:{:02} left", seconds % 60),
            _ => format!("{} days left", hours / 24),
        })
    }

    fn files(&self) -> Option<String> {
        Some(match self.files {
            0 => return None,
            1 => "1 file".to_owned(),
            files => format!("{files} files"),
        })
    }
}

/// Columns that a character takes at most: nothing here knows fonts.
fn column(character: char) -> usize {
    if character.is_ascii() { 1 } else { 2 }
}

fn columns(text: &str) -> usize {
    text.chars().map(column).sum()
}

/// The text, or its beginning and a sign that there is more.
fn shortened(text: &str, room: usize) -> String {
    if columns(text) <= room {
        return text.to_owned();
    }
    let mut short = String::new();
    let mut used = 0;
    for character in text.chars() {
        used += column(character);
        if used + 2 > room {
            break;
        }
        short.push(character);
    }
    short + ".."
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(size: Option<u64>) -> State {
        State {
            name: b"home.20261123T1200".to_vec(),
            bytes: 1 << 30,
            size,
            files: 12_345,
            rate: 200 << 20,
            compared: None,
        }
    }

    #[test]
    fn shows_what_fits() {
        let known = state(Some(4 << 30));
        assert_eq!(
            known.fitted(80),
            " 25%  1.0 GiB of 4.0 GiB  200.0 MiB/s  0:15 left  12345 files  home.20261123T.."
        );
        assert_eq!(known.fitted(40), " 25%  1.0 GiB of 4.0 GiB  200.0 MiB/s");
        assert_eq!(known.fitted(20), " 25%  home.202611..");
        assert_eq!(known.fitted(3), "..");
        let unknown = state(None);
        assert_eq!(
            unknown.fitted(80),
            "1.0 GiB  200.0 MiB/s  12345 files  home.20261123T1200"
        );
        assert_eq!(unknown.fitted(40), "1.0 GiB  200.0 MiB/s  12345 files");
    }

    #[test]
    fn shows_that_it_compares() {
        let mut comparing = state(Some(1 << 30));
        comparing.compared = Some(3 << 20);
        assert_eq!(
            comparing.fitted(80),
            "comparing: 3.0 MiB read  1.0 GiB of 1.0 GiB  12345 files  home.20261123T1200"
        );
        assert_eq!(comparing.fitted(30), "comparing: 3.0 MiB read");
    }

    #[test]
    fn never_wraps() {
        let mut wide = state(Some(u64::MAX));
        wide.name = "\u{4e2d}\u{6587}\nname \u{1f600}".repeat(20).into_bytes();
        for width in 0..200 {
            let line = wide.fitted(width);
            assert!(columns(&line) < width.max(3), "{width}: {line}");
        }
    }

    #[test]
    fn time_left_needs_a_rate() {
        let mut stalled = state(Some(2 << 30));
        stalled.rate = 0;
        assert_eq!(stalled.left(), None);
        stalled.rate = 1;
        assert_eq!(stalled.left().unwrap(), "12427 days left");
        stalled.rate = 100_000;
        assert_eq!(stalled.left().unwrap(), "2:58:57 left");
    }
}
