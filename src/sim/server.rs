//! A customer's mail server: what it offers, what a test wants it to do, and what it has seen. How it talks is in `session`.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncWriteExt, DuplexStream};

use super::session::Session;

/// Moments of a session at which a test can step in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum At {
    Greeting,
    Ehlo,
    Helo,
    StartTls,
    /// In place of the TLS handshake; `Say` makes it fail.
    Handshake,
    Mail,
    Rcpt,
    Data,
    /// Some of the text of DATA was read; `Say` is said in the middle of it, and then the server closes.
    Text,
    /// A chunk that is not the last was read.
    Chunk,
    /// The end of the text or the last chunk was read. The message is kept unless `Say` refuses it: with `Drop` and `Hang`
    /// the server has it, and the client does not know.
    End,
    Reset,
    Quit,
}

/// What the server does there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Do {
    /// This reply, without its final line end. After a 421 it closes.
    Say(String),
    /// Nothing, for ever.
    Hang,
    /// Closes.
    Drop,
}

impl Do {
    pub fn say(reply: &str) -> Do {
        Do::Say(reply.to_owned())
    }
}

/// A message the server has taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Without brackets; empty for the null sender.
    pub reverse_path: String,
    pub recipients: Vec<String>,
    /// Everything behind the path of MAIL.
    pub parameters: String,
    /// Unstuffed, byte for byte.
    pub content: Vec<u8>,
    pub way: Way,
    /// STARTTLS was done.
    pub encrypted: bool,
}

/// How the content came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Data,
    Bdat,
}

/// Whether there is somebody at the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Listens,
    Refuses,
    Nowhere,
}

/// One server. Cloning shares it: a test keeps a clone to look at what came and to change its ways.
#[derive(Clone)]
pub struct Server {
    script: Arc<Mutex<Script>>,
}

pub(super) struct Script {
    reach: Reach,
    pub extensions: Vec<String>,
    always: HashMap<At, Do>,
    once: HashMap<At, VecDeque<Do>>,
    /// By address in lower case.
    pub recipients: HashMap<String, Do>,
    pub recipients_max: usize,
    pub bare_line_ends_refused: bool,
    pub received: Vec<Received>,
    pub commands: Vec<String>,
    sessions: usize,
    sessions_max: usize,
    /// Sessions that have not ended.
    open: usize,
    turned_away: usize,
}

/// Kinds of servers.
impl Server {
    /// A plain server of today, without CHUNKING and STARTTLS.
    pub fn new() -> Server {
        Server::offering(["PIPELINING", "SIZE 52428800", "8BITMIME", "ENHANCEDSTATUSCODES", "DSN"])
    }

    /// What Exchange 2019 says by default to a stranger on port 25.
    pub fn exchange() -> Server {
        Server::offering([
            "SIZE 37748736",
            "PIPELINING",
            "DSN",
            "ENHANCEDSTATUSCODES",
            "STARTTLS",
            "X-ANONYMOUSTLS",
            "AUTH NTLM",
            "X-EXPS GSSAPI NTLM",
            "8BITMIME",
            "BINARYMIME",
            "CHUNKING",
            "SMTPUTF8",
        ])
        .recipients_max(200)
    }

    /// Knows HELO only.
    pub fn ancient() -> Server {
        Server::offering([]).at(At::Ehlo, Do::say("500 Command unrecognized"))
    }

    pub fn offering<const N: usize>(extensions: [&str; N]) -> Server {
        let script = Script {
            reach: Reach::Listens,
            extensions: extensions.map(str::to_owned).to_vec(),
            always: HashMap::new(),
            once: HashMap::new(),
            recipients: HashMap::new(),
            recipients_max: usize::MAX,
            bare_line_ends_refused: false,
            received: Vec::new(),
            commands: Vec::new(),
            sessions: 0,
            sessions_max: usize::MAX,
            open: 0,
            turned_away: 0,
        };
        Server { script: Arc::new(Mutex::new(script)) }
    }
}

