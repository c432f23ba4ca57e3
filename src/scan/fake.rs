//! A clamd made of a listener and a [`Behaviour`], for the tests of this module.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::time::Instant;

use super::clamd::{Clamd, eicar};
use crate::config::ClamdAddress;
use crate::mail::Timestamp;
use crate::outside::{Clock, Pending, Stream};

/// What the fake does with a message.
#[derive(Clone)]
pub enum Behaviour {
    /// Reads all of it and finds EICAR in it, or nothing.
    Honest,
    /// Reads all of it and answers this.
    Reply(&'static str),
    /// Reads all of it and answers without end.
    Endless,
    /// Reads this many bytes, answers and closes.
    Early { after: usize, reply: &'static str },
    /// Reads this many bytes and closes.
    CloseAfter(usize),
    /// Takes the connection and says nothing, to VERSION neither.
    Hang,
}

/// Listens until it is dropped.
pub struct Fake {
    address: ClamdAddress,
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
    _directory: tempfile::TempDir,
}

struct State {
    behaviour: Mutex<Behaviour>,
    last_message: Mutex<Vec<u8>>,
    scans: AtomicUsize,
    open: AtomicUsize,
    open_max: AtomicUsize,
    /// Every scan waits for [`Fake::go_on`].
    held: AtomicBool,
    released: tokio::sync::Notify,
}

impl Fake {
    pub fn on_unix(behaviour: Behaviour) -> Fake {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("clamd.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let accept = async move || Box::new(listener.accept().await.unwrap().0) as Box<dyn Stream>;
        Fake::start(ClamdAddress::Unix(path), behaviour, directory, |state| tokio::spawn(serve(accept, state)))
    }

    pub async fn on_tcp(behaviour: Behaviour) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = ClamdAddress::Tcp(listener.local_addr().unwrap());
        let accept = async move || Box::new(listener.accept().await.unwrap().0) as Box<dyn Stream>;
        let directory = tempfile::tempdir().unwrap();
        Fake::start(address, behaviour, directory, |state| tokio::spawn(serve(accept, state)))
    }

    fn start(
        address: ClamdAddress,
        behaviour: Behaviour,
        directory: tempfile::TempDir,
        spawn: impl FnOnce(Arc<State>) -> tokio::task::JoinHandle<()>,
    ) -> Fake {
        let state = Arc::new(State {
            behaviour: Mutex::new(behaviour),
            last_message: Mutex::default(),
            scans: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            open_max: AtomicUsize::new(0),
            held: AtomicBool::new(false),
            released: tokio::sync::Notify::new(),
        });
        Fake { address, task: spawn(Arc::clone(&state)), state, _directory: directory }
    }

    pub fn address(&self) -> ClamdAddress {
        self.address.clone()
    }

    pub fn clamd(&self) -> Clamd {
        let clock = Arc::new(TestClock::new());
        Clamd { address: self.address(), connect_timeout: Duration::from_secs(5), clock }
    }

    /// A deadline for a clamd of [`Fake::clamd`].
    pub fn soon(&self) -> Timestamp {
        TestClock::new().now() + Duration::from_secs(30)
    }

    pub fn becomes(&self, behaviour: Behaviour) {
        *self.state.behaviour.lock().unwrap() = behaviour;
    }

    /// Every scan that begins from now on waits for [`Fake::go_on`].
    pub fn hold(&self) {
        self.state.held.store(true, Ordering::SeqCst);
    }

    pub fn go_on(&self) {
        self.state.held.store(false, Ordering::SeqCst);
        self.state.released.notify_waiters();
    }

    pub fn last_message(&self) -> Vec<u8> {
        self.state.last_message.lock().unwrap().clone()
    }

    /// How many scans it was asked for, canaries included.
    pub fn scans(&self) -> usize {
        self.state.scans.load(Ordering::SeqCst)
    }

    /// Scans it has open now.
    pub fn open(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }

    /// The most scans it had open at a time.
    pub fn open_max(&self) -> usize {
        self.state.open_max.load(Ordering::SeqCst)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(accept: impl AsyncFn() -> Box<dyn Stream>, state: Arc<State>) {
    loop {
        let stream = accept().await;
        let state = Arc::clone(&state);
        // A client that goes away is its own business.
        tokio::spawn(async move { answer(stream, &state).await.ok() });
    }
}

async fn answer(mut stream: Box<dyn Stream>, state: &State) -> std::io::Result<()> {
    let behaviour = state.behaviour.lock().unwrap().clone();
    let mut command = Vec::new();
    while !command.ends_with(b"\0") {
        command.push(stream.read_u8().await?);
    }
    if matches!(behaviour, Behaviour::Hang) {
        return std::future::pending().await;
    }
    match &command[..] {
        b"zVERSION\0" => stream.write_all(b"ClamAV 9.9.9/1/Fri Nov 20 22:36:00 2026\0").await,
        b"zINSTREAM\0" => {
            state.scans.fetch_add(1, Ordering::SeqCst);
            let open = state.open.fetch_add(1, Ordering::SeqCst) + 1;
            state.open_max.fetch_max(open, Ordering::SeqCst);
            let done = scan(stream, state, behaviour).await;
            state.open.fetch_sub(1, Ordering::SeqCst);
            done
        }
        other => panic!("unknown command {other:?}"),
    }
}

async fn scan(mut stream: Box<dyn Stream>, state: &State, behaviour: Behaviour) -> std::io::Result<()> {
    if state.held.load(Ordering::SeqCst) {
        state.released.notified().await;
    }
    match behaviour {
        Behaviour::Early { after, reply } => {
            stream.read_exact(&mut vec![0; after]).await?;
            return stream.write_all(reply.as_bytes()).await;
        }
        Behaviour::CloseAfter(bytes) => return stream.read_exact(&mut vec![0; bytes]).await.map(drop),
        _ => {}
    }
    let mut message = Vec::new();
    loop {
        let size = stream.read_u32().await? as usize;
        let start = message.len();
        message.resize(start + size, 0);
        stream.read_exact(&mut message[start..]).await?;
        if size == 0 {
            break;
        }
    }
    let infected = message.windows(68).any(|window| window == eicar());
    *state.last_message.lock().unwrap() = message;
    match behaviour {
        Behaviour::Reply(reply) => stream.write_all(reply.as_bytes()).await,
        Behaviour::Endless => loop {
            stream.write_all(b"stream: OK\0").await?;
        },
        _ if infected => stream.write_all(b"stream: Eicar-Test-Signature FOUND\0").await,
        _ => stream.write_all(b"stream: OK\0").await,
    }
}

/// The runtime's own clock, which `start_paused` stops and lets jump.
pub struct TestClock(Instant);

impl TestClock {
    pub fn new() -> TestClock {
        TestClock(Instant::now())
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(1_795_214_160_000) + self.0.elapsed()
    }

    fn sleep_until(&self, moment: Timestamp) -> Pending<'static, ()> {
        Box::pin(tokio::time::sleep(moment.since(self.now())))
    }
}

/// A path at which nobody listens.
pub fn nowhere(directory: &Path) -> ClamdAddress {
    ClamdAddress::Unix(directory.join("nobody"))
}
