//! The one binary of the tests that look at the whole from outside.

mod scenarios;
mod simulation;
