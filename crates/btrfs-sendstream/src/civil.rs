//! The proleptic Gregorian calendar.

pub(crate) const SECONDS_PER_DAY: i64 = 86_400;

/// Year, month and day of the month of a day counted from 1970-01-01.
///
/// Years are counted from March, so that the leap day is their last: then the
/// months before any day are 153 days for every five.
pub(crate) fn date(days: i64) -> (i64, i64, i64) {
    const DAYS_IN_400_YEARS: i64 = 146_097;
    // Days from 0000-03-01 to 1970-01-01.
    let days = days + 719_468;
    let cycle = days.div_euclid(DAYS_IN_400_YEARS);
    let day = days.rem_euclid(DAYS_IN_400_YEARS);
    // Leap days so far are taken out: one in 4 years, not in 100, but in 400.
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

/// The day, counted from 1970-01-01, of a year, month and day of the month:
/// the other way round.
#[cfg(feature = "serde")]
pub(crate) fn day(year: i64, month: i64, day_of_month: i64) -> i64 {
    const DAYS_IN_400_YEARS: i64 = 146_097;
    // Counted from March.
    let (month, year) = match month {
        3.. => (month - 3, year),
        _ => (month + 9, year - 1),
    };
    let (cycle, year) = (year.div_euclid(400), year.rem_euclid(400));
    let days_of_year = (153 * month + 2) / 5 + day_of_month - 1;
    let days = cycle * DAYS_IN_400_YEARS + year * 365 + year / 4 - year / 100 + days_of_year;
    days - 719_468
}
