//! `--sort` and `--rsort`.

use std::cmp::Ordering;

use flow::field::Field;
use flow::mini::FullMatch;
use openflow::msg::flow_stats::FlowStats;

use super::{Outcome, die};

/// One thing to sort flows by.
#[derive(Clone, Copy, Debug)]
pub struct Criterion {
    /// A field of the match, or the priority.
    field: Option<Field>,
    descending: bool,
}

impl Criterion {
    /// The criterion of an option's argument.
    pub fn parse(name: Option<&str>, descending: bool) -> Outcome<Self> {
        let field = match name {
            None => None,
            Some(name) if name.eq_ignore_ascii_case("priority") => None,
            Some(name) => match Field::from_name(name) {
                Some(field) => Some(field),
                None => die!("{name}: unknown field name"),
            },
        };
        Ok(Self { field, descending })
    }

    /// The last resort: the highest priority first.
    pub fn by_priority() -> Self {
        Self { field: None, descending: true }
    }

    fn compare(&self, a: &Sortable, b: &Sortable) -> Ordering {
        let order = match self.field {
            None => a.flow.priority.cmp(&b.flow.priority),
            Some(field) => {
                let has = |s: &Sortable| field.prereqs_ok(&s.full.key) && !field.is_wild(&s.full.mask);
                match (has(a), has(b)) {
                    // Flows without the field come last, whatever the direction.
                    (true, false) => return Ordering::Less,
                    (false, true) => return Ordering::Greater,
                    _ => field.get(&a.full.key).bytes().cmp(field.get(&b.full.key).bytes()),
                }
            }
        };
        if self.descending { order.reverse() } else { order }
    }
}

struct Sortable {
    flow: FlowStats,
    full: Box<FullMatch>,
}

/// Sorts flows; those that no criterion tells apart keep their order.
pub fn sort(flows: Vec<FlowStats>, criteria: &[Criterion]) -> Vec<FlowStats> {
    let expand = |flow: FlowStats| Sortable { full: Box::new(flow.matching.expand()), flow };
    let mut rows: Vec<Sortable> = flows.into_iter().map(expand).collect();
    rows.sort_by(|a, b| {
        let mut orders = criteria.iter().map(|criterion| criterion.compare(a, b));
        orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    });
    rows.into_iter().map(|row| row.flow).collect()
}
