//! Meter-mods and requests for meters: `meter=1,kbps,bands=type=drop,rate=1000`.

use crate::msg::meter::{
    ALL, Band, BandType, CONTROLLER, MAX, MeterCommand, MeterConfig, MeterFlags, MeterMod, SLOWPATH,
};
use crate::text::{Parsed, parse_u8, parse_u32, refuse, token};

/// What separates a key from its value and pairs from each other.
const KEY_END: &[char] = &['=', ',', ' ', '\t', '\r', '\n'];
/// What ends a value.
const VALUE_END: &[char] = &[',', ' ', '\t', '\r', '\n'];

/// Parses the meter that a request is about.
///
/// # Errors
/// OVS's words.
pub fn meter_id(text: &str) -> Parsed<u32> {
    let mut meter = MeterConfig { meter_id: 0, flags: MeterFlags::empty(), bands: Vec::new() };
    parse_head(text, false, &mut meter)?;
    Ok(meter.meter_id)
}

/// Parses a meter-mod. Meters exist from OpenFlow 1.3 on.
///
/// # Errors
/// OVS's words.
pub fn meter_mod(text: &str, command: MeterCommand) -> Parsed<MeterMod> {
    let mut meter = MeterConfig { meter_id: 0, flags: MeterFlags::empty(), bands: Vec::new() };
    if command == MeterCommand::Delete {
        parse_head(text, false, &mut meter)?;
        return Ok(MeterMod { command, meter });
    }
    let split = text.find("band").and_then(|at| Some((&text[..at], text[at..].split_once('=')?.1)));
    let Some((head, bands)) = split else { refuse!("must specify bands") };
    parse_head(head, true, &mut meter)?;
    meter.bands = parse_bands(bands)?;
    for band in &meter.bands {
        check_band(band, meter.flags)?;
    }
    Ok(MeterMod { command, meter })
}

fn parse_head(text: &str, has_flags: bool, meter: &mut MeterConfig) -> Parsed<()> {
    let mut rest = text;
    while let Some(name) = token(&mut rest, KEY_END) {
        let flag = match name {
            "kbps" => MeterFlags::KBPS,
            "pktps" => MeterFlags::PKTPS,
            "burst" => MeterFlags::BURST,
            "stats" => MeterFlags::STATS,
            _ => MeterFlags::empty(),
        };
        if has_flags && !flag.is_empty() {
            meter.flags |= flag;
            continue;
        }
        let Some(value) = token(&mut rest, VALUE_END) else { refuse!("field {name} missing value") };
        if name != "meter" {
            refuse!("unknown keyword {name}");
        }
        meter.meter_id = match value {
            "all" => ALL,
            "controller" => CONTROLLER,
            "slowpath" => SLOWPATH,
            _ => match parse_u32(value)? {
                id @ 1..=MAX => id,
                _ => refuse!("invalid value for {name}"),
            },
        };
    }
    if meter.meter_id == 0 {
        return Err("must specify 'meter'".into());
    }
    if has_flags && meter.flags.is_empty() {
        return Err("meter must specify either 'kbps' or 'pktps'".into());
    }
    Ok(())
}

fn parse_bands(text: &str) -> Parsed<Vec<Band>> {
    let mut bands: Vec<Band> = Vec::new();
    let mut rest = text;
    while let Some(name) = token(&mut rest, KEY_END) {
        let Some(value) = token(&mut rest, VALUE_END) else { refuse!("field {name} missing value") };
        if name == "type" {
            let kind = match value {
                "drop" => BandType::Drop,
                "dscp_remark" => BandType::DscpRemark,
                _ => refuse!("field {name} unknown value {value}"),
            };
            bands.push(Band { kind, rate: 0, burst_size: 0, prec_level: 0 });
            continue;
        }
        let Some(band) = bands.last_mut() else { refuse!("band must start with the 'type' keyword") };
        match name {
            "rate" => band.rate = parse_u32(value)?,
            "burst_size" => band.burst_size = parse_u32(value)?,
            "prec_level" => band.prec_level = parse_u8(value, name)?,
            _ => refuse!("unknown keyword {name}"),
        }
    }
    if bands.is_empty() {
        return Err("meter must have bands".into());
    }
    Ok(bands)
}

fn check_band(band: &Band, flags: MeterFlags) -> Parsed<()> {
    let remarks = band.kind == BandType::DscpRemark;
    let bursts = flags.contains(MeterFlags::BURST);
    let error = match (remarks, band.prec_level) {
        (true, 0) => "'dscp_remark' band must have 'prec_level'",
        (false, 1..) => "Only 'dscp_remark' band may have 'prec_level'",
        _ if band.rate == 0 => "band must have 'rate'",
        _ if bursts && band.burst_size == 0 => "band must have 'burst_size' when 'burst' flag is set",
        _ if !bursts && band.burst_size != 0 => "band may have 'burst_size' only when 'burst' flag is set",
        _ => return Ok(()),
    };
    Err(error.into())
}
