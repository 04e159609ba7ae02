//! Tests of the whole machine: against a naive model, and scripts.

mod build;
mod golden;
mod model;
mod scripts;
mod snapshots;
