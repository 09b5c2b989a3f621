//! Flow tables: their statistics, features and settings.

use flow::id::TableId;
use openflow::header::{self, Multipart, Raw, Type};
use openflow::msg::hello::Versions;
use openflow::msg::table::{TableDesc, TableMod};
use openflow::msg::table_features::{FeaturesCommand, TableFeatures, listing_text};
use openflow::parse::table::{Setting, table_mod};
use openflow::version::Version;

use super::vconn::Vconn;
use super::{Context, Outcome, die, say};

/// Stands for every table.
const ALL: TableId = TableId(0xff);

pub(super) fn dump_tables(context: &mut Context) -> Outcome {
    let switch = context.arg(1).to_owned();
    context.dump_trivial(&switch, Raw::OfpstTableRequest)
}

/// The features of all tables, with what equals the table before told shortly across messages too.
pub(super) fn dump_features(context: &mut Context) -> Outcome {
    let mut vconn = context.open(context.arg(1))?;
    let list = fetch_features(context, &mut vconn)?;
    say!("{}", listing_text(&list));
    Ok(())
}

fn fetch_features(context: &mut Context, vconn: &mut Vconn) -> Outcome<Vec<TableFeatures>> {
    let xid = vconn.next_xid();
    let request = header::bare(Raw::Ofpst13TableFeaturesRequest, vconn.version(), xid);
    let mut list = Vec::new();
    for reply in context.replies(vconn, &request, Type::TableFeaturesStatsReply)? {
        let (more, result) = TableFeatures::decode_all(&reply, true);
        list.extend(more);
        if let Err(error) = result {
            die!("decode error: {}", error.name());
        }
    }
    Ok(list)
}

pub(super) fn dump_desc(context: &mut Context) -> Outcome {
    let mut vconn = context.open(context.arg(1))?;
    if vconn.version() < Version::V14 {
        die!("dump-table-desc needs OpenFlow 1.4 or later ('-O OpenFlow14')");
    }
    let xid = vconn.next_xid();
    let request = header::bare(Raw::Ofpst14TableDescRequest, vconn.version(), xid);
    context.dump(&mut vconn, &request)
}

pub(super) fn mod_table(context: &mut Context) -> Outcome {
    let switch = context.arg(1).to_owned();
    let names = context.accept(&switch)?;
    let wanted = table_mod(context.arg(2), context.arg(3), &names)?;
    let usable: Versions = wanted.versions.iter().copied().collect();
    let versions = &mut context.options.versions;
    if versions.0 & usable.0 == 0 {
        die!("table_mod '{}' requires one of the OpenFlow versions {}", context.arg(3), usable.names());
    }
    versions.0 &= usable.0;
    let mut vconn = context.open(&switch)?;
    match wanted.setting {
        Setting::Name(name) => rename(context, &mut vconn, wanted.table_id, name),
        Setting::Mod(tm) if vconn.version() < Version::V14 => send(context, &mut vconn, &tm),
        Setting::Mod(tm) => change(context, &mut vconn, &tm),
    }
}

fn send(context: &mut Context, vconn: &mut Vconn, tm: &TableMod) -> Outcome {
    let xid = vconn.next_xid();
    match tm.encode(vconn.version(), xid) {
        Some(request) => context.transact_one(vconn, request),
        None => Ok(()),
    }
}

/// A table-mod sets everything, so what was not asked for is sent as it is.
fn change(context: &mut Context, vconn: &mut Vconn, tm: &TableMod) -> Outcome {
    let xid = vconn.next_xid();
    let request = header::bare(Raw::Ofpst14TableDescRequest, vconn.version(), xid);
    let mut descs: Vec<TableDesc> = Vec::new();
    for reply in context.replies(vconn, &request, Type::TableDescReply)? {
        let (more, result) = TableDesc::decode_reply(&reply);
        descs.extend(more);
        if let Err(error) = result {
            die!("decode error: {}", error.name());
        }
    }
    for desc in descs.iter().filter(|desc| tm.table_id == ALL || tm.table_id == desc.table_id) {
        let mut one = TableMod { table_id: desc.table_id, eviction_flags: None, ..*tm };
        if tm.eviction.is_none() {
            one.eviction = desc.eviction;
        } else {
            one.vacancy = desc.vacancy;
            one.thresholds = desc.thresholds;
        }
        send(context, vconn, &one)?;
    }
    Ok(())
}

fn rename(context: &mut Context, vconn: &mut Vconn, table: TableId, name: String) -> Outcome {
    let list = fetch_features(context, vconn)?;
    let Some(mut features) = list.into_iter().find(|features| features.table_id == table) else {
        die!("table {table} not in table features list");
    };
    features.name = name;
    features.any_properties = false;
    features.command = FeaturesCommand::Modify;
    let xid = vconn.next_xid();
    let mut request = Multipart::new(Raw::Ofpst13TableFeaturesRequest, vconn.version(), xid);
    features.push(&mut request);
    for part in request.finish() {
        // The answer is a list of all features, or an error.
        context.transact_features(vconn, &part)?;
    }
    Ok(())
}
