//! The two places where the gateway listens for its operators: a private unix socket for commands, and TCP for monitoring.
//!
//! The socket is made in a private directory, given its mode there, and only then renamed to its place: at no moment can
//! anybody but the owner and root open it, and a socket left over by a crash is replaced in the same step. It is removed at
//! the end. Connections are bounded in number; on TCP, where anybody on the network may come, also in idleness.

use std::future::Future;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, Sleep};

use super::api::{self, Peer};
use super::operations::Operations;
use super::web::{self, HttpPeer};

/// Connections at a time, for each of the two. More wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 64;
/// A monitoring connection may be silent for so long; scrapers come back every minute at the latest.
const IDLE_MAX: Duration = Duration::from_secs(90);
/// After the signal to stop, requests that are being answered have so long to end.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// Offers all operations on a unix socket at `path`, until `shutdown`. Fails at once when the socket cannot be made, so
/// that the caller learns it before it takes mail.
pub async fn serve_socket(
    path: PathBuf,
    operations: Arc<Operations>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    serve_router_on_socket(path, api::router(operations), shutdown).await
}

async fn serve_router_on_socket(
    path: PathBuf,
    router: axum::Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let place = path.clone();
    let listener = tokio::task::spawn_blocking(move || bind_private(&place)).await.map_err(io::Error::other)??;
    let listener = Bounded::new(UnixListener::from_std(listener)?, None);
    let service = router.into_make_service_with_connect_info::<Peer>();
    let (stopping, stopped) = oneshot::channel();
    let serving = axum::serve(listener, service).with_graceful_shutdown(announced(shutdown, stopping));
    let ended = within_stop_wait(serving.into_future(), stopped).await;
    // Gone already when somebody tidied up: just as well.
    let _ = tokio::task::spawn_blocking(move || std::fs::remove_file(path)).await;
    ended
}

/// Offers `/metrics`, `/healthz` and the explanation pages, until `shutdown`.
pub async fn serve_http(
    listener: TcpListener,
    operations: Arc<Operations>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (stopping, stopped) = oneshot::channel();
    let listener = Bounded::new(listener, Some(IDLE_MAX));
    let router = api::health_router(Arc::clone(&operations)).merge(web::router(operations));
    let serving = axum::serve(listener, router.into_make_service_with_connect_info::<HttpPeer>());
    within_stop_wait(serving.with_graceful_shutdown(announced(shutdown, stopping)).into_future(), stopped).await
}

async fn announced(shutdown: impl Future<Output = ()>, stopping: oneshot::Sender<()>) {
    shutdown.await;
    let _ = stopping.send(());
}

/// A client that never finishes its request must not keep the gateway from stopping.
async fn within_stop_wait(serving: impl Future<Output = io::Result<()>>, stopped: oneshot::Receiver<()>) -> io::Result<()> {
    let too_late = async {
        if stopped.await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(STOP_WAIT).await;
    };
    tokio::select! {
        ended = serving => ended,
        () = too_late => Ok(()),
    }
}

/// Makes the socket. Blocks.
fn bind_private(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    refuse_what_lives(path)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Short names: a unix socket's path has room for 108 bytes, and `.sock/s` needs less than `admin.sock`.
    let nursery = parent.join(".sock");
    let _ = std::fs::remove_dir_all(&nursery);
    std::fs::DirBuilder::new().mode(0o700).create(&nursery).map_err(|error| named(&nursery, error))?;
    let young = nursery.join("s");
    let made = std::os::unix::net::UnixListener::bind(&young).and_then(|listener| {
        std::fs::set_permissions(&young, std::fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        std::fs::rename(&young, path)?;
        Ok(listener)
    });
    let _ = std::fs::remove_dir_all(&nursery);
    made.map_err(|error| named(path, error))
}

/// Only a socket that nobody answers at may be replaced.
fn refuse_what_lives(path: &Path) -> io::Result<()> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        let text = format!("{} is in the way: it is not a socket", path.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => {
            let text = format!("another feedgate answers at {}", path.display());
            Err(io::Error::new(io::ErrorKind::AddrInUse, text))
        }
        Err(_) => Ok(()),
    }
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// A listener that hands out a bounded number of connections, each with a bound on its idleness where one is given.
struct Bounded<L> {
    listener: L,
    permits: Arc<Semaphore>,
    idle_max: Option<Duration>,
}

impl<L> Bounded<L> {
    fn new(listener: L, idle_max: Option<Duration>) -> Bounded<L> {
        Bounded { listener, permits: Arc::new(Semaphore::new(CONNECTIONS_MAX)), idle_max }
    }
}

impl<L: Listener> Listener for Bounded<L> {
    type Io = Guarded<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Guarded<L::Io>, L::Addr) {
        let permit = Arc::clone(&self.permits).acquire_owned().await.expect("the semaphore is never closed");
        let (stream, address) = self.listener.accept().await;
        let idle = self.idle_max.map(|idle_max| (idle_max, Box::pin(tokio::time::sleep(idle_max))));
        (Guarded { stream, idle, _permit: permit }, address)
    }

    fn local_addr(&self) -> io::Result<L::Addr> {
        self.listener.local_addr()
    }
}

