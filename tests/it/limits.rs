//! Limits, bans and the PROXY protocol, in the whole gateway and by its commands; and thousands of clients at a time.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::gateway::{Gateway, PATIENCE, UNCHECKED, UNLIMITED, domain as section, wait_for};
use crate::world::{Peer, World, domain};

const SECOND: Duration = Duration::from_secs(1);
/// Between two looks.
const MOMENT: Duration = Duration::from_millis(2);

/// Limits with this one changed.
fn limits(key: &str, rate: &str) -> String {
    let before = format!("{key} = \"10000000/1m\"");
    assert!(UNLIMITED.contains(&before));
    UNLIMITED.replace(&before, &format!("{key} = \"{rate}\""))
}

fn waiting(time: &str) -> String {
    UNCHECKED.replace("early_talker_wait = \"0s\"", &format!("early_talker_wait = \"{time}\""))
}

/// The next reply, while simulated time passes.
async fn in_time(world: &World, peer: &mut Peer) -> String {
    loop {
        tokio::select! {
            reply = peer.reply() => return reply,
            () = tokio::time::sleep(MOMENT) => world.pass(SECOND),
        }
    }
}

#[tokio::test]
async fn who_sent_good_mail_need_not_wait_for_the_banner_any_more() {
    let mut world = World::new(&(waiting("2s") + &domain("up.test", &["203.0.113.5"], ""))).await;
    let start = world.now();
    let mut peer = world.session("192.0.2.1", None);
    assert!(in_time(&world, &mut peer).await.starts_with("220 "));
    assert!(world.now().since(start) >= 2 * SECOND);
    assert!(peer.say("EHLO out.sender.example").await.starts_with("250"));
    assert!(peer.send("joe@sender.example", &["jane@up.test"], "Subject: x\r\n\r\nx\r\n").await.starts_with("250 "));
    for restarted in [false, true] {
        if restarted {
            world.restart().await;
        }
        assert!(world.session("192.0.2.1", None).reply().await.starts_with("220 "), "at once; the clock stands still");
    }
    assert!(world.flow().checks.limiter.knows([192, 0, 2, 1].into(), world.now()));
    assert!(!world.flow().checks.limiter.knows([192, 0, 2, 2].into(), world.now()));
}

#[tokio::test]
async fn a_ban_ends_the_clients_other_sessions_and_outlives_a_restart() {
    let settings = format!("[limits]\n{}", limits("errors_per_client", "2/1m")) + &domain("up.test", &["203.0.113.5"], "");
    let mut world = World::new(&settings).await;
    let (mut quiet, mut loud) = (world.client_at("192.0.2.1").await, world.client_at("192.0.2.1").await);
    let mut other = world.client_at("192.0.2.2").await;
    for reply in ["500 ", "500 ", "421 4.7.0 Your address is blocked"] {
        assert!(loud.say("XYZZY").await.starts_with(reply));
    }
    assert_eq!(loud.reply().await, "");
    assert!(quiet.say("MAIL FROM:<x@bot.example>").await.starts_with("421 4.7.0 Your address is blocked"));
    assert_eq!(quiet.reply().await, "");
    assert!(other.say("MAIL FROM:<joe@sender.example>").await.starts_with("250 "));
    world.restart().await;
    assert!(world.session("192.0.2.1", None).reply().await.starts_with("421 4.7.0 Your address is blocked"));
    world.flow().checks.limiter.lift(None).await;
    assert!(world.session("192.0.2.1", None).reply().await.starts_with("220 "));
}

#[tokio::test]
async fn the_tarpit_slows_nobody_else() {
    let settings = format!("[limits]\n{}", limits("errors_per_client", "4/1m")) + &domain("up.test", &["203.0.113.5"], "");
    let world = World::new(&settings).await;
    let mut guesser = world.client_at("192.0.2.1").await;
    assert!(guesser.say("MAIL FROM:<x@bot.example>").await.starts_with("250 "));
    assert!(guesser.say("RCPT TO:<a@elsewhere.test>").await.starts_with("553 "));
    // The second answer takes its time; meanwhile others are served, and a recipient that exists is answered at once.
    let start = world.now();
    let told = async {
        assert!(guesser.say("RCPT TO:<b@elsewhere.test>").await.starts_with("553 "));
        world.now().since(start)
    };
    let others = async {
        for client in ["192.0.2.2", "192.0.2.3"] {
            let mut peer = world.client_at(client).await;
            assert!(peer.send("joe@sender.example", &["jane@up.test"], "Subject: x\r\n\r\nx\r\n").await.starts_with("250 "));
        }
        assert_eq!(world.now(), start);
        for _ in 0..5 {
            tokio::time::sleep(10 * MOMENT).await;
            world.pass(SECOND);
        }
    };
    let (waited, ()) = tokio::join!(told, others);
    assert!(waited >= 5 * SECOND, "{waited:?}");
    assert!(guesser.say("RCPT TO:<jane@up.test>").await.starts_with("250 "));
}

