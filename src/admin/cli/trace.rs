//! `feedgate trace ID|ADDRESS`: the mail log of one message, session or address, in the order of time.

use clap::Args;

use super::{Context, Failure};
use crate::admin::client::encoded;
use crate::admin::output::{Grid, moment};
use crate::telemetry::Line;

#[derive(Debug, Args)]
pub struct Arguments {
    /// A queue id, a session id, or a sender's or recipient's address
    #[arg(value_name = "ID|ADDRESS")]
    of: String,
    /// Show so many lines at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<(), Failure> {
    let of = arguments.of.trim().trim_start_matches('<').trim_end_matches('>');
    let target = format!("/v1/trace?of={}&limit={}", encoded(of), arguments.limit);
    let lines: Vec<Line> = context.client()?.get(&target).await?;
    if lines.is_empty() && !context.json {
        let text = format!("nothing is known of {of}: never seen, or longer ago than queue.history keeps");
        return Err(Failure::CouldNot(text));
    }
    context.show(&lines, |lines| text(lines, arguments.limit.into(), context.width))
}

fn text(lines: &[Line], limit: usize, width: Option<usize>) -> String {
    let mut grid = Grid::new(&["TIME", "ID", "WHAT", "TEXT"], &["TEXT"]);
    let mut lines_in_order: Vec<_> = lines.iter().collect();
    lines_in_order.sort_by_key(|line| line.at);
    for line in lines_in_order {
        grid.row([&moment(line.at), &line.id, &line.what, &line_text(line)]);
    }
    let hint = if lines.len() >= limit { "there may be more: --limit shows up to 1000\n" } else { "" };
    format!("{}{hint}", grid.render(width, 0))
}

/// `from=<…> to=<…>,<…> client=192.0.2.7 the rest in words`
fn line_text(line: &Line) -> String {
    let mut parts = Vec::new();
    if let Some(from) = &line.from {
        parts.push(format!("from=<{from}>"));
    }
    if !line.to.is_empty() {
        parts.push(format!("to={}", line.to.iter().map(|to| format!("<{to}>")).collect::<Vec<_>>().join(",")));
    }
    if let Some(client) = line.client {
        parts.push(format!("client={client}"));
    }
    if !line.text.is_empty() {
        parts.push(line.text.clone());
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Timestamp;

    #[test]
    fn a_life_reads_from_top_to_bottom() {
        let line = |at, what: &str, text: &str| Line {
            at: Timestamp(at),
            id: "01hk3c9v7x00.1".to_owned(),
            what: what.to_owned(),
            client: None,
            from: None,
            to: vec!["joe@customer.example".to_owned()],
            text: text.to_owned(),
        };
        let queued = Line {
            client: Some("192.0.2.7".parse().unwrap()),
            from: Some(String::new()),
            ..line(1_795_214_160_000, "queued", "2048 bytes, helo=mail.sender.example")
        };
        let text = text(&[line(1_795_214_161_000, "delivered", "host=203.0.113.5:25: 250 2.6.0 \u{1b}[2JOk"), queued], 100, None);
        let expected = "\
TIME                  ID              WHAT       TEXT
2026-11-20 22:36:00Z  01hk3c9v7x00.1  queued     from=<> to=<joe@customer.example> client=192.0.2.7 2048 bytes, helo=mail.sender.example
2026-11-20 22:36:01Z  01hk3c9v7x00.1  delivered  to=<joe@customer.example> host=203.0.113.5:25: 250 2.6.0 \\u{1b}[2JOk
";
        assert_eq!(text, expected);
    }
}
