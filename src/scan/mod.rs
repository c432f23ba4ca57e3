//! Virus scanning by clamd: several addresses, proved by canaries, and a reading of the answer that takes only `OK` for clean.
//!
//! | file | what |
//! |---|---|
//! | `reply.rs` | reads an answer: the only place where "clean" can come from |
//! | `clamd.rs` | one clamd at one address: connect, VERSION, INSTREAM, the canaries |
//! | `pool.rs` | all configured clamds as one [`Scanner`](crate::outside::Scanner) |
//!
//! What it is not: a policy. What becomes of infected or unscannable mail is decided in the flow, and when an unscanned
//! message is tried again is the queue's business.
//!
//! On failure: whatever goes wrong (nobody listens, the connection breaks, no answer, a strange answer, no time left) is
//! [`Verdict::Unavailable`](crate::mail::Verdict::Unavailable): nobody looked at the message, and it stays where it is. The address
//! that failed gets no more mail until the canaries have passed there again.

mod clamd;
#[cfg(test)]
mod fake;
mod pool;
mod reply;

pub use pool::Pool;
