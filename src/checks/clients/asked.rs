//! Questions that take time: each is asked once however many sessions want to know, goes on when nobody waits any more, and
//! its answer is remembered for a while. Bounded; what is forgotten is asked again.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::mail::Timestamp;
use crate::outside::Clock;

/// A question that is not answered for so long is asked again. Resolvers give up much earlier.
const UNDER_WAY_MAX: Duration = Duration::from_secs(60);
/// So long after a question was asked, nobody waits for its answer any more: a session with a hundred recipients does not wait
/// a hundred times.
const WAITED_FOR_MAX: Duration = Duration::from_secs(5);

/// Answers `V` to questions about `K`. Cloning shares them.
pub(in crate::checks) struct Asked<K, V> {
    questions: Arc<Mutex<HashMap<K, Question<V>>>>,
    clock: Arc<dyn Clock>,
    /// How long an answer is used; those that are none only for a moment.
    keep: fn(&V) -> Duration,
    most: usize,
}

struct Question<V> {
    asked_at: Timestamp,
    until: Timestamp,
    answer: watch::Receiver<Option<V>>,
}

impl<K, V> Asked<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Remembers `most` answers.
    pub fn new(clock: Arc<dyn Clock>, most: usize, keep: fn(&V) -> Duration) -> Asked<K, V> {
        Asked { questions: Arc::default(), clock, keep, most }
    }

    /// Starts to ask, without waiting.
    pub fn start<F: Future<Output = V> + Send + 'static>(&self, about: K, ask: impl FnOnce() -> F) {
        self.question(about, ask);
    }

    /// The answer, if it comes within `patience`.
    pub async fn within<F: Future<Output = V> + Send + 'static>(
        &self,
        about: K,
        patience: Duration,
        ask: impl FnOnce() -> F,
    ) -> Option<V> {
        let (asked_at, answer) = self.question(about, ask);
        let known = answer.borrow().clone();
        if known.is_some() {
            return known;
        }
        let over = self.clock.sleep_until((self.clock.now() + patience).min(asked_at + WAITED_FOR_MAX));
        tokio::select! {
            answer = answered(answer) => answer,
            () = over => None,
        }
    }

    /// The answer, however long it takes.
    pub async fn answer<F: Future<Output = V> + Send + 'static>(&self, about: K, ask: impl FnOnce() -> F) -> Option<V> {
        answered(self.question(about, ask).1).await
    }

    /// The next who wants to know asks anew.
    pub fn forget(&self, about: &K) {
        self.lock().remove(about);
    }

    fn question<F: Future<Output = V> + Send + 'static>(
        &self,
        about: K,
        ask: impl FnOnce() -> F,
    ) -> (Timestamp, watch::Receiver<Option<V>>) {
        let now = self.clock.now();
        let mut questions = self.lock();
        if let Some(question) = questions.get(&about).filter(|question| question.until > now) {
            return (question.asked_at, question.answer.clone());
        }
        if questions.len() >= self.most {
            make_room(&mut questions, now, self.most);
        }
        let (sender, answer) = watch::channel(None);
        let question = Question { asked_at: now, until: now + UNDER_WAY_MAX, answer: answer.clone() };
        questions.insert(about.clone(), question);
        drop(questions);
        let (this, asking) = (self.clone(), ask());
        tokio::spawn(async move {
            let answer = asking.await;
            this.keep(&about, now, &answer);
            sender.send_replace(Some(answer));
        });
        (now, answer)
    }

    /// The question may have been forgotten and asked again meanwhile: then that one's time counts.
    fn keep(&self, about: &K, asked_at: Timestamp, answer: &V) {
        let until = self.clock.now() + (self.keep)(answer);
        if let Some(question) = self.lock().get_mut(about).filter(|question| question.asked_at == asked_at) {
            question.until = until;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Question<V>>> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, V> Clone for Asked<K, V> {
    fn clone(&self) -> Asked<K, V> {
        Asked { questions: Arc::clone(&self.questions), clock: Arc::clone(&self.clock), keep: self.keep, most: self.most }
    }
}

/// `None` when the asking task was torn down with its runtime.
async fn answered<V: Clone>(mut answer: watch::Receiver<Option<V>>) -> Option<V> {
    answer.wait_for(Option::is_some).await.ok().and_then(|answer| answer.clone())
}

/// What is over goes first. When that is not half of it, all goes, so that this is not done for every question; whoever waits
/// for an answer gets it all the same.
fn make_room<K: Eq + Hash, V>(questions: &mut HashMap<K, Question<V>>, now: Timestamp, most: usize) {
    questions.retain(|_, question| question.until > now);
    if questions.len() > most / 2 {
        questions.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::sim;

    fn asked(clock: &Arc<sim::Clock>, most: usize) -> Asked<u32, u32> {
        Asked::new(Arc::clone(clock) as Arc<dyn Clock>, most, |_| Duration::from_secs(60))
    }

    #[tokio::test]
    async fn many_want_to_know_and_one_asks() {
        let clock = Arc::new(sim::Clock::new());
        let (asked, count) = (asked(&clock, 10), Arc::new(AtomicUsize::new(0)));
        let ask = || {
            let count = Arc::clone(&count);
            async move { count.fetch_add(1, Ordering::SeqCst) as u32 }
        };
        asked.start(7, ask);
        for _ in 0..100 {
            assert_eq!(asked.within(7, Duration::from_secs(2), ask).await, Some(0));
        }
        assert_eq!(asked.answer(8, ask).await, Some(1), "another question");
        clock.advance(Duration::from_secs(61));
        assert_eq!(asked.answer(7, ask).await, Some(2), "an old answer");
        asked.forget(&7);
        assert_eq!(asked.answer(7, ask).await, Some(3));
    }

    #[tokio::test]
    async fn patience_ends_and_the_question_goes_on() {
        let clock = Arc::new(sim::Clock::new());
        let asked = asked(&clock, 10);
        let (answer, waits) = watch::channel(false);
        let ask = move || async move {
            let mut waits = waits;
            let _ = waits.wait_for(|go| *go).await;
            5
        };
        let impatient = {
            let (asked, ask) = (asked.clone(), ask);
            tokio::spawn(async move { asked.within(1, Duration::from_secs(2), ask).await })
        };
        while clock.sleepers() == 0 {
            tokio::task::yield_now().await;
        }
        clock.advance(Duration::from_secs(2));
        assert_eq!(impatient.await.unwrap(), None);
        clock.advance(Duration::from_secs(4));
        let never = || async { unreachable!("the question is under way") };
        assert_eq!(asked.within(1, Duration::from_secs(2), never).await, None, "nobody waits for ever");
        answer.send_replace(true);
        assert_eq!(asked.answer(1, never).await, Some(5));
    }

    #[tokio::test]
    async fn only_so_many_answers_are_remembered() {
        let clock = Arc::new(sim::Clock::new());
        let asked = asked(&clock, 100);
        for about in 0..1000 {
            assert_eq!(asked.answer(about, || async move { about }).await, Some(about));
            assert!(asked.lock().len() <= 100);
        }
    }
}
