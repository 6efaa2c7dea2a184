//! Goal: only the right parties get a connection, everybody else is refused with an error that
//! says why, on both sides; what is sent arrives once and in order on its lane; nothing that a
//! peer does costs unbounded memory.
//! Method: endpoints on loopback in one thread, with certificates made on the spot.

mod admission;
mod fixture;
mod traffic;
