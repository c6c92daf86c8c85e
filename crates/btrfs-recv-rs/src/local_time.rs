//! Local time, to the second, as the dump prints it.

use tz::{TimeZone, TimeZoneSettings};

use crate::privilege;

const SECONDS_PER_DAY: i64 = 86_400;

/// The years -9999 to 9999, less a day: beyond them no rule of a zone is
/// evaluated, and the offset at the nearer end holds.
const EVALUATED: (i64, i64) = (-377_705_030_400, 253_402_214_400);

/// Formats times in one time zone.
///
/// Times in a stream lie close together: the date is formatted once a day.
pub(crate) struct LocalTime {
    zone: TimeZone,
    day: Option<i64>,
    /// `YYYY-MM-DDT` of `day`.
    date: Vec<u8>,
}

impl LocalTime {
    /// The zone of `TZ`, else of the system. As in the C library it is UTC if
    /// `TZ` is empty or names no zone, and `TZDIR` names the directory of
    /// zones. UTC for a process that has more rights than its caller, who
    /// could name any file by these variables.
    pub(crate) fn system() -> Self {
        if privilege::is_raised() {
            return Self::new(TimeZone::utc());
        }
        let directory = std::env::var("TZDIR").unwrap_or_default();
        let own = [directory.as_str()];
        let directories = if directory.is_empty() {
            TimeZoneSettings::DEFAULT_DIRECTORIES
        } else {
            &own
        };
        let settings = TimeZoneSettings::new(directories, TimeZoneSettings::DEFAULT_READ_FILE_FN);
        let zone = match std::env::var_os("TZ") {
            None => settings.parse_local().ok(),
            Some(name) => name
                .to_str()
                .and_then(|name| settings.parse_posix_tz(name).ok()),
        };
        Self::new(zone.unwrap_or_else(TimeZone::utc))
    }

    fn new(zone: TimeZone) -> Self {
        Self {
            zone,
            day: None,
            date: Vec::new(),
        }
    }

    /// Appends `seconds` since 1970 as `YYYY-MM-DDTHH:MM:SS+hhmm`. The year
    /// has as many digits as it needs.
    pub(crate) fn push(&mut self, out: &mut Vec<u8>, seconds: i64) {
        let offset = offset_at(&self.zone, seconds);
        // In 128 bits no time that a stream can carry overflows.
        let local = i128::from(seconds) + i128::from(offset);
        let day = local.div_euclid(i128::from(SECONDS_PER_DAY)) as i64;
        let second = local.rem_euclid(i128::from(SECONDS_PER_DAY)) as u32;
        if self.day != Some(day) {
            self.day = Some(day);
            self.date.clear();
            push_date(&mut self.date, day);
        }
        out.extend_from_slice(&self.date);
        push_two(out, second / 3600);
        out.push(b':');
        push_two(out, second / 60 % 60);
        out.push(b':');
        push_two(out, second % 60);
        out.extend_from_slice(&offset_text(offset));
    }
}

/// Seconds east of UTC.
fn offset_at(zone: &TimeZone, seconds: i64) -> i32 {
    let (first, last) = EVALUATED;
    match zone.find_local_time_type(seconds.clamp(first, last)) {
        Ok(found) => found.ut_offset(),
        // A zone without a rule for the time after its last change.
        Err(_) => {
            let zone = zone.as_ref();
            let last = zone.transitions().last();
            let index = last.map_or(0, |change| change.local_time_type_index());
            let found = zone.local_time_types().get(index);
            found.map_or(0, |found| found.ut_offset())
        }
    }
}

/// The same as `+hhmm`.
fn offset_text(offset: i32) -> [u8; 5] {
    let minutes = offset.unsigned_abs() / 60;
    let sign = if offset < 0 { b'-' } else { b'+' };
    let digit = |value: u32| b'0' + (value % 10) as u8;
    let (hours, minutes) = (minutes / 60, minutes % 60);
    [
        sign,
        digit(hours / 10),
        digit(hours),
        digit(minutes / 10),
        digit(minutes),
    ]
}

/// Appends `YYYY-MM-DDT` for a day counted from 1970-01-01.
fn push_date(out: &mut Vec<u8>, day: i64) {
    let (year, month, day) = date(day);
    out.extend_from_slice(year.to_string().as_bytes());
    out.push(b'-');
    push_two(out, month);
    out.push(b'-');
    push_two(out, day);
    out.push(b'T');
}

/// Year, month and day of the month of a day counted from 1970-01-01 in the
/// proleptic Gregorian calendar.
fn date(day: i64) -> (i128, u32, u32) {
    // Years are counted from March, so that the leap day comes last, in
    // cycles of 400 years or 146,097 days from 0000-03-01.
    let shifted = i128::from(day) + 719_468;
    let cycle = shifted.div_euclid(146_097);
    let in_cycle = shifted.rem_euclid(146_097);
    let year_in_cycle = (in_cycle - in_cycle / 1460 + in_cycle / 36_524 - in_cycle / 146_096) / 365;
    let in_year = in_cycle - (365 * year_in_cycle + year_in_cycle / 4 - year_in_cycle / 100);
    // March to July and August to December have 153 days each, and so does
    // the rest, cut short.
    let month_from_march = (5 * in_year + 2) / 153;
    let day_of_month = in_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = 400 * cycle + year_in_cycle + i128::from(month <= 2);
    (year, month as u32, day_of_month as u32)
}

fn push_two(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&[b'0' + (value / 10 % 10) as u8, b'0' + (value % 10) as u8]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(zone: &str, times: &[i64]) -> Vec<String> {
        let zone = TimeZone::from_posix_tz(zone).unwrap();
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
                "UTC0",
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

    #[test]
    fn follows_changes_of_the_offset_both_ways() {
        // CET until 2024-03-31 01:00 UTC, CEST until 2024-10-27 01:00 UTC.
        let (spring, autumn) = (1_711_846_800, 1_729_990_800);
        assert_eq!(
            format(
                "CET-1CEST,M3.5.0,M10.5.0/3",
                &[spring - 1, spring, autumn - 1, autumn, spring, spring - 1]
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
        assert_eq!(format("XYZ-14", &[i64::MIN, i64::MAX]).len(), 2);
        assert!(format("NST3:30", &[0])[0].ends_with("T20:30:00-0330"));
    }
}
