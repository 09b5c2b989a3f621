//! Table mods: what a miss leads to, eviction and vacancy events.

use flow::id::TableId;
use openflow::error::OfError;
use openflow::msg::table::{TableDesc, TableMiss, TableMod, TableReason, Vacancy};

use super::book::Book;
use super::evict::Wanted;
use super::switch::Ofproto;
use super::table::ALL_TABLES;

/// How flows are evicted: by what else is configured, importance and time to live (`OFPTMPEF14_*`).
const EVICTION_FLAGS: u32 = 1 | 2 | 4;

impl Ofproto {
    /// Carries a table mod out.
    ///
    /// # Errors
    ///
    /// What OpenFlow calls the reason that it cannot be done.
    pub fn table_mod(&mut self, request: &TableMod) -> Result<(), OfError> {
        if request.eviction_flags.is_some_and(|flags| flags != EVICTION_FLAGS) {
            return Err(OfError::TmfcBadConfig);
        }
        if request.table_id == ALL_TABLES {
            for table in self.visible_tables().collect::<Vec<_>>() {
                self.change_table(table, request);
            }
        } else if self.book(request.table_id).is_readonly() {
            return Err(OfError::TmfcEperm);
        } else {
            self.change_table(request.table_id, request);
        }
        Ok(())
    }

    fn change_table(&mut self, id: TableId, request: &TableMod) {
        if let Some(table) = self.tables().table(id).filter(|_| request.miss != TableMiss::Default) {
            table.set_miss(request.miss);
            self.tables().note_change();
        }
        if let Some(by_openflow) = request.eviction {
            let rules = self.rules(id);
            let eviction = &mut self.book_mut(id).eviction;
            let fields = eviction.fields().to_vec();
            eviction.configure(Wanted { by_openflow, ..eviction.wanted }, &fields, &rules);
        }
        if let Some(events) = request.vacancy {
            let book = self.book_mut(id);
            (book.vacancy_events.down, book.vacancy_events.up) =
                (request.thresholds.down, request.thresholds.up);
            book.vacancy_events.next = match book.vacancy_events.next {
                _ if !events => None,
                None if book.vacancy() < request.thresholds.up => Some(TableReason::VacancyUp),
                None => Some(TableReason::VacancyDown),
                some => some,
            };
        }
    }

    /// A table's description.
    pub fn table_desc(&self, id: TableId) -> TableDesc {
        let book: &Book = self.book(id);
        TableDesc {
            table_id: id,
            eviction: Some(book.eviction.wanted.by_openflow),
            eviction_flags: Some(EVICTION_FLAGS),
            vacancy: Some(book.vacancy_events.next.is_some()),
            thresholds: Vacancy {
                down: book.vacancy_events.down,
                up: book.vacancy_events.up,
                now: book.vacancy(),
            },
        }
    }
}
