//! Stocktaking: what is in the spool, counted from the records themselves while mail flows.
//!
//! A page of messages at a time, with no lock held while it reads. A message that changes between being read and being
//! counted is read again; one that changes after it was counted is counted on by the commit thread. So the result is exact at
//! the moment at which it ends, whatever happened meanwhile.

use super::ledger::{Ledger, imbalance};
use super::spool::Spool;
use super::{StoreError, lock};

/// Messages read at a time.
const PAGE: usize = 256;

/// Takes stock and compares; what is different, in words.
pub fn check(spool: &Spool) -> Result<Vec<String>, StoreError> {
    let _turn = lock(&spool.stocktaking);
    take(spool)?;
    let mut table = lock(&spool.table);
    let mut different = table.ledger.end_recount();
    different.extend(table.ledger.accounts().iter().filter_map(imbalance));
    Ok(different)
}

/// The ledger of a spool that has none begins with what is there.
pub fn adopt(spool: &Spool) -> Result<(), StoreError> {
    let _turn = lock(&spool.stocktaking);
    take(spool)?;
    let mut table = lock(&spool.table);
    table.ledger.end_recount();
    table.ledger.adopt();
    table.ledger.forget_stock();
    Ok(())
}

fn take(spool: &Spool) -> Result<(), StoreError> {
    with_ledger(spool, Ledger::begin_recount);
    let mut after = None;
    loop {
        let mut page: Vec<_> = {
            let mut table = lock(&spool.table);
            let page: Vec<_> = table.range(after, PAGE).into_iter().map(|(id, _)| id).collect();
            table.ledger.recount_page(&page);
            page
        };
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(*last);
        while !page.is_empty() {
            let read: Vec<_> = page.iter().map(|id| (*id, spool.read_entry(*id))).collect();
            page.clear();
            for (id, entry) in read {
                let entry = match entry {
                    // What cannot be read is missing from the count, as it is from the mail.
                    Err(StoreError::NotFound | StoreError::Damaged(_)) => None,
                    entry => Some(entry?),
                };
                if !with_ledger(spool, |ledger| ledger.recounted(id, entry.as_ref())) {
                    page.push(id);
                }
            }
        }
    }
}

fn with_ledger<T>(spool: &Spool, each: impl FnOnce(&mut Ledger) -> T) -> T {
    each(&mut lock(&spool.table).ledger)
}
