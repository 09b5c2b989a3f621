//! Auto Attach mappings of a bridge: I-SID to VLAN.

use ovsdb::value::{Atom, Datum, Uuid};

use super::model::{Model, need};
use crate::ctl::names::Naming;
use crate::ctl::records::rows;
use crate::ctl::syntax::{Context, Needs, Options, Stop, Syntax};

/// The commands.
pub static COMMANDS: &[Syntax] = rows! {
    "add-aa-mapping" 3 3, "BRIDGE ARG ARG", "", RW, need_mappings, add;
    "del-aa-mapping" 3 3, "BRIDGE ARG ARG", "", RW, need_mappings, delete;
    "get-aa-mapping" 1 1, "BRIDGE", "", RO, need_mappings, get;
};

fn need_mappings(
    naming: &Naming,
    args: &[String],
    options: &Options,
    needs: &mut Needs,
) -> Result<(), String> {
    needs.columns("Bridge", &["auto_attach"]);
    needs.columns("AutoAttach", &["mappings"]);
    need(naming, args, options, needs)
}

/// The bridge of `args[0]` and its AutoAttach row.
fn target(ctx: &mut Context<'_>) -> Result<(Uuid, Option<Uuid>), Stop> {
    let model = Model::read(ctx);
    let bridge = model.bridge(ctx, &ctx.args[0].clone())?.row;
    ctx.db.verify("Bridge", bridge, "auto_attach");
    let row = ctx.db.get("Bridge", bridge, "auto_attach").as_uuid();
    if let Some(row) = row {
        ctx.db.verify("AutoAttach", row, "mappings");
    }
    Ok((bridge, row))
}

/// The I-SID and the VLAN of the second and third argument.
fn mapping(ctx: &Context<'_>) -> Result<(Atom, Atom), Stop> {
    let number = |text: &String| {
        let n = text.bytes().take_while(u8::is_ascii_digit).count();
        text[..n].parse::<i64>().map_err(|_| Stop::Fatal(format!("Invalid argument {text}")))
    };
    Ok((Atom::from(number(&ctx.args[1])?), Atom::from(number(&ctx.args[2])?)))
}

fn add(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let (isid, vlan) = mapping(ctx)?;
    let (bridge, row) = target(ctx)?;
    let row = match row {
        Some(row) => row,
        None => {
            let row = ctx.db.insert("AutoAttach", None);
            ctx.db.set("Bridge", bridge, "auto_attach", Datum::one(row));
            row
        }
    };
    let mut mappings = ctx.db.get("AutoAttach", row, "mappings");
    if mappings.value(&isid).is_none() {
        mappings.put(isid, vlan);
    }
    ctx.db.set("AutoAttach", row, "mappings", mappings);
    Ok(())
}

fn delete(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let (isid, vlan) = mapping(ctx)?;
    let (_, Some(row)) = target(ctx)? else { return Ok(()) };
    let mut mappings = ctx.db.get("AutoAttach", row, "mappings");
    if mappings.value(&isid) == Some(&vlan) {
        mappings.remove(&isid);
        ctx.db.set("AutoAttach", row, "mappings", mappings);
    }
    Ok(())
}

fn get(ctx: &mut Context<'_>) -> Result<(), Stop> {
    if let (_, Some(row)) = target(ctx)? {
        for (isid, vlan) in ctx.db.get("AutoAttach", row, "mappings").pairs() {
            if let (Some(isid), Some(vlan)) = (isid.as_integer(), vlan.as_integer()) {
                ctx.line(&format!("{isid} {vlan}"));
            }
        }
    }
    Ok(())
}
