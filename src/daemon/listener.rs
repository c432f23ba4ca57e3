//! Listening sockets and the door: who may open a session, and what the others are told.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::session::serve;
use crate::checks::Door;
use crate::flow::Flow;
use crate::mail::{IdSource, Reply};

/// What every listener needs to open sessions.
#[derive(Clone)]
pub struct Sessions {
    pub flow: Arc<Flow>,
    pub door: Door,
    pub ids: Arc<IdSource>,
    /// For STARTTLS; swapped when certificates are read again.
    pub tls: Arc<ArcSwapOption<rustls::ServerConfig>>,
    pub tracker: TaskTracker,
    pub stop: watch::Receiver<bool>,
}

/// Connections the kernel keeps for us while we are busy.
const BACKLOG: i32 = 1024;
/// After an error of accept (out of file descriptors, usually) the next try waits.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A client refused at the door gets its reply within this, or not at all.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(5);

/// Opens a listening socket. `[::]` listens on IPv6 only, so that `0.0.0.0` with the same port can stand beside it.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Takes connections until told to stop.
pub async fn listen(listener: TcpListener, mut sessions: Sessions) {
    let mut stop = sessions.stop.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((stream, peer)) => sessions.open(stream, peer),
            Err(error) => {
                tracing::error!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Sessions {
    fn open(&mut self, stream: TcpStream, peer: SocketAddr) {
        let config = self.flow.config();
        let sid = self.ids.next(self.flow.now());
        let address = peer.ip().to_canonical();
        let pass = match self.door.enter(address, &config.limits, config.allows(address)) {
            Ok(pass) => pass,
            Err(reply) => {
                self.flow.refused_at_door(sid, address, &reply);
                self.tracker.spawn(refuse(stream, reply));
                return;
            }
        };
        // Replies are written whole: waiting for more of them (Nagle) only costs time.
        let _ = stream.set_nodelay(true);
        let peer = SocketAddr::new(address, peer.port());
        let (tls, stop) = (self.tls.load_full(), self.stop.clone());
        let flow = Arc::clone(&self.flow);
        self.tracker.spawn(async move {
            flow.maillog.metrics().session_opened();
            serve(Arc::clone(&flow), stream, peer, sid, tls, stop).await;
            flow.maillog.metrics().session_closed();
            drop(pass);
        });
    }
}

async fn refuse(mut stream: TcpStream, reply: Reply) {
    let write = async {
        stream.write_all(&reply.to_wire()).await?;
        stream.shutdown().await
    };
    let _ = tokio::time::timeout(REFUSAL_PATIENCE, write).await;
}
