//! A table's books: what only the writer knows of it.

use flow::id::TableId;
use openflow::msg::table::TableReason;

use super::evict::Eviction;
use super::table::INTERNAL;

/// Who named a table: the database's word counts more than a controller's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub enum NamedBy {
    #[default]
    Nobody,
    OpenFlow,
    Config,
}

/// The longest name that a table can have.
pub const MAX_TABLE_NAME: usize = 31;

/// Vacancy events: told once when the share of free entries, in percent, falls below `down`, then once when it rises
/// above `up`, and so on.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct VacancyEvents {
    /// The event that comes next, if they are on.
    pub next: Option<TableReason>,
    pub down: u8,
    pub up: u8,
}

/// The writer's side of one table.
pub struct Book {
    pub id: TableId,
    pub name: Option<String>,
    pub named_by: NamedBy,
    /// The most flows it may have.
    pub max_flows: u32,
    /// Flows, not those that wait to be taken out.
    pub n_flows: u32,
    pub eviction: Eviction,
    pub vacancy_events: VacancyEvents,
}

impl Book {
    /// The books of an empty table.
    pub fn new(id: TableId) -> Self {
        Self {
            id,
            name: None,
            named_by: NamedBy::Nobody,
            max_flows: u32::MAX,
            n_flows: 0,
            eviction: Eviction::default(),
            vacancy_events: VacancyEvents::default(),
        }
    }

    /// Whether OpenFlow does not see it.
    pub fn is_hidden(&self) -> bool {
        self.id == INTERNAL
    }

    /// Whether OpenFlow cannot change it.
    pub fn is_readonly(&self) -> bool {
        self.id == INTERNAL
    }

    /// Names the table; an empty name takes the name away, `None` also lets others name it again.
    pub fn set_name(&mut self, name: Option<&str>, by: NamedBy) {
        if by < self.named_by {
            return;
        }
        match name {
            Some(name) => {
                self.name = Some(shortened(name)).filter(|name| !name.is_empty()).map(str::to_owned);
                self.named_by = by;
            }
            None if self.named_by == by => {
                self.name = None;
                self.named_by = NamedBy::Nobody;
            }
            None => {}
        }
    }

    /// Whether `by` can name it so: it need not change the name if somebody above gave it.
    pub fn may_set_name(&self, name: &str, by: NamedBy) -> bool {
        by >= self.named_by || self.name.as_ref().is_none_or(|had| had.starts_with(shortened(name)))
    }

    /// Free entries in percent.
    pub fn vacancy(&self) -> u8 {
        if self.max_flows == 0 {
            return 100;
        }
        let free = self.max_flows.saturating_sub(self.n_flows);
        u8::try_from(u64::from(free) * 100 / u64::from(self.max_flows)).expect("at most 100")
    }

    /// Whether another flow needs room made for it.
    pub fn is_full(&self) -> bool {
        self.n_flows >= self.max_flows
    }

    /// The threshold that was just crossed, if that is to be told.
    pub fn crossed(&mut self) -> Option<TableReason> {
        let VacancyEvents { next, down, up } = self.vacancy_events;
        let vacancy = self.vacancy();
        let event = match () {
            () if vacancy < down => TableReason::VacancyDown,
            () if vacancy > up => TableReason::VacancyUp,
            () => return None,
        };
        if next != Some(event) {
            return None;
        }
        self.vacancy_events.next = Some(match event {
            TableReason::VacancyDown => TableReason::VacancyUp,
            TableReason::VacancyUp => TableReason::VacancyDown,
        });
        Some(event)
    }
}

fn shortened(name: &str) -> &str {
    &name[..name.floor_char_boundary(MAX_TABLE_NAME)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_names_over_openflow() {
        let mut book = Book::new(TableId(0));
        book.set_name(Some("of"), NamedBy::OpenFlow);
        book.set_name(Some("db"), NamedBy::Config);
        book.set_name(Some("of"), NamedBy::OpenFlow);
        assert_eq!(book.name.as_deref(), Some("db"));
        assert!(book.may_set_name("db", NamedBy::OpenFlow) && !book.may_set_name("of", NamedBy::OpenFlow));
        book.set_name(None, NamedBy::Config);
        assert_eq!((book.name.as_deref(), book.named_by), (None, NamedBy::Nobody));
    }

    #[test]
    fn vacancy_events_alternate() {
        let mut book = Book::new(TableId(0));
        book.max_flows = 10;
        book.vacancy_events = VacancyEvents { next: Some(TableReason::VacancyDown), down: 20, up: 80 };
        book.n_flows = 9;
        assert_eq!((book.crossed(), book.crossed()), (Some(TableReason::VacancyDown), None));
        book.n_flows = 1;
        assert_eq!((book.crossed(), book.crossed()), (Some(TableReason::VacancyUp), None));
        book.n_flows = 5;
        assert_eq!(book.crossed(), None);
    }
}
