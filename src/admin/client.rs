//! The command line's end of the socket: one HTTP request for each command.
//!
//! Answers are bounded in size and time. A gateway that is not there is the most common error, so its text says where it was
//! looked for.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

use super::api::{OPERATOR_HEADER, ProblemBody};

/// Of an answer, in bytes. The largest list has a thousand messages.
const ANSWER_MAX: usize = 64 * 1024 * 1024;
/// For connecting to a socket of the same machine.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// For an answer: steering 100,000 messages writes 100,000 records.
const ANSWER_WAIT: Duration = Duration::from_secs(600);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("feedgate is not running with this configuration (no answer on {}): {source}", path.display())]
    NotRunning { path: PathBuf, source: io::Error },
    #[error("no permission to open {}: run this as root or as the user that feedgate runs as", .0.display())]
    Forbidden(PathBuf),
    /// The gateway's own words.
    #[error("{0}")]
    Refused(String),
    #[error("the answer on {} is not understood: {why}", path.display())]
    Broken { path: PathBuf, why: String },
}

/// Talks to the gateway behind one socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    pub fn new(socket: PathBuf) -> Client {
        Client { socket }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `target`: path and query, already encoded.
    pub async fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, ClientError> {
        self.send(Method::GET, target, Bytes::new()).await
    }

    pub async fn post<T: DeserializeOwned>(&self, target: &str, body: &impl Serialize) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| self.broken(error))?;
        self.send(Method::POST, target, body.into()).await
    }

    async fn send<T: DeserializeOwned>(&self, method: Method, target: &str, body: Bytes) -> Result<T, ClientError> {
        let stream = self.connect().await?;
        let exchanged = tokio::time::timeout(ANSWER_WAIT, exchange(stream, method, target, body)).await;
        let (status, answer) = exchanged.map_err(|_| self.broken("none came in ten minutes"))?.map_err(|why| self.broken(why))?;
        if status.is_success() {
            return serde_json::from_slice(&answer).map_err(|error| self.broken(error));
        }
        match serde_json::from_slice::<ProblemBody>(&answer) {
            Ok(problem) => Err(ClientError::Refused(problem.error)),
            Err(_) => Err(self.broken(status)),
        }
    }

    async fn connect(&self) -> Result<UnixStream, ClientError> {
        let connected = tokio::time::timeout(CONNECT_WAIT, UnixStream::connect(&self.socket)).await;
        connected.unwrap_or(Err(io::ErrorKind::TimedOut.into())).map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => ClientError::Forbidden(self.socket.clone()),
            _ => ClientError::NotRunning { path: self.socket.clone(), source },
        })
    }

    fn broken(&self, why: impl ToString) -> ClientError {
        ClientError::Broken { path: self.socket.clone(), why: why.to_string() }
    }
}

/// One request and its whole answer over a fresh connection.
pub async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    method: Method,
    target: &str,
    body: Bytes,
) -> Result<(StatusCode, Bytes), String> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let connection = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header("host", "feedgate")
        .header("content-type", "application/json")
        .header(OPERATOR_HEADER, operator())
        .body(Full::new(body))
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await.map_err(|error| error.to_string())?;
    connection.abort();
    Ok((status, body.to_bytes()))
}

/// Who is asking, as the session says: behind sudo, the person and not root.
fn operator() -> String {
    let name = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok().filter(|name| !name.is_empty()));
    let name = name.unwrap_or_else(|| "unknown".to_owned());
    name.chars().filter(|letter| (' '..='~').contains(letter)).take(64).collect()
}

/// A text as it goes into a path or query: everything but letters, digits and `-._~` as `%XX` (RFC 3986 §2.1).
pub fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte as char),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_breaks_out_of_a_query() {
        assert_eq!(encoded("a b&c=d/ü?#%"), "a%20b%26c%3Dd%2F%C3%BC%3F%23%25");
        assert_eq!(encoded("01hk3c9v7x00.1"), "01hk3c9v7x00.1");
    }

    #[tokio::test]
    async fn a_gateway_that_is_not_there_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let client = Client::new(directory.path().join("admin.sock"));
        let error = client.get::<String>("/v1/status").await.unwrap_err().to_string();
        assert!(error.starts_with("feedgate is not running with this configuration (no answer on /"), "{error}");
        assert!(error.contains("admin.sock): No such file"), "{error}");
    }
}
