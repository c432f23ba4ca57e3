//! Steering: what operators ask of a gateway, by command line and over HTTP.
//!
//! Every request, wherever it comes from, ends in one method of [`Operations`]; nothing else touches the queue for an
//! operator. [`api`] offers the operations over a private unix socket and the health of the gateway over TCP, [`client`] and
//! [`cli`] are the other end of the socket, [`check`] looks at a configuration before it is used. `web`, beside the health, has the
//! pages for strangers that explain refusals.
//!
//! Nothing here decides what becomes of mail by itself. When the socket cannot be opened the gateway does not start: a
//! gateway that nobody can steer must not take mail. An operator who goes away in the middle stops nothing: a steering that
//! has begun runs to its end.

pub mod answers;
pub mod api;
pub mod check;
pub mod cli;
pub mod client;
pub mod explain;
pub mod lessons;
pub mod listen;
pub mod operations;
pub mod output;
pub mod recipients;
pub mod replay;
pub mod seen;
pub mod selection;
mod web;

pub use listen::{serve_http, serve_socket};
pub use operations::{OperationError, Operations, Reload};

use std::path::{Path, PathBuf};

/// Where the gateway with this data directory listens for its commands.
pub fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join("admin.sock")
}
