//! Limits that rules share: `police` actions of their own, by index (`RTM_NEWACTION`).

use datapath::Error;
use datapath::linux::rtnl::{Rtnl, flag};
use flow::attr::{AttrError, Attrs, Writer};

use super::action::{ActStats, Control, Police, decode_all};
use super::filter::cls;

const RTM_NEWACTION: u16 = 48;
const RTM_DELACTION: u16 = 49;
const RTM_GETACTION: u16 = 50;

const TCA_ROOT_TAB: u16 = 1;
const ACT_KIND: u16 = 1;
const ACT_OPTIONS: u16 = 2;
const ACT_INDEX: u16 = 3;
const ACT_FLAGS: u16 = 7;
/// `TCA_ACT_FLAGS_SKIP_HW`, `TCA_ACT_FLAGS_SKIP_SW`.
const FLAG_SKIP_HW: u32 = 1 << 1;
const FLAG_SKIP_SW: u32 = 1 << 2;
/// `struct tcamsg`: nothing but a family.
const HEAD: [u8; 4] = [0; 4];

fn one(attrs: &mut Writer, fill: impl FnOnce(&mut Writer)) {
    attrs.nest_flagged(TCA_ROOT_TAB, |list| {
        list.nest_flagged(1, |nest| {
            nest.put_str(ACT_KIND, "police");
            fill(nest);
        });
    });
}

/// What says where a limit of its own is: as the rules do that have it, or the kernel lets them not have it.
fn flags(rules: u32) -> u32 {
    match rules & (cls::SKIP_SW | cls::SKIP_HW) {
        cls::SKIP_SW => FLAG_SKIP_SW,
        cls::SKIP_HW => FLAG_SKIP_HW,
        _ => 0,
    }
}

fn put_limit(attrs: &mut Writer, police: &Police, rules: u32) {
    one(attrs, |nest| {
        nest.nest_flagged(ACT_OPTIONS, |options| police.encode(Control::Pipe, options));
        let flags = flags(rules);
        if flags != 0 {
            nest.put(ACT_FLAGS, &[flags.to_ne_bytes(); 2].concat());
        }
    });
}

/// Makes a limit for rules with these flags ([`cls`]), or gives it other parameters.
///
/// # Errors
/// The kernel's.
pub fn put(rtnl: &mut Rtnl, police: &Police, rules: u32) -> Result<(), Error> {
    rtnl.execute(RTM_NEWACTION, flag::CREATE | flag::REPLACE, &HEAD, |attrs| put_limit(attrs, police, rules))
}

/// Removes a limit that no rule has.
///
/// # Errors
/// The kernel's: rules have it.
pub fn del(rtnl: &mut Rtnl, index: u32) -> Result<(), Error> {
    rtnl.execute(RTM_DELACTION, 0, &HEAD, |attrs| one(attrs, |nest| nest.put_u32(ACT_INDEX, index)))
}

/// What a limit counted.
///
/// # Errors
/// The kernel's: there is none.
pub fn get(rtnl: &mut Rtnl, index: u32) -> Result<ActStats, Error> {
    let told =
        rtnl.get(RTM_GETACTION, 0, &HEAD, |attrs| one(attrs, |nest| nest.put_u32(ACT_INDEX, index)))?;
    Ok(decode(&told)?)
}

/// Reads the payload of a message about one action.
///
/// # Errors
/// Something is not as `linux/pkt_cls.h` says.
pub fn decode(payload: &[u8]) -> Result<ActStats, AttrError> {
    let tail = payload.get(HEAD.len()..).ok_or(AttrError::Truncated { at: 0 })?;
    let list = Attrs::new_at(tail, HEAD.len()).find(TCA_ROOT_TAB);
    let list = list.ok_or(AttrError::Missing { at: 0, kind: TCA_ROOT_TAB })?;
    Ok(decode_all(list.nested())?.first().map_or_else(ActStats::default, |(_, counted)| *counted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_limit_is_one_action_of_a_list() {
        let mut attrs = Writer::after(HEAD.to_vec());
        let police = Police::limit(0x1000_0005, true, 1000, 100);
        put_limit(&mut attrs, &police, cls::SKIP_SW);
        assert_eq!(decode(attrs.bytes()), Ok(ActStats::default()));
        let list = Attrs::new(&attrs.bytes()[4..]).find(TCA_ROOT_TAB).unwrap();
        let told = decode_all(list.nested()).unwrap();
        assert_eq!(told[0].0.spec, super::super::action::Spec::Police(police));
        assert_eq!(told[0].0.control, Control::Pipe);
        let one = list.nested().next().unwrap().unwrap();
        assert_eq!(one.nested().find(ACT_FLAGS).unwrap().data, [4u32.to_ne_bytes(); 2].concat());
        assert_eq!([0, cls::SKIP_HW, cls::SKIP_SW | cls::VERBOSE].map(flags), [0, 2, 4]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..96)) {
            let _ = decode(&bytes);
        }
    }
}
