//! Values of the options that make receives resumable.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::UsageError;

/// How receives are made resumable; `None` for what is left at its default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resume {
    /// Bytes of the stream between checkpoints.
    pub(crate) every_bytes: Option<u64>,
    /// Time between checkpoints.
    pub(crate) every: Option<Duration>,
    /// Where the state is.
    pub(crate) state_dir: Option<PathBuf>,
}

/// What to show or to abandon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unfinished {
    /// The directory that subvolumes are received in.
    pub(crate) destination: PathBuf,
    /// Where the state is, if not there.
    pub(crate) state_dir: Option<PathBuf>,
    /// Names of subvolumes; for `--abandon`.
    pub(crate) names: Vec<OsString>,
}

impl Resume {
    /// `--checkpoint-every`: a size or a time. Either may be given once more.
    pub(super) fn every(&mut self, value: OsString) -> Result<(), UsageError> {
        let text = value.to_str().unwrap_or_default();
        let digits = text.find(|c: char| !c.is_ascii_digit());
        let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
        let number: Option<u64> = number.parse().ok().filter(|number| *number > 0);
        let size = |shift: u32| number.and_then(|number| number.checked_mul(1 << shift));
        let time = |seconds: u64| number.and_then(|number| number.checked_mul(seconds));
        let (bytes, seconds) = match unit {
            "K" | "KiB" => (size(10), None),
            "M" | "MiB" => (size(20), None),
            "G" | "GiB" => (size(30), None),
            "T" | "TiB" => (size(40), None),
            "s" => (None, time(1)),
            "min" => (None, time(60)),
            "h" => (None, time(3600)),
            _ => (None, None),
        };
        match (bytes, seconds) {
            (Some(bytes), _) => self.every_bytes = Some(bytes),
            (_, Some(seconds)) => self.every = Some(Duration::from_secs(seconds)),
            _ => {
                return Err(UsageError::unusable(
                    "--checkpoint-every",
                    value,
                    "it is a size, such as 512M or 4G, or a time, such as 30s, 5min or 1h",
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_told_apart() {
        let mut resume = Resume::default();
        for value in ["512M", "2min", "8G"] {
            resume.every(value.into()).unwrap();
        }
        assert_eq!(resume.every_bytes, Some(8 << 30));
        assert_eq!(resume.every, Some(Duration::from_secs(120)));
        for value in ["", "4", "G", "4g", "0G", "-1G", "5m", "99999999999T"] {
            assert!(resume.every(value.into()).is_err(), "{value}");
        }
    }
}
