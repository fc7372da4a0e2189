//! The `vault` program.

fn main() {}
