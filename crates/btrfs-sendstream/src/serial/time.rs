//! Times, as text that sorts: `2026-11-23T12:00:00.000000001Z`.

use std::fmt;

use serde::ser::{Serialize, Serializer};

use crate::Timespec;

/// UTC with nanoseconds, in the form of ISO 8601. Years before 0 and after
/// 9999 have a sign and as many digits as they take, four at least.
impl Serialize for Timespec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Utc(*self))
    }
}

struct Utc(Timespec);

const SECONDS_PER_DAY: i64 = 86_400;

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

/// Year, month and day of so many days since 1970-01-01, in the Gregorian
/// calendar throughout.
///
/// Years are counted from March, so that the leap day is their last: then the
/// months before any day are 153 days for every five.
fn date(days: i64) -> (i64, i64, i64) {
    const DAYS_IN_400_YEARS: i64 = 146_097;
    // Days from 0000-03-01 to 1970-01-01.
    let days = days + 719_468;
    let cycle = days.div_euclid(DAYS_IN_400_YEARS);
    let day = days.rem_euclid(DAYS_IN_400_YEARS);
    // Leap days so far are taken out: one in 4 years, but for 100, but for 400.
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let (month, next_year) = match month_from_march {
        0..=9 => (month_from_march + 3, 0),
        _ => (month_from_march - 9, 1),
    };
    (cycle * 400 + year + next_year, month, day_of_month)
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
