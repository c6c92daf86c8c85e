//! Sizes and times on the command line.

use std::ffi::OsString;
use std::time::Duration;

use super::UsageError;

/// What `--checkpoint-every` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quantity {
    /// Bytes.
    Size(u64),
    /// Time.
    Time(Duration),
}

/// `--size` and others: bytes, or a number with a unit of size.
pub(super) fn size(option: &'static str, value: OsString) -> Result<u64, UsageError> {
    let (number, unit) = split(&value);
    let bytes = match unit {
        "" => number.parse().ok(),
        unit => bytes(number, unit),
    };
    bytes.ok_or_else(|| {
        UsageError::unusable(option, value, "it must be a number such as 1500 or 12G")
    })
}

/// `--buffer`: a size; 0 for none.
pub(super) fn buffer(value: OsString) -> Result<Option<usize>, UsageError> {
    let bytes = size("--buffer", value)?;
    // What no address space holds is refused when it is allocated.
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    Ok((bytes > 0).then_some(bytes))
}

/// `--checkpoint-every`: a number above 0 with a unit of size or time.
pub(super) fn interval(value: OsString) -> Result<Quantity, UsageError> {
    let (number, unit) = split(&value);
    let size = bytes(number, unit).map(Quantity::Size);
    let quantity = size.or_else(|| time(number, unit).map(Quantity::Time));
    let above_zero =
        |it: &Quantity| !matches!(it, Quantity::Size(0) | Quantity::Time(Duration::ZERO));
    quantity.filter(above_zero).ok_or_else(|| {
        UsageError::unusable(
            "--checkpoint-every",
            value,
            "it must be a size such as 512M or 4G, or a time such as 30s, 5min or 1h",
        )
    })
}

/// The digits at the beginning, and the rest.
fn split(value: &OsString) -> (&str, &str) {
    // No unit is called that.
    let text = value.to_str().unwrap_or("?");
    let digits = text.find(|letter: char| !letter.is_ascii_digit());
    text.split_at(digits.unwrap_or(text.len()))
}

/// Multiples of 1024 bytes: `K`, `M`, `G`, `T` and `P`, or `KiB` and so on.
fn bytes(number: &str, unit: &str) -> Option<u64> {
    let letter = unit.strip_suffix("iB").unwrap_or(unit);
    let at = ["K", "M", "G", "T", "P"]
        .iter()
        .position(|&it| it == letter)?;
    number.parse::<u64>().ok()?.checked_mul(1024 << (10 * at))
}

fn time(number: &str, unit: &str) -> Option<Duration> {
    let seconds: u64 = match unit {
        "s" => 1,
        "min" => 60,
        "h" => 3600,
        _ => return None,
    };
    let seconds = number.parse::<u64>().ok()?.checked_mul(seconds)?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_unit_or_none() {
        for (text, bytes) in [("0", 0), ("1500", 1500), ("12G", 12 << 30), ("3KiB", 3072)] {
            assert_eq!(size("--size", text.into()), Ok(bytes), "{text}");
        }
        for text in ["", "G", "-1", "1g", "1 G", "1GB", "5min", "17179869184G"] {
            assert!(size("--size", text.into()).is_err(), "{text}");
        }
    }

    #[test]
    fn intervals_are_sizes_or_times() {
        let (size, time) = (Quantity::Size, |it| Quantity::Time(Duration::from_secs(it)));
        for (text, expected) in [
            ("512M", size(512 << 20)),
            ("8GiB", size(8 << 30)),
            ("30s", time(30)),
            ("2min", time(120)),
            ("1h", time(3600)),
        ] {
            assert_eq!(interval(text.into()), Ok(expected), "{text}");
        }
        for text in ["", "4", "G", "4g", "0G", "0s", "-1G", "5m", "99999999999T"] {
            assert!(interval(text.into()).is_err(), "{text}");
        }
    }
}
