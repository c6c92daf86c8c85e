//! The time zone of the system.

use btrfs_sendstream::inspect::{LocalTime, TimeZone, UtcOffset};
use tz::TimeZoneSettings;

/// The years -9999 to 9999, less a day: beyond them no rule of a zone is
/// evaluated, and the offset at the nearer end holds.
const EVALUATED: (i64, i64) = (-377_705_030_400, 253_402_214_400);

/// The zone of `TZ`, else of the system, else UTC.
#[derive(Clone, Debug)]
pub struct SystemZone(tz::TimeZone);

impl SystemZone {
    /// Looks it up. As in the C library it is UTC if `TZ` is empty or names no
    /// zone, and `TZDIR` names the directory of zones.
    ///
    /// A process that has more rights than its caller must not use it: the
    /// caller could name any file by these variables. For it there is
    /// [`utc`](Self::utc).
    pub fn new() -> Self {
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
        Self(zone.unwrap_or_else(tz::TimeZone::utc))
    }

    /// Coordinated universal time.
    pub fn utc() -> Self {
        Self(tz::TimeZone::utc())
    }
}

impl Default for SystemZone {
    fn default() -> Self {
        Self::new()
    }
}

impl TimeZone for SystemZone {
    fn offset_at(&self, seconds: i64) -> UtcOffset {
        let (first, last) = EVALUATED;
        let offset = match self.0.find_local_time_type(seconds.clamp(first, last)) {
            Ok(found) => found.ut_offset(),
            // A zone without a rule for the time after its last change.
            Err(_) => {
                let zone = self.0.as_ref();
                let last = zone.transitions().last();
                let index = last.map_or(0, |change| change.local_time_type_index());
                let found = zone.local_time_types().get(index);
                found.map_or(0, |found| found.ut_offset())
            }
        };
        // How long it holds is not looked up: that costs more than looking up
        // the offset again.
        UtcOffset {
            seconds: i64::from(offset),
            first: seconds,
            last: seconds,
        }
    }
}

/// Formats times in the zone of the system, or in UTC for a process whose
/// environment is not to be trusted.
pub fn local_time(trusts_environment: bool) -> LocalTime<SystemZone> {
    LocalTime::new(if trusts_environment {
        SystemZone::new()
    } else {
        SystemZone::utc()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_changes_with_the_season() {
        let zone = tz::TimeZone::from_posix_tz("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let zone = SystemZone(zone);
        let (spring, autumn) = (1_711_846_800, 1_729_990_800);
        for (seconds, offset) in [
            (spring - 1, 3600),
            (spring, 7200),
            (autumn - 1, 7200),
            (autumn, 3600),
        ] {
            assert_eq!(zone.offset_at(seconds).seconds, offset);
        }
        let fixed = SystemZone(tz::TimeZone::from_posix_tz("NST3:30").unwrap());
        for seconds in [i64::MIN, 0, i64::MAX] {
            assert_eq!(fixed.offset_at(seconds).seconds, -12_600);
        }
    }
}
