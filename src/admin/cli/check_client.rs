//! `feedgate check-client`: the whole reasoning about a client, asked of the running gateway.

use std::net::IpAddr;

use clap::Args;

use super::{Context, Failure};
use crate::admin::client::encoded;
use crate::admin::output::Grid;
use crate::admin::seen::Seen;
use crate::mail::{Address, ReversePath};

#[derive(Debug, Args)]
pub struct Arguments {
    /// The client's address
    #[arg(value_name = "IP")]
    client: IpAddr,
    /// What it calls itself in EHLO
    #[arg(long, value_name = "NAME")]
    helo: Option<String>,
    /// The sender's address; "" is the null sender
    #[arg(long, value_name = "ADDRESS")]
    from: Option<ReversePath>,
    /// Whom it writes to: the settings of that domain count
    #[arg(long, value_name = "ADDRESS")]
    to: Option<Address>,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { client, helo, from, to } = arguments;
    let mut target = format!("/v1/check-client?client={}", encoded(&client.to_string()));
    let more = [("helo", helo.clone()), ("from", from.as_ref().map(path)), ("to", to.as_ref().map(ToString::to_string))];
    for (key, value) in more {
        if let Some(value) = value {
            target.push_str(&format!("&{key}={}", encoded(&value)));
        }
    }
    let seen: Seen = context.client()?.get(&target).await?;
    context.show(&seen, |seen| text(seen, context.width))
}

fn path(from: &ReversePath) -> String {
    from.address().map(ToString::to_string).unwrap_or_default()
}

fn text(seen: &Seen, width: Option<usize>) -> String {
    let mut grid = Grid::new(&["QUESTION", "SEEN", "RESULT", "MEANING"], &["QUESTION", "SEEN", "MEANING"]);
    for row in &seen.rows {
        grid.row([&row.question, &row.seen, &row.result, &row.meaning]);
    }
    format!("{}\nwould be answered: {}\n", grid.render(width, 0), crate::admin::output::printable(&seen.answer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::seen::Row;

    #[test]
    fn the_reasoning_reads_as_a_table_and_nothing_in_it_steers_the_terminal() {
        let row = |question: &str, seen: &str, result: &str, meaning: &str| Row {
            question: question.to_owned(),
            seen: seen.to_owned(),
            result: result.to_owned(),
            meaning: meaning.to_owned(),
        };
        let rows = vec![
            row("reverse name (PTR)", "none", "bad", "550 5.7.1 Client host rejected"),
            row("SPF record of sender.example", "v=spf1 \u{1b}[2J", "ok", ""),
        ];
        let seen = Seen { rows, answer: "550 5.7.1 Client host rejected".to_owned() };
        let expected = "\
QUESTION                      SEEN              RESULT  MEANING
reverse name (PTR)            none              bad     550 5.7.1 Client host rejected
SPF record of sender.example  v=spf1 \\u{1b}[2J  ok

would be answered: 550 5.7.1 Client host rejected
";
        assert_eq!(text(&seen, None), expected);
    }
}
