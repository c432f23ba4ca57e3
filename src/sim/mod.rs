//! The outside, simulated: implementors of the five seams for tests, with faults that tests choose. Always compiled, so that
//! it cannot rot; never named by the binary.

// (skeleton) clock.rs dns.rs scanner.rs network.rs disk.rs
mod disk;

pub use disk::Disk;
