//! Times, as text that sorts: `2026-11-23T12:00:00.000000001Z`.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use crate::Timespec;
use crate::civil::{SECONDS_PER_DAY, date, day};

/// UTC with nanoseconds, in the form of ISO 8601. Years before 0 and after
/// 9999 have a sign and as many digits as they take, four at least.
impl Serialize for Timespec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Utc(*self))
    }
}

/// From the same form.
impl<'de> Deserialize<'de> for Timespec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text)
            .ok_or_else(|| D::Error::custom("a time is not like 2026-11-23T12:00:00.000000001Z"))
    }
}

fn parse(text: &str) -> Option<Timespec> {
    let (day_part, rest) = text.strip_suffix('Z')?.split_once('T')?;
    // The sign of a year looks like what separates a month.
    let (sign, digits) = match day_part.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, day_part.strip_prefix('+').unwrap_or(day_part)),
    };
    let mut parts = digits.split('-');
    let year = number(parts.next()?, 12)?.checked_mul(sign)?;
    let (month, day_of_month) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let (clock, fraction) = rest.split_once('.')?;
    let mut clock = clock.split(':');
    let hour = number(clock.next()?, 2)?;
    let (minute, second) = (number(clock.next()?, 2)?, number(clock.next()?, 2)?);
    let good = (1..=12).contains(&month)
        && (1..=31).contains(&day_of_month)
        && hour < 24
        && minute < 60
        && second < 60
        && fraction.len() == 9
        && parts.next().is_none()
        && clock.next().is_none();
    if !good {
        return None;
    }
    // The first day that can be told has no midnight of its own.
    let seconds = i128::from(day(year, month, day_of_month)) * i128::from(SECONDS_PER_DAY)
        + i128::from((hour * 60 + minute) * 60 + second);
    Some(Timespec {
        seconds: i64::try_from(seconds).ok()?,
        nanoseconds: u32::try_from(number(fraction, 9)?).ok()?,
    })
}

/// A number of at most `most` digits and nothing else.
fn number(digits: &str, most: usize) -> Option<i64> {
    let plain = digits.bytes().all(|it| it.is_ascii_digit()) && digits.len() <= most;
    plain.then(|| digits.parse().ok())?
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
            let time = Timespec {
                seconds,
                nanoseconds,
            };
            assert_eq!(parse(expected), Some(time));
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "Z",
            "2026-11-23",
            "2026-11-23T12:00:00Z",
            "2026-11-23T12:00:00.0Z",
            "2026-13-23T12:00:00.000000000Z",
            "2026-11-23T24:00:00.000000000Z",
            "2026-11-23T12:00:00.00000000+Z",
            "2026-11-23-01T12:00:00.000000000Z",
            "--2026-11-23T12:00:00.000000000Z",
            "+999999999999-01-01T00:00:00.000000000Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_number_of_seconds_is_a_time() {
        assert_eq!(text(i64::MAX, 0), "+292277026596-12-04T15:30:07.000000000Z");
        assert_eq!(text(i64::MIN, 0), "-292277022657-01-27T08:29:52.000000000Z");
        for seconds in [i64::MIN, i64::MIN / 3, -1, 0, 951_868_800, i64::MAX] {
            let parsed = parse(&text(seconds, 7)).unwrap();
            assert_eq!((parsed.seconds, parsed.nanoseconds), (seconds, 7));
        }
    }
}