/// A connection that gives its place back when it ends, and ends when nothing was read for too long.
struct Guarded<S> {
    stream: S,
    idle: Option<(Duration, Pin<Box<Sleep>>)>,
    _permit: OwnedSemaphorePermit,
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(context, buffer) {
            if let Some((idle_max, sleep)) = &mut self.idle {
                sleep.as_mut().reset(Instant::now() + *idle_max);
            }
            return Poll::Ready(read);
        }
        match &mut self.idle {
            Some((_, sleep)) => sleep.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into())),
            None => Poll::Pending,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }
}

impl Connected<IncomingStream<'_, Bounded<UnixListener>>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Bounded<UnixListener>>) -> Peer {
        Peer { uid: stream.io().stream.peer_cred().ok().map(|credentials| credentials.uid()) }
    }
}

impl Connected<IncomingStream<'_, Bounded<TcpListener>>> for HttpPeer {
    fn connect_info(stream: IncomingStream<'_, Bounded<TcpListener>>) -> HttpPeer {
        HttpPeer(*stream.remote_addr())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::client::Client;

    fn answering(text: &'static str) -> axum::Router {
        axum::Router::new().route("/v1/status", axum::routing::get(async move || axum::Json(text)))
    }

    /// Serves in the background; returns when the socket answers.
    async fn served(path: &Path) -> (oneshot::Sender<()>, tokio::task::JoinHandle<io::Result<()>>) {
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            let _ = stopped.await;
        };
        let task = tokio::spawn(serve_router_on_socket(path.to_owned(), answering("here"), shutdown));
        while tokio::net::UnixStream::connect(path).await.is_err() {
            assert!(!task.is_finished(), "it serves");
            tokio::task::yield_now().await;
        }
        (stop, task)
    }

    #[tokio::test]
    async fn the_socket_is_private_and_goes_with_its_gateway() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let (stop, task) = served(&path).await;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Client::new(path.clone()).get::<String>("/v1/status").await.unwrap(), "here");
        drop(stop);
        task.await.unwrap().unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[tokio::test]
    async fn a_second_gateway_does_not_take_the_socket_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let (_stop, _task) = served(&path).await;
        let error = serve_router_on_socket(path.clone(), answering("second"), std::future::pending()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(Client::new(path).get::<String>("/v1/status").await.unwrap(), "here");
    }

    #[tokio::test]
    async fn a_socket_left_over_is_replaced_and_a_file_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (stop, task) = served(&path).await;
        drop(stop);
        task.await.unwrap().unwrap();

        std::fs::write(&path, "precious").unwrap();
        let error = serve_router_on_socket(path.clone(), answering("x"), std::future::pending()).await.unwrap_err();
        assert!(error.to_string().contains("not a socket"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    #[tokio::test]
    async fn a_request_that_never_ends_does_not_keep_the_gateway_from_stopping() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let (stop, task) = served(&path).await;
        let stuck = tokio::net::UnixStream::connect(&path).await.unwrap();
        stuck.writable().await.unwrap();
        stuck.try_write(b"GET /v1/st").unwrap();
        tokio::time::pause();
        drop(stop);
        task.await.unwrap().unwrap();
    }
}