/// A client of the binary, from any loopback address.
struct Talk {
    stream: BufReader<TcpStream>,
}

impl Talk {
    #[track_caller]
    fn from(source: [u8; 4], gateway: &Gateway) -> Talk {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((source, 0)).into()).expect("all of 127.0.0.0/8 is ours");
        socket.connect(&gateway.smtp.into()).expect("it listens");
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        Talk { stream: BufReader::with_capacity(512, stream) }
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.get_mut().write_all(bytes.as_ref());
    }

    /// The last line of the next reply; empty after the end.
    fn reply(&mut self) -> String {
        loop {
            let mut line = String::new();
            let _ = self.stream.read_line(&mut line).unwrap_or_default();
            if line.as_bytes().get(3) != Some(&b'-') {
                return line.trim_end().to_owned();
            }
        }
    }

    #[track_caller]
    fn expect(&mut self, start: &str) -> String {
        let reply = self.reply();
        assert!(reply.starts_with(start), "{reply:?} and not {start}");
        reply
    }
}

impl Talk {
    #[track_caller]
    fn errs_until_it_is_banned(&mut self, errors: usize) {
        for _ in 0..errors {
            self.send("XYZZY\r\n");
            self.expect("500 ");
        }
        self.send("XYZZY\r\n");
        self.expect("421 4.7.0 Your address is blocked");
    }
}

/// A gateway that needs no scanner: nothing is sent to its end.
fn gateway(changes: &[(&str, &str)]) -> Gateway {
    Gateway::start_with(Path::new("/nowhere/clamd.ctl"), changes, &section("up.test", 9, ""))
}

