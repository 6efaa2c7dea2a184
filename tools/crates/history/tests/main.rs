//! The tests of the checkers, one binary.

mod brute;
mod hand_made;
mod lines;
mod random;
mod story;
