//! The wiring and the drivers: sockets, timeouts and tasks around what is pure below.

pub mod session;
