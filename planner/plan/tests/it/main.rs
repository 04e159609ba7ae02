//! Tests of the crate from outside: golden scripts over a small notation for expressions and plans, and laws checked on random
//! expressions.

mod encoding;
mod functions;
mod hostile;
mod laws;
mod limits;
mod plans;
mod temporal;
mod term;
