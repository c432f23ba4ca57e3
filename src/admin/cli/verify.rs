//! `feedgate queue verify`: the whole spool, read and checked, of a running gateway or a stopped one.

use super::{Context, Failure};
use crate::admin::client::ClientError;
use crate::admin::output::{Grid, counted, printable, size};
use crate::store::{RealDisk, Verification, verify_stopped};

const COLUMNS: [&str; 10] =
    ["DOMAIN", "ACCEPTED", "DELIVERED", "WAITING", "HELD", "QUARANTINED", "BOUNCED", "DELETED", "REJECTED", "MISSING"];

pub async fn run(context: &Context) -> Result<(), Failure> {
    let client = context.client()?;
    let verification: Verification = match client.post("/v1/queue/verify", &()).await {
        Ok(verification) => verification,
        Err(ClientError::NotRunning { .. }) => stopped(context).await?,
        Err(error) => return Err(error.into()),
    };
    context.show(&verification, |verification| text(verification, context.width))?;
    let wrong = verification.wrong.len() as u64 + verification.wrong_more;
    if wrong == 0 { Ok(()) } else { Err(Failure::CouldNot(format!("{} in the spool", counted(wrong, "difference")))) }
}

/// Nobody answers: the directory itself is read. Its lock says whether a gateway that does not answer has it open.
async fn stopped(context: &Context) -> Result<Verification, Failure> {
    let data_dir = context.data_dir()?;
    context.note("the gateway is not running; its directory is read");
    let verified = tokio::task::spawn_blocking(move || verify_stopped(&data_dir, &RealDisk)).await;
    verified.map_err(|error| Failure::CouldNot(error.to_string()))?.map_err(|error| Failure::CouldNot(error.to_string()))
}

fn text(verification: &Verification, width: Option<usize>) -> String {
    let Verification { segments, bytes, records, messages, body_files, index, ledger, wrong, wrong_more, .. } = verification;
    let mut text = String::new();
    let mut add = |name: &str, value: &str| text += &format!("{name:<10} {}\n", printable(value));
    let read = format!("{}, {}, {}", counted(*segments, "segment"), size(*bytes), counted(*records, "record"));
    add("journal", &read);
    add("messages", &format!("{messages}, {body_files} with a content in a file of its own"));
    add("index", index);
    if !ledger.is_empty() {
        let mut grid = Grid::new(&COLUMNS, &["DOMAIN"]);
        for line in ledger {
            let account = line.account;
            let ends = [account.bounced, account.deleted, account.rejected, account.missing()];
            let here = [account.accepted, account.delivered, account.waiting, account.held, account.quarantined];
            let numbers = here.into_iter().chain(ends).map(|number| number.to_string());
            grid.row(std::iter::once(line.domain.clone()).chain(numbers));
        }
        text += &format!("\n{}", grid.render(width, 0));
    }
    if wrong.is_empty() {
        return text + "\nEverything is as it should be.\n";
    }
    text += "\n";
    for what in wrong {
        text += &format!("WRONG: {}\n", printable(what));
    }
    if *wrong_more > 0 {
        text += &format!("and {wrong_more} more\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Account, DomainAccount};

    #[test]
    fn each_domain_has_a_line_and_what_is_wrong_stands_below() {
        let account = Account { accepted: 10, delivered: 7, waiting: 2, ..Account::default() };
        let mut verification = Verification {
            segments: 1,
            bytes: 1 << 20,
            records: 31,
            messages: 2,
            index: "agrees with the journal".to_owned(),
            ledger: vec![DomainAccount { domain: "customer.example".to_owned(), missing: account.missing(), account }],
            ..Verification::default()
        };
        let expected = "\
journal    1 segment, 1.0 MiB, 31 records
messages   2, 0 with a content in a file of its own
index      agrees with the journal

DOMAIN            ACCEPTED  DELIVERED  WAITING  HELD  QUARANTINED  BOUNCED  DELETED  REJECTED  MISSING
customer.example  10        7          2        0     0            0        0        0         1

Everything is as it should be.
";
        assert_eq!(text(&verification, None), expected);
        verification.wrong.push("segment 1, 20 bytes at 64: \u{1b}odd".to_owned());
        assert!(text(&verification, None).contains("WRONG: segment 1, 20 bytes at 64: \\"), "{}", text(&verification, None));
    }
}
