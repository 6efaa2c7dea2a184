//! `tandem-certs`: makes and checks the certificates of a cluster.

fn main() {}
