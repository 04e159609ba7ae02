//! Session settings that evaluation depends on.

use repr::TimeZone;

/// What an evaluation may know of its session. The default (time zone UTC, ISO styles) is what dataflows use, so that a view's
/// content does not depend on who reads it.
#[derive(Clone, Debug, Default)]
pub struct EvalCtx {
    zone: TimeZone,
}

impl EvalCtx {
    /// The session's time zone.
    #[inline]
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }
}
