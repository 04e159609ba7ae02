//! Tests of the crate from outside: golden scripts over a small notation for expressions and plans, and laws checked on random
//! expressions.

mod functions;
mod hostile;
mod laws;
mod plans;
mod term;
