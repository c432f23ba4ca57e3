//! Listening sockets and the door: who may open a session, and what the others are told. Behind a load balancer that speaks the
//! PROXY protocol, who is at the door is known only after its header.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::proxy;
use super::session::serve;
use crate::checks::{Door, Pass};
use crate::flow::Flow;
use crate::mail::{IdSource, Reply, SessionId};
use crate::outside::Stream;

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
pub async fn listen(listener: TcpListener, sessions: Sessions) {
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
    fn open(&self, stream: TcpStream, peer: SocketAddr) {
        let sid = self.ids.next(self.flow.now());
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        // Replies are written whole: waiting for more of them (Nagle) only costs time.
        let _ = stream.set_nodelay(true);
        if self.flow.config().smtp.proxy_from.iter().any(|network| network.contains(&peer.ip())) {
            self.tracker.spawn(self.clone().open_proxied(stream, peer, sid));
            return;
        }
        match self.enter(sid, peer) {
            Ok(pass) => drop(self.tracker.spawn(self.clone().attend(stream, peer, sid, pass))),
            Err(reply) => drop(self.tracker.spawn(refuse(stream, reply))),
        }
    }

    /// The client that the balancer names counts for everything, from here on.
    async fn open_proxied(self, stream: TcpStream, balancer: SocketAddr, sid: SessionId) {
        // Its own connections are counted, too, so that the house has its size.
        let waiting = self.door.enter(balancer.ip(), &self.flow.config().limits, true);
        let mut stream = BufReader::with_capacity(proxy::READ_AHEAD, stream);
        let named = match proxy::client(&mut stream).await {
            Ok(named) => named,
            Err(why) => {
                self.flow.maillog.metrics().proxy_refused();
                tracing::warn!(%sid, balancer = %balancer.ip(), why, "a connection without a valid PROXY header was closed");
                return;
            }
        };
        drop(waiting);
        let peer = named.unwrap_or(balancer);
        tracing::debug!(%sid, balancer = %balancer.ip(), client = %peer.ip(), "PROXY");
        match self.enter(sid, peer) {
            Ok(pass) => self.attend(stream, peer, sid, pass).await,
            Err(reply) => refuse(stream, reply).await,
        }
    }

    fn enter(&self, sid: SessionId, peer: SocketAddr) -> Result<Pass, Reply> {
        let config = self.flow.config();
        let entered = self.door.enter(peer.ip(), &config.limits, config.allows(peer.ip()));
        entered.inspect_err(|reply| self.flow.refused_at_door(sid, peer.ip(), reply))
    }

    async fn attend<S: Stream + 'static>(self, stream: S, peer: SocketAddr, sid: SessionId, pass: Pass) {
        let Sessions { flow, tls, stop, .. } = self;
        flow.maillog.metrics().session_opened();
        serve(Arc::clone(&flow), stream, peer, sid, tls.load_full(), stop).await;
        flow.maillog.metrics().session_closed();
        drop(pass);
    }
}

async fn refuse<S: Stream>(mut stream: S, reply: Reply) {
    let write = async {
        stream.write_all(&reply.to_wire()).await?;
        stream.shutdown().await
    };
    let _ = tokio::time::timeout(REFUSAL_PATIENCE, write).await;
}
