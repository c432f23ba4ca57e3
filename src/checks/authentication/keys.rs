//! What DNS said, in the form in which mail-auth looks for it: caches that hold every answer, also "there is no such record"
//! and "no answer". mail-auth never gets to ask: what is not in the cache counts as not answered.

use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::future::Future;
use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::ResolverConfig;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::ResponseCode;
use mail_auth::common::parse::TxtRecordParser;
use mail_auth::common::verify::DomainKey;
use mail_auth::dmarc::Dmarc;
use mail_auth::{Error, MessageAuthenticator, ResolverCache, Txt};
use tokio::task::JoinSet;

use super::questions::Questions;
use crate::outside::DnsError;

/// mail-auth with a resolver that knows no server. Cloning shares it.
#[derive(Clone)]
pub(super) struct Verifier(Arc<MessageAuthenticator>);

impl Verifier {
    pub(super) fn new() -> Verifier {
        let nobody = ResolverConfig::from_name_servers(Vec::new());
        let resolver = TokioResolver::builder_with_config(nobody, TokioRuntimeProvider::default()).build();
        Verifier(Arc::new(MessageAuthenticator(resolver.expect("a resolver without servers needs nothing from outside"))))
    }

    pub(super) fn library(&self) -> &MessageAuthenticator {
        &self.0
    }
}

/// The result of a question to mail-auth that needs nothing but its caches: it is there at the first look. `None` would mean
/// that it went out to ask after all.
pub(super) fn at_once<T>(answer: impl Future<Output = T>) -> Option<T> {
    match pin!(answer).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// The texts of all names that a message makes us ask for.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// By name, with its final dot.
    texts: HashMap<String, Result<Vec<Vec<u8>>, DnsError>>,
    /// Authors' domains that do not exist.
    absent: HashSet<String>,
}

impl Answers {
    /// Asks for all at once.
    pub(super) async fn ask(questions: &Questions, names: BTreeSet<String>) -> Answers {
        let mut asking = JoinSet::new();
        for name in names {
            let questions = questions.clone();
            asking.spawn(async move {
                let answer = questions.texts(&name).await;
                (name, answer)
            });
        }
        let mut answers = Answers::default();
        while let Some(asked) = asking.join_next().await {
            // One that did not come to its end was not answered.
            answers.texts.extend(asked.ok());
        }
        answers
    }

    /// Where only the organisation has a policy, and one of its own for names that do not exist (`np=`, RFC 9989 §4.7): whether
    /// the author's does.
    pub(super) async fn ask_existence(&mut self, questions: &Questions, author: &str) {
        let is_told_apart = |text: &Vec<u8>| memchr::memmem::find(text, b"np").is_some();
        let own = self.texts.get(&policy_name(author)).is_some_and(Result::is_ok);
        let above = self.texts.iter().filter(|(name, _)| name.starts_with(POLICY)).filter_map(|(_, answer)| answer.as_ref().ok());
        if !own && above.flatten().any(is_told_apart) && questions.is_absent(author).await {
            self.absent.insert(author.to_owned());
        }
    }

    /// For DKIM and ARC.
    pub(super) fn keys(&self) -> Cache {
        let key = |texts: &Vec<Vec<u8>>| {
            let mut parsed = texts.iter().map(|text| DomainKey::parse(text));
            parsed.by_ref().find_map(Result::ok).ok_or(Error::ParseError)
        };
        self.cache(|name| !name.starts_with(POLICY), key)
    }

    /// For DMARC, for one author. RFC 9989 §4.10: of several records at one name, none counts.
    pub(super) fn policies(&self, author: &str) -> Cache {
        let is_absent = self.absent.contains(author);
        let policy = |texts: &Vec<Vec<u8>>| {
            let is_policy = |parsed: &mail_auth::Result<Dmarc>| *parsed != Err(not_of_this_kind());
            let mut parsed = texts.iter().map(|text| Dmarc::parse(text)).filter(is_policy);
            match (parsed.next(), parsed.next()) {
                // mail-auth cannot see that the author's domain does not exist, and takes the policy for those that do.
                (Some(record), None) if is_absent => record.map(|record| Dmarc { sp: record.np, ..record }),
                (Some(record), None) => record,
                _ => Err(not_found()),
            }
        };
        self.cache(|name| name.starts_with(POLICY), policy)
    }

    fn cache<T>(&self, wanted: impl Fn(&str) -> bool, read: impl Fn(&Vec<Vec<u8>>) -> mail_auth::Result<T>) -> Cache
    where
        Txt: From<mail_auth::Result<T>>,
    {
        let entry = |(name, answer): (&String, &Result<Vec<Vec<u8>>, DnsError>)| {
            let read = match answer {
                Ok(texts) => read(texts).into(),
                Err(DnsError::NotFound) => Txt::Error(not_found()),
                Err(DnsError::Temporary(_)) => Txt::Error(not_answered()),
            };
            (name.clone().into_boxed_str(), read)
        };
        Cache(self.texts.iter().filter(|(name, _)| wanted(name)).map(entry).collect())
    }
}

const POLICY: &str = "_dmarc.";

/// Where the policy of a domain stands.
pub(super) fn policy_name(domain: &str) -> String {
    format!("{POLICY}{domain}.")
}

fn not_found() -> Error {
    Error::Dns(mail_auth::DnsError::RecordNotFound(ResponseCode::NXDomain))
}

fn not_answered() -> Error {
    Error::Dns(mail_auth::DnsError::Resolver(String::new()))
}

fn not_of_this_kind() -> Error {
    Error::Dns(mail_auth::DnsError::InvalidRecordType)
}

/// Has an answer for every name.
pub(super) struct Cache(HashMap<Box<str>, Txt>);

impl ResolverCache<Box<str>, Txt> for Cache {
    fn get<Q>(&self, name: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        Some(self.0.get(name).cloned().unwrap_or_else(|| Txt::Error(not_answered())))
    }

    fn remove<Q>(&self, _: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, _: Box<str>, _: Txt, _: Instant) {}
}
