//! `feedgate quarantine …`: what is kept back for somebody to look at.

use clap::Subcommand;

use super::select::{ListWhich, Which};
use super::{Context, Failure, message, queue};
use crate::admin::answers::MessageList;
use crate::mail::QueueId;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Messages in quarantine, oldest first
    List(ListWhich),
    /// Everything about one message
    Show { id: QueueId },
    /// Deliver after all, with headers but without a tag; never what is infected. Learned as ham for the recipients' domains
    Release {
        #[command(flatten)]
        which: Which,
        /// It says nothing about mail like it
        #[arg(long)]
        no_learn: bool,
    },
    /// Delete without telling the sender
    Delete {
        #[command(flatten)]
        which: Which,
        /// Learn it as spam for the recipients' domains
        #[arg(long)]
        spam: bool,
    },
}

pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::List(which) => {
            let query = which.query()?;
            if query.state.as_deref().is_some_and(|state| state != "quarantined") {
                return Err(Failure::Usage("quarantine list shows what is quarantined; other states: queue list".to_owned()));
            }
            let list: MessageList = context.client()?.get(&queue::target("/v1/quarantine", &query)).await?;
            let empty = "Nothing is in quarantine.";
            context.show(&list, |list| message::list_text(list, context.now(), context.width, empty))
        }
        Command::Show { id } => queue::show(context, id).await,
        Command::Release { which, no_learn } => {
            let learn = if no_learn { "" } else { "&learn=ham" };
            queue::steer_with(context, "/v1/quarantine/release", which, learn, "released").await
        }
        Command::Delete { which, spam } => {
            let learn = if spam { "&learn=spam" } else { "" };
            queue::steer_with(context, "/v1/quarantine/delete", which, learn, "deleted").await
        }
    }
}
