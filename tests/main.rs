//! The one test binary of the product: everything that needs more than one module.

mod cluster;
mod tidy;
