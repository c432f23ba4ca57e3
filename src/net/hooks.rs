//! Telling somebody outside: a command that is run, a webhook that is called. Bounded in time; what they print or answer is
//! not read, only whether they took it. No shell: what strangers wrote stands in the environment, and nobody interprets it.
//! A webhook's certificate must be good; another address that it names (a redirect) is not asked.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::tls;
use crate::outside::Stream;

/// Of a webhook's answer, up to its body, which nobody reads.
const ANSWER_MAX: usize = 64 * 1024;

/// Runs a program with its arguments and these variables. When it takes longer than `wait` it is killed.
pub async fn run_hook(
    program: &Path,
    arguments: &[String],
    environment: Vec<(&'static str, String)>,
    wait: Duration,
) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(arguments).envs(environment).current_dir("/").kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| format!("cannot be started: {error}"))?;
    match timeout(wait, child.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("ended with {status}")),
        Ok(Err(error)) => Err(format!("its end is unknown: {error}")),
        Err(_) => Err(format!("did not end within {} s and was killed", wait.as_secs())),
    }
}

/// Posts JSON to an `http:` or `https:` address. Any answer of 200 to 299 will do.
pub async fn post_json(url: &Uri, json: String, wait: Duration) -> Result<(), String> {
    post_within(wait, url, json, tls::system_roots).await
}

async fn post_within(
    wait: Duration,
    url: &Uri,
    json: String,
    roots: impl FnOnce() -> Result<RootCertStore, String> + Send + 'static,
) -> Result<(), String> {
    let posted = async {
        let stream = connect(url, roots).await?;
        post(stream, url, json).await
    };
    timeout(wait, posted).await.unwrap_or_else(|_| Err(format!("no answer within {} s", wait.as_secs())))
}

async fn connect(
    url: &Uri,
    roots: impl FnOnce() -> Result<RootCertStore, String> + Send + 'static,
) -> Result<Box<dyn Stream>, String> {
    let host = url.host().ok_or("the address names no host")?.trim_start_matches('[').trim_end_matches(']');
    let is_tls = url.scheme_str() == Some("https");
    let stream = TcpStream::connect((host, url.port_u16().unwrap_or(if is_tls { 443 } else { 80 }))).await;
    let stream = stream.map_err(|error| format!("cannot connect: {error}"))?;
    if !is_tls {
        return Ok(Box::new(stream));
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|_| format!("{host} is no name for TLS"))?;
    let roots = tokio::task::spawn_blocking(roots).await.map_err(|error| error.to_string())??;
    let connected = TlsConnector::from(Arc::new(tls::known_servers(roots))).connect(name, stream).await;
    Ok(Box::new(connected.map_err(|error| format!("no TLS: {error}"))?))
}

