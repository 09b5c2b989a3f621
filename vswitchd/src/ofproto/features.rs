//! What tables and groups can do, as feature requests ask, and what a controller may change of it: nothing but names.

use flow::field::{Field, Maskable};
use flow::id::TableId;
use openflow::error::OfError;
use openflow::instruction::Instruction;
use openflow::msg::all_actions;
use openflow::msg::group::{GroupFeatures, MAX_GROUP};
use openflow::msg::table_features::{
    ActionFeatures, FeaturesCommand, Fields, InstructionFeatures, TableFeatures,
};

use super::book::NamedBy;
use super::stats::MAX_ENTRIES;
use super::switch::Ofproto;

/// Select groups choose by weight, by liveness, and groups may be chained (`OFPGFC_*`).
const GROUP_CAPABILITIES: u32 = 1 << 0 | 1 << 1 | 1 << 2;

fn fields(fits: impl Fn(Field) -> bool) -> Fields {
    let known = Field::ALL.iter().copied().filter(|field| !field.info().oxms.is_empty());
    known.filter(|&field| fits(field)).collect()
}

impl Ofproto {
    /// What every table that OpenFlow sees can do.
    pub fn all_table_features(&self) -> Vec<TableFeatures> {
        self.visible_tables().map(|id| self.table_features(id)).collect()
    }

    /// What a table can do.
    pub fn table_features(&self, id: TableId) -> TableFeatures {
        let book = self.book(id);
        let actions =
            ActionFeatures { actions: all_actions(), set_fields: fields(|field| field.info().writable) };
        let mut nonmiss = InstructionFeatures {
            next: [0; 4],
            instructions: (1 << Instruction::ALL.len()) - 1,
            write: actions.clone(),
            apply: actions,
        };
        let later = || self.visible_tables().filter(|other| other.0 > id.0);
        later().for_each(|other| nonmiss.add_next(other.0));
        if later().next().is_none() {
            nonmiss.instructions &= !(1 << Instruction::GotoTable as u32);
        }
        TableFeatures {
            table_id: id,
            command: FeaturesCommand::Replace,
            name: book.name.clone().unwrap_or_default(),
            metadata_match: u64::MAX,
            metadata_write: u64::MAX,
            miss_config: self.tables().table(id).map(|table| table.miss()).unwrap_or_default(),
            eviction: None,
            vacancy_events: None,
            max_entries: book.max_flows.min(MAX_ENTRIES),
            any_properties: true,
            miss: nonmiss.clone(),
            nonmiss,
            matched: fields(|_| true),
            masked: fields(|field| field.info().maskable == Maskable::Fully),
            wildcarded: fields(|_| true),
        }
    }

    /// Changes the tables' features as a request of these tables asks.
    ///
    /// # Errors
    ///
    /// What it asks for beyond other names; nothing is changed then.
    pub fn change_table_features(&mut self, wanted: &[TableFeatures]) -> Result<(), OfError> {
        let Some(first) = wanted.first() else { return Ok(()) };
        let info = |text: String| tracing::info!(target: "ofproto", rl = "1,5", "{text}");
        for (i, table) in wanted.iter().enumerate() {
            if wanted[..i].iter().any(|other| other.table_id == table.table_id) {
                info(format!("duplicate table {}", table.table_id));
                return Err(OfError::TffcDupTable);
            }
            if self.book(table.table_id).is_hidden() {
                info(format!("can't modify hidden table {}", table.table_id));
                return Err(OfError::TffcEperm);
            }
        }
        match first.command {
            FeaturesCommand::Replace => self.check_all_tables(wanted)?,
            FeaturesCommand::Modify => {}
            FeaturesCommand::Enable | FeaturesCommand::Disable => return Err(OfError::TffcEperm),
        }
        for table in wanted {
            self.check_features(table)?;
        }
        for table in wanted {
            self.book_mut(table.table_id).set_name(Some(&table.name), NamedBy::OpenFlow);
        }
        Ok(())
    }

    fn check_all_tables(&self, wanted: &[TableFeatures]) -> Result<(), OfError> {
        match self.visible_tables().find(|id| !wanted.iter().any(|table| table.table_id == *id)) {
            None => Ok(()),
            Some(id) => {
                tracing::info!(target: "ofproto", rl = "1,5", "can't disable table {id}");
                Err(OfError::TffcEperm)
            }
        }
    }

    fn check_features(&self, wanted: &TableFeatures) -> Result<(), OfError> {
        let (id, have) = (wanted.table_id, self.table_features(wanted.table_id));
        let refuse = |text: String| {
            tracing::info!(target: "ofproto", rl = "1,5", "{text}");
            Err(OfError::TffcEperm)
        };
        if have.max_entries != wanted.max_entries {
            return refuse("can't change max_entries".to_owned());
        }
        let book = self.book(id);
        if !book.may_set_name(&wanted.name, NamedBy::OpenFlow) {
            let name = book.name.as_deref().unwrap_or("\"\"");
            return refuse(format!(
                "can't change name of table {id} to {} because it is already set to {name} via OVSDB",
                wanted.name
            ));
        }
        if !covers(&have, wanted) {
            return refuse(format!("can't increase table features for table {id}"));
        }
        Ok(())
    }

    /// What groups can do.
    pub fn group_features(&self) -> GroupFeatures {
        GroupFeatures {
            types: 0xf,
            capabilities: GROUP_CAPABILITIES,
            max_groups: [MAX_GROUP.0; 4],
            actions: [all_actions(); 4],
        }
    }
}

/// Whether what is wanted is no more than what there is. Without properties the actions stay as they are.
fn covers(have: &TableFeatures, wanted: &TableFeatures) -> bool {
    let instructions = |have: &InstructionFeatures, wanted: &InstructionFeatures| {
        have.next.iter().zip(&wanted.next).all(|(have, wanted)| wanted & !have == 0)
            && wanted.instructions & !have.instructions == 0
            && actions_cover(&have.write, &wanted.write)
            && actions_cover(&have.apply, &wanted.apply)
    };
    !wanted.any_properties
        || instructions(&have.nonmiss, &wanted.nonmiss)
            && instructions(&have.miss, &wanted.miss)
            && wanted.matched.is_subset(&have.matched)
            && wanted.masked.is_subset(&have.masked)
            && wanted.wildcarded.is_subset(&have.wildcarded)
}

fn actions_cover(have: &ActionFeatures, wanted: &ActionFeatures) -> bool {
    wanted.actions & !have.actions == 0 && wanted.set_fields.is_subset(&have.set_fields)
}
