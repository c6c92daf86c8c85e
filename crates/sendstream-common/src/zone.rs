//! The time zone of the system.

use btrfs_sendstream::inspect::{LocalTime, TimeZone, UtcOffset};
use jiff::Timestamp;

/// The zone of `TZ`, else of the system, else UTC.
#[derive(Clone, Debug)]
pub struct SystemZone(jiff::tz::TimeZone);

impl SystemZone {
    /// Looks it up.
    pub fn new() -> Self {
        Self(jiff::tz::TimeZone::system())
    }
}

impl Default for SystemZone {
    fn default() -> Self {
        Self::new()
    }
}

impl TimeZone for SystemZone {
    /// Beyond the years for which the zone's rules are evaluated, -9999 to
    /// 9999, the offset at the nearer end holds.
    fn offset_at(&self, seconds: i64) -> UtcOffset {
        let (min, max) = (Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
        let clamped = seconds.clamp(min, max);
        let timestamp = Timestamp::from_second(clamped).unwrap_or(Timestamp::UNIX_EPOCH);
        let next = self.0.following(timestamp).next();
        let last = Timestamp::from_second(clamped.saturating_add(1))
            .ok()
            .and_then(|after| self.0.preceding(after).next());
        UtcOffset {
            seconds: i64::from(self.0.to_offset(timestamp).seconds()),
            first: last.map_or(i64::MIN, |change| change.timestamp().as_second()),
            last: next.map_or(i64::MAX, |change| change.timestamp().as_second() - 1),
        }
    }
}

/// Formats times in the zone of the system.
pub fn local_time() -> LocalTime<SystemZone> {
    LocalTime::new(SystemZone::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_end_where_the_offset_changes() {
        let zone = jiff::tz::TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let zone = SystemZone(zone);
        let (spring, autumn) = (1_711_846_800, 1_729_990_800);
        let summer = UtcOffset {
            seconds: 7200,
            first: spring,
            last: autumn - 1,
        };
        for seconds in [spring, spring + 1, autumn - 1] {
            assert_eq!(zone.offset_at(seconds), summer);
        }
        assert_eq!(zone.offset_at(spring - 1).last, spring - 1);
        assert_eq!(zone.offset_at(autumn).first, autumn);
        let fixed = SystemZone(jiff::tz::TimeZone::posix("NST3:30").unwrap());
        for seconds in [i64::MIN, 0, i64::MAX] {
            assert_eq!(fixed.offset_at(seconds).seconds, -12_600);
        }
    }
}
