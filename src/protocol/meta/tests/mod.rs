//! Tests of the metaserver machine.
