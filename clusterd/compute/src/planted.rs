//! Bugs on purpose, one per hazard of docs/consistency.md: they show that its test would notice. They exist only with the feature `planted`, and sleep until one is chosen.

#[cfg(feature = "planted")]
static CHOSEN: std::sync::Mutex<Option<&str>> = std::sync::Mutex::new(None);

/// Wakes one of this crate's bugs, or none.
#[cfg(feature = "planted")]
pub fn choose(bug: Option<&'static str>) {
    *CHOSEN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner) = bug;
}

/// `h34`: a peek is not parked until the order that it follows has been processed.
pub(crate) fn is(bug: &str) -> bool {
    #[cfg(feature = "planted")]
    let chosen = *CHOSEN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    #[cfg(not(feature = "planted"))]
    let chosen: Option<&str> = None;
    chosen == Some(bug)
}
