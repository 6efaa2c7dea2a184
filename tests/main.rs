//! The one test binary of the product: everything that needs more than one module.

#[cfg(feature = "net")]
mod cluster;
mod pauses;
mod scenarios;
mod simulation;
#[cfg(feature = "net")]
mod tidy;
#[cfg(all(feature = "net", feature = "hooks"))]
mod virtual_time;