async fn post(stream: Box<dyn Stream>, url: &Uri, json: String) -> Result<(), String> {
    let authority = url.authority().ok_or("the address names no host")?;
    let builder = hyper::client::conn::http1::Builder::new().max_buf_size(ANSWER_MAX).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = builder.map_err(|error| error.to_string())?;
    // Ends with the sender.
    let connection = tokio::spawn(connection);
    let request = Request::post(url.path_and_query().map_or("/", |path| path.as_str()))
        .header(HOST, authority.as_str())
        .header(USER_AGENT, "feedgate")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(json)))
        .map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await;
    connection.abort();
    let status = answer.map_err(|error| format!("no answer: {error}"))?.status();
    if status.is_success() { Ok(()) } else { Err(format!("answered {status}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    const SOON: Duration = Duration::from_secs(20);

    async fn run(script: &str, wait: Duration) -> Result<(), String> {
        let arguments = ["-c".to_owned(), script.to_owned()];
        run_hook(Path::new("/bin/sh"), &arguments, vec![("FEEDGATE_WHY", "$(exit 9); \"'`x`".to_owned())], wait).await
    }

    #[tokio::test]
    async fn a_command_gets_its_variables_as_they_are_and_its_end_is_known() {
        assert_eq!(run("test \"$FEEDGATE_WHY\" = '$(exit 9); \"'\\''`x`'", SOON).await, Ok(()));
        assert_eq!(run("exit 3", SOON).await, Err("ended with exit status: 3".to_owned()));
        let missing = run_hook(Path::new("/nowhere/hook"), &[], Vec::new(), SOON).await;
        assert!(missing.unwrap_err().starts_with("cannot be started"), "a program that is not there");
    }

    #[tokio::test]
    async fn a_command_that_does_not_end_is_killed() {
        let ended = run("exec sleep 1000", Duration::from_millis(50)).await;
        assert_eq!(ended, Err("did not end within 0 s and was killed".to_owned()));
    }

    async fn posted(answer: &'static str, wait: Duration) -> (Result<(), String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: Uri = format!("http://{}/alert?to=ops", listener.local_addr().unwrap()).parse().unwrap();
        let serve = async { serve(&mut listener.accept().await.unwrap().0, answer).await };
        tokio::join!(post_json(&url, "{\"event\":\"began\"}".to_owned(), wait), serve)
    }

    /// Takes a request and gives this answer; what was asked.
    async fn serve(stream: &mut dyn Stream, answer: &str) -> String {
        let mut got = String::new();
        while !got.ends_with('}') {
            let mut piece = [0; 1000];
            let length = stream.read(&mut piece).await.unwrap();
            got.push_str(std::str::from_utf8(&piece[..length]).unwrap());
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        // Held open until the client has gone.
        let _ = stream.read(&mut [0; 1]).await;
        got
    }

    /// By TLS, to a server with a certificate for this name, which `trust` may vouch for; what it was asked, if anything.
    async fn posted_by_tls(name: &str, is_trusted: bool) -> (Result<(), String>, Option<String>) {
        let directory = tempfile::tempdir().unwrap();
        let files = tls::tests::files(directory.path(), name);
        let acceptor = tokio_rustls::TlsAcceptor::from(tls::server_tls(&files).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: Uri = format!("https://localhost:{}/alert", listener.local_addr().unwrap().port()).parse().unwrap();
        let serve = async {
            let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.ok()?;
            Some(serve(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await)
        };
        let roots = move || {
            let mut roots = RootCertStore::empty();
            if is_trusted {
                let certificate = rustls::pki_types::pem::PemObject::from_pem_file(&files.certificate).unwrap();
                roots.add(certificate).unwrap();
            }
            Ok(roots)
        };
        tokio::join!(post_within(SOON, &url, "{\"event\":\"half\"}".to_owned(), roots), serve)
    }

    #[tokio::test]
    async fn a_webhook_is_told_by_tls_when_its_certificate_is_good_and_else_not_at_all() {
        let (taken, request) = posted_by_tls("localhost", true).await;
        assert_eq!(taken, Ok(()));
        assert!(request.unwrap().ends_with("{\"event\":\"half\"}"));
        for (name, is_trusted, why) in [("localhost", false, "UnknownIssuer"), ("elsewhere.example", true, "not valid for name")]
        {
            let (refused, request) = posted_by_tls(name, is_trusted).await;
            let refused = refused.unwrap_err();
            assert!(refused.starts_with("no TLS: ") && refused.contains(why), "{refused}");
            assert_eq!(request, None);
        }
    }

    #[tokio::test]
    async fn a_webhook_that_points_elsewhere_has_not_taken_it_and_one_that_goes_on_and_on_is_left() {
        let (moved, _) = posted("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\n\r\n", SOON).await;
        assert_eq!(moved, Err("answered 302 Found".to_owned()));
        let endless = String::leak(format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(2 * ANSWER_MAX)));
        let (endless, _) = posted(endless, SOON).await;
        assert!(endless.unwrap_err().starts_with("no answer: "));
    }

    #[tokio::test]
    async fn a_webhook_gets_json_and_says_whether_it_took_it() {
        let (taken, request) = posted("HTTP/1.1 204 No Content\r\n\r\n", SOON).await;
        assert_eq!(taken, Ok(()));
        assert!(request.starts_with("POST /alert?to=ops HTTP/1.1\r\n") && request.contains("host: 127.0.0.1:"), "{request}");
        assert!(request.contains("application/json") && request.ends_with("\r\n\r\n{\"event\":\"began\"}"), "{request}");
        let (refused, _) = posted("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", SOON).await;
        assert_eq!(refused, Err("answered 500 Internal Server Error".to_owned()));
        let (silent, _) = posted("", Duration::from_millis(50)).await;
        assert_eq!(silent, Err("no answer within 0 s".to_owned()));
    }
}
