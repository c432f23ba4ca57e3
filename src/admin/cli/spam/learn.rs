//! `feedgate spam learn`: learning from messages that somebody called spam or ham, and forgetting them.
//!
//! Messages are read here, and only their digests and hashed tokens are handed to the running gateway. Without one they go into
//! `data_dir` directly, under the lock that keeps two from doing so at a time.

mod sources;

use std::io::{self, IsTerminal};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::mpsc;

use super::super::{Context, Failure};
use crate::admin::api::{ForgetOrder, LearnLine, LearnOrder, LearnQueued};
use crate::admin::client::{Client, ClientError};
use crate::admin::lessons::{LessonReport, Take, tags};
use crate::admin::output::{counted, printable};
use crate::config::Config;
use crate::flow::LessonStats;
use crate::mail::{Domain, QueueId};
use crate::spam::{Digest, Example, Label, Lesson};
use crate::store::{Lessons, RealDisk};
use sources::{Source, read, sources};

/// Messages handed over at a time, and tokens in them.
const BATCH_MESSAGES: usize = 500;
const BATCH_TOKENS: usize = 400_000;
/// Messages that were read and wait to be handed over.
const WAITING_MAX: usize = 100;
const DAY_MILLIS: u64 = 86_400_000;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    what: What,
    /// For this domain's mail only; else for all mail
    #[arg(long)]
    domain: Option<Domain>,
    /// Take the messages attached to them, not themselves: for reports that users forward
    #[arg(long)]
    attached: bool,
    /// Say what would be learned, and learn nothing
    #[arg(long)]
    dry_run: bool,
    /// Messages (.eml), directories of them, Maildirs, mailboxes (mbox), queue ids; - reads standard input
    #[arg(required = true, value_name = "PATH|ID")]
    paths: Vec<PathBuf>,
}

/// Exactly one.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct What {
    /// They are spam
    #[arg(long)]
    spam: bool,
    /// They are wanted
    #[arg(long)]
    ham: bool,
    /// Forget them, as if they had never been learned
    #[arg(long)]
    forget: bool,
}

/// What the command is about.
struct Order {
    /// `None`: forget.
    label: Option<Label>,
    domain: Option<Domain>,
    take: Take,
    dry_run: bool,
    tags: Vec<String>,
}

pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { what: What { spam, forget, .. }, domain, attached, dry_run, paths } = arguments;
    let config = Config::load(&context.config)?;
    if let Some(domain) = domain.as_ref().filter(|domain| !forget && config.domain(domain).is_none()) {
        return Err(Failure::CouldNot(format!("{domain} is not served here")));
    }
    let label = if spam { Label::Spam } else { Label::Ham };
    let take = if attached { Take::Attached } else { Take::Itself };
    let order = Order { label: (!forget).then_some(label), domain, take, dry_run, tags: tags(&config) };
    // What looks like an id and is no file.
    let (ids, paths): (Vec<PathBuf>, Vec<PathBuf>) =
        paths.into_iter().partition(|path| queue_id(path).is_some() && !path.exists());
    let mut report = LessonReport { dry_run, ..LessonReport::default() };
    if !ids.is_empty() {
        let client = context.client()?;
        for id in ids.iter().filter_map(|path| queue_id(path)) {
            report.add(&learn_queued(&client, id, &order).await?);
        }
    }
    if !paths.is_empty() {
        let mut desk = Desk::find(context, &config.data_dir).await?;
        learn_files(context, &paths, &order, &mut desk, &mut report).await?;
    }
    context.show(&report, |report| text(report, order.label))?;
    // Nothing at all could be read: a script should notice.
    let taken = report.taught.learned + report.taught.known + report.forgotten + report.unknown;
    if taken == 0 && report.unreadable > 0 { Err(Failure::CouldNot(String::new())) } else { Ok(()) }
}

fn queue_id(path: &Path) -> Option<QueueId> {
    path.to_str()?.parse().ok()
}

async fn learn_queued(client: &Client, id: QueueId, order: &Order) -> Result<LessonReport, Failure> {
    let attached = order.take == Take::Attached;
    let order = LearnQueued { id, label: order.label, domain: order.domain.clone(), attached, dry_run: order.dry_run };
    Ok(client.post("/v1/lessons/queued", &order).await?)
}

