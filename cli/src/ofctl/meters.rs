//! Meters, from OpenFlow 1.3 on.

use openflow::header::{self, Raw};
use openflow::msg::meter::{self, MeterCommand, MeterConfig, MeterFlags, MeterMod};
use openflow::parse::meter::{meter_id, meter_mod};
use openflow::protocol::Protocols;

use super::{Context, Outcome};

fn change(context: &mut Context, command: MeterCommand) -> Outcome {
    let switch = context.arg(1).to_owned();
    let request = match context.optional(2) {
        Some(text) => meter_mod(text, command)?,
        None => {
            let all = MeterConfig { meter_id: meter::ALL, flags: MeterFlags::empty(), bands: Vec::new() };
            MeterMod { command, meter: all }
        }
    };
    let (mut vconn, _) = context.open_for_mods(&switch, Protocols::OF13_UP)?;
    let xid = vconn.next_xid();
    let request = request.encode(vconn.version(), xid);
    context.transact_one(&mut vconn, request)
}

pub(super) fn add(context: &mut Context) -> Outcome {
    change(context, MeterCommand::Add)
}

pub(super) fn modify(context: &mut Context) -> Outcome {
    change(context, MeterCommand::Modify)
}

pub(super) fn delete(context: &mut Context) -> Outcome {
    change(context, MeterCommand::Delete)
}

fn ask(context: &mut Context, raw: Raw) -> Outcome {
    let switch = context.arg(1).to_owned();
    let id = context.optional(2).map(meter_id).transpose()?.unwrap_or(meter::ALL);
    let (mut vconn, _) = context.open_for_mods(&switch, Protocols::OF13_UP)?;
    let xid = vconn.next_xid();
    let request = meter::request(raw, vconn.version(), xid, id);
    context.dump(&mut vconn, &request)
}

pub(super) fn dump(context: &mut Context) -> Outcome {
    ask(context, Raw::Ofpst13MeterConfigRequest)
}

pub(super) fn stats(context: &mut Context) -> Outcome {
    ask(context, Raw::Ofpst13MeterRequest)
}

pub(super) fn features(context: &mut Context) -> Outcome {
    let switch = context.arg(1).to_owned();
    let (mut vconn, _) = context.open_for_mods(&switch, Protocols::OF13_UP)?;
    let xid = vconn.next_xid();
    let request = header::bare(Raw::Ofpst13MeterFeaturesRequest, vconn.version(), xid);
    context.dump(&mut vconn, &request)
}
