//! Tests of the whole machine: against a naive model, and scripts.

mod build;
mod model;
mod scripts;
mod snapshots;
