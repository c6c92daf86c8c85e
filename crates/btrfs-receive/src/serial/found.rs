//! What a dry run finds.

use serde::ser::Serializer;

use super::{Fields, Object, objects};
use crate::dry_run::{DryRunReport, Forecast};

objects! {
    /// `good`, and the fields of the structure.
    DryRunReport;
    /// The fields of the structure; what is `None` has no key.
    Forecast;
}

impl Fields for DryRunReport {
    fn fields<S: Serializer>(&self, object: &mut Object<S>) -> Result<(), S::Error> {
        object.field("good", &self.is_good())?;
        object.field("stream", &self.stream)?;
        object.field("failures", &self.failures)?;
        object.field("more_failures", &self.more_failures)?;
        object.field("forecasts", &self.forecasts)?;
        object.field("space", &self.space)
    }
}

impl Fields for Forecast {
    fn fields<S: Serializer>(&self, object: &mut Object<S>) -> Result<(), S::Error> {
        object.optional("occupied", self.occupied)?;
        object.optional("parent", self.parent.as_ref())?;
        object.field("clone_sources", &self.clone_sources)?;
        object.field("decoded", &self.decoded)?;
        object.optional("decode_reason", self.decode_reason)
    }
}