/// Its ways; they can be changed at any time.
impl Server {
    /// Offers one more, or the same with another parameter.
    pub fn with(self, extension: &str) -> Server {
        let server = self.without(keyword(extension));
        server.script().extensions.push(extension.to_owned());
        server
    }

    pub fn without(self, extension: &str) -> Server {
        self.script().extensions.retain(|offered| keyword(offered) != extension);
        self
    }

    /// Does this there each time.
    pub fn at(self, at: At, what: Do) -> Server {
        self.script().always.insert(at, what);
        self
    }

    /// Does this there the next time only; several are done in their order.
    pub fn once(self, at: At, what: Do) -> Server {
        self.script().once.entry(at).or_default().push_back(what);
        self
    }

    /// Answers RCPT for this address so.
    pub fn recipient(self, address: &str, what: Do) -> Server {
        self.script().recipients.insert(address.to_ascii_lowercase(), what);
        self
    }

    /// `452 4.5.3` to every RCPT after so many good ones.
    pub fn recipients_max(self, most: usize) -> Server {
        self.script().recipients_max = most;
        self
    }

    /// Turns away whoever comes while so many sessions are open, in Exchange's words.
    pub fn sessions_max(self, most: usize) -> Server {
        self.script().sessions_max = most;
        self
    }

    /// Refuses a text with bare CR or LF at its end.
    pub fn refusing_bare_line_ends(self) -> Server {
        self.script().bare_line_ends_refused = true;
        self
    }

    /// Forgets what it was told to do, and listens.
    pub fn behave(&self) {
        let mut script = self.script();
        script.reach = Reach::Listens;
        script.always.clear();
        script.once.clear();
        script.recipients.clear();
    }

    /// Refuses connections from now on.
    pub fn go_down(&self) {
        self.script().reach = Reach::Refuses;
    }

    /// Does not answer connections from now on.
    pub fn vanish(&self) {
        self.script().reach = Reach::Nowhere;
    }

    pub fn come_up(&self) {
        self.script().reach = Reach::Listens;
    }
}

/// What it has seen.
impl Server {
    pub fn received(&self) -> Vec<Received> {
        self.script().received.clone()
    }

    /// Every command line, over all sessions.
    pub fn commands(&self) -> Vec<String> {
        self.script().commands.clone()
    }

    /// How many sessions were begun.
    pub fn sessions(&self) -> usize {
        self.script().sessions
    }

    /// How many of them found too many others.
    pub fn turned_away(&self) -> usize {
        self.script().turned_away
    }

    pub(super) fn reach(&self) -> Reach {
        self.script().reach
    }

    pub(super) fn script(&self) -> MutexGuard<'_, Script> {
        // A test that panicked while it held the lock has failed already.
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn offers(&self, extension: &str) -> bool {
        self.script().extensions.iter().any(|offered| keyword(offered) == extension)
    }

    /// What the test wants to happen there.
    pub(super) fn wish(&self, at: At) -> Option<Do> {
        let mut script = self.script();
        let once = script.once.get_mut(&at).and_then(VecDeque::pop_front);
        once.or_else(|| script.always.get(&at).cloned())
    }

    /// One session, to its end.
    pub(super) async fn serve(self, mut stream: DuplexStream) {
        let has_room = {
            let mut script = self.script();
            let has_room = script.open < script.sessions_max;
            script.sessions += 1;
            script.open += 1;
            script.turned_away += usize::from(!has_room);
            has_room
        };
        // An error is a client that has gone, or the way to close.
        let _ = match has_room {
            true => Session::new(self.clone(), stream).run().await,
            false => stream.write_all(TOO_MANY).await,
        };
        self.script().open -= 1;
    }
}

impl Default for Server {
    fn default() -> Server {
        Server::new()
    }
}

const TOO_MANY: &[u8] =
    b"421 4.3.2 The maximum number of concurrent connections has exceeded a limit, closing transmission channel\r\n";

/// An extension without its parameters.
fn keyword(extension: &str) -> &str {
    extension.split(' ').next().unwrap_or_default()
}
