//! Local time, to the second, as the dump prints it.

use crate::civil::{SECONDS_PER_DAY, date};

/// How far local time is from UTC during some stretch of time.
///
/// It is itself a [`TimeZone`], in which it holds for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UtcOffset {
    /// Seconds east of UTC.
    pub seconds: i64,
    /// The first second since 1970-01-01 00:00 UTC for which it holds.
    pub first: i64,
    /// The last one.
    pub last: i64,
}

impl UtcOffset {
    /// Coordinated universal time.
    pub const UTC: Self = Self {
        seconds: 0,
        first: i64::MIN,
        last: i64::MAX,
    };
}

/// A time zone, as its offsets from UTC.
pub trait TimeZone {
    /// Returns the offset at a time, in seconds since 1970-01-01 00:00 UTC,
    /// and the stretch around it for which it holds.
    fn offset_at(&self, seconds: i64) -> UtcOffset;
}

impl TimeZone for UtcOffset {
    fn offset_at(&self, _: i64) -> UtcOffset {
        Self {
            seconds: self.seconds,
            ..Self::UTC
        }
    }
}

/// Formats times in one time zone.
///
/// Times in a stream lie close together: the offset is looked up once for
/// the stretch between two changes of it, the date is formatted once a day.
#[derive(Debug)]
pub struct LocalTime<Z> {
    zone: Z,
    stretch: UtcOffset,
    /// The offset of `stretch` as `+hhmm`.
    offset: [u8; 5],
    day: Option<i64>,
    /// `YYYY-MM-DDT` of `day`.
    date: Vec<u8>,
}

impl<Z: TimeZone> LocalTime<Z> {
    /// Creates a formatter for times of `zone`.
    pub fn new(zone: Z) -> Self {
        let stretch = zone.offset_at(0);
        Self {
            zone,
            stretch,
            offset: offset_text(stretch.seconds),
            day: None,
            date: Vec::new(),
        }
    }

    /// Appends `seconds` since 1970 as `YYYY-MM-DDTHH:MM:SS+hhmm`. The year
    /// has as many digits as it needs.
    pub fn push(&mut self, out: &mut Vec<u8>, seconds: i64) {
        if seconds < self.stretch.first || seconds > self.stretch.last {
            self.stretch = self.zone.offset_at(seconds);
            self.offset = offset_text(self.stretch.seconds);
        }
        let local = seconds.saturating_add(self.stretch.seconds);
        let day = local.div_euclid(SECONDS_PER_DAY);
        let second = local.rem_euclid(SECONDS_PER_DAY);
        if self.day != Some(day) {
            self.day = Some(day);
            self.date.clear();
            push_date(&mut self.date, day);
        }
        out.extend_from_slice(&self.date);
        out.extend(two(second / 3600));
        out.push(b':');
        out.extend(two(second / 60 % 60));
        out.push(b':');
        out.extend(two(second % 60));
        out.extend_from_slice(&self.offset);
    }
}

fn offset_text(offset: i64) -> [u8; 5] {
    let sign = if offset < 0 { b'-' } else { b'+' };
    let minutes = (offset / 60).abs();
    let ([h1, h2], [m1, m2]) = (two(minutes / 60), two(minutes % 60));
    [sign, h1, h2, m1, m2]
}

/// Appends `YYYY-MM-DDT` for a day counted from 1970-01-01.
fn push_date(out: &mut Vec<u8>, day: i64) {
    let (year, month, day) = date(day);
    out.extend_from_slice(year.to_string().as_bytes());
    out.push(b'-');
    out.extend(two(month));
    out.push(b'-');
    out.extend(two(day));
    out.push(b'T');
}

/// The last two decimal digits of a number.
fn two(number: i64) -> [u8; 2] {
    [digit(number / 10), digit(number)]
}

fn digit(number: i64) -> u8 {
    super::digit(number.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(zone: impl TimeZone, times: &[i64]) -> Vec<String> {
        let mut local = LocalTime::new(zone);
        let format = |&seconds: &i64| {
            let mut out = Vec::new();
            local.push(&mut out, seconds);
            String::from_utf8(out).unwrap()
        };
        times.iter().map(format).collect()
    }

    #[test]
    fn formats_as_the_reference_does() {
        // What strftime("%FT%T%z") of glibc 2.36 printed for these.
        assert_eq!(
            format(
                UtcOffset::UTC,
                &[
                    0,
                    -1,
                    1_709_251_199,
                    253_402_300_800,
                    -62_135_596_800,
                    -62_167_219_201,
                    -70_000_000_000,
                    1_000_000_000_000,
                    67_767_976_233_532_799,
                ]
            ),
            [
                "1970-01-01T00:00:00+0000",
                "1969-12-31T23:59:59+0000",
                "2024-02-29T23:59:59+0000",
                "10000-01-01T00:00:00+0000",
                "1-01-01T00:00:00+0000",
                "-1-12-31T23:59:59+0000",
                "-249-10-15T19:33:20+0000",
                "33658-09-27T01:46:40+0000",
                "2147483647-12-31T23:59:59+0000",
            ]
        );
    }

    /// CET until 2024-03-31 01:00 UTC, then CEST until 2024-10-27 01:00 UTC.
    struct Berlin;

    const SPRING: i64 = 1_711_846_800;
    const AUTUMN: i64 = 1_729_990_800;

    impl TimeZone for Berlin {
        fn offset_at(&self, seconds: i64) -> UtcOffset {
            let (seconds, first, last) = match seconds {
                ..SPRING => (3600, i64::MIN, SPRING - 1),
                SPRING..AUTUMN => (7200, SPRING, AUTUMN - 1),
                AUTUMN.. => (3600, AUTUMN, i64::MAX),
            };
            UtcOffset {
                seconds,
                first,
                last,
            }
        }
    }

    #[test]
    fn follows_changes_of_the_offset_both_ways() {
        assert_eq!(
            format(
                Berlin,
                &[SPRING - 1, SPRING, AUTUMN - 1, AUTUMN, SPRING, SPRING - 1]
            ),
            [
                "2024-03-31T01:59:59+0100",
                "2024-03-31T03:00:00+0200",
                "2024-10-27T02:59:59+0200",
                "2024-10-27T02:00:00+0100",
                "2024-03-31T03:00:00+0200",
                "2024-03-31T01:59:59+0100",
            ]
        );
    }

    #[test]
    fn survives_every_time_a_stream_can_carry() {
        let east = |seconds| UtcOffset {
            seconds,
            ..UtcOffset::UTC
        };
        assert_eq!(format(east(14 * 3600), &[i64::MIN, i64::MAX]).len(), 2);
        assert!(format(east(-12_600), &[0])[0].ends_with("T20:30:00-0330"));
    }
}