#[test]
fn bans_are_listed_made_and_lifted_by_commands() {
    let gateway = gateway(&[(UNLIMITED, &limits("errors_per_client", "3/1m"))]);
    assert_eq!(gateway.ask(&["ban", "list"]), "Nobody is banned.\n");
    let mut talk = Talk::from([127, 0, 0, 5], &gateway);
    talk.expect("220 ");
    talk.errs_until_it_is_banned(3);
    talk = Talk::from([127, 0, 0, 5], &gateway);
    talk.expect("421 4.7.0 Your address is blocked");
    let bans = gateway.ask_json(&["ban", "list"]);
    assert_eq!((&bans[0]["network"], &bans[0]["times"]), (&"127.0.0.5/32".into(), &1.into()));
    assert_eq!(bans[0]["turned_away"], 1);
    assert!(bans[0]["why"].as_str().is_some_and(|why| why.ends_with("at last: 500 5.5.1 Command not recognized")), "{bans}");
    Talk::from([127, 0, 0, 6], &gateway).expect("220 ");

    gateway.ask(&["ban", "add", "127.9.0.0/16", "--for", "1h", "--reason", "a bad house"]);
    Talk::from([127, 9, 7, 7], &gateway).expect("421 ");
    let listed = gateway.ask(&["ban", "list"]);
    assert!(listed.contains("127.9.0.0/16") && listed.contains("a bad house") && listed.contains("127.0.0.5 "), "{listed}");
    let refused = gateway.command(&["ban", "lift", "127.9.7.7"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("with all of 127.9.0.0/16"));
    assert_eq!(gateway.command(&["ban", "add", "0.0.0.0/0", "--for", "1h"]).status.code(), Some(1));
    assert_eq!(gateway.command(&["ban", "add", "192.0.2.1", "--for", "400d"]).status.code(), Some(1));
    assert_eq!(gateway.ask(&["ban", "lift", "192.0.2.1"]), "Nobody there was banned.\n");
    assert_eq!(gateway.ask(&["ban", "lift", "127.0.0.5"]), "127.0.0.5 is let in again.\n");
    Talk::from([127, 0, 0, 5], &gateway).expect("220 ");
    assert_eq!(gateway.ask(&["ban", "lift", "--all"]), "127.9.0.0/16 is let in again.\n");
    Talk::from([127, 9, 7, 7], &gateway).expect("220 ");
}

#[test]
fn the_client_that_a_balancer_names_counts_for_everything() {
    let proxied = "size_max = \"20MiB\"\nproxy_from = [\"127.0.0.2\"]";
    let limits = limits("errors_per_client", "2/1m");
    let gateway = gateway(&[("size_max = \"20MiB\"", proxied), (UNLIMITED, &limits)]);
    let open = |header: &str| {
        let mut talk = Talk::from([127, 0, 0, 2], &gateway);
        talk.send(header);
        talk
    };
    let mut talk = open("PROXY TCP4 203.0.113.7 198.51.100.1 40000 25\r\n");
    talk.expect("220 ");
    talk.errs_until_it_is_banned(2);
    open("PROXY TCP4 203.0.113.7 198.51.100.1 40001 25\r\n").expect("421 4.7.0 Your address is blocked");
    open("PROXY TCP6 2001:db8::7 2001:db8::1 40000 25\r\n").expect("220 ");
    open("PROXY UNKNOWN\r\n").expect("220 ");
    wait_for("the log to name the client", || gateway.logged("203.0.113.7").into_iter().next());
    assert_eq!(gateway.ask_json(&["ban", "list"])[0]["network"], "203.0.113.7/32");
    // A header is required from there, and from nobody else; nothing is said to who has none.
    assert_eq!(open("EHLO a\r\n").reply(), "");
    assert_eq!(open("PROXY TCP4 203.0.113.8\r\n").reply(), "");
    wait_for("the log to say why", || (gateway.logged("without a valid PROXY header").len() == 2).then_some(()));
    let mut stranger = Talk::from([127, 0, 0, 3], &gateway);
    stranger.expect("220 ");
    stranger.send("PROXY TCP4 203.0.113.9 198.51.100.1 40000 25\r\n");
    stranger.expect("500 ");
}

#[test]
fn who_waits_for_the_banner_does_not_hold_up_the_end() {
    let mut gateway = gateway(&[("early_talker_wait = \"0s\"", "early_talker_wait = \"1m\"")]);
    let mut waiting: Vec<_> = (0..50).map(|_| Talk::from([127, 0, 0, 4], &gateway)).collect();
    wait_for("all to be open", || (gateway.ask_json(&["status"])["sessions"] == 50).then_some(()));
    assert!(gateway.stop(), "a clean end, long before the minute is over");
    waiting.iter_mut().for_each(|talk| drop(talk.expect("421 4.3.2 ")));
}

/// A number of `/proc/PID/status`, in KiB.
fn memory_kib(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.id())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("the kernel tells");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

/// Addresses from which clients come, each in a network of its own.
const CLIENTS: u16 = 1000;
const SESSIONS_EACH: usize = 5;

fn source(number: u16) -> [u8; 4] {
    let [high, low] = number.to_be_bytes();
    [127, 100 + high, low, 7]
}

/// Every address opens its sessions; all that are taken, when each of them has said hello and asked for a recipient.
fn crowd(gateway: &Gateway) -> Vec<Talk> {
    let places = (0..SESSIONS_EACH).flat_map(|_| 0..CLIENTS);
    let mut crowd: Vec<_> = places.map(|number| Talk::from(source(number), gateway)).collect();
    crowd.iter_mut().for_each(|talk| drop(talk.expect("220 ")));
    for (number, talk) in crowd.iter_mut().enumerate() {
        let hello = format!("EHLO client{number}.example\r\nMAIL FROM:<joe@sender{number}.example>\r\n");
        talk.send(hello + "RCPT TO:<jane@up.test>\r\n");
    }
    for talk in &mut crowd {
        talk.expect("250 ");
        talk.expect("250 ");
        // What the checks say to a loopback address without DNS is theirs; that they say it is ours.
        assert!(talk.reply().len() > 4);
    }
    crowd
}

#[test]
fn five_thousand_connections_from_a_thousand_addresses_stay_in_bounds() {
    let mut files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    files.current = files.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, files).expect("many files may be open");
    let checked = UNCHECKED.replace("\"off\"", "\"score\"").replace("\"0s\"", "\"1s\"");
    let each = format!("connections_per_client = {SESSIONS_EACH}");
    let gateway = gateway(&[(UNCHECKED, &checked), (UNLIMITED, ""), ("connections_per_client = 500", &each)]);
    let before = memory_kib(&gateway);
    let first = crowd(&gateway);
    let sessions = u64::from(CLIENTS) * SESSIONS_EACH as u64;
    assert_eq!(gateway.ask_json(&["status"])["sessions"], sessions);
    let with_all = memory_kib(&gateway);
    let each_kib = with_all.saturating_sub(before) / sessions;
    // Each has its questions to DNS under way at the same time, to a server that is not there.
    assert!(each_kib <= 64, "{each_kib} KiB for each session ({before} KiB before, {with_all} KiB with all)");
    for number in [0, CLIENTS / 2, CLIENTS - 1] {
        Talk::from(source(number), &gateway).expect("421 4.7.0 Too many connections from your address");
    }
    drop(first);
    wait_for("all to be gone", || (gateway.ask_json(&["status"])["sessions"] == 0).then_some(()));
    // The same again and again: what is remembered of them does not grow.
    for _ in 0..2 {
        drop(crowd(&gateway));
        wait_for("all to be gone", || (gateway.ask_json(&["status"])["sessions"] == 0).then_some(()));
    }
    let at_last = memory_kib(&gateway);
    assert!(at_last <= with_all + 16 * 1024, "{with_all} KiB with all, {at_last} KiB after three times");
    assert!(
        gateway.logged("panicked").is_empty() && gateway.logged("\"ERROR\"").len() <= 1,
        "{:#?}",
        gateway.logged("\"ERROR\"")
    );
}