/// Reads everything and hands it over in batches. Reading, which is most of the work, has a thread of its own.
async fn learn_files(
    context: &Context,
    paths: &[PathBuf],
    order: &Order,
    desk: &mut Desk,
    report: &mut LessonReport,
) -> Result<(), Failure> {
    let (files, failed) = sources(paths);
    failed.iter().for_each(|(which, why)| report.add_unreadable(which, why));
    let bar = progress(context, &files);
    let (found, mut waiting) = mpsc::channel(WAITING_MAX);
    let (take, tags) = (order.take, order.tags.clone());
    let reading = tokio::task::spawn_blocking(move || read_all(&files, take, &tags, &found));
    let (mut batch, mut tokens) = (Vec::new(), 0);
    while let Some(Found { name, lesson, at }) = waiting.recv().await {
        bar.set_position(at);
        match lesson {
            Ok(lesson) => {
                tokens += lesson.tokens.hashes().len();
                batch.push(lesson);
            }
            Err(why) => report.add_unreadable(&name, &why),
        }
        if batch.len() >= BATCH_MESSAGES || tokens >= BATCH_TOKENS {
            tokens = 0;
            report.add(&desk.take(std::mem::take(&mut batch), order, context).await?);
        }
    }
    reading.await.map_err(|broken| Failure::CouldNot(format!("reading broke off: {broken}")))?;
    if !batch.is_empty() {
        report.add(&desk.take(batch, order, context).await?);
    }
    bar.finish_and_clear();
    Ok(())
}

/// One message that was read, or could not be.
struct Found {
    name: String,
    lesson: Result<Lesson, String>,
    /// So many bytes were read up to here.
    at: u64,
}

fn read_all(files: &[Source], take: Take, tags: &[String], found: &mpsc::Sender<Found>) {
    // Nobody waits any more: the command has failed.
    let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    let mut before = 0;
    for source in files {
        let done = read(source, |name, content, at| {
            let lessons = content.map_or_else(|why| vec![Err(why)], |content| take.lessons(&content, tags));
            let mut each = lessons.into_iter().map(|lesson| Found { name: name.to_owned(), lesson, at: before + at });
            each.try_for_each(|each| found.blocking_send(each).map_err(gone))
        });
        before += source.size;
        if let Err(error) = done {
            let unread = Found { name: source.path.display().to_string(), lesson: Err(error.to_string()), at: before };
            if found.blocking_send(unread).is_err() {
                return;
            }
        }
    }
}

/// On standard error, and only for somebody who looks.
fn progress(context: &Context, files: &[Source]) -> ProgressBar {
    if context.json || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes}, {eta} left").unwrap_or(ProgressStyle::default_bar());
    ProgressBar::new(files.iter().map(|source| source.size).sum()).with_style(style)
}

/// Who takes lessons.
enum Desk {
    /// The running gateway.
    Gateway(Client),
    /// Nobody runs: the files themselves.
    Files(Box<Lessons>),
}

impl Desk {
    async fn find(context: &Context, data_dir: &Path) -> Result<Desk, Failure> {
        let client = context.client()?;
        match client.get::<LessonStats>("/v1/lessons").await {
            Err(ClientError::NotRunning { .. }) => Desk::open(context, data_dir),
            // One that runs and cannot learn says why.
            answer => answer.map(|_| Desk::Gateway(client)).map_err(Failure::from),
        }
    }

