//! Times, as text that sorts: `2026-11-23T12:00:00.000000001Z`.

use std::fmt;

use serde::ser::{Serialize, Serializer};

use crate::Timespec;
use crate::civil::{SECONDS_PER_DAY, date};

/// UTC with nanoseconds, in the form of ISO 8601. Years before 0 and after
/// 9999 have a sign and as many digits as they take, four at least.
impl Serialize for Timespec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Utc(*self))
    }
}

struct Utc(Timespec);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Timespec {
            seconds,
            nanoseconds,
        } = self.0;
        let (year, month, day) = date(seconds.div_euclid(SECONDS_PER_DAY));
        let second = seconds.rem_euclid(SECONDS_PER_DAY);
        match year {
            0..=9999 => write!(f, "{year:04}")?,
            _ => write!(f, "{year:+05}")?,
        }
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        write!(f, ".{nanoseconds:09}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(seconds: i64, nanoseconds: u32) -> String {
        Utc(Timespec {
            seconds,
            nanoseconds,
        })
        .to_string()
    }

    /// Compared with what `date -u` says.
    #[test]
    fn times_are_utc() {
        for (seconds, nanoseconds, expected) in [
            (0, 0, "1970-01-01T00:00:00.000000000Z"),
            (-1, 999_999_999, "1969-12-31T23:59:59.999999999Z"),
            (951_782_400, 1, "2000-02-29T00:00:00.000000001Z"),
            (4_107_542_399, 0, "2100-02-28T23:59:59.000000000Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000000000Z"),
            (1_795_435_200, 0, "2026-11-23T12:00:00.000000000Z"),
            (253_402_300_800, 0, "+10000-01-01T00:00:00.000000000Z"),
            (-62_167_219_201, 0, "-0001-12-31T23:59:59.000000000Z"),
        ] {
            assert_eq!(text(seconds, nanoseconds), expected);
        }
    }

    #[test]
    fn every_number_of_seconds_is_a_time() {
        assert_eq!(text(i64::MAX, 0), "+292277026596-12-04T15:30:07.000000000Z");
        assert_eq!(text(i64::MIN, 0), "-292277022657-01-27T08:29:52.000000000Z");
    }
}
