//! Likely causes, and what to do next: for the reader of an error who did
//! not expect one.

mod failure;
mod input;

use std::borrow::Cow;

use rustix::thread::{CapabilitySet, capabilities};

pub(crate) use failure::{on_failure, on_resume};
pub(crate) use input::on_stream_error;

/// What an error does not say by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Advice {
    /// The likely cause.
    pub(crate) likely: Cow<'static, str>,
    /// What to do next.
    pub(crate) to_do: Cow<'static, str>,
}

impl Advice {
    fn new(likely: impl Into<Cow<'static, str>>, to_do: impl Into<Cow<'static, str>>) -> Self {
        Self {
            likely: likely.into(),
            to_do: to_do.into(),
        }
    }
}

/// Whether this process is known to have a capability.
pub(crate) fn has(capability: CapabilitySet) -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(capability))
}

/// A number of bytes in the unit that reads best.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = 0;
    // In tenths, rounded down.
    let mut tenths = u128::from(count) * 10 / 1024;
    if count < 1024 {
        return format!("{count} bytes");
    }
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    let name = UNITS.get(unit).unwrap_or(&"KiB");
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn bytes_have_a_fitting_unit() {
        for (count, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1 << 20, "1.0 MiB"),
            (9_000_000_000_000, "8.1 TiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }
}