    fn open(context: &Context, data_dir: &Path) -> Result<Desk, Failure> {
        let failed = |why: String| Failure::CouldNot(format!("{}: {why}", data_dir.display()));
        let metadata = std::fs::metadata(data_dir).map_err(|error| failed(error.to_string()))?;
        // Files of another user's, which the gateway could not open afterwards, would be the end of its learning.
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(failed("feedgate is not running; run this as the user that it runs as, or start it first".to_owned()));
        }
        let (lessons, recovery) =
            Lessons::open(data_dir, Arc::new(RealDisk)).map_err(|error| Failure::CouldNot(error.to_string()))?;
        recovery.damaged.iter().for_each(|damaged| context.note(damaged));
        context.note("feedgate is not running: what is learned counts from its next start on");
        Ok(Desk::Files(Box::new(lessons)))
    }

    async fn take(&mut self, batch: Vec<Lesson>, order: &Order, context: &Context) -> Result<LessonReport, Failure> {
        let Order { label, domain, dry_run, .. } = order;
        let (domain, dry_run) = (domain.clone(), *dry_run);
        let digests: Vec<Digest> = batch.iter().map(|lesson| lesson.digest).collect();
        match (self, label) {
            (Desk::Gateway(client), Some(label)) => {
                let messages = batch.into_iter().map(LearnLine::from).collect();
                let order = LearnOrder { label: *label, domain, dry_run, messages };
                Ok(client.post("/v1/lessons/learn", &order).await?)
            }
            (Desk::Gateway(client), None) => {
                let order = ForgetOrder { domain, dry_run, digests };
                Ok(client.post("/v1/lessons/forget", &order).await?)
            }
            (Desk::Files(lessons), label) => {
                let day = u32::try_from(context.now().0 / DAY_MILLIS).unwrap_or(u32::MAX);
                directly(lessons, batch, *label, domain, day, dry_run).map_err(|error| Failure::CouldNot(error.to_string()))
            }
        }
    }
}

fn directly(
    lessons: &mut Lessons,
    batch: Vec<Lesson>,
    label: Option<Label>,
    scope: Option<Domain>,
    day: u32,
    dry_run: bool,
) -> Result<LessonReport, crate::store::StoreError> {
    let mut report = LessonReport { dry_run, ..LessonReport::default() };
    let Some(label) = label else {
        let digests: Vec<Digest> = batch.iter().map(|lesson| lesson.digest).collect();
        let known = digests.iter().filter(|digest| lessons.knows(scope.as_ref(), **digest).is_some()).count();
        report.forgotten = if dry_run { known } else { lessons.forget(scope.as_ref(), &digests)? };
        report.unknown = digests.len() - report.forgotten;
        return Ok(report);
    };
    let example = |Lesson { digest, tokens }| Example { digest, label, scope: scope.clone(), day, tokens };
    let examples: Vec<Example> = batch.into_iter().map(example).collect();
    report.taught = if dry_run { lessons.would_learn(&examples) } else { lessons.learn(&examples)? };
    Ok(report)
}

/// `learned 120 as spam (3 known already, 1 was ham before), 0 unreadable`
fn text(report: &LessonReport, label: Option<Label>) -> String {
    let would = if report.dry_run { "would have " } else { "" };
    let mut text = match label {
        Some(label) => {
            let taught = report.taught;
            let (before, were) = (label.opposite().as_str(), if taught.changed == 1 { "was" } else { "were" });
            format!(
                "{would}learned {} as {} ({} known already, {} {were} {before} before), {} unreadable\n",
                taught.learned,
                label.as_str(),
                taught.known,
                taught.changed,
                report.unreadable
            )
        }
        None => format!(
            "{would}forgotten {} ({} never learned), {} unreadable\n",
            report.forgotten, report.unknown, report.unreadable
        ),
    };
    for reason in &report.reasons {
        text += &format!("  {}\n", printable(reason));
    }
    let unnamed = report.unreadable.saturating_sub(report.reasons.len());
    if unnamed > 0 {
        text += &format!("  and {}\n", counted(unnamed as u64, "more unreadable one"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Taught;

    #[test]
    fn what_became_of_messages_is_said_in_a_line() {
        let taught = Taught { learned: 120, changed: 1, known: 3 };
        let mut report = LessonReport { taught, ..LessonReport::default() };
        assert_eq!(text(&report, Some(Label::Spam)), "learned 120 as spam (3 known already, 1 was ham before), 0 unreadable\n");
        report.add_unreadable("a.jpg", "it has no header fields: not a message");
        report.dry_run = true;
        assert_eq!(
            text(&report, Some(Label::Ham)),
            "would have learned 120 as ham (3 known already, 1 was spam before), 1 unreadable\n  \
             a.jpg: it has no header fields: not a message\n"
        );
        let report = LessonReport { forgotten: 2, unknown: 1, ..LessonReport::default() };
        assert_eq!(text(&report, None), "forgotten 2 (1 never learned), 0 unreadable\n");
    }
}
